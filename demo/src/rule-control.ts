// Choosing a rule, and its ratio or threshold.

import { RULES, type RuleInfo } from "sttabt";
import { h, setAttributes } from "./dom";
import { infoOf, NUMBERS, type Rule } from "./state";

export class RuleControl {
    readonly element: HTMLElement;
    readonly #select: HTMLSelectElement;
    readonly #slider = h("input", { type: "range", min: 0.02, max: 1, step: 0.01 });
    readonly #output = h("output", { class: "number" });
    readonly #ratio = h("label", { class: "ratio" }, ["Ratio ", this.#slider, this.#output]);
    readonly #number = h("input", { type: "number", min: 0, max: 1, step: 0.001, placeholder: "learned" });
    readonly #threshold = h("label", { class: "threshold" }, ["Threshold ", this.#number]);
    readonly #about = h("p", { class: "hint" });
    /** Those of the model, once it is there. */
    #rules: readonly RuleInfo[] | null = null;
    /** The last number of each kind: they stay while other rules are looked at. */
    readonly #last: { ratios: number; thresholds: number | null } = { ratios: NUMBERS.ratios.first, thresholds: null };

    /** With `none`, the choice may be no rule at all. */
    constructor(
        name: string,
        none: string | null,
        private readonly onChange: (rule: Rule | null) => void,
    ) {
        const options = RULES.map((rule) => h("option", { value: rule.name }, [rule.name]));
        if (none !== null) options.unshift(h("option", { value: "" }, [none]));
        this.#select = h("select", {}, options, { change: () => this.#changed() });
        this.#slider.addEventListener("input", () => this.#changed());
        // Not with every key: half a number is none.
        this.#number.addEventListener("change", () => this.#changed());
        this.element = h("div", { class: "rule" }, [h("label", {}, [`${name} `, this.#select]), this.#ratio, this.#threshold, this.#about]);
    }

    set(rule: Rule | null): void {
        const info = rule ? infoOf(rule.name) : undefined;
        if (info?.argument === "ratios") this.#last.ratios = rule?.number ?? this.#last.ratios;
        if (info?.argument === "thresholds") this.#last.thresholds = rule?.number ?? null;
        this.#select.value = rule?.name ?? "";
        this.#slider.value = String(this.#last.ratios);
        this.#output.textContent = this.#last.ratios.toFixed(2);
        this.#number.value = String(this.#last.thresholds ?? "");
        this.#about.textContent = info?.about ?? "";
        setAttributes(this.#ratio, { hidden: info?.argument !== "ratios" });
        setAttributes(this.#threshold, { hidden: info?.argument !== "thresholds" });
        setAttributes(this.#about, { hidden: !info });
    }

    /** Takes rules away that the model cannot follow, and says why. A threshold can be given where none was learned. */
    limit(rules: readonly RuleInfo[]): void {
        this.#rules = rules;
        for (const option of this.#select.options) {
            const info = rules.find(({ name }) => name === option.value);
            if (!info) continue;
            option.disabled = info.lacks !== undefined && info.argument !== "thresholds";
            option.textContent = option.disabled ? `${info.name}: needs ${info.lacks}` : info.name;
        }
    }

    #changed(): void {
        const info = (this.#rules ?? RULES).find(({ name }) => name === this.#select.value);
        const rule = info ? { name: info.name, number: this.#numberOf(info) } : null;
        this.set(rule);
        this.onChange(rule);
    }

    #numberOf({ argument, lacks }: RuleInfo): number | null {
        if (argument === "none") return null;
        if (argument === "ratios") return Number(this.#slider.value);
        const { first, fits } = NUMBERS.thresholds;
        const given = this.#number.value;
        if (given === "") return this.#rules && lacks === undefined ? null : first;
        return fits(Number(given)) ? Number(given) : this.#last.thresholds;
    }
}
