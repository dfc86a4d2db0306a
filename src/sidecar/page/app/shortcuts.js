// What can be done from the keyboard, and the list of it.
import { html } from "./vendor/runtime.js";
import { closeDrawer } from "./drawer.js";
import { focusGrid, layout } from "./grid.js";
import { Modal } from "./modal.js";
import { sameTimeOfDay } from "./navigation.js";
import { togglePast } from "./past.js";
import { DAYS, VIEWS, dialog, from, moment, opened, selection, today, view, zoomBy } from "./state.js";
import { moveDays } from "./toolbar.js";

const LIST = [
  ["← → ↑ ↓", "move in the grid; Ctrl with ← → goes by days"],
  ["Home, End, Page ↑ ↓", "to the edges, by pages; Ctrl with Home or End to the corners"],
  ["Enter", "open the pool; fold a zone; select a row"],
  ["Shift + arrows", "select a range, as dragging does"],
  ["Space", "select or leave out the pool; Ctrl with A selects all"],
  ["S", "select the same time on all days"],
  ["L", "limits of what is selected"],
  ["Escape", "close what is open; clear the selection"],
  [", .", "two weeks back or on"],
  ["T", "to today"],
  ["+ −", "closer or wider"],
  ["P", "the past, or back to the present"],
  ["/", "filter"],
  ["G", "to the grid"],
  ["1 2 3 4", "the views"],
  ["?", "this list"],
];

/** @param {KeyboardEvent} event */
export function shortcut(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.value !== null) return;
  if (target.matches?.("input, select, textarea")) {
    if (event.key === "Escape") focusGrid();
    return;
  }
  const inGrid = view.value === "grid";
  /** @type {Record<string, () => void>} */
  const actions = {
    "?": () => (dialog.value = "shortcuts"),
    1: () => (view.value = VIEWS[0]),
    2: () => (view.value = VIEWS[1]),
    3: () => (view.value = VIEWS[2]),
    4: () => (view.value = VIEWS[3]),
  };
  if (inGrid) {
    Object.assign(actions, {
      "/": () => document.getElementById("filter")?.focus(),
      ",": () => moveDays(-DAYS),
      ".": () => moveDays(DAYS),
      "+": () => zoomBy(1),
      "-": () => zoomBy(-1),
      t: () => (from.value = today.value),
      g: focusGrid,
      p: togglePast,
      s: () => (selection.value = sameTimeOfDay(layout.value, selection.value)),
      l: () => {
        if (selection.value.size && moment.value === null) dialog.value = "limits";
      },
      Escape: () => {
        if (selection.value.size) selection.value = new Set();
        else if (opened.value !== null) closeDrawer();
        else if (moment.value !== null) togglePast();
      },
    });
  }
  // Also with the capitals that the list shows.
  const action = actions[event.key] ?? actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

export function ShortcutsDialog() {
  return html`
    <${Modal} title="Keyboard shortcuts">
      <dl class="shortcuts">
        ${LIST.map(([keys, what]) => html`<div key=${keys}><dt><kbd>${keys}</kbd></dt><dd>${what}</dd></div>`)}
      </dl>
    <//>
  `;
}
