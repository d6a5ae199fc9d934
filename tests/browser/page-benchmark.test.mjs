// The page's tab that measures the visitor's device: `node page-benchmark.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { axe, problems, TIMEOUT, visible, withPage } from "./visit.mjs";

/** Chooses a batch and a length (all with ""), and presses the button. */
async function startBenchmark(page, batch, length) {
    const [batches, lengths] = await page.$$("#benchmark select");
    await batches.select(batch);
    await lengths.select(length);
    await page.focus("#benchmark button");
    await page.keyboard.press("Enter");
}
const benchmarkSays = (page, text) =>
    page.waitForFunction((text) => document.querySelector("#benchmark [role=status]").textContent === text, { timeout: 120_000 }, text);
const benchmarkRows = (page) => page.$$eval("#benchmark tbody tr", (rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));

test("the benchmark measures batches and reports them", () =>
    withPage("?backend=cpu#tab=benchmark", async (page) => {
        await page.waitForSelector("#benchmark:not([hidden])", TIMEOUT);
        for (const batch of ["8", "1"]) {
            await startBenchmark(page, batch, "16");
            await benchmarkSays(page, `Measuring ${batch} × 16 tokens …`);
            await benchmarkSays(page, "Measured.");
        }
        const rows = await benchmarkRows(page);
        assert.deepEqual(rows.map(([weights, batch, tokens]) => [weights, batch, tokens]), [..."11118888"].map((batch) => ["int8", batch, "16"]));
        for (const dense of [rows[0], rows[4]]) assert.deepEqual([dense[3], dense.at(-1)], ["dense", "100 %"]);
        await visible(page, "Times and FLOPs are those of a whole batch.");
        await page.evaluate(() => {
            navigator.clipboard.writeText = async (text) => void (window.copied = text);
            [...document.querySelectorAll("#benchmark button")].find((button) => button.textContent === "Copy as JSON").click();
        });
        const { environment, runs } = JSON.parse(await page.evaluate(() => window.copied));
        assert.equal(environment.backend, "cpu");
        assert.deepEqual(runs.map(({ batch }) => batch), [1, 1, 1, 1, 8, 8, 8, 8]);
        assert.equal(runs[4].flops.total, 8 * runs[0].flops.total, "of a whole batch");
        assert.ok(runs.every(({ rounds, ms }) => rounds >= 1 && rounds <= 7 && ms.min > 0 && ms.min <= ms.median));
        await page.setViewport({ width: 390, height: 844 });
        const [needed, there] = await page.$eval("#benchmark .scroll", ({ scrollWidth, clientWidth }) => [scrollWidth, clientWidth]);
        assert.ok(needed <= there, `a phone shows ${there} of ${needed} pixels`);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run("#benchmark"));
        assert.deepEqual(violations.map(({ id }) => id), []);
    }));

test("a benchmark that is stopped keeps what it measured", () =>
    withPage("?backend=cpu#tab=benchmark", async (page) => {
        await page.waitForSelector("#benchmark:not([hidden])", TIMEOUT);
        await startBenchmark(page, "8", "");
        await benchmarkSays(page, "Measuring 8 × 128 tokens …");
        assert.equal(await page.evaluate(() => document.activeElement.textContent), "Stop measuring");
        assert.ok(await page.$("#benchmark select:disabled"));
        await page.keyboard.press("Enter");
        await benchmarkSays(page, "Stopped. What was measured stays.");
        const rows = await benchmarkRows(page);
        assert.deepEqual(new Set(rows.slice(0, 8).map(([, , tokens]) => tokens)), new Set(["16", "32"]));
        assert.ok(rows.length % 4 === 0 && rows.length <= 12, "rules have equally many rounds");
        assert.equal(await page.evaluate(() => document.activeElement.textContent), "Measure this device");
        assert.equal(await page.$("#benchmark select:disabled"), null);
        await startBenchmark(page, "8", "16");
        await benchmarkSays(page, "Measured.");
        assert.equal((await benchmarkRows(page)).length, rows.length, "a batch and length are there once");
        assert.ok(await page.$eval("#error", (place) => place.hidden));
    }));

test("no console errors, and no request left the origin", () => assert.deepEqual(problems, []));
