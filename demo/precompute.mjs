// Writes src/precomputed.json: what the command says of the first example, shown before any weights arrive.
//     cargo build --release && node demo/precompute.mjs

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const demo = dirname(fileURLToPath(import.meta.url));
const root = dirname(demo);
const state = readFileSync(join(demo, "src", "state.ts"), "utf8");
const text = /DEFAULT_TEXT = "([^"]+)"/.exec(state)[1];

const sttabt = (...args) => execFileSync(join(root, "target", "release", "sttabt"), args, { cwd: root, encoding: "utf8" });
const folder = mkdtempSync(join(tmpdir(), "precompute-"));
const model = join(folder, "int8");
let report;
try {
    sttabt("quantize", "--model", "models/sst2-minilm", "--out", model);
    report = JSON.parse(sttabt("classify", "--json", "--model", model, "--backend", "cpu", "--prune", "topk:0.3", text));
} finally {
    rmSync(folder, { recursive: true });
}
const [found] = report.results;
const config = JSON.parse(readFileSync(join(root, "models", "sst2-minilm", "config.json"), "utf8"));
const labels = Object.values(config.id2label);

const precomputed = {
    labels,
    result: {
        prune: { rule: "topk", ratio: 0.3 },
        tokens: found.tokens,
        inputIds: found.input_ids,
        grid: null,
        numTokens: found.num_tokens,
        kept: found.kept,
        layerByLayer: found.layer_by_layer,
        tokenScores: null,
        logits: found.logits,
        probs: found.probs,
        label: found.label,
        labelIndex: found.label_index,
        retention: found.retention,
        truncated: found.truncated,
        flops: found.flops,
        ms: found.ms,
        resized: null,
    },
};
writeFileSync(join(demo, "src", "precomputed.json"), `${JSON.stringify(precomputed, null, 4)}\n`);
