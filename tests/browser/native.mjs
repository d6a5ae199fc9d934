// The command's answers, which the browsers must give too.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

/** `results` of `sttabt classify --json`. */
export function native(...args) {
    const command = ["classify", "--json", "--backend", "cpu", ...args];
    const options = { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 };
    return JSON.parse(execFileSync(`${root}target/release/sttabt`, command, options)).results;
}
