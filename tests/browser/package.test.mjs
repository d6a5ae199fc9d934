// Classifying with the npm package, on every device, and what it says to bad input: `node package.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { launch } from "./launch.mjs";
import { native, root } from "./native.mjs";
import { browserName, problems, server, withPage } from "./package-page.mjs";

/** Chosen, the photographs with their rules, so that no cut falls between equals. */
const { sentences: SENTENCES, photos: PHOTOS } = JSON.parse(readFileSync(new URL("inputs.json", import.meta.url), "utf8"));
const TEXT_RULES = ["dense", "topk:0.5", "concrete"];
/** A cut between two scores that are nearer than this share of them may fall either way. Scores may be tiny: attention can be as good as all on one token. */
const MIN_GAP = 1e-4;
const MAX_LOGIT_DIFFERENCE = 1e-3;

function assertSame(found, expected, what) {
    assert.deepEqual(found.kept, expected.kept, `${what}: kept`);
    assert.equal(found.label, expected.label ?? expected.labels?.[0]?.label, `${what}: label`);
    found.logits.forEach((logit, index) => {
        const difference = Math.abs(logit - expected.logits[index]);
        assert.ok(difference <= MAX_LOGIT_DIFFERENCE, `${what}: logit ${index} is ${logit}, not ${expected.logits[index]}`);
    });
    assert.ok(Math.abs(found.retention - expected.retention) < 1e-9, `${what}: retention`);
    assert.deepEqual(found.flops, expected.flops, `${what}: FLOPs`);
}

/** The smallest difference between two scores on the two sides of a cut, as a share of the larger one. */
function smallestGap(result, rule) {
    if (!result.tokenScores) return Infinity;
    const ratios = (rule.split(":")[1] ?? "").split(",").map(Number);
    const gaps = result.tokenScores.map((scores, layer) => {
        if (rule === "concrete") return Math.min(...scores.map((score) => Math.abs(score / result.cuts[layer] - 1)));
        const sorted = scores.toSorted((one, other) => other - one);
        const k = Math.ceil((ratios[layer] ?? ratios[0]) * result.numTokens);
        return 1 - (sorted[k] ?? -Infinity) / sorted[k - 1];
    });
    return Math.min(...gaps);
}

/** The results of `[text or photo, rule]` pairs, and the device that they came from. */
const classifyAll = async (page, model, backend, pairs) =>
    page.evaluate(
        async (url, backend, pairs) => {
            const model = await window.load({ url, backend });
            const results = [];
            for (const [input, rule] of pairs) {
                const isText = model.info.input === "text";
                const given = isText ? input : await window.fetchBlob(`/photos/${input}`, input);
                const result = await model.classify(given, { prune: window.rule(rule) });
                const cuts = [];
                for (let layer = 0; rule === "concrete" && layer < model.info.numLayers; layer++) {
                    cuts.push((await result.why(layer, 0)).cut);
                }
                results.push({ ...result, resized: null, why: null, cuts });
            }
            const found = { backend: model.backend, results };
            model.dispose();
            return found;
        },
        `/models/${model}`,
        backend,
        pairs,
    );

for (const backend of ["gpu", "cpu"]) {
    test(`${backend}: texts give what the command gives`, () =>
        withPage(async (page) => {
            const pairs = TEXT_RULES.flatMap((rule) => SENTENCES.map((sentence) => [sentence, rule]));
            const found = await classifyAll(page, "sst2-minilm", backend, pairs);
            assert.equal(found.backend.backend, backend);
            const expected = TEXT_RULES.flatMap((rule) => native("--prune", rule, ...SENTENCES));
            found.results.forEach((result, index) => {
                const [sentence, rule] = pairs[index];
                const what = `${rule} of \`${sentence}\``;
                assert.ok(smallestGap(result, rule) > MIN_GAP, `${what}: a cut between equals`);
                assert.deepEqual(result.tokens, expected[index].tokens, what);
                assertSame(result, expected[index], what);
            });
        }));

    test(`${backend}: photographs give what the command gives`, () =>
        withPage(async (page) => {
            const pairs = PHOTOS.map(({ name, prune }) => [name, prune]);
            const found = await classifyAll(page, "deit-tiny", backend, pairs);
            found.results.forEach((result, index) => {
                const [name, rule] = pairs[index];
                const [expected] = native("--prune", rule, "--image", `demo/photos/${name}`);
                assert.ok(smallestGap(result, rule) > MIN_GAP, `${rule} of ${name}: a cut between equals`);
                assert.deepEqual(result.grid, expected.grid);
                assertSame(result, expected, `${rule} of ${name}`);
            });
        }));
}

test("a lost GPU is replaced, and the pending call or batch answered", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/families/bert-relu", backend: "gpu" });
            // Each device compiles its pipelines anew: a small model under `dense` has few.
            const classify = () => model.classify("w5 w6", { prune: { rule: "dense" } });
            const before = await classify();
            model.loseDevice(1);
            const [after, second] = await model.classifyBatch(["w5 w6", "w5 w6"], { prune: { rule: "dense" } });
            model.loseDevice(3);
            const failed = await window.outcome(classify());
            const recovered = await classify();
            const { backend } = model;
            model.dispose();
            const later = [after.logits, second.logits, recovered.logits];
            return { before: before.logits, later, failed, backend, notes: window.notes };
        });
        assert.deepEqual(found.later, [found.before, found.before, found.before]);
        assert.match(found.failed, /^device: .*device lost.*; 2 new devices were lost as well$/);
        assert.equal(found.backend.backend, "gpu");
        assert.match(found.notes.join("\n"), /device lost.*computing again on a new device/);
    }));

test("on `auto` a lost GPU that has no successor is followed by the CPU, and the notes say so", () =>
    withPage(async (page) => {
        const script = readFileSync(`${root}web/dist/worker.js`, "utf8");
        const goneForGood = `
            const destroy = GPUDevice.prototype.destroy;
            GPUDevice.prototype.destroy = function () {
                Object.defineProperty(Object.getPrototypeOf(navigator.gpu), "requestAdapter", { value: async () => null });
                return destroy.call(this);
            };
        `;
        server.answers.set("/package/worker.js", (_, response) =>
            response.writeHead(200, { "content-type": "text/javascript" }).end(`${script}\n${asHardware(true)}\n${goneForGood}`),
        );
        try {
            const found = await page.evaluate(async () => {
                const model = await window.load({ url: "/families/bert-relu" });
                const classify = () => model.classify("w5 w6", { prune: { rule: "dense" } });
                const expected = (await classify()).label;
                const before = model.backend.backend;
                model.loseDevice();
                const { label } = await classify();
                const after = model.backend.backend;
                model.dispose();
                return { before, isSame: label === expected, after, notes: window.notes.join("\n") };
            });
            assert.deepEqual([found.before, found.isSame, found.after], ["gpu", true, "cpu"]);
            assert.match(found.notes, /computing again on a new device[^]*running on the CPU/);
        } finally {
            server.answers.delete("/package/worker.js");
        }
    }));

test("an image whose first call was aborted is there for the next", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/deit-tiny", backend: "cpu" });
            const photo = await window.fetchBlob("/photos/chelsea.png", "chelsea.png");
            const early = AbortSignal.abort();
            const late = new AbortController();
            const outcomes = [window.outcome(model.classify(photo, { signal: early })), window.outcome(model.classify(photo, { signal: late.signal }))];
            late.abort();
            const { label } = await model.classify(photo);
            model.dispose();
            return { label, outcomes: await Promise.all(outcomes) };
        });
        assert.deepEqual(found, { label: "Egyptian cat", outcomes: ["aborted: aborted", "aborted: aborted"] });
    }));

/** Browsers' software adapters pass for hardware here, with a driver that computes roots wrong or right. */
const asHardware = (isRight) => `
    Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
    const createShaderModule = GPUDevice.prototype.createShaderModule;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
        const code = ${isRight} ? descriptor.code : descriptor.code.replaceAll("sqrt(", "1.01 * sqrt(");
        return createShaderModule.call(this, { ...descriptor, code });
    };
`;

test("a GPU that fails the self-test is not used, and the note says so", () =>
    withPage(async (page) => {
        const script = readFileSync(`${root}web/dist/worker.js`, "utf8");
        const load = async (isRight) => {
            server.answers.set("/package/worker.js", (_, response) =>
                response.writeHead(200, { "content-type": "text/javascript" }).end(`${script}\n${asHardware(isRight)}`),
            );
            try {
                return await page.evaluate(async (forces) => {
                    window.notes = [];
                    const url = "/families/bert-relu";
                    const model = await window.load({ url });
                    const { label } = await model.classify("w5 w6", { prune: { rule: "dense" } });
                    const found = { label, backend: model.backend.backend, notes: window.notes.join("\n") };
                    model.dispose();
                    return { ...found, forced: forces && (await window.outcome(window.load({ url, backend: "gpu" }))) };
                }, !isRight);
            } finally {
                server.answers.delete("/package/worker.js");
            }
        };
        const right = await load(true);
        assert.equal(right.backend, "gpu");
        const wrong = await load(false);
        assert.deepEqual([wrong.backend, wrong.label], ["cpu", right.label]);
        assert.match(wrong.notes, /running on the CPU in WebAssembly: .*the self-test failed on /);
        assert.match(wrong.forced, /^device: .*the self-test failed on /);
    }));

test("calls are aborted between layers, and outdated ones are never computed", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            const long = "a long and winding story ".repeat(80);
            const dense = { rule: "dense" };
            await model.classify(long, { prune: dense });
            const whole = (await model.classify(long, { prune: dense })).ms;
            // Without a look between layers an aborted call takes the time of a whole one.
            const shares = [];
            for (let attempt = 0; attempt < 5 && !(shares.at(-1) < 0.7); attempt++) {
                const controller = new AbortController();
                const start = performance.now();
                const call = window.outcome(model.classify(long, { prune: dense, signal: controller.signal }));
                setTimeout(() => controller.abort(), whole / 5);
                await call;
                await model.classify("short");
                shares.push((performance.now() - start) / whole);
            }
            const start = performance.now();
            const controllers = Array.from({ length: 20 }, () => new AbortController());
            const calls = controllers.map(({ signal }) => window.outcome(model.classify(long, { prune: dense, signal })));
            setTimeout(() => controllers.forEach((controller) => controller.abort()), whole / 4);
            const outcomes = await Promise.all(calls);
            await model.classify("short");
            const ms = performance.now() - start;
            const never = new AbortController();
            never.abort();
            outcomes.push(await window.outcome(model.classify("x", { signal: never.signal })));
            model.dispose();
            return { outcomes, whole, ms, shares };
        });
        assert.ok(found.shares.at(-1) < 0.7, `a call aborted after a fifth of its time took ${found.shares} of it`);
        assert.deepEqual(new Set(found.outcomes), new Set(["aborted: aborted"]));
        assert.ok(found.ms < 10 * found.whole, `20 aborted calls took ${found.ms} ms, one whole call ${found.whole}`);
    }));

const TEXT_INPUTS = [
    ["", "input 1: the text is empty, expected at least one word"],
    [["one"], "a pair of texts: expected two strings"],
    [{ not: "an input" }, "expected a text, a pair of texts, a Blob, bytes or ImageData"],
];
const RULES = [
    [{ rule: "topk", ratio: "NaN" }, "rule `topk:NaN`: ratio NaN is out of range, expected 0 < ratio <= 1"],
    [{ rule: "topk", ratio: [0.5, 0.5] }, "rule `topk:0.5,0.5` needs one ratio or 6, one per layer, not 2"],
    [{ rule: "best" }, /rule `best`: expected dense, topk:R/],
    [{ rule: "topk" }, "rule `topk`: a ratio is missing, as in `topk:0.5`"],
    [{ rule: "dense", ratio: 0.5 }, "rule `dense:0.5`: `dense` takes no ratio"],
    [{ rule: "topk", threshold: 0.5 }, 'prune is {"rule":"topk","threshold":0.5}: `topk` takes `ratio`, not `threshold`'],
    [{ rule: "ltp", ratio: 0.5 }, 'prune is {"rule":"ltp","ratio":0.5}: `ltp` takes `threshold`, not `ratio`'],
    [{ rule: "ltp", threshold: [0.1, {}] }, "rule `ltp:0.1,[object Object]`: `[object Object]` is not a number"],
    [{ rule: "ltp", threshold: 2 }, "rule `ltp:2`: threshold 2 is out of range, expected 0 <= threshold <= 1"],
    [{ rule: "ltp", threshold: [0.1, 0.1] }, "rule `ltp:0.1,0.1` needs one threshold or 6, one per layer, not 2"],
];

test("bad texts and rules give a clear error, and the model goes on", () =>
    withPage(async (page) => {
        const found = await page.evaluate(
            async (inputs, rules) => {
                const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
                const outcomes = [];
                for (const input of inputs) outcomes.push(await window.outcome(model.classify(input)));
                for (const prune of rules) outcomes.push(await window.outcome(model.classify("a film", { prune })));
                outcomes.push(await window.outcome(model.classify(new Blob(["x"]))));
                const long = await model.classify("word ".repeat(10_000));
                const result = await model.classify("a gripping film");
                outcomes.push(await window.outcome(result.why(6, 0)));
                outcomes.push(await window.outcome(result.why(0, 5)));
                model.dispose();
                outcomes.push(await window.outcome(model.classify("a film")));
                return { outcomes, long: [long.numTokens, long.truncated], label: result.label };
            },
            TEXT_INPUTS.map(([input]) => input),
            RULES.map(([rule]) => rule),
        );
        const expected = [
            ...[...TEXT_INPUTS, ...RULES].map(([, message]) => message),
            /the image: not a PNG, JPEG, WebP, GIF or BMP image/,
            /layer 6/,
            /position 5/,
        ];
        expected.forEach((message, index) => {
            if (message instanceof RegExp) assert.match(found.outcomes[index], message);
            else assert.equal(found.outcomes[index], `input: ${message}`);
        });
        assert.equal(found.outcomes.at(-1), "disposed: the model was disposed");
        assert.deepEqual(found.long, [512, true]);
        assert.equal(found.label, "positive");
    }));

test("bad images give a clear error, and the model goes on", () =>
    withPage(async (page) => {
        const outcomes = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/deit-tiny", backend: "cpu" });
            const photo = await window.fetchBlob("/photos/chelsea.png", "chelsea.png");
            const cut = new File([photo.slice(0, 2000)], "cut.png");
            const inputs = [
                "a text",
                new File(["<svg xmlns='http://www.w3.org/2000/svg'/>"], "drawing.svg"),
                new File(["just words"], "notes.txt"),
                new Uint8Array(0),
                cut,
            ];
            const outcomes = [];
            for (const input of inputs) outcomes.push(await window.outcome(model.classify(input)));
            const pixels = new ImageData(64, 48);
            outcomes.push(await window.outcome(model.classify(pixels)), (await model.classify(photo)).label);
            model.dispose();
            return outcomes;
        });
        const expected = [
            /^input: .*a text, but the model classifies images/,
            /^input: drawing\.svg: SVG images are not supported/,
            /^input: notes\.txt: not a PNG, JPEG, WebP, GIF or BMP image/,
            /^input: the image: /,
            /^input: cut\.png: /,
            /^ok$/,
            /^Egyptian cat$/,
        ];
        expected.forEach((message, index) => assert.match(outcomes[index], message));
    }));

test("a software adapter is passed over by `auto`, and the note says so", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm" });
            const { backend } = model;
            model.dispose();
            return { backend, notes: window.notes };
        });
        assert.equal(found.backend.backend, "cpu");
        assert.match(found.notes.join("\n"), /running on the CPU: no hardware GPU; found: .*software/);
    }));

test("without WebGPU the CPU computes, and `gpu` is an error", async () => {
    const without = await launch(browserName, { webgpu: false });
    try {
        await withPage(async (page) => {
            const found = await page.evaluate(async () => {
                const model = await window.load({ url: "/models/sst2-minilm" });
                const { label } = await model.classify("a gripping film");
                const forced = await window.outcome(window.load({ url: "/models/sst2-minilm", backend: "gpu" }));
                return { has: "gpu" in navigator, backend: model.backend.backend, label, forced, notes: window.notes };
            });
            assert.equal(found.backend, "cpu");
            assert.equal(found.label, "positive");
            assert.match(found.notes.join("\n"), /running on the CPU: no (hardware )?GPU/);
            assert.match(found.forced, /^device: no GPU/);
        }, without);
    } finally {
        await without.close();
    }
});

test("no page had an error, and no request left the origin", () => assert.deepEqual(problems, []));
