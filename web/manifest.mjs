#!/usr/bin/env node
// Writes FOLDER/manifest.json: the size and SHA-256 of every file of a model folder, which the package needs to cache weights.

import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, exit } from "node:process";
import { fileURLToPath } from "node:url";

/** What the package reads of a model folder. */
const NAMES = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "approx/config.json",
    "approx/model.safetensors",
];

/** The manifest of a model folder. With a `tokenizer.json`, what it replaces is left out. */
export async function manifest(folder) {
    const found = new Set((await readdir(folder, { recursive: true })).map((name) => name.replaceAll("\\", "/")));
    for (const needed of ["config.json", "model.safetensors"]) {
        if (!found.has(needed)) throw new Error(`${folder}: no ${needed}`);
    }
    const replaced = found.has("tokenizer.json") ? ["vocab.txt", "tokenizer_config.json"] : [];
    const files = {};
    for (const name of NAMES.filter((name) => found.has(name) && !replaced.includes(name))) {
        const bytes = await readFile(join(folder, name));
        files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    }
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
