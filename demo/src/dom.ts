// Making elements, without a framework.

export type Child = Node | string | null;
type Listeners = { [Name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[Name]) => void };
type Attributes = Record<string, string | number | boolean | null>;

/** An element with attributes (true: present, false or null: absent), listeners and children. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
    tag: Tag,
    attributes: Attributes = {},
    children: Child[] = [],
    listeners: Listeners = {},
): HTMLElementTagNameMap[Tag] {
    const element = document.createElement(tag);
    setAttributes(element, attributes);
    element.append(...children.filter((child) => child !== null));
    for (const [name, listener] of Object.entries(listeners)) element.addEventListener(name, listener as EventListener);
    return element;
}

export function setAttributes(element: Element, attributes: Attributes): void {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === false || value === null) element.removeAttribute(name);
        else element.setAttribute(name, value === true ? "" : String(value));
    }
}

export function byId<Type extends HTMLElement>(id: string): Type {
    const element = document.getElementById(id);
    if (!element) throw new Error(`the page has no #${id}`);
    return element as Type;
}

export function percent(share: number, digits = 0): string {
    return `${(100 * share).toFixed(digits)} %`;
}

export function megabytes(bytes: number): string {
    return `${(bytes / 1e6).toFixed(1)} MB`;
}

export function milliseconds(ms: number): string {
    return `${ms < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

export function flops(count: number): string {
    return count >= 1e9 ? `${(count / 1e9).toFixed(2)} GFLOPs` : `${(count / 1e6).toFixed(count < 1e8 ? 1 : 0)} MFLOPs`;
}

/** Hands a file to the visitor. */
export function download(name: string, blob: Blob): void {
    const url = URL.createObjectURL(blob);
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** NaN of no values. */
export function median(values: number[]): number {
    const sorted = values.toSorted((one, other) => one - other);
    const middle = (sorted.length - 1) / 2;
    return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle)] ?? NaN)) / 2;
}
