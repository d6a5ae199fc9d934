// A tab: an input, rules, the picture of the result, why, and what it cost. Texts and images differ in their input and view alone.

import { parseRule, type BackendChoice, type Input, type ModelInfo, type Progress, type Result, type Sttabt } from "sttabt";
import { cardButtons, type Card } from "./card";
import { byId, download, h, median, setAttributes } from "./dom";
import { cost, legend, probabilities, resultJson, ruleName, summary, table, type Lanes, type Times } from "./figures";
import { LoadProgress } from "./load-progress";
import { RuleControl } from "./rule-control";
import { Runner, type Job, type WeightsKind } from "./runner";
import { hashOf, MAX_LINK_TEXT, ruleText, type Rule, type State } from "./state";
import { Verdict } from "./verdict";
import { stacked, type Spot, type View } from "./view";
import { WeightsControl } from "./weights-control";
import { WhyPanel } from "./why";

/** Times are taken when the visitor has stopped dragging. */
const MEASURE_AFTER_MS = 700;
/** Dense and pruned in turn; the median of each counts. */
const MEASURE_ROUNDS = 7;

/** How a question ended; `superseded`: a later one took its place. */
export type Outcome = "shown" | "superseded" | "failed";

export interface PanelOptions {
    id: string;
    modelUrls: Record<WeightsKind, string>;
    modelName: string;
    /** What to do where there is no input. */
    hint: string;
    backend: BackendChoice;
    state: State;
    view(label: string, onPick: (spot: Spot) => void): View;
    onState(): void;
    onModel(model: Sttabt): void;
    onNote(note: string): void;
    onError(message: string | null): void;
}

/** The rule, and beside it the other rule, the other weights, or both at once. */
function jobsOf({ rule, other, weights }: State): Job[] {
    const job = (rule: Rule, weights: WeightsKind) => ({ prune: parseRule(ruleText(rule)), weights });
    if (weights === "both") return [job(rule, "int8"), job(other ?? rule, "f16")];
    return [rule, ...(other ? [other] : [])].map((rule) => job(rule, weights));
}

export class Panel {
    readonly #rule: RuleControl;
    readonly #other: RuleControl;
    readonly #weights: WeightsControl;
    readonly #views: [View, View];
    readonly #why: WhyPanel;
    readonly #runner: Runner;
    readonly #root: HTMLElement;
    readonly #progress = new LoadProgress();
    readonly #verdict = new Verdict();
    #info: ModelInfo | null = null;
    #input: Input | null = null;
    /** What the results are of. */
    #shown: Input | null = null;
    /** The last input without pruning. */
    #dense: { input: Input; weights: WeightsKind; result: Result } | null = null;
    /** What gave the results. */
    #jobs: Job[] = [];
    #results: Result[] = [];
    #isPrecomputed = false;
    #measuring = 0;
    /** The view whose token was chosen last. */
    #asked = 0;

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
        this.#weights = new WeightsControl((weights) => {
            state.weights = weights;
            options.onState();
            void this.refresh();
        });
        this.#views = [
            options.view("Kept tokens by layer", (spot) => void this.#pick(0, spot)),
            options.view("The other’s kept tokens by layer", (spot) => void this.#pick(1, spot)),
        ];
        this.#why = new WhyPanel(
            (trail, askers) =>
                this.#views.forEach((view, index) => (index === this.#asked ? view.mark(trail, askers) : view.mark([], []))),
            (spot) => void this.#pick(this.#asked, spot),
        );
        this.#runner = new Runner(options.modelUrls, options.backend, {
            onProgress: (progress, weights) => this.#showProgress(progress, weights),
            onNote: options.onNote,
            onLoaded: (model) => this.#loaded(model),
            onBusy: (isBusy) => setAttributes(this.#root, { "aria-busy": isBusy ? "true" : "false" }),
        });
        this.#root.classList.add("without-input");
        this.#lay();
        this.#sync();
    }

    /** Shows a result from before any weights arrived. */
    showPrecomputed(input: Input, result: Result, info: ModelInfo): void {
        this.#isPrecomputed = true;
        this.#info ??= info;
        this.#show([result], [{ prune: result.prune, weights: "int8" }], input);
    }

    /** There is no input: what the last one gave goes away. */
    clear(): void {
        this.#input = null;
        this.#runner.cancel();
        this.options.onError(null);
        this.#empty("without-input");
    }

    /** A line about a token goes away. */
    forgetToken(): void {
        this.#why.clear();
    }

    /** Classifies a new input. */
    async ask(input: Input, options = {}): Promise<Outcome> {
        this.#input = input;
        return this.refresh(options);
    }

    /** Classifies the input anew, with the rules and weights as they are now. */
    async refresh({ measure = true } = {}): Promise<Outcome> {
        const { state } = this.options;
        this.#sync();
        if (this.#input === null) return "superseded";
        window.clearTimeout(this.#measuring);
        const jobs = jobsOf(state);
        // A download takes long, and what is shown is another input's.
        if (this.#input !== this.#shown && !jobs.every(({ weights }) => this.#runner.has(weights))) this.#empty("without-result");
        if (!this.#info || this.#isPrecomputed) this.#progress.begin(this.options.modelName);
        try {
            const input = this.#input;
            const results = await this.#runner.run(input, jobs);
            if (!results) return "superseded";
            this.options.onError(null);
            this.#isPrecomputed = false;
            this.#show(results, jobs, input);
            if (measure) {
                const compared = this.#compare(input, jobs, results);
                this.#measuring = window.setTimeout(() => void compared.then(() => this.#measure()), MEASURE_AFTER_MS);
            }
            return "shown";
        } catch (error) {
            // What the last input gave is not this one's.
            this.#empty("without-result");
            this.options.onError(error instanceof Error ? error.message : String(error));
            return "failed";
        } finally {
            if (!this.#runner.isLoading) this.#progress.hide();
        }
    }

    /** Of the first result, and of the one beside it. */
    get views(): View[] {
        return this.#views;
    }

    /** The line on top learns what the input gives without pruning, once nothing else is asked. */
    async #compare(input: Input, [first]: Job[], results: Result[]): Promise<void> {
        if (!first || first.prune.rule === "dense" || this.#denseOf(input, first)) return;
        const { weights } = first;
        const dense = await this.#runner.run(input, [{ prune: { rule: "dense" }, weights }], { background: true }).catch(() => null);
        const [result] = dense ?? [];
        if (!result) return;
        this.#dense = { input, weights, result };
        const [pruned] = results;
        if (this.#results === results && pruned) this.#verdict.show(pruned, result);
    }

    #denseOf(input: Input | null, job: Job | undefined): Result | null {
        return this.#dense?.input === input && this.#dense?.weights === job?.weights ? (this.#dense?.result ?? null) : null;
    }

    /** Nothing of the last input is left. */
    #empty(why: "without-input" | "without-result"): void {
        [this.#results, this.#shown] = [[], null];
        this.#part("json").textContent = "";
        this.#root.classList.add(why);
        this.#verdict.hide();
        this.#why.clear();
    }

    #sync(): void {
        this.#rule.set(this.options.state.rule);
        this.#other.set(this.options.state.other);
        this.#weights.set(this.options.state.weights);
    }

    #loaded(model: Sttabt): void {
        this.#info = model.info;
        this.#rule.limit(model.info.rules);
        this.#other.limit(model.info.rules);
        this.options.onModel(model);
    }

    #show(results: Result[], jobs: Job[], input: Input | null = null): void {
        const [result, other = null] = results;
        if (!result || !this.#info) return;
        this.#root.classList.remove("without-input", "without-result");
        const { chosen } = this.#why;
        const isSameInput = input !== null && this.#shown === input;
        this.#shown = input;
        [this.#results, this.#jobs] = [results, jobs];
        const names = this.#names();
        this.#views[0].show(result, other, this.#info);
        if (other) this.#views[1].show(other, result, this.#info);
        this.#part("result").classList.toggle("comparing", other !== null);
        setAttributes(this.#part("beside"), { hidden: other === null });
        setAttributes(this.#part("names"), { hidden: other === null });
        this.#part("names").textContent = names[0] ?? "";
        this.#part("other-name").textContent = names[1] ?? "";
        const { labels } = this.#info;
        this.#part("probabilities").replaceChildren(
            ...results.map((one) => h("div", { class: "card" }, [summary(one), probabilities(one, labels)])),
        );
        this.#part("cost").replaceChildren(cost(results, this.#lanes(), null));
        this.#part("table").replaceChildren(table(result), ...(other ? [table(other)] : []));
        this.#part("json").textContent = resultJson(result);
        this.#verdict.show(result, this.#denseOf(input, jobs[0]));
        const asked = results[this.#asked];
        if (chosen && asked && isSameInput) void this.#why.show(asked, chosen);
        else this.#why.clear();
    }

    async #pick(index: number, spot: Spot): Promise<void> {
        const result = this.#results[index];
        if (!result) return;
        if (this.#isPrecomputed) return this.#why.say("The model is not here yet: ask again in a moment.");
        this.#asked = index;
        await this.#why.show(result, spot);
    }

    async #measure(): Promise<void> {
        const [input, results] = [this.#input, this.#results];
        if (input === null || results.length === 0 || !this.#runner.isIdle) return;
        const kinds = this.#kinds();
        const dense = kinds.map((weights): Job => ({ prune: { rule: "dense" }, weights }));
        const jobs = [...dense, ...this.#jobs];
        const runs = await this.#runner.run(input, Array.from({ length: MEASURE_ROUNDS }, () => jobs).flat(), { background: true }).catch(() => null);
        if (!runs || this.#results !== results) return;
        const medians = jobs.map((_, job) => median(runs.filter((_, index) => index % jobs.length === job).map(({ ms }) => ms)));
        const times: Times = { dense: medians.slice(0, kinds.length), pruned: medians.slice(kinds.length) };
        this.#part("cost").replaceChildren(cost(results, this.#lanes(), times));
    }

    /** The weights of the results, each once. */
    #kinds(): WeightsKind[] {
        return [...new Set(this.#jobs.map(({ weights }) => weights))];
    }

    /** A rule's name, with the weights where the results differ in them. */
    #named(name: string, weights: WeightsKind): string {
        return this.#kinds().length > 1 ? `${name}, ${weights}` : name;
    }

    #names(): string[] {
        return this.#results.map(({ prune }, index) => this.#named(ruleName(prune), this.#jobs[index]?.weights ?? "int8"));
    }

    /** The dense runs, and which of them each result is measured against: that with the same weights. */
    #lanes(): Lanes {
        const kinds = this.#kinds();
        return {
            dense: kinds.map((weights) => this.#named("dense", weights)),
            names: this.#names(),
            denseOf: this.#jobs.map(({ weights }) => kinds.indexOf(weights)),
        };
    }

    #showProgress(progress: Progress, weights: WeightsKind): void {
        // Another choice has taken its place.
        if (!jobsOf(this.options.state).some((job) => job.weights === weights)) return;
        this.#progress.show(progress, `${this.options.modelName} (${weights})`);
    }

    #part(name: string): HTMLElement {
        const part = this.#root.querySelector<HTMLElement>(`[data-part="${name}"]`);
        if (!part) throw new Error(`the page has no part ${name}`);
        return part;
    }

    #lay(): void {
        const part = (name: string, attributes = {}, tag: "div" | "pre" | "h2" = "div") => h(tag, { "data-part": name, ...attributes });
        const lane = h("div", { class: "lane" }, [part("names", { class: "names", hidden: true }, "h2"), this.#views[0].element]);
        const beside = h("div", { class: "lane", "data-part": "beside", hidden: true }, [
            part("other-name", { class: "names" }, "h2"),
            this.#views[1].element,
        ]);
        const details = (title: string, ...children: HTMLElement[]) => h("details", {}, [h("summary", {}, [title]), ...children]);
        const buttons = h("div", { class: "row" }, [
            h("button", { type: "button" }, ["Save picture"], { click: () => this.#savePicture() }),
            h("button", { type: "button" }, ["Save result"], { click: () => this.#saveResult() }),
            ...cardButtons(() => this.#card()),
            h("button", { type: "button" }, ["Copy link"], { click: (event) => void this.#copyLink(event.currentTarget as HTMLElement) }),
        ]);
        this.#root.append(
            this.#verdict.element,
            h("div", { class: "rules" }, [this.#rule.element, this.#other.element, this.#weights.element]),
            this.#progress.element,
            h("div", { class: "busy", "aria-hidden": "true" }),
            h("p", { class: "hint nothing", role: "status" }, [this.options.hint]),
            legend(),
            h("div", { class: "result", "data-part": "result" }, [
                h("div", { class: "lanes" }, [lane, beside]),
                h("div", { class: "side" }, [part("probabilities"), this.#why.element]),
            ]),
            h("section", { class: "card cost-section" }, [h("h2", {}, ["Cost"]), part("cost")]),
            buttons,
            details("The picture as a table", part("table", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Kept tokens by layer" })),
            details("The result as JSON", part("json", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Result as JSON" }, "pre")),
        );
    }

    #savePicture(): void {
        if (this.#results.length === 0) return;
        const pictures = this.#results.map((_, index) => this.#views[index as 0 | 1].paint());
        stacked(pictures).toBlob((blob) => blob && download("sttabt.png", blob));
    }

    #saveResult(): void {
        const [result, other] = this.#results;
        if (!result) return;
        const text = other ? `[${resultJson(result)},\n${resultJson(other)}]` : resultJson(result);
        download("sttabt.json", new Blob([text], { type: "application/json" }));
    }

    #card(): Card | null {
        const [result] = this.#results;
        return result ? { result, picture: result.grid ? this.#views[0].paint() : null, address: this.#address } : null;
    }

    get #address(): string {
        return new URL(hashOf(this.options.state), location.href).href;
    }

    async #copyLink(button: HTMLElement): Promise<void> {
        const { state } = this.options;
        const said = await navigator.clipboard.writeText(this.#address).then(
            () => "Copied",
            () => "The address bar has the link",
        );
        let lacks = "";
        if (state.tab === "images") lacks = ", without the picture";
        else if (state.text.length > MAX_LINK_TEXT) lacks = `, with the first ${MAX_LINK_TEXT} characters of the text`;
        const before = button.textContent;
        button.textContent = said + lacks;
        setTimeout(() => (button.textContent = before), lacks ? 4000 : 1500);
    }
}
