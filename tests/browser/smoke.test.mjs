// The package and the page in one file, for a browser that need not run all the others each time: `node smoke.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { launch } from "./launch.mjs";
import { native } from "./native.mjs";
import * as packagePage from "./package-page.mjs";
import { answers, browserName, problems, result, setValue, TIMEOUT, visible, withPage } from "./visit.mjs";

/** As in package.test.mjs, so that no cut falls between equals. */
const { sentences, photos } = JSON.parse(readFileSync(new URL("inputs.json", import.meta.url), "utf8"));
const TEXTS = sentences.slice(0, 3);
const [PHOTO] = photos;

function assertSame(found, expected, what) {
    assert.deepEqual(found.kept, expected.kept, `${what}: kept`);
    assert.equal(found.label, expected.label ?? expected.labels[0].label, `${what}: label`);
    const furthest = Math.max(...found.logits.map((logit, index) => Math.abs(logit - expected.logits[index])));
    assert.ok(furthest <= 1e-3, `${what}: a logit is off by ${furthest}`);
}

/** A batch of texts, an aborted call, then each of the texts alone on a GPU that is lost first; and a photograph. */
const classify = (page, backend) =>
    page.evaluate(
        async (backend, texts, photo) => {
            const plain = ({ kept, label, logits }) => ({ kept, label, logits });
            const text = await window.load({ url: "/models/sst2-minilm", backend });
            const prune = window.rule("topk:0.5");
            const batch = (await text.classifyBatch(texts, { prune })).map(plain);
            const aborted = await window.outcome(text.classify(texts[0], { prune, signal: AbortSignal.abort() }));
            if (backend === "gpu") text.loseDevice();
            const alone = [];
            for (const one of texts) alone.push(plain(await text.classify(one, { prune })));
            const used = text.backend.backend;
            text.dispose();
            const image = await window.load({ url: "/models/deit-tiny", backend });
            const blob = await window.fetchBlob(`/photos/${photo.name}`, photo.name);
            const picture = plain(await image.classify(blob, { prune: window.rule(photo.prune) }));
            image.dispose();
            return { batch, alone, aborted, used, picture, notes: window.notes.join("\n") };
        },
        backend,
        TEXTS,
        PHOTO,
    );

for (const backend of ["gpu", "cpu"]) {
    test(`${backend}: the package gives what the command gives, alone and in a batch`, () =>
        packagePage.withPage(async (page) => {
            const found = await classify(page, backend);
            assert.equal(found.used, backend);
            assert.equal(found.aborted, "aborted: aborted");
            if (backend === "gpu") assert.match(found.notes, /device lost.*computing again on a new device/);
            assert.deepEqual(found.batch, found.alone);
            native("--prune", "topk:0.5", ...TEXTS).forEach((expected, index) => assertSame(found.batch[index], expected, TEXTS[index]));
            const [expected] = native("--prune", PHOTO.prune, "--image", `demo/photos/${PHOTO.name}`);
            assertSame(found.picture, expected, PHOTO.name);
        }));
}

test("weights come from the cache the second time", () =>
    packagePage.withPage(async (page) => {
        const { fromCache, notes } = await page.evaluate(async () => {
            for (let time = 0; time < 2; time++) {
                window.events = [];
                (await window.load({ url: "/models/sst2-minilm", backend: "cpu" })).dispose();
            }
            const progress = window.events.filter(({ stage }) => stage === "load");
            return { fromCache: progress.length > 0 && progress.every((event) => event.fromCache), notes: window.notes };
        });
        assert.ok(fromCache, `notes: ${notes}`);
    }));

test("an insecure context is named", () =>
    packagePage.withPage(
        async (page) => {
            const outcome = await page.evaluate(() => window.outcome(window.load({ url: "/models/sst2-minilm", backend: "gpu" })));
            assert.match(outcome, /^insecure: WebGPU needs a secure context/);
        },
        packagePage.browser,
        packagePage.INSECURE_HOST,
    ));

test("the page classifies a text and an image, and explains a token", () =>
    withPage("#tab=text&rule=topk:0.5", async (page) => {
        await setValue(page, "#sentence", TEXTS[1]);
        const found = await result(page, ({ tokens }) => tokens.includes("dialogue"));
        // With int8 weights: an input between two whole numbers may become either, and logits differ in the second place.
        const [{ kept, label }] = answers("--prune", "topk:0.5", TEXTS[1]);
        assert.deepEqual([found.kept, found.label], [kept, label]);
        await page.click('#text [data-row="1"] .token');
        await page.waitForSelector("#text .why .verdict", TIMEOUT);
        await page.click("#tab-images");
        assert.match((await result(page, ({ grid }) => grid)).label, /cat/);
    }));

test("the page takes WebGPU where it is asked to, and the CPU without", async () => {
    await withPage("?backend=gpu", async (page) => {
        await result(page);
        await visible(page, "Computed by WebGPU");
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

test("no page had an error, and no request left the origin", () => assert.deepEqual([...problems, ...packagePage.problems], []));
