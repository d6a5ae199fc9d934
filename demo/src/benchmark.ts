// What pruning saves on this visitor's device: dense against the rules, in turn, for texts of several lengths.

import { Sttabt, type BackendChoice, type Prune, type Result } from "sttabt";
import { flops, h, milliseconds, percent, setAttributes } from "./dom";
import { ruleName } from "./figures";

const WORDS = "the plot is thin and the dialogue is worse yet I enjoyed every minute of this strange little film ".repeat(40).split(" ");
const LENGTHS = [16, 32, 128, 256];
const RULES: Prune[] = [{ rule: "dense" }, { rule: "topk", ratio: 0.5 }, { rule: "topk", ratio: 0.3 }, { rule: "concrete" }];
const WARM_UP_ROUNDS = 1;
const ROUNDS = 7;

interface Row {
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

export class BenchmarkPanel {
    readonly #start = h("button", { type: "button" }, ["Measure this device"], { click: () => void this.#measure() });
    readonly #copy = h("button", { type: "button", hidden: true }, ["Copy as JSON"], { click: () => void this.#copyJson() });
    readonly #progress = h("progress", { hidden: true, "aria-label": "benchmark" });
    readonly #table = h("div", { class: "card scroll", role: "region", tabindex: 0, "aria-label": "Benchmark" });
    #report: { environment: object; runs: Row[] } | null = null;

    constructor(
        root: HTMLElement,
        private readonly backend: BackendChoice,
        private readonly onError: (message: string | null) => void,
        private readonly onModel: (model: Sttabt) => void,
    ) {
        root.append(
            h("p", {}, [
                `Dense against the rules on this device: the text model, one text at a time, ${LENGTHS.join(", ")} tokens, ${ROUNDS} rounds in turn after a warm-up.`,
            ]),
            h("div", { class: "row" }, [this.#start, this.#copy, this.#progress]),
            this.#table,
        );
    }

    open(): void {
        if (!this.#report) this.#table.replaceChildren(h("p", { class: "hint" }, ["Nothing measured yet."]));
    }

    async #measure(): Promise<void> {
        setAttributes(this.#start, { disabled: true });
        setAttributes(this.#progress, { hidden: false, value: 0, max: LENGTHS.length * (ROUNDS + WARM_UP_ROUNDS) });
        let model: Sttabt | null = null;
        try {
            model = await Sttabt.load({ url: "models/sst2-minilm", backend: this.backend });
            this.onModel(model);
            const { backend } = model;
            const runs: Row[] = [];
            for (const length of LENGTHS) {
                this.#table.replaceChildren(h("p", { class: "hint" }, [`Measuring ${length} tokens …`]));
                runs.push(...(await this.#measureLength(model, length)));
            }
            this.#report = { environment: { userAgent: navigator.userAgent, cores: navigator.hardwareConcurrency, ...backend }, runs };
            this.#show(runs);
            this.onError(null);
        } catch (error) {
            this.onError(error instanceof Error ? error.message : String(error));
        } finally {
            model?.dispose();
            setAttributes(this.#start, { disabled: false });
            setAttributes(this.#progress, { hidden: true });
        }
    }

    async #measureLength(model: Sttabt, length: number): Promise<Row[]> {
        // Every word is one token; [CLS] and [SEP] are two more.
        const text = WORDS.slice(0, length - 2).join(" ");
        const times = RULES.map((): number[] => []);
        const last: Result[] = [];
        for (let round = 0; round < ROUNDS + WARM_UP_ROUNDS; round++) {
            for (const [index, prune] of RULES.entries()) {
                const result = await model.classify(text, { prune });
                last[index] = result;
                if (round >= WARM_UP_ROUNDS) times[index]?.push(result.ms);
            }
            this.#progress.value++;
        }
        const median = (values: number[]) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? NaN;
        const denseMs = median(times[0] ?? []);
        return last.map((result, index) => ({
            tokens: result.numTokens,
            prune: ruleName(result.prune),
            rounds: ROUNDS,
            ms: { min: Math.min(...(times[index] ?? [])), median: median(times[index] ?? []) },
            flops: result.flops,
            retention: result.retention,
            time_of_dense: median(times[index] ?? []) / denseMs,
            flops_of_dense: result.flops.total / result.flops.dense,
        }));
    }

    #show(runs: Row[]): void {
        const columns = ["tokens", "rule", "kept", "FLOPs", "FLOPs of dense", "median", "best", "time of dense"];
        const head = columns.map((text) => h("th", { scope: "col" }, [text]));
        const rows = runs.map((row) =>
            h(
                "tr",
                {},
                [
                    String(row.tokens),
                    row.prune,
                    percent(row.retention),
                    flops(row.flops.total),
                    percent(row.flops_of_dense),
                    milliseconds(row.ms.median),
                    milliseconds(row.ms.min),
                    percent(row.time_of_dense),
                ].map((text) => h("td", {}, [text])),
            ),
        );
        this.#table.replaceChildren(h("table", { class: "cost" }, [h("thead", {}, [h("tr", {}, head)]), h("tbody", {}, rows)]));
        setAttributes(this.#copy, { hidden: false });
    }

    async #copyJson(): Promise<void> {
        const text = JSON.stringify(this.#report, null, 2);
        const said = await navigator.clipboard.writeText(text).then(
            () => "Copied",
            () => "The clipboard is closed to this page",
        );
        this.#copy.textContent = said;
        setTimeout(() => (this.#copy.textContent = "Copy as JSON"), 1500);
    }
}
