// The worker: one model, one call at a time. It owns the WebAssembly; the page owns nothing but messages.

import { loadFiles, loadUrl } from "./files";
import type { Answers, Call, FromWorker, ToWorker, WireInput } from "./messages";
import type { BackendInfo, ErrorKind, ModelInfo, Why } from "./types";
import init, { CancelFlag, Classifier, Image, ModelBytes } from "./wasm/sttabt_web.js";

let classifier: Classifier | null = null;
let image: { id: number; decoded: Image } | null = null;
const cancels = new Map<number, CancelFlag>();
let last: Promise<void> = Promise.resolve();

const post = (message: FromWorker) => self.postMessage(message);
const note = (text: string) => post({ note: text });

/** A promise for the worker's next task, after the messages that have come. */
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
        cancels.get(data.id)?.cancel();
        return;
    }
    const cancel = new CancelFlagLater();
    cancels.set(data.id, cancel as unknown as CancelFlag);
    last = last.then(() => answer(data, cancel));
};
