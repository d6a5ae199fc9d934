// One true line about a result: how much was read to the end, with how much of the work, and whether that changed the answer.

import type { Result } from "sttabt";
import { h, percent, setAttributes } from "./dom";
import { firstPatch, isLettered, wordsOf } from "./view";

export class Verdict {
    readonly element = h("p", { class: "told", role: "status", hidden: true });

    /** `dense`: the same input without pruning, where it is known. */
    show(result: Result, dense: Result | null): void {
        const changed = dense !== null && dense.label !== result.label;
        this.element.classList.toggle("changed", changed);
        const said = [changed ? changedAnswer(result, dense) : "", readToTheEnd(result)];
        if (dense && !changed && result.label !== null) said.push(`Same answer as reading all${result.truncated ? " of these" : ""}.`);
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
    const first = result.truncated ? "first " : "";
    if (result.prune.rule === "dense") {
        if (all.length === 1) return `The only ${what} was read in every layer.`;
        return `${first ? "The first" : "All"} ${all.length} ${what} were read in every layer.`;
    }
    // The last row is the output, of which [CLS] alone counts: the row before it enters the last layer.
    const last = new Set(result.kept.at(-2));
    const num = all.filter((positions) => positions.some((position) => last.has(position))).length;
    const share = percent(result.flops.total / result.flops.dense);
    return `${num} of ${first && `the ${first}`}${all.length} ${what} ${num === 1 ? "was" : "were"} read to the end, with ${share} of the work.`;
}

/** Of a text that has them. The model reads one language, and answers all the same. */
function unknownWords(result: Result): string {
    if (result.grid) return "";
    const all = pieces(result);
    const num = all.filter((positions) => positions.some((position) => result.tokens[position] === "[UNK]")).length;
    if (num === 0) return "";
    return `${num} of ${all.length} words ${num === 1 ? "is" : "are"} unknown to this model, which reads English: its answer says little.`;
}

/** The positions of each word without its marks, or of each patch: special tokens are none. */
function pieces(result: Result): number[][] {
    if (result.grid) {
        const first = firstPatch(result);
        return Array.from({ length: result.numTokens - first }, (_, patch) => [first + patch]);
    }
    const lettered = wordsOf(result).map((word) => word.filter((position) => isLettered(result.tokens[position] ?? "")));
    return lettered.filter((word) => word.length > 0);
}
