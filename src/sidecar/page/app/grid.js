// The grid: only what is in sight is in the document, and a row is painted again only when one of its pools changed.
import { computed, html, signal, useEffect, useLayoutEffect, useRef } from "./vendor/runtime.js";
import { CellView, barOf } from "./cell.js";
import { loadIn, number } from "./figures.js";
import { pools, structure, tick } from "./inventory.js";
import { layOut, rowKey, rowsBetween, sharesOf } from "./layout.js";
import { between, move, namesOfDay, namesOfRow } from "./navigation.js";
import { clock, days, dimension, filter, folded, moment, now, opened, selection, settings, today, toggled, zoom } from "./state.js";
import { dayAndMonth, dayName, timeOfDay, weekdayName, weekdayOf } from "./times.js";

/** @typedef {import("./layout.js").Row} Row */
/** @typedef {import("./navigation.js").Place} Place */

const HEADING_WIDTH = 148;
const HEADER_HEIGHT = 42;
/** So that slots of two hours are still to be told apart; beside the drawer the grid scrolls rather than being squeezed. */
const DAY_WIDTH_MIN = 78;
/** Rows beyond the edge that are kept ready for scrolling. */
const AHEAD = 160;
/** A row of so many lanes is in the document as a whole; of a higher one, so many are kept ready beyond the edge, and more. */
const LANES_WHOLE = 24;
const LANES_AHEAD = 8;
const HOURS_FROM = 120;
/** What the text of an hour takes. */
const HOUR_TEXT = 36;
/** Below this width of a day, its weekday and its date stand below each other. */
const STACKED_BELOW = 110;

export const layout = computed(() => {
  void structure.value;
  return layOut(pools.values(), { clock: clock.value, days: days.value, filter: filter.value, folded: folded.value });
});
const wanted = signal(/** @type {Place} */ ({ key: "", name: "" }));
/** Where the keyboard is: where it went last, as long as that is in the grid. */
export const active = computed(() => {
  const { key, name } = wanted.value;
  const row = layout.value.rows.find((candidate) => candidate.key === key);
  if (!row) return { key: layout.value.rows[0]?.key ?? "", name: "" };
  return name === "" || row.cells.some((cell) => cell.name === name) ? wanted.value : { key, name: "" };
});
/** The pool under the pointer. */
export const hovered = signal(/** @type {string | null} */ (null));

const viewport = signal({ top: 0, left: 0, width: 1000, height: 600 });
const dayWidth = computed(() => Math.max(DAY_WIDTH_MIN, (viewport.value.width - HEADING_WIDTH) / zoom.value));
const viewportWidth = computed(() => viewport.value.width);
const daysInSight = computed(() => {
  const { left, width } = viewport.value;
  const first = Math.max(0, Math.floor(left / dayWidth.value));
  const last = Math.min(days.value.length - 1, Math.floor((left + width - HEADING_WIDTH) / dayWidth.value));
  return `${first} ${last}`;
});
const rowsInSight = computed(() => {
  const { top, height } = viewport.value;
  const { start, end } = rowsBetween(layout.value.rows, top - AHEAD, top + height + AHEAD);
  return `${start} ${end}`;
});

/** Where a selection by range began. */
let anchor = /** @type {Place | null} */ (null);
let focusWanted = false;

/** Puts the keyboard back into the grid, onto the cell where it was. */
export function focusGrid() {
  focusWanted = true;
  wanted.value = { ...wanted.value };
}

/** @param {Place} place */
function go(place) {
  focusWanted = true;
  wanted.value = place;
}

/**
 * @param {Row} row
 * @param {import("./layout.js").Cell} cell
 */
function boxOf(row, cell) {
  const { left, width } = sharesOf(cell, layout.value);
  const lane = (row.height - 4) / row.lanes;
  return {
    left: Math.round((cell.day + left) * dayWidth.value) + 1,
    width: Math.max(3, Math.round(width * dayWidth.value) - 2),
    top: 2 + cell.lane * lane,
  };
}

/** @param {{ row: Row, sight: string }} properties */
function ZoneRow({ row, sight }) {
  void tick(row.key).value;
  const [first, last] = sight.split(" ").map(Number);
  const shown = dimension.value || settings.value.dimensions[0];
  const cells = [];
  for (let day = first; day <= last; day += 1) {
    if (!row.names[day]?.length) continue;
    const sum = { dimension: shown, limit: 0, ceiling: 0, held: 0, confirmed: 0, used: 0, free: 0, over: 0, share: 0 };
    for (const name of row.names[day]) {
      const pool = pools.get(name);
      if (!pool) continue;
      const load = loadIn(pool, shown);
      sum.ceiling += load.ceiling;
      sum.held += load.held;
      sum.confirmed += load.confirmed;
      sum.used += load.used;
    }
    const share = sum.ceiling > 0 ? Math.round((sum.used / sum.ceiling) * 100) : 0;
    cells.push(html`
      <div
        key=${day}
        class="summary"
        role="gridcell"
        aria-label=${`${dayName(days.value[day])}: ${number(sum.used)} of ${number(sum.ceiling)} ${shown}`}
        style=${{ left: `${day * dayWidth.value}px`, width: `${dayWidth.value}px`, ...barOf(sum) }}
      >
        <span class="bar"></span><span class="share">${share}%</span>
      </div>
    `);
  }
  const isFolded = folded.value.has(row.zone);
  return html`
    <${Heading} row=${row}>
      <span class="fold" aria-hidden="true">${isFolded ? "▸" : "▾"}</span><b class="text">${row.zone}</b>
    <//>
    <div class="cells">${cells}</div>
  `;
}

/**
 * The lanes of a row that are in sight, with some beyond the edges: a row can be higher than the screen.
 * @param {Row} row
 */
function lanesInSight(row) {
  if (row.lanes <= LANES_WHOLE) return `0 ${row.lanes}`;
  const { top, height } = viewport.value;
  const lane = row.height / row.lanes;
  const first = Math.floor((top - row.top) / lane / LANES_AHEAD - 1) * LANES_AHEAD;
  return `${first} ${first + Math.ceil(height / lane / LANES_AHEAD + 3) * LANES_AHEAD}`;
}

/** @param {{ row: Row, sight: string, lanes: string, isActive: boolean }} properties */
function KindRow({ row, sight, lanes, isActive }) {
  void tick(row.key).value;
  const [first, last] = sight.split(" ").map(Number);
  const [firstLane, lastLane] = lanes.split(" ").map(Number);
  const at = moment.value ?? now.value;
  const cells = [];
  for (const cell of row.cells) {
    const here = isActive && cell.name === active.value.name;
    if (!here && (cell.day < first || cell.day > last || cell.lane < firstLane || cell.lane >= lastLane)) continue;
    const pool = pools.get(cell.name);
    if (!pool) continue;
    cells.push(html`
      <${CellView}
        key=${cell.name}
        cell=${cell}
        pool=${pool}
        day=${dayName(days.value[cell.day])}
        dimension=${dimension.value}
        now=${at}
        ...${boxOf(row, cell)}
        active=${here}
        selected=${selection.value.has(cell.name)}
        open=${opened.value === cell.name}
      />
    `);
  }
  return html`
    <${Heading} row=${row}><span class="text">${row.kind}</span><//>
    <div class="cells">${cells}</div>
  `;
}

/** @param {{ row: Row, children?: unknown }} properties */
function Heading({ row, children }) {
  const here = active.value.key === row.key && active.value.name === "";
  const expanded = row.type === "zone" ? String(!folded.value.has(row.zone)) : undefined;
  return html`
    <div class="heading" role="rowheader" aria-expanded=${expanded} tabindex=${here ? 0 : -1} data-heading=${row.key} title=${row.kind || row.zone}>
      ${children}
    </div>
  `;
}

/** @param {{ row: Row, index: number, sight: string, lanes: string, isActive: boolean }} properties */
function RowView({ row, index, sight, lanes, isActive }) {
  return html`
    <div
      class="row ${row.type}"
      role="row"
      aria-rowindex=${index + 2}
      style=${{ top: `${row.top}px`, height: `${row.height}px` }}
    >
      ${row.type === "zone"
        ? html`<${ZoneRow} row=${row} sight=${sight} />`
        : html`<${KindRow} row=${row} sight=${sight} lanes=${lanes} isActive=${isActive} />`}
    </div>
  `;
}

function Header() {
  const { opens, closes, hasHours } = layout.value;
  const width = dayWidth.value;
  // A step in hours that leaves room for its text.
  const hours = (closes - opens) / 60;
  const step = [1, 2, 3, 4, 6, 12].find((candidate) => (width / hours) * candidate >= HOUR_TEXT + 4) ?? 24;
  /** @type {number[]} */
  const marks = [];
  if (hasHours && width >= HOURS_FROM) {
    const last = closes - (HOUR_TEXT / width) * (closes - opens);
    for (let minute = Math.ceil(opens / 60) * 60; minute <= last; minute += step * 60) marks.push(minute);
  }
  return html`
    <div class="header" role="row" aria-rowindex="1" style=${{ width: `${HEADING_WIDTH + width * days.value.length}px` }}>
      <div class="corner" role="columnheader">zone, kind</div>
      ${days.value.map(
        (day, index) => html`
          <div
            key=${day}
            class="day ${width < STACKED_BELOW ? "stacked" : ""} ${weekdayOf(day) > 4 ? "weekend" : ""} ${day === today.value ? "today" : ""}"
            role="columnheader"
            style=${{ width: `${width}px` }}
          >
            <button
              type="button"
              tabindex="-1"
              title="Select all slots of this day"
              onClick=${() => (selection.value = new Set(namesOfDay(layout.value, index)))}
            >
              <b>${weekdayName(day)}</b> <small>${dayAndMonth(day)}</small>
            </button>
            ${marks.map(
              (minute) => html`<i style=${{ left: `${((minute - opens) / (closes - opens)) * 100}%` }}>${timeOfDay(minute)}</i>`,
            )}
          </div>
        `,
      )}
    </div>
  `;
}

/** @param {{ height: number }} properties */
function Stripes({ height }) {
  const width = dayWidth.value;
  return html`
    <div class="stripes" aria-hidden="true" style=${{ left: `${HEADING_WIDTH}px`, height: `${height}px` }}>
      ${days.value.map(
        (day) => html`
          <div
            key=${day}
            class="${weekdayOf(day) > 4 ? "weekend" : ""} ${day === today.value ? "today" : ""} ${weekdayOf(day) === 0 ? "monday" : ""}"
            style=${{ width: `${width}px` }}
          ></div>
        `,
      )}
    </div>
  `;
}

/**
 * The cell or heading that an event of the pointer means.
 * @param {Event} event
 * @returns {Place | null}
 */
function placeOf(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const cell = /** @type {HTMLElement | null} */ (target.closest?.("[data-name]"));
  const name = cell?.dataset.name;
  const pool = name === undefined ? undefined : pools.get(name);
  if (name !== undefined && pool) return { key: rowKey(pool.zone, pool.kind), name };
  const heading = /** @type {HTMLElement | null} */ (target.closest?.("[data-heading]"));
  return heading ? { key: String(heading.dataset.heading), name: "" } : null;
}

/**
 * What a heading does when it is clicked, or entered by the keyboard.
 * @param {string} key
 */
function useHeading(key) {
  const [zone, kind] = key.split("\n");
  if (kind === "") folded.value = toggled(folded.value, zone);
  else selection.value = new Set(namesOfRow(layout.value, key));
}

/** @param {PointerEvent} event */
function pressed(event) {
  const place = placeOf(event);
  if (!place || event.button !== 0) return;
  go(place);
  if (place.name === "") return useHeading(place.key);
  if (event.shiftKey && anchor) {
    selection.value = between(layout.value, anchor, place);
  } else if (event.ctrlKey || event.metaKey) {
    selection.value = toggled(selection.value, place.name);
    anchor = place;
  } else {
    anchor = place;
    // A finger scrolls; it does not draw a range.
    if (event.pointerType !== "touch") drag(place);
    else opened.value = place.name;
  }
}

/**
 * Until the button is let go: a range, or a click when it never left its cell.
 * @param {Place} start
 */
function drag(start) {
  let left = false;
  const moved = (/** @type {PointerEvent} */ event) => {
    const place = placeOf(event);
    if (!place?.name || (!left && place.name === start.name)) return;
    left = true;
    selection.value = between(layout.value, start, place);
  };
  const ended = () => {
    removeEventListener("pointermove", moved);
    removeEventListener("pointerup", ended);
    removeEventListener("pointercancel", ended);
    if (left) return;
    selection.value = new Set();
    opened.value = start.name;
  };
  addEventListener("pointermove", moved);
  addEventListener("pointerup", ended);
  addEventListener("pointercancel", ended);
}

/** @param {KeyboardEvent} event */
function typed(event) {
  const place = active.value;
  const wide = event.ctrlKey || event.metaKey;
  if (wide && event.key.toLowerCase() === "a") {
    selection.value = new Set(layout.value.rows.flatMap((row) => row.names.flat()));
  } else if (event.key === "Enter") {
    if (place.name === "") useHeading(place.key);
    else opened.value = place.name;
  } else if (event.key === " ") {
    if (place.name === "") selection.value = new Set(namesOfRow(layout.value, place.key));
    else selection.value = toggled(selection.value, place.name);
    anchor = place;
  } else if (event.key === "Escape" && selection.value.size) {
    selection.value = new Set();
  } else {
    const page = Math.max(1, Math.floor(viewport.value.height / 36) - 2);
    const target = move(layout.value, place, wide ? `Ctrl+${event.key}` : event.key, page);
    if (!target) return;
    if (event.shiftKey && target.name !== "") {
      anchor ??= place;
      selection.value = between(layout.value, anchor, target);
    } else {
      anchor = target;
    }
    go(target);
    if (opened.value !== null && target.name !== "" && !event.shiftKey) opened.value = target.name;
  }
  event.preventDefault();
  event.stopPropagation();
}

/**
 * Scrolls so far that the place is in sight.
 * @param {HTMLElement} scroller
 * @param {Place} place
 */
function reveal(scroller, place) {
  const row = layout.value.rows.find((candidate) => candidate.key === place.key);
  if (!row) return;
  const inside = scroller.clientHeight - HEADER_HEIGHT;
  const cell = row.cells.find((candidate) => candidate.name === place.name);
  const isHigh = row.height > inside;
  const top = cell && isHigh ? row.top + boxOf(row, cell).top : row.top;
  const height = isHigh ? row.height / row.lanes : row.height;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  if (top + height > scroller.scrollTop + inside) scroller.scrollTop = top + height - inside;
  if (!cell) return;
  const { left, width } = boxOf(row, cell);
  const across = scroller.clientWidth - HEADING_WIDTH;
  if (left < scroller.scrollLeft) scroller.scrollLeft = left - 2;
  if (left + width > scroller.scrollLeft + across) scroller.scrollLeft = left + width + 2 - across;
}

export function Grid() {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const measure = () => {
    const element = scroller.current;
    if (!element) return;
    const { scrollTop: top, scrollLeft: left, clientWidth: width, clientHeight } = element;
    viewport.value = { top, left, width, height: clientHeight - HEADER_HEIGHT };
  };
  useEffect(() => {
    const observer = new ResizeObserver(measure);
    if (scroller.current) observer.observe(scroller.current);
    return () => observer.disconnect();
  }, []);

  // What stood at the left edge stays there when a day becomes wider.
  const width = dayWidth.value;
  const widthBefore = useRef(width);
  useLayoutEffect(() => {
    if (scroller.current) scroller.current.scrollLeft *= width / widthBefore.current;
    widthBefore.current = width;
  }, [width]);

  // The drawer takes room from the grid: its pool stays in sight beside it.
  const pool = opened.value === null ? undefined : pools.get(opened.value);
  useLayoutEffect(() => {
    if (pool && scroller.current) reveal(scroller.current, { key: rowKey(pool.zone, pool.kind), name: pool.name });
  }, [pool?.name, viewportWidth.value]);

  const { rows, height, columns } = layout.value;
  const place = active.value;
  const activeIndex = rows.findIndex((row) => row.key === place.key);

  useLayoutEffect(() => {
    if (!focusWanted || !scroller.current) return;
    reveal(scroller.current, place);
    const target = place.name ? `[data-name="${CSS.escape(place.name)}"]` : `[data-heading="${CSS.escape(place.key)}"]`;
    const element = /** @type {HTMLElement | null} */ (scroller.current.querySelector(target));
    // Before the pools are there, nothing is: the wish stays.
    if (element) focusWanted = false;
    element?.focus({ preventScroll: true });
  }, [place]);

  const [start, end] = rowsInSight.value.split(" ").map(Number);
  const shown = [];
  // The row with the keyboard stays in the document, or scrolling it out of sight would lose the focus.
  if (activeIndex >= 0 && activeIndex < start) shown.push(activeIndex);
  for (let index = start; index < end; index += 1) shown.push(index);
  if (activeIndex >= end) shown.push(activeIndex);

  return html`
    <div
      class="grid ${moment.value === null ? "" : "then"}"
      ref=${scroller}
      role="grid"
      aria-label="Pools by zone, kind and day"
      aria-rowcount=${rows.length + 1}
      aria-colcount=${columns + 1}
      aria-multiselectable="true"
      onScroll=${measure}
      onKeyDown=${typed}
      onPointerDown=${pressed}
      onPointerOver=${(/** @type {Event} */ event) => (hovered.value = placeOf(event)?.name || null)}
      onPointerLeave=${() => (hovered.value = null)}
    >
      <${Header} />
      <div
        class="body"
        role="rowgroup"
        style=${{ height: `${height}px`, width: `${HEADING_WIDTH + width * days.value.length}px` }}
      >
        <${Stripes} height=${height} />
        ${shown.map(
          (index) => html`
            <${RowView}
              key=${rows[index].key}
              row=${rows[index]}
              index=${index}
              sight=${daysInSight.value}
              lanes=${lanesInSight(rows[index])}
              isActive=${index === activeIndex}
            />
          `,
        )}
      </div>
    </div>
  `;
}
