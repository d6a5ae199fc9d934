// The page's tab that draws what pruning costs in answers: `node page-curve.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { axe, problems, result, TIMEOUT, visible, withPage } from "./visit.mjs";

const says = (page, pattern) =>
    page.waitForFunction((pattern) => new RegExp(pattern).test(document.querySelector("#curve [role=status]").textContent), { ...TIMEOUT, polling: 50 }, pattern);
const rows = (page) => page.$$eval("#curve tbody tr", (rows) => rows.map((row) => [...row.children].map(({ textContent }) => textContent)));

test("the curve is drawn live, and each answer that pruning changed leads to its text", () =>
    withPage("?backend=cpu#tab=curve", async (page) => {
        await page.waitForSelector("#curve:not([hidden])", TIMEOUT);
        await page.click("#curve button");
        await says(page, "^\\d+ of 100 sentences …");
        const [all, ...pruned] = await rows(page);
        assert.deepEqual([all[0], all[1], all[3]], ["all words", "100 %", "100 %"]);
        assert.equal(pruned.length, 7, "a row for each ratio, from the first sentences on");
        await says(page, "^All 100 sentences were read");
        assert.equal(await page.$$eval("#curve circle.agreement title", (titles) => titles.length), 8);
        const work = (await rows(page)).map(([, work]) => parseFloat(work));
        assert.deepEqual(work, work.toSorted((one, other) => other - one), "fewer words are less work");
        const marks = await page.$$eval("#curve a.flip", (marks) => marks.map((mark) => mark.getAttribute("href")));
        const links = await page.$$eval("#curve .flips a", (links) => links.map((link) => link.getAttribute("href")));
        assert.deepEqual(marks, links, "one mark per input");
        await visible(page, `Pruning changed ${links.length} of 100 answers`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run("#curve"));
        assert.deepEqual(violations.map(({ id }) => id), []);
        await page.setViewport({ width: 360, height: 740 });
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), "nothing is wider than a phone");
        assert.ok(links.length > 0, "one tenth of the words changes no answer at all");
        const [first] = links;
        await page.$eval("#curve a.flip", (mark) => mark.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true })));
        await page.waitForSelector("#text:not([hidden])", TIMEOUT);
        const { text, rule } = Object.fromEntries(new URLSearchParams(first.slice(1)));
        const there = await result(page, ({ prune }) => `${prune.rule}:${prune.ratio}` === rule);
        assert.equal(await page.$eval("#sentence", ({ value }) => value), text);
        const listed = await page.$eval("#curve .flips li", ({ textContent }) => textContent);
        assert.match(listed, new RegExp(`at ratio ${there.prune.ratio}: ${there.label} `), "the same answer as in the list");
    }));

test("a curve waits while another tab is open, and stops when it is told to", () =>
    withPage("?backend=cpu#tab=curve", async (page) => {
        await page.waitForSelector("#curve:not([hidden])", TIMEOUT);
        await page.click("#curve button");
        await says(page, "^\\d+ of 100 sentences …");
        await page.click("#tab-text");
        await result(page);
        const said = () => page.$eval("#curve [role=status]", ({ textContent }) => textContent);
        const before = await said();
        assert.match(before, /…$/, "not all was read before the tab was left");
        await new Promise((resolve) => setTimeout(resolve, 1000));
        assert.equal(await said(), before, "nothing more is read meanwhile");
        await page.click("#tab-curve");
        await page.click("#curve button");
        await says(page, "^Stopped after \\d+ of 100 sentences. What was drawn stays");
        assert.ok((await rows(page)).length > 1);
        assert.equal(await page.$eval("#curve button", ({ textContent }) => textContent), "Draw the curve");
    }));

test("no console errors, and no request left the origin", () => assert.deepEqual(problems, []));
