#!/usr/bin/env node
// Times onnxruntime-web in turn with sttabt's package, in one page of one browser. See README.md.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { launch } from "../../tests/browser/launch.mjs";
import { serve } from "../../tests/browser/server.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
/** The dense logits of all engines are within this of ours in f16 or f32, or they do not compute the same model. */
const TOLERANCE = { float: 1e-2, int8: 1.5 };

const { values: args } = parseArgs({
    options: {
        model: { type: "string", default: resolve(root, "models/sst2-minilm") },
        onnx: { type: "string" },
        "int8-model": { type: "string" },
        "int8-onnx": { type: "string" },
        backend: { type: "string", default: "cpu" },
        prune: { type: "string", default: "dense;topk:0.5;topk:0.3" },
        tokens: { type: "string", default: "32,128" },
        rounds: { type: "string", default: "10" },
        browser: { type: "string", default: "chromium" },
        "without-relaxed-simd": { type: "boolean", default: false },
        json: { type: "string" },
    },
});
const numRounds = Number(args.rounds);
const isInt8 = Boolean(args["int8-model"]);
if (!args.onnx || isInt8 !== Boolean(args["int8-onnx"]) || !["cpu", "gpu"].includes(args.backend) || !Number.isInteger(numRounds) || numRounds < 1) {
    console.error("usage: web.mjs --onnx MODEL.onnx [--model DIR] [--int8-onnx MODEL.onnx --int8-model DIR] [--backend cpu|gpu]");
    console.error("              [--prune RULE;RULE] [--tokens N,N] [--rounds N] [--browser chromium|firefox] [--without-relaxed-simd] [--json OUT]");
    process.exit(2);
}

/** A text of so many tokens, as peers.py makes it. */
function text(tokens) {
    const lines = readFileSync(resolve(args.model, "vocab.txt"), "utf8").split("\n");
    const words = lines.filter((line) => /^[a-zA-Z][a-zA-Z0-9]+$/.test(line)).slice(0, 64);
    return Array.from({ length: tokens - 2 }, (_, place) => words[place % words.length]).join(" ");
}

/** In the page: both engines with each kind of weights; our adapter. */
async function load(weights, backend) {
    const executionProviders = [backend === "gpu" ? "webgpu" : "wasm"];
    window.models = {};
    window.sessions = {};
    for (const [kind, { model, onnx }] of Object.entries(weights)) {
        window.models[kind] = await window.Sttabt.load({ url: model, backend });
        window.sessions[kind] = await window.ort.InferenceSession.create(onnx, { executionProviders, graphOptimizationLevel: "all" });
    }
    return window.models.float.backend.adapter;
}

/** In the page: what every engine is given, and that they agree on it. */
async function prepare(text, rules, { image_mean: mean, image_std: std }) {
    const noise = new Uint8ClampedArray(224 * 224 * 4).map((_, at) => (at % 4 === 3 ? 255 : (at * 2654435761) >>> 24));
    const input = text ?? new ImageData(noise, 224, 224);
    const first = await window.models.float.classify(input, { prune: { rule: "dense" } });
    let values;
    if (text) {
        values = new window.ort.Tensor("int64", BigInt64Array.from(first.inputIds, BigInt), [1, first.inputIds.length]);
    } else {
        const { data, width, height } = first.resized;
        const plane = width * height;
        const pixels = Float32Array.from({ length: 3 * plane }, (_, at) => {
            const channel = Math.floor(at / plane);
            return (data[4 * (at % plane) + channel] / 255 - mean[channel]) / std[channel];
        });
        values = new window.ort.Tensor("float32", pixels, [1, 3, height, width]);
    }
    const engines = {};
    const last = {};
    const differences = [];
    const farthest = (logits) => Math.max(...logits.map((logit, index) => Math.abs(logit - first.logits[index])));
    for (const kind of Object.keys(window.models)) {
        const theirs = async () => [...(await window.sessions[kind].run({ values })).logits.data];
        engines[`${kind} onnxruntime`] = theirs;
        for (const name of rules) {
            const prune = window.parseRule(name);
            const key = `${kind} ${name}`;
            engines[key] = async () => (last[key] = await window.models[kind].classify(input, { prune })).logits;
        }
        const ours = await window.models[kind].classify(input, { prune: { rule: "dense" } });
        differences.push([kind, farthest(await theirs())], [kind, farthest(ours.logits)]);
    }
    window.engines = engines;
    window.last = last;
    return { differences, tokens: first.numTokens, flops: first.flops };
}

/** In the page: one call of each engine, each after one that warms the caches. A call of its own, since the driver gives each three minutes. */
async function time(turn) {
    const names = Object.keys(window.engines);
    const ms = {};
    for (const name of [...names.slice(turn % names.length), ...names.slice(0, turn % names.length)]) {
        await window.engines[name]();
        const start = performance.now();
        await window.engines[name]();
        ms[name] = performance.now() - start;
    }
    return ms;
}

/** In the page: FLOPs and retention of the last call of every rule. */
function costs() {
    return Object.fromEntries(Object.entries(window.last).map(([name, { flops, retention }]) => [name, { flops, retention }]));
}

function summary(model, tokens, { name, ms, flops, retention }) {
    const sorted = ms.toSorted((one, other) => one - other);
    const at = (share) => sorted[Math.ceil(share * sorted.length) - 1];
    const times = { min: sorted[0], median: at(0.5), p90: at(0.9) };
    const [kind, rule] = name.split(" ");
    const weights = kind === "int8" ? " int8" : "";
    const provider = args.backend === "gpu" ? "webgpu" : "wasm";
    const [backend, prune] = rule === "onnxruntime" ? [`onnxruntime-web ${provider}${weights}`, "dense"] : [`${args.backend}${weights}`, rule];
    const total = flops.approx + flops.pruned;
    return {
        model,
        backend,
        prune,
        batch: 1,
        tokens,
        rounds: ms.length,
        ms: times,
        stages_ms: {},
        flops: { dense: flops.dense, pruned: flops.pruned, approx: flops.approx, total },
        retention,
        gflops_per_s: total / times.median / 1e6,
    };
}

/** onnxruntime first, then our rules as they were given; f32 before int8. */
const order = (name) => (name.startsWith("int8") ? 1 : 0) + (name.endsWith("onnxruntime") ? 0 : 2);
const byKind = (one, other) => order(one) - order(other);

const dist = resolve(here, "node_modules/onnxruntime-web");
const ours = resolve(root, process.env.STTABT_PACKAGE ?? "web/dist");
const server = await serve({
    "/": `${here}/`,
    "/package/": `${ours}/`,
    "/model/": `${resolve(args.model)}/`,
    "/ort/": `${dist}/dist/`,
    "/onnx/": `${dirname(resolve(args.onnx))}/`,
    "/int8-model/": `${resolve(args["int8-model"] ?? args.model)}/`,
    "/int8-onnx/": `${dirname(resolve(args["int8-onnx"] ?? args.onnx))}/`,
});
if (args["without-relaxed-simd"]) {
    const wasm = readFileSync(`${ours}/wasm/sttabt_web_bg.wasm`);
    server.answers.set("/package/wasm/sttabt_web_relaxed_bg.wasm", (_, response) =>
        response.writeHead(200, { "content-type": "application/wasm" }).end(wasm),
    );
}
const weights = { float: { model: "/model", onnx: `/onnx/${basename(args.onnx)}` } };
if (isInt8) weights.int8 = { model: "/int8-model", onnx: `/int8-onnx/${basename(args["int8-onnx"])}` };
const browser = await launch(args.browser);
const runs = [];
let adapter;
try {
    const page = await browser.newPage();
    await page.goto(`${server.url}web.html${args.backend === "gpu" ? "?gpu" : ""}`);
    await page.waitForFunction("window.isReady", { timeout: 60_000 });
    adapter = await page.evaluate(load, weights, args.backend);
    const model = basename(resolve(args.model));
    const preprocessor = resolve(args.model, "preprocessor_config.json");
    const config = existsSync(preprocessor) ? JSON.parse(readFileSync(preprocessor, "utf8")) : {};
    const isText = JSON.parse(readFileSync(resolve(args.model, "config.json"), "utf8")).model_type === "bert";
    for (const tokens of isText ? args.tokens.split(",").map(Number) : [null]) {
        const rules = args.prune.split(";");
        const found = await page.evaluate(prepare, tokens && text(tokens), rules, config);
        for (const [kind, difference] of found.differences) {
            if (!(difference < TOLERANCE[kind])) throw new Error(`the engines do not compute the same logits: they differ by ${difference} (${kind})`);
        }
        const rounds = [];
        for (let turn = 0; turn < numRounds; turn++) rounds.push(await page.evaluate(time, turn));
        const last = await page.evaluate(costs);
        const these = Object.keys(rounds[0]).sort(byKind).map((name) => {
            const { flops, retention } = last[name] ?? { flops: found.flops, retention: 1 };
            return summary(model, found.tokens, { name, ms: rounds.map((ms) => ms[name]), flops, retention });
        });
        runs.push(...these);
        console.log(`${model}, 1 x ${found.tokens} tokens, ${numRounds} rounds, ${await browser.version()}, ${adapter}`);
        const theirs = these.filter(({ backend }) => backend.startsWith("onnxruntime"));
        const titles = theirs.map(({ backend }) => `   speed of ${backend}, by min and median`).join("");
        console.log(`${"engine".padEnd(32)}    min ms    median${titles}`);
        for (const { backend, prune, ms } of these) {
            const ratios = theirs.flatMap((their) => ["min", "median"].map((what) => `${(their.ms[what] / ms[what]).toFixed(2)} x`.padStart(10)));
            console.log(`${`${backend} ${prune}`.padEnd(32)}${ms.min.toFixed(1).padStart(10)}${ms.median.toFixed(1).padStart(10)}${ratios.join("")}`);
        }
        console.log("");
    }
} finally {
    const version = await browser.version();
    await browser.close();
    await server.close();
    if (args.json && runs.length > 0) {
        const versions = { browser: version, "onnxruntime-web": JSON.parse(readFileSync(`${dist}/package.json`, "utf8")).version };
        const environment = { adapter: [adapter], driver: [""], cpu: os.cpus()[0]?.model ?? "", cores: os.cpus().length, threads: 1, os: os.platform(), arch: os.arch(), versions };
        writeFileSync(args.json, `${JSON.stringify({ environment, runs }, null, 2)}\n`);
    }
}
