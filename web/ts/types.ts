// The package's public types.

/** `auto` takes a hardware GPU through WebGPU, else the CPU path in WebAssembly; `gpu` takes a software adapter too. */
export type BackendChoice = "auto" | "gpu" | "cpu";

/** A pruning rule, one of `RULES`, with the numbers that it takes: one for all layers or one per layer. */
export interface Rule {
    rule: string;
    /** 0 < ratio ≤ 1 */
    ratio?: number | number[];
    /** 0 ≤ threshold ≤ 1 */
    threshold?: number | number[];
}

/** What is known of a rule. */
export interface RuleInfo {
    name: string;
    /** Which numbers it takes: none, `ratio`, or `threshold`, which may be left out where the model has learned ones. */
    argument: "none" | "ratios" | "thresholds";
    /** What a model must have. */
    needs: string[];
    /** One sentence, without its full stop. */
    about: string;
    /** In `ModelInfo`: what this model lacks for it, unless the call brings the numbers. */
    lacks?: string;
}

/**
 * A rule; or `auto`, the rule `of` (else the model's `defaultPrune`) where it is faster than dense on this device. The first
 * call with it for a rule measures that on made-up inputs, in the time of some 30 sentences or images. The choice is made for a call: an input may be pruned in one batch and not in another.
 */
export type Prune = Rule | { rule: "auto"; of?: Rule };

export type ErrorKind =
    /** The input or the rule cannot be computed. */
    | "input"
    /** A model file is missing, damaged or not supported. */
    | "model"
    /** A file could not be fetched. */
    | "network"
    /** WebGPU was asked for on a page that is neither https nor localhost. */
    | "insecure"
    /** The GPU is missing, or was lost more than once. */
    | "device"
    /** No worker could be started: its script is not there, or this is a place without workers. */
    | "worker"
    | "memory"
    | "aborted"
    /** `dispose` was called. */
    | "disposed"
    | "internal";

export class SttabtError extends Error {
    override name = "SttabtError";

    constructor(
        readonly kind: ErrorKind,
        message: string,
    ) {
        super(message);
    }
}

export interface Progress {
    /** `load`: files come in; `start`: the device takes the model and proves itself. */
    stage: "load" | "start";
    /** Over all files. */
    loadedBytes: number;
    totalBytes: number;
    /** The file on its way. */
    file: string;
    fromCache: boolean;
}

export interface LoadOptions {
    /** A model folder. Its files are cached if it has a `manifest.json` (`npx sttabt-manifest FOLDER` writes one). */
    url?: string | URL;
    /** Or the files: `config.json`, `model.safetensors`, `approx/config.json`, … A note tells which of them no model is read from. */
    files?: Record<string, Blob | ArrayBuffer | Uint8Array>;
    backend?: BackendChoice;
    /**
     * The folder with copies of the package's `dist/worker.js` and `dist/wasm/`. Default: they are where the bundler put them, or beside the
     * package's modules. For a bundler that copies no files, such as esbuild, and a bundle that is no module.
     */
    assets?: string | URL;
    onProgress?: (progress: Progress) => void;
    /** What a person should know: the CPU runs instead of a GPU, a file was not cached, or a lost device was replaced. */
    onNote?: (note: string) => void;
    signal?: AbortSignal;
}

/** A PNG, JPEG, WebP, GIF or BMP file, decoded by the core; or RGBA pixels, for example of a camera. */
export type ImageInput = Blob | ArrayBuffer | Uint8Array | ImageData;

export type Input = string | [text: string, textPair: string] | ImageInput;

export interface ClassifyOptions {
    /** Default: the model's `defaultPrune`. */
    prune?: Prune;
    /** Looked at between layers. */
    signal?: AbortSignal;
    /** Of a model with one output: `probs` is its sigmoid. Default: false. */
    sigmoid?: boolean;
    /** Of a multi-label model: `labels` are those of at least this probability. Default: 0.5. */
    threshold?: number;
}

export type EmbedOptions = Pick<ClassifyOptions, "prune" | "signal">;

export interface ModelInfo {
    input: "text" | "image";
    /** What it gives: of these, `classify` gives the first three, `embed` the last. */
    task: "classification" | "multi_label" | "regression" | "embedding";
    /** Empty for embeddings. */
    labels: string[];
    numLayers: number;
    numHeads: number;
    hiddenSize: number;
    hasApproxNet: boolean;
    hasThresholds: boolean;
    defaultPrune: Rule;
    /** All rules, with what this model lacks for them. */
    rules: RuleInfo[];
    numParameters: number;
    approxNumParameters: number | null;
    weightsDtype: string;
    /** Height and width. */
    imageSize: [number, number] | null;
    /** Rows and columns of patches. */
    grid: [number, number] | null;
    /** Tokens of an image before its patches. */
    numPrefixTokens: number | null;
    maxTokens: number;
}

export interface BackendInfo {
    backend: "gpu" | "cpu";
    adapter: string;
    software: boolean;
    /** Why `auto` did not take a GPU. */
    note: string | null;
}

export interface Flops {
    /** Of the model without pruning. */
    dense: number;
    /** Of the pruned model alone. */
    pruned: number;
    /** Of what found the tokens to keep. */
    approx: number;
    /** pruned + approx */
    total: number;
}

/** The result for an input of T tokens, by a model of L layers. */
export interface Result {
    /** What was run; of `auto` what that took. */
    prune: Rule;
    /** Of `auto`: the time of the whole call that it expected, without pruning and with it (null if a text is too long for that). */
    expected: { denseMs: number; prunedMs: number | null } | null;
    /** Wordpieces, `[CLS]` first; empty for an image. */
    tokens: string[];
    inputIds: number[];
    /** Rows and columns of patches; position 0 is `[CLS]`, position numPrefixTokens + row · columns + column a patch. */
    grid: [number, number] | null;
    numPrefixTokens: number | null;
    numTokens: number;
    /** K_0 … K_L as sorted positions. */
    kept: number[][];
    /** Whether the rule chooses while the model runs: the scores of layer l choose K_{l+1} instead of K_l. */
    layerByLayer: boolean;
    /** `[L][T]`; `[L − 1][T]` where `layerByLayer`; null for `dense`. */
    tokenScores: number[][] | null;
    /** Empty for an embedder. */
    logits: number[];
    /** Softmax; of a multi-label model the sigmoid of each logit. Empty for an embedder, and for a regression model without `sigmoid`. */
    probs: number[];
    /** Of the largest logit; null for an embedder. */
    label: string | null;
    labelIndex: number | null;
    /** Of a multi-label model those above the threshold, perhaps none; else null. */
    labels: string[] | null;
    /** Of an embedder `hiddenSize` numbers; else null. */
    embedding: number[] | null;
    /** Mean over l = 0 … L of |K_l| / T. */
    retention: number;
    /** Whether the text was longer than what the model reads, and lost its end (or with `truncation_side` its beginning). */
    truncated: boolean;
    flops: Flops;
    /** Time of the computation in the worker, milliseconds; of a batch's result that of the whole batch. A call that measures for `auto` takes that long more. */
    ms: number;
    /** The pixels that the model saw of an image. */
    resized: ImageData | null;
    /** How `position` got its score at `layer`, 0 … L − 1. */
    why(layer: number, position: number): Promise<Why>;
}

export interface RankOptions {
    /** How many of the best passages come back. Default: all. */
    topN?: number;
    /** Default: the model's `defaultPrune`. */
    prune?: Rule;
    /**
     * Read a passage that is too long in windows. Each shares a quarter of its tokens with the one before it, and the best one's score
     * counts. Default: false, such a passage is cut.
     */
    windows?: boolean;
    /** For a model with several labels: the one whose probability is the score. Its name, or its index where no label is called so. */
    label?: string;
    /** Called before the first pairs, and after each group of them. */
    onProgress?: (progress: RankProgress) => void;
    /** Looked at between layers. */
    signal?: AbortSignal;
}

export interface RankProgress {
    numDone: number;
    /** The query with each passage, or each window of one; equal ones count once. */
    numPairs: number;
}

/** Passages in the order of their scores. */
export interface Ranking {
    prune: Rule;
    /** The label whose probability the scores are; null for a model with one output. */
    label: string | null;
    /** The best first. Where `logit` is equal, the passage that was given first. */
    results: RankedPassage[];
    numPassages: number;
    /** What was computed: equal pairs cost once. */
    numPairs: number;
    /** The mean of the pairs that were computed. */
    retention: number;
    /** The sum over the pairs that were computed. */
    flops: Flops;
    /** Time of the computation in the worker, milliseconds. */
    ms: number;
}

/** A passage, and what the model read of it: of several windows, the best one. */
export interface RankedPassage {
    /** Its place in the array that was given. */
    index: number;
    /** The model's one output (its sigmoid, if the model's `activation_fn` says so), or the probability of the label that was asked for. */
    score: number;
    /** What decides the order: the output, or the logarithm of the label's odds. */
    logit: number;
    /** Which window is the best, where `windows` was asked for. */
    window: { index: number; numWindows: number } | null;
    /** T, of the pair. */
    numTokens: number;
    /** The pair's wordpieces, `[CLS]` and the query first. */
    tokens: string[];
    /** The positions of the passage's tokens: the first one, and the one after the last. */
    passage: [number, number];
    /** Which tokens survived to the last layer: K_{L−1} as sorted positions. */
    keptTokens: number[];
    retention: number;
    /** What this pair costs if it is computed alone. */
    flops: Flops;
    /** Whether the passage was longer than what the model reads, and was cut. */
    truncated: boolean;
}

/** The back-tracking of one score (paper, section 3). */
export interface Why {
    layer: number;
    position: number;
    /** Whether it is in K_l; where `layerByLayer`, whether layer l passes it on. */
    kept: boolean;
    score: number;
    /** The smallest score that was picked, or the threshold. */
    cut: number;
    /** One sentence. */
    reason: string;
    /**
     * The rows of K_{l+1} (where `layerByLayer`, of K_l) that asked for it, largest first. The values add up to the score; under
     * `concrete`, where all rows count by their soft mask, to the score less 0.01.
     */
    contributions: { position: number; value: number }[];
}
