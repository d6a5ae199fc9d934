/** `beside.ts`, by the name that its only import gives it. */
declare module "*/beside.js?here.imba" {
    export const beside: typeof import("./beside.js").beside;
}
