// One true line about a result: how much was read to the end, with how much of the work, and whether that changed the answer.

import type { Result } from "sttabt";
import { h, percent, setAttributes } from "./dom";
import { firstPatch } from "./view";

export class Verdict {
    readonly element = h("p", { class: "told", role: "status", hidden: true });

    /** `dense`: the same input without pruning, where it is known. */
    show(result: Result, dense: Result | null): void {
        const changed = dense !== null && dense.label !== result.label;
        this.element.classList.toggle("changed", changed);
        const said = [changed ? changedAnswer(result, dense) : "", readToTheEnd(result)];
        if (dense && !changed && result.label !== null) said.push("Same answer as reading all.");
        said.push(unknownWords(result));
        const text = said.filter((sentence) => sentence !== "").join(" ");
        // A screen reader hears a line once, not with each run that says the same.
        if (this.element.textContent !== text) this.element.textContent = text;
        setAttributes(this.element, { hidden: false });
    }

    hide(): void {
        setAttributes(this.element, { hidden: true });
        this.element.textContent = "";
    }
}

function changedAnswer(result: Result, dense: Result): string {
    const what = result.grid ? "patches" : "words";
    return `Pruning changed the answer: all ${what} say ${answer(dense)}, these say ${answer(result)}.`;
}

function answer({ label, labelIndex, probs }: Result): string {
    return `${label} ${percent(probs[labelIndex ?? 0] ?? 0)}`;
}

function readToTheEnd(result: Result): string {
    const all = pieces(result);
    const what = result.grid ? "patches" : all.length === 1 ? "word" : "words";
    if (result.prune.rule === "dense") return `All ${all.length} ${what} were read in every layer.`;
    // The last row is the output, of which [CLS] alone counts: the row before it enters the last layer.
    const last = new Set(result.kept.at(-2));
    const num = all.filter((positions) => positions.some((position) => last.has(position))).length;
    const share = percent(result.flops.total / result.flops.dense);
    return `${num} of ${all.length} ${what} ${num === 1 ? "was" : "were"} read to the end, with ${share} of the work.`;
}

/** Of a text that has them. The model reads one language, and answers all the same. */
function unknownWords(result: Result): string {
    if (result.grid) return "";
    const all = pieces(result);
    const num = all.filter((positions) => positions.some((position) => result.tokens[position] === "[UNK]")).length;
    if (num === 0) return "";
    return `${num} of ${all.length} words ${num === 1 ? "is" : "are"} unknown to this model, which reads English: its answer says little.`;
}

/** The positions of each word, or of each patch: special tokens are none. */
function pieces(result: Result): number[][] {
    const positions = result.tokens.length > 0 ? result.tokens.map((_, position) => position) : Array.from({ length: result.numTokens }, (_, position) => position);
    if (result.grid) return positions.slice(firstPatch(result)).map((position) => [position]);
    const words: number[][] = [];
    for (const position of positions.slice(1, -1)) {
        const last = words.at(-1);
        if (result.tokens[position]?.startsWith("##") && last) last.push(position);
        else words.push([position]);
    }
    return words;
}
