// Loading a model with the npm package: the network, the cache, damaged files, memory: `node package-load.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { manifest } from "../../web/manifest.mjs";
import { native, root } from "./native.mjs";
import { browser, browserName, INSECURE_HOST, json, open, problems, server, withPage } from "./package-page.mjs";

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

test("a model is made int8 as the command does it, and both devices compute with it", () =>
    withPage(async (page) => {
        const folder = mkdtempSync(join(tmpdir(), "sttabt-"));
        const run = (...args) => spawnSync(process.execPath, [`${root}web/quantize.mjs`, ...args], { encoding: "utf8" });
        const [source, out, expected] = [`${root}tests/fixtures/tiny-bert`, join(folder, "new", "int8"), join(folder, "expected")];
        try {
            assert.deepEqual(run(source, out).stdout, `${out}\n`);
            execFileSync(`${root}target/release/sttabt`, ["quantize", "--model", source, "--out", expected]);
            const files = readdirSync(out, { recursive: true }).filter((name) => statSync(join(out, name)).isFile());
            const names = files.filter((name) => name !== "manifest.json");
            assert.ok(names.includes("approx/model.safetensors"), `${files}`);
            for (const name of names) assert.deepEqual(readFileSync(join(out, name)), readFileSync(join(expected, name)), name);
            assert.deepEqual(readdirSync(join(folder, "new")), ["int8"], "nothing is left beside it");
            for (const [args, message] of [
                [[source, out], `error: ${out} is there already\n`],
                [[out, join(folder, "again")], `error: ${out}: config.json: \`quantization_config\` is sttabt-int8 already: the weights are int8\n`],
                [[folder, join(folder, "again")], `error: ${folder}: no config.json\n`],
                [[source], "usage: sttabt-quantize FOLDER OUT\n"],
            ]) {
                assert.equal(run(...args).stderr, message);
            }
            for (const name of files) {
                const bytes = readFileSync(join(out, name));
                server.answers.set(`/int8/${name}`, (_, response) => response.writeHead(200).end(bytes));
            }
            const text = "w51 w41 w11 w19 w70";
            // A browser without relaxed SIMD takes another file, which gives the same.
            const worker = readFileSync(`${root}web/dist/worker.js`);
            const without = `WebAssembly.validate = () => false;\n${worker}`;
            const logitsOnCpu = [];
            for (const [backend, file, script] of [
                ["cpu", "sttabt_web_relaxed_bg.wasm", worker],
                ["cpu", "sttabt_web_bg.wasm", without],
                ["gpu", "sttabt_web_relaxed_bg.wasm", worker],
            ]) {
                server.answers.set("/package/worker.js", (_, response) =>
                    response.writeHead(200, { "content-type": "text/javascript", "cache-control": "no-store" }).end(script),
                );
                server.requests.length = 0;
                const found = await page.evaluate(
                    async (text, backend) => {
                        const model = await window.load({ url: "/int8", backend });
                        const { logits } = await model.classify(text, { prune: { rule: "dense" } });
                        const dtype = model.info.weightsDtype;
                        model.dispose();
                        return { logits, dtype };
                    },
                    text,
                    backend,
                );
                const [{ logits }] = native("--model", out, "--prune", "dense", text);
                assert.equal(found.dtype, "int8");
                const wasm = server.requests.filter((path) => path.endsWith(".wasm"));
                assert.deepEqual(wasm, [`/package/wasm/${file}`]);
                if (backend === "cpu") logitsOnCpu.push(found.logits);
                // Inputs between two whole numbers may become either.
                found.logits.forEach((logit, index) => assert.ok(Math.abs(logit - logits[index]) < 0.05, `${backend}: ${found.logits}, not ${logits}`));
            }
            assert.deepEqual(logitsOnCpu[0], logitsOnCpu[1]);
        } finally {
            server.answers.delete("/package/worker.js");
            for (const path of server.answers.keys()) if (path.startsWith("/int8/")) server.answers.delete(path);
            rmSync(folder, { recursive: true });
        }
    }));

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

test("weights are in memory little more than once", () =>
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
                ["sst2-minilm", "cpu", 1.5],
                ["deit-tiny", "cpu", 1.5],
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
        name: "a manifest without a hash",
        answers: { "manifest.json": '{"files":{"config.json":{"bytes":1,"sha256":""}}}' },
        error: /`config\.json`: `sha256` is "", expected 64 hexadecimal digits/,
    },
    {
        name: "a manifest of other files",
        answers: { "manifest.json": `{"files":{"../secret":{"bytes":1,"sha256":"${"0".repeat(64)}"}}}` },
        error: /model: config\.json: missing/,
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

/** tiny-bert as a folder of the hub: the weights of an index, and files that no model is read from. */
function hubFiles() {
    const folder = `${root}tests/fixtures/tiny-bert`;
    const names = ["config.json", "tokenizer.json", "approx/config.json", "approx/model.safetensors"];
    const files = Object.fromEntries(names.map((name) => [name, readFileSync(`${folder}/${name}`)]));
    const weights = readFileSync(`${folder}/model.safetensors`);
    const header = JSON.parse(weights.subarray(8, 8 + Number(weights.readBigUInt64LE())));
    delete header.__metadata__;
    const map = Object.keys(header).map((name) => [name, "model-00001-of-00001.safetensors"]);
    files["model.safetensors.index.json"] = Buffer.from(JSON.stringify({ weight_map: Object.fromEntries(map) }));
    files["model-00001-of-00001.safetensors"] = weights;
    for (const name of ["README.md", ".gitattributes", "training_args.bin"]) files[name] = Buffer.from("other things");
    return files;
}

/** A folder on the server without a manifest. */
function answerWith(folder, files) {
    for (const [name, body] of Object.entries(files)) {
        server.answers.set(`/models/${folder}/${name}`, (_, response) => response.writeHead(200).end(body));
    }
}

/** Loads files that the page has fetched itself. */
const loadFiles = (page, folder, names) =>
    page.evaluate(
        async (folder, names) => {
            window.notes = [];
            const blobs = names.map(async (name) => [name, await (await fetch(`/models/${folder}/${name}`)).blob()]);
            const files = Object.fromEntries(await Promise.all(blobs));
            const load = async () => {
                const model = await window.load({ files, backend: "cpu" });
                const { logits, kept } = await model.classify("w5 w6 w7", { prune: { rule: "topk", ratio: 0.5 } });
                model.dispose();
                window.answer = { logits, kept };
            };
            return { outcome: await window.outcome(load()), notes: window.notes, answer: window.answer };
        },
        folder,
        names,
    );

test("a folder of the hub loads, by its URL and as files", () =>
    withPage(async (page) => {
        const files = hubFiles();
        answerWith("hub", files);
        const plain = { ...files, "model.safetensors": files["model-00001-of-00001.safetensors"] };
        answerWith("plain", plain);
        const expected = await loadFiles(page, "plain", Object.keys(plain).filter((name) => !/README|^\.|index|of-0|args/.test(name)));
        assert.deepEqual([expected.outcome, expected.notes], ["ok", []]);
        const found = await loadFiles(page, "hub", Object.keys(files));
        assert.deepEqual([found.outcome, found.answer], ["ok", expected.answer]);
        assert.deepEqual(found.notes, ["files that no model is read from are left out: README.md, .gitattributes, training_args.bin"]);
        const byUrl = await page.evaluate(async () => {
            window.events = [];
            const model = await window.load({ url: "/models/hub", backend: "cpu" });
            const { logits, kept } = await model.classify("w5 w6 w7", { prune: { rule: "topk", ratio: 0.5 } });
            model.dispose();
            return { answer: { logits, kept }, last: window.events.at(-1), files: [...new Set(window.events.map(({ file }) => file))] };
        });
        assert.deepEqual(byUrl.answer, expected.answer);
        assert.equal(byUrl.last.loadedBytes, byUrl.last.totalBytes);
        assert.ok(byUrl.files.includes("model-00001-of-00001.safetensors"), byUrl.files.join());
        const { outcome } = await loadFiles(page, "hub", Object.keys(files).filter((name) => !name.includes("of-0")));
        assert.match(outcome, /^model: model-00001-of-00001\.safetensors: missing, and model\.safetensors\.index\.json names it/);
    }));

test("PyTorch's file is refused, and not loaded", () =>
    withPage(async (page) => {
        const files = hubFiles();
        for (const name of Object.keys(files)) if (/^model/.test(name)) delete files[name];
        files["pytorch_model.bin"] = Buffer.concat([Buffer.from("PK\x03\x04"), Buffer.alloc(40_000_000)]);
        answerWith("torch", files);
        const expected = /^model: pytorch_model\.bin: a pickle of PyTorch's, which is not read here: `sttabt convert DIR`/;
        assert.match((await loadFiles(page, "torch", Object.keys(files))).outcome, expected);
        const byUrl = await page.evaluate(async () => {
            window.events = [];
            const outcome = await window.outcome(window.load({ url: "/models/torch", backend: "cpu" }));
            return { outcome, bytes: Math.max(...window.events.map(({ loadedBytes }) => loadedBytes)) };
        });
        assert.match(byUrl.outcome, expected);
        assert.ok(byUrl.bytes < 20_000_000, `${byUrl.bytes} bytes`);
    }));

test("the manifest names what a model is read from", async () => {
    const folder = mkdtempSync(join(tmpdir(), "sttabt-"));
    try {
        for (const [name, body] of Object.entries(hubFiles())) {
            mkdirSync(join(folder, name, ".."), { recursive: true });
            writeFileSync(join(folder, name), body);
        }
        const names = Object.keys((await manifest(folder)).files).sort();
        const expected = Object.keys(hubFiles()).filter((name) => !/README|^\.|args/.test(name));
        assert.deepEqual(names, expected.sort());
        rmSync(join(folder, "model-00001-of-00001.safetensors"));
        await assert.rejects(manifest(folder), /no model-00001-of-00001\.safetensors, which model\.safetensors\.index\.json names/);
        rmSync(join(folder, "model.safetensors.index.json"));
        await assert.rejects(manifest(folder), /no model\.safetensors/);
        writeFileSync(join(folder, "pytorch_model.bin"), "PK");
        await assert.rejects(manifest(folder), /pytorch_model\.bin is not read by the package; `sttabt convert`/);
    } finally {
        rmSync(folder, { recursive: true });
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
