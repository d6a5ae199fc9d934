// Accuracy and agreement against work as a drawing, with a mark for each answer that pruning changed.

import { percent, setAttributes } from "./dom";

/** What one ratio gives over all sentences so far; null: all words. Work is FLOPs against those of all words. */
export interface Point {
    ratio: number | null;
    work: number;
    accuracy: number;
    agreement: number;
}

/** A sentence whose answer pruning changed: the largest ratio that does, and its work. */
export interface Flip {
    text: string;
    says: string;
    link: string;
    ratio: number;
    work: number;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 360, 66, 34, 16, 92];
/** Marks of one ratio stand in a heap. */
const [MARK, MAX_HEAP] = [9, 4];
const LINES = ["agreement", "accuracy"] as const;

export function drawCurve(points: Point[], flips: Flip[]): SVGSVGElement {
    const lowest = Math.min(...points.map(({ accuracy, agreement }) => Math.min(accuracy, agreement)));
    const floor = Math.max(0, Math.floor(lowest * 10 - 0.5) / 10);
    const widest = Math.max(1, ...points.map(({ work }) => work));
    const x = (work: number) => LEFT + (work / widest) * (WIDTH - LEFT - RIGHT);
    const y = (share: number) => HEIGHT - BOTTOM - ((share - floor) / (1 - floor)) * (HEIGHT - TOP - BOTTOM);
    const says = `Accuracy and agreement against work. ${flips.length} answers changed.`;
    const chart = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": says, class: "card" });
    const steps = Math.round((1 - floor) * 10);
    for (let step = 0; step <= steps; step += steps > 5 ? 2 : 1) {
        const at = y(floor + step / 10);
        chart.append(s("path", { class: "grid", d: `M${LEFT} ${at}H${WIDTH - RIGHT}` }), label(LEFT - 8, at + 4, percent(floor + step / 10), "end"));
    }
    for (let work = 0; work <= widest + 1e-9; work += 0.25) chart.append(label(x(work), HEIGHT - BOTTOM + 20, percent(work), "middle"));
    chart.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 40, "work, of that with all words (FLOPs)", "middle"));
    const sorted = points.toSorted((one, other) => one.work - other.work);
    for (const line of LINES) {
        chart.append(s("path", { class: line, d: `M${sorted.map((point) => `${x(point.work)} ${y(point[line])}`).join("L")}` }));
        for (const point of points) {
            const name = point.ratio === null ? "all words" : `ratio ${point.ratio}`;
            const says = `${name}: ${line} ${percent(point[line])} with ${percent(point.work)} of the work`;
            chart.append(s("circle", { class: line, cx: x(point.work), cy: y(point[line]), r: 5 }, [s("title", {}, [says])]));
        }
    }
    LINES.forEach((line, index) => {
        const at = { x: WIDTH - RIGHT - 110, y: HEIGHT - BOTTOM - 40 + 20 * index };
        chart.append(s("circle", { class: line, cx: at.x, cy: at.y, r: 5 }), label(at.x + 12, at.y + 4, line, "start"));
    });
    flips.forEach((flip, index) => {
        const place = flips.slice(0, index).filter(({ ratio }) => ratio === flip.ratio).length;
        const [column, row] = [Math.floor(place / MAX_HEAP), place % MAX_HEAP];
        const at = { x: x(flip.work) + MARK * column, y: HEIGHT - 8 - MARK * row };
        const mark = s("circle", { cx: at.x, cy: at.y, r: 3.5 }, [s("title", {}, [`“${flip.text}” ${flip.says}`])]);
        // The list beside it has the same links for the keyboard.
        chart.append(s("a", { class: "flip", href: flip.link, tabindex: -1, "aria-hidden": "true" }, [mark]));
    });
    return chart;
}

function label(x: number, y: number, text: string, anchor: string): SVGElement {
    return s("text", { x, y, "text-anchor": anchor }, [text]);
}

function s<Tag extends keyof SVGElementTagNameMap>(
    tag: Tag,
    attributes: Record<string, string | number>,
    children: (Node | string)[] = [],
): SVGElementTagNameMap[Tag] {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    setAttributes(element, attributes);
    element.append(...children);
    return element;
}
