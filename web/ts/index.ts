// The package: a model in a worker of its own.

import { ruleText } from "./core.js";
import type { Answers, Call, FromWorker, ToWorker, WireImage, WireInput } from "./messages.js";
import { absolute, assetsIn, didNotStart, startWorker } from "./start.js";
import {
    SttabtError,
    type BackendInfo,
    type ClassifyOptions,
    type EmbedOptions,
    type ImageInput,
    type Input,
    type LoadOptions,
    type ModelInfo,
    type Prune,
    type RankOptions,
    type RankProgress,
    type Ranking,
    type Result,
    type Why,
} from "./types.js";

export { parseRule, ruleText } from "./core.js";
export * from "./types.js";
/** All rules, known before any model. */
export { RULES } from "./wasm/rules.js";

interface Pending {
    resolve(answer: Answers[keyof Answers]): void;
    reject(error: SttabtError): void;
    onRanked?: ((progress: RankProgress) => void) | undefined;
}

/** A transformer that classifies or embeds, and computes only the tokens that matter. */
export class Sttabt {
    readonly #worker: Worker;
    readonly #options: LoadOptions;
    readonly #pending = new Map<number, Pending>();
    #lastId = 0;
    #loaded: Answers["load"] | null = null;
    /** Why no call can be answered any more. */
    #end: SttabtError | null = null;
    /** The images that the worker has. */
    #sentImages = new Set<number>();
    #lastImage = 0;
    readonly #blobs = new WeakMap<Blob, number>();
    #losses = 0;

    private constructor(options: LoadOptions, script: string) {
        this.#options = options;
        this.#worker = startWorker(script);
        this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
        this.#worker.onerror = (event) => {
            event.preventDefault();
            const failed = new SttabtError("internal", `the worker failed: ${event.message}`);
            this.#stop(event.message ? failed : didNotStart(script, "its script did not load"));
        };
    }

    /** Loads a model and puts it on a device. When `signal` aborts, nothing of it is left running. */
    static async load(options: LoadOptions): Promise<Sttabt> {
        const { url, files, backend = "auto", signal } = options;
        if ((url === undefined) === (files === undefined)) {
            throw new SttabtError("input", "expected either `url` or `files`");
        }
        if (signal?.aborted) throw aborted();
        const { worker, ...wasm } = assetsIn(options.assets === undefined ? null : addressOf(options.assets));
        const model = new Sttabt(options, worker);
        const onAbort = () => model.#stop(aborted());
        signal?.addEventListener("abort", onAbort);
        try {
            const folder = url === undefined ? null : addressOf(url);
            model.#loaded = await model.#call<"load">(() => ({ call: "load", url: folder, files: files ?? null, backend, wasm }));
            return model;
        } catch (error) {
            model.#stop(error as SttabtError);
            throw error;
        } finally {
            signal?.removeEventListener("abort", onAbort);
        }
    }

    get info(): ModelInfo {
        return this.#state().info;
    }

    /** Where it runs; another one perhaps after the GPU was lost. */
    get backend(): BackendInfo {
        return this.#state().backend;
    }

    /** Calls are answered one after another. */
    async classify(input: Input, options: ClassifyOptions = {}): Promise<Result> {
        const results = await this.#run([this.#given(input)], false, options);
        return results[0] as Result;
    }

    /** The same with a model that embeds: the result has an `embedding`. */
    async embed(input: Input, options: EmbedOptions = {}): Promise<Result> {
        const results = await this.#run([this.#given(input)], true, options);
        return results[0] as Result;
    }

    /**
     * All inputs in one run; each result is what its input gives alone. `[a, b]` of two texts is a batch of two, `[[a, b]]` one pair.
     * An input that cannot be classified fails the call, and the error names it by its number, counted from 1. All pictures of a
     * batch are in memory at once.
     */
    async classifyBatch(inputs: readonly Input[], options: ClassifyOptions = {}): Promise<Result[]> {
        return this.#run(this.#allGiven(inputs), false, options);
    }

    /** The same with a model that embeds. */
    async embedBatch(inputs: readonly Input[], options: EmbedOptions = {}): Promise<Result[]> {
        return this.#run(this.#allGiven(inputs), true, options);
    }

    /**
     * Orders passages by the score that a cross-encoder gives each of them with the query. The query is never cut; an empty passage is scored
     * like any other. What is wrong with a passage fails the call, and the error names it by its number, counted from 1.
     */
    async rank(query: string, passages: readonly string[], options: RankOptions = {}): Promise<Ranking> {
        const { prune = this.info.defaultPrune, topN, windows = false, label = null, onProgress, signal } = options;
        if (typeof query !== "string") throw new SttabtError("input", "the query: expected a string");
        if (!Array.isArray(passages)) throw new SttabtError("input", "the passages: expected an array of strings");
        // Unlike `findIndex` of the passages themselves, this does not pass over holes.
        const given = Array.from(passages as readonly unknown[]);
        const wrong = given.findIndex((passage) => typeof passage !== "string");
        if (wrong >= 0) throw new SttabtError("input", `passage ${wrong + 1}: expected a string`);
        if (topN !== undefined && !(Number.isInteger(topN) && topN > 0)) {
            throw new SttabtError("input", `\`topN\` is ${topN}, expected a whole number from 1`);
        }
        if (label !== null && typeof label !== "string") throw new SttabtError("input", `\`label\` is ${label}, expected a string`);
        const rule = ruleText(prune);
        const losses = this.#losses;
        this.#losses = 0;
        const { ranking, backend } = await this.#call<"rank">(
            () => ({ call: "rank", query, passages: given as string[], prune: rule, topN: Math.min(topN ?? 0, given.length), windows, label, losses }),
            signal,
            onProgress,
        );
        this.#state().backend = backend;
        return ranking;
    }

    /**
     * Loses the GPU as a driver reset would when the next call computes, and so often again on the new device: for tests.
     * @internal
     */
    loseDevice(times = 1): void {
        this.#losses = times;
    }

    /** Ends the worker and frees its memory and its device; open calls fail with kind `disposed`. */
    dispose(): void {
        this.#stop(new SttabtError("disposed", "the model was disposed"));
    }

    #state(): Answers["load"] {
        if (!this.#loaded) throw new SttabtError("internal", "no model is loaded");
        return this.#loaded;
    }

    async #run(given: WireInput[], embeds: boolean, options: ClassifyOptions): Promise<Result[]> {
        const { prune = this.info.defaultPrune, signal, sigmoid = false, threshold = null } = options;
        if (threshold !== null && !(threshold >= 0 && threshold <= 1)) {
            throw new SttabtError("input", `\`threshold\` is ${threshold}, expected a number from 0 to 1`);
        }
        const rule = ruleText(prune);
        const losses = this.#losses;
        this.#losses = 0;
        const { results, backend } = await this.#call<"classify">(
            () => ({ call: "classify", inputs: this.#send(given), prune: rule, embeds, sigmoid, threshold, losses }),
            signal,
        );
        this.#state().backend = backend;
        return results.map((result, index) => {
            const one = given.slice(index, index + 1);
            const why = async (layer: number, position: number): Promise<Why> => {
                if (![layer, position].every((number) => Number.isInteger(number) && number >= 0)) {
                    const found = `layer ${layer} and position ${position}`;
                    throw new SttabtError("input", `why: ${found}, expected whole numbers from 0`);
                }
                return this.#call<"why">(() => ({ call: "why", inputs: this.#send(one), prune: ruleText(result.prune), layer, position }));
            };
            return { ...result, why };
        });
    }

    /** `call` makes the message if it is sent at all: what the worker has is known by what was sent. */
    #call<Name extends keyof Answers>(
        call: () => Call & { call: Name },
        signal?: AbortSignal,
        onRanked?: Pending["onRanked"],
    ): Promise<Answers[Name]>;
    #call(call: () => Call, signal?: AbortSignal, onRanked?: Pending["onRanked"]): Promise<Answers[keyof Answers]> {
        if (this.#end) return Promise.reject(this.#end);
        if (signal?.aborted) return Promise.reject(aborted());
        const id = ++this.#lastId;
        const onAbort = () => {
            this.#post({ id, call: "cancel" });
            this.#pending.get(id)?.reject(aborted());
        };
        signal?.addEventListener("abort", onAbort);
        return new Promise<Answers[keyof Answers]>((resolve, reject) => {
            this.#pending.set(id, { resolve, reject, onRanked });
            this.#post({ id, ...call() });
        }).finally(() => {
            signal?.removeEventListener("abort", onAbort);
            this.#pending.delete(id);
        });
    }

    #post(message: ToWorker): void {
        this.#worker.postMessage(message);
    }

    #receive(message: FromWorker): void {
        if ("progress" in message) return this.#options.onProgress?.(message.progress);
        if ("note" in message) return this.#options.onNote?.(message.note);
        const pending = this.#pending.get(message.id);
        if ("ranked" in message) return pending?.onRanked?.(message.ranked);
        if ("answer" in message) pending?.resolve(message.answer);
        else pending?.reject(new SttabtError(message.error.kind, message.error.message));
    }

    #stop(error: SttabtError): void {
        this.#end ??= error;
        this.#worker.terminate();
        for (const pending of this.#pending.values()) pending.reject(this.#end);
        this.#pending.clear();
    }

    #allGiven(inputs: readonly Input[]): WireInput[] {
        if (!Array.isArray(inputs)) throw new SttabtError("input", "a batch: expected an array of inputs");
        // Unlike `map`, this does not pass over holes.
        return Array.from(inputs as readonly Input[], (input, index) => this.#given(input, `input ${index + 1}: `));
    }

    /** The input as it is now; what the caller does to its buffer later changes nothing. `where` begins an error. */
    #given(input: Input, where = ""): WireInput {
        if (typeof input === "string") return { text: input, textPair: null };
        if (Array.isArray(input)) {
            const [text, textPair] = input;
            if (input.length !== 2 || typeof text !== "string" || typeof textPair !== "string") {
                throw new SttabtError("input", `${where}a pair of texts: expected two strings`);
            }
            return { text, textPair };
        }
        const image = wireImage(input);
        if (!image) throw new SttabtError("input", `${where}expected a text, a pair of texts, a Blob, bytes or ImageData`);
        return { imageId: this.#imageId(input), name: where + (input instanceof File ? input.name : "the image"), image };
    }

    /** A Blob never changes, and is decoded once for all calls with it. */
    #imageId(input: ImageInput): number {
        const known = input instanceof Blob ? this.#blobs.get(input) : undefined;
        const id = known ?? ++this.#lastImage;
        if (input instanceof Blob) this.#blobs.set(input, id);
        return id;
    }

    /** The message's inputs: an image comes along only if the worker lacks it. The worker keeps as `keep` does there. */
    #send(given: WireInput[]): WireInput[] {
        const known = new Set(this.#sentImages);
        const inputs = given.map((input) => {
            if ("text" in input) return input;
            const isThere = known.has(input.imageId);
            known.add(input.imageId);
            return isThere ? { ...input, image: null } : input;
        });
        if (known.size > this.#sentImages.size) {
            this.#sentImages = new Set(given.flatMap((input) => ("text" in input ? [] : [input.imageId])));
        }
        return inputs;
    }
}

function wireImage(input: ImageInput): WireImage | null {
    if (input instanceof ImageData) {
        return { width: input.width, height: input.height, rgba: new Uint8Array(input.data) };
    }
    if (input instanceof Blob) return input;
    if (input instanceof ArrayBuffer || input instanceof Uint8Array) return new Blob([input as BlobPart]);
    return null;
}

function addressOf(url: string | URL): string {
    try {
        return absolute(url);
    } catch {
        throw new SttabtError("input", `\`${url}\` is no URL`);
    }
}

function aborted(): SttabtError {
    return new SttabtError("aborted", "aborted");
}
