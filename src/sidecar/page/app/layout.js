// Where things stand in the grid: zones and kinds as rows, days and the slots of a day as columns.
//
// A day is as wide as the hours in which its slots lie, so that slots of the same hours stand below each other whatever
// their kind. Slots of one row that overlap stand in lanes. What is longer than most of a day fills the day of its start.
/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./times.js").Clock} Clock */

/**
 * @typedef {object} Cell
 * @property {string} name of the pool
 * @property {number} day index of its day
 * @property {number} start minute of the day
 * @property {number} end minute of the day, above `start`, at most 1440 later
 * @property {boolean} whole fills the day
 * @property {number} lane
 * @property {number} column index among all beginnings of slots
 */

/**
 * @typedef {object} Row
 * @property {string} key
 * @property {"zone" | "kind"} type
 * @property {string} zone
 * @property {string} kind empty for a zone
 * @property {Cell[]} cells in the order of time; none for a zone
 * @property {string[][]} names for a zone, the pools of each day
 * @property {number} lanes
 * @property {number} top
 * @property {number} height
 */

/**
 * @typedef {object} Layout
 * @property {Row[]} rows
 * @property {number} height
 * @property {number} opens the first minute of a day that is shown
 * @property {number} closes the last
 * @property {boolean} hasHours whether any slot is drawn by its hours
 * @property {number} columns how many beginnings of slots there are
 * @property {number} poolCount
 */

/**
 * What names a row; the row of a zone itself has no kind.
 * @param {string} zone
 * @param {string} kind
 */
export const rowKey = (zone, kind) => `${zone}\n${kind}`;

const LANE_HEIGHT = 32;
const ZONE_HEIGHT = 26;
const MINUTES = 1440;
/** From here on a window is not drawn by its hours. */
const WHOLE_MINUTES = 16 * 60;

/**
 * @param {Cell[]} cells in the order of time
 * @returns {number} how many lanes they need
 */
export function assignLanes(cells) {
  /** @type {number[]} */
  const ends = [];
  for (const cell of cells) {
    const at = cell.day * MINUTES + cell.start;
    const free = ends.findIndex((end) => end <= at);
    cell.lane = free < 0 ? ends.length : free;
    ends[cell.lane] = cell.whole ? (cell.day + 1) * MINUTES : cell.day * MINUTES + cell.end;
  }
  return Math.max(1, ends.length);
}

/**
 * The words that a filter asks for must all be in a pool's zone, kind or name.
 * @param {string} filter
 */
export function matcher(filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return (/** @type {Pool} */ pool) => {
    if (!words.length) return true;
    const text = `${pool.zone} ${pool.kind} ${pool.name}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

/**
 * @param {Iterable<Pool>} pools
 * @param {{ clock: Clock, days: string[], filter: string, folded: ReadonlySet<string> }} options
 * @returns {Layout}
 */
export function layOut(pools, { clock, days, filter, folded }) {
  const matches = matcher(filter);
  const dayIndex = new Map(days.map((day, index) => [day, index]));
  /** @type {Map<string, Map<string, Cell[]>>} */
  const zones = new Map();
  let opens = MINUTES;
  let closes = 0;
  let poolCount = 0;
  for (const pool of pools) {
    if (!matches(pool)) continue;
    const start = clock.local(Date.parse(pool.starts_at));
    const end = clock.local(Date.parse(pool.ends_at));
    // What began before the first day is shown on it, unless it is over in its course: that is the end of the day before.
    const day = dayIndex.get(start.day) ?? (start.day < days[0] && end.day > days[0] ? 0 : undefined);
    if (day === undefined) continue;
    poolCount += 1;
    const length = Math.round((Date.parse(pool.ends_at) - Date.parse(pool.starts_at)) / 60_000);
    const whole = length >= WHOLE_MINUTES || start.day < days[0];
    // By the clock on the wall, so that slots of a day with another offset stand below the others.
    const wall = end.day === start.day ? end.minute - start.minute : end.minute + MINUTES - start.minute;
    const cell = {
      name: pool.name,
      day,
      start: start.minute,
      end: start.minute + Math.max(1, Math.min(wall > 0 ? wall : length, MINUTES)),
      whole,
      lane: 0,
      column: 0,
    };
    if (!whole) {
      opens = Math.min(opens, cell.start);
      closes = Math.max(closes, Math.min(cell.end, 2 * MINUTES));
    }
    const kinds = zones.get(pool.zone) ?? new Map();
    if (!kinds.size) zones.set(pool.zone, kinds);
    const cells = kinds.get(pool.kind);
    if (cells) cells.push(cell);
    else kinds.set(pool.kind, [cell]);
  }
  const hasHours = closes > opens;
  if (!hasHours) [opens, closes] = [0, MINUTES];

  const collator = new Intl.Collator("en", { numeric: true });
  const names = (/** @type {Map<string, unknown>} */ map) => [...map.keys()].sort(collator.compare);
  /** @type {Row[]} */
  const rows = [];
  let top = 0;
  /** @param {Omit<Row, "top">} row */
  const add = (row) => {
    rows.push({ ...row, top });
    top += row.height;
  };
  for (const zone of names(zones)) {
    const kinds = /** @type {Map<string, Cell[]>} */ (zones.get(zone));
    const byDay = days.map(() => /** @type {string[]} */ ([]));
    for (const cells of kinds.values()) for (const cell of cells) byDay[cell.day].push(cell.name);
    add({ key: rowKey(zone, ""), type: "zone", zone, kind: "", cells: [], names: byDay, lanes: 1, height: ZONE_HEIGHT });
    if (folded.has(zone)) continue;
    for (const kind of names(kinds)) {
      const cells = /** @type {Cell[]} */ (kinds.get(kind));
      cells.sort((a, b) => a.day - b.day || a.start - b.start || a.end - b.end || (a.name < b.name ? -1 : 1));
      const lanes = assignLanes(cells);
      add({ key: rowKey(zone, kind), type: "kind", zone, kind, cells, names: [], lanes, height: lanes * LANE_HEIGHT + 4 });
    }
  }
  return { rows, height: top, opens, closes, hasHours, columns: numberColumns(rows), poolCount };
}

/**
 * Gives each cell the number of its beginning among all beginnings.
 * @param {Row[]} rows
 */
function numberColumns(rows) {
  const at = (/** @type {Cell} */ cell) => cell.day * MINUTES + cell.start;
  const beginnings = new Set();
  for (const row of rows) for (const cell of row.cells) beginnings.add(at(cell));
  const order = new Map([...beginnings].sort((a, b) => a - b).map((beginning, index) => [beginning, index]));
  for (const row of rows) for (const cell of row.cells) cell.column = order.get(at(cell)) ?? 0;
  return order.size;
}

/**
 * The left edge and the width of a cell, as shares of its day.
 * @param {Cell} cell
 * @param {Layout} layout
 */
export function sharesOf(cell, { opens, closes }) {
  if (cell.whole) return { left: 0, width: 1 };
  const hours = closes - opens;
  return { left: (cell.start - opens) / hours, width: (Math.min(cell.end, closes) - cell.start) / hours };
}

/**
 * The rows between two heights.
 * @param {Row[]} rows
 * @param {number} from
 * @param {number} to
 */
export function rowsBetween(rows, from, to) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height <= from) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < rows.length && rows[end].top < to) end += 1;
  return { start: low, end };
}
