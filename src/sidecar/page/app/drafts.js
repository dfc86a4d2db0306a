// Edits of pools that are not saved yet: they stay while the planner looks at another pool, day or view.
import { effect, signal } from "./vendor/runtime.js";
import { differing, fieldsOf, rebased } from "./definition.js";
import { clock } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./definition.js").Fields} Fields */
/** @typedef {{ base: Pool, fields: Fields }} Draft the pool as it was when the first field was edited, and what the form holds */

/** By the name of the pool; each differs from its base. */
export const drafts = signal(/** @type {ReadonlyMap<string, Draft>} */ (new Map()));

/**
 * Keeps what the form holds, or forgets the draft when that is what the base holds.
 * @param {Pool} base
 * @param {Fields} fields
 */
export function keepDraft(base, fields) {
  const next = new Map(drafts.value);
  if (differing(fieldsOf(base, clock.value), fields).length) next.set(base.name, { base, fields });
  else next.delete(base.name);
  drafts.value = next;
}

/** @param {string} name */
export function forgetDraft(name) {
  const next = new Map(drafts.value);
  if (next.delete(name)) drafts.value = next;
}

/**
 * Puts what was edited on top of a newer version.
 * @param {Pool} newer
 */
export function rebaseDraft(newer) {
  const draft = drafts.value.get(newer.name);
  if (!draft) return;
  keepDraft(newer, rebased(fieldsOf(draft.base, clock.value), draft.fields, fieldsOf(newer, clock.value)));
}

/** Has the browser ask before a page with drafts is closed. */
export function guardDrafts() {
  const ask = (/** @type {Event} */ event) => event.preventDefault();
  effect(() => {
    if (drafts.value.size) addEventListener("beforeunload", ask);
    else removeEventListener("beforeunload", ask);
  });
}
