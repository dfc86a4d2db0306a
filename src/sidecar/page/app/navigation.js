// Moving through the grid and selecting in it, as functions of a layout alone.
import { sharesOf } from "./layout.js";

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./layout.js").Cell} Cell */

/** @typedef {{ key: string, name: string }} Place a row, and a pool in it or an empty name for its heading */

/**
 * @param {Layout} layout
 * @param {Place} place
 */
function indexOf(layout, place) {
  const row = layout.rows.findIndex((candidate) => candidate.key === place.key);
  const cell = row < 0 ? -1 : layout.rows[row].cells.findIndex((candidate) => candidate.name === place.name);
  return { row, cell };
}

/**
 * Where a cell lies, counted in days from the first.
 * @param {Layout} layout
 * @param {Cell} cell
 */
function extentOf(layout, cell) {
  const { left, width } = sharesOf(cell, layout);
  return { left: cell.day + left, right: cell.day + left + width };
}

/**
 * The cell of a row that lies best under a part of the day.
 * @param {Layout} layout
 * @param {number} row
 * @param {{ left: number, right: number }} extent
 */
function nearest(layout, row, extent) {
  const middle = (extent.left + extent.right) / 2;
  let best = null;
  let bestDistance = Infinity;
  for (const cell of layout.rows[row].cells) {
    const { left, right } = extentOf(layout, cell);
    const distance = Math.max(left - middle, middle - right, 0) + Math.abs((left + right) / 2 - middle) / 1000;
    if (distance < bestDistance) [best, bestDistance] = [cell, distance];
  }
  return best;
}

/**
 * Where a key leads; null when it leads nowhere.
 * @param {Layout} layout
 * @param {Place} place
 * @param {string} key of the keyboard, with `Ctrl+` before it when that is held
 * @param {number} page how many rows are a page
 * @returns {Place | null}
 */
export function move(layout, place, key, page) {
  const at = indexOf(layout, place);
  if (at.row < 0) return layout.rows.length ? { key: layout.rows[0].key, name: "" } : null;
  const row = layout.rows[at.row];
  const inRow = (/** @type {number} */ index) => {
    const cell = row.cells[index];
    return cell ? { key: row.key, name: cell.name } : null;
  };
  const vertically = (/** @type {number} */ step) => {
    let target = at.row;
    for (let left = Math.abs(step); left > 0; ) {
      const next = target + Math.sign(step);
      if (next < 0 || next >= layout.rows.length) break;
      target = next;
      // From a slot to a slot: headings of zones have none.
      if (at.cell < 0 || layout.rows[target].cells.length) left -= 1;
    }
    if (at.cell < 0) return { key: layout.rows[target].key, name: "" };
    const cell = nearest(layout, target, extentOf(layout, row.cells[at.cell]));
    return cell ? { key: layout.rows[target].key, name: cell.name } : null;
  };
  switch (key) {
    case "ArrowRight":
      return inRow(at.cell + 1);
    case "ArrowLeft":
      return at.cell > 0 ? inRow(at.cell - 1) : { key: row.key, name: "" };
    case "ArrowDown":
      return vertically(1);
    case "ArrowUp":
      return vertically(-1);
    case "PageDown":
      return vertically(page);
    case "PageUp":
      return vertically(-page);
    case "Home":
      return inRow(0);
    case "End":
      return inRow(row.cells.length - 1);
    case "Ctrl+Home":
      return { key: layout.rows[0].key, name: "" };
    case "Ctrl+End": {
      const last = layout.rows[layout.rows.length - 1];
      return { key: last.key, name: last.cells.at(-1)?.name ?? "" };
    }
    case "Ctrl+ArrowRight":
      return inRow(row.cells.findIndex((cell) => cell.day > (row.cells[at.cell]?.day ?? -1)));
    case "Ctrl+ArrowLeft": {
      const day = row.cells[at.cell]?.day ?? 0;
      const before = row.cells.filter((cell) => cell.day < day).at(-1);
      return inRow(row.cells.findIndex((cell) => cell.day === before?.day));
    }
  }
  return null;
}

/**
 * The pools in the rectangle between two cells, whatever their order.
 * @param {Layout} layout
 * @param {Place} from
 * @param {Place} to
 * @returns {Set<string>}
 */
export function between(layout, from, to) {
  const a = indexOf(layout, from);
  const b = indexOf(layout, to);
  if (a.cell < 0 || b.cell < 0) return new Set();
  const first = extentOf(layout, layout.rows[a.row].cells[a.cell]);
  const second = extentOf(layout, layout.rows[b.row].cells[b.cell]);
  const left = Math.min(first.left, second.left);
  const right = Math.max(first.right, second.right);
  const names = new Set();
  for (let row = Math.min(a.row, b.row); row <= Math.max(a.row, b.row); row += 1) {
    for (const cell of layout.rows[row].cells) {
      const extent = extentOf(layout, cell);
      // Half of the smaller one, so that a neighbour that only touches stays out.
      const shared = Math.min(extent.right, right) - Math.max(extent.left, left);
      if (shared > 0.5 * Math.min(extent.right - extent.left, right - left)) names.add(cell.name);
    }
  }
  return names;
}

/**
 * All pools of a row: of a kind, or of a whole zone.
 * @param {Layout} layout
 * @param {string} key
 * @returns {string[]}
 */
export function namesOfRow(layout, key) {
  const row = layout.rows.find((candidate) => candidate.key === key);
  if (!row) return [];
  return row.type === "zone" ? row.names.flat() : row.cells.map((cell) => cell.name);
}

/**
 * All pools of a day.
 * @param {Layout} layout
 * @param {number} day
 * @returns {string[]}
 */
export const namesOfDay = (layout, day) => layout.rows.flatMap((row) => row.names[day] ?? []);

/**
 * The pools of the same rows that begin at the same time of day as one of these.
 * @param {Layout} layout
 * @param {ReadonlySet<string>} names
 * @returns {Set<string>}
 */
export function sameTimeOfDay(layout, names) {
  const found = new Set(names);
  for (const row of layout.rows) {
    const starts = new Set(row.cells.filter((cell) => names.has(cell.name)).map((cell) => cell.start));
    for (const cell of row.cells) if (starts.has(cell.start)) found.add(cell.name);
  }
  return found;
}
