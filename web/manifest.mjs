#!/usr/bin/env node
// Writes FOLDER/manifest.json: the size and SHA-256 of every file of a model folder, which the package needs to cache weights.

import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { loadCore, modelFiles, start } from "./folder.mjs";

/** The manifest of a model folder: of what lies there, the files that a model is read from. */
export async function manifest(folder) {
    const files = {};
    for await (const [name, bytes] of modelFiles(await loadCore(), folder)) {
        files[name] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    }
    return { files };
}

export async function writeManifest(folder) {
    const path = join(folder, "manifest.json");
    await writeFile(path, `${JSON.stringify(await manifest(folder), null, 2)}\n`);
    return path;
}

await start(import.meta.url, "sttabt-manifest FOLDER", 1, writeManifest);
