// What the page and its worker say to each other.

import type { Assets } from "./beside.js";
import type { BackendChoice, BackendInfo, ErrorKind, ModelInfo, Progress, RankProgress, Ranking, Result, Why } from "./types.js";

/** An image file, or RGBA pixels. */
export type WireImage = Blob | { width: number; height: number; rgba: Uint8Array };

/** A text or a pair. */
export type WireText = { text: string; textPair: string | null };

/** An image, which comes along unless the worker has it already; `name` is for errors. */
export type WireImageInput = { imageId: number; name: string; image: WireImage | null };

export type WireInput = WireText | WireImageInput;

export type WireResult = Omit<Result, "why">;

export type Call =
    | {
          call: "load";
          url: string | null;
          files: Record<string, Blob | ArrayBuffer | Uint8Array> | null;
          backend: BackendChoice;
          wasm: Pick<Assets, "relaxed" | "portable">;
      }
    | {
          call: "classify";
          inputs: WireInput[];
          prune: string;
          embeds: boolean;
          sigmoid: boolean;
          threshold: number | null;
          /** How often to lose the GPU first, as a driver reset would: for tests. */
          losses: number;
      }
    | {
          call: "rank";
          query: string;
          passages: string[];
          prune: string;
          /** 0 is all. */
          topN: number;
          windows: boolean;
          label: string | null;
          losses: number;
      }
    | { call: "why"; inputs: WireInput[]; prune: string; layer: number; position: number };

export type ToWorker = { id: number } & (Call | { call: "cancel" });

export interface Answers {
    load: { info: ModelInfo; backend: BackendInfo };
    classify: { results: WireResult[]; backend: BackendInfo };
    rank: { ranking: Ranking; backend: BackendInfo };
    why: Why;
}

export type FromWorker =
    | { progress: Progress }
    | { note: string }
    | { id: number; ranked: RankProgress }
    | { id: number; answer: Answers[keyof Answers] }
    | { id: number; error: { kind: ErrorKind; message: string } };
