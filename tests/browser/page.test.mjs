// The built page in a real browser, as a visitor uses it: `node page.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { launch } from "./launch.mjs";
import { native, root } from "./native.mjs";
import { answers, axe, browserName, errorText, problems, result, server, setValue, TIMEOUT, visible, withPage } from "./visit.mjs";

/** What the open tab exports once there are two results. */
async function bothResults(page) {
    await page.waitForFunction(() => !document.querySelector("#text [data-part=beside]").hidden, TIMEOUT);
    return page.evaluate(async () => {
        const made = new Promise((resolve) => (URL.createObjectURL = (blob) => (resolve(blob), "data:,")));
        [...document.querySelectorAll("#text button")].find(({ textContent }) => textContent === "Save result").click();
        return JSON.parse(await (await made).text());
    });
}

test("a text is classified as the command does it", () =>
    withPage("", async (page) => {
        const text = "the jokes are stale, but what a wonderfully unhinged performance";
        await setValue(page, "#sentence", text);
        const found = await result(page, (result) => result.tokens.includes("jokes"));
        const [expected] = answers("--prune", "topk:0.3", text);
        assert.deepEqual(found.tokens, expected.tokens);
        assert.deepEqual(found.kept, expected.kept);
        assert.deepEqual(found.flops, expected.flops);
        const drawn = await page.$$eval("#text .sentence [role=row]", (rows) =>
            rows.map((row) => [...row.querySelectorAll(".token")].flatMap((token, index) => (token.classList.contains("removed") ? [] : [index]))),
        );
        assert.deepEqual(drawn.slice(0, found.kept.length), found.kept, "what is drawn is what is kept");
        const words = await page.$$eval("#text .sentence [role=row]:first-child .word", (words) => words.map((word) => word.textContent));
        assert.ok(words.includes("unhinged"), `subwords are joined: ${words}`);
    }));

test("the first visit shows an example before any weights arrive, and the bytes as they come", async () => {
    const held = [];
    server.answers.set("/models/sst2-minilm-int8/model.safetensors", (_, response) => {
        const bytes = readFileSync(`${root}demo/dist/models/sst2-minilm-int8/model.safetensors`);
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, 1 << 20));
        held.push(() => response.end(bytes.subarray(1 << 20)));
    });
    const fresh = await launch(browserName);
    try {
        await withPage(
            "",
            async (page) => {
                await visible(page, "Downloading the text model (int8)");
                assert.match(await page.$eval("#text .progress", (element) => element.innerText), /\(int8\).* of 27\.\d MB/);
                const kept = await page.$$eval("#text .sentence .token:not(.removed)", (tokens) => tokens.length);
                assert.ok(kept > 5, "the example is drawn");
                const shown = JSON.parse(await page.$eval("#text [data-part=json]", (element) => element.textContent));
                const [expected] = answers("--prune", "topk:0.3", await page.$eval("#sentence", (element) => element.value));
                assert.deepEqual(shown.kept, expected.kept, "node demo/precompute.mjs writes the example anew");
                assert.match(await page.$eval("#text .probabilities", (element) => element.innerText), new RegExp(expected.label));
                held.forEach((finish) => finish());
                await result(page);
                await page.waitForFunction(() => document.querySelector("#text .progress").hidden, TIMEOUT);
            },
            { from: fresh },
        );
    } finally {
        server.answers.clear();
        await fresh.close();
    }
});

test("a dragged ratio runs at once, and the latest wins", () =>
    withPage("#tab=text&rule=topk:0.9", async (page) => {
        await result(page, (result) => result.prune.ratio === 0.9);
        for (const ratio of [0.8, 0.6, 0.4, 0.2, 0.3]) await setValue(page, "#text .ratio input", String(ratio));
        const found = await result(page, (result) => result.prune.ratio === 0.3);
        const [expected] = answers("--prune", "topk:0.3", found.tokens.slice(1, -1).join(" "));
        assert.deepEqual(found.kept, expected.kept);
    }));

test("every rule runs, and the two compared differ where they are marked", () =>
    withPage("#tab=text&rule=topk:0.4", async (page) => {
        for (const rule of ["dense", "concrete", "oracle", "forward", "topk"]) {
            await setValue(page, "#text .rules .rule:first-child select", rule);
            await result(page, (result) => result.prune.rule === rule);
        }
        await setValue(page, "#text .rules .rule:nth-child(2) select", "forward");
        await page.waitForFunction(() => !document.querySelector("#text [data-part=beside]").hidden, TIMEOUT);
        const grids = await page.$$eval("#text .sentence", (grids) =>
            grids.map((grid) => [...grid.querySelectorAll(".token")].map((token) => [token.classList.contains("removed"), token.classList.contains("differs")])),
        );
        const [one, other] = grids;
        assert.equal(one.length, other.length);
        one.forEach(([removed, differs], index) => {
            assert.equal(differs, removed !== other[index][0], `token ${index}`);
            assert.equal(differs, other[index][1]);
        });
        assert.ok(one.some(([, differs]) => differs), "two rules that agree everywhere compare nothing");
    }));

test("int8 and f16 stand beside each other, and the link says so", () =>
    withPage("?backend=cpu#tab=text&rule=topk:0.3", async (page) => {
        const int8 = await result(page);
        await setValue(page, "#text .rules .weights select", "both");
        const [first, second] = await bothResults(page);
        assert.deepEqual(first.logits, int8.logits);
        const [expected] = native("--prune", "topk:0.3", await page.$eval("#sentence", ({ value }) => value));
        second.logits.forEach((logit, index) => assert.ok(Math.abs(logit - expected.logits[index]) < 1e-3, `${second.logits}`));
        assert.notDeepEqual(second.logits, first.logits, "the same weights twice");
        assert.match(await page.evaluate(() => location.hash), /weights=both/);
        const names = await page.$$eval("#text .names:not([hidden])", (names) => names.map(({ textContent }) => textContent));
        assert.deepEqual(names, ["topk 0.3, int8", "topk 0.3, f16"]);
        const costs = await page.$$eval("#text [data-part=cost] th[scope=row]", (rows) => rows.map(({ textContent }) => textContent));
        assert.deepEqual(costs, ["dense, int8", "dense, f16", "topk 0.3, int8", "topk 0.3, f16"]);
        await setValue(page, "#text .rules .weights select", "f16");
        const f16 = await result(page, ({ logits }) => logits[0] !== int8.logits[0]);
        assert.deepEqual(f16.logits, second.logits);
    }));

test("why: a removed token names what it lacked, a kept one its trail", () =>
    withPage("#tab=text&rule=topk:0.3", async (page) => {
        const found = await result(page);
        const row = 1;
        const removed = found.tokens.findIndex((_, position) => !found.kept[row].includes(position));
        await page.evaluate((row, position) => document.querySelectorAll(`#text [data-row="${row}"] .token`)[position].click(), row, removed);
        await page.waitForFunction(() => /removed: its score/.test(document.querySelector("#text .why").innerText), TIMEOUT);
        const kept = found.kept[row].find((position) => position > 0);
        await page.evaluate((row, position) => document.querySelectorAll(`#text [data-row="${row}"] .token`)[position].click(), row, kept);
        await page.waitForFunction(() => /kept/.test(document.querySelector("#text .why .verdict")?.innerText), TIMEOUT);
        const chain = await page.$$eval("#text .why .chip", (chips) => chips.map((chip) => chip.innerText));
        assert.match(chain.at(-1), /^\[CLS\]/, chain.join(" ← "));
        assert.ok(await page.$("#text .token.chosen"));
    }));

test("a photograph that comes late takes over neither another nor the tab", () =>
    withPage("#tab=text", async (page) => {
        await result(page);
        const late = () =>
            page.evaluate(() => {
                const { fetch } = window;
                window.fetch = async (url) => {
                    if (/chelsea/.test(url)) await new Promise((resolve) => (window.release = resolve));
                    return fetch(url);
                };
            });
        const settle = () => new Promise((resolve) => setTimeout(resolve, 1000));
        await late();
        await page.click("#tab-images");
        await page.click("#images .example:last-child");
        const rocket = await result(page, (result) => result.grid);
        await page.evaluate(() => window.release());
        await settle();
        assert.equal((await result(page)).label, rocket.label);
        await page.click("#images .example:first-child");
        await page.click("#tab-text");
        await page.evaluate(() => window.release());
        await settle();
        assert.equal(await page.$eval("#images", (section) => section.hidden), true);
    }));

test("an image is classified as the command does it; layers fade, play and explain themselves", () =>
    withPage("#tab=images&rule=topk:0.5", async (page) => {
        await page.waitForSelector("#images .example");
        await page.click("#images .example:last-child");
        // The rocket, although the tab was showing the cat of its own accord.
        const rocket = await result(page, (result) => result.grid && !/cat/.test(result.label));
        assert.equal(rocket.kept.length, 13);
        await page.click("#images .example:first-child");
        const photo = await result(page, (result) => /cat/.test(result.label));
        const [expected] = answers("--prune", "topk:0.5", "--image", "demo/photos/chelsea.png");
        assert.equal(photo.label, expected.labels?.[0]?.label ?? expected.label);
        const overlap = photo.kept.flat().filter((position, index) => expected.kept.flat()[index] === position).length;
        assert.ok(overlap / expected.kept.flat().length > 0.99, `${overlap} of ${expected.kept.flat().length}`);
        assert.equal((await page.$$("#images [data-part=names] ~ .picture .small-multiples button")).length, 13);
        const pixel = () =>
            page.$eval("#images .large", (canvas) => {
                const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
                copy.drawImage(canvas, 0, 0);
                const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
                return data.reduce((sum, value) => sum + value, 0);
            });
        await setValue(page, "#images .layer input", "0");
        await new Promise((resolve) => setTimeout(resolve, 600));
        const bright = await pixel();
        await setValue(page, "#images .layer input", "12");
        await new Promise((resolve) => setTimeout(resolve, 600));
        assert.ok((await pixel()) < 0.8 * bright, "removed patches are dark");
        await page.evaluate(() => [...document.querySelectorAll("#images button")].find((button) => button.textContent === "Play").click());
        await page.waitForFunction(() => Number(document.querySelector("#images .layer input").value) === 2, TIMEOUT);
        await page.click("#images .large");
        await page.waitForSelector("#images .why .verdict", TIMEOUT);
    }));

test("the page is walked with the keyboard alone", () =>
    withPage("#tab=text&rule=topk:0.3", async (page) => {
        await result(page);
        const focused = () =>
            page.evaluate(() => {
                const { tagName, className, id, innerText } = document.activeElement;
                return { tagName, className, id, text: (innerText ?? "").trim() };
            });
        const tabTo = async (matches) => {
            for (let step = 0; step < 40; step++) {
                await page.keyboard.press("Tab");
                const element = await focused();
                if (matches(element)) return element;
            }
            assert.fail(`Tab never came to ${matches}`);
        };
        await tabTo(({ id }) => id === "tab-text");
        await tabTo(({ id }) => id === "sentence");
        await tabTo(({ tagName }) => tagName === "SELECT");
        await tabTo(({ className }) => /token/.test(className));
        await page.keyboard.press("ArrowDown");
        await page.keyboard.press("ArrowRight");
        const place = await page.evaluate(() => {
            const row = document.activeElement.closest("[data-row]");
            return [row.dataset.row, [...row.querySelectorAll(".token")].indexOf(document.activeElement)];
        });
        assert.deepEqual(place, ["1", 1]);
        await page.keyboard.press("Enter");
        await page.waitForSelector("#text .why .verdict", TIMEOUT);
        await tabTo(({ text }) => text === "Copy link");
        await tabTo(({ tagName }) => tagName === "SUMMARY");
        await page.keyboard.press("Enter");
        await visible(page, "Kept tokens by layer");
        await page.focus("#tab-text");
        await page.keyboard.press("ArrowRight");
        assert.equal((await focused()).id, "tab-images");
        await result(page, (result) => result.grid);
        await tabTo(({ className }) => /large/.test(className));
        await page.keyboard.press("ArrowRight");
        await page.keyboard.press("ArrowDown");
        await page.keyboard.press("Enter");
        await page.waitForSelector("#images .why .verdict", TIMEOUT);
        assert.match(await page.$eval("#images .why h2", ({ textContent }) => textContent), /row 2, column 2,/);
    }));

for (const dark of [false, true]) {
    test(`axe finds nothing serious in ${dark ? "dark" : "light"}`, async () => {
        const colored = await launch(browserName, { dark });
        const check = async (page, where) => {
            const { violations } = await page.evaluate(() => window.axe.run());
            const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
            const found = serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 160))}`);
            assert.deepEqual(found, [], where);
        };
        const body = async (page) => {
            assert.equal(await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches), dark);
            await page.evaluate(axe);
            await result(page);
            await page.$$eval("#text details", (all) => all.forEach((details) => (details.open = true)));
            await page.evaluate(() => document.querySelectorAll("#text .token")[20].click());
            await page.waitForSelector("#text .why .verdict", TIMEOUT);
            await check(page, "text");
            await page.click("#tab-images");
            await result(page, (result) => result.grid);
            await page.click("#images .large");
            await page.waitForSelector("#images .why .verdict", TIMEOUT);
            await check(page, "images");
            await page.click("#tab-benchmark");
            await check(page, "benchmark");
        };
        try {
            await withPage("#tab=text&rule=topk:0.3&with=forward:0.5", body, { from: colored });
        } finally {
            await colored.close();
        }
    });
}

test("nothing is wider than a phone", () =>
    withPage(
        "#tab=text&rule=topk:0.3&with=forward:0.5",
        async (page) => {
            const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
            await result(page);
            assert.ok(await fits(), "text");
            await page.click("#tab-images");
            await result(page, (result) => result.grid);
            assert.ok(await fits(), "images");
            await page.click("#tab-benchmark");
            assert.ok(await fits(), "benchmark");
        },
        { width: 360, height: 740 },
    ));

/** Drops files on the page as a visitor's mouse would. */
const drop = (page, files) =>
    page.evaluate((files) => {
        const data = new DataTransfer();
        for (const { name, text, type } of files) data.items.add(new File([text], name, { type }));
        document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
    }, files);

test("bad input is named, and the page goes on", () =>
    withPage("#tab=text", async (page) => {
        await result(page);
        await setValue(page, "#sentence", "   ");
        await visible(page, "Type a sentence, or choose an example.");
        assert.equal(await page.$eval("#text .result", (element) => element.checkVisibility()), false, "nothing stale is left");
        await setValue(page, "#sentence", "good ".repeat(10_000));
        const long = await result(page, (result) => result.tokens.length > 100);
        assert.equal(long.truncated, true);
        await visible(page, "The text was longer than the model reads");
        await setValue(page, "#sentence", "a gripping film");
        await result(page, (result) => result.tokens.length === 5);
        await drop(page, [{ name: "drawing.svg", text: "<svg xmlns='http://www.w3.org/2000/svg'/>", type: "image/svg+xml" }]);
        await errorText(page, "drawing.svg: SVG images are not supported");
        await drop(page, [{ name: "notes.txt", text: "words", type: "text/plain" }]);
        await errorText(page, "notes.txt: not a PNG, JPEG, WebP, GIF or BMP image");
        await drop(page, []);
        await errorText(page, "What was dropped is no file");
        await page.evaluate(() => {
            const entry = { isDirectory: true, name: "holidays" };
            const event = new Event("drop", { bubbles: true, cancelable: true });
            event.dataTransfer = { items: [{ webkitGetAsEntry: () => entry }], files: [] };
            document.body.dispatchEvent(event);
        });
        await errorText(page, "“holidays” is a folder");
        await page.click("#images .example:first-child");
        await result(page, (result) => /cat/.test(result.label));
        assert.ok(await page.$eval("#error", (place) => place.hidden), "the message is gone");
    }));

test("damaged or missing weights are named, and a second try works", async () => {
    const fresh = await launch(browserName);
    const path = "/models/sst2-minilm-int8/model.safetensors";
    try {
        await withPage(
            "",
            async (page) => {
                await page.evaluate(() => caches.delete("sttabt"));
                server.answers.set(path, (_, response) => response.writeHead(200).end("damaged"));
                await page.reload();
                await errorText(page, "model\\.safetensors: 7 bytes, the manifest says");
                server.answers.set(path, (_, response) => response.writeHead(404).end("gone"));
                await setValue(page, "#sentence", "a film");
                await errorText(page, "model\\.safetensors: HTTP 404");
                server.answers.clear();
                await setValue(page, "#sentence", "a gripping film");
                await result(page, (result) => result.tokens.length === 5);
            },
            { from: fresh, expects: /404/ },
        );
    } finally {
        server.answers.clear();
        await fresh.close();
    }
});

test("the camera runs on and tells its frames per second", () =>
    withPage("#tab=images&rule=topk:0.2", async (page) => {
        await result(page, (result) => result.grid);
        await page.evaluate(() => [...document.querySelectorAll("#images button")].find((button) => button.textContent === "Camera").click());
        await visible(page, "frames per second");
        await page.evaluate(() => [...document.querySelectorAll("#images button")].find((button) => button.textContent === "Stop camera").click());
        await page.waitForFunction(() => !document.body.innerText.includes("frames per second"), TIMEOUT);
    }));

test("software adapters and browsers without WebGPU are answered by the CPU, and the page says so", async () => {
    await withPage("", async (page) => {
        await result(page);
        await visible(page, "Computed by the CPU, in WebAssembly");
        await visible(page, "no hardware GPU");
    });
    await withPage("?backend=gpu", async (page) => {
        await result(page);
        await visible(page, "Computed by WebGPU");
        await visible(page, "a software adapter");
    });
    const without = await launch(browserName, { webgpu: false });
    try {
        await withPage(
            "",
            async (page) => {
                await result(page);
                await visible(page, "Computed by the CPU, in WebAssembly");
            },
            { from: without },
        );
    } finally {
        await without.close();
    }
});

test("no console errors, and no request left the origin", () => assert.deepEqual(problems, []));
