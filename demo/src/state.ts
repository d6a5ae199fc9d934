// What the page shows, as a link can hold it.

import { RULES, type RuleInfo } from "sttabt";

export const TABS = ["text", "images", "curve", "benchmark"] as const;
export type Tab = (typeof TABS)[number];

export interface Rule {
    name: string;
    /** Its ratio or threshold for all layers; null where it takes none, or the model has learned thresholds. */
    number: number | null;
}

/** What computes: int8 weights, the f16 ones that they were made of, or one beside the other. */
export const WEIGHTS = ["int8", "f16", "both"] as const;
export type Weights = (typeof WEIGHTS)[number];

export interface State {
    tab: Tab;
    text: string;
    rule: Rule;
    /** The rule beside it, if any. */
    other: Rule | null;
    weights: Weights;
    /** The layer that is shown of an image: l of K_l. */
    layer: number;
}

export const DEFAULT_TEXT = "it looks beautiful, but the story is dull and I was bored after ten minutes";
/** A link holds no more of a text; browsers and chat programs cut longer ones. */
export const MAX_LINK_TEXT = 2000;
const MAX_LAYER = 1000;

export const initialState = (): State => ({
    tab: "text",
    text: DEFAULT_TEXT,
    rule: { name: "topk", number: 0.3 },
    other: null,
    weights: "int8",
    layer: 0,
});

/** The numbers that rules take, and those of a rule that is chosen without one. */
export const NUMBERS = {
    ratios: { first: 0.5, fits: (ratio: number) => ratio > 0 && ratio <= 1, expected: "the ratio must be above 0 and at most 1" },
    thresholds: { first: 0.01, fits: (threshold: number) => threshold >= 0 && threshold <= 1, expected: "the threshold must be from 0 to 1" },
};

export function infoOf(name: string): RuleInfo | undefined {
    return RULES.find((rule) => rule.name === name);
}

/** As links and the command have it. */
export function ruleText({ name, number }: Rule): string {
    return number === null ? name : `${name}:${number}`;
}

/** The state of a link, and what in it could not be read. */
export function parseHash(hash: string): { state: State; problems: string[] } {
    const state = initialState();
    const problems: string[] = [];
    const parameters = new URLSearchParams(hash.replace(/^#/, ""));
    const tab = parameters.get("tab");
    if (tab !== null) {
        if (TABS.includes(tab as Tab)) state.tab = tab as Tab;
        else problems.push(`tab “${tab}”: expected ${TABS.join(", ")}`);
    }
    state.text = parameters.get("text") ?? state.text;
    const rule = parameters.get("rule");
    if (rule !== null) state.rule = parseRule(rule, "rule", problems) ?? state.rule;
    const other = parameters.get("with");
    if (other !== null) state.other = parseRule(other, "with", problems);
    const weights = parameters.get("weights");
    if (weights !== null) {
        if (WEIGHTS.includes(weights as Weights)) state.weights = weights as Weights;
        else problems.push(`weights “${weights}”: expected ${WEIGHTS.join(", ")}`);
    }
    const layer = parameters.get("layer");
    if (layer !== null) {
        const value = Number(layer);
        if (layer.trim() !== "" && Number.isInteger(value) && value >= 0 && value <= MAX_LAYER) state.layer = value;
        else problems.push(`layer “${layer}”: expected a whole number from 0`);
    }
    return { state, problems };
}

function parseRule(text: string, key: string, problems: string[]): Rule | null {
    const [name = "", given] = text.split(":");
    const info = infoOf(name);
    if (!info) {
        problems.push(`${key} “${text}”: expected ${RULES.map(({ name }) => name).join(", ")}`);
        return null;
    }
    if (info.argument === "none") return { name, number: null };
    const { first, fits, expected } = NUMBERS[info.argument];
    if (given === undefined) return { name, number: info.argument === "thresholds" ? null : first };
    const number = given.trim() === "" ? NaN : Number(given);
    if (fits(number)) return { name, number };
    problems.push(`${key} “${text}”: ${expected}`);
    return { name, number: first };
}

export function hashOf(state: State): string {
    const parameters = new URLSearchParams({ tab: state.tab });
    if (state.tab === "text") parameters.set("text", state.text.slice(0, MAX_LINK_TEXT));
    parameters.set("rule", ruleText(state.rule));
    if (state.other) parameters.set("with", ruleText(state.other));
    if (state.weights !== "int8") parameters.set("weights", state.weights);
    if (state.tab === "images") parameters.set("layer", String(state.layer));
    return `#${parameters}`;
}
