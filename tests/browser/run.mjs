// Cargo's runner for tests that are WebAssembly in a browser: `node run.mjs BROWSER TESTS.wasm`.
//
// wasm-bindgen's own runner serves the page that runs them and would drive it with chromedriver or geckodriver; here it only serves,
// so that all tests in browsers start them in one way.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { launch } from "./launch.mjs";

const RUNNER = fileURLToPath(new URL("../../target/tools/bin/wasm-bindgen-test-runner", import.meta.url));
const MAX_MS = 10 * 60_000;
/** What the console says besides: the runner's own remarks, the icon that it does not serve, panics, which the page's text has too. */
const NOISE = /^(Invoking test: |using deprecated parameters|Failed to load resource|panicked at )/;

/** Starts the runner as a server on a free port, and returns it with its address. */
async function serve(args) {
    const env = { ...process.env, NO_HEADLESS: "1", WASM_BINDGEN_TEST_ADDRESS: "127.0.0.1:0" };
    const server = spawn(RUNNER, args, { env, stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface(server.stdout)) {
        const url = /available at (http:\S+)/.exec(line)?.[1];
        if (url) return { server, url };
    }
    throw new Error("wasm-bindgen-test-runner ended without serving the tests");
}

/** Runs the tests in a page and returns what they wrote, up to the line with the result if they came so far. */
async function outputOf(page, url) {
    page.on("console", (message) => !NOISE.test(message.text()) && console.log(message.text()));
    page.on("pageerror", (error) => console.log(`page error: ${error.message}`));
    await page.goto(url);
    const isDone = () => document.getElementById("output").textContent.includes("\ntest result: ");
    await page.waitForFunction(isDone, { timeout: MAX_MS, polling: 200 }).catch((error) => console.log(`run.mjs: ${error.message}`));
    return page.$eval("#output", (output) => output.textContent);
}

const [browserName, ...args] = process.argv.slice(2);
const { server, url } = await serve(args);
let browser;
try {
    browser = await launch(browserName, { zeroes: false });
    console.log(await browser.version());
    const output = await outputOf(await browser.newPage(), url);
    console.log(output);
    process.exitCode = output.includes("\ntest result: ok. ") ? 0 : 1;
} finally {
    await browser?.close();
    server.kill();
}
