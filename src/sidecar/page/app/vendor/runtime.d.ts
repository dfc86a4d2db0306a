// The types of runtime.js, for the checks alone: tests/vendor-entry.js exports the same.
export type { Signal } from "@preact/signals";
import type { VNode } from "preact";

export { Fragment, h, render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "@preact/signals";
export function html(strings: TemplateStringsArray, ...values: unknown[]): VNode;
