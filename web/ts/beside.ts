// What the package needs besides its modules: the worker's script and the WebAssembly. Bundlers look for URLs that stand written out.

/** Which files, as URLs. */
export interface Assets {
    worker: string;
    /** The core, with relaxed SIMD and without. */
    relaxed: string;
    portable: string;
}

/** Those that lie beside this module, wherever a bundler puts them. */
export const beside = (): Assets => ({
    worker: new URL("./worker.js", import.meta.url).href,
    relaxed: new URL("./wasm/sttabt_web_relaxed_bg.wasm", import.meta.url).href,
    portable: new URL("./wasm/sttabt_web_bg.wasm", import.meta.url).href,
});
