// A static server for the tests, which can also misbehave.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
};

/**
 * Serves folders on a free port: `folders` maps the beginning of a path (`/`, `/models/`) to a folder.
 * `answers` maps a path to a function (request, response) that answers in the file's place; `requests` lists what was asked for.
 * `headers` come with every file.
 */
export async function serve(folders, headers = {}) {
    const answers = new Map();
    const requests = [];
    const prefixes = Object.keys(folders).sort((one, other) => other.length - one.length);
    const server = createServer(async (request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
        requests.push(path);
        const answer = answers.get(path) ?? answers.get("*");
        if (answer) return answer(request, response);
        const prefix = prefixes.find((prefix) => path.startsWith(prefix));
        const name = path.endsWith("/") ? `${path}index.html` : path;
        const file = prefix && join(folders[prefix], name.slice(prefix.length));
        const found = file && (await stat(file).catch(() => null));
        if (!found?.isFile()) return response.writeHead(404, { ...headers, "content-type": "text/plain" }).end("not found");
        response.writeHead(200, {
            ...headers,
            "cache-control": "no-cache",
            "content-length": found.size,
            "content-type": TYPES[extname(file)] ?? "application/octet-stream",
        });
        createReadStream(file).pipe(response);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    return {
        port,
        url: `http://127.0.0.1:${port}/`,
        answers,
        requests,
        close: () => {
            server.closeAllConnections();
            return new Promise((resolve) => server.close(resolve));
        },
    };
}
