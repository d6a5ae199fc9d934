// What pruning saves on this visitor's device: dense against the rules, in turn, for batches of texts of several lengths.

import { parseRule, type Result, type Sttabt } from "sttabt";
import { flops, h, median, milliseconds, percent, setAttributes } from "./dom";
import { ruleName } from "./figures";
import { LongWork, type LongWorkOptions } from "./long-work";

const WORDS = "the plot is thin and the dialogue is worse yet I enjoyed every minute of this strange little film ".repeat(40).split(" ");
const BATCHES = [1, 8, 32];
const LENGTHS = [16, 32, 128, 256];
const RULES = ["dense", "topk:0.5", "topk:0.3", "concrete"].map(parseRule);
/** What takes long gets fewer rounds: none begins when a length has had so many, or so much time. */
const MAX_ROUNDS = 7;
const MAX_MS = 10_000;

/** One rule for batches of one size and length; times and FLOPs are those of a whole batch. */
interface Row {
    weights: string;
    batch: number;
    tokens: number;
    prune: string;
    rounds: number;
    ms: { min: number; median: number };
    flops: Result["flops"];
    retention: number;
    /** Time and FLOPs against dense. */
    time_of_dense: number;
    flops_of_dense: number;
}

const COLUMNS: [name: string, text: (row: Row) => string][] = [
    ["weights", (row) => row.weights],
    ["batch", (row) => String(row.batch)],
    ["tokens", (row) => String(row.tokens)],
    ["rule", (row) => row.prune],
    ["kept", (row) => percent(row.retention)],
    ["FLOPs", (row) => flops(row.flops.total)],
    ["FLOPs of dense", (row) => percent(row.flops_of_dense)],
    ["rounds", (row) => String(row.rounds)],
    ["median", (row) => milliseconds(row.ms.median)],
    ["best", (row) => milliseconds(row.ms.min)],
    ["time of dense", (row) => percent(row.time_of_dense)],
];

export class BenchmarkPanel {
    readonly #batch = h(
        "select",
        {},
        BATCHES.map((batch) => h("option", { value: batch }, [batch === 1 ? "1 text" : `${batch} texts`])),
    );
    readonly #length = h("select", {}, [
        h("option", { value: "" }, ["all, in turn"]),
        ...LENGTHS.map((length) => h("option", { value: length }, [`${length} tokens`])),
    ]);
    readonly #weights = h("select", {}, [
        h("option", { value: "models/sst2-minilm-int8" }, ["int8"]),
        h("option", { value: "models/sst2-minilm" }, ["f16"]),
    ]);
    readonly #copy = h("button", { type: "button", hidden: true }, ["Copy as JSON"], { click: () => void this.#copyJson() });
    readonly #table = h("div", { class: "card scroll", role: "region", tabindex: 0, "aria-label": "Benchmark", hidden: true });
    readonly #work: LongWork;
    #environment: object = {};
    #runs: Row[] = [];

    constructor(root: HTMLElement, shared: Pick<LongWorkOptions, "backend" | "onError" | "onModel">) {
        this.#work = new LongWork({
            ...shared,
            start: "Measure this device",
            stop: "Stop measuring",
            idle: "Nothing measured yet.",
            progress: "benchmark",
            inputs: [this.#batch, this.#length, this.#weights],
            url: () => this.#weights.value,
            run: (model, signal) => this.#measure(model, signal),
            stopped: () => "Stopped. What was measured stays.",
        });
        root.append(
            h("p", {}, [
                `Dense against the rules on this device: the text model, ${MAX_ROUNDS} rounds in turn after a warm-up, fewer where they take long.`,
            ]),
            h("div", { class: "row" }, [
                h("label", {}, ["Batch ", this.#batch]),
                h("label", {}, ["Length ", this.#length]),
                h("label", {}, ["Weights ", this.#weights]),
                this.#work.button,
                this.#copy,
                this.#work.progress,
            ]),
            this.#work.status,
            this.#table,
        );
    }

    async #measure(model: Sttabt, signal: AbortSignal): Promise<string> {
        this.#environment = { userAgent: navigator.userAgent, cores: navigator.hardwareConcurrency, ...model.backend };
        const batch = Number(this.#batch.value);
        const lengths = LENGTHS.filter((length) => ["", String(length)].includes(this.#length.value));
        this.#work.progress.max = lengths.length;
        for (const [index, length] of lengths.entries()) {
            this.#work.status.textContent = `Measuring ${batch} × ${length} tokens …`;
            await this.#measureLength(model, batch, length, signal, (share) => (this.#work.progress.value = index + share));
        }
        return "Measured.";
    }

    /** Shows its rows after every round; `onShare` is told how much of the rounds is done. */
    async #measureLength(model: Sttabt, batch: number, length: number, signal: AbortSignal, onShare: (share: number) => void): Promise<void> {
        // Every word is one token; [CLS] and [SEP] are two more.
        const texts = Array.from({ length: batch }, (_, first) => WORDS.slice(first, first + length - 2).join(" "));
        const times = RULES.map((): number[] => []);
        let share = 0;
        let ms = 0;
        for (let round = 0; share < 1; round++) {
            const results: Result[][] = [];
            for (const prune of RULES) results.push(await model.classifyBatch(texts, { prune, signal }));
            // The first warms up.
            if (round === 0) continue;
            results.forEach(([one], index) => {
                times[index]?.push(one?.ms ?? NaN);
                ms += one?.ms ?? NaN;
            });
            const { weightsDtype } = model.info;
            this.#show(results.map((results, index) => row(weightsDtype, results, times[index] ?? [], times[0] ?? [])));
            share = Math.max(round / MAX_ROUNDS, ms / MAX_MS);
            onShare(share);
        }
    }

    /** Puts rows in the place of those of the same weights, batch and length. */
    #show(rows: Row[]): void {
        const isNew = ({ weights, batch, tokens }: Row) =>
            rows.some((row) => row.weights === weights && row.batch === batch && row.tokens === tokens);
        this.#runs = [...this.#runs.filter((row) => !isNew(row)), ...rows];
        this.#runs.sort(
            (one, other) => one.batch - other.batch || one.tokens - other.tokens || other.weights.localeCompare(one.weights),
        );
        const head = COLUMNS.map(([name]) => h("th", { scope: "col" }, [name]));
        const body = this.#runs.map((row) => h("tr", {}, COLUMNS.map(([, text]) => h("td", {}, [text(row)]))));
        this.#table.replaceChildren(
            h("table", { class: "cost" }, [
                h("caption", {}, ["Times and FLOPs are those of a whole batch."]),
                h("thead", {}, [h("tr", {}, head)]),
                h("tbody", {}, body),
            ]),
        );
        setAttributes(this.#table, { hidden: false });
        setAttributes(this.#copy, { hidden: false });
    }

    async #copyJson(): Promise<void> {
        const text = JSON.stringify({ environment: this.#environment, runs: this.#runs }, null, 2);
        const said = await navigator.clipboard.writeText(text).then(
            () => "Copied",
            () => "The clipboard is closed to this page",
        );
        this.#copy.textContent = said;
        setTimeout(() => (this.#copy.textContent = "Copy as JSON"), 1500);
    }
}

/** What a batch's results and its times say, beside the times of dense with the same weights. */
function row(weights: string, results: Result[], times: number[], denseTimes: number[]): Row {
    const [first] = results;
    if (!first) throw new Error("a batch without results");
    const sum = (value: (result: Result) => number) => results.reduce((total, result) => total + value(result), 0);
    const flops = {
        dense: sum(({ flops }) => flops.dense),
        pruned: sum(({ flops }) => flops.pruned),
        approx: sum(({ flops }) => flops.approx),
        total: sum(({ flops }) => flops.total),
    };
    return {
        weights,
        batch: results.length,
        tokens: first.numTokens,
        prune: ruleName(first.prune),
        rounds: times.length,
        ms: { min: Math.min(...times), median: median(times) },
        flops,
        retention: sum(({ retention }) => retention) / results.length,
        time_of_dense: median(times) / median(denseTimes),
        flops_of_dense: flops.total / flops.dense,
    };
}
