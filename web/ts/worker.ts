// The worker: one model, one call at a time. It owns the WebAssembly; the page sends messages and never computes.

import type { Assets } from "./beside.js";
import { backendInfo, modelInfo, rankingOf, resultsOf, whyOf } from "./core.js";
import { loadFiles, loadUrl } from "./files.js";
import type { Answers, Call, FromWorker, ToWorker, WireImage, WireImageInput, WireInput, WireText } from "./messages.js";
import { SttabtError, type ErrorKind, type ModelInfo, type Progress } from "./types.js";
import init, { CancelFlag, Classifier, Image, Inputs, ModelBytes, Question, type Results } from "./wasm/sttabt_web.js";

let classifier: Classifier | null = null;
let info: ModelInfo | null = null;
/** The images of the last call that brought one, by their ids; decoded when a call first needs them. */
const images = new Map<number, { given: WireImage; decoded: Image | null }>();
let running: { id: number; cancel: CancelFlag } | null = null;
const cancelled = new Set<number>();
let last: Promise<void> = Promise.resolve();

const post = (message: FromWorker) => self.postMessage(message);
const onNote = (note: string) => post({ note });

/** A promise for the worker's next task: the messages that have come by now are handled before it. */
const channel = new MessageChannel();
const waiting: (() => void)[] = [];
channel.port1.onmessage = () => waiting.shift()?.();
const nextTask = () =>
    new Promise<void>((resolve) => {
        waiting.push(resolve);
        channel.port2.postMessage(null);
    });

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
    if (data.call === "cancel") {
        cancelled.add(data.id);
        if (running?.id === data.id) running.cancel.cancel();
    } else {
        last = last.then(() => answer(data));
    }
};

async function answer({ id, ...call }: { id: number } & Call): Promise<void> {
    try {
        // Kept for later calls even if this one is cancelled: the page sends an image once.
        if ("inputs" in call) keep(call.inputs);
        // A queue of outdated calls must not be computed: their cancellations may be waiting behind this one.
        await checkpoint(id);
        post({ id, answer: await run(id, call) });
    } catch (error) {
        post({ id, error: wire(error) });
    }
    cancelled.delete(id);
    running?.cancel.free();
    running = null;
}

/** Lets messages in, and ends a call that one of them cancelled. */
async function checkpoint(id: number): Promise<void> {
    await nextTask();
    if (cancelled.has(id)) throw new SttabtError("aborted", "aborted");
}

async function run(id: number, call: Call): Promise<Answers[keyof Answers]> {
    if (call.call === "load") return load(call);
    const model = classifier;
    if (!model) throw new SttabtError("internal", "no model is loaded");
    const { prune } = call;
    const cancel = new CancelFlag();
    running = { id, cancel };
    if (call.call === "rank") return rank(id, model, call, cancel);
    const given: (WireText | Image)[] = [];
    for (const input of call.inputs) given.push(isText(input) ? input : await decoded(id, input));
    // Made when nothing can fail any more, and freed by the call that takes it.
    const inputs = new Inputs();
    for (const one of given) {
        if (one instanceof Image) inputs.push_image(one);
        else inputs.push_text(one.text, one.textPair ?? undefined);
    }
    if (call.call === "why") {
        const key = JSON.stringify([prune, ...call.inputs.map((input) => (isText(input) ? input : input.imageId))]);
        return whyOf(await model.why(inputs, prune, key, call.layer, call.position));
    }
    if (call.losses > 0) model.lose_device(call.losses);
    const start = performance.now();
    const computed = await model.classify(inputs, prune, call.embeds, call.sigmoid, call.threshold ?? undefined, cancel);
    try {
        const results = resultsOf(computed.json());
        const ms = performance.now() - start;
        const resizedAt = (index: number) => (given[index] instanceof Image ? resized(computed, index) : null);
        return {
            results: results.map((result, index) => ({ ...result, ms, resized: resizedAt(index) })),
            backend: backendInfo(model.backend()),
        };
    } finally {
        computed.free();
    }
}

async function rank(id: number, model: Classifier, call: Extract<Call, { call: "rank" }>, cancel: CancelFlag): Promise<Answers["rank"]> {
    // Freed by the call that takes it.
    const question = new Question(call.query, call.prune, call.topN, call.windows, call.label ?? undefined);
    for (const passage of call.passages) question.push(passage);
    if (call.losses > 0) model.lose_device(call.losses);
    const onProgress = (numDone: number, numPairs: number) => post({ id, ranked: { numDone, numPairs } });
    const start = performance.now();
    const ranking = rankingOf(await model.rank(question, onProgress, cancel));
    return { ranking: { ...ranking, ms: performance.now() - start }, backend: backendInfo(model.backend()) };
}

async function load({ url, files, backend, wasm }: Extract<Call, { call: "load" }>): Promise<Answers["load"]> {
    const onProgress = (progress: Progress) => post({ progress });
    await init({ module_or_path: wasmFile(wasm) }).catch((error: unknown) => {
        throw new SttabtError("network", `the WebAssembly did not load: ${text(error)}`);
    });
    const bytes = new ModelBytes();
    const total =
        url === null ? await loadFiles(files ?? {}, bytes, onProgress, onNote) : await loadUrl(url, bytes, onProgress, onNote);
    onProgress({ stage: "start", loadedBytes: total, totalBytes: total, file: "", fromCache: false });
    if (backend === "gpu" && !self.isSecureContext) {
        throw new SttabtError("insecure", "WebGPU needs a secure context (https or localhost), and this page is none");
    }
    classifier = await Classifier.open(bytes, backend, nextTask, onNote);
    info = modelInfo(classifier.info());
    return { info, backend: backendInfo(classifier.backend()) };
}

/** A module with the instruction that the core wants: () => i32x4.relaxed_dot_i8x16_i7x16_add_s(…). */
const RELAXED_SIMD = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253,
    147, 2, 11,
]);

/** The core for this browser. Some have no WebAssembly, which loading then says. */
function wasmFile({ relaxed, portable }: Pick<Assets, "relaxed" | "portable">): string {
    return globalThis.WebAssembly?.validate(RELAXED_SIMD) ? relaxed : portable;
}

function isText(input: WireInput): input is WireText {
    return "text" in input;
}

/** If a call brought an image, keeps it and the call's others in place of those before. */
function keep(inputs: WireInput[]): void {
    const needed = inputs.filter((input) => "imageId" in input);
    if (needed.every(({ image }) => image === null)) return;
    const ids = new Set(needed.map(({ imageId }) => imageId));
    for (const [id, { decoded }] of images) {
        if (ids.has(id)) continue;
        decoded?.free();
        images.delete(id);
    }
    for (const { imageId, image } of needed) if (image) images.set(imageId, { given: image, decoded: null });
}

/** The picture of a call, by the core's own decoders. */
async function decoded(id: number, { imageId, name }: WireImageInput): Promise<Image> {
    const image = images.get(imageId);
    if (!image) throw new SttabtError("internal", "an image that did not come");
    if (!image.decoded) {
        await checkpoint(id);
        image.decoded = await decode(name, image.given);
    }
    return image.decoded;
}

async function decode(name: string, given: WireImage): Promise<Image> {
    if (!(given instanceof Blob)) return Image.from_rgba(given.width, given.height, given.rgba);
    const bytes = await given.arrayBuffer().catch((error: unknown) => {
        throw new SttabtError("input", `${name} cannot be read, or is a folder: ${text(error)}`);
    });
    return Image.decode(name, new Uint8Array(bytes));
}

/** What the model saw of a picture. */
function resized(results: Results, index: number): ImageData {
    const pixels = results.pixels(index);
    return new ImageData(new Uint8ClampedArray(pixels.buffer as ArrayBuffer), info?.imageSize?.[1] ?? 0);
}

function wire(error: unknown): { kind: ErrorKind; message: string } {
    if (error instanceof WebAssembly.RuntimeError) {
        // Memory that cannot grow ends so too.
        const message = `the WebAssembly stopped (${error.message}), out of memory perhaps; load the model again`;
        return { kind: "internal", message };
    }
    const kind = (error as { kind?: ErrorKind } | null)?.kind ?? "internal";
    return { kind, message: text(error) };
}

function text(error: unknown): string {
    return error instanceof Error ? error.message : String(error);
}
