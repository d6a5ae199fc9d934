import { defineConfig } from "vite";

export default defineConfig({
    // Any folder of any host.
    base: "./",
    build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
});
