// Curves over the sentence: from the chosen token to those that asked for it, and on to `[CLS]`.

import type { Asker, Spot } from "./view";

const SVG = "http://www.w3.org/2000/svg";

export class Trail {
    readonly element = document.createElementNS(SVG, "svg");
    #trail: Spot[] = [];
    #askers: Asker[] = [];

    constructor(
        private readonly frame: HTMLElement,
        private readonly cellOf: (spot: Spot) => Element | undefined,
    ) {
        this.element.setAttribute("class", "curves");
        this.element.setAttribute("aria-hidden", "true");
        new ResizeObserver(() => this.#draw()).observe(frame);
    }

    show(trail: Spot[], askers: Asker[]): void {
        this.#trail = trail;
        this.#askers = askers;
        this.#draw();
    }

    #draw(): void {
        const [first] = this.#trail;
        const asked = first ? this.#askers.map((asker) => this.#curve(first, asker, asker.share)) : [];
        const steps = this.#trail.slice(1).map((spot, index) => this.#curve(this.#trail[index] as Spot, spot, null));
        this.element.replaceChildren(...[...asked, ...steps].filter((curve) => curve !== null));
    }

    /** `share`: of an asker; null for a step of the trail. */
    #curve(from: Spot, to: Spot, share: number | null): SVGPathElement | null {
        const [upper, lower] = from.row < to.row ? [from, to] : [to, from];
        const [start, end] = [this.cellOf(upper), this.cellOf(lower)];
        if (!start || !end || upper.row === lower.row) return null;
        const box = this.frame.getBoundingClientRect();
        const [above, below] = [start.getBoundingClientRect(), end.getBoundingClientRect()];
        const [x0, y0] = [above.left + above.width / 2 - box.left, above.bottom - box.top];
        const [x1, y1] = [below.left + below.width / 2 - box.left, below.top - box.top];
        const middle = (y0 + y1) / 2;
        const curve = document.createElementNS(SVG, "path");
        curve.setAttribute("d", `M${x0} ${y0}C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`);
        curve.setAttribute("class", share === null ? "step" : "asker");
        if (share !== null) curve.style.setProperty("--share", share.toFixed(3));
        return curve;
    }
}
