// One model of the page, with each kind of weights: loaded when it is first needed, and asked one thing at a time.

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

/** A question that has its turn. */
interface Run {
    readonly controller: AbortController;
    readonly isBackground: boolean;
    /** Whether it waits for its model, and computes nothing yet. */
    isLoading: boolean;
    readonly ended: Promise<void>;
}

export class Runner {
    readonly #models = new Map<WeightsKind, Promise<Sttabt>>();
    readonly #loaded = new Set<WeightsKind>();
    #current: Run | null = null;
    /** The number of the latest question. */
    #turn = 0;

    constructor(
        private readonly urls: Record<WeightsKind, string>,
        private readonly backend: BackendChoice,
        private readonly events: RunnerEvents,
    ) {}

    /** The model; a load that failed is tried again with the next call. */
    load(weights: WeightsKind): Promise<Sttabt> {
        const known = this.#models.get(weights);
        if (known) return known;
        const promise: Promise<Sttabt> = Sttabt.load({
            url: this.urls[weights],
            backend: this.backend,
            onProgress: (progress) => this.events.onProgress(progress, weights),
            onNote: (note) => this.events.onNote(note),
        }).then(
            (model) => {
                // Perhaps it was dropped meanwhile.
                if (this.#models.get(weights) === promise) this.#loaded.add(weights);
                this.events.onLoaded(model);
                return model;
            },
            (error: unknown) => {
                // Perhaps a later load has taken its place.
                if (this.#models.get(weights) === promise) this.#models.delete(weights);
                throw error;
            },
        );
        this.#models.set(weights, promise);
        return promise;
    }

    /**
     * The results of an input, one for each job. What runs is finished, so that a drag repaints while it lasts; of the questions that wait
     * meanwhile only the latest gets its turn, and the others get null. A run in the background starts only where nothing runs, and gives way at once.
     */
    async run(input: Input, jobs: Job[], { background = false } = {}): Promise<Result[] | null> {
        if (background && this.#current) return null;
        const turn = ++this.#turn;
        for (let run = this.#current; run; run = this.#current) {
            if (run.isBackground || run.isLoading) run.controller.abort();
            // It waits for its download alone, and then finds that it is not wanted.
            if (run.isLoading) break;
            await run.ended;
            if (turn !== this.#turn) return null;
        }
        const controller = new AbortController();
        let end = (): void => undefined;
        const run: Run = { controller, isBackground: background, isLoading: false, ended: new Promise((resolve) => (end = resolve)) };
        this.#current = run;
        this.events.onBusy(true);
        try {
            // All models first, so that nothing waits for a download behind a result.
            const asked: [Sttabt, Prune][] = [];
            for (const { prune, weights } of jobs) {
                run.isLoading = !this.#loaded.has(weights);
                asked.push([await this.load(weights), prune]);
                if (controller.signal.aborted) return null;
            }
            run.isLoading = false;
            const results: Result[] = [];
            for (const [model, prune] of asked) results.push(await model.classify(input, { prune, signal: controller.signal }));
            return results;
        } catch (error) {
            if (controller.signal.aborted) return null;
            // A worker that broke down answers no more: the next call starts others.
            if (error instanceof SttabtError && error.kind === "internal") this.#drop();
            // The question that waits has its own answer.
            if (turn !== this.#turn) return null;
            throw error;
        } finally {
            if (this.#current === run) {
                this.#current = null;
                this.events.onBusy(false);
            }
            end();
        }
    }

    /** Forgets what was asked last. */
    cancel(): void {
        this.#turn++;
        this.#current?.controller.abort();
    }

    #drop(): void {
        for (const model of this.#models.values()) void model.then((model) => model.dispose()).catch(() => undefined);
        this.#models.clear();
        this.#loaded.clear();
    }

    /** Whether a model is here. */
    has(weights: WeightsKind): boolean {
        return this.#loaded.has(weights);
    }

    /** Whether the latest question waits for its model. */
    get isLoading(): boolean {
        return this.#current?.isLoading ?? false;
    }

    /** Whether nothing is being computed. */
    get isIdle(): boolean {
        return this.#current === null;
    }
}
