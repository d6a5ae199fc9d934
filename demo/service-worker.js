// Keeps the page for visits without a network. The build puts `BUILD` and `FILES` above: paths of this build, with the SHA-256 of each.
//
// The cache has one build, whole and checked, or nothing. While it is there, it answers for all of its files, manifests of models included.
// When the host shows another build, the cache goes, and the network answers until the other build's worker has its own: no old code ever
// meets a new manifest. The weights are not kept here: the package keeps them by their hash.

/* global BUILD, FILES */

const PREFIX = `sttabt-page-${new URL(registration.scope).pathname}-`;
const CACHE = PREFIX + BUILD;
const addressOf = (path) => new URL(path, registration.scope).href;
const PATHS = new Map(Object.keys(FILES).map((path) => [addressOf(path), path]));
/** How long a visitor waits for a host that does not answer. */
const PATIENCE_MS = 5000;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
    const { request } = event;
    const address = new URL(request.url);
    address.search = address.hash = "";
    const path = address.href === registration.scope ? "index.html" : PATHS.get(address.href);
    if (request.method !== "GET" || path === undefined) return;
    event.respondWith(request.mode === "navigate" ? page(event, path) : file(request, path));
});

async function install() {
    const cache = await caches.open(CACHE);
    try {
        const later = (path) => path.startsWith("photos/") || path.endsWith(".wasm");
        const paths = Object.keys(FILES);
        await Promise.all(paths.filter((path) => !later(path)).map(async (path) => keep(cache, path, await get(path, "no-cache"))));
        // Of two WebAssembly files, a browser uses one: that which its own cache has by now.
        const code = paths.filter((path) => path.endsWith(".wasm"));
        const there = await Promise.all(code.map((path) => get(path, "only-if-cached").then((found) => keep(cache, path, found)).catch(() => false)));
        if (!there.includes(true)) await Promise.all(code.map(async (path) => keep(cache, path, await get(path, "default"))));
        await self.skipWaiting();
    } catch (error) {
        await caches.delete(CACHE);
        throw error;
    }
}

async function activate() {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
}

function get(path, cache) {
    return fetch(addressOf(path), { cache, mode: "same-origin" });
}

/** Into the cache, if it is what this build has. */
async function keep(cache, path, response) {
    const bytes = await response.arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (!response.ok || found !== FILES[path]) throw new Error(`${path} is not that of build ${BUILD}`);
    // A copy, for a browser opens no page from a response that was redirected. These headers are of the bytes on the line.
    const headers = new Headers(response.headers);
    for (const name of ["content-encoding", "content-length"]) headers.delete(name);
    await cache.put(addressOf(path), new Response(bytes, { headers }));
    return true;
}

const kept = (path) => caches.match(addressOf(path), { cacheName: CACHE, ignoreVary: true });

/** The build of a page. */
const buildOf = (text) => /<meta name="build" content="([^"]*)"/.exec(text)?.[1];

/** The page as the host has it now; as it was kept where the host does not answer in time. */
async function page(event, path) {
    const { request } = event;
    const known = await kept(path);
    if (!known) {
        const found = await fetch(request);
        // Browsers throw caches away.
        event.waitUntil(found.clone().text().then((text) => buildOf(text) === BUILD && install()).catch(() => undefined));
        return found;
    }
    try {
        const found = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
        if (found.status >= 500) return known;
        const build = buildOf(await found.clone().text());
        if (build !== undefined && build !== BUILD) await caches.delete(CACHE);
        return found;
    } catch {
        return known;
    }
}

async function file(request, path) {
    const known = await kept(path);
    if (known) return known;
    const found = await fetch(request);
    // Pictures are kept when they are first seen, as long as the build is the host's.
    if (found.ok && (await caches.has(CACHE))) await keep(await caches.open(CACHE), path, found.clone()).catch(() => undefined);
    return found;
}
