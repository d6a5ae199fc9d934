// Strokes over a picture.

/** Left, top, width, height. */
export type Rect = [number, number, number, number];

/** A line from the chosen patch to one that asked for it, as wide as its part. */
export function join(context: CanvasRenderingContext2D, from: Rect, to: Rect, share: number): void {
    context.beginPath();
    line(context, from[0] + from[2] / 2, from[1] + from[3] / 2, to[0] + to[2] / 2, to[1] + to[3] / 2);
    context.strokeStyle = `rgba(0, 0, 0, ${0.6 * share})`;
    context.lineWidth = 3 + 4 * share;
    context.stroke();
    context.strokeStyle = `rgba(86, 180, 233, ${0.25 + 0.7 * share})`;
    context.lineWidth = 1 + 4 * share;
    context.stroke();
}

export function line(context: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
}

export function outline(
    context: CanvasRenderingContext2D,
    [x, y, width, height]: Rect,
    color: string,
    lineWidth: number,
): void {
    context.strokeStyle = "#000000";
    context.lineWidth = lineWidth + 2;
    context.strokeRect(x, y, width, height);
    context.strokeStyle = color;
    context.lineWidth = lineWidth;
    context.strokeRect(x, y, width, height);
}
