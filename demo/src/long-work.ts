// Work that takes long, with a model of its own: a button starts and ends it, and a line says how far it is.

import { Sttabt, type BackendChoice } from "sttabt";
import { h, setAttributes } from "./dom";

export interface LongWorkOptions {
    /** What the button says before, and while it runs. */
    start: string;
    stop: string;
    /** What the line says before the first start. */
    idle: string;
    progress: string;
    /** What cannot be changed while it runs. */
    inputs: HTMLElement[];
    backend: BackendChoice;
    onError(message: string | null): void;
    onModel(model: Sttabt): void;
    /** The folder of the model. */
    url(): string;
    /** Does the work, and returns what the line says of it at the end. */
    run(model: Sttabt, signal: AbortSignal): Promise<string>;
    /** What the line says of a work that was ended early. */
    stopped(): string;
}

export class LongWork {
    readonly button = h("button", { type: "button" }, [], { click: () => (this.#stop ? this.#stop.abort() : void this.#run()) });
    readonly progress: HTMLProgressElement;
    readonly status: HTMLElement;
    #stop: AbortController | null = null;

    constructor(private readonly options: LongWorkOptions) {
        this.progress = h("progress", { hidden: true, "aria-label": options.progress });
        this.status = h("p", { class: "hint", role: "status" }, [options.idle]);
        this.#setRunning(null);
    }

    async #run(): Promise<void> {
        const { backend, onError, onModel, run, stopped, url } = this.options;
        const stop = new AbortController();
        const { signal } = stop;
        this.#setRunning(stop);
        onError(null);
        let model: Sttabt | null = null;
        let says = "";
        try {
            this.status.textContent = "Loading the text model …";
            model = await Sttabt.load({ url: url(), backend, signal });
            onModel(model);
            says = await run(model, signal);
        } catch (error) {
            if (signal.aborted) says = stopped();
            else onError(error instanceof Error ? error.message : String(error));
        } finally {
            model?.dispose();
            this.status.textContent = says;
            this.#setRunning(null);
        }
    }

    #setRunning(stop: AbortController | null): void {
        this.#stop = stop;
        this.button.textContent = stop ? this.options.stop : this.options.start;
        for (const input of this.options.inputs) setAttributes(input, { disabled: stop !== null });
        setAttributes(this.progress, { hidden: stop === null, value: 0 });
    }
}
