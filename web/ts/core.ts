// What the core says, as the package's types have it: names in camelCase, rules as objects.

import { SttabtError, type BackendInfo, type ModelInfo, type Prune, type RankedPassage, type Ranking, type Result, type Rule, type Why } from "./types.js";
import { RULES } from "./wasm/rules.js";

/** How the package calls the numbers of a rule that takes some. */
const NUMBERS = { none: null, ratios: "ratio", thresholds: "threshold" } as const;

const numbersOf = (name: string) => NUMBERS[RULES.find((rule) => rule.name === name)?.argument ?? "none"];

/** A rule as text, `topk:0.5` or `auto:topk:0.5`. What its shape does not show, the core's parser says: it knows the rules. */
export function ruleText(prune: Prune): string {
    const { rule, of, ratio, threshold } = (prune ?? {}) as Partial<Rule> & { of?: Rule };
    const given = Object.entries({ ratio, threshold }).filter(([, numbers]) => numbers !== undefined);
    if (typeof rule !== "string" || (rule === "auto" && given.length > 0)) {
        const example = '{ rule: "topk", ratio: 0.5 } or { rule: "auto", of: { rule: "topk", ratio: 0.5 } }';
        throw new SttabtError("input", `prune is ${JSON.stringify(prune)}, expected a rule as in ${example}`);
    }
    if (rule === "auto") return of ? `auto:${ruleText(of)}` : rule;
    const expected = numbersOf(rule);
    const wrong = given.find(([name]) => expected !== null && name !== expected);
    if (wrong) throw new SttabtError("input", `prune is ${JSON.stringify(prune)}: \`${rule}\` takes \`${expected}\`, not \`${wrong[0]}\``);
    return given.length > 0 ? `${rule}:${given.flatMap(([, numbers]) => numbers).join(",")}` : rule;
}

/** The rule of a text as the command takes it. What is wrong with it, the call says that is given it. */
export function parseRule(text: string): Prune {
    const auto = /^auto(?::(.*))?$/s.exec(text);
    if (!auto) return ruleOf(text);
    return auto[1] === undefined ? { rule: "auto" } : { rule: "auto", of: ruleOf(auto[1]) };
}

/** A rule other than `auto`. */
function ruleOf(text: string): Rule {
    const colon = text.indexOf(":");
    if (colon < 0) return { rule: text };
    const rule = text.slice(0, colon);
    const numbers = text.slice(colon + 1).split(",");
    const [first = NaN, ...others] = numbers.map((number) => (number.trim() === "" ? NaN : Number(number)));
    return { rule, [numbersOf(rule) ?? "ratio"]: others.length > 0 ? [first, ...others] : first };
}

/** The core names its fields as Rust does. */
function camelCase(value: unknown): unknown {
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map(camelCase) : value;
    if (typeof value !== "object" || value === null) return value;
    const name = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    return Object.fromEntries(Object.entries(value).map(([key, value]) => [name(key), camelCase(value)]));
}

const parse = <Type>(json: string): Type => camelCase(JSON.parse(json)) as Type;

export const whyOf = (json: string): Why => parse(json);

export const backendInfo = (json: string): BackendInfo => ({ note: null, ...parse<Omit<BackendInfo, "note">>(json) });

export function modelInfo(json: string): ModelInfo {
    const info = parse<ModelInfo & { defaultPrune: string }>(json);
    return { ...info, defaultPrune: ruleOf(info.defaultPrune) };
}

/** What only the worker knows is missing. */
type CoreResult = Omit<Result, "why" | "ms" | "resized">;

/** What the core leaves out of a result. */
const ABSENT = {
    tokens: [],
    inputIds: [],
    grid: null,
    numPrefixTokens: null,
    tokenScores: null,
    logits: [],
    probs: [],
    label: null,
    labelIndex: null,
    labels: null,
    embedding: null,
};

export function resultsOf(json: string): CoreResult[] {
    type Run = { results: (CoreResult & { prune: string })[]; decision: (CoreResult["expected"] & { prune: string }) | null };
    const { results, decision } = parse<Run>(json);
    const expected = decision && { denseMs: decision.denseMs, prunedMs: decision.prunedMs };
    return results.map((result) => ({ ...ABSENT, ...result, prune: ruleOf(result.prune), expected }));
}

export function rankingOf(json: string): Omit<Ranking, "ms"> {
    type Core = Omit<Ranking, "prune" | "label" | "results"> & { prune: string; label?: string; results: Omit<RankedPassage, "window">[] };
    const { results, ...ranking } = parse<Core>(json);
    return {
        label: null,
        ...ranking,
        prune: ruleOf(ranking.prune),
        results: results.map((result) => ({ window: null, ...result })),
    };
}
