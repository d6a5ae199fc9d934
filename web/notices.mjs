#!/usr/bin/env node
// The licences of all crates that a package of the workspace is built from, as they lie in the crates: what its binary must bring along.
// `node web/notices.mjs PACKAGE FILE [TARGET]`; without a target the crates are those for this machine.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { argv, exit } from "node:process";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LICENCE = /^(licen[cs]e|copying|notice|unlicense|copyright)/i;

function cargo(...args) {
    return execFileSync("cargo", [...args, "--locked"], { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
}

/** Names, versions and licences of what a package is built from, without the packages of this repository. */
function crates(name, target) {
    const host = /^host: (.*)$/m.exec(execFileSync("rustc", ["-vV"], { encoding: "utf8" }))[1];
    const triple = target ?? host;
    const tree = cargo("tree", "--package", name, "--edges", "normal", "--target", triple, "--prefix", "none", "--format", "{p}");
    const used = new Set(tree.trim().split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
    const { packages } = JSON.parse(cargo("metadata", "--format-version", "1", "--filter-platform", triple));
    return packages.filter(({ name, version, source }) => source !== null && used.has(`${name} v${version}`));
}

/** The text for people, and the crates that bring no licence along. */
export function notices(name, target) {
    /** A text, and the crates that have it: by its words, since crates break lines differently. */
    const texts = new Map();
    const without = [];
    const all = crates(name, target).sort((one, other) => (one.name < other.name ? -1 : 1));
    for (const { name, version, license, manifest_path } of all) {
        const folder = dirname(manifest_path);
        const files = readdirSync(folder, { withFileTypes: true }).filter((file) => file.isFile() && LICENCE.test(file.name));
        const crate = `${name} ${version} (${license})`;
        for (const { name } of files.sort((one, other) => (one.name < other.name ? -1 : 1))) {
            const text = readFileSync(join(folder, name), "utf8").replaceAll("\r\n", "\n").trim();
            const words = text.replace(/\s+/g, " ");
            if (!texts.has(words)) texts.set(words, { text, crates: [] });
            texts.get(words).crates.push(crate);
        }
        if (files.length === 0) without.push(crate);
    }
    const line = "-".repeat(80);
    const head = `${name} is built from ${all.length} crates of others. Their licences follow, each with the crates that bring it along.`;
    const parts = [...texts.values()].map(({ text, crates }) => `${line}\n${crates.join("\n")}\n\n${text}`);
    const rest = without.length === 0 ? [] : [`${line}\nThese crates name their licence, and bring no text along:\n\n${without.join("\n")}`];
    return [head, ...parts, ...rest].join("\n\n") + "\n";
}

if (argv[1] && realpathSync(argv[1]) === fileURLToPath(import.meta.url)) {
    const [name, file, target] = argv.slice(2);
    if (file === undefined) {
        console.error("usage: node web/notices.mjs PACKAGE FILE [TARGET]");
        exit(2);
    }
    writeFileSync(file, notices(name, target));
}
