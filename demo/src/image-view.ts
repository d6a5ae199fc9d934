// The picture with its removed patches faded: one layer large, all layers small.

import type { ModelInfo, Result } from "sttabt";
import { h, setAttributes } from "./dom";
import { ruleName } from "./figures";
import { join, line, outline, type Rect } from "./strokes";
import { describe, firstPatch, isKept, rowLabel, rowName, type Asker, type Spot, type View } from "./view";

/** Pixels of the large picture and of a small one, whatever the model sees. */
const LARGE = 448;
const SMALL = 112;
const FADE_MS = 280;
const PLAY_MS = 900;

export class ImageView implements View {
    readonly element: HTMLElement;
    readonly #large = h("canvas", { width: LARGE, height: LARGE, tabindex: 0, role: "img", class: "large" });
    readonly #says = h("p", { class: "says", "aria-live": "polite" });
    readonly #slider = h("input", { type: "range", min: 0, value: 0, step: 1 });
    readonly #sliderText = h("output");
    readonly #play = h("button", { type: "button" }, ["Play"]);
    readonly #small = h("div", { class: "small-multiples", role: "group" });
    #result: Result | null = null;
    #other: Result | null = null;
    #picture: HTMLCanvasElement | null = null;
    #layer = 0;
    #cursor = 1;
    #trail: Spot[] = [];
    #askers: Asker[] = [];
    /** How much of every patch is covered; moves towards the layer's kept set. */
    #cover: Float32Array = new Float32Array(0);
    #timer = 0;
    #frame = 0;

    constructor(
        private readonly label: string,
        private readonly onPick: (spot: Spot) => void,
        private readonly onLayer: (layer: number) => void,
    ) {
        this.#large.addEventListener("click", (event) => this.#pick(this.#patchAt(event)));
        this.#large.addEventListener("mousemove", (event) => this.#say(this.#patchAt(event)));
        this.#large.addEventListener("keydown", (event) => this.#key(event));
        this.#slider.addEventListener("input", () => this.#choose(Number(this.#slider.value)));
        this.#play.addEventListener("click", () => (this.#timer ? this.#stop() : this.#start()));
        const hint = "Click a patch, or walk with the arrow keys and press Enter, to see why it stayed or went.";
        const layer = h("label", { class: "layer" }, ["Layer ", this.#slider, this.#sliderText]);
        const controls = h("div", { class: "row" }, [this.#play, layer]);
        this.element = h("div", { class: "picture" }, [
            this.#large,
            h("div", { class: "beside" }, [controls, this.#small, this.#says, h("p", { class: "hint" }, [hint])]),
        ]);
        setAttributes(this.#small, { "aria-label": `${label}: all layers` });
    }

    show(result: Result, other: Result | null, _info: ModelInfo): void {
        this.#result = result;
        this.#other = other;
        const { resized } = result;
        if (!resized || !result.grid) return;
        this.#picture = h("canvas", { width: resized.width, height: resized.height });
        this.#picture.getContext("2d")?.putImageData(resized, 0, 0);
        const numLayers = result.kept.length - 1;
        setAttributes(this.#slider, { max: numLayers });
        if (this.#small.childElementCount !== numLayers + 1) this.#buildSmall(numLayers);
        this.#small.querySelectorAll("button").forEach((button, row) => {
            const canvas = button.querySelector("canvas");
            if (canvas) this.#draw(canvas, coverOf(result, row), row, false);
            const count = button.querySelector(".count");
            const numKept = result.kept[row]?.length ?? 0;
            if (count) count.textContent = `${numKept}`;
            setAttributes(button, { title: `${rowName(row, numLayers)}: ${numKept} of ${result.numTokens} tokens` });
        });
        // A drag of the rule's slider repaints at once: only a change of the layer fades.
        this.#cover = coverOf(result, Math.min(this.#layer, numLayers));
        this.setLayer(Math.min(this.#layer, numLayers));
    }

    setLayer(layer: number): void {
        this.#layer = layer;
        // What was said is of another layer, rule or picture.
        this.#says.textContent = "";
        const result = this.#result;
        if (!result) return;
        const numLayers = result.kept.length - 1;
        const name = rowName(layer, numLayers);
        this.#slider.value = String(layer);
        setAttributes(this.#slider, { "aria-valuetext": name });
        this.#sliderText.textContent = `${rowLabel(layer, numLayers)}: ${result.kept[layer]?.length ?? 0} of ${result.numTokens} tokens`;
        setAttributes(this.#large, {
            "aria-label": `${this.label}: what ${name}, ${result.kept[layer]?.length ?? 0} of ${result.numTokens} tokens`,
        });
        this.#small.querySelectorAll("button").forEach((button, row) => {
            setAttributes(button, { "aria-pressed": row === layer ? "true" : "false" });
        });
        this.#fade();
    }

    mark(trail: Spot[], askers: Asker[]): void {
        this.#trail = trail;
        this.#askers = askers;
        this.#drawLarge();
    }

    paint(): HTMLCanvasElement {
        const result = this.#result;
        const columns = 5;
        const rows = Math.ceil((result?.kept.length ?? 1) / columns);
        const [size, gap, caption, title] = [224, 12, 24, 36];
        const width = columns * (size + gap) + gap;
        const canvas = h("canvas", { width, height: title + rows * (size + caption + gap) + gap });
        const context = canvas.getContext("2d");
        if (!context || !result) return canvas;
        context.fillStyle = "#ffffff";
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.fillStyle = "#10131a";
        context.font = "15px system-ui, sans-serif";
        context.fillText(`${result.label}, with ${ruleName(result.prune)}`, gap, 24);
        result.kept.forEach((kept, row) => {
            const panel = h("canvas", { width: size, height: size });
            this.#draw(panel, coverOf(result, row), row, false);
            const [x, y] = [gap + (row % columns) * (size + gap), title + Math.floor(row / columns) * (size + caption + gap)];
            context.drawImage(panel, x, y);
            context.fillText(`${rowName(row, result.kept.length - 1)}: ${kept.length} of ${result.numTokens}`, x, y + size + 17);
        });
        return canvas;
    }

    #buildSmall(numLayers: number): void {
        const buttons = Array.from({ length: numLayers + 1 }, (_, row) =>
            h(
                "button",
                { type: "button" },
                [
                    h("canvas", { width: SMALL, height: SMALL, "aria-hidden": "true" }),
                    h("span", {}, [row === numLayers ? "out" : `${row + 1}`]),
                    h("span", { class: "count" }),
                ],
                { click: () => this.#choose(row) },
            ),
        );
        this.#small.replaceChildren(...buttons);
    }

    #choose(layer: number): void {
        this.#stop();
        this.setLayer(layer);
        this.onLayer(layer);
    }

    #start(): void {
        const numRows = this.#result?.kept.length ?? 1;
        this.#play.textContent = "Pause";
        if (this.#layer === numRows - 1) this.setLayer(0);
        this.#timer = window.setInterval(() => {
            const next = this.#layer + 1;
            if (next >= numRows) return this.#stop();
            this.setLayer(next);
            this.onLayer(next);
        }, PLAY_MS);
    }

    #stop(): void {
        window.clearInterval(this.#timer);
        this.#timer = 0;
        this.#play.textContent = "Play";
    }

    #fade(): void {
        const result = this.#result;
        if (!result) return;
        cancelAnimationFrame(this.#frame);
        const [from, to] = [this.#cover.slice(), coverOf(result, this.#layer)];
        const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
        const start = performance.now();
        const step = (now: number) => {
            const done = isStill ? 1 : Math.min(Math.max((now - start) / FADE_MS, 0), 1);
            this.#cover = to.map((target, index) => (from[index] ?? 0) + (target - (from[index] ?? 0)) * done);
            this.#drawLarge();
            if (done < 1) this.#frame = requestAnimationFrame(step);
        };
        step(start);
    }

    #drawLarge(): void {
        this.#draw(this.#large, this.#cover, this.#layer, true);
    }

    #draw(canvas: HTMLCanvasElement, cover: Float32Array, row: number, isLarge: boolean): void {
        const [context, result] = [canvas.getContext("2d"), this.#result];
        if (!context || !this.#picture || !result?.grid) return;
        const [rows, columns] = result.grid;
        const [width, height] = [canvas.width / columns, canvas.height / rows];
        context.drawImage(this.#picture, 0, 0, canvas.width, canvas.height);
        const first = firstPatch(result);
        const rect = (position: number): Rect => {
            const patch = position - first;
            const [x, y] = [(patch % columns) * width, Math.floor(patch / columns) * height];
            return [x, y, width, height];
        };
        for (let position = first; position < result.numTokens; position++) {
            context.fillStyle = `rgba(12, 14, 20, ${0.82 * (cover[position] ?? 0)})`;
            context.fillRect(...rect(position));
        }
        // In the small pictures the crosses would hide what they mark.
        this.#drawBorder(context, result, row, width, height, isLarge ? this.#other : null);
        if (!isLarge) return;
        const [chosen] = this.#trail;
        if (chosen && chosen.row === row && chosen.position >= first) {
            const askers = this.#askers.filter(({ position }) => position >= first);
            for (const { position, share } of askers) join(context, rect(chosen.position), rect(position), share);
        }
        this.#trail.forEach((spot, step) => {
            if (spot.position < first) return;
            outline(context, rect(spot.position), step === 0 ? "#ffffff" : "#f0e442", step === 0 ? 3 : 2);
        });
        if (document.activeElement === canvas) outline(context, rect(this.#cursor), "#56b4e9", 3);
    }

    /** The border of the kept region, and the patches where the other result differs. */
    #drawBorder(context: CanvasRenderingContext2D, result: Result, row: number, width: number, height: number, other: Result | null): void {
        const [rows, columns] = result.grid ?? [0, 0];
        const first = firstPatch(result);
        const kept = new Set(result.kept[row]);
        const has = (y: number, x: number) =>
            y >= 0 && x >= 0 && y < rows && x < columns && kept.has(first + y * columns + x);
        context.strokeStyle = "#e69f00";
        context.lineWidth = Math.max(width / 14, 1);
        context.beginPath();
        for (let y = 0; y < rows; y++) {
            for (let x = 0; x < columns; x++) {
                const [left, top, right, bottom] = [x * width, y * height, (x + 1) * width, (y + 1) * height];
                if (has(y, x) !== has(y, x - 1)) line(context, left, top, left, bottom);
                if (has(y, x) !== has(y - 1, x)) line(context, left, top, right, top);
                if (x === columns - 1 && has(y, x)) line(context, right, top, right, bottom);
                if (y === rows - 1 && has(y, x)) line(context, left, bottom, right, bottom);
                const spot = { row, position: first + y * columns + x };
                if (other && isKept(other, spot) !== has(y, x)) {
                    // A cross: a mark that does not rest on colour.
                    line(context, left + width * 0.3, top + height * 0.3, right - width * 0.3, bottom - height * 0.3);
                    line(context, right - width * 0.3, top + height * 0.3, left + width * 0.3, bottom - height * 0.3);
                }
            }
        }
        context.stroke();
    }

    #patchAt(event: MouseEvent): number {
        const [rows, columns] = this.#result?.grid ?? [1, 1];
        const box = this.#large.getBoundingClientRect();
        const at = (offset: number, size: number, count: number) =>
            Math.min(Math.max(Math.floor((offset / size) * count), 0), count - 1);
        const [x, y] = [at(event.clientX - box.left, box.width, columns), at(event.clientY - box.top, box.height, rows)];
        return (this.#result ? firstPatch(this.#result) : 1) + y * columns + x;
    }

    #say(position: number): void {
        if (this.#result) this.#says.textContent = describe(this.#result, { row: this.#layer, position });
    }

    #pick(position: number): void {
        this.#cursor = position;
        this.#say(position);
        this.onPick({ row: this.#layer, position });
    }

    #key(event: KeyboardEvent): void {
        const [rows, columns] = this.#result?.grid ?? [1, 1];
        const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
        const step = steps[event.key];
        if (step !== undefined) {
            const next = this.#cursor + step;
            const patch = next - (this.#result ? firstPatch(this.#result) : 1);
            if (patch >= 0 && patch < rows * columns) this.#cursor = next;
            this.#say(this.#cursor);
            this.#drawLarge();
        } else if (event.key === "Enter" || event.key === " ") {
            this.#pick(this.#cursor);
        } else {
            return;
        }
        event.preventDefault();
    }
}

function coverOf(result: Result, row: number): Float32Array {
    const cover = new Float32Array(result.numTokens).fill(1);
    for (const position of result.kept[row] ?? []) cover[position] = 0;
    return cover;
}
