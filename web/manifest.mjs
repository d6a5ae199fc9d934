#!/usr/bin/env node
// Writes FOLDER/manifest.json: the size and SHA-256 of every file of a model folder, which the package needs to cache weights.

import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, exit } from "node:process";
import { fileURLToPath } from "node:url";

/** The core, which knows the names of files. The package has it beside this script; a clone builds it first. */
async function loadCore() {
    const core = await import("./dist/wasm/sttabt_web.js");
    const module_or_path = await readFile(new URL("./dist/wasm/sttabt_web_bg.wasm", import.meta.url));
    await core.default({ module_or_path });
    return core;
}

/** The manifest of a model folder: of what lies there, the files that a model is read from. */
export async function manifest(folder) {
    const core = await loadCore();
    const found = (await readdir(folder, { recursive: true })).map((name) => name.replaceAll("\\", "/"));
    const names = core.wanted_files(found);
    const files = {};
    // The list grows on the way: an index names shards.
    for (const name of names) {
        if (name.endsWith(".bin")) {
            throw new Error(`${folder}: ${name} is not read by the package; \`sttabt convert\` makes model.safetensors of it`);
        }
        const bytes = await readFile(join(folder, name));
        files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
        const named = core.named_files(name, core.names_others(name) ? bytes : new Uint8Array());
        const missing = named.find((other) => !found.includes(other) && name.endsWith(".index.json"));
        if (missing) throw new Error(`${folder}: no ${missing}, which ${name} names`);
        names.push(...named.filter((other) => found.includes(other) && !names.includes(other)));
    }
    const { config, weights } = JSON.parse(core.known_files());
    if (!files[config]) throw new Error(`${folder}: no ${config}`);
    if (!weights.some((form) => files[form])) throw new Error(`${folder}: no ${weights[0]}`);
    return { files };
}

// npm starts it through a link.
if (argv[1] && realpathSync(argv[1]) === fileURLToPath(import.meta.url)) {
    if (argv.length !== 3) {
        console.error("usage: sttabt-manifest FOLDER");
        exit(2);
    }
    const path = join(argv[2], "manifest.json");
    try {
        await writeFile(path, `${JSON.stringify(await manifest(argv[2]), null, 2)}\n`);
    } catch (error) {
        console.error(`error: ${error.message}`);
        exit(1);
    }
    console.log(path);
}
