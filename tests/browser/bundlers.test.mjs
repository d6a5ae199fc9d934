// The packed package in small apps, with the tools that people have, in a real browser: `node bundlers.test.mjs BROWSER`. The tools' versions
// are those of bundlers/package-lock.json.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./launch.mjs";
import { root } from "./native.mjs";
import { serve } from "./server.mjs";

const modules = `${root}tests/browser/bundlers/node_modules/`;
/** A first start of a dev server compiles, beside other tests for long. */
const TIMEOUT = { timeout: 180_000 };

let folder, packed, models, browser;

before(async () => {
    // Below the tools, which are found there.
    folder = mkdtempSync(join(modules, "..", "apps-"));
    const [{ filename }] = JSON.parse(
        execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { cwd: `${root}web`, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
    );
    execFileSync("tar", ["-xzf", filename], { cwd: folder });
    packed = join(folder, "package");
    models = await serve({ "/model/": `${root}tests/fixtures/tiny-bert/` }, { "access-control-allow-origin": "*" });
    browser = await launch(process.argv[2] ?? "chromium");
});

after(async () => {
    await browser?.close();
    await models?.close();
    rmSync(folder, { recursive: true, force: true });
});

/** A new folder with these files, and with the package as npm installs it. */
function app(files) {
    const app = mkdtempSync(join(folder, "app-"));
    cpSync(packed, join(app, "node_modules", "sttabt"), { recursive: true });
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
    for (const [name, body] of Object.entries(files)) {
        mkdirSync(dirname(join(app, name)), { recursive: true });
        writeFileSync(join(app, name), body);
    }
    return app;
}

const run = () => `
    const run = async () => {
        const model = await Sttabt.load({ url: "${models.url}model", backend: "cpu" });
        const { numTokens } = await model.classify("w5 w6");
        model.dispose();
        return "ok: " + numTokens;
    };
    run().catch((error) => error.kind + ": " + error.message).then((said) => (window.said = said));
`;
const main = () => `import { Sttabt } from "sttabt";\n${run()}`;
const html = (script) => `<!doctype html><html><body><script type="module" src="${script}"></script></body></html>`;

async function assertRuns(url) {
    const page = await browser.newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("requestfailed", (request) => problems.push(request.url()));
    try {
        await page.goto(url, TIMEOUT);
        await page.waitForFunction("window.said", TIMEOUT).catch(() => assert.fail(`the page says nothing: ${problems.join("; ")}`));
        assert.equal(await page.evaluate("window.said"), "ok: 4", problems.join("; "));
    } finally {
        await page.close();
    }
}

async function assertRunsStatic(folder) {
    const server = await serve({ "/": `${folder}/` });
    try {
        await assertRuns(server.url);
    } finally {
        await server.close();
    }
}

const freePort = () =>
    new Promise((resolve) => {
        const server = createServer().listen(0, "127.0.0.1", () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });

/** Runs a tool that serves on a port until `body` has seen it. */
async function whileServing(app, script, args, body) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/`;
    // A group of its own: tools start others.
    const tool = spawn(process.execPath, [join(modules, script), ...args, String(port)], { cwd: app, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [tool.stdout, tool.stderr]) stream.on("data", (text) => (output += text));
    const ended = new Promise((resolve) => tool.on("exit", resolve));
    try {
        const deadline = Date.now() + TIMEOUT.timeout;
        while (!(await fetch(url).catch(() => null))) {
            assert.ok(tool.exitCode === null && Date.now() < deadline, `${script} does not serve: ${output}`);
            await new Promise((resolve) => setTimeout(resolve, 200));
        }
        await body(url);
    } catch (error) {
        error.message += `\n${output}`;
        throw error;
    } finally {
        if (tool.exitCode === null) process.kill(-tool.pid);
        await ended;
    }
}

const tool = (app, script, ...args) => {
    try {
        execFileSync(process.execPath, [join(modules, script), ...args], { cwd: app, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1" } });
    } catch (error) {
        assert.fail(`${script}: ${error.stdout}\n${error.stderr}`);
    }
};

for (const version of [5, 6, 7, 8]) {
    const vite = `vite${version}/bin/vite.js`;
    test(`Vite ${version}: the dev server`, () =>
        whileServing(app({ "index.html": html("/main.js"), "main.js": main() }), vite, ["--host", "127.0.0.1", "--strictPort", "--port"], assertRuns));

    test(`Vite ${version}: a build`, async () => {
        const made = app({ "index.html": html("/main.js"), "main.js": main() });
        tool(made, vite, "build", "--base", "./");
        await assertRunsStatic(join(made, "dist"));
    });
}

test("webpack 5: a build", async () => {
    const build = `
        import webpack from "webpack";
        const compiler = webpack({ mode: "production", entry: "./main.js", devtool: false, performance: { hints: false } });
        compiler.run((error, stats) => {
            if (error || stats.hasErrors() || stats.hasWarnings()) {
                console.error(error ?? stats.toString());
                process.exitCode = 1;
            }
        });
    `;
    const made = app({ "main.js": main(), "build.mjs": build });
    try {
        execFileSync(process.execPath, ["build.mjs"], { cwd: made, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    } catch (error) {
        assert.fail(error.stderr);
    }
    writeFileSync(join(made, "dist", "index.html"), '<!doctype html><script src="main.js"></script>');
    await assertRunsStatic(join(made, "dist"));
});

/** What imports the package is rendered on the server first. */
function nextApp() {
    const page = `"use client";
        import { useEffect } from "react";
        import { Sttabt } from "sttabt";
        export default function Page() {
            useEffect(() => {${run()}}, []);
            return null;
        }
    `;
    const layout = "export default function Layout({ children }) { return <html><body>{children}</body></html>; }";
    return app({ "app/page.jsx": page, "app/layout.jsx": layout, "next.config.mjs": "export default { output: 'export' };" });
}

for (const [name, option] of [["Turbopack", "--turbopack"], ["webpack", "--webpack"]]) {
    test(`Next.js 16 with ${name}: a build and the dev server`, async () => {
        const made = nextApp();
        tool(made, "next/dist/bin/next", "build", option);
        await assertRunsStatic(join(made, "out"));
        await whileServing(made, "next/dist/bin/next", ["dev", option, "--hostname", "127.0.0.1", "--port"], assertRuns);
    });
}
