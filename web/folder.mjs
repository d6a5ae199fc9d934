// Model folders on disk, for the scripts that prepare them.

import { realpathSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { argv, exit } from "node:process";
import { fileURLToPath } from "node:url";

/** The core, which knows the files of a model. The package has it beside this script; a clone builds it first. */
export async function loadCore() {
    const core = await import("./dist/wasm/sttabt_web.js");
    const module_or_path = await readFile(new URL("./dist/wasm/sttabt_web_bg.wasm", import.meta.url));
    await core.default({ module_or_path });
    return core;
}

/** Of what lies in a folder, the files that a model is read from, one after another: `[name, bytes]`. */
export async function* modelFiles(core, folder) {
    const found = (await readdir(folder, { recursive: true })).map((name) => name.replaceAll("\\", "/"));
    const names = core.wanted_files(found);
    const { config, weights } = JSON.parse(core.known_files());
    if (!names.includes(config)) throw new Error(`${folder}: no ${config}`);
    if (!weights.some((form) => names.includes(form))) throw new Error(`${folder}: no ${weights[0]}`);
    // The list grows on the way: an index names shards.
    for (const name of names) {
        if (name.endsWith(".bin")) {
            throw new Error(`${folder}: ${name} is not read by the package; \`sttabt convert\` makes model.safetensors of it`);
        }
        const bytes = await readFile(join(folder, name));
        const named = core.named_files(name, core.names_others(name) ? bytes : new Uint8Array());
        const missing = named.find((other) => !found.includes(other) && name.endsWith(".index.json"));
        if (missing) throw new Error(`${folder}: no ${missing}, which ${name} names`);
        names.push(...named.filter((other) => found.includes(other) && !names.includes(other)));
        yield [name, bytes];
    }
}

/** Runs a script's `main` with its arguments and prints what it has written, if it is the script that was started. npm starts it through a link. */
export async function start(url, usage, numArguments, main) {
    if (!argv[1] || realpathSync(argv[1]) !== fileURLToPath(url)) return;
    const given = argv.slice(2);
    if (given.length !== numArguments || given.some((argument) => argument.startsWith("-"))) {
        console.error(`usage: ${usage}`);
        exit(2);
    }
    try {
        console.log(await main(...given));
    } catch (error) {
        console.error(`error: ${error.message}`);
        exit(1);
    }
}
