// Choosing the weights that compute.

import { h } from "./dom";
import { WEIGHTS, type Weights } from "./state";

const NAMES: Record<Weights, string> = { int8: "int8", f16: "f16", both: "int8, and f16 beside it" };
const ABOUT: Record<Weights, string> = {
    int8: "half the download, and faster on a CPU: layers multiply whole numbers",
    f16: "twice the download: what the int8 weights are made of",
    both: "the same input with both; the f16 weights are downloaded too",
};

export class WeightsControl {
    readonly element: HTMLElement;
    readonly #select: HTMLSelectElement;
    readonly #about = h("p", { class: "hint" });

    constructor(onChange: (weights: Weights) => void) {
        const options = WEIGHTS.map((weights) => h("option", { value: weights }, [NAMES[weights]]));
        this.#select = h("select", {}, options, {
            change: () => {
                const weights = WEIGHTS[this.#select.selectedIndex] ?? "int8";
                this.set(weights);
                onChange(weights);
            },
        });
        this.element = h("div", { class: "rule weights" }, [h("label", {}, ["Weights ", this.#select]), this.#about]);
    }

    set(weights: Weights): void {
        this.#select.value = weights;
        this.#about.textContent = ABOUT[weights];
    }
}
