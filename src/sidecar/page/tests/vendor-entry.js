// What the page takes from its view libraries; vendor.mjs makes app/vendor/runtime.js of it.
import htm from "htm";
import { h } from "preact";

export { Fragment, h, render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "@preact/signals";
export const html = htm.bind(h);
