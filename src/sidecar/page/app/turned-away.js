// Who was turned away for want of capacity, by slot: where a higher limit would have sold.
import { html, useEffect, useState } from "./vendor/runtime.js";
import { getPool, isAbort, messageOf } from "./api.js";
import { readPast } from "./feed.js";
import { count, effectOf, loadOf, number, TIGHTEST, unitsText } from "./figures.js";
import { pools } from "./inventory.js";
import { serverNow } from "./server-clock.js";
import { clock, showPool } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").PoolEvent} PoolEvent */
/** @typedef {{ pool: string, refusals: number, units: Record<string, number>, first: string, last: string }} Refused */

const HOUR = 3_600_000;
const REACHES = /** @type {[string, number][]} */ ([
  ["hour", HOUR],
  ["day", 24 * HOUR],
  ["week", 7 * 24 * HOUR],
  ["5 weeks", 35 * 24 * HOUR],
]);
const ROWS = 100;
const REFRESH_MS = 30_000;

/**
 * @param {PoolEvent[]} events
 * @returns {Refused[]} by pool, most refusals first
 */
export function refusedByPool(events) {
  /** @type {Map<string, Refused>} */
  const found = new Map();
  for (const event of events) {
    const first = event.since ?? event.at;
    const sum = found.get(event.pool) ?? { pool: event.pool, refusals: 0, units: {}, first, last: event.at };
    sum.refusals += event.refusals ?? 1;
    for (const [dimension, amount] of Object.entries(event.units ?? {})) sum.units[dimension] = (sum.units[dimension] ?? 0) + amount;
    if (first < sum.first) sum.first = first;
    if (event.at > sum.last) sum.last = event.at;
    found.set(event.pool, sum);
  }
  return [...found.values()].sort((a, b) => b.refusals - a.refusals || (a.pool < b.pool ? -1 : 1));
}

export function TurnedAway() {
  const [reach, setReach] = useState(24 * HOUR);
  const [rows, setRows] = useState(/** @type {Refused[] | null} */ (null));
  const [whole, setWhole] = useState(true);
  const [known, setKnown] = useState(/** @type {Map<string, Pool>} */ (new Map()));
  const [failure, setFailure] = useState("");

  useEffect(() => {
    const controller = new AbortController();
    async function read() {
      try {
        const found = await readPast({ since: serverNow() - reach, kind: "turned_away" }, controller.signal);
        const sums = refusedByPool(found.events);
        const asked = sums.slice(0, ROWS).map(async ({ pool }) => pools.get(pool) ?? (await getPool(pool, controller.signal).catch(() => null)));
        const definitions = (await Promise.all(asked)).filter((pool) => pool !== null);
        setKnown(new Map(definitions.map((pool) => [pool.name, pool])));
        setRows(sums);
        setWhole(found.whole);
        setFailure("");
      } catch (error) {
        if (!isAbort(error)) setFailure(messageOf(error));
      }
    }
    setRows(null);
    void read();
    const again = setInterval(read, REFRESH_MS);
    return () => {
      clearInterval(again);
      controller.abort();
    };
  }, [reach]);

  const most = rows?.[0]?.refusals ?? 1;
  const sum = (rows ?? []).reduce((total, row) => total + row.refusals, 0);
  return html`
    <div class="page">
      <h1>Turned away</h1>
      <div class="choices">
        <select aria-label="Reach" value=${String(reach)} onChange=${(/** @type {any} */ event) => setReach(Number(event.target.value))}>
          ${REACHES.map(([name, length]) => html`<option key=${name} value=${String(length)}>last ${name}</option>`)}
        </select>
        ${rows && html`<span><b>${number(sum)}</b> turned away at ${count(rows.length, "slot")}</span>`}
        ${!whole && html`<span class="over">There are more than the page reads: choose a shorter reach.</span>`}
      </div>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${!rows && !failure && html`<p class="dim">Reading…</p>`}
      ${rows?.length === 0 && html`<p class="dim">Nobody was turned away. Refusals are counted by the minute, and show here when the minute is over.</p>`}
      ${rows &&
      rows.length > 0 &&
      html`
        <table class="turned-away">
          <thead>
            <tr><th>slot</th><th>starts</th><th class="number">turned away</th><td></td><th>asked for</th><th>last</th><th>now</th></tr>
          </thead>
          <tbody>
            ${rows.slice(0, ROWS).map((row) => {
              const pool = known.get(row.pool);
              return html`
                <tr key=${row.pool}>
                  <td>
                    ${pool ? html`<button type="button" class="link" title="Show it in the grid" onClick=${() => showPool(pool)}>${pool.zone} ${pool.kind}</button>` : row.pool}
                  </td>
                  <td>${pool && clock.value.short(Date.parse(pool.starts_at))}</td>
                  <td class="number"><b>${number(row.refusals)}</b></td>
                  <td><span class="bar low" style=${{ "--c": String(row.refusals / most) }}></span></td>
                  <td>${unitsText(row.units)}</td>
                  <td class="dim">${clock.value.stamp(Date.parse(row.last)).slice(0, 16)}</td>
                  <td>${pool && effectOf(loadOf(pool, TIGHTEST))}</td>
                </tr>
              `;
            })}
          </tbody>
        </table>
        ${rows.length > ROWS && html`<p class="dim">and ${number(rows.length - ROWS)} more</p>`}
      `}
    </div>
  `;
}
