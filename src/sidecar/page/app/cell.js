// One pool in the grid: how much is confirmed, held and free as a bar, and marks for what is unusual.
import { html } from "./vendor/runtime.js";
import { brief, effectOf, loadOf, marksOf, number, TIGHTEST } from "./figures.js";
import { timeOfDay } from "./times.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./figures.js").Load} Load */
/** @typedef {import("./figures.js").Marks} Marks */

/** Below this width a cell is only a bar that stands. */
const NARROW = 30;
/** What a digit takes of the figure and of the small text beside it, and what stands around both. */
const DIGIT = 8;
const SMALL_DIGIT = 6.4;
const AROUND = 16;
/** At this share the last units are being sold: the band `low` of the outward contract. */
const LOW = 0.9;

/** @param {Load} load */
export function barOf(load) {
  const total = Math.max(load.ceiling, load.used, 1);
  const over = load.over / total;
  const held = Math.min(load.held / total, 1 - over);
  return { "--c": String(Math.max(0, load.used / total - over - held)), "--h": String(held), "--o": String(over) };
}

/**
 * @param {Marks} marks
 * @param {Load} load
 */
export function classesOf(marks, load) {
  return [
    marks.closed && "closed",
    marks.past && "past",
    marks.early && "early",
    marks.shadow && "shadow",
    marks.over && "over",
    load.free <= 0 ? "full" : load.share >= LOW && "low",
  ]
    .filter(Boolean)
    .join(" ");
}

/**
 * The marks in words, the most telling first.
 * @param {Marks} marks
 */
export function wordsOf(marks) {
  return [
    marks.over && "over its limit",
    marks.closed && "closed",
    marks.past && "past closing time",
    marks.early && "not open yet",
    marks.shadow && "shadow",
  ].filter((word) => typeof word === "string");
}

/**
 * `08:00–10:00`
 * @param {{ start: number, end: number }} cell
 */
export const windowText = ({ start, end }) => `${timeOfDay(start)}–${timeOfDay(end > 1440 ? end - 1440 : end)}`;

/**
 * @param {object} properties
 * @param {import("./layout.js").Cell} properties.cell
 * @param {Pool} properties.pool
 * @param {string} properties.day its name
 * @param {string} properties.dimension
 * @param {number} properties.now
 * @param {number} properties.left
 * @param {number} properties.width
 * @param {number} properties.top
 * @param {boolean} properties.active
 * @param {boolean} properties.selected
 * @param {boolean} properties.open
 */
export function CellView({ cell, pool, day, dimension, now, left, width, top, active, selected, open }) {
  const load = loadOf(pool, dimension);
  const marks = marksOf(pool, now);
  const words = wordsOf(marks);
  const figure = load.over > 0 ? `▲${brief(load.over)}` : brief(load.free);
  // Among figures of the first dimension, one of another says so by its first letter.
  const unit = dimension === TIGHTEST && load.dimension !== Object.keys(pool.limits)[0] ? load.dimension.slice(0, 1) : "";
  const beside = words.length > 0 && !marks.over ? words[0].split(" ")[0] : `${brief(load.used)}/${brief(load.ceiling)}`;
  const isRoomy = figure.length * DIGIT + (unit.length + beside.length) * SMALL_DIGIT + AROUND <= width;
  const shape = width < NARROW ? "narrow" : isRoomy ? "roomy" : "medium";
  const state = `${selected ? " selected" : ""}${open ? " open" : ""}`;
  const figures = `${number(load.confirmed)} confirmed, ${number(load.held)} held of ${number(load.ceiling)} ${load.dimension}, ${effectOf(load)}`;
  const label = `${day} ${cell.whole ? "all day" : windowText(cell)}: ${figures}${words.length ? `, ${words.join(", ")}` : ""}`;
  return html`
    <div
      class="cell ${shape} ${classesOf(marks, load)}${state}"
      role="gridcell"
      aria-colindex=${cell.column + 2}
      aria-label=${label}
      aria-selected=${selected}
      tabindex=${active ? 0 : -1}
      data-name=${cell.name}
      style=${{ left: `${left}px`, width: `${width}px`, top: `${top}px`, ...barOf(load) }}
    >
      ${shape !== "narrow" && html`<span class="free">${figure}${unit && html`<small>${unit}</small>`}</span>`}
      ${shape === "roomy" && html`<span class="of">${beside}</span>`}
    </div>
  `;
}
