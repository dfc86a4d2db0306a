// A dialog over the page: the browser's own, so that the focus stays inside and Escape closes.
import { html, useEffect, useRef } from "./vendor/runtime.js";
import { focusGrid } from "./grid.js";
import { dialog, view } from "./state.js";

export function closeDialog() {
  dialog.value = null;
  if (view.value === "grid") focusGrid();
}

/** @param {{ title: string, wide?: boolean, children?: unknown }} properties */
export function Modal({ title, wide = false, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    element.current?.showModal();
    /** @type {HTMLElement | null | undefined} */ (element.current?.querySelector("[data-first]"))?.focus();
  }, []);
  return html`
    <dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${title} onClose=${closeDialog} onCancel=${closeDialog}>
      <header>
        <h2>${title}</h2>
        <button type="button" class="plain" aria-label="Close" title="Close (Escape)" onClick=${closeDialog}>×</button>
      </header>
      <div class="content">${children}</div>
    </dialog>
  `;
}
