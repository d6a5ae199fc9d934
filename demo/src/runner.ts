// One model of the page, with each kind of weights: loaded when it is first needed, asked one thing at a time, the latest question winning.

import { Sttabt, SttabtError, type BackendChoice, type Input, type Progress, type Prune, type Result } from "sttabt";

/** A model's weights. */
export type WeightsKind = "int8" | "f16";

/** A rule, and the weights that run under it. */
export interface Job {
    prune: Prune;
    weights: WeightsKind;
}

export interface RunnerEvents {
    onProgress(progress: Progress, weights: WeightsKind): void;
    onNote(note: string): void;
    onLoaded(model: Sttabt): void;
    /** Whether something is being computed. */
    onBusy(isBusy: boolean): void;
}

export class Runner {
    readonly #models = new Map<WeightsKind, Promise<Sttabt>>();
    #current: AbortController | null = null;

    constructor(
        private readonly urls: Record<WeightsKind, string>,
        private readonly backend: BackendChoice,
        private readonly events: RunnerEvents,
    ) {}

    /** The model; a load that failed is tried again with the next call. */
    load(weights: WeightsKind): Promise<Sttabt> {
        const known = this.#models.get(weights);
        if (known) return known;
        const model = Sttabt.load({
            url: this.urls[weights],
            backend: this.backend,
            onProgress: (progress) => this.events.onProgress(progress, weights),
            onNote: (note) => this.events.onNote(note),
        }).then(
            (model) => {
                this.events.onLoaded(model);
                return model;
            },
            (error: unknown) => {
                // Perhaps a later load has taken its place.
                if (this.#models.get(weights) === model) this.#models.delete(weights);
                throw error;
            },
        );
        this.#models.set(weights, model);
        return model;
    }

    /** The results of an input, one for each job; null when a later call has taken its place. */
    async run(input: Input, jobs: Job[]): Promise<Result[] | null> {
        this.#current?.abort();
        const controller = new AbortController();
        this.#current = controller;
        this.events.onBusy(true);
        try {
            const results: Result[] = [];
            for (const { prune, weights } of jobs) {
                const model = await this.load(weights);
                if (controller.signal.aborted) return null;
                results.push(await model.classify(input, { prune, signal: controller.signal }));
            }
            return results;
        } catch (error) {
            if (error instanceof SttabtError && error.kind === "aborted") return null;
            // A worker that broke down answers no more: the next call starts others.
            if (error instanceof SttabtError && error.kind === "internal") this.#drop();
            throw error;
        } finally {
            if (this.#current === controller) {
                this.#current = null;
                this.events.onBusy(false);
            }
        }
    }

    /** Forgets what was asked last. */
    cancel(): void {
        this.#current?.abort();
    }

    #drop(): void {
        for (const model of this.#models.values()) void model.then((model) => model.dispose()).catch(() => undefined);
        this.#models.clear();
    }

    /** Whether nothing is being computed. */
    get isIdle(): boolean {
        return this.#current === null;
    }
}
