// Builds dist/: the core as WebAssembly, its bindings by the generator of the very same version, the TypeScript.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { exit } from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { notices } from "./notices.mjs";

const web = dirname(fileURLToPath(import.meta.url));
const root = dirname(web);
/** What a visitor downloads before the weights. */
const MAX_GZIPPED_BYTES = 2 * 1024 * 1024;

const run = (command, args, options = {}) => {
    console.log(`+ ${[command, ...args].join(" ")}`);
    try {
        execFileSync(command, args, { cwd: root, stdio: "inherit", ...options });
    } catch (error) {
        console.error(`build: ${error.code === "ENOENT" ? `${command} is missing` : `${command} failed`}`);
        exit(1);
    }
};

/** The TypeScript; the worker as one file, which every bundler can copy; and what npm packs besides. */
async function buildPackage() {
    const dist = join(web, "dist");
    rmSync(dist, { recursive: true, force: true });
    run(process.execPath, [join(web, "node_modules", "typescript", "bin", "tsc"), "--project", web]);
    cpSync(join(web, "ts", "wasm"), join(dist, "wasm"), { recursive: true });
    const script = join(dist, "worker.js");
    const esbuild = await import("esbuild");
    // The page says where the WebAssembly is. What the bindings would assume would only make a bundler look for it.
    const define = { "import.meta.url": "undefined" };
    await esbuild.build({ entryPoints: [script], outfile: script, allowOverwrite: true, bundle: true, minify: true, format: "esm", target: "es2022", define });
    // These are in the worker now, or are types of what lies between the two.
    for (const file of ["files.js", "messages.js", "files.d.ts", "messages.d.ts", "start.d.ts", "beside.d.ts"]) rmSync(join(dist, file));
    for (const file of ["LICENSE", "CHANGELOG.md"]) copyFileSync(join(root, file), join(web, file));
    writeFileSync(join(web, "NOTICES.txt"), notices("sttabt-web", target));
}

/** The core's list of rules, so that it is there before any WebAssembly is. */
async function writeRules(folder) {
    const core = await import(pathToFileURL(join(folder, "sttabt_web.js")));
    await core.default({ module_or_path: readFileSync(join(folder, "sttabt_web_bg.wasm")) });
    writeFileSync(join(folder, "rules.js"), `export const RULES = ${JSON.stringify(JSON.parse(core.rules()), null, 4)};\n`);
    writeFileSync(join(folder, "rules.d.ts"), 'export declare const RULES: readonly import("../types.js").RuleInfo[];\n');
}

const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)[1];
const tools = join(root, "target", "tools");
const bindgen = join(tools, "bin", "wasm-bindgen");

function installed() {
    try {
        return execFileSync(bindgen, ["--version"], { encoding: "utf8" }).trim();
    } catch {
        return "";
    }
}

if (installed() !== `wasm-bindgen ${version}`) {
    const what = ["wasm-bindgen-cli", "--version", version, "--no-default-features"];
    run("cargo", ["install", "--quiet", ...what, "--root", tools]);
}
const target = "wasm32-unknown-unknown";
// Without rustup the target has come by another way, or cargo says that it is missing.
try {
    execFileSync("rustup", ["target", "add", target], { stdio: "ignore" });
} catch {}
const flags = `${process.env.RUSTFLAGS ?? ""} -C target-feature=+simd128`.trim();
const env = { ...process.env, RUSTFLAGS: flags };
const built = join(root, "target", target, "release", "sttabt_web.wasm");
const bound = join(web, "ts", "wasm");
rmSync(bound, { recursive: true, force: true });

/** Builds the core with these features; what binds it to JavaScript goes to the folder. */
function build(features, folder) {
    run("cargo", ["build", "--release", "--locked", "--package", "sttabt-web", "--target", target, ...features], { env });
    run(bindgen, [built, "--target", "web", "--out-dir", folder]);
}

// What multiplies int8 by relaxed SIMD is a file of its own: an engine without it does not even load that. All else is the same.
const relaxed = join(root, "target", "relaxed-simd");
build(["--features", "relaxed-simd"], relaxed);
build([], bound);
// Comments name numbers of functions.
const bindings = (folder) => readFileSync(join(folder, "sttabt_web.js"), "utf8").replace(/^ *\/\/.*\n/gm, "");
if (bindings(bound) !== bindings(relaxed)) {
    console.error("build: the two WebAssembly files need different bindings");
    exit(1);
}
copyFileSync(join(relaxed, "sttabt_web_bg.wasm"), join(bound, "sttabt_web_relaxed_bg.wasm"));
rmSync(relaxed, { recursive: true });
await writeRules(bound);
await buildPackage();

for (const file of readdirSync(bound).filter((file) => file.endsWith(".wasm"))) {
    const bytes = gzipSync(readFileSync(join(bound, file)), { level: 9 }).length;
    console.log(`${file}: ${bytes} bytes gzipped, at most ${MAX_GZIPPED_BYTES}`);
    if (bytes > MAX_GZIPPED_BYTES) exit(1);
}
