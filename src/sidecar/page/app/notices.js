// Short messages at the edge of the page: what was done, or why it was not.
import { html, signal } from "./vendor/runtime.js";

const SHOWN_MS = 6_000;
const NOTICES_MAX = 4;

/** @typedef {{ id: number, text: string, tone: "done" | "wrong" }} Notice */

const notices = signal(/** @type {Notice[]} */ ([]));
let count = 0;

/** @param {number} id */
const dismiss = (id) => (notices.value = notices.value.filter((notice) => notice.id !== id));

/**
 * @param {string} text
 * @param {Notice["tone"]} [tone] what went wrong stays until it is dismissed
 */
export function notify(text, tone = "done") {
  const id = (count += 1);
  notices.value = [...notices.value, { id, text, tone }].slice(-NOTICES_MAX);
  if (tone === "done") setTimeout(() => dismiss(id), SHOWN_MS);
}

export function Notices() {
  return html`
    <div class="notices" role="status" aria-live="polite">
      ${notices.value.map(
        ({ id, text, tone }) => html`
          <div key=${id} class="notice ${tone}">
            <span>${text}</span>
            <button type="button" class="plain" aria-label="Dismiss" onClick=${() => dismiss(id)}>×</button>
          </div>
        `,
      )}
    </div>
  `;
}
