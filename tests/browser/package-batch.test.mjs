// Several inputs in one call of the npm package, and `auto`: `node package-batch.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { problems, withPage } from "./package-page.mjs";

const { sentences: SENTENCES } = JSON.parse(readFileSync(new URL("inputs.json", import.meta.url), "utf8"));
const PHOTOS = ["chelsea.png", "coffee.png", "rocket.jpg"];
const TEXTS = [SENTENCES[1], ["a gripping film", "and a dull one"], "one", SENTENCES[1], SENTENCES[8]];
const TEXT_RULES = { gpu: ["topk:0.5", "concrete"], cpu: ["dense", "topk:0.5", "concrete", "oracle:0.4", "forward:0.4"] };

/** For each rule, results of all inputs in one call, then of each alone; the names of photographs stand for their files. */
const classifyBoth = (page, model, backend, inputs, rules) =>
    page.evaluate(
        async (url, backend, inputs, rules) => {
            const model = await window.load({ url, backend });
            const toInput = (input) => (model.info.input === "text" ? input : window.fetchBlob(`/photos/${input}`, input));
            const given = await Promise.all(inputs.map(toInput));
            const plain = ({ resized, why: _why, ...rest }) => ({ ...rest, pixels: resized && [...resized.data.slice(0, 4000)] });
            const found = [];
            for (const rule of rules) {
                const prune = window.rule(rule);
                const batch = await model.classifyBatch(given, { prune });
                const alone = [];
                for (const input of given) alone.push(await model.classify(input, { prune }));
                const whys = [];
                for (const result of rule === "dense" ? [] : [batch[1], alone[1]]) whys.push(await result.why(1, 2));
                found.push({ backend: model.backend.backend, batch: batch.map(plain), alone: alone.map(plain), whys });
            }
            model.dispose();
            return found;
        },
        `/models/${model}`,
        backend,
        inputs,
        rules,
    );

function assertAlike(found, inputs, rule) {
    assert.equal(found.batch.length, inputs.length);
    found.batch.forEach((result, index) => {
        const what = `${rule} of \`${inputs[index]}\``;
        const { ms, ...rest } = result;
        const { ms: _, ...restAlone } = found.alone[index];
        // Bit for bit: a row never depends on those beside it.
        assert.deepEqual(rest, restAlone, what);
        assert.ok(ms > 0 && ms === found.batch[0].ms, `${what}: ms is that of the whole batch`);
    });
    assert.deepEqual(found.whys[0], found.whys[1], `why under ${rule}`);
}

for (const backend of ["gpu", "cpu"]) {
    test(`${backend}: a batch gives what each of its texts and pairs gives alone`, () =>
        withPage(async (page) => {
            const rules = TEXT_RULES[backend];
            const all = await classifyBoth(page, "sst2-minilm", backend, TEXTS, rules);
            assert.equal(all.length, rules.length);
            all.forEach((found, index) => {
                assert.equal(found.backend, backend);
                assertAlike(found, TEXTS, rules[index]);
            });
        }));

    test(`${backend}: a batch gives what each of its images gives alone`, () =>
        withPage(async (page) => {
            const [found] = await classifyBoth(page, "deit-tiny", backend, PHOTOS, ["topk:0.3"]);
            assert.equal(found.backend, backend);
            assertAlike(found, PHOTOS, "topk:0.3");
            assert.equal(new Set(found.batch.map(({ label }) => label)).size, PHOTOS.length);
            assert.ok(found.batch.every(({ pixels }) => pixels.some((value) => value !== pixels[0])));
        }));
}

test("an empty batch has no results, and two texts are a batch of two", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            const none = await model.classifyBatch([]);
            const two = await model.classifyBatch(["a gripping film", "a tedious mess"]);
            const pair = await model.classifyBatch([["a gripping film", "a tedious mess"]]);
            const read = (results) => results.map(({ label, numTokens }) => [label, numTokens]);
            model.dispose();
            return { none, two: read(two), numPairs: pair.length, pair: pair[0].tokens };
        });
        assert.deepEqual(found.none, []);
        assert.deepEqual(found.two, [["positive", 5], ["negative", 6]]);
        assert.equal(found.numPairs, 1);
        assert.equal(found.pair.filter((token) => token === "[SEP]").length, 2);
    }));

const NOT_BATCHES = ["a text", null, { length: 1 }];
const BAD_BATCHES = [
    [["fine", "", "fine"], "input 2: the text is empty, expected at least one word"],
    [["fine", ["fine", " "], ["one"]], "input 3: a pair of texts: expected two strings"],
    [["fine", "fine", null], "input 3: expected a text, a pair of texts, a Blob, bytes or ImageData"],
];

test("a bad input is named by its number, and the model goes on", () =>
    withPage(async (page) => {
        const found = await page.evaluate(
            async (notBatches, batches) => {
                const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
                const photo = await window.fetchBlob("/photos/chelsea.png", "chelsea.png");
                const outcome = (inputs, options) => window.outcome(model.classifyBatch(inputs, options));
                const outcomes = [];
                for (const inputs of [...notBatches, ...batches]) outcomes.push(await outcome(inputs));
                outcomes.push(await outcome(new Array(1)), await outcome(["fine", photo]), await outcome(["fine"], { prune: { rule: "best" } }));
                const [{ label }] = await model.classifyBatch(["a gripping film"]);
                model.dispose();
                outcomes.push(await outcome([]));
                return { outcomes, label };
            },
            NOT_BATCHES,
            BAD_BATCHES.map(([inputs]) => inputs),
        );
        const expected = [
            ...NOT_BATCHES.map(() => "a batch: expected an array of inputs"),
            ...BAD_BATCHES.map(([, message]) => message),
            "input 1: expected a text, a pair of texts, a Blob, bytes or ImageData",
            /^input: input 2: an image, but the model classifies texts/,
            /^input: rule `best`: /,
            /^disposed: /,
        ];
        expected.forEach((message, index) => {
            if (message instanceof RegExp) assert.match(found.outcomes[index], message);
            else assert.equal(found.outcomes[index], `input: ${message}`);
        });
        assert.equal(found.label, "positive");
    }));

test("a bad image is named by its number in this batch, and the model goes on", () =>
    withPage(async (page) => {
        const { outcomes, labels } = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/deit-tiny", backend: "cpu" });
            const photo = await window.fetchBlob("/photos/chelsea.png", "chelsea.png");
            const notes = new File(["just words"], "notes.txt");
            const outcomes = [];
            for (const inputs of [[photo, notes], [photo, photo, notes], [new Uint8Array(3)], [photo, "a text"]]) {
                outcomes.push(await window.outcome(model.classifyBatch(inputs)));
            }
            outcomes.push(await window.outcome(model.classify(notes)));
            const labels = (await model.classifyBatch([photo, new ImageData(64, 48), await photo.arrayBuffer()])).map(({ label }) => label);
            model.dispose();
            return { outcomes, labels };
        });
        const expected = [
            /^input: input 2: notes\.txt: not a PNG/,
            /^input: input 3: notes\.txt: not a PNG/,
            /^input: input 1: the image: not a PNG/,
            /^input: input 2: a text, but the model classifies images/,
            /^input: notes\.txt: not a PNG/,
        ];
        expected.forEach((message, index) => assert.match(outcomes[index], message));
        assert.deepEqual([labels[0], labels[2]], ["Egyptian cat", "Egyptian cat"]);
    }));

test("an image is sent once, as long as the calls need no other", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async (names) => {
            const model = await window.load({ url: "/models/deit-tiny", backend: "cpu" });
            const [cat, cup, rocket] = await Promise.all(names.map((name) => window.fetchBlob(`/photos/${name}`, name)));
            const { postMessage } = Worker.prototype;
            let sent = [];
            Worker.prototype.postMessage = function (message) {
                sent.push(...(message.inputs ?? []).filter(({ image }) => image).map(({ image }) => image.name));
                return postMessage.call(this, message);
            };
            const steps = [];
            const step = async (call) => {
                sent = [];
                const value = await call();
                steps.push(sent);
                return value;
            };
            const batch = await step(() => model.classifyBatch([cat, cup, cat]));
            await step(() => batch[1].why(0, 0));
            await step(() => batch[0].why(0, 0));
            await step(() => model.classify(cup));
            await step(() => model.classifyBatch([rocket, cat]));
            await step(() => model.classifyBatch([cat, rocket, cat]));
            await step(() => batch[1].why(0, 0));
            await step(() => model.classify(cup));
            await step(() => model.classifyBatch([cat, cup]));
            Worker.prototype.postMessage = postMessage;
            model.dispose();
            return steps;
        }, PHOTOS);
        const [cat, cup, rocket] = PHOTOS;
        assert.deepEqual(found, [[cat, cup], [], [], [], [rocket], [], [cup], [], [cat]]);
    }));

test("a batch is aborted between layers", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            const texts = Array(8).fill("a long and winding story ".repeat(20));
            const options = { prune: { rule: "dense" } };
            await model.classifyBatch(texts, options);
            const whole = (await model.classifyBatch(texts, options))[0].ms;
            const shares = [];
            let outcome;
            for (let attempt = 0; attempt < 5 && !(shares.at(-1) < 0.7); attempt++) {
                const controller = new AbortController();
                const start = performance.now();
                const call = window.outcome(model.classifyBatch(texts, { ...options, signal: controller.signal }));
                setTimeout(() => controller.abort(), whole / 5);
                outcome = await call;
                await model.classify("short");
                shares.push((performance.now() - start) / whole);
            }
            const early = await window.outcome(model.classifyBatch(texts, { signal: AbortSignal.abort() }));
            model.dispose();
            return { outcome, early, shares };
        });
        assert.deepEqual([found.outcome, found.early], ["aborted: aborted", "aborted: aborted"]);
        assert.ok(found.shares.at(-1) < 0.7, `a batch aborted after a fifth of its time took ${found.shares} of it`);
    }));

test("auto takes what it expects to be faster, and answers as that rule", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            const of = { rule: "topk", ratio: 0.3 };
            const texts = ["fine", "the plot is thin and the dialogue is worse ".repeat(40)];
            // A copy: the driver drops objects that it meets twice.
            const plain = ({ why: _why, ms: _ms, expected: _expected, ...rest }) => JSON.parse(JSON.stringify(rest));
            const runs = [];
            for (const text of texts) {
                const auto = await model.classify(text, { prune: { rule: "auto", of } });
                const alone = await model.classify(text, { prune: auto.prune });
                const why = auto.prune.rule === "dense" ? null : await auto.why(1, 2);
                runs.push({ expected: auto.expected, of: alone.expected, prune: auto.prune, auto: plain(auto), alone: plain(alone), why });
            }
            const own = await model.classifyBatch(texts, { prune: { rule: "auto" } });
            const wrong = await model.classify("fine", { prune: { rule: "auto", of: { rule: "topk", ratio: 2 } } }).catch((error) => error.message);
            const { defaultPrune } = model.info;
            const again = await model.classify(texts[0], { prune: { rule: "auto", of } });
            const misuses = [];
            for (const prune of ["topk:0.5", {}, null, { rule: "auto", ratio: 0.3 }]) {
                misuses.push(await model.classify("fine", { prune }).catch(({ kind, message }) => `${kind}: ${message}`));
            }
            const plainResult = await model.classify("a fine film", { prune: of });
            for (const [layer, position] of [[1.5, 1], [0, -1], ["0", 1]]) {
                misuses.push(await plainResult.why(layer, position).catch(({ kind, message }) => `${kind}: ${message}`));
            }
            model.dispose();
            return { again: JSON.stringify([again.expected, runs[0].expected]), misuses, runs, own: own.map(({ prune, expected }) => ({ prune, expected })), defaultPrune, wrong };
        });
        const check = ({ prune, expected }, rule) => {
            assert.ok(expected.denseMs >= 0 && expected.prunedMs >= 0, JSON.stringify(expected));
            assert.deepEqual(prune, expected.prunedMs < expected.denseMs ? rule : { rule: "dense" });
        };
        for (const run of found.runs) {
            check(run, { rule: "topk", ratio: 0.3 });
            assert.equal(run.of, null, "only auto expects");
            assert.deepEqual(run.auto, run.alone);
            assert.equal(run.why === null, run.prune.rule === "dense");
        }
        // 400 tokens: less than half of the FLOPs.
        assert.equal(found.runs[1].prune.rule, "topk");
        found.own.forEach((result) => check(result, found.defaultPrune));
        assert.match(found.wrong, /ratio 2 is out of range/);
        const [again, first] = JSON.parse(found.again);
        assert.deepEqual(again, first, "measured once for a rule, whatever came between");
        for (const said of found.misuses.slice(0, 4)) assert.match(said, /^input: prune is .*, expected a rule as in /);
        for (const said of found.misuses.slice(4)) assert.match(said, /^input: why: layer .*, expected whole numbers from 0/);
    }));

/** Of 128 tokens at most; the last one is too long. */
const PASSAGES = ["a gripping film", "a tedious mess", "", "one", "a gripping film", `${"so dull ".repeat(60)}w17`];

for (const backend of ["cpu", "gpu"]) {
    test(`${backend}: passages are ranked by what each gives alone`, () =>
        withPage(async (page) => {
            const found = await page.evaluate(
                async (backend, passages) => {
                    const model = await window.load({ url: "/families/electra-same", backend });
                    const all = [];
                    for (const prune of [{ rule: "dense" }, { rule: "topk", ratio: 0.5 }]) {
                        const reports = [];
                        const ranking = await model.rank("what film", passages, { prune, onProgress: (progress) => reports.push(progress) });
                        const best = await model.rank("what film", passages, { prune, topN: 2 });
                        const windows = await model.rank("what film", passages, { prune, windows: true });
                        const alone = [];
                        for (const { index, truncated } of ranking.results) {
                            const passage = passages[index];
                            alone.push(passage && !truncated ? await model.classify(["what film", passage], { prune }) : null);
                        }
                        all.push({ prune, reports, ranking, best, windows, alone: alone.map((result) => result && { ...result, why: null }) });
                    }
                    model.dispose();
                    return all;
                },
                backend,
                PASSAGES,
            );
            for (const { prune, reports, ranking, best, windows, alone } of found) {
                assert.deepEqual([ranking.prune, ranking.label, ranking.numPassages, ranking.numPairs], [prune, null, 6, 5]);
                assert.deepEqual([reports[0], reports.at(-1)], [{ numDone: 0, numPairs: 5 }, { numDone: 5, numPairs: 5 }]);
                assert.ok(ranking.ms > 0 && ranking.flops.total > 0);
                assert.deepEqual(best.results, ranking.results.slice(0, 2));
                const order = ranking.results.map(({ index }) => index);
                assert.deepEqual([...order].sort(), [0, 1, 2, 3, 4, 5]);
                assert.equal(order.indexOf(4), order.indexOf(0) + 1, "equal scores keep the order");
                ranking.results.forEach((result, place) => {
                    const { index, score, tokens, keptTokens, window, truncated } = result;
                    assert.ok(place === 0 || score <= ranking.results[place - 1].score);
                    assert.deepEqual([window, truncated], [null, index === 5]);
                    if (!alone[place]) return;
                    const { logits, kept, retention, flops } = alone[place];
                    assert.deepEqual([score, tokens, result.retention, result.flops], [logits[0], alone[place].tokens, retention, flops]);
                    assert.deepEqual(keptTokens, kept.at(-2), `passage ${index}`);
                });
                const long = windows.results.find(({ index }) => index === 5);
                assert.ok(!long.truncated && long.window.numWindows > 1 && windows.numPairs > 5);
            }
        }));
}

test("a ranking is aborted, and what cannot be ranked is named", () =>
    withPage(async (page) => {
        const found = await page.evaluate(async () => {
            const model = await window.load({ url: "/families/electra-same", backend: "cpu" });
            const many = Array.from({ length: 800 }, (_, index) => `a film of ${index} words ${"and more ".repeat(20)}`);
            const abort = new AbortController();
            let numReports = 0;
            const onProgress = ({ numDone }) => {
                numReports += 1;
                if (numDone > 0) abort.abort();
            };
            const outcomes = [await window.outcome(model.rank("a film", many, { topN: 1, onProgress, signal: abort.signal }))];
            // Waits behind what is left of the other.
            const { results } = await model.rank("a film", ["one", "two"]);
            const others = [
                ["", ["one"]],
                ["a film", []],
                ["film ".repeat(200), ["one"]],
                [null, ["one"]],
                ["a film", "one"],
                ["a film", ["one", null]],
                ["a film", ["one"], { topN: 0 }],
                ["a film", ["one"], { label: "good" }],
                ["a film", ["one"], { label: 0 }],
                ["a film", ["one"], { prune: { rule: "auto" } }],
            ];
            for (const args of others) outcomes.push(await window.outcome(model.rank(...args)));
            model.dispose();
            const classifier = await window.load({ url: "/models/sst2-minilm", backend: "cpu" });
            outcomes.push(await window.outcome(classifier.rank("a film", ["one"])));
            const { label } = await classifier.rank("a film", ["one"], { label: "positive" });
            classifier.dispose();
            return { outcomes, numReports, numResults: results.length, label };
        });
        assert.deepEqual(found.outcomes, [
            "aborted: aborted",
            "input: the query: it is empty, expected at least one word",
            "input: no passages to rank, expected at least one",
            found.outcomes[3],
            "input: the query: expected a string",
            "input: the passages: expected an array of strings",
            "input: passage 2: expected a string",
            "input: `topN` is 0, expected a whole number from 1",
            "input: no label `good`, expected one of `score`, or 0 to 0",
            "input: `label` is 0, expected a string",
            "input: `rank` takes a rule, for example `topk:0.5`, and not `auto`",
            "input: `rank` needs one score, and this model has 2 labels (`negative`, `positive`): `label` chooses the one whose probability counts",
        ]);
        assert.match(found.outcomes[3], /^input: the query: [0-9]+ tokens and 3 special ones leave no room for a passage in the 128 /);
        assert.deepEqual([found.numReports, found.numResults, found.label], [2, 2, "positive"]);
    }));

test("no page had an error, and no request left the origin", () => assert.deepEqual(problems, []));
