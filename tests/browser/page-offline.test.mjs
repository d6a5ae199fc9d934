// The page without a network, and beside a newer build of itself: `node page-offline.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { finish } from "../../demo/finish.mjs";
import { launch } from "./launch.mjs";
import { root } from "./native.mjs";
import { serve } from "./server.mjs";
import { browserName, result, TIMEOUT, visible } from "./visit.mjs";

const folder = mkdtempSync(join(tmpdir(), "offline-"));
after(() => rmSync(folder, { recursive: true }));

/** A host of its own, since it is switched off, and a browser that was never here. */
async function withHost(name, body) {
    const dist = join(folder, name);
    cpSync(join(root, "demo", "dist"), dist, { recursive: true, filter: (path) => !path.endsWith(".gz") && !/models.(deit|sst2-minilm.model)/.test(path) });
    finish(dist);
    const host = await serve({ "/": `${dist}/` });
    const browser = await launch(browserName);
    try {
        const page = await browser.newPage();
        const said = [];
        page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
        page.on("pageerror", (error) => said.push(`page error: ${error.message}`));
        await body({ dist, host, page, said });
    } finally {
        await browser.close();
        await host.close().catch(() => undefined);
    }
}

/** Waits until a service worker has its build, whole, and the page is its. */
const isKept = (page, build) =>
    page.waitForFunction(
        async (build) => {
            const names = (await caches.keys()).filter((name) => name.startsWith("sttabt-page-"));
            return navigator.serviceWorker.controller?.state === "activated" && names.length === 1 && names[0].endsWith(build);
        },
        { ...TIMEOUT, polling: 50 },
        build,
    );

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const buildOf = (dist) => /name="build" content="(\w+)"/.exec(readFileSync(join(dist, "index.html"), "utf8"))[1];

/** Other weights on the host, as far as a manifest tells. */
function renameLabels(dist, label) {
    const model = join(dist, "models", "sst2-minilm-int8");
    const config = readFileSync(join(model, "config.json"), "utf8").replace(/"positive"/g, JSON.stringify(label));
    writeFileSync(join(model, "config.json"), config);
    const manifest = JSON.parse(readFileSync(join(model, "manifest.json"), "utf8"));
    manifest.files["config.json"] = { bytes: Buffer.byteLength(config), sha256: sha256(config) };
    writeFileSync(join(model, "manifest.json"), JSON.stringify(manifest));
}

test("a reload without a network answers, and the browser fetched nothing twice", () =>
    withHost("alone", async ({ dist, host, page, said }) => {
        await page.goto(`${host.url}#tab=text&rule=topk:0.5&text=a+gripping+film`);
        const before = await result(page);
        const weights = host.requests.findLastIndex((path) => path.endsWith(".safetensors"));
        assert.ok(!host.requests.slice(0, weights).includes("/sw.js"), "first come the weights");
        assert.deepEqual(host.requests.filter((path) => path.startsWith("/photos/")), [], "no hidden tab's pictures");
        await isKept(page, buildOf(dist));
        const code = host.requests.filter((path) => path.endsWith(".wasm"));
        assert.equal(code.length, 1, `the WebAssembly of this browser, once: ${code}`);
        await host.close();
        await page.reload();
        const offline = await result(page);
        assert.deepEqual([offline.kept, offline.logits], [before.kept, before.logits]);
        await page.goto(`${host.url}index.html?backend=cpu#tab=text&text=a+dull+film`);
        assert.ok((await result(page)).tokens.includes("dull"), "another link of the same page");
        assert.deepEqual(said.filter((line) => !/Failed to load resource|the server responded/.test(line)), []);
        assert.ok(await page.$eval("#error", ({ hidden }) => hidden));
    }));

test("another build replaces this one as a whole: no old code with a new model, and the other way round", () =>
    withHost("builds", async ({ dist, host, page }) => {
        const address = `${host.url}#tab=text&rule=dense&text=a+gripping+film`;
        const labels = async (page) => {
            await result(page);
            return page.$$eval("#text .probabilities .label", (labels) => labels.map(({ textContent }) => textContent).sort());
        };
        await page.goto(address);
        const first = await labels(page);
        const build = buildOf(dist);
        await isKept(page, build);
        // The host has a new model and no new page yet: half of a build is none.
        renameLabels(dist, "splendid");
        await page.reload();
        assert.deepEqual(await labels(page), first);
        finish(dist);
        assert.notEqual(buildOf(dist), build, "a model's manifest is part of the build");
        const other = await page.browser().newPage();
        await other.goto(address);
        assert.ok((await labels(other)).includes("splendid"), "what is new shows at once");
        await isKept(other, buildOf(dist));
        await page.bringToFront();
        await visible(page, "There is a new version of this page");
        const notes = (page) => page.$eval("#notes", ({ textContent }) => textContent);
        assert.doesNotMatch(await notes(other), /new version/, "this is the new version");
        await host.close();
        for (const one of [page, other]) {
            // A page in the background does not start.
            await one.bringToFront();
            await one.reload();
            assert.ok((await labels(one)).includes("splendid"));
            assert.doesNotMatch(await notes(one), /new version/);
        }
    }));

test("a host that is half way between two builds leaves the page as it was kept", () =>
    withHost("half", async ({ dist, host, page }) => {
        await page.goto(`${host.url}#tab=text&rule=dense&text=a+gripping+film`);
        await result(page);
        const build = buildOf(dist);
        await isKept(page, build);
        host.answers.set("/", (_, response) => response.writeHead(503).end("in trouble"));
        await page.reload();
        await result(page);
        host.answers.clear();
        // The new build's worker is there before its files: it does not become the page's.
        writeFileSync(join(dist, "sw.js"), readFileSync(join(dist, "sw.js"), "utf8").replaceAll(build, "0".repeat(16)).replace(/("index.html": ")\w{8}/, "$100000000"));
        const ended = await page.evaluate(async () => {
            const registration = await navigator.serviceWorker.ready;
            await registration.update().catch(() => undefined);
            const { installing } = registration;
            while (installing && installing.state !== "redundant" && installing.state !== "activated") await new Promise((resolve) => installing.addEventListener("statechange", resolve, { once: true }));
            return installing?.state ?? "redundant";
        });
        assert.equal(ended, "redundant");
        await isKept(page, build);
    }));

test("a host that stalls, one that redirects index.html, and a browser that threw the cache away", () =>
    withHost("odd", async ({ dist, host, page }) => {
        host.answers.set("/index.html", (_, response) => response.writeHead(308, { location: "/" }).end());
        await page.goto(`${host.url}#tab=text&rule=dense&text=a+gripping+film`);
        await result(page);
        const build = buildOf(dist);
        await isKept(page, build);
        await page.evaluate(() => caches.keys().then((names) => Promise.all(names.map((name) => caches.delete(name)))));
        await page.reload();
        await isKept(page, build);
        // A beginning, and then nothing.
        host.answers.set("/", (_, response) => response.writeHead(200, { "content-type": "text/html" }).write("<!doctype html>"));
        await page.reload();
        await result(page);
        await host.close();
        await page.reload();
        await result(page);
    }));
