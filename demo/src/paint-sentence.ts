// The sentence once per layer as a canvas, for a file: dark on light.

import type { Result } from "sttabt";
import { h } from "./dom";
import { ruleName } from "./figures";
import { rowLabel } from "./view";

export function paintSentence(result: Result | null, texts: string[]): HTMLCanvasElement {
    const canvas = h("canvas");
    const context = canvas.getContext("2d");
    if (!context || !result) return canvas;
    const [font, size, line, margin, left, title] = ["15px system-ui, sans-serif", 2, 30, 24, 110, 40];
    const numLayers = result.kept.length - 1;
    context.font = font;
    const widths = texts.map((text) => context.measureText(text).width);
    const gaps = texts.map((_, position) => (result.tokens[position + 1]?.startsWith("##") ? 0 : 8));
    const width = left + widths.reduce((sum, width, index) => sum + width + (gaps[index] ?? 0), 0) + margin;
    canvas.width = width * size;
    canvas.height = (2 * margin + title + line * result.kept.length) * size;
    context.scale(size, size);
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, canvas.height);
    context.textBaseline = "middle";
    context.font = font;
    context.fillStyle = "#10131a";
    context.fillText(`${result.label}, with ${ruleName(result.prune)}`, margin, margin + 8);
    result.kept.forEach((kept, row) => {
        const y = margin + title + line * (row + 0.5);
        context.fillStyle = "#5b6472";
        context.fillText(rowLabel(row, numLayers), margin, y);
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

