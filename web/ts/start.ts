// Starts the worker on whatever page this is, or says why there is none.

import type { Assets } from "./beside.js";
// Vite's dev server moves a package's modules to another folder, away from what lies beside them. It leaves one alone whose name ends as
// those that it compiles itself. To all others this is a module with a query, which changes nothing.
import { beside } from "./beside.js?here.imba";
import { SttabtError } from "./types.js";

/** What TypeScript's DOM does not know yet. */
interface TrustedTypes {
    createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

/** What a URL means to this page. A worker has no document. */
export function absolute(url: string | URL): string {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
}

/** The package's files: in the folder that the caller names, else beside the package. */
export function assetsIn(folder: string | null): Assets {
    if (folder === null) {
        try {
            const { worker, relaxed, portable } = beside();
            // Turbopack's are no whole URLs.
            return { worker: absolute(worker), relaxed: absolute(relaxed), portable: absolute(portable) };
        } catch {
            throw new SttabtError("worker", "this bundle cannot tell where it lies: name the folder of worker.js and wasm/ as `assets`");
        }
    }
    const inside = folder.endsWith("/") ? folder : `${folder}/`;
    return {
        worker: `${inside}worker.js`,
        relaxed: `${inside}wasm/sttabt_web_relaxed_bg.wasm`,
        portable: `${inside}wasm/sttabt_web_bg.wasm`,
    };
}

export function startWorker(url: string): Worker {
    if (typeof Worker === "undefined") {
        const elsewhere = "in Node.js, start the command `sttabt`";
        throw new SttabtError("worker", `the model runs in a Web Worker, and there are none here: use a page or a dedicated worker; ${elsewhere}`);
    }
    try {
        return new Worker(trusted(new URL(url).origin === self.origin ? url : importing(url)), { type: "module" });
    } catch (error) {
        throw didNotStart(url, error instanceof Error ? error.message : String(error));
    }
}

export function didNotStart(url: string, why: string): SttabtError {
    const ways = "`worker-src` with its origin (and `blob:`, if that is not the page's own), and `sttabt` among `trusted-types`";
    return new SttabtError("worker", `the worker ${url} did not start: ${why}. It must be there, and a strict Content-Security-Policy needs ${ways}`);
}

/** A script of this origin that imports one of another, which no worker may start with. One for all models of a page. */
const importers = new Map<string, string>();
function importing(url: string): string {
    const script = `import ${JSON.stringify(url)};`;
    // A sandboxed frame has no origin. Chromium starts no module from a Blob there.
    if (self.origin === "null") return `data:text/javascript,${encodeURIComponent(script)}`;
    const importer = importers.get(url) ?? URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    importers.set(url, importer);
    return importer;
}

let policy: ReturnType<TrustedTypes["createPolicy"]> | null = null;

/** The URL as a page with Trusted Types wants it. A page that forbids our policy may have a default one. */
function trusted(url: string): string {
    try {
        policy ??= (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes?.createPolicy("sttabt", { createScriptURL: (url) => url }) ?? null;
    } catch {}
    return policy?.createScriptURL(url) ?? url;
}
