// Starts the browsers of this machine, headless, with WebGPU on their software adapters.

import puppeteer from "puppeteer-core";

/** A test computes on the page's own thread, which answers nothing meanwhile. */
const PROTOCOL_TIMEOUT = 10 * 60_000;

/**
 * `webgpu: false` takes WebGPU away; `insecureHost` is a name for this machine that is no secure context; `camera` is a picture that
 * the browser makes up; `dark` is what the visitor prefers. `zeroes: false` leaves workgroup memory as it is found, where the browser
 * can: kernels ask for no zeroes, and Chromium's software adapter compiles the writing of them for seconds.
 */
export async function launch(browser, { webgpu = true, insecureHost = null, camera = false, dark = false, zeroes = true } = {}) {
    if (browser === "chromium") {
        const args = ["--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
        if (webgpu) args.push("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader");
        else args.push("--disable-blink-features=WebGPU", "--disable-features=WebGPUService");
        if (webgpu && !zeroes) args.push("--enable-dawn-features=disable_workgroup_init");
        if (dark) args.push("--blink-settings=preferredColorScheme=0");
        if (camera) args.push("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream");
        if (insecureHost) args.push(`--host-resolver-rules=MAP ${insecureHost} 127.0.0.1`);
        const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
        return puppeteer.launch({ browser: "chrome", executablePath, args, protocolTimeout: PROTOCOL_TIMEOUT });
    }
    if (browser === "firefox") {
        const prefs = {
            "dom.webgpu.enabled": webgpu,
            "dom.webgpu.workers.enabled": webgpu,
            "gfx.webgpu.ignore-blocklist": webgpu,
        };
        if (dark) prefs["layout.css.prefers-color-scheme.content-override"] = 0;
        if (camera) Object.assign(prefs, { "media.navigator.streams.fake": true, "media.navigator.permission.disabled": true });
        if (insecureHost) prefs["network.dns.localDomains"] = insecureHost;
        const executablePath = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
        return puppeteer.launch({ browser: "firefox", executablePath, extraPrefsFirefox: prefs, protocolTimeout: PROTOCOL_TIMEOUT });
    }
    throw new Error(`browser \`${browser}\`: expected chromium or firefox`);
}
