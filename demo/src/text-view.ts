// The sentence once per layer, from the input to `[CLS]`: a grid of tokens that is walked with the arrow keys.

import type { Result } from "sttabt";
import { h, setAttributes } from "./dom";
import { paintSentence } from "./paint-sentence";
import { Trail } from "./trail";
import { describe, isKept, rowLabel, scoreAt, type Asker, type Spot, type View } from "./view";

/** Longer texts are drawn in part: thousands of buttons make the page slow, and nobody reads them. */
const MAX_DRAWN_TOKENS = 160;

export class TextView implements View {
    readonly element = h("div", { class: "sentence" });
    #result: Result | null = null;
    #cells: HTMLButtonElement[][] = [];
    #focus: Spot = { row: 0, position: 0 };
    readonly #trail = new Trail(this.element, (spot) => this.#cells[spot.row]?.[spot.position]);
    readonly #tip = h("div", { class: "tip", "aria-hidden": "true", hidden: true });

    constructor(
        private readonly label: string,
        private readonly onPick: (spot: Spot) => void,
    ) {
        const show = (event: Event) => this.#showTip((event.target as Element).closest(".token"));
        this.element.addEventListener("mouseover", show);
        this.element.addEventListener("focusin", show);
        this.element.addEventListener("mouseleave", () => this.#showTip(null));
        this.element.addEventListener("focusout", () => this.#showTip(null));
    }

    show(result: Result, other: Result | null): void {
        const isSameText = this.#result?.tokens.join(" ") === result.tokens.join(" ");
        this.#result = result;
        if (!isSameText || this.#cells.length !== result.kept.length) this.#build(result);
        this.#cells.forEach((cells, row) => {
            const scores = cells.map((_, position) => scoreAt(result, { row, position }) ?? 0);
            const largest = Math.max(...scores, 1e-12);
            cells.forEach((cell, position) => {
                const spot = { row, position };
                const kept = isKept(result, spot);
                const differs = other !== null && isKept(other, spot) !== kept;
                const text = describe(result, spot) + (differs ? "; the other chose otherwise" : "");
                cell.classList.toggle("removed", !kept);
                cell.classList.toggle("differs", differs);
                cell.style.setProperty("--heat", kept ? ((scores[position] ?? 0) / largest).toFixed(3) : "0");
                setAttributes(cell, { "aria-label": text });
            });
            const count = this.element.querySelector(`[data-row="${row}"] .count`);
            if (count) count.textContent = `${result.kept[row]?.length ?? 0} / ${result.numTokens}`;
        });
    }

    mark(trail: Spot[], askers: Asker[]): void {
        this.#trail.show(trail, askers);
        this.#cells.flat().forEach((cell) => cell.classList.remove("trail", "chosen"));
        trail.forEach(({ row, position }, step) => {
            this.#cells[row]?.[position]?.classList.add(step === 0 ? "chosen" : "trail");
        });
    }

    #build(result: Result): void {
        const numLayers = result.kept.length - 1;
        const numDrawn = Math.min(result.tokens.length, MAX_DRAWN_TOKENS);
        this.#focus = { row: 0, position: 0 };
        this.#cells = result.kept.map((_, row) =>
            Array.from({ length: numDrawn }, (_, position) =>
                h("button", { type: "button", role: "gridcell", class: "token", tabindex: -1 }, [tokenText(result, position)], {
                    click: () => this.#pick({ row, position }),
                    focus: () => this.#moveTo({ row, position }, false),
                }),
            ),
        );
        const rows = this.#cells.map((cells, row) =>
            h("div", { class: "level", role: "row", "data-row": row }, [
                h("span", { class: "name", role: "rowheader" }, [rowLabel(row, numLayers)]),
                h("span", { class: "words", role: "presentation", dir: direction(result) }, words(result, cells)),
                h("span", { class: "count", role: "gridcell" }),
            ]),
        );
        const grid = h("div", { role: "grid", "aria-label": this.label }, rows, {
            keydown: (event) => this.#key(event),
        });
        const rest = result.tokens.length - numDrawn;
        const note = rest > 0 ? h("p", { class: "hint" }, [`and ${rest} more tokens, which the table below lists`]) : null;
        this.element.replaceChildren(this.#trail.element, grid, this.#tip, ...(note ? [note] : []));
        this.#cells[0]?.[0]?.setAttribute("tabindex", "0");
    }

    #pick(spot: Spot): void {
        this.#moveTo(spot, false);
        this.onPick(spot);
    }

    #moveTo(spot: Spot, withFocus: boolean): void {
        this.#cells[this.#focus.row]?.[this.#focus.position]?.setAttribute("tabindex", "-1");
        const cell = this.#cells[spot.row]?.[spot.position];
        if (!cell) return;
        this.#focus = spot;
        cell.setAttribute("tabindex", "0");
        if (withFocus) cell.focus();
    }

    #key(event: KeyboardEvent): void {
        const { row, position } = this.#focus;
        const last = (this.#cells[row]?.length ?? 1) - 1;
        const steps: Record<string, Spot> = {
            ArrowLeft: { row, position: Math.max(position - 1, 0) },
            ArrowRight: { row, position: Math.min(position + 1, last) },
            ArrowUp: { row: Math.max(row - 1, 0), position },
            ArrowDown: { row: Math.min(row + 1, this.#cells.length - 1), position },
            Home: { row, position: 0 },
            End: { row, position: last },
        };
        const next = steps[event.key];
        if (!next) return;
        event.preventDefault();
        this.#moveTo(next, true);
    }

    /** Over its token, as the curves run below it, and never beyond the picture's sides. */
    #showTip(cell: Element | null): void {
        setAttributes(this.#tip, { hidden: cell === null });
        if (!cell) return;
        this.#tip.textContent = cell.getAttribute("aria-label");
        const [box, at] = [this.element.getBoundingClientRect(), cell.getBoundingClientRect()];
        const left = Math.min(at.left - box.left, box.width - this.#tip.offsetWidth);
        this.#tip.style.setProperty("left", `${Math.max(left, 0)}px`);
        this.#tip.style.setProperty("top", `${at.top - box.top}px`);
    }

    paint(): HTMLCanvasElement {
        return paintSentence(
            this.#result,
            (this.#cells[0] ?? []).map(({ textContent }) => textContent ?? ""),
        );
    }
}

function tokenText(result: Result, position: number): string {
    return (result.tokens[position] ?? "").replace(/^##/, "");
}

/** As the first letter says; `[CLS]` is none of the text. */
function direction(result: Result): "ltr" | "rtl" {
    return directionOf(result.tokens.slice(1, -1).join(" "));
}

function directionOf(text: string): "ltr" | "rtl" {
    const letter = /\p{L}/u.exec(text)?.[0] ?? "a";
    return /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u.test(letter) ? "rtl" : "ltr";
}

/** Wordpieces of one word stand together. */
function words(result: Result, cells: HTMLButtonElement[]): HTMLElement[] {
    const groups: HTMLButtonElement[][] = [];
    cells.forEach((cell, position) => {
        const last = groups.at(-1);
        if (result.tokens[position]?.startsWith("##") && last) last.push(cell);
        else groups.push([cell]);
    });
    // Each in its own direction: a text may mix them.
    const text = (group: HTMLButtonElement[]) => group.map(({ textContent }) => textContent).join("");
    return groups.map((group) => h("span", { class: "word", role: "presentation", dir: directionOf(text(group)) }, group));
}
