// The page without a network: a service worker keeps it, once it is of use.

let isStarted = false;

/** Called when a model is there: what is kept for later does not slow the first answer down. `onOld`: a newer build has taken over. */
export function keepOffline(onOld: () => void): void {
    if (isStarted || !import.meta.env.PROD || !("serviceWorker" in navigator)) return;
    isStarted = true;
    const build = document.querySelector<HTMLMetaElement>("meta[name=build]")?.content ?? "";
    navigator.serviceWorker.addEventListener("controllerchange", async () => {
        // Another worker controls the page when it has removed all builds but its own.
        const kept = (await caches.keys()).filter((name) => name.startsWith("sttabt-page-"));
        if (kept.length > 0 && !kept.some((name) => name.endsWith(build))) onOld();
    });
    // Where storage is closed to the page, it works as before, with a network.
    navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).catch(() => undefined);
}
