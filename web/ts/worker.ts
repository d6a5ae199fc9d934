// The worker: one model, one call at a time. It owns the WebAssembly; the page sends messages and never computes.

import { loadFiles, loadUrl } from "./files.js";
import type { Answers, Call, FromWorker, ToWorker, WireImage, WireInput, WireResult } from "./messages.js";
import { SttabtError, type BackendInfo, type ErrorKind, type ModelInfo, type Progress, type Why } from "./types.js";
import init, { CancelFlag, Classifier, Image, ModelBytes } from "./wasm/sttabt_web.js";

let classifier: Classifier | null = null;
/** The last image that came; decoded when a call first needs it. */
let image: { id: number; given: WireImage; decoded: Image | null } | null = null;
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
        if ("input" in call) keep(call.input);
        // A queue of outdated calls must not be computed: their cancellations may be waiting behind this one.
        await nextTask();
        if (cancelled.has(id)) throw new SttabtError("aborted", "aborted");
        post({ id, answer: await run(id, call) });
    } catch (error) {
        post({ id, error: wire(error) });
    }
    cancelled.delete(id);
    running?.cancel.free();
    running = null;
}

async function run(id: number, call: Call): Promise<Answers[keyof Answers]> {
    if (call.call === "load") return load(call);
    if (!classifier) throw new SttabtError("internal", "no model is loaded");
    const prune = call.prune;
    if (call.call === "why") {
        const { layer, position } = call;
        const why = isText(call.input)
            ? await classifier.why_text(call.input.text, call.input.textPair ?? undefined, prune, layer, position)
            : await classifier.why_image(await decoded(call.input), call.input.imageId, prune, layer, position);
        return JSON.parse(why) as Why;
    }
    if (call.losses > 0) classifier.lose_device(call.losses);
    running = { id, cancel: new CancelFlag() };
    const picture = isText(call.input) ? null : await decoded(call.input);
    const start = performance.now();
    const result = isText(call.input)
        ? await classifier.classify_text(call.input.text, call.input.textPair ?? undefined, prune, running.cancel)
        : await classifier.classify_image(picture as Image, prune, running.cancel);
    const ms = performance.now() - start;
    return {
        result: { ...(JSON.parse(result) as WireResult), ms, resized: picture && resized(classifier, picture) },
        backend: JSON.parse(classifier.backend()) as BackendInfo,
    };
}

async function load({ url, files, backend }: Extract<Call, { call: "load" }>): Promise<Answers["load"]> {
    const onProgress = (progress: Progress) => post({ progress });
    await init().catch((error: unknown) => {
        throw new SttabtError("network", `the WebAssembly did not load: ${text(error)}`);
    });
    const bytes = new ModelBytes();
    const total =
        url === null ? await loadFiles(files ?? {}, bytes, onProgress) : await loadUrl(url, bytes, onProgress, onNote);
    onProgress({ stage: "start", loadedBytes: total, totalBytes: total, file: "", fromCache: false });
    if (backend === "gpu" && !self.isSecureContext) {
        throw new SttabtError("insecure", "WebGPU needs a secure context (https or localhost), and this page is none");
    }
    classifier = await Classifier.open(bytes, backend, nextTask, onNote);
    return {
        info: JSON.parse(classifier.info()) as ModelInfo,
        backend: JSON.parse(classifier.backend()) as BackendInfo,
    };
}

function isText(input: WireInput): input is Extract<WireInput, { text: string }> {
    return "text" in input;
}

/** Keeps the image that came with a call, in place of the one before. */
function keep(input: WireInput): void {
    if (isText(input) || !input.image) return;
    image?.decoded?.free();
    image = { id: input.imageId, given: input.image, decoded: null };
}

/** The picture of a call, by the core's own decoders. */
async function decoded({ imageId }: Extract<WireInput, { imageId: number }>): Promise<Image> {
    if (image?.id !== imageId) throw new SttabtError("internal", "an image that did not come");
    image.decoded ??= await decode(image.given);
    return image.decoded;
}

async function decode(given: WireImage): Promise<Image> {
    if ("blob" in given) {
        const bytes = await given.blob.arrayBuffer().catch((error: unknown) => {
            throw new SttabtError("input", `${given.name} cannot be read, or is a folder: ${text(error)}`);
        });
        return Image.decode(given.name, new Uint8Array(bytes));
    }
    return Image.from_rgba(given.width, given.height, given.rgba);
}

/** What the model sees of a picture. */
function resized(classifier: Classifier, picture: Image): ImageData {
    const { imageSize } = JSON.parse(classifier.info()) as ModelInfo;
    return new ImageData(new Uint8ClampedArray(classifier.resized(picture)), imageSize?.[1] ?? 0);
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
