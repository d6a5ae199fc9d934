// The npm package in a real browser: `node --test`-style cases over the built package, started as `node package.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { manifest } from "../../web/manifest.mjs";
import { launch } from "./launch.mjs";
import { native, root } from "./native.mjs";
import { serve } from "./server.mjs";

const browserName = process.argv[2] ?? "chromium";
const INSECURE_HOST = "sttabt.test";
/** Chosen, the photographs with their rules, so that no cut falls between equals. */
const { sentences: SENTENCES, photos: PHOTOS } = JSON.parse(readFileSync(new URL("inputs.json", import.meta.url), "utf8"));
const TEXT_RULES = ["dense", "topk:0.5", "concrete"];
/** A cut between two scores that are nearer than this may fall either way. */
const MIN_GAP = 1e-4;
const MAX_LOGIT_DIFFERENCE = 1e-3;

let server, browser;
const problems = [];

before(async () => {
    server = await serve({
        "/": `${root}tests/browser/pages/`,
        "/package/": `${root}web/dist/`,
        "/models/": `${root}models/`,
        "/photos/": `${root}demo/photos/`,
    });
    for (const model of ["sst2-minilm", "deit-tiny"]) {
        const body = JSON.stringify(await manifest(`${root}models/${model}`));
        server.answers.set(`/models/${model}/manifest.json`, (_, response) => json(response, body));
    }
    browser = await launch(browserName, { insecureHost: INSECURE_HOST });
});

after(async () => {
    await browser?.close();
    await server?.close();
});

const json = (response, body) => response.writeHead(200, { "content-type": "application/json" }).end(body);

/** A fresh page, in which `load` and `outcome` are there besides the package's names. */
async function open(from = browser, host = "127.0.0.1") {
    const page = await from.newPage();
    page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
    page.on("request", (request) => {
        const url = new URL(request.url());
        if (url.protocol.startsWith("http") && url.port !== String(server.port)) problems.push(`request: ${url}`);
    });
    await page.goto(`http://${host}:${server.port}/package.html`);
    await page.waitForFunction("window.isReady");
    await page.evaluate(() => {
        window.events = [];
        window.notes = [];
        window.load = (options) =>
            window.Sttabt.load({
                onProgress: (progress) => window.events.push(progress),
                onNote: (note) => window.notes.push(note),
                ...options,
            });
        window.rule = (text) => {
            const [rule, ratios] = text.split(":");
            return ratios ? { rule, ratio: ratios.split(",").map(Number) } : { rule };
        };
        /** `ok`, or the error's kind and message. */
        window.outcome = (promise) =>
            promise.then(
                () => "ok",
                (error) => `${error.kind}: ${error.message}`,
            );
        window.fetchBlob = async (url, name) => new File([await (await fetch(url)).blob()], name);
    });
    return page;
}

async function withPage(body, ...where) {
    const page = await open(...where);
    try {
        return await body(page);
    } finally {
        await page.close();
    }
}

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

/** The smallest difference between two scores on the two sides of a cut. */
function smallestGap(result, rule) {
    if (!result.tokenScores) return Infinity;
    const ratios = (rule.split(":")[1] ?? "").split(",").map(Number);
    const gaps = result.tokenScores.map((scores, layer) => {
        if (rule === "concrete") return Math.min(...scores.map((score) => Math.abs(score - result.cuts[layer])));
        const sorted = scores.toSorted((one, other) => other - one);
        const k = Math.ceil((ratios[layer] ?? ratios[0]) * result.numTokens);
        return sorted[k - 1] - (sorted[k] ?? -Infinity);
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

test("a lost GPU is replaced, and the pending call answered", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "gpu" });
            const before = await model.classify("a gripping film");
            model.loseDevice();
            const after = await model.classify("a gripping film");
            model.loseDevice(2);
            const again = await model.classify("a gripping film");
            model.loseDevice(3);
            const failed = await window.outcome(model.classify("a gripping film"));
            const recovered = await model.classify("a gripping film");
            const { backend } = model;
            model.dispose();
            const later = [again.logits, recovered.logits];
            return { before: before.logits, after: after.logits, later, failed, backend, notes: window.notes };
        });
        assert.deepEqual(found.later, [found.before, found.before]);
        assert.match(found.failed, /^device: .*device lost.*; 2 new devices were lost as well$/);
        assert.deepEqual(found.after, found.before);
        assert.equal(found.backend.backend, "gpu");
        assert.match(found.notes.join("\n"), /device lost.*computing again on a new device/);
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
                return await page.evaluate(async () => {
                    window.notes = [];
                    const model = await window.load({ url: "/models/sst2-minilm" });
                    const { label } = await model.classify("a gripping film");
                    const found = { label, backend: model.backend.backend, notes: window.notes.join("\n") };
                    model.dispose();
                    const forced = await window.outcome(window.load({ url: "/models/sst2-minilm", backend: "gpu" }));
                    return { ...found, forced };
                });
            } finally {
                server.answers.delete("/package/worker.js");
            }
        };
        const right = await load(true);
        assert.deepEqual([right.backend, right.label, right.forced], ["gpu", "positive", "ok"]);
        const wrong = await load(false);
        assert.deepEqual([wrong.backend, wrong.label], ["cpu", "positive"]);
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

test("a load is aborted", () =>
    withPage(async (page) => {
        const outcome = await page.evaluate(async () => {
            const controller = new AbortController();
            const onProgress = () => controller.abort();
            const { signal } = controller;
            return window.outcome(window.load({ url: "/models/sst2-minilm", onProgress, signal }));
        });
        assert.equal(outcome, "aborted: aborted");
    }));

test("weights come from the cache when the network is off", () =>
    withPage(async (page) => {
        const load = () =>
            page.evaluate(async () => {
                window.events = [];
                window.notes = [];
                const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
                const { label } = await model.classify("a gripping film");
                model.dispose();
                const { events, notes } = window;
                const progress = events.filter((event) => event.stage === "load");
                const isMonotonic = progress.every((event, i) => i === 0 || event.loadedBytes > progress[i - 1].loadedBytes);
                const last = progress.at(-1);
                return { label, notes, isMonotonic, last, fromCache: progress.every((event) => event.fromCache) };
            });
        const first = await load();
        assert.equal(first.last.loadedBytes, first.last.totalBytes, "all bytes are announced");
        const files = Object.entries((await manifest(`${root}models/sst2-minilm`)).files);
        assert.equal(
            first.last.totalBytes,
            files.reduce((sum, [, { bytes }]) => sum + bytes, 0),
        );
        assert.ok(first.isMonotonic);
        const manifestAnswer = server.answers.get("/models/sst2-minilm/manifest.json");
        const offline = (request) => request.socket.destroy();
        for (const name of ["manifest.json", ...files.map(([name]) => name)]) {
            server.answers.set(`/models/sst2-minilm/${name}`, offline);
        }
        try {
            const second = await load();
            assert.ok(second.fromCache && second.isMonotonic);
            assert.equal(second.label, "positive");
        } finally {
            for (const [name] of files) server.answers.delete(`/models/sst2-minilm/${name}`);
            server.answers.set("/models/sst2-minilm/manifest.json", manifestAnswer);
        }
    }));

test("a server in trouble is not taken for a model without a manifest", () =>
    withPage(async (page) => {
        const path = "/models/sst2-minilm/manifest.json";
        const answer = server.answers.get(path);
        const load = () =>
            page.evaluate(async () => {
                window.notes = [];
                window.events = [];
                const url = "/models/sst2-minilm";
                const outcome = await window.outcome(window.load({ url, backend: "cpu" }).then((model) => model.dispose()));
                return { outcome, notes: window.notes, fromCache: window.events.every((event) => event.stage !== "load" || event.fromCache) };
            });
        await load();
        server.answers.set(path, (_, response) => response.writeHead(503).end());
        try {
            assert.deepEqual(await load(), { outcome: "ok", notes: [], fromCache: true });
            await page.evaluate(() => caches.delete("sttabt"));
            const { outcome } = await load();
            assert.match(outcome, /^network: .*manifest\.json: HTTP 503/);
        } finally {
            server.answers.set(path, answer);
        }
    }));

test("the manifest's command runs through npm's link", () => {
    const folder = mkdtempSync(join(tmpdir(), "sttabt-"));
    try {
        cpSync(`${root}tests/fixtures/tiny-bert`, join(folder, "model"), { recursive: true });
        symlinkSync(`${root}web/manifest.mjs`, join(folder, "sttabt-manifest"));
        execFileSync(process.execPath, [join(folder, "sttabt-manifest"), join(folder, "model")]);
        const { files } = JSON.parse(readFileSync(join(folder, "model", "manifest.json"), "utf8"));
        const weights = readFileSync(join(folder, "model", "model.safetensors"));
        assert.equal(files["model.safetensors"].sha256, createHash("sha256").update(weights).digest("hex"));
    } finally {
        rmSync(folder, { recursive: true });
    }
});

/** Tells the WebAssembly's memory in bytes, as it began and as it is, to whoever asks. */
const MEMORY_SPY = `
    for (const name of ["instantiate", "instantiateStreaming"]) {
        const given = WebAssembly[name];
        WebAssembly[name] = async (...all) => {
            const made = await given.apply(WebAssembly, all);
            const { memory } = (made.instance ?? made).exports;
            const first = memory.buffer.byteLength;
            new BroadcastChannel("ask").onmessage = () => new BroadcastChannel("tell").postMessage([first, memory.buffer.byteLength]);
            return made;
        };
    }
`;

test("weights are in memory about twice on the CPU, and once for a GPU", () =>
    withPage(async (page) => {
        const script = readFileSync(`${root}web/dist/worker.js`, "utf8");
        server.answers.set("/package/worker.js", (_, response) =>
            response.writeHead(200, { "content-type": "text/javascript" }).end(`${MEMORY_SPY}\n${script}`),
        );
        const load = (model, backend) =>
            page.evaluate(
                async (url, backend) => {
                    const model = await window.load({ url, backend });
                    const told = new Promise((resolve) => (new BroadcastChannel("tell").onmessage = ({ data }) => resolve(data)));
                    new BroadcastChannel("ask").postMessage("");
                    const [first, now] = await told;
                    model.dispose();
                    return now - first;
                },
                `/models/${model}`,
                backend,
            );
        try {
            for (const [model, backend, limit] of [
                ["sst2-minilm", "cpu", 1.8],
                ["deit-tiny", "cpu", 2.1],
                ["deit-tiny", "gpu", 1.4],
            ]) {
                const weights = ["model.safetensors", "approx/model.safetensors"];
                const bytes = weights.reduce((sum, file) => sum + statSync(`${root}models/${model}/${file}`).size, 0);
                const share = (await load(model, backend)) / bytes;
                assert.ok(share > 1 && share < limit, `${model} on ${backend}: ${share.toFixed(2)} times the weights' bytes`);
            }
        } finally {
            server.answers.delete("/package/worker.js");
        }
    }));

test("a damaged cache entry is fetched anew", () =>
    withPage(async (page) => {
        const notes = await page.evaluate(async () => {
            const url = "/models/sst2-minilm";
            (await window.load({ url, backend: "cpu" })).dispose();
            const cache = await caches.open("sttabt");
            const { files } = await (await fetch(`${url}/manifest.json`)).json();
            const { sha256, bytes } = files["config.json"];
            await cache.put(`/sttabt-cache/${sha256}`, new Response("x".repeat(bytes)));
            window.notes = [];
            const model = await window.load({ url, backend: "cpu" });
            await model.classify("fine");
            model.dispose();
            return window.notes;
        });
        assert.match(notes.join("\n"), /config\.json: the cached copy is damaged, and is fetched anew/);
    }));

const BAD_MODELS = [
    {
        name: "wrong URL",
        answers: { "manifest.json": null, "config.json": null },
        error: /network: .*\/models\/bad\/config\.json: HTTP 404/,
    },
    { name: "truncated weights", weights: (bytes) => bytes.subarray(0, 1000), error: /model: .*1000 bytes, the manifest says \d+/ },
    {
        name: "changed weights",
        weights: (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1) ^ 1])]),
        error: /model: .*SHA-256 is [0-9a-f]{64}, the manifest says [0-9a-f]{64}/,
    },
    {
        name: "damaged weights under a true manifest",
        weights: () => Buffer.from("not safetensors"),
        isTrue: true,
        error: /model: model\.safetensors: /,
    },
    { name: "a manifest that is none", answers: { "manifest.json": "{" }, error: /model: .*manifest\.json: / },
    {
        name: "a manifest of other files",
        answers: { "manifest.json": '{"files":{"../secret":{"bytes":1,"sha256":""}}}' },
        error: /`\.\.\/secret` is no file of a model folder/,
    },
];

test("bad models give an error that names the file", () =>
    withPage(async (page) => {
        for (const { name, answers = {}, weights, isTrue, error } of BAD_MODELS) {
            await page.evaluate(() => caches.delete("sttabt"));
            const { files } = await manifest(`${root}models/deit-tiny`);
            const bodies = {};
            for (const file of Object.keys(files)) bodies[file] = readFileSync(`${root}models/deit-tiny/${file}`);
            if (weights) bodies["model.safetensors"] = weights(bodies["model.safetensors"]);
            if (isTrue) {
                const bytes = bodies["model.safetensors"];
                const sha256 = createHash("sha256").update(bytes).digest("hex");
                files["model.safetensors"] = { bytes: bytes.length, sha256 };
            }
            bodies["manifest.json"] = JSON.stringify({ files });
            for (const [file, body] of Object.entries({ ...bodies, ...answers })) {
                server.answers.set(`/models/bad/${file}`, (_, response) =>
                    body === null ? response.writeHead(404).end("no") : response.writeHead(200).end(body),
                );
            }
            const outcome = await page.evaluate(() => window.outcome(window.load({ url: "/models/bad", backend: "cpu" })));
            assert.match(outcome, error, name);
        }
        const kept = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/deit-tiny", backend: "cpu" });
            model.dispose();
            return (await (await caches.open("sttabt")).keys()).length;
        });
        assert.ok(kept > 0, "after all that, a good model loads");
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
            /the image: not a PNG, JPEG or WebP image/,
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
            /^input: notes\.txt: not a PNG, JPEG or WebP image/,
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
        assert.match(found.notes.join("\n"), /running on the CPU: no adapter that is hardware; found: .*software/);
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
            assert.match(found.notes.join("\n"), /running on the CPU: no adapter/);
            assert.match(found.forced, /^device: no adapter/);
        }, without);
    } finally {
        await without.close();
    }
});

test("an insecure context is named", () =>
    withPage(
        async (page) => {
            const found = await page.evaluate(async () => {
                const model = await window.load({ url: "/models/sst2-minilm" });
                const { label } = await model.classify("a gripping film");
                model.dispose();
                const forced = await window.outcome(window.load({ url: "/models/sst2-minilm", backend: "gpu" }));
                return { isSecure: window.isSecureContext, label, notes: window.notes, forced };
            });
            assert.equal(found.isSecure, false);
            assert.equal(found.label, "positive");
            assert.match(found.notes.join("\n"), /not a secure context/);
            assert.match(found.forced, /^insecure: WebGPU needs a secure context/);
        },
        browser,
        INSECURE_HOST,
    ));

test("a full storage quota leaves the model usable", { skip: browserName !== "chromium" && "only Chromium can set a quota" }, () =>
    withPage(async (page) => {
        const session = await page.createCDPSession();
        const quota = (size) => session.send("Storage.overrideQuotaForOrigin", { origin: server.url, ...size });
        await page.evaluate(() => caches.delete("sttabt"));
        await quota({ quotaSize: 1_000_000 });
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            const { label } = await model.classify("a gripping film");
            model.dispose();
            return { label, notes: window.notes };
        });
        await quota({});
        assert.equal(found.label, "positive");
        assert.match(found.notes.join("\n"), /model\.safetensors .*is not cached: the browser's storage quota for this site is used up/);
    }));

test("no page had an error, and no request left the origin", () => assert.deepEqual(problems, []));
