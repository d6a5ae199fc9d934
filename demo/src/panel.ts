// A tab: an input, rules, the picture of the result, why, and what it cost. Texts and images differ in their input and view alone.

import { type BackendChoice, type Input, type ModelInfo, type Progress, type Result, type Sttabt } from "sttabt";
import { byId, download, h, megabytes, setAttributes } from "./dom";
import { cost, probabilities, resultJson, ruleName, summary, table, type Times } from "./figures";
import { RuleControl } from "./rule-control";
import { Runner } from "./runner";
import { prune, type Rule, type State } from "./state";
import type { Spot, View } from "./view";
import { WhyPanel } from "./why";

/** Times are taken when the visitor has stopped dragging. */
const MEASURE_AFTER_MS = 700;
/** Dense and pruned in turn; the best of each counts. */
const MEASURE_ROUNDS = 3;

export interface PanelOptions {
    id: string;
    modelUrl: string;
    modelName: string;
    backend: BackendChoice;
    state: State;
    view(label: string, onPick: (spot: Spot) => void): View;
    onState(): void;
    onModel(model: Sttabt): void;
    onNote(note: string): void;
    onError(message: string | null): void;
}

export class Panel {
    readonly #rule: RuleControl;
    readonly #other: RuleControl;
    readonly #views: [View, View];
    readonly #why: WhyPanel;
    readonly #runner: Runner;
    readonly #root: HTMLElement;
    readonly #progress: HTMLElement;
    #info: ModelInfo | null = null;
    #input: Input | null = null;
    #results: Result[] = [];
    #isPrecomputed = false;
    #measuring = 0;

    constructor(private readonly options: PanelOptions) {
        const { id, state } = options;
        this.#root = byId(id);
        const changed = (set: (rule: Rule | null) => void) => (rule: Rule | null) => {
            set(rule);
            options.onState();
            void this.refresh();
        };
        this.#rule = new RuleControl("Rule", null, changed((rule) => (state.rule = rule ?? state.rule)));
        this.#other = new RuleControl("Compare with", "nothing", changed((rule) => (state.other = rule)));
        this.#views = [
            options.view("Kept tokens by layer", (spot) => this.#pick(0, spot)),
            options.view("The other rule’s kept tokens by layer", (spot) => this.#pick(1, spot)),
        ];
        this.#why = new WhyPanel(
            (trail) => this.#views[0].mark(trail),
            (spot) => this.#pick(0, spot),
        );
        this.#runner = new Runner(options.modelUrl, options.backend, {
            onProgress: (progress) => this.#showProgress(progress),
            onNote: options.onNote,
            onLoaded: (model) => this.#loaded(model),
            onBusy: (isBusy) => setAttributes(this.#root, { "aria-busy": isBusy ? "true" : "false" }),
        });
        this.#progress = h("div", { class: "progress", hidden: true });
        this.#lay();
        this.#sync();
    }

    /** Shows a result from before any weights arrived. */
    showPrecomputed(result: Result, info: ModelInfo): void {
        this.#isPrecomputed = true;
        this.#info ??= info;
        this.#show([result]);
    }

    /** Classifies a new input. */
    async ask(input: Input, options = {}): Promise<Result[] | null> {
        this.#input = input;
        return this.refresh(options);
    }

    /** Classifies the input anew, under the rules as they are now. */
    async refresh({ measure = true } = {}): Promise<Result[] | null> {
        const { state } = this.options;
        this.#sync();
        if (this.#input === null) return null;
        window.clearTimeout(this.#measuring);
        const rules = [state.rule, ...(state.other ? [state.other] : [])].map(prune);
        try {
            const results = await this.#runner.run(this.#input, rules);
            if (!results) return null;
            this.options.onError(null);
            this.#isPrecomputed = false;
            this.#show(results);
            if (measure) this.#measuring = window.setTimeout(() => void this.#measure(), MEASURE_AFTER_MS);
            return results;
        } catch (error) {
            this.options.onError(error instanceof Error ? error.message : String(error));
            return null;
        } finally {
            setAttributes(this.#progress, { hidden: true });
        }
    }

    /** Of the rule and of the one beside it. */
    get views(): View[] {
        return this.#views;
    }

    #sync(): void {
        this.#rule.set(this.options.state.rule);
        this.#other.set(this.options.state.other);
    }

    #loaded(model: Sttabt): void {
        this.#info = model.info;
        this.#rule.limit(model.info.hasApproxNet, model.info.hasThresholds);
        this.#other.limit(model.info.hasApproxNet, model.info.hasThresholds);
        this.options.onModel(model);
    }

    #show(results: Result[]): void {
        const [result, other = null] = results;
        if (!result || !this.#info) return;
        this.#results = results;
        this.#views[0].show(result, other, this.#info);
        if (other) this.#views[1].show(other, result, this.#info);
        const side = this.#part("beside");
        setAttributes(side, { hidden: other === null });
        this.#part("names").textContent = other ? `${ruleName(result.prune)} – the other rule is drawn below; tokens on which they differ are marked` : "";
        this.#part("other-name").textContent = other ? ruleName(other.prune) : "";
        const { labels } = this.#info;
        this.#part("probabilities").replaceChildren(
            summary(result),
            probabilities(result, labels),
            ...(other ? [summary(other), probabilities(other, labels)] : []),
        );
        this.#part("cost").replaceChildren(cost(result, null));
        this.#part("table").replaceChildren(table(result), ...(other ? [table(other)] : []));
        this.#part("json").textContent = resultJson(result);
        this.#why.clear();
    }

    #pick(index: number, spot: Spot): void {
        const result = this.#results[index];
        if (!result || this.#isPrecomputed) return;
        void this.#why.show(result, spot);
    }

    async #measure(): Promise<void> {
        const [input, result] = [this.#input, this.#results[0]];
        if (input === null || !result || !this.#runner.isIdle) return;
        const rules = Array.from({ length: MEASURE_ROUNDS }, () => [{ rule: "dense" } as const, result.prune]).flat();
        const runs = await this.#runner.run(input, rules).catch(() => null);
        if (!runs || this.#results[0] !== result) return;
        const best = (parity: number) => Math.min(...runs.filter((_, index) => index % 2 === parity).map(({ ms }) => ms));
        const times: Times = { dense: best(0), pruned: best(1) };
        this.#part("cost").replaceChildren(cost(result, times));
    }

    #showProgress({ stage, loadedBytes, totalBytes, fromCache }: Progress): void {
        const text =
            stage === "start"
                ? "Preparing the device …"
                : `${fromCache ? "Reading" : "Downloading"} ${this.options.modelName}: ${megabytes(loadedBytes)} of ${megabytes(totalBytes)}. It runs here, in your browser, which keeps it for the next visit; nothing you type or show leaves this page.`;
        const bar = h("progress", { max: totalBytes, value: loadedBytes, "aria-label": `loading ${this.options.modelName}` });
        this.#progress.replaceChildren(h("p", {}, [text]), bar);
        setAttributes(this.#progress, { hidden: false });
    }

    #part(name: string): HTMLElement {
        const part = this.#root.querySelector<HTMLElement>(`[data-part="${name}"]`);
        if (!part) throw new Error(`the page has no part ${name}`);
        return part;
    }

    #lay(): void {
        const part = (name: string, attributes = {}, tag: "div" | "p" | "pre" | "h3" = "div") => h(tag, { "data-part": name, ...attributes });
        const beside = h("div", { "data-part": "beside", hidden: true }, [part("other-name", { class: "names" }, "h3"), this.#views[1].element]);
        const details = (title: string, ...children: HTMLElement[]) => h("details", {}, [h("summary", {}, [title]), ...children]);
        const buttons = h("div", { class: "row" }, [
            h("button", { type: "button" }, ["Save picture"], { click: () => this.#savePicture() }),
            h("button", { type: "button" }, ["Save result"], { click: () => this.#saveResult() }),
            h("button", { type: "button" }, ["Copy link"], { click: (event) => void this.#copyLink(event.currentTarget as HTMLElement) }),
        ]);
        this.#root.append(
            h("div", { class: "rules" }, [this.#rule.element, this.#other.element]),
            this.#progress,
            h("div", { class: "result" }, [
                h("div", { class: "main" }, [part("names", { class: "names" }, "p"), this.#views[0].element, beside]),
                h("div", { class: "side" }, [part("probabilities"), this.#why.element]),
            ]),
            h("section", { class: "cost-section" }, [h("h3", {}, ["Cost"]), part("cost")]),
            buttons,
            details("The picture as a table", part("table", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Kept tokens by layer" })),
            details("The result as JSON", part("json", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Result as JSON" }, "pre")),
        );
    }

    #savePicture(): void {
        if (this.#results.length === 0) return;
        this.#views[0].paint().toBlob((blob) => blob && download("sttabt.png", blob));
    }

    #saveResult(): void {
        const [result] = this.#results;
        if (result) download("sttabt.json", new Blob([resultJson(result)], { type: "application/json" }));
    }

    async #copyLink(button: HTMLElement): Promise<void> {
        const text = await navigator.clipboard.writeText(location.href).then(
            () => "Copied",
            () => "The address bar has the link",
        );
        const before = button.textContent;
        button.textContent = text;
        setTimeout(() => (button.textContent = before), 1500);
    }
}
