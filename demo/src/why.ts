// Why a token stayed or went: its score against what was asked for, who asked for it, and the trail back from `[CLS]`.

import type { Result, Why } from "sttabt";
import { h } from "./dom";
import { choosingLayer, rowLabel, rowName, rowOfLayer, tokenName, type Asker, type Spot } from "./view";

const MAX_CONTRIBUTIONS = 6;
/** More lines than these hide the picture. */
const MAX_DRAWN_ASKERS = 12;

export class WhyPanel {
    readonly element = h("section", { class: "card why", "aria-live": "polite" });
    /** The token that it speaks of. */
    chosen: Spot | null = null;
    #ticket = 0;

    constructor(
        private readonly onTrail: (trail: Spot[], askers: Asker[]) => void,
        private readonly onPick: (spot: Spot) => void,
    ) {
        this.clear();
    }

    clear(): void {
        this.#ticket++;
        this.chosen = null;
        this.element.classList.remove("open");
        this.element.replaceChildren(
            h("h2", {}, ["Why?"]),
            h("p", { class: "hint" }, ["Choose a word, a patch, or one of its layers to see who asked for it."]),
        );
        this.onTrail([], []);
    }

    say(text: string): void {
        this.clear();
        this.element.append(h("p", { role: "status" }, [text]));
    }

    async show(result: Result, spot: Spot): Promise<void> {
        const ticket = ++this.#ticket;
        const numLayers = result.kept.length - 1;
        this.chosen = spot;
        this.element.classList.add("open");
        const close = h("button", { type: "button", class: "close" }, ["Close"], { click: () => this.clear() });
        const title = h("h2", {}, [`Why? ${tokenName(result, spot.position)}, ${rowName(spot.row, numLayers)}`, close]);
        this.onTrail([spot], []);
        const layer = choosingLayer(result, spot.row);
        if (layer === null) {
            this.element.replaceChildren(title, h("p", {}, [nothingChosen(result, spot, numLayers)]));
            return;
        }
        this.element.replaceChildren(title, h("p", { class: "hint" }, ["asking …"]));
        try {
            const why = await result.why(layer, spot.position);
            const trail = await trailOf(result, why);
            if (ticket !== this.#ticket) return;
            this.onTrail(trail, askersOf(result, why));
            this.element.replaceChildren(title, ...this.#content(result, why, trail));
        } catch (error) {
            if (ticket !== this.#ticket) return;
            this.element.replaceChildren(title, h("p", { role: "alert" }, [error instanceof Error ? error.message : String(error)]));
        }
    }

    #content(result: Result, why: Why, trail: Spot[]): HTMLElement[] {
        const numLayers = result.kept.length - 1;
        const askers = why.contributions.filter(({ value }) => value > 0);
        const largest = askers[0]?.value ?? 1;
        const row = askingRow(result, why);
        const items = askers.slice(0, MAX_CONTRIBUTIONS).map(({ position, value }) => {
            const bar = h("span", { class: "bar" });
            bar.style.setProperty("--share", (value / largest).toFixed(4));
            const name = h("button", { type: "button", class: "link" }, [tokenName(result, position)], {
                click: () => this.onPick({ row, position }),
            });
            return h("li", {}, [name, bar, h("span", { class: "number" }, [value.toPrecision(3)])]);
        });
        const rest = askers.slice(MAX_CONTRIBUTIONS).reduce((sum, { value }) => sum + value, 0);
        const others = askers.length - items.length;
        const chain = stays(trail).flatMap(([first, last], step): HTMLElement[] => {
            const upTo = last.row === first.row ? "" : last.row === numLayers ? "–output" : `–${last.row + 1}`;
            return [
                ...(step > 0 ? [h("span", { class: "arrow" }, ["← ", h("span", { class: "visually-hidden" }, ["asked for by"])])] : []),
                h("span", { class: step === 0 ? "chip chosen" : "chip" }, [
                    `${tokenName(result, first.position)} `,
                    h("small", {}, [rowLabel(first.row, numLayers) + upTo]),
                ]),
            ];
        });
        return [
            h("p", { class: why.kept ? "verdict kept" : "verdict gone" }, [why.reason]),
            scale(why),
            h("h3", {}, [why.kept ? "Who asked for it" : "Who asked for it, and how little"]),
            h("ol", { class: "askers" }, items),
            ...(others > 0 ? [h("p", { class: "hint" }, [`and ${others} more with ${rest.toPrecision(3)} together`])] : []),
            h("h3", {}, ["The trail back to [CLS]"]),
            h("p", { class: "chain" }, chain),
        ];
    }
}

/** The rows that ask are those of the next layer; layer by layer, those that entered this one. */
function askingRow(result: Result, why: Why): number {
    return result.layerByLayer ? why.layer : why.layer + 1;
}

function askersOf(result: Result, why: Why): Asker[] {
    const row = askingRow(result, why);
    const largest = why.contributions[0]?.value ?? 1;
    return why.contributions
        .filter(({ value }) => value > 0.02 * largest)
        .slice(0, MAX_DRAWN_ASKERS)
        .map(({ position, value }) => ({ row, position, share: value / largest }));
}

/** The score against the cut, on one line. */
function scale(why: Why): HTMLElement {
    const largest = Math.max(why.score, why.cut, 1e-12);
    const meter = (name: string, value: number, kind: string) => {
        const bar = h("span", { class: `bar ${kind}` });
        bar.style.setProperty("--share", (value / largest).toFixed(4));
        return h("li", {}, [h("span", {}, [name]), bar, h("span", { class: "number" }, [value.toPrecision(3)])]);
    };
    return h("ul", { class: "askers" }, [meter("its score", why.score, ""), meter("needed", why.cut, "cut")]);
}

/** From a token, always to the kept row that asked for it most, up to `[CLS]` of the output. */
async function trailOf(result: Result, first: Why): Promise<Spot[]> {
    const numLayers = result.kept.length - 1;
    const trail: Spot[] = [{ row: rowOfLayer(result, first.layer), position: first.position }];
    if (result.layerByLayer) return trail;
    for (let why = first; ; ) {
        const kept = result.kept[why.layer + 1] ?? [];
        const asker = why.contributions.find(({ position }) => kept.includes(position));
        if (!asker) return trail;
        const spot = { row: why.layer + 1, position: asker.position };
        trail.push(spot);
        if (spot.row >= numLayers || spot.position === 0) return trail;
        why = await result.why(spot.row, spot.position);
    }
}

/** The trail without its repetitions: where it comes to a position, and where it leaves it. */
function stays(trail: Spot[]): [Spot, Spot][] {
    const stays: [Spot, Spot][] = [];
    for (const spot of trail) {
        const last = stays.at(-1);
        if (last && last[0].position === spot.position) last[1] = spot;
        else stays.push([spot, spot]);
    }
    return stays;
}

function nothingChosen(result: Result, spot: Spot, numLayers: number): string {
    if (result.prune.rule === "dense") return "The dense model computes all tokens in all layers: nothing is chosen.";
    if (spot.row === numLayers) {
        return spot.position === 0
            ? "Only [CLS] is left: the classifier reads nothing else."
            : "The classifier reads [CLS] alone, so the last layer computes no other output.";
    }
    return "All tokens enter the first layer: this rule looks at a layer's own attention, and chooses after it.";
}
