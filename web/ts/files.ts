// Fetching a model folder into WebAssembly memory, through a cache that is keyed and verified by SHA-256.

import { SttabtError, type Progress } from "./types.js";
import { known_files, named_files, names_others, wanted_files } from "./wasm/sttabt_web.js";

/** Where the files go: the core's `ModelBytes`. */
export interface Sink {
    begin(name: string, numBytes: number): void;
    append(piece: Uint8Array): void;
    finish(): string;
}

interface Entry {
    name: string;
    /** 0: not known. */
    bytes: number;
    sha256: string | null;
}

const CACHE = "sttabt";
const HASH = /^[0-9a-f]{64}$/;

/** The core's list of names; see `KnownFiles` there. */
interface KnownFiles {
    networks: string[];
    config: string;
    weights: string[];
    vocabularies: string[];
    others: string[];
}

type OnProgress = (progress: Progress) => void;
type OnNote = (note: string) => void;

/** Loads a model folder from a URL; the number of bytes. */
export async function loadUrl(url: string, sink: Sink, onProgress: OnProgress, onNote: OnNote): Promise<number> {
    const folder = url.endsWith("/") ? url : `${url}/`;
    const cache = await openCache(onNote);
    const count = new Count(onProgress);
    const entries = await manifestEntries(folder, cache);
    if (entries) {
        await loadWanted(entries, sink, count, onNote, (entry, sink) => loadEntry(folder, entry, cache, sink, count, onNote));
        return count.loaded;
    }
    onNote(`${folder} has no manifest.json, so its files are not cached (npx sttabt-manifest writes one)`);
    const responses = await responsesOf(folder);
    await loadWanted([...responses.keys()], sink, count, onNote, (entry, sink) => loadResponse(responses.get(entry), entry, count, sink));
    return count.loaded;
}

/** Loads files that the caller has; the number of bytes. */
export async function loadFiles(
    files: Record<string, Blob | ArrayBuffer | Uint8Array>,
    sink: Sink,
    onProgress: OnProgress,
    onNote: OnNote,
): Promise<number> {
    const blobs = Object.entries(files).map(([name, file]): [Entry, Blob] => {
        const blob = file instanceof Blob ? file : new Blob([file as BlobPart]);
        return [{ name, bytes: blob.size, sha256: null }, blob];
    });
    const given = new Map(blobs);
    const count = new Count(onProgress);
    await loadWanted([...given.keys()], sink, count, onNote, (entry, sink) => loadResponse(new Response(given.get(entry)), entry, count, sink));
    return count.loaded;
}

/** Loads those files of a folder that the core reads a model from, and those that these name. */
async function loadWanted(
    entries: Entry[],
    sink: Sink,
    count: Count,
    onNote: OnNote,
    load: (entry: Entry, sink: Sink) => Promise<void>,
): Promise<void> {
    const there = new Map(entries.map((entry) => [entry.name, entry]));
    // What names others comes first: from then on the number of bytes is known.
    const names = wanted_files([...there.keys()]);
    names.sort((a, b) => Number(names_others(b)) - Number(names_others(a)));
    count.expect(names.map((name) => there.get(name)));
    // The list grows on the way.
    for (const name of names) {
        let pieces: Uint8Array[] = [];
        const listening: Sink = {
            begin: (name, numBytes) => {
                pieces = [];
                sink.begin(name, numBytes);
            },
            append: (piece) => {
                pieces.push(piece.slice());
                sink.append(piece);
            },
            finish: () => sink.finish(),
        };
        const entry = there.get(name);
        if (!entry) continue;
        await load(entry, names_others(name) ? listening : sink);
        const bytes = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
        const named = named_files(name, bytes).filter((other) => there.has(other) && !names.includes(other));
        names.push(...named);
        count.expect(named.map((name) => there.get(name)));
    }
    const skipped = [...there.keys()].filter((name) => !names.includes(name));
    if (skipped.length > 0) onNote(`files that no model is read from are left out: ${skipped.join(", ")}`);
}

async function loadResponse(response: Response | undefined, entry: Entry, count: Count, sink: Sink): Promise<void> {
    if (!response) return;
    sink.begin(entry.name, isPickle(entry) ? 0 : entry.bytes);
    await pour(response, entry, count, false, (piece) => sink.append(piece));
    sink.finish();
}

/** The core refuses these by their first bytes. The others may be very many. */
const isPickle = (entry: Entry) => entry.name.endsWith(".bin") && entry.sha256 === null;

/** One progress over all files. */
class Count {
    loaded = 0;
    #total = 0;

    constructor(private readonly onProgress: OnProgress) {}

    expect(entries: (Entry | undefined)[]): void {
        this.#total += entries.reduce((sum, entry) => sum + (entry?.bytes ?? 0), 0);
    }

    add(file: string, bytes: number, fromCache: boolean): void {
        this.loaded += bytes;
        const totalBytes = Math.max(this.#total, this.loaded);
        this.onProgress({ stage: "load", loadedBytes: this.loaded, totalBytes, file, fromCache });
    }
}

async function openCache(onNote: OnNote): Promise<Cache | null> {
    if (!self.isSecureContext) {
        onNote("this page is not a secure context (https or localhost): no WebGPU, and nothing is cached");
        return null;
    }
    try {
        return await caches.open(CACHE);
    } catch (error) {
        onNote(`nothing is cached: ${text(error)}`);
        return null;
    }
}

/** From the network, else as it was last seen; null when the folder has none. */
async function manifestEntries(folder: string, cache: Cache | null): Promise<Entry[] | null> {
    const url = `${folder}manifest.json`;
    let response: Response | undefined;
    try {
        response = await fetch(url, { cache: "no-cache" });
        // A server that is in trouble has not said that there is none.
        if (!response.ok && ![404, 410].includes(response.status)) throw new Error(status(response));
    } catch (error) {
        response = await cache?.match(url);
        if (!response) throw new SttabtError("network", `${url}: ${text(error)}`);
    }
    if (!isFile(response)) return null;
    const body = await response.text();
    const entries = parseManifest(url, body);
    await cache?.put(url, new Response(body)).catch(() => undefined);
    return entries;
}

function parseManifest(url: string, body: string): Entry[] {
    const wrong = (what: string) => new SttabtError("model", `${url}: ${what}`);
    let files: unknown;
    try {
        files = (JSON.parse(body) as { files?: unknown } | null)?.files;
    } catch (error) {
        throw wrong(text(error));
    }
    if (typeof files !== "object" || files === null) throw wrong("`files` is missing, expected an object");
    return Object.entries(files).map(([name, file]): Entry => {
        const { bytes, sha256 } = (file ?? {}) as { bytes?: unknown; sha256?: unknown };
        if (!Number.isSafeInteger(bytes) || (bytes as number) < 0 || (bytes as number) > 0xffff_ffff) {
            throw wrong(`\`${name}\`: \`bytes\` is ${JSON.stringify(bytes)}, expected a size`);
        }
        if (typeof sha256 !== "string" || !HASH.test(sha256)) {
            throw wrong(`\`${name}\`: \`sha256\` is ${JSON.stringify(sha256)}, expected 64 hexadecimal digits`);
        }
        return { name, bytes: bytes as number, sha256 };
    });
}

/** A server of single-page applications answers with its page for a file that is not there. */
function isFile(response: Response): boolean {
    return response.ok && !(response.headers.get("content-type") ?? "").startsWith("text/html");
}

/** Without a manifest, all that the core could use is asked for. */
async function responsesOf(folder: string): Promise<Map<Entry, Response>> {
    const responses = new Map<Entry, Response>();
    const ask = async (name: string, isRequired = false): Promise<boolean> => {
        let response = await get(`${folder}${name}`);
        if (!isFile(response)) {
            await response.body?.cancel();
            if (isRequired) throw notFound(`${folder}${name}`, response);
            return false;
        }
        const encoded = response.headers.has("content-encoding");
        const bytes = encoded ? 0 : Number(response.headers.get("content-length") ?? 0);
        let named: string[] = [];
        if (names_others(name)) {
            const body = new Uint8Array(await response.arrayBuffer());
            named = named_files(name, body);
            response = new Response(body);
        }
        responses.set({ name, bytes: Number.isSafeInteger(bytes) ? bytes : 0, sha256: null }, response);
        // The core says which of them it lacks.
        await Promise.all(named.map((name) => ask(name)));
        return true;
    };
    const { networks, config, weights, vocabularies, others } = JSON.parse(known_files()) as KnownFiles;
    const askInTurn = async (names: string[]): Promise<void> => {
        for (const name of names) if (await ask(name)) return;
    };
    for (const network of networks) {
        // The model's own is required.
        if (await ask(`${network}${config}`, network === "")) await askInTurn(weights.map((name) => `${network}${name}`));
    }
    await Promise.all(others.map((name) => ask(name)));
    const names = [...responses.keys()].map(({ name }) => name);
    // Those that another file replaces are not wanted.
    const missing = vocabularies.filter((name) => wanted_files([...names, name]).includes(name));
    await Promise.all(missing.map((name) => ask(name)));
    return responses;
}

/** From the cache if its bytes are what they should be, else from the network into the cache. */
async function loadEntry(
    folder: string,
    entry: Entry,
    cache: Cache | null,
    sink: Sink,
    count: Count,
    onNote: OnNote,
): Promise<void> {
    // The address of a worker that was started from another origin is no base of URLs.
    const key = `${self.origin}/sttabt-cache/${entry.sha256}`;
    const cached = await cache?.match(key).catch(() => undefined);
    if (cached) {
        sink.begin(entry.name, entry.bytes);
        const loaded = await pour(cached, entry, count, true, (piece) => sink.append(piece));
        if (loaded === entry.bytes && sink.finish() === entry.sha256) return;
        count.add(entry.name, -loaded, true);
        await cache?.delete(key);
        onNote(`${entry.name}: the cached copy is damaged, and is fetched anew`);
    }
    const url = `${folder}${entry.name}`;
    const response = await get(url);
    if (!isFile(response)) throw notFound(url, response);
    sink.begin(entry.name, entry.bytes);
    const saving = cache ? new Saving(cache, key, entry.bytes) : null;
    try {
        const loaded = await pour(response, entry, count, false, async (piece) => {
            sink.append(piece);
            await saving?.write(piece);
        });
        const found = sink.finish();
        if (loaded !== entry.bytes) {
            throw new SttabtError("model", `${url}: ${loaded} bytes, the manifest says ${entry.bytes}`);
        }
        if (found !== entry.sha256) {
            throw new SttabtError("model", `${url}: SHA-256 is ${found}, the manifest says ${entry.sha256}`);
        }
    } catch (error) {
        await saving?.discard();
        throw error;
    }
    const failure = await saving?.finish();
    if (failure) onNote(`${entry.name} (${entry.bytes} bytes) is not cached: ${failure}`);
}

/** A cache entry that is written as the bytes come; whoever reads it checks its hash. */
class Saving {
    readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
    readonly #put: Promise<string | null>;
    #failed = false;

    constructor(
        private readonly cache: Cache,
        private readonly key: string,
        bytes: number,
    ) {
        const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
        this.#writer = writable.getWriter();
        this.#writer.closed.catch(() => undefined);
        const headers = { "content-type": "application/octet-stream", "content-length": String(bytes) };
        this.#put = cache.put(key, new Response(readable, { headers })).then(
            () => null,
            (error: unknown) => {
                this.#failed = true;
                const quota = error instanceof DOMException && error.name === "QuotaExceededError";
                return quota ? "the browser's storage quota for this site is used up" : text(error);
            },
        );
    }

    async write(piece: Uint8Array): Promise<void> {
        if (this.#failed) return;
        // A cache that gave up reads no more; the model goes on without it.
        await Promise.race([this.#writer.write(piece).catch(() => undefined), this.#put]);
    }

    async finish(): Promise<string | null> {
        await Promise.race([this.#writer.close().catch(() => undefined), this.#put]);
        return this.#put;
    }

    /** Ends the entry and removes it: Firefox reports a stream that is broken off as an error of the page. */
    async discard(): Promise<void> {
        await this.finish();
        await this.cache.delete(this.key).catch(() => undefined);
    }
}

/** Hands the pieces of a body on as they come; the number of bytes. A cached one that breaks off is short. */
async function pour(
    response: Response,
    entry: Entry,
    count: Count,
    fromCache: boolean,
    take: (piece: Uint8Array) => void | Promise<void>,
): Promise<number> {
    let loaded = 0;
    const reader = response.body?.getReader();
    for (;;) {
        const next = await reader?.read().catch((error: unknown) => {
            if (fromCache) return undefined;
            throw new SttabtError("network", `${entry.name}: broken off after ${loaded} bytes: ${text(error)}`);
        });
        if (!next || next.done) return loaded;
        loaded += next.value.byteLength;
        await take(next.value);
        count.add(entry.name, next.value.byteLength, fromCache);
        if (isPickle(entry)) {
            await reader?.cancel();
            return loaded;
        }
    }
}

async function get(url: string): Promise<Response> {
    try {
        return await fetch(url);
    } catch (error) {
        throw new SttabtError("network", `${url}: ${text(error)}`);
    }
}

function notFound(url: string, response: Response): SttabtError {
    return new SttabtError("network", `${url}: ${response.ok ? "a web page is there in its place" : status(response)}`);
}

function status(response: Response): string {
    return `HTTP ${response.status} ${response.statusText}`.trim();
}

function text(error: unknown): string {
    return error instanceof Error ? error.message : String(error);
}
