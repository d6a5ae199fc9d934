// The page: two panels, a benchmark, and the state that a link holds.

import { SttabtError, type BackendChoice, type ModelInfo, type Result, type Sttabt } from "sttabt";
import { byId, h, setAttributes } from "./dom";
import { BenchmarkPanel } from "./benchmark";
import { CurvePanel } from "./curve";
import { ImageView } from "./image-view";
import { imageInput } from "./images";
import { keepOffline } from "./offline";
import { Panel } from "./panel";
import precomputed from "./precomputed.json";
import { DEFAULT_TEXT, hashOf, initialState, parseHash, ruleText, TABS, type Tab } from "./state";
import { TextView } from "./text-view";

const EXAMPLES = [
    DEFAULT_TEXT,
    "an utterly charming comedy with a heart",
    "two hours of my life that I will never get back",
    "beautifully shot, but it has nothing to say",
    "not bad at all for a first feature",
    "The director wanted a masterpiece. What we got is a tedious, overlong and self-important mess with two good scenes.",
];
/** The address bar follows the last change of a drag: browsers throttle it. */
const LINK_MS = 200;

const { state, problems } = parseHash(location.hash);
const backend = ((): BackendChoice => {
    const wanted = new URLSearchParams(location.search).get("backend") ?? "auto";
    if (wanted === "auto" || wanted === "gpu" || wanted === "cpu") return wanted;
    problems.push(`backend “${wanted}”: expected auto, gpu or cpu`);
    return "auto";
})();

const notes = new Set<string>();
let linking = 0;
const shared = {
    backend,
    state,
    onState: () => {
        window.clearTimeout(linking);
        linking = window.setTimeout(() => history.replaceState(null, "", hashOf(state)), LINK_MS);
    },
    onModel: showBackend,
    onNote: (note: string) => {
        if (notes.has(note)) return;
        notes.add(note);
        byId("notes").append(h("li", {}, [note]));
    },
    onError: (message: string | null) => {
        const place = byId("error");
        place.textContent = message ?? "";
        setAttributes(place, { hidden: message === null });
    },
};

const text = new Panel({
    ...shared,
    id: "text",
    modelUrls: { int8: "models/sst2-minilm-int8", f16: "models/sst2-minilm" },
    modelName: "the text model",
    hint: "Type a sentence, or choose an example.",
    view: (label, onPick) => new TextView(label, onPick),
});
const images: Panel = new Panel({
    ...shared,
    id: "images",
    modelUrls: { int8: "models/deit-tiny-int8", f16: "models/deit-tiny" },
    modelName: "the image model",
    hint: "Choose a picture.",
    view: (label, onPick) => {
        const view = new ImageView(label, onPick, (layer) => {
            state.layer = layer;
            images.views.forEach((one) => one instanceof ImageView && one !== view && one.setLayer(layer));
            images.forgetToken();
            shared.onState();
        });
        view.setLayer(state.layer);
        return view;
    },
});
new CurvePanel(byId("curve"), shared);
new BenchmarkPanel(byId("benchmark"), shared);

/** How many layers the image model has, once it is there. */
let numImageLayers = Infinity;

function showLayer(layer: number): void {
    state.layer = layer;
    images.views.forEach((view) => view instanceof ImageView && view.setLayer(layer));
    shared.onState();
}

function showProblems(): void {
    if (state.layer > numImageLayers) {
        problems.push(`layer “${state.layer}”: the image model has ${numImageLayers} layers`);
        showLayer(0);
    }
    const place = byId("link-problems");
    place.textContent = `The link could not be read in full: ${problems.join("; ")}.`;
    setAttributes(place, { hidden: problems.length === 0 });
}

function showBackend(model: Sttabt): void {
    if (model.info.input === "image") {
        numImageLayers = model.info.numLayers;
        showProblems();
    }
    const { backend, adapter, software } = model.backend;
    const where =
        backend === "cpu" ? "the CPU, in WebAssembly" : `WebGPU: ${adapter}${software ? " (a software adapter)" : ""}`;
    byId("backend").textContent = `Computed by ${where}.`;
    keepOffline(() => shared.onNote("There is a new version of this page: reload to use it."));
}

const sentence = byId<HTMLTextAreaElement>("sentence");
const examples = byId<HTMLSelectElement>("examples");

function askText(): void {
    state.text = sentence.value;
    shared.onState();
    examples.value = EXAMPLES.includes(state.text) ? state.text : "";
    classifyText();
}

function classifyText(): void {
    if (state.text.trim() === "") text.clear();
    else void text.ask(state.text);
}

function showText(value: string): void {
    sentence.value = value;
    examples.value = EXAMPLES.includes(value) ? value : "";
}

examples.append(
    h("option", { value: "", disabled: true }, ["your own"]),
    ...EXAMPLES.map((example) => h("option", { value: example }, [example])),
);
examples.addEventListener("change", () => {
    sentence.value = examples.value;
    askText();
});
sentence.addEventListener("input", askText);

let hasImage = false;
const imagePicker = imageInput({
    onImage: (image) => {
        hasImage = true;
        // The output has one patch at most: a new picture begins with all.
        if (state.layer >= numImageLayers) showLayer(0);
        if (state.tab !== "images") open("images");
        void images.ask(image);
    },
    onFrame: async (frame) => {
        hasImage = true;
        return (await images.ask(frame, { measure: false })) !== "failed";
    },
    onError: shared.onError,
});

function open(tab: Tab): void {
    state.tab = tab;
    for (const name of TABS) {
        const isOpen = name === tab;
        setAttributes(byId(name), { hidden: !isOpen });
        setAttributes(byId(`tab-${name}`), { "aria-selected": isOpen ? "true" : "false", tabindex: isOpen ? 0 : -1 });
    }
    shared.onState();
    if (tab !== "images") imagePicker.leave();
    if (tab === "images" && !hasImage) {
        imagePicker.showFirst();
    }
    if (tab === "text") classifyText();
    if (tab === "images") void images.refresh();
}

TABS.forEach((name, index) => {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => open(name));
    tab.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
        const next = TABS[(index + step + TABS.length) % TABS.length];
        if (step === 0 || !next) return;
        event.preventDefault();
        open(next);
        byId(`tab-${next}`).focus();
    });
});

window.addEventListener("hashchange", () => {
    const found = parseHash(location.hash);
    Object.assign(state, found.state);
    problems.splice(0, problems.length, ...found.problems);
    showText(state.text);
    images.views.forEach((view) => view instanceof ImageView && view.setLayer(state.layer));
    open(state.tab);
    showProblems();
});

// Before any weights arrive: what the command said of the first example.
showText(state.text);
if (state.text === DEFAULT_TEXT && ruleText(state.rule) === ruleText(initialState().rule) && state.weights === "int8") {
    const why = () => Promise.reject(new SttabtError("internal", "the model is not there yet"));
    const result = { ...precomputed.result, why } as unknown as Result;
    text.showPrecomputed(DEFAULT_TEXT, result, { labels: precomputed.labels } as ModelInfo);
    if (state.tab === "text") byId("backend").textContent = "An example computed beforehand, until the model is here.";
}
showProblems();
// The first paint comes before the download.
requestAnimationFrame(() => setTimeout(() => open(state.tab)));
