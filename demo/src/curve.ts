// What pruning costs in answers: accuracy and agreement against work, over labelled sentences, as they are computed.

import "./curve.css";
import { parseRule, RULES, type Result, type Sttabt } from "sttabt";
import { drawCurve, type Flip, type Point } from "./curve-chart";
import { h, percent, setAttributes } from "./dom";
import { LongWork, type LongWorkOptions } from "./long-work";
import sentences from "./sentences.json";
import { hashOf, initialState } from "./state";

const LABELS = ["positive", "negative"] as const;
/** Both labels in turn, so that a part of them is balanced. */
const SENTENCES = sentences.positive.flatMap((_, index) =>
    LABELS.flatMap((label) => (sentences[label][index] === undefined ? [] : [{ text: sentences[label][index] as string, label }])),
);
const RATIOS = [0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
/** So many are one call: short enough to stop soon, long enough to fill a batch. */
const BATCH = 10;

export class CurvePanel {
    readonly #rule = h("select", {}, RULES.filter(({ argument }) => argument === "ratios").map(({ name }) => h("option", { value: name }, [name])));
    readonly #result = h("div", { class: "curve", hidden: true });
    readonly #work: LongWork;
    #numDone = 0;

    constructor(
        private readonly root: HTMLElement,
        shared: Pick<LongWorkOptions, "backend" | "onError" | "onModel">,
    ) {
        this.#work = new LongWork({
            ...shared,
            start: "Draw the curve",
            stop: "Stop",
            idle: "Nothing computed yet.",
            progress: "sentences computed",
            inputs: [this.#rule],
            url: () => "models/sst2-minilm-int8",
            run: (model, signal) => this.#draw(model, signal),
            stopped: () => `Stopped${this.#numDone > 0 ? ` after ${this.#numDone} of ${SENTENCES.length} sentences` : ""}. What was drawn stays.`,
        });
        root.append(
            h("p", {}, [
                `How much of the work can go before answers change? ${SENTENCES.length} film reviews, written and labelled for this page, are read whole and then with fewer and fewer words. `,
                "Accuracy counts the answers that are right. Agreement counts those that are the same as with all words.",
            ]),
            h("div", { class: "row" }, [h("label", {}, ["Rule ", this.#rule]), this.#work.button, this.#work.progress]),
            this.#work.status,
            this.#result,
        );
    }

    async #draw(model: Sttabt, signal: AbortSignal): Promise<string> {
        this.#numDone = 0;
        this.#work.progress.max = SENTENCES.length;
        const labels = model.info.labels.map((label) => label.toLowerCase());
        if (LABELS.some((label) => !labels.includes(label))) throw new Error(`the model's labels are ${labels.join(", ")}, expected ${LABELS.join(", ")}`);
        const rule = this.#rule.value;
        const prunes = ["dense", ...RATIOS.map((ratio) => `${rule}:${ratio}`)].map(parseRule);
        const runs: Result[][] = prunes.map(() => []);
        for (let first = 0; first < SENTENCES.length; first += BATCH) {
            const texts = SENTENCES.slice(first, first + BATCH).map(({ text }) => text);
            const batches: Result[][] = [];
            for (const prune of prunes) {
                await this.#isOpen(signal);
                batches.push(await model.classifyBatch(texts, { prune, signal }));
            }
            // All ratios have read the same sentences whenever the curve is drawn.
            batches.forEach((results, index) => runs[index]?.push(...results));
            this.#numDone = first + texts.length;
            this.#show(rule, runs);
            this.#work.progress.value = this.#numDone;
            this.#work.status.textContent = `${this.#numDone} of ${SENTENCES.length} sentences …`;
        }
        return `All ${SENTENCES.length} sentences were read.`;
    }

    /** Waits while another tab is open, whose answers come first. */
    #isOpen(signal: AbortSignal): Promise<void> {
        if (!this.root.hidden) return Promise.resolve();
        return new Promise((resolve, reject) => {
            const opened = new MutationObserver(() => {
                if (this.root.hidden) return;
                opened.disconnect();
                resolve();
            });
            opened.observe(this.root, { attributeFilter: ["hidden"] });
            signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
    }

    #show(rule: string, [dense = [], ...pruned]: Result[][]): void {
        const numDone = dense.length;
        const share = (results: Result[], isGood: (result: Result, index: number) => boolean) => results.filter(isGood).length / numDone;
        const sum = (results: Result[], value: (result: Result) => number) => results.reduce((total, result) => total + value(result), 0);
        const points = [dense, ...pruned].map((results, index): Point => ({
            ratio: RATIOS[index - 1] ?? null,
            work: sum(results, ({ flops }) => flops.total) / sum(dense, ({ flops }) => flops.total),
            accuracy: share(results, ({ label }, index) => label?.toLowerCase() === SENTENCES[index]?.label),
            agreement: share(results, ({ label }, index) => label === dense[index]?.label),
        }));
        const flips = dense.flatMap((whole, index): Flip[] => {
            // The first ratio that changes the answer, from the largest down.
            const at = pruned.findIndex((results) => results[index]?.label !== whole.label);
            const [result, point, sentence] = [pruned[at]?.[index], points[at + 1], SENTENCES[index]];
            if (!result || !point || !sentence || point.ratio === null) return [];
            const link = hashOf({ ...initialState(), text: sentence.text, rule: { name: rule, number: point.ratio } });
            const answer = ({ label, probs, labelIndex }: Result) => `${label} ${percent(probs[labelIndex ?? 0] ?? 0)}`;
            const gain = result.label?.toLowerCase() === sentence.label ? "and that is right" : "and that is wrong";
            const says = `all words: ${answer(whole)}; at ratio ${point.ratio}: ${answer(result)}, ${gain}`;
            return [{ text: sentence.text, says, link, ratio: point.ratio, work: point.work }];
        });
        this.#result.replaceChildren(drawCurve(points, flips), this.#list(flips, numDone), table(points));
        setAttributes(this.#result, { hidden: false });
    }

    #list(flips: Flip[], numDone: number): HTMLElement {
        const items = flips.map(({ text, says, link }) => h("li", {}, [h("a", { href: link }, [`“${text}”`]), ` ${says}`]));
        const title = `Pruning changed ${flips.length} of ${numDone} answers`;
        const hint = flips.length > 0 ? "Each mark below the curve is one of them, where it changes first. Follow it to see which words were lost." : "";
        return h("div", {}, [h("h2", {}, [title]), h("p", { class: "hint" }, [hint]), h("ul", { class: "flips" }, items)]);
    }
}

function table(points: Point[]): HTMLElement {
    const head = ["ratio", "work", "accuracy", "agreement"].map((text) => h("th", { scope: "col" }, [text]));
    const rows = points.map(({ ratio, work, accuracy, agreement }) =>
        h("tr", {}, [
            h("th", { scope: "row" }, [ratio === null ? "all words" : String(ratio)]),
            ...[work, accuracy, agreement].map((share) => h("td", {}, [percent(share)])),
        ]),
    );
    return h("details", {}, [
        h("summary", {}, ["The curve as a table"]),
        h("table", { class: "cost" }, [h("caption", {}, ["Work: FLOPs against those of all words."]), h("thead", {}, [h("tr", {}, head)]), h("tbody", {}, rows)]),
    ]);
}
