// The numbers beside the picture: probabilities, cost, the table that says the same as the picture.

import { ruleText, type Prune, type Result } from "sttabt";
import { flops, h, milliseconds, percent } from "./dom";
import { tableRows } from "./view";

const MAX_LABELS = 5;

export function ruleName(prune: Prune): string {
    return ruleText(prune).replace(":", " ").replaceAll(",", ", ");
}

/** How to read the pictures. */
export function legend(): HTMLElement {
    return h("p", { class: "legend" }, [
        h("span", {}, [h("span", { class: "key kept" }), h("span", { class: "strength" }, ["kept: the stronger the colour, the more the next layer looks at it"]), h("span", { class: "edge" }, ["the edge of what is kept"])]),
        h("span", {}, [h("span", { class: "key gone" }), "removed, not computed"]),
        h("span", { class: "differs" }, [h("span", { class: "key" }), "the two differ"]),
    ]);
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
    const cut = result.truncated ? " The text was longer than the model reads, and the rest was cut off." : "";
    return h("p", { class: "summary" }, [
        h("strong", {}, [result.label ?? "an embedding"]),
        ` with ${ruleName(result.prune)}: ${percent(result.retention)} of the tokens kept on average, ${percent(result.flops.total / result.flops.dense)} of the FLOPs.${cut}`,
    ]);
}

/** Milliseconds of the same input without pruning and for each result: medians of interleaved runs. */
export interface Times {
    dense: number[];
    pruned: number[];
}

/** Names of the dense runs and of the results, and the dense run that each result is measured against. */
export interface Lanes {
    dense: string[];
    names: string[];
    denseOf: number[];
}

export function cost(results: Result[], { dense, names, denseOf }: Lanes, times: Times | null): HTMLElement {
    const largest = Math.max(...results.map(({ flops }) => Math.max(flops.dense, flops.total)));
    const row = (name: string, model: number, net: number, ms: number | null) => {
        const bar = h("span", { class: "stack" }, [h("span", { class: "part model" }), h("span", { class: "part approx" })]);
        (bar.firstElementChild as HTMLElement).style.setProperty("--share", (model / largest).toFixed(4));
        (bar.lastElementChild as HTMLElement).style.setProperty("--share", (net / largest).toFixed(4));
        return h("tr", {}, [
            h("th", { scope: "row" }, [name]),
            h("td", { class: "bars" }, [bar]),
            h("td", {}, [flops(model)]),
            h("td", {}, [net > 0 ? flops(net) : "–"]),
            h("td", {}, [ms === null ? "…" : `about ${milliseconds(ms)}`]),
        ]);
    };
    const rows = dense.map((name, index) => row(name, results[0]?.flops.dense ?? 0, 0, times?.dense[index] ?? null));
    const verdicts: string[] = [];
    results.forEach((result, index) => {
        const name = names[index] ?? "";
        if (result.prune.rule === "dense") return;
        const ms = times?.pruned[index] ?? null;
        rows.push(row(name, result.flops.pruned, result.flops.approx, ms));
        const denseMs = times?.dense[denseOf[index] ?? 0];
        const said = verdict(result, denseMs !== undefined && ms !== null ? denseMs / ms : null);
        verdicts.push(results.length > 1 ? `${name}: ${said}` : said);
    });
    if (verdicts.length === 0) verdicts.push("Choose another rule to compare.");
    const head = ["rule", "FLOPs", "model", "finding tokens", "time here"].map((text) => h("th", { scope: "col" }, [text]));
    return h("div", {}, [
        h("table", { class: "cost" }, [
            h("caption", {}, [
                h("span", { class: "key model" }),
                "the model ",
                h("span", { class: "key approx" }),
                "finding the tokens: the small network that guesses, or for oracle a dense pass of the model",
            ]),
            h("thead", {}, [h("tr", {}, head)]),
            h("tbody", {}, rows),
        ]),
        ...verdicts.map((text) => h("p", { class: "verdict" }, [text])),
    ]);
}

/** `speed`: against the dense run with the same weights; null until it is measured. */
function verdict(result: Result, speed: number | null): string {
    const share = percent(result.flops.total / result.flops.dense);
    if (speed === null) return `${share} of the dense FLOPs; the times are measured once the model is here and idle.`;
    if (speed < 0.97) return `Reading all is faster here: pruned runs at about ${speed.toFixed(2)}× its speed, with ${share} of its FLOPs.`;
    if (speed < 1.03) return `No difference in time here, with ${share} of the FLOPs.`;
    return `About ${speed.toFixed(2)}× as fast as dense here, with ${share} of the FLOPs.`;
}

export function table(result: Result): HTMLElement {
    const head = ["layer", "kept", result.grid ? "patches" : "tokens"].map((text) => h("th", { scope: "col" }, [text]));
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
