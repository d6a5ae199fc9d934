// The built package in a real browser: what its tests share. They are started as `node FILE BROWSER`.

import { after, before } from "node:test";

import { manifest } from "../../web/manifest.mjs";
import { launch } from "./launch.mjs";
import { root } from "./native.mjs";
import { serve } from "./server.mjs";

export const browserName = process.argv[2] ?? "chromium";
export const INSECURE_HOST = "sttabt.test";

export let server, browser;
/** What no page may have: errors, and requests to elsewhere. */
export const problems = [];

before(async () => {
    server = await serve({
        "/": `${root}tests/browser/pages/`,
        "/package/": `${root}web/dist/`,
        "/models/": `${root}models/`,
        "/photos/": `${root}demo/photos/`,
        "/families/": `${root}tests/fixtures/families/`,
    });
    for (const model of ["sst2-minilm", "deit-tiny"]) {
        const body = JSON.stringify(await manifest(`${root}models/${model}`));
        server.answers.set(`/models/${model}/manifest.json`, (_, response) => json(response, body));
    }
    browser = await launch(browserName, { insecureHost: INSECURE_HOST });
});

after(async () => {
    await browser?.close();
    await server?.close();
});

export const json = (response, body) => response.writeHead(200, { "content-type": "application/json" }).end(body);

/** A fresh page, in which `load` and `outcome` are there besides the package's names. */
export async function open(from = browser, host = "127.0.0.1") {
    const page = await from.newPage();
    page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
    page.on("request", (request) => {
        const url = new URL(request.url());
        if (url.protocol.startsWith("http") && url.port !== String(server.port)) problems.push(`request: ${url}`);
    });
    await page.goto(`http://${host}:${server.port}/package.html`);
    await page.waitForFunction("window.isReady");
    await page.evaluate(() => {
        window.events = [];
        window.notes = [];
        window.load = (options) =>
            window.Sttabt.load({
                onProgress: (progress) => window.events.push(progress),
                onNote: (note) => window.notes.push(note),
                ...options,
            });
        window.rule = (text) => {
            const [rule, ratios] = text.split(":");
            return ratios ? { rule, ratio: ratios.split(",").map(Number) } : { rule };
        };
        /** `ok`, or the error's kind and message. */
        window.outcome = (promise) =>
            promise.then(
                () => "ok",
                (error) => `${error.kind}: ${error.message}`,
            );
        window.fetchBlob = async (url, name) => new File([await (await fetch(url)).blob()], name);
    });
    return page;
}

export async function withPage(body, ...where) {
    const page = await open(...where);
    try {
        return await body(page);
    } finally {
        await page.close();
    }
}
