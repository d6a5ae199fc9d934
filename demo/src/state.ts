// What the page shows, as a link can hold it.

import type { Prune } from "sttabt";

export const RULES = ["dense", "topk", "concrete", "oracle", "forward"] as const;
export type RuleName = (typeof RULES)[number];
export const TABS = ["text", "images", "benchmark"] as const;
export type Tab = (typeof TABS)[number];

export interface Rule {
    name: RuleName;
    ratio: number;
}

export interface State {
    tab: Tab;
    text: string;
    rule: Rule;
    /** The rule beside it, if any. */
    other: Rule | null;
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
    rule: { name: "concrete", ratio: 0.5 },
    other: null,
    layer: 0,
});

export function hasRatio(name: RuleName): boolean {
    return name !== "dense" && name !== "concrete";
}

export function prune({ name, ratio }: Rule): Prune {
    return name === "dense" || name === "concrete" ? { rule: name } : { rule: name, ratio };
}

export function ruleText({ name, ratio }: Rule): string {
    return hasRatio(name) ? `${name}:${ratio}` : name;
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
    const layer = parameters.get("layer");
    if (layer !== null) {
        const value = Number(layer);
        if (layer.trim() !== "" && Number.isInteger(value) && value >= 0 && value <= MAX_LAYER) state.layer = value;
        else problems.push(`layer “${layer}”: expected a whole number from 0`);
    }
    return { state, problems };
}

function parseRule(text: string, key: string, problems: string[]): Rule | null {
    const [name = "", ratio] = text.split(":");
    if (!RULES.includes(name as RuleName)) {
        problems.push(`${key} “${text}”: expected ${RULES.join(", ")}`);
        return null;
    }
    const rule = { name: name as RuleName, ratio: 0.5 };
    if (!hasRatio(rule.name)) return rule;
    const value = Number(ratio ?? "0.5");
    if (!(value > 0 && value <= 1)) {
        problems.push(`${key} “${text}”: the ratio must be above 0 and at most 1`);
        return rule;
    }
    return { ...rule, ratio: value };
}

export function hashOf(state: State): string {
    const parameters = new URLSearchParams({ tab: state.tab });
    if (state.tab === "text") parameters.set("text", state.text.slice(0, MAX_LINK_TEXT));
    parameters.set("rule", ruleText(state.rule));
    if (state.other) parameters.set("with", ruleText(state.other));
    if (state.tab === "images") parameters.set("layer", String(state.layer));
    return `#${parameters}`;
}
