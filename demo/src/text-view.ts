// The sentence once per layer, from the input to `[CLS]`: a grid of tokens that is walked with the arrow keys.

import type { Result } from "sttabt";
import { h, setAttributes } from "./dom";
import { describe, isKept, rowName, scoreAt, type Spot, type View } from "./view";

/** Longer texts are drawn in part: thousands of buttons make the page slow, and nobody reads them. */
const MAX_DRAWN_TOKENS = 160;

export class TextView implements View {
    readonly element = h("div", { class: "sentence" });
    #result: Result | null = null;
    #cells: HTMLButtonElement[][] = [];
    #focus: Spot = { row: 0, position: 0 };

    constructor(
        private readonly label: string,
        private readonly onPick: (spot: Spot) => void,
    ) {}

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
                const text = describe(result, spot) + (differs ? "; the other rule chose otherwise" : "");
                cell.classList.toggle("removed", !kept);
                cell.classList.toggle("differs", differs);
                cell.style.setProperty("--heat", kept ? ((scores[position] ?? 0) / largest).toFixed(3) : "0");
                setAttributes(cell, { "aria-label": text, "data-tip": text });
            });
            const count = this.element.querySelector(`[data-row="${row}"] .count`);
            if (count) count.textContent = `${result.kept[row]?.length ?? 0} / ${result.numTokens}`;
        });
    }

    mark(trail: Spot[]): void {
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
                h("span", { class: "name", role: "rowheader" }, [rowName(row, numLayers)]),
                h("span", { class: "words", role: "presentation" }, words(result, cells)),
                h("span", { class: "count", role: "gridcell" }),
            ]),
        );
        const grid = h("div", { role: "grid", "aria-label": this.label }, rows, {
            keydown: (event) => this.#key(event),
        });
        const rest = result.tokens.length - numDrawn;
        const note = rest > 0 ? h("p", { class: "hint" }, [`and ${rest} more tokens, which the table below lists`]) : null;
        this.element.replaceChildren(grid, ...(note ? [note] : []));
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

    paint(): HTMLCanvasElement {
        return paintSentence(this.#result);
    }
}

function tokenText(result: Result, position: number): string {
    return (result.tokens[position] ?? "").replace(/^##/, "");
}

/** Wordpieces of one word stand together. */
function words(result: Result, cells: HTMLButtonElement[]): HTMLElement[] {
    const groups: HTMLButtonElement[][] = [];
    cells.forEach((cell, position) => {
        const last = groups.at(-1);
        if (result.tokens[position]?.startsWith("##") && last) last.push(cell);
        else groups.push([cell]);
    });
    return groups.map((group) => h("span", { class: "word", role: "presentation" }, group));
}

/** The picture for a file: dark on light, a line per layer. */
function paintSentence(result: Result | null): HTMLCanvasElement {
    const canvas = h("canvas");
    const context = canvas.getContext("2d");
    if (!context || !result) return canvas;
    const [font, size, line, margin, left] = ["15px system-ui, sans-serif", 2, 30, 24, 150];
    const numLayers = result.kept.length - 1;
    context.font = font;
    const texts = result.tokens.slice(0, MAX_DRAWN_TOKENS).map((_, position) => tokenText(result, position));
    const widths = texts.map((text) => context.measureText(text).width);
    const gaps = texts.map((_, position) => (result.tokens[position + 1]?.startsWith("##") ? 0 : 8));
    const width = left + widths.reduce((sum, width, index) => sum + width + (gaps[index] ?? 0), 0) + margin;
    canvas.width = width * size;
    canvas.height = (2 * margin + line * result.kept.length) * size;
    context.scale(size, size);
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, canvas.height);
    context.textBaseline = "middle";
    context.font = font;
    result.kept.forEach((kept, row) => {
        const y = margin + line * (row + 0.5);
        context.fillStyle = "#5b6472";
        context.fillText(rowName(row, numLayers), margin, y);
        let x = left;
        texts.forEach((text, position) => {
            const isKeptHere = kept.includes(position);
            if (isKeptHere) {
                context.fillStyle = "#cfe2ff";
                context.fillRect(x - 2, y - 12, (widths[position] ?? 0) + 4, 24);
            }
            context.fillStyle = isKeptHere ? "#10131a" : "#b9bfca";
            context.fillText(text, x, y);
            x += (widths[position] ?? 0) + (gaps[position] ?? 0);
        });
    });
    return canvas;
}

