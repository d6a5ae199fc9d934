import * as sttabt from "/package/index.js";

Object.assign(window, sttabt, { isReady: true });
