// Below the grid: what the pointer or the keyboard is on, and what the marks mean. In place of the grid: why it is empty.
import { html, useEffect, useState } from "./vendor/runtime.js";
import { isAbort, listPools } from "./api.js";
import { wordsOf } from "./cell.js";
import { count, effectOf, instantOf, loadIn, marksOf, number } from "./figures.js";
import { active, focusGrid, hovered, layout } from "./grid.js";
import { load, loading, watched } from "./inventory.js";
import { GRID_POOLS_MAX } from "./limits.js";
import { clock, days, filter, from, moment, now } from "./state.js";
import { dayAndMonth, mondayOf } from "./times.js";

const LEGEND = [
  ["confirmed", "confirmed"],
  ["held", "held"],
  ["low", "last tenth"],
  ["full", "full"],
  ["over", "over its limit"],
  ["closed", "closed"],
  ["past", "past closing time"],
  ["shadow", "shadow"],
];

/** @param {{ name: string }} properties */
function PoolLine({ name }) {
  const pool = watched(name);
  if (!pool) return null;
  const closes = instantOf(pool.closes_at);
  const words = wordsOf(marksOf(pool, moment.value ?? now.value));
  return html`
    <b>${pool.zone} ${pool.kind}</b>
    <span>${clock.value.range(Date.parse(pool.starts_at), Date.parse(pool.ends_at))}</span>
    ${Object.keys(pool.limits).map((dimension) => {
      const load = loadIn(pool, dimension);
      return html`<span key=${dimension}
        >${dimension} ${number(load.confirmed)} + ${number(load.held)} of ${number(load.ceiling)}, <b>${effectOf(load)}</b></span
      >`;
    })}
    ${words.length > 0 && html`<span class="words">${words.join(", ")}</span>`}
    ${closes !== null && closes > now.value && html`<span class="dim">closes ${clock.value.short(closes)}</span>`}
  `;
}

export function StatusBar() {
  const name = hovered.value ?? active.value.name;
  const { busy, count: loaded, more } = loading.value;
  return html`
    <footer class="status">
      <div class="line">
        ${name
          ? html`<${PoolLine} name=${name} />`
          : html`<span class="dim">${count(layout.value.poolCount, "pool")}${busy ? `, loading ${number(loaded)}…` : ""}</span>`}
        ${more && html`<b class="words">Only the first ${number(GRID_POOLS_MAX)} pools by name are shown: there are more in these two weeks</b>`}
      </div>
      <div class="legend" aria-hidden="true">
        ${LEGEND.map(([mark, text]) => html`<span key=${mark}><i class="swatch ${mark}"></i>${text}</span>`)}
      </div>
    </footer>
  `;
}

/** @typedef {{ first: string, last: string } | "none" | "looking" | "unknown"} Known from when to when there are pools at all */

/**
 * @param {AbortSignal} signal
 * @returns {Promise<Known>}
 */
async function findDays(signal) {
  const { pools } = await listPools({}, { signal });
  const starts = pools.map((pool) => Date.parse(pool.starts_at)).sort((a, b) => a - b);
  const day = (/** @type {number} */ instant) => clock.value.local(instant).day;
  return starts.length ? { first: day(starts[0]), last: day(starts[starts.length - 1]) } : "none";
}

function datesText() {
  const [first, last] = [days.value[0], days.value[days.value.length - 1]];
  return `${dayAndMonth(first)} to ${dayAndMonth(last)} ${last.slice(0, 4)}`;
}

function NoPools() {
  const [known, setKnown] = useState(/** @type {Known} */ ("looking"));
  const past = moment.value !== null;
  useEffect(() => {
    if (past) return;
    const controller = new AbortController();
    findDays(controller.signal).then(setKnown, (error) => isAbort(error) || setKnown("unknown"));
    return () => controller.abort();
  }, [past]);

  /** @param {string} day */
  function go(day) {
    from.value = day;
    focusGrid();
  }
  if (past) return html`<div class="empty"><h2>There were no pools from ${datesText()} then</h2></div>`;
  return html`
    <div class="empty">
      <h2>No pools from ${datesText()}</h2>
      ${known === "looking" && html`<p>Looking for days with pools…</p>`}
      ${known === "none" &&
      html`<p>There are no pools yet. Import a CSV file (button “CSV…”), or run <code>plimsoll pool import FILE</code>.</p>`}
      ${typeof known === "object" &&
      html`
        <p>There are pools from ${dayAndMonth(known.first)} ${known.first.slice(0, 4)} to ${dayAndMonth(known.last)} ${known.last.slice(0, 4)}.</p>
        <div class="buttons">
          <button type="button" class="primary" onClick=${() => go(known.first)}>To the first</button>
          <button type="button" class="primary" onClick=${() => go(mondayOf(known.last))}>To the last</button>
        </div>
      `}
    </div>
  `;
}

export function EmptyGrid() {
  const { busy, count: loaded, error } = loading.value;
  if (layout.value.poolCount > 0) return busy ? html`<div class="progress" aria-hidden="true"></div>` : null;
  if (error) {
    return html`
      <div class="empty" role="alert">
        <h2>The grid could not be loaded</h2>
        <p>${error}</p>
        <button type="button" class="primary" onClick=${() => load(moment.value)}>Try again</button>
      </div>
    `;
  }
  if (busy) {
    return html`<div class="empty"><p>Loading pools${loaded ? ` (${number(loaded)} so far)` : ""}…</p></div>`;
  }
  if (filter.value) {
    return html`
      <div class="empty">
        <h2>Nothing fits “${filter.value}”</h2>
        <p>No zone, kind or pool from ${datesText()} has these words.</p>
        <button type="button" onClick=${() => (filter.value = "")}>Show all</button>
      </div>
    `;
  }
  return html`<${NoPools} />`;
}
