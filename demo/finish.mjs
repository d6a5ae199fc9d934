// What comes last of the build: the page's name for this build, the service worker, compressed twins of the files.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const PAGES = ["index.html"];
const COMPRESSED = [".css", ".html", ".js", ".json", ".safetensors", ".svg", ".wasm"];
/** A twin that is not smaller than this share of its file is not worth its place. */
const WORTH = 0.95;

const template = readFileSync(join(dirname(fileURLToPath(import.meta.url)), "service-worker.js"), "utf8");
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** The files of a folder, as paths of URLs, in one order everywhere. */
function filesIn(folder) {
    const found = readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
    return found.map((name) => name.replaceAll("\\", "/")).sort();
}

/** Finishes the built page in a folder: `url` is where it will be, as preview pictures need it, or null. It may be finished again. */
export function finish(dist, url = null) {
    const isKept = (path) => !["sw.js", "og.png"].includes(path) && !path.endsWith(".gz") && (!path.startsWith("models/") || path.endsWith("/manifest.json"));
    const read = (path) => readFileSync(join(dist, path), "utf8");
    for (const page of PAGES) {
        const named = read(page).replace(/(<meta name="build" content=")[^"]*/, "$1");
        writeFileSync(join(dist, page), url ? named.replace(/(<meta property="og:image" content=")[^"]*/, `$1${new URL("og.png", url).href}`) : named);
    }
    const hashes = () => Object.fromEntries(filesIn(dist).filter(isKept).map((path) => [path, sha256(readFileSync(join(dist, path)))]));
    const build = sha256(JSON.stringify([hashes(), template])).slice(0, 16);
    for (const page of PAGES) writeFileSync(join(dist, page), read(page).replace('<meta name="build" content="', `$&${build}`));
    const head = `const BUILD = ${JSON.stringify(build)};\nconst FILES = ${JSON.stringify(hashes(), null, 4)};\n`;
    writeFileSync(join(dist, "sw.js"), head + template.replace("/* global BUILD, FILES */\n\n", ""));
    compress(dist);
    return build;
}

/** Writes `NAME.gz` beside each file that gains by it: `sttabt demo` sends these, as other servers can. */
function compress(dist) {
    const writtenAt = (path) => statSync(join(dist, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    const paths = filesIn(dist);
    for (const path of paths.filter((path) => path.endsWith(".gz") && !paths.includes(path.slice(0, -3)))) rmSync(join(dist, path));
    for (const path of paths.filter((path) => COMPRESSED.includes(extname(path)))) {
        const twin = `${path}.gz`;
        if (writtenAt(twin) >= writtenAt(path)) continue;
        const bytes = readFileSync(join(dist, path));
        const packed = gzipSync(bytes, { level: path.endsWith(".safetensors") ? 6 : 9 });
        if (packed.length < WORTH * bytes.length) writeFileSync(join(dist, twin), packed);
        else rmSync(join(dist, twin), { force: true });
    }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const dist = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "dist");
    if (!existsSync(join(dist, "index.html"))) throw new Error(`${dist} has no index.html`);
    console.log(`build ${finish(dist, process.env.PAGE_URL || null)}`);
}
