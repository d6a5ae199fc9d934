// Choosing a rule and its ratio.

import { h, setAttributes } from "./dom";
import { hasRatio, RULES, type Rule, type RuleName } from "./state";

const TITLES: Record<RuleName, string> = {
    dense: "dense: all tokens",
    topk: "top-k back-tracking",
    concrete: "concrete: learned thresholds",
    oracle: "oracle: the model’s own attention",
    forward: "forward: each layer chooses",
};

export class RuleControl {
    readonly element: HTMLElement;
    readonly #select: HTMLSelectElement;
    readonly #slider = h("input", { type: "range", min: 0.02, max: 1, step: 0.01 });
    readonly #output = h("output", { class: "number" });
    readonly #ratio: HTMLElement;
    #rule: Rule = { name: "dense", ratio: 0.5 };

    /** With `none`, the choice may be no rule at all. */
    constructor(
        name: string,
        none: string | null,
        private readonly onChange: (rule: Rule | null) => void,
    ) {
        const options = RULES.map((rule) => h("option", { value: rule }, [TITLES[rule]]));
        if (none !== null) options.unshift(h("option", { value: "" }, [none]));
        this.#select = h("select", {}, options, { change: () => this.#changed() });
        this.#slider.addEventListener("input", () => this.#changed());
        this.#ratio = h("label", { class: "ratio" }, ["Ratio ", this.#slider, this.#output]);
        this.element = h("div", { class: "rule" }, [h("label", {}, [`${name} `, this.#select]), this.#ratio]);
    }

    set(rule: Rule | null): void {
        if (rule) this.#rule = rule;
        this.#select.value = rule?.name ?? "";
        this.#slider.value = String(this.#rule.ratio);
        this.#output.textContent = this.#rule.ratio.toFixed(2);
        setAttributes(this.#ratio, { hidden: rule === null || !hasRatio(rule.name) });
    }

    /** Takes rules away that the model cannot follow. */
    limit(hasApproxNet: boolean, hasThresholds: boolean): void {
        for (const option of this.#select.options) {
            option.disabled = (option.value === "topk" && !hasApproxNet) || (option.value === "concrete" && !(hasApproxNet && hasThresholds));
        }
    }

    #changed(): void {
        const name = this.#select.value as RuleName | "";
        const rule = name === "" ? null : { name, ratio: Number(this.#slider.value) };
        this.set(rule);
        this.onChange(rule);
    }
}
