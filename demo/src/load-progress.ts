// One bar from the visit's first moment to the first answer: the code comes first, then the weights, then the device takes them.

import type { Progress } from "sttabt";
import { h, megabytes, setAttributes } from "./dom";

/** How much of the past tells how fast the line is. */
const WINDOW_MS = 5000;
/** Before that, no time is named. */
const FIRST_MS = 1000;

export class LoadProgress {
    readonly #says = h("p", {});
    readonly #bar = h("progress", { max: 1 });
    readonly element = h("div", { class: "progress", hidden: true }, [this.#says, this.#bar]);
    readonly #timeLeft = new TimeLeft();

    /** The code is on its way: nothing is known yet. */
    begin(name: string): void {
        if (this.element.hidden) this.#show(name, `Downloading the code that runs ${name} …`, null);
    }

    show({ stage, loadedBytes, totalBytes, fromCache }: Progress, name: string): void {
        if (stage === "start") return this.#show(name, "Preparing the device …", 1);
        const left = fromCache ? null : this.#timeLeft.after(performance.now(), loadedBytes, totalBytes);
        const text =
            `${fromCache ? "Reading" : "Downloading"} ${name}: ${megabytes(loadedBytes)} of ${megabytes(totalBytes)}${left === null ? "" : `, ${left}`}. ` +
            "It runs here, in your browser, which keeps it for the next visit; nothing you type or show leaves this page.";
        this.#show(name, text, loadedBytes / totalBytes);
    }

    hide(): void {
        setAttributes(this.element, { hidden: true });
    }

    #show(name: string, text: string, share: number | null): void {
        this.#says.textContent = text;
        setAttributes(this.#bar, { value: share, "aria-label": `loading ${name}` });
        setAttributes(this.element, { hidden: false });
    }
}

/** How long the rest takes if it comes as fast as the last seconds' bytes. */
class TimeLeft {
    #seen: { at: number; bytes: number }[] = [];

    after(at: number, bytes: number, totalBytes: number): string | null {
        // Another load began.
        if (bytes < (this.#seen.at(-1)?.bytes ?? 0)) this.#seen = [];
        this.#seen.push({ at, bytes });
        // The oldest that is kept is as old as the window, or older.
        while ((this.#seen[1]?.at ?? at) < at - WINDOW_MS) this.#seen.shift();
        const first = this.#seen[0];
        if (!first || at - first.at < FIRST_MS || bytes <= first.bytes) return null;
        const seconds = ((totalBytes - bytes) * (at - first.at)) / (bytes - first.bytes) / 1000;
        if (seconds < 2) return "almost there";
        return seconds < 90 ? `about ${Math.round(seconds)} s left` : `about ${Math.round(seconds / 60)} min left`;
    }
}
