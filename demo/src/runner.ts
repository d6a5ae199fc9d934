// One model of the page: loaded when it is first needed, asked one thing at a time, the latest question winning.

import { Sttabt, SttabtError, type BackendChoice, type Input, type Progress, type Prune, type Result } from "sttabt";

export interface RunnerEvents {
    onProgress(progress: Progress): void;
    onNote(note: string): void;
    onLoaded(model: Sttabt): void;
    /** Whether something is being computed. */
    onBusy(isBusy: boolean): void;
}

export class Runner {
    #model: Promise<Sttabt> | null = null;
    #current: AbortController | null = null;

    constructor(
        private readonly url: string,
        private readonly backend: BackendChoice,
        private readonly events: RunnerEvents,
    ) {}

    /** The model; a load that failed is tried again with the next call. */
    load(): Promise<Sttabt> {
        this.#model ??= Sttabt.load({
            url: this.url,
            backend: this.backend,
            onProgress: (progress) => this.events.onProgress(progress),
            onNote: (note) => this.events.onNote(note),
        }).then(
            (model) => {
                this.events.onLoaded(model);
                return model;
            },
            (error: unknown) => {
                this.#model = null;
                throw error;
            },
        );
        return this.#model;
    }

    /** The results of an input under some rules; null when a later call has taken its place. */
    async run(input: Input, rules: Prune[]): Promise<Result[] | null> {
        this.#current?.abort();
        const controller = new AbortController();
        this.#current = controller;
        this.events.onBusy(true);
        try {
            const model = await this.load();
            const results: Result[] = [];
            for (const prune of rules) {
                if (controller.signal.aborted) return null;
                results.push(await model.classify(input, { prune, signal: controller.signal }));
            }
            return results;
        } catch (error) {
            if (error instanceof SttabtError && error.kind === "aborted") return null;
            // A worker that broke down answers no more: the next call starts another one.
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
        void this.#model?.then((model) => model.dispose()).catch(() => undefined);
        this.#model = null;
    }

    /** Whether nothing is being computed. */
    get isIdle(): boolean {
        return this.#current === null;
    }
}
