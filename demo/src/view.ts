// What the sentence and the picture have in common as pictures of a result.

import type { ModelInfo, Result } from "sttabt";

/** A token of K_row. */
export interface Spot {
    row: number;
    position: number;
}

/** A row that asked for the chosen token, and its part of what the largest gave. */
export interface Asker extends Spot {
    share: number;
}

export interface View {
    readonly element: HTMLElement;
    /** Draws a result; `other` is the one beside it, whose differences are marked. */
    show(result: Result, other: Result | null, info: ModelInfo): void;
    /** Marks the chosen token, its trail up to `[CLS]` and who asked for it. */
    mark(trail: Spot[], askers: Asker[]): void;
    /** The picture as a canvas, for a file. */
    paint(): HTMLCanvasElement;
}

export function isKept(result: Result, { row, position }: Spot): boolean {
    return result.kept[row]?.includes(position) ?? false;
}

/** The layer whose choice made K_row, if one did: a rule that chooses layer by layer lets all tokens into the first. */
export function choosingLayer(result: Result, row: number): number | null {
    const layer = result.layerByLayer ? row - 1 : row;
    const { tokenScores } = result;
    return tokenScores && layer >= 0 && layer < tokenScores.length ? layer : null;
}

/** The row that `why` of a layer speaks of. */
export function rowOfLayer(result: Result, layer: number): number {
    return result.layerByLayer ? layer + 1 : layer;
}

export function scoreAt(result: Result, { row, position }: Spot): number | null {
    const layer = choosingLayer(result, row);
    return layer === null ? null : (result.tokenScores?.[layer]?.[position] ?? null);
}

export function rowName(row: number, numLayers: number): string {
    if (row === 0) return "enters layer 1";
    return row === numLayers ? "output" : `enters layer ${row + 1}`;
}

/** For the margin of a picture. */
export function rowLabel(row: number, numLayers: number): string {
    return row === numLayers ? "output" : `layer ${row + 1}`;
}

/** The position of the first patch of an image. */
export function firstPatch(result: Result): number {
    return result.numPrefixTokens ?? 1;
}

/** A token as people call it. */
export function tokenName(result: Result, position: number): string {
    if (position === 0) return "[CLS]";
    if (!result.grid) return (result.tokens[position] ?? "").replace(/^##/, "…");
    const patch = position - firstPatch(result);
    if (patch < 0) return `learned token ${position + 1}`;
    const columns = result.grid[1];
    return `patch in row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
}

/** What stands after an apostrophe in English. */
const CONTRACTED = /^(s|t|d|m|ll|re|ve)$/;

/** The words of a text, as positions of their pieces. Marks belong to the word before them, and so does what an apostrophe contracts. */
export function wordsOf({ tokens }: Result): number[][] {
    const words: number[][] = [];
    for (let position = 1; position < tokens.length - 1; position++) {
        const [before, token] = [tokens[position - 1] ?? "", tokens[position] ?? ""];
        const isPart = token.startsWith("##") || !isLettered(token) || (/^['’]$/.test(before) && CONTRACTED.test(token));
        const last = words.at(-1);
        if (isPart && last) last.push(position);
        else words.push([position]);
    }
    return words;
}

/** Whether a piece is more than marks. */
export function isLettered(token: string): boolean {
    return /[\p{L}\p{N}]/u.test(token);
}

export function describe(result: Result, spot: Spot): string {
    const score = scoreAt(result, spot);
    const kept = isKept(result, spot) ? "kept" : "removed";
    const numLayers = result.kept.length - 1;
    const text = `${tokenName(result, spot.position)}: ${kept}, ${rowName(spot.row, numLayers)}`;
    return score === null ? text : `${text}, score ${score.toPrecision(3)}`;
}

/** The table that says the same as the picture. */
export function tableRows(result: Result): { name: string; kept: string; tokens: string }[] {
    const numLayers = result.kept.length - 1;
    return result.kept.map((kept, row) => ({
        name: rowName(row, numLayers),
        kept: `${kept.length} of ${result.numTokens}`,
        tokens: result.grid ? patchRuns(kept, result.grid[1], firstPatch(result)) : kept.map((position) => tokenName(result, position)).join(" "),
    }));
}

/** `row 1: 3–5, 9; row 2: …` */
function patchRuns(kept: number[], columns: number, first: number): string {
    const rows = new Map<number, number[]>();
    for (const patch of kept.map((position) => position - first).filter((patch) => patch >= 0)) {
        const row = Math.floor(patch / columns);
        rows.set(row, [...(rows.get(row) ?? []), patch % columns]);
    }
    const runs = (list: number[]) => {
        const parts: [number, number][] = [];
        for (const column of list) {
            const last = parts.at(-1);
            if (last && last[1] === column - 1) last[1] = column;
            else parts.push([column, column]);
        }
        return parts.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}–${to + 1}`)).join(", ");
    };
    const text = [...rows].map(([row, list]) => `row ${row + 1}: ${runs(list)}`).join("; ");
    return text || "[CLS] alone";
}

/** Two pictures as one, for a file. */
export function stacked(pictures: HTMLCanvasElement[]): HTMLCanvasElement {
    const [first] = pictures;
    if (first && pictures.length === 1) return first;
    const height = pictures.reduce((sum, picture) => sum + picture.height, 0);
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(...pictures.map(({ width }) => width));
    canvas.height = height;
    const context = canvas.getContext("2d");
    let top = 0;
    for (const picture of pictures) {
        context?.drawImage(picture, 0, top);
        top += picture.height;
    }
    return canvas;
}
