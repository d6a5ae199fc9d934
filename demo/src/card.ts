// A result as a card for other pages: 1200 × 630, as they show previews, light whatever the visitor prefers.

import type { Result } from "sttabt";
import { download, h, percent } from "./dom";
import { ruleName } from "./figures";
import { tokenName, wordsOf } from "./view";

const [WIDTH, HEIGHT, MARGIN] = [1200, 630, 60];
const [INK, QUIET, PAPER, SOFT, ACCENT] = ["#12161f", "#545e6e", "#ffffff", "#cfe2ff", "#0b5cc4"];
const TEXT_BOX = { top: 130, height: 250 };
/** The largest size at which a text fits is taken; what does not fit at the last is cut off. */
const SIZES = [54, 46, 40, 34, 30, 26];
const font = (size: number, weight = 400) => `${weight} ${size}px system-ui, sans-serif`;

/** What a card shows: a result, its picture where the input is one, and where the page is. */
export interface Card {
    result: Result;
    picture: HTMLCanvasElement | null;
    address: string;
}

/** Buttons that save the card of what is shown, and share it where the browser can. */
export function cardButtons(card: () => Card | null): HTMLElement[] {
    const file = async () => {
        const given = card();
        const blob = given && (await new Promise<Blob | null>((resolve) => paintCard(given).toBlob(resolve)));
        return blob && new File([blob], "sttabt-card.png", { type: "image/png" });
    };
    const save = async () => {
        const image = await file();
        if (image) download(image.name, image);
    };
    const share = async () => {
        const [image, given] = [await file(), card()];
        // A visitor may think again, which is no error.
        if (image && given) await navigator.share({ files: [image], url: given.address }).catch(() => undefined);
    };
    const canShare = navigator.canShare?.({ files: [new File([], "card.png", { type: "image/png" })] }) ?? false;
    const button = (name: string, click: () => Promise<void>) => h("button", { type: "button" }, [name], { click: () => void click() });
    return [button("Save card", save), ...(canShare ? [button("Share", share)] : [])];
}

export function paintCard({ result, picture, address }: Card): HTMLCanvasElement {
    const canvas = h("canvas", { width: WIDTH, height: HEIGHT });
    const context = canvas.getContext("2d");
    if (!context) return canvas;
    const write = (text: string, y: number, size: number, color: string, weight = 400) => {
        context.font = font(size, weight);
        context.fillStyle = color;
        context.fillText(text, MARGIN, y, WIDTH - 2 * MARGIN);
    };
    context.fillStyle = PAPER;
    context.fillRect(0, 0, WIDTH, HEIGHT);
    context.fillStyle = ACCENT;
    context.fillRect(0, 0, WIDTH, 12);
    context.textBaseline = "alphabetic";
    write("Which tokens matter?", 90, 34, QUIET, 600);
    if (picture) drawPicture(context, picture);
    else drawText(context, result);
    const share = result.probs[result.labelIndex ?? -1];
    write(`${result.label ?? "no label"}${share === undefined ? "" : ` ${percent(share, 1)}`}`, 460, 56, INK, 700);
    const work = percent(result.flops.total / result.flops.dense);
    write(`${percent(result.retention)} of the ${picture ? "patches" : "words"} kept on average, ${work} of the work (${ruleName(result.prune)})`, 510, 28, QUIET);
    write(address.replace(/^https?:\/\//, "").replace(/[?#].*/, ""), 585, 28, ACCENT, 600);
    return canvas;
}

function drawPicture(context: CanvasRenderingContext2D, picture: HTMLCanvasElement): void {
    const { top, height } = TEXT_BOX;
    const scale = Math.min(height / picture.height, (WIDTH - 2 * MARGIN) / picture.width);
    context.drawImage(picture, MARGIN, top, picture.width * scale, picture.height * scale);
}

interface Word {
    text: string;
    /** How deep it came, from 0 to 1: the last layer that still had it. */
    depth: number;
}

/** The words of the text, each as deep as its deepest piece. */
function drawnWords(result: Result): Word[] {
    const last = Math.max(result.kept.length - 1, 1);
    const depthOf = (position: number) => Math.min(result.kept.filter((kept) => kept.includes(position)).length / last, 1);
    return wordsOf(result).map((positions) => ({
        text: positions.map((position) => tokenName(result, position).replace("…", "")).join(""),
        depth: Math.max(...positions.map(depthOf)),
    }));
}

/** The words, the stronger the deeper they came; struck through where no layer read them. */
function drawText(context: CanvasRenderingContext2D, result: Result): void {
    const words = drawnWords(result);
    for (const size of SIZES) {
        context.font = font(size);
        const line = size * 1.35;
        const maxLines = Math.floor(TEXT_BOX.height / line);
        const lines = wrap(context, words);
        if (lines.length > maxLines && size !== SIZES.at(-1)) continue;
        lines.slice(0, maxLines).forEach((words, index) => drawLine(context, words, TEXT_BOX.top + line * (index + 0.8), size));
        if (lines.length > maxLines) context.fillText("…", WIDTH - MARGIN, TEXT_BOX.top + line * (maxLines - 0.2));
        return;
    }
}

function wrap(context: CanvasRenderingContext2D, words: Word[]): Word[][] {
    const lines: Word[][] = [];
    let left = 0;
    for (const word of words) {
        const width = context.measureText(`${word.text} `).width;
        if (width > left || lines.length === 0) {
            lines.push([]);
            left = WIDTH - 2 * MARGIN;
        }
        lines.at(-1)?.push(word);
        left -= width;
    }
    return lines;
}

function drawLine(context: CanvasRenderingContext2D, words: Word[], y: number, size: number): void {
    const space = context.measureText(" ").width;
    let x = MARGIN;
    for (const { text, depth } of words) {
        const { width } = context.measureText(text);
        context.globalAlpha = depth;
        context.fillStyle = SOFT;
        context.fillRect(x - space / 3, y - size, width + (2 * space) / 3, size * 1.3);
        context.globalAlpha = 1;
        context.fillStyle = depth > 0 ? INK : QUIET;
        context.fillText(text, x, y, WIDTH - MARGIN - x);
        if (depth === 0) context.fillRect(x, y - size * 0.32, width, 2);
        x += width + space;
    }
}
