// How long a first visit takes: `node first-visit.mjs [MBIT_PER_S] [CPU_SLOWDOWN]`, after `npm run build` in demo/ and `cargo build --release`.
//
// `sttabt demo` serves the page through a proxy, for two reasons: Chromium's own throttling gives every worker a line of its own, and
// here all share one. The slowdown is Chromium's; it reaches the page's thread, and not its workers.

import { spawn } from "node:child_process";
import { createServer, request } from "node:http";
import { createInterface } from "node:readline";

import { launch } from "./launch.mjs";
import { root } from "./native.mjs";

const [megabits = "10", slowdown = "4"] = process.argv.slice(2);
const LATENCY_MS = 40;
const PIECE_MS = 10;
/** A timer that comes late on a busy machine takes nothing from the line. */
const LATE_MS = 200;
const BYTES_PER_MS = (Number(megabits) * 1e6) / 8 / 1e3;

/** When the line is free again. */
let freeAt = 0;
const received = new Map();

/** Waits until a piece has passed the line after all that came before it. */
async function pass(bytes) {
    freeAt = Math.max(freeAt, performance.now() - LATE_MS) + bytes / BYTES_PER_MS;
    await new Promise((resolve) => setTimeout(resolve, freeAt - performance.now()));
}

function proxy(target) {
    return createServer((asked, answer) => {
        const forward = request(target + asked.url, { headers: asked.headers, method: asked.method }, async (from) => {
            await new Promise((resolve) => setTimeout(resolve, LATENCY_MS));
            answer.writeHead(from.statusCode, from.headers);
            answer.flushHeaders();
            for await (const chunk of from) {
                for (let at = 0; at < chunk.length; at += BYTES_PER_MS * PIECE_MS) {
                    const piece = chunk.subarray(at, at + BYTES_PER_MS * PIECE_MS);
                    await pass(piece.length);
                    answer.write(piece);
                    received.set(asked.url, (received.get(asked.url) ?? 0) + piece.length);
                }
            }
            answer.end();
        });
        forward.on("error", () => answer.destroy());
        forward.end();
    });
}

const demo = spawn(`${root}target/release/sttabt`, ["demo", "--no-open", "--port", "0", "--dir", `${root}demo/dist`]);
let browser, server;
try {
    let url;
    for await (const line of createInterface(demo.stdout)) if ((url = /is at (http:\S+)\/$/.exec(line)?.[1])) break;
    server = proxy(url).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    browser = await launch("chromium");
    const page = await browser.newPage();
    await page.emulateCPUThrottling(Number(slowdown));
    const start = performance.now();
    const since = () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    console.log(`${since()}: the page is there`);
    // What was computed beforehand has no scores.
    const isLive = () => JSON.parse(document.querySelector("#text [data-part=json]")?.textContent || "{}").tokenScores;
    await page.waitForFunction(isLive, { timeout: 180_000, polling: 100 });
    console.log(`${since()}: a sentence is answered, at ${megabits} Mbit/s, page's thread ${slowdown} times slower`);
    const rows = [...received].sort(([, one], [, other]) => other - one);
    for (const [path, bytes] of rows) console.log(`${(bytes / 1e6).toFixed(2)} MB  ${path}`);
    console.log(`${(rows.reduce((sum, [, bytes]) => sum + bytes, 0) / 1e6).toFixed(2)} MB in all`);
} finally {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
    demo.kill();
}
