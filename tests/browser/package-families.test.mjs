// Some families and heads in the npm package, against transformers' numbers: `node package-families.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { root } from "./native.mjs";
import { problems, withPage } from "./package-page.mjs";

/** Every so many cases of a family, and where; software adapters take long to compile what is new to them. */
const SAMPLES = {
    "bert-multilabel": { step: 6, backends: ["cpu"] },
    "bert-embed-cls": { step: 6, backends: ["cpu"] },
    distilbert: { step: 6, backends: ["cpu"] },
    roberta: { step: 6, backends: ["cpu", "gpu"] },
    "xlm-roberta": { step: 6, backends: ["cpu"] },
    electra: { step: 6, backends: ["cpu", "gpu"] },
    "deit-distilled": { step: 2, backends: ["cpu", "gpu"] },
    "dinov2-embed": { step: 2, backends: ["cpu"] },
};
const RULES = { dense: "dense", topk: "topk", oracle_topk: "oracle" };

for (const [family, { step, backends }] of Object.entries(SAMPLES)) {
    test(`${family} gives what transformers gives`, () =>
        withPage(async (page) => {
            const { cases } = JSON.parse(readFileSync(`${root}tests/fixtures/families/${family}/cases.json`, "utf8"));
            const calls = cases
                .filter((_, index) => index % step === 0)
                .flatMap(({ input, runs }) => runs.map((run) => ({ input, run, rule: { rule: RULES[run.mode], ...(run.ratios && { ratio: run.ratios }) } })));
            const found = await page.evaluate(
                async (url, backends, calls) => {
                    const all = [];
                    for (const backend of backends) {
                        const model = await window.load({ url, backend });
                        for (const { input, rule } of calls) {
                            const { text, text_pair: pair, image } = input;
                            const given = image ? await window.fetchBlob(`${url}/${image}`, image) : pair ? [text, pair] : text;
                            const call = model.info.task === "embedding" ? "embed" : "classify";
                            const { embedding, logits, kept, inputIds, labels, probs } = await model[call](given, { prune: rule });
                            all.push({ backend, task: model.info.task, numbers: embedding ?? logits, kept, inputIds, labels, probs });
                        }
                        model.dispose();
                    }
                    return all;
                },
                `/families/${family}`,
                backends,
                calls,
            );
            assert.equal(found.length, backends.length * calls.length);
            found.forEach(({ backend, task, numbers, kept, inputIds, labels, probs }, index) => {
                const { input, run } = calls[index % calls.length];
                const what = `${backend}: ${JSON.stringify(input).slice(0, 60)} under ${run.mode}`;
                assert.deepEqual(inputIds, input.input_ids ?? [], what);
                assert.deepEqual(kept, run.kept, what);
                const expected = run.embedding ?? run.logits;
                assert.equal(numbers.length, expected.length, what);
                numbers.forEach((number, place) => {
                    const far = Math.abs(number - expected[place]);
                    assert.ok(far <= 1e-4 * (1 + Math.abs(expected[place])), `${what}: ${number}, not ${expected[place]}`);
                });
                if (task === "multi_label") assert.equal(labels.length, probs.filter((prob) => prob >= 0.5).length, what);
            });
        }));
}

test("a call for another head says which to make", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const embedder = await window.load({ url: "/families/bert-embed-cls", backend: "cpu" });
            const classifier = await window.load({ url: "/families/distilbert", backend: "cpu" });
            const outcomes = [
                await window.outcome(embedder.classify("a")),
                await window.outcome(classifier.embed("a")),
                await window.outcome(classifier.classify("a", { threshold: 0.2 })),
                await window.outcome(classifier.classify("a", { sigmoid: true })),
                await window.outcome(classifier.classify("a", { threshold: 2 })),
            ];
            embedder.dispose();
            classifier.dispose();
            return outcomes;
        });
        assert.deepEqual(found, [
            "input: `classify` needs labels or a score (`embed` gives vectors), and this model is an embedder",
            "input: `embed` needs an embedder (`classify` gives labels), and this model is a single-label classifier",
            "input: `threshold` needs several labels at once (`problem_type` in config.json), and this model is a single-label classifier",
            "input: `sigmoid` needs a single output, and this model is a single-label classifier",
            "input: `threshold` is 2, expected a number from 0 to 1",
        ]);
    }));

test("nothing went wrong on the side", () => assert.deepEqual(problems, []));
