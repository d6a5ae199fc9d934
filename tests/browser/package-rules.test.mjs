// The package's rules are the core's: their list, what a model lacks for them, thresholds: `node package-rules.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { native } from "./native.mjs";
import { problems, withPage } from "./package-page.mjs";

const SENTENCE = "it looks beautiful, but the story is dull and I was bored after ten minutes";
const MAX_LOGIT_DIFFERENCE = 1e-3;

test("the package has the core's list of rules, and a model says what it lacks for them", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const folder = "/models/sst2-minilm";
            const names = ["config.json", "model.safetensors", "tokenizer.json"];
            const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await window.fetchBlob(`${folder}/${name}`, name)])));
            const bare = await window.load({ files, backend: "cpu" });
            const whole = await window.load({ url: folder, backend: "cpu" });
            const said = await window.outcome(whole.classify("fine", { prune: { rule: "best" } }));
            const rules = ["dense", "topk:0.5", "forward:0.5,0.25", "ltp:0.01", "ltp", "auto", "auto:topk:0.5"];
            const empty = await window.outcome(whole.classify("fine", { prune: window.parseRule("ltp:0.01,") }));
            const texts = rules.map((text) => [window.parseRule(text), window.ruleText(window.parseRule(text))]);
            const lacks = ({ info }) => info.rules.map(({ name, lacks }) => [name, lacks ?? null]);
            const found = { rules: window.RULES, said, empty, texts, bare: lacks(bare), whole: lacks(whole) };
            bare.dispose();
            whole.dispose();
            return found;
        });
        const names = found.rules.map(({ name }) => name);
        const listed = /expected (.*) \(R:/.exec(found.said)[1].split(/, | or /).map((syntax) => /^\w+/.exec(syntax)[0]);
        assert.deepEqual(names, listed);
        assert.deepEqual(new Set(found.rules.map(({ argument }) => argument)), new Set(["none", "ratios", "thresholds"]));
        assert.ok(found.rules.every(({ about }) => about.length > 20 && !about.endsWith(".")));
        assert.deepEqual(found.texts, [
            [{ rule: "dense" }, "dense"],
            [{ rule: "topk", ratio: 0.5 }, "topk:0.5"],
            [{ rule: "forward", ratio: [0.5, 0.25] }, "forward:0.5,0.25"],
            [{ rule: "ltp", threshold: 0.01 }, "ltp:0.01"],
            [{ rule: "ltp" }, "ltp"],
            [{ rule: "auto" }, "auto"],
            [{ rule: "auto", of: { rule: "topk", ratio: 0.5 } }, "auto:topk:0.5"],
        ]);
        // An empty number is none, and not 0.
        assert.match(found.empty, /threshold NaN is out of range/);
        assert.deepEqual([found.bare, found.whole].map((rules) => rules.map(([name]) => name)), [names, names]);
        const [bare, whole] = [found.bare, found.whole].map(Object.fromEntries);
        assert.equal(bare.topk, "an ApproxNet (folder approx/)");
        assert.deepEqual([bare.dense, bare.forward, whole.topk, whole.concrete], [null, null, null, null]);
    }));

for (const backend of ["gpu", "cpu"]) {
    test(`${backend}: thresholds of received attention give what the command gives`, () =>
        withPage(async (page) => {
            const thresholds = [0.03, [0.04, 0.03, 0.02, 0.02, 0.01, 0]];
            const found = await page.evaluate(
                async (backend, sentence, thresholds) => {
                    const model = await window.load({ url: "/models/sst2-minilm", backend });
                    const results = [];
                    for (const threshold of thresholds) {
                        const result = await model.classify(sentence, { prune: { rule: "ltp", threshold } });
                        results.push({ ...result, why: await result.why(0, 1) });
                    }
                    const { layerByLayer } = await model.classify(sentence, { prune: { rule: "topk", ratio: 0.5 } });
                    model.dispose();
                    return { results, layerByLayer };
                },
                backend,
                SENTENCE,
                thresholds,
            );
            assert.equal(found.layerByLayer, false);
            found.results.forEach((result, index) => {
                const text = `ltp:${[thresholds[index]].flat().join(",")}`;
                const [expected] = native("--prune", text, SENTENCE);
                assert.deepEqual([result.kept, result.flops, result.label], [expected.kept, expected.flops, expected.label], text);
                result.logits.forEach((logit, at) => assert.ok(Math.abs(logit - expected.logits[at]) <= MAX_LOGIT_DIFFERENCE, `${text}: ${result.logits}`));
                assert.deepEqual(result.prune, { rule: "ltp", threshold: thresholds[index] });
                assert.equal(result.layerByLayer, true);
                assert.equal(result.why.score, result.tokenScores[0][1], text);
                assert.equal(result.why.kept, result.kept[1].includes(1), text);
            });
            assert.ok(found.results[0].kept[5].length < found.results[0].numTokens, "something is removed");
        }));
}

test("no page had an error, and no request left the origin", () => assert.deepEqual(problems, []));
