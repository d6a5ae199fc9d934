// Where the npm package runs: from another origin, under strict policies, in a worker, in a frame, in a bundle, in Node.js; and what npm packs
// of it: `node package-places.test.mjs BROWSER`.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./launch.mjs";
import { root } from "./native.mjs";
import { serve } from "./server.mjs";

let page, elsewhere, browser;

before(async () => {
    page = await serve({ "/package/": `${root}web/dist/` });
    const folders = { "/package/": `${root}web/dist/`, "/model/": `${root}tests/fixtures/tiny-bert/` };
    elsewhere = await serve(folders, { "access-control-allow-origin": "*" });
    browser = await launch(process.argv[2] ?? "chromium");
});

after(async () => {
    await browser?.close();
    await page?.close();
    await elsewhere?.close();
});

/** A script that loads the package and says what came of a text. */
const script = (from, options = "") => `
    import { Sttabt } from "${from}";
    const run = async () => {
        const model = await Sttabt.load({ url: "${elsewhere.url}model", backend: "cpu", ${options} });
        const { numTokens } = await model.classify("w5 w6");
        model.dispose();
        return "ok: " + numTokens;
    };
    const said = await run().catch((error) => error.kind + ": " + error.message);
`;

const onPage = (...of) => `${script(...of)}\nwindow.said = said;`;

/** What a page says whose script this is. `files` are others beside it. */
async function said(body, { policy = null, html = '<!doctype html><script type="module" src="/main.js"></script>', files = {} } = {}) {
    const security = policy ? { "content-security-policy": policy } : {};
    const answer = (type, body) => (_, response) => response.writeHead(200, { "content-type": type, ...security }).end(body);
    page.answers.set("/", answer("text/html", html));
    for (const [path, file] of Object.entries({ "/main.js": body, ...files })) page.answers.set(path, answer("text/javascript", file));
    const tab = await browser.newPage();
    const errors = [];
    tab.on("pageerror", (error) => errors.push(error.message));
    try {
        await tab.goto(page.url);
        await tab.waitForFunction("window.said", { timeout: 60_000 }).catch(() => assert.fail(`the page says nothing: ${errors.join("; ")}`));
        return await tab.evaluate("window.said");
    } finally {
        await tab.close();
        page.answers.clear();
    }
}

const OK = "ok: 4";

test("it runs from another origin, as from a CDN", async () => {
    assert.equal(await said(onPage(`${elsewhere.url}package/index.js`)), OK);
});

test("it runs from another origin under a policy without `unsafe-` words", async () => {
    const cdn = elsewhere.url.slice(0, -1);
    const policy = `default-src 'none'; script-src 'self' ${cdn} 'wasm-unsafe-eval'; connect-src ${cdn}; worker-src blob: ${cdn}`;
    assert.equal(await said(onPage(`${cdn}/package/index.js`), { policy }), OK);
    const forbids = policy.replace("worker-src blob:", "worker-src");
    const message = /^worker: the worker http:.*\/worker\.js did not start: .*`worker-src`/;
    assert.match(await said(onPage(`${cdn}/package/index.js`), { policy: forbids }), message);
});

test("it runs where Trusted Types are required", { skip: process.argv[2] === "firefox" && "this Firefox has none" }, async () => {
    const policy = "require-trusted-types-for 'script'; trusted-types sttabt";
    for (const from of ["/package/index.js", `${elsewhere.url}package/index.js`]) assert.equal(await said(onPage(from), { policy }), OK);
    const forbids = "require-trusted-types-for 'script'; trusted-types 'none'";
    assert.match(await said(onPage("/package/index.js"), { policy: forbids }), /^worker: .*TrustedScriptURL.*`trusted-types`/);
});

test("it runs inside a worker, with relative URLs", async () => {
    const inside = `${script("/package/index.js", 'assets: "package"')}\npostMessage(said);`;
    const main = `new Worker("/inside.js", { type: "module" }).onmessage = ({ data }) => (window.said = data);`;
    assert.equal(await said(main, { files: { "/inside.js": inside } }), OK);
});

test("it runs in a sandboxed frame, whose origin is none", async () => {
    const inside = `<script type="module">${script(`${elsewhere.url}package/index.js`)}\nparent.postMessage(said, "*");</script>`;
    const main = `
        window.onmessage = ({ data }) => (window.said = data);
        const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts";
        frame.srcdoc = ${JSON.stringify(inside).replaceAll("</", "<\\/")};
        document.body.append(frame);
    `;
    assert.equal(await said(main, { html: '<!doctype html><body><script type="module" src="/main.js"></script></body>' }), OK);
});

test("a worker that is not there is named", async () => {
    const from = onPage("/package/index.js", 'assets: "/nowhere"');
    assert.match(await said(from), new RegExp(`^worker: the worker ${page.url}nowhere/worker\\.js did not start: its script did not load`));
});

test("esbuild's bundles run: with the files beside them, and with `assets`", async () => {
    const { buildSync } = createRequire(`${root}web/package.json`)("esbuild");
    const bundle = (body, format) => {
        const stdin = { contents: body.replace('"sttabt"', JSON.stringify(`${root}web/dist/index.js`)), resolveDir: root };
        return buildSync({ stdin, bundle: true, write: false, format, target: "es2022", logLevel: "error", logOverride: { "empty-import-meta": "silent" } }).outputFiles[0].text;
    };
    const files = { "/worker.js": readFileSync(`${root}web/dist/worker.js`) };
    for (const name of ["sttabt_web_bg", "sttabt_web_relaxed_bg"]) {
        page.answers.set(`/wasm/${name}.wasm`, (_, response) =>
            response.writeHead(200, { "content-type": "application/wasm" }).end(readFileSync(`${root}web/dist/wasm/${name}.wasm`)),
        );
    }
    assert.equal(await said(bundle(onPage("sttabt"), "esm"), { files }), OK);
    // No await at the top of a script.
    const classic = (options) => bundle(`${script("sttabt", options).replace("const said = await run()", "run()").trimEnd().slice(0, -1)}.then((said) => (window.said = said));`, "iife");
    assert.equal(await said(classic('assets: "/package"')), OK);
    assert.match(await said(classic("")), /^worker: this bundle cannot tell where it lies: .*`assets`/);
});

test("in Node.js an import does no harm, and `load` says that there are no workers", () => {
    const body = `
        import { parseRule, RULES, Sttabt } from ${JSON.stringify(`${root}web/dist/index.js`)};
        console.log(RULES.length > 0 && parseRule("topk:0.5").rule);
        for (const options of [{ url: "models/x" }, { files: {} }]) await Sttabt.load(options).catch(({ kind, message }) => console.log(kind, message));
    `;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", body], { encoding: "utf8" });
    assert.match(stdout, /^topk\n(worker .* there are none here.*Node\.js.*\n){2}$/);
    assert.equal(stderr, "");
});

test("npm packs what the package needs, and it finds its own names", () => {
    const folder = mkdtempSync(join(tmpdir(), "sttabt-"));
    try {
        const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: `${root}web`, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
        const names = files.map(({ path }) => path);
        for (const name of ["README.md", "LICENSE", "CHANGELOG.md", "NOTICES.txt", "package.json", "dist/index.js", "dist/index.d.ts", "dist/worker.js"]) {
            assert.ok(names.includes(name), `${name} is not among ${names}`);
        }
        assert.ok(!names.some((name) => /^(ts|src|node_modules)\/|Cargo|build\.mjs/.test(name)), `${names}`);
        // The licences of what is compiled in.
        assert.match(readFileSync(`${root}web/NOTICES.txt`, "utf8"), /\ntokenizers \d/);
        const inside = join(folder, "node_modules", "sttabt");
        for (const name of names) cpSync(`${root}web/${name}`, join(inside, name));
        const package_ = JSON.parse(readFileSync(join(inside, "package.json")));
        for (const field of ["description", "engines", "exports", "keywords", "license", "types"]) assert.ok(package_[field], field);
        writeFileSync(join(folder, "main.mjs"), 'for (const name of process.argv.slice(2)) console.log(import.meta.resolve(name));');
        const wanted = ["sttabt", "sttabt/worker.js", "sttabt/wasm/sttabt_web_bg.wasm", "sttabt/wasm/sttabt_web_relaxed_bg.wasm", "sttabt/package.json"];
        const found = execFileSync(process.execPath, [join(folder, "main.mjs"), ...wanted], { encoding: "utf8" }).trim().split("\n");
        const relative = found.map((url) => url.slice(url.indexOf("/sttabt/") + 8));
        assert.deepEqual(relative.slice(0, 2), ["dist/index.js", "dist/worker.js"]);
        for (const name of relative) assert.ok(names.includes(name), name);
        // The types that a user sees speak of no doors for tests.
        const types = names.filter((name) => /^dist\/[^/]*\.d\.ts$/.test(name)).map((name) => readFileSync(join(inside, name), "utf8"));
        assert.doesNotMatch(types.join("\n"), /loseDevice|for tests/);
    } finally {
        rmSync(folder, { recursive: true });
    }
});
