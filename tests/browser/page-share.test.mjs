// What leaves the page by its visitor's will: `node page-share.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { errorText, problems, result, setValue, TIMEOUT, withPage } from "./visit.mjs";

test("the link holds the state, and one that cannot be read says so", async () => {
    await withPage("#tab=text&text=a+gripping+film&rule=topk:0.25&with=dense", async (page) => {
        const found = await result(page);
        assert.deepEqual([found.prune, found.tokens.length], [{ rule: "topk", ratio: 0.25 }, 5]);
        await setValue(page, "#sentence", "fine & good");
        await page.waitForFunction(() => location.hash.includes("fine"), TIMEOUT);
        const hash = await page.evaluate(() => location.hash);
        assert.equal(new URLSearchParams(hash.slice(1)).get("text"), "fine & good");
        assert.equal(new URLSearchParams(hash.slice(1)).get("with"), "dense");
    });
    await withPage("?backend=abacus#tab=film&rule=topk:NaN&with=best&layer=-1", async (page) => {
        const found = await (await errorText(page, "could not be read")).jsonValue();
        for (const part of [/tab “film”/, /rule “topk:NaN”: the ratio must be above 0/, /with “best”/, /layer “-1”/, /backend “abacus”/]) {
            assert.match(found, part);
        }
        assert.equal((await result(page)).prune.ratio, 0.5, "the page goes on");
    });
    await withPage("#rule=ltp:0.02&with=forward:0.5", async (page) => {
        assert.deepEqual((await result(page)).prune, { rule: "ltp", threshold: 0.02 });
        assert.deepEqual(await page.$$eval("#link-problems:not([hidden])", (places) => places.length), 0);
    });
    for (const threshold of ["1.01", "-1", "", "x"]) {
        await withPage(`#rule=ltp:${threshold}`, async (page) => {
            await errorText(page, "the threshold must be from 0 to 1");
            assert.equal((await result(page)).prune.threshold, 0.01);
        });
    }
    for (const ratio of ["Infinity", "0", "-1", "1.01", "", "0x"]) {
        await withPage(`#rule=topk:${ratio}`, async (page) => {
            await errorText(page, "could not be read");
            assert.equal((await result(page)).prune.ratio, 0.5);
        });
    }
});

test("picture and result are saved", () =>
    withPage("#tab=text&rule=topk:0.3", async (page) => {
        const shown = await result(page);
        await page.evaluate(() => {
            window.saved = [];
            const before = URL.createObjectURL;
            URL.createObjectURL = (blob) => (window.saved.push(blob), before.call(URL, blob));
            window.names = [];
            HTMLAnchorElement.prototype.click = function () {
                window.names.push(this.download);
            };
            for (const button of document.querySelectorAll("#text button")) if (/^Save (picture|result)$/.test(button.textContent)) button.click();
        });
        await page.waitForFunction(() => window.saved.length === 2, TIMEOUT);
        const files = await page.evaluate(async () => {
            const [json, png] = window.saved.toSorted((one, other) => one.type.localeCompare(other.type));
            const bitmap = await createImageBitmap(png);
            return { json: JSON.parse(await json.text()), type: png.type, size: [bitmap.width, bitmap.height] };
        });
        assert.deepEqual((await page.evaluate(() => window.names)).toSorted(), ["sttabt.json", "sttabt.png"]);
        assert.deepEqual(files.json, shown);
        assert.equal(files.type, "image/png");
        assert.ok(files.size[0] > 400 && files.size[1] > 200, `${files.size}`);
    }));

test("a card of 1200 × 630 is saved, with the words, the answer and the work", () =>
    withPage("#tab=text&rule=topk:0.3&text=a+gripping+film", async (page) => {
        const shown = await result(page);
        const { name, size, words } = await page.evaluate(async () => {
            const words = [];
            const { fillText } = CanvasRenderingContext2D.prototype;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
                words.push(text);
                return fillText.call(this, text, ...place);
            };
            const saved = new Promise((resolve) => {
                HTMLAnchorElement.prototype.click = function () {
                    resolve({ name: this.download, blob: fetched });
                };
            });
            let fetched;
            URL.createObjectURL = (blob) => ((fetched = blob), "data:,");
            [...document.querySelectorAll("#text button")].find(({ textContent }) => textContent === "Save card").click();
            const { name, blob } = await saved;
            const { width, height } = await createImageBitmap(blob);
            return { name, size: [width, height], words: words.join(" ") };
        });
        assert.deepEqual([name, size], ["sttabt-card.png", [1200, 630]]);
        const percent = (share, digits) => `${(100 * share).toFixed(digits)} %`;
        const parts = ["a gripping film", `${shown.label} ${percent(shown.probs[shown.labelIndex], 1)}`, percent(shown.retention, 0), percent(shown.flops.total / shown.flops.dense, 0), "127.0.0.1"];
        for (const part of parts) assert.ok(words.includes(part), `${part} in ${words}`);
    }));

test("a copied link says what it does not hold", async () => {
    const said = (page, tab) =>
        page.evaluate(async (tab) => {
            navigator.clipboard.writeText = async (link) => void (window.link = link);
            const button = [...document.querySelectorAll(`#${tab} button`)].find(({ textContent }) => textContent === "Copy link");
            button.click();
            while (button.textContent === "Copy link") await new Promise((resolve) => setTimeout(resolve, 10));
            return [button.textContent, new URL(window.link).hash];
        }, tab);
    await withPage("?backend=cpu#tab=text&text=fine&rule=dense", async (page) => {
        await result(page);
        assert.deepEqual(await said(page, "text"), ["Copied", "#tab=text&text=fine&rule=dense"]);
    });
    await withPage("?backend=cpu#tab=images&rule=dense", async (page) => {
        await result(page);
        const [text, hash] = await said(page, "images");
        assert.equal(text, "Copied, without the picture");
        assert.match(hash, /^#tab=images&rule=dense&layer=\d+$/);
    });
});

test("words stand in their own direction, and the text in that of its first letter", () =>
    withPage("?backend=cpu#tab=text&rule=topk:0.5", async (page) => {
        await setValue(page, "#sentence", "שלום zalgoish עולם");
        await result(page, (result) => result.tokens.includes("##go"));
        const [text, ...words] = await page.$eval("#text .sentence .words", (row) =>
            [row, ...row.querySelectorAll(".word")].map(({ dir, textContent }) => [dir, textContent]),
        );
        assert.equal(text[0], "rtl");
        assert.deepEqual(words.slice(1, -1), [["rtl", "שלום"], ["ltr", "zalgoish"], ["rtl", "עולם"]]);
    }));

test("no console errors, and no request left the origin", () => assert.deepEqual(problems, []));
