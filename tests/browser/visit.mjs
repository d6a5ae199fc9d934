// The built page in a real browser: what its tests share. They are started as `node FILE BROWSER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before } from "node:test";

import { launch } from "./launch.mjs";
import { native, root } from "./native.mjs";
import { serve } from "./server.mjs";

export const browserName = process.argv[2] ?? "chromium";
export const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** A software adapter compiles for half a minute before the first result, beside other tests for longer. */
export const TIMEOUT = { timeout: 120_000 };

export let server, browser;
export const problems = [];

before(async () => {
    server = await serve({ "/": `${root}demo/dist/` });
    browser = await launch(browserName, { camera: true });
});

after(async () => {
    await browser?.close();
    await server?.close();
});

/** What the command says of an input, with the page's own int8 models. */
export const answers = (...args) => {
    const model = args.includes("--image") ? "deit-tiny-int8" : "sst2-minilm-int8";
    return native("--model", `demo/dist/models/${model}`, ...args);
};

/** Opens the page; `expects` are console messages that belong to the case. */
export async function withPage(address, body, { from = browser, width = 1280, height = 900, expects = null } = {}) {
    const page = await from.newPage();
    page.on("pageerror", (error) => problems.push(`page error: ${error.message}`));
    page.on("console", (message) => {
        const text = `${message.type()}: ${message.text()}`;
        if (["error", "warn", "warning"].includes(message.type()) && !expects?.test(text)) problems.push(`console: ${text}`);
    });
    page.on("request", (request) => {
        const url = new URL(request.url());
        if (url.protocol.startsWith("http") && url.port !== String(server.port)) problems.push(`request: ${url}`);
    });
    await page.setViewport({ width, height });
    await page.goto(server.url + address);
    try {
        return await body(page);
    } finally {
        await page.close();
    }
}

/** The result that the open tab exports, once it is one that `accepts`. */
export async function result(page, accepts = () => true) {
    const deadline = Date.now() + TIMEOUT.timeout;
    while (Date.now() < deadline) {
        const text = await page.evaluate(() => document.querySelector("section:not([hidden]) [data-part=json]")?.textContent);
        const found = text ? JSON.parse(text) : null;
        const isLive = found && (found.prune.rule === "dense" || found.tokenScores);
        if (isLive && accepts(found)) return found;
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const says = await page.evaluate(() => document.body.innerText);
    assert.fail(`no result that ${accepts}; the page says:\n${says.slice(0, 1500)}`);
}

export const visible = (page, text) =>
    page.waitForFunction((text) => document.body.innerText.includes(text), TIMEOUT, text);
export const errorText = (page, pattern) =>
    page.waitForFunction(
        (pattern) => {
            const texts = [...document.querySelectorAll("[role=alert]:not([hidden])")].map((place) => place.textContent);
            return texts.find((text) => new RegExp(pattern).test(text)) ?? null;
        },
        TIMEOUT,
        pattern,
    );
export const setValue = (page, selector, value) =>
    page.$eval(
        selector,
        (element, value) => {
            element.value = value;
            element.dispatchEvent(new Event("input", { bubbles: true }));
            element.dispatchEvent(new Event("change", { bubbles: true }));
        },
        value,
    );
