// The numbers beside the picture: probabilities, cost, the table that says the same as the picture.

import type { Prune, Result } from "sttabt";
import { flops, h, milliseconds, percent } from "./dom";
import { tableRows } from "./view";

const MAX_LABELS = 5;

export function ruleName(prune: Prune): string {
    return "ratio" in prune ? `${prune.rule} ${[prune.ratio].flat().join(", ")}` : prune.rule;
}

export function probabilities(result: Result, labels: string[]): HTMLElement {
    const order = result.logits.map((_, index) => index).sort((one, other) => (result.logits[other] ?? 0) - (result.logits[one] ?? 0));
    const items = order.slice(0, MAX_LABELS).map((index, place) => {
        const share = result.probs[index] ?? 0;
        const bar = h("span", { class: place === 0 ? "bar" : "bar quiet" });
        bar.style.setProperty("--share", share.toFixed(4));
        return h("li", {}, [h("span", { class: "label" }, [labels[index] ?? `label ${index}`]), bar, h("span", { class: "number" }, [percent(share, 1)])]);
    });
    return h("ol", { class: "probabilities" }, items);
}

export function summary(result: Result): HTMLElement {
    const cut = result.truncated ? " The text was longer than the model reads, and lost its end." : "";
    return h("p", { class: "summary" }, [
        h("strong", {}, [result.label]),
        ` with ${ruleName(result.prune)}: ${percent(result.retention)} of the tokens kept on average, ${percent(result.flops.total / result.flops.dense)} of the FLOPs, ${milliseconds(result.ms)}.${cut}`,
    ]);
}

/** Milliseconds of the same input under a rule and without pruning, best of a few interleaved runs. */
export interface Times {
    pruned: number;
    dense: number;
}

export function cost(result: Result, times: Times | null): HTMLElement {
    const { dense, pruned, approx, total } = result.flops;
    const row = (name: string, model: number, net: number, ms: number | null) => {
        const bar = h("span", { class: "stack" }, [h("span", { class: "part model" }), h("span", { class: "part approx" })]);
        (bar.firstElementChild as HTMLElement).style.setProperty("--share", (model / Math.max(dense, total)).toFixed(4));
        (bar.lastElementChild as HTMLElement).style.setProperty("--share", (net / Math.max(dense, total)).toFixed(4));
        return h("tr", {}, [
            h("th", { scope: "row" }, [name]),
            h("td", { class: "bars" }, [bar]),
            h("td", {}, [flops(model)]),
            h("td", {}, [net > 0 ? flops(net) : "–"]),
            h("td", {}, [ms === null ? "…" : milliseconds(ms)]),
        ]);
    };
    const name = ruleName(result.prune);
    const isDense = result.prune.rule === "dense";
    const rows = [row("dense", dense, 0, times?.dense ?? null)];
    if (!isDense) rows.push(row(name, pruned, approx, times?.pruned ?? null));
    const head = ["rule", "", "model", "to find the tokens", "time here"].map((text) => h("th", { scope: "col" }, [text]));
    return h("div", {}, [
        h("table", { class: "cost" }, [
            h("caption", {}, ["Cost of this input"]),
            h("thead", {}, [h("tr", {}, head)]),
            h("tbody", {}, rows),
        ]),
        h("p", { class: "verdict" }, [isDense ? "Choose another rule to compare." : verdict(result, times)]),
    ]);
}

function verdict(result: Result, times: Times | null): string {
    const share = percent(result.flops.total / result.flops.dense);
    if (!times) return `Pruned, it takes ${share} of the dense FLOPs; the times are being measured.`;
    const ratio = times.dense / times.pruned;
    const why =
        result.prune.rule === "oracle"
            ? "oracle runs the whole model first: it shows an upper bound, and is never faster."
            : result.prune.rule === "forward"
              ? "with so few tokens the layers cost little beside the rest."
              : "with so few tokens ApproxNet and back-tracking cost more than they save.";
    if (ratio < 0.97) return `Honestly: dense is faster here (${ratio.toFixed(2)}×), although this rule takes ${share} of the FLOPs; ${why}`;
    if (ratio < 1.03) return `No difference in time here, with ${share} of the FLOPs.`;
    return `${ratio.toFixed(2)}× as fast as dense here, with ${share} of the FLOPs.`;
}

export function table(result: Result): HTMLElement {
    const head = ["", "kept", result.grid ? "patches" : "tokens"].map((text) => h("th", { scope: "col" }, [text]));
    const rows = tableRows(result).map(({ name, kept, tokens }) =>
        h("tr", {}, [h("th", { scope: "row" }, [name]), h("td", {}, [kept]), h("td", { class: "tokens" }, [tokens])]),
    );
    return h("table", { class: "kept-table" }, [
        h("caption", {}, [`Kept tokens by layer, ${ruleName(result.prune)}`]),
        h("thead", {}, [h("tr", {}, head)]),
        h("tbody", {}, rows),
    ]);
}

/** A result as the file that the page exports. */
export function resultJson(result: Result): string {
    const { resized: _pixels, why: _why, ...rest } = result;
    return JSON.stringify(rest, null, 2);
}
