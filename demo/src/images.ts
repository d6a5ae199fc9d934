// Where pictures come from: examples, files, drops, the clipboard, the camera.

import { byId, h } from "./dom";

const EXAMPLES = [
    { file: "chelsea.png", name: "cat" },
    { file: "coffee.png", name: "coffee" },
    { file: "rocket.jpg", name: "rocket" },
];
const CAMERA_WIDTH = 320;

export interface ImageSource {
    onImage(image: Blob): void;
    /** Answers when the frame has been classified; false stops the camera. */
    onFrame(frame: ImageData): Promise<boolean>;
    onError(message: string | null): void;
}

/** Fills the tab's input. */
export function imageInput(source: ImageSource): { showFirst(): void; leave(): void } {
    const picker = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp", id: "file", class: "visually-hidden" }, [], {
        change: () => {
            const file = picker.files?.[0];
            picker.value = "";
            if (file) take(file);
        },
    });
    /** What is still on its way is outdated by whatever is asked for next. */
    const latest = new Ticket();
    const camera = new Camera(source, latest);
    const take = (file: Blob) => {
        latest.next();
        camera.stop();
        source.onImage(file);
    };
    const showExample = async (file: string) => {
        const isCurrent = latest.next();
        try {
            const response = await fetch(`photos/${file}`);
            if (!response.ok) throw new Error(`photos/${file}: HTTP ${response.status}`);
            const photo = new File([await response.blob()], file);
            if (isCurrent()) take(photo);
        } catch (error) {
            if (isCurrent()) source.onError(error instanceof Error ? error.message : String(error));
        }
    };
    const examples = EXAMPLES.map(({ file, name }) =>
        h("button", { type: "button", class: "example" }, [h("img", { loading: "lazy", src: `photos/${file}`, alt: "" }), name], {
            click: () => void showExample(file),
        }),
    );
    byId("image-input").append(
        h("div", { class: "row", role: "group", "aria-label": "Examples" }, examples),
        h("div", { class: "row" }, [
            picker,
            h("label", { for: "file", class: "button" }, ["Choose a picture"]),
            camera.button,
            camera.says,
            h("span", { class: "hint" }, ["or drop or paste a PNG, JPEG, WebP, GIF or BMP anywhere"]),
        ]),
    );
    listen(take, source);
    const leave = () => {
        latest.next();
        camera.stop();
    };
    return { showFirst: () => void showExample(EXAMPLES[0]?.file ?? ""), leave };
}

class Ticket {
    #number = 0;

    /** Outdates all earlier tickets; tells whether this one is the latest. */
    next(): () => boolean {
        const number = ++this.#number;
        return () => number === this.#number;
    }
}

/** Drops and pastes count on the whole page, whichever tab is open. */
function listen(take: (file: Blob) => void, source: ImageSource): void {
    document.addEventListener("dragover", (event) => {
        event.preventDefault();
        document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
        event.preventDefault();
        document.body.classList.remove("dropping");
        const item = event.dataTransfer?.items[0];
        const entry = item?.webkitGetAsEntry?.();
        if (entry?.isDirectory) return source.onError(`“${entry.name}” is a folder; drop one picture`);
        const file = event.dataTransfer?.files[0];
        if (file) take(file);
        else source.onError("What was dropped is no file; drop a picture");
    });
    document.addEventListener("paste", (event) => {
        const file = [...(event.clipboardData?.files ?? [])][0];
        if (!file) return;
        event.preventDefault();
        take(file);
    });
}

class Camera {
    readonly button = h("button", { type: "button", "aria-pressed": "false" }, ["Camera"], { click: () => void this.#toggle() });
    readonly says = h("output", { class: "number" });
    #stream: MediaStream | null = null;

    constructor(
        private readonly source: ImageSource,
        private readonly latest: Ticket,
    ) {}

    stop(): void {
        this.#stream?.getTracks().forEach((track) => track.stop());
        this.#stream = null;
        this.button.textContent = "Camera";
        this.button.setAttribute("aria-pressed", "false");
        this.says.textContent = "";
    }

    async #toggle(): Promise<void> {
        const isCurrent = this.latest.next();
        if (this.#stream) return this.stop();
        try {
            if (!navigator.mediaDevices) throw new Error("a page must be secure (https or localhost) to use it");
            const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
            // Somebody went elsewhere while the browser was asking for permission.
            if (!isCurrent()) return stream.getTracks().forEach((track) => track.stop());
            this.#stream = stream;
            this.button.textContent = "Stop camera";
            this.button.setAttribute("aria-pressed", "true");
            await this.#watch(stream);
        } catch (error) {
            if (!isCurrent()) return;
            this.stop();
            this.source.onError(`The camera cannot be used: ${error instanceof Error ? error.message : String(error)}`);
        }
    }

    async #watch(stream: MediaStream): Promise<void> {
        const video = h("video", { playsinline: true });
        video.muted = true;
        video.srcObject = stream;
        await video.play();
        const height = Math.round((CAMERA_WIDTH * video.videoHeight) / video.videoWidth) || CAMERA_WIDTH;
        const context = h("canvas", { width: CAMERA_WIDTH, height }).getContext("2d", { willReadFrequently: true });
        let perFrame = 0;
        while (context && this.#stream === stream) {
            const start = performance.now();
            context.drawImage(video, 0, 0, CAMERA_WIDTH, height);
            const goesOn = await this.source.onFrame(context.getImageData(0, 0, CAMERA_WIDTH, height));
            if (!goesOn) break;
            const ms = performance.now() - start;
            perFrame = perFrame === 0 ? ms : 0.8 * perFrame + 0.2 * ms;
            if (this.#stream === stream) this.says.textContent = `${(1000 / perFrame).toFixed(1)} frames per second`;
            // The browser paints, and hears the stop button.
            await new Promise(requestAnimationFrame);
        }
        if (this.#stream === stream) this.stop();
    }
}
