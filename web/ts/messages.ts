// What the page and its worker say to each other.

import type { BackendChoice, BackendInfo, ErrorKind, ModelInfo, Progress, Result, Why } from "./types";

/** A text or a pair; or an image, whose bytes come with the first call that uses it. */
export type WireInput =
    | { text: string; textPair: string | null }
    | { imageId: number; image?: Blob | ArrayBuffer | Uint8Array | ImageData };

export type WireResult = Omit<Result, "why" | "resized"> & { resized: ImageData | null };

export type Call =
    | {
          call: "load";
          url: string | null;
          files: Record<string, Blob | ArrayBuffer | Uint8Array> | null;
          backend: BackendChoice;
      }
    | { call: "classify"; input: WireInput; prune: string }
    | { call: "why"; input: WireInput; prune: string; layer: number; position: number }
    | { call: "loseDevice" };

export type ToWorker = { id: number } & (Call | { call: "cancel" });

export interface Answers {
    load: { info: ModelInfo; backend: BackendInfo };
    classify: { result: WireResult; backend: BackendInfo };
    why: Why;
    loseDevice: null;
}

export type FromWorker =
    | { progress: Progress }
    | { note: string }
    | { id: number; answer: Answers[keyof Answers] }
    | { id: number; error: { kind: ErrorKind; message: string } };
