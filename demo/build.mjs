// Builds dist/: the package with its WebAssembly, the page, the default models with f16 and int8 weights and
// their manifests, the example photographs, the service worker, compressed twins. PAGE_URL says where the page will be, if that is known.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { exit } from "node:process";
import { fileURLToPath } from "node:url";

import { finish } from "./finish.mjs";
import { manifest } from "../web/manifest.mjs";
import { quantize } from "../web/quantize.mjs";

const demo = dirname(fileURLToPath(import.meta.url));
const root = dirname(demo);
const web = join(root, "web");
const MODELS = ["sst2-minilm", "deit-tiny"];
const PHOTOS = ["chelsea.png", "coffee.png", "rocket.jpg"];

const run = (command, args, cwd) => {
    console.log(`+ ${[command, ...args].join(" ")}`);
    try {
        execFileSync(command, args, { cwd, stdio: "inherit" });
    } catch {
        exit(1);
    }
};
const npm = process.platform === "win32" ? "npm.cmd" : "npm";

if (!existsSync(join(web, "node_modules"))) run(npm, ["ci"], web);
run(process.execPath, ["build.mjs"], web);
run(process.execPath, [join(demo, "node_modules", "typescript", "bin", "tsc")], demo);
rmSync(join(demo, "dist"), { recursive: true, force: true });
run(process.execPath, [join(demo, "node_modules", "vite", "bin", "vite.js"), "build"], demo);

for (const model of MODELS) {
    const [from, to] = [join(root, "models", model), join(demo, "dist", "models", model)];
    const listed = await manifest(from);
    for (const name of Object.keys(listed.files)) {
        mkdirSync(dirname(join(to, name)), { recursive: true });
        cpSync(join(from, name), join(to, name));
    }
    writeFileSync(join(to, "manifest.json"), `${JSON.stringify(listed, null, 2)}\n`);
    await quantize(from, `${to}-int8`);
}
mkdirSync(join(demo, "dist", "photos"));
for (const photo of PHOTOS) cpSync(join(demo, "photos", photo), join(demo, "dist", "photos", photo));
console.log(`build ${finish(join(demo, "dist"), process.env.PAGE_URL || null)}`);
