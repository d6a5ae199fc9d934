// The page's rules are the core's: its menu, what each does, thresholds, and what a model cannot follow: `node page-rules.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { launch } from "./launch.mjs";
import { root } from "./native.mjs";
import { answers, browserName, problems, result, server, setValue, TIMEOUT, withPage } from "./visit.mjs";

test("the menu offers the core's rules and says what they do; a threshold is given as a number", () =>
    withPage("#tab=text&rule=topk:0.4", async (page) => {
        const menu = "#text .rules .rule:first-child";
        const { length } = (await result(page)).tokens;
        const said = (selector) => page.$eval(`${menu} ${selector}`, (element) => (element.checkVisibility() ? element.textContent : null));
        const rules = await page.$$eval(`${menu} option`, (options) => options.map(({ value, disabled }) => [value, disabled]));
        assert.deepEqual(rules, ["dense", "topk", "concrete", "oracle", "forward", "ltp"].map((name) => [name, false]));
        assert.match(await said(".hint"), /next layer asks for most/);
        assert.equal(await said(".threshold"), null);
        await setValue(page, `${menu} select`, "ltp");
        assert.match(await said(".hint"), /more attention in it than a threshold/);
        assert.deepEqual([await said(".ratio"), await said(".threshold")], [null, "Threshold "]);
        await result(page, ({ prune }) => prune.threshold === 0.01);
        await setValue(page, `${menu} .threshold input`, "0.03");
        const found = await result(page, ({ prune }) => prune.threshold === 0.03);
        const [expected] = answers("--prune", "ltp:0.03", await page.$eval("#sentence", ({ value }) => value));
        assert.deepEqual(found.kept, expected.kept);
        assert.ok(found.kept[2].length < length, "something is removed");
        await page.waitForFunction(() => new URLSearchParams(location.hash.slice(1)).get("rule") === "ltp:0.03", TIMEOUT);
        // A token that does not enter the third layer: its score is one of the second.
        const position = found.kept[1].find((position) => !found.kept[2].includes(position));
        await page.evaluate((position) => document.querySelectorAll('#text [data-row="2"] .token')[position].click(), position);
        await page.waitForFunction(() => /removed: the attention it received/.test(document.querySelector("#text .why").innerText), TIMEOUT);
        // Numbers of the other kind are still there.
        await setValue(page, `${menu} select`, "forward");
        await result(page, ({ prune }) => prune.rule === "forward" && prune.ratio === 0.4);
        await setValue(page, `${menu} select`, "ltp");
        await result(page, ({ prune }) => prune.threshold === 0.03);
        await setValue(page, `${menu} .threshold input`, "7");
        assert.equal(await page.$eval(`${menu} .threshold input`, ({ value }) => value), "0.03");
    }));

test("a rule that the model cannot follow is disabled, and the menu says why", async () => {
    const path = "/models/sst2-minilm-int8/manifest.json";
    const manifest = JSON.parse(readFileSync(`${root}demo/dist${path}`, "utf8"));
    for (const name of Object.keys(manifest.files)) if (name.startsWith("approx/")) delete manifest.files[name];
    server.answers.set(path, (_, response) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(manifest)));
    const fresh = await launch(browserName);
    try {
        await withPage(
            "#tab=text&rule=dense",
            async (page) => {
                await result(page);
                const options = await page.$$eval("#text .rules .rule:first-child option", (options) =>
                    Object.fromEntries(options.map(({ value, disabled, textContent }) => [value, disabled ? textContent : null])),
                );
                assert.equal(options.topk, "topk: needs an ApproxNet (folder approx/)");
                assert.match(options.concrete, /^concrete: needs /);
                assert.deepEqual([options.dense, options.oracle, options.ltp], [null, null, null]);
            },
            { from: fresh },
        );
    } finally {
        server.answers.clear();
        await fresh.close();
    }
});

test("no console errors, and no request left the origin", () => assert.deepEqual(problems, []));
