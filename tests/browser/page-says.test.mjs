// What the page says of a result is true of that result: `node page-says.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { root } from "./native.mjs";
import { answers, errorText, problems, result, server, setValue, TIMEOUT, visible, withPage } from "./visit.mjs";

const TEXTS = [
    "not bad at all for a first feature",
    "beautifully shot, but it has nothing to say",
    "I did not hate it, which is more than I can say for most sequels",
    "a film that is anything but dull, and never less than funny",
    "it is hard to find anything to like here, and harder to look away",
];
const RULES = ["forward:0.1", "topk:0.02", "forward:0.2"];

/** The positions of each word's pieces that are more than marks. */
const wordsOf = ({ pruned: { tokens } }) => {
    const words = [];
    tokens.slice(1, -1).forEach((token, index) => {
        if (token.startsWith("##")) words.at(-1).push(index + 1);
        else if (/\w/.test(token)) words.push([index + 1]);
    });
    return words;
};

const says = (page, tab = "text") => page.$eval(`#${tab} .told`, (line) => ({ text: line.innerText, changed: line.classList.contains("changed") }));
const saysOf = (page, pattern) =>
    page.waitForFunction((source) => new RegExp(source).test(document.querySelector("section:not([hidden]) .told")?.innerText ?? ""), TIMEOUT, pattern.source);
const isShown = (page, tab) => page.$eval(`#${tab} .result`, (element) => element.checkVisibility());

test("the line on top tells how much was read, and whether the answer is that of reading all", () => {
    // One that pruning changes and one that it leaves alone, whatever the weights are.
    const found = RULES.flatMap((rule) => TEXTS.map((text) => ({ rule, text }))).map((one) => {
        const [pruned, dense] = [one.rule, "dense"].map((rule) => answers("--prune", rule, one.text)[0]);
        return { ...one, pruned, dense, changed: pruned.label !== dense.label };
    });
    const [changed, same] = [true, false].map((wanted) => found.find((one) => one.changed === wanted));
    assert.ok(changed && same, "no rule changes an answer");
    return withPage(`#tab=text&rule=${changed.rule}`, async (page) => {
        await setValue(page, "#sentence", changed.text);
        await saysOf(page, /Pruning changed the answer/);
        const percent = ({ probs, label_index }) => `${Math.round(100 * probs[label_index])} %`;
        const line = await says(page);
        const { pruned, dense } = changed;
        assert.equal(line.changed, true);
        const text = line.text.replaceAll("\u202f", " ").replaceAll("\u00a0", " ");
        assert.ok(text.startsWith(`Pruning changed the answer: all words say ${dense.label} ${percent(dense)}, these say ${pruned.label} ${percent(pruned)}.`), text);
        await page.goto(`${server.url}#tab=text&rule=${same.rule}`);
        await setValue(page, "#sentence", same.text);
        await result(page, ({ tokens }) => tokens.length === same.pruned.tokens.length);
        await saysOf(page, /Same answer as reading all/);
        // Marks are no words.
        const words = same.text.split(" ").length;
        const last = same.pruned.kept.at(-2);
        const read = wordsOf(same).filter((positions) => positions.some((position) => last.includes(position))).length;
        const were = read === 1 ? "was" : "were";
        assert.match((await says(page)).text, new RegExp(`^${read} of ${words} words ${were} read to the end, with \\d+.% of the work\\.`));
        assert.equal((await says(page)).changed, false);
        await setValue(page, "#text .rules .rule:first-child select", "dense");
        await saysOf(page, new RegExp(`^All ${words} words were read in every layer\\.`));
        await setValue(page, "#sentence", "Great!");
        await saysOf(page, /^The only word was read in every layer\.$/);
        await setValue(page, "#sentence", "don't they say it's good, we'd ask?");
        await saysOf(page, /^All 7 words were read/);
        await setValue(page, "#sentence", "good ".repeat(2000));
        await saysOf(page, /^The first \d+ words were read in every layer\.$/);
    });
});

test("unknown words are counted", () =>
    withPage("#tab=text", async (page) => {
        await setValue(page, "#sentence", "好 film 電影");
        await saysOf(page, /\d of \d words (is|are) unknown to this model, which reads English/);
        await setValue(page, "#sentence", "a good film");
        await saysOf(page, /^\d of 3 words/);
        assert.doesNotMatch((await says(page)).text, /unknown/);
    }));

test("a drag repaints while it lasts, and ends with its last value", () =>
    withPage("#tab=text&rule=topk:0.5", async (page) => {
        // Long enough that a run takes longer than a step of the drag.
        await setValue(page, "#sentence", "a long and winding story that never ends ".repeat(40));
        await result(page, ({ tokens }) => tokens.length > 300);
        const seen = await page.evaluate(async () => {
            const slider = document.querySelector("#text .rule input[type=range]");
            const counts = new Set();
            const json = document.querySelector("#text [data-part=json]");
            for (let step = 0; step < 400 && counts.size < 4; step++) {
                slider.value = String(0.1 + 0.002 * step);
                slider.dispatchEvent(new Event("input", { bubbles: true }));
                await new Promise((resolve) => setTimeout(resolve, 4));
                counts.add(JSON.parse(json.textContent).prune.ratio);
            }
            slider.value = "0.25";
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            return counts.size;
        });
        assert.ok(seen >= 4, `${seen} results were painted while 400 steps of a drag went by`);
        await result(page, ({ prune }) => prune.ratio === 0.25);
    }));

test("a chosen word stays chosen over the slider, and a line about a patch goes with its layer", () =>
    withPage("#tab=text&rule=topk:0.5", async (page) => {
        await result(page);
        const scroll = () => page.evaluate(() => window.scrollY);
        await page.evaluate(() => document.querySelectorAll('#text [data-row="1"] .token')[2].click());
        await page.waitForSelector("#text .why .verdict", TIMEOUT);
        const before = await page.$eval("#text .why h2", ({ textContent }) => textContent);
        const top = await scroll();
        await setValue(page, "#text .rule input[type=range]", "0.3");
        await result(page, ({ prune }) => prune.ratio === 0.3);
        await page.waitForSelector("#text .why .verdict", TIMEOUT);
        assert.equal(await page.$eval("#text .why h2", ({ textContent }) => textContent), before);
        assert.ok(await page.$("#text .token.chosen"));
        assert.equal(await scroll(), top);
        await setValue(page, "#sentence", "another sentence of other words");
        await result(page, ({ tokens }) => tokens.includes("another"));
        assert.equal(await page.$("#text .why .verdict"), null);
        await page.click("#tab-images");
        await result(page, ({ grid }) => grid);
        await page.click("#images .large");
        await page.waitForSelector("#images .why .verdict", TIMEOUT);
        const saysOfPatch = () => page.$eval("#images .picture .says", ({ textContent }) => textContent);
        assert.match(await saysOfPatch(), /patch in row/);
        await setValue(page, "#images .layer input", "3");
        await page.waitForFunction(() => !document.querySelector("#images .why .verdict"), TIMEOUT);
        assert.equal(await saysOfPatch(), "");
    }));

test("a picture that cannot be read leaves nothing of the one before", () =>
    withPage("#tab=images", async (page) => {
        await result(page, ({ grid }) => grid);
        const broken = [...readFileSync(`${root}demo/photos/chelsea.png`).subarray(0, 2000)];
        await page.evaluate((bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "half.png", { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
        }, broken);
        await errorText(page, "PNG|png|image");
        await page.waitForFunction(() => !document.querySelector("#images .result").checkVisibility(), TIMEOUT);
        await setValue(page, "#images .rule input[type=range]", "0.7");
        await new Promise((resolve) => setTimeout(resolve, 500));
        assert.equal(await isShown(page, "images"), false);
        await page.click("#images .example:first-child");
        await result(page, ({ label }) => /cat/.test(label));
        assert.equal(await isShown(page, "images"), true);
    }));

test("while the model comes, no other sentence's answer stands beside what is typed", async () => {
    const held = [];
    server.answers.set("/models/sst2-minilm/model.safetensors", (_, response) => {
        held.push(() => response.writeHead(404).end());
    });
    await withPage(
        "?backend=cpu#tab=text",
        async (page) => {
            await result(page);
            await setValue(page, "#text .rules .weights select", "both");
            await setValue(page, "#sentence", "a film of other words");
            await page.waitForFunction(() => !document.querySelector("#text .result").checkVisibility(), TIMEOUT);
            // Other weights are here already, and answer although the download goes on.
            while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
            await setValue(page, "#text .rules .weights select", "int8");
            await result(page, ({ tokens }) => tokens.includes("other"));
            await visible(page, "read to the end");
            held.forEach((end) => end());
            server.answers.delete("/models/sst2-minilm/model.safetensors");
        },
        { expects: /404|Failed to load/ },
    );
});

test("nothing was logged, and nothing left the page", () => assert.deepEqual(problems, []));
