#!/usr/bin/env node
// Writes OUT: the model of FOLDER with int8 weights and its manifest.json, as `sttabt quantize` does. OUT must not exist.

import { chmod, mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

import { loadCore, modelFiles, start } from "./folder.mjs";
import { writeManifest } from "./manifest.mjs";

/** All files or none: they are written beside OUT, which they become at the end. */
export async function quantize(folder, out) {
    if (await stat(out).catch(() => null)) throw new Error(`${out} is there already`);
    const core = await loadCore();
    let model = new core.ModelBytes();
    for await (const [name, bytes] of modelFiles(core, folder)) {
        model.begin(name, bytes.length);
        model.append(bytes);
        model.finish();
    }
    try {
        model = model.into_int8();
    } catch (error) {
        throw new Error(`${folder}: ${error.message}`);
    }
    const parent = dirname(resolve(out));
    await mkdir(parent, { recursive: true });
    const beside = await mkdtemp(join(parent, ".quantize-"));
    try {
        for (const name of model.names()) {
            await mkdir(dirname(join(beside, name)), { recursive: true });
            await writeFile(join(beside, name), model.take(name));
        }
        await writeManifest(beside);
        // Such a folder is its maker's alone at first.
        await chmod(beside, 0o755);
        await rename(beside, out);
    } catch (error) {
        await rm(beside, { recursive: true, force: true });
        throw error;
    }
    return out;
}

await start(import.meta.url, "sttabt-quantize FOLDER OUT", 2, quantize);
