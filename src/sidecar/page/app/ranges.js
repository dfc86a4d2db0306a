// Changing many pools at once: all of them, or none.
import { html, useState } from "./vendor/runtime.js";
import { changePools, getPool, messageOf, Problem } from "./api.js";
import { AMOUNT_MAX, changedLimit, tooMany } from "./amounts.js";
import { download } from "./csv.js";
import { count, effectOf, loadIn, number, withDefinition } from "./figures.js";
import { layout } from "./grid.js";
import { pools, take } from "./inventory.js";
import { PREVIEW_ROWS_MAX } from "./limits.js";
import { Modal, closeDialog } from "./modal.js";
import { sameTimeOfDay } from "./navigation.js";
import { notify } from "./notices.js";
import { poolsCsv } from "./pool-file.js";
import { clock, dialog, dimension, moment, selection, settings } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").Patch} Patch */
/** @typedef {{ pool: Pool, patch: Patch }} Edit a pool as it was seen, and what shall become of it */

/** @returns {Pool[]} */
const selected = () => [...selection.value].map((name) => pools.get(name)).filter((pool) => pool !== undefined);

/**
 * Sends edits as one call. Those that somebody else changed meanwhile are taken into the grid, and returned.
 * @param {Edit[]} edits
 * @returns {Promise<Pool[]>} empty when all was done
 */
export async function applyEdits(edits) {
  const excess = tooMany(edits.length, settings.value.changes_max);
  if (excess) throw new Error(`${excess} Select fewer.`);
  try {
    const changes = edits.map(({ pool, patch }) => ({ pool: pool.name, if_match: pool.etag, patch }));
    take((await changePools(changes)).pools);
    return [];
  } catch (error) {
    if (!(error instanceof Problem) || !error.changedMeanwhile) throw error;
    /** @type {{ pool: string, current?: Pool | null }[]} */
    const conflicts = error.document.conflicts ?? [];
    const current = conflicts.map(async (conflict) => conflict.current ?? (await getPool(conflict.pool)));
    const newer = await Promise.all(current);
    take(newer);
    return newer;
  }
}

/** @param {"open" | "closed"} state */
async function setState(state) {
  const edits = selected()
    .filter((pool) => pool.state !== state)
    .map((pool) => ({ pool, patch: { state } }));
  if (edits.length === 0) return notify(`All of them are ${state} already.`);
  try {
    const conflicts = await applyEdits(edits);
    if (conflicts.length) {
      notify(`Nothing was changed: somebody else changed ${conflicts[0].name} just now. Look at it and try again.`, "wrong");
    } else {
      notify(`${count(edits.length, "pool")} ${state} now.`);
    }
  } catch (error) {
    notify(messageOf(error), "wrong");
  }
}

export function SelectionBar() {
  const size = selection.value.size;
  if (size === 0) return null;
  const zones = new Set(selected().map((pool) => pool.zone));
  const past = moment.value !== null;
  return html`
    <div class="selection-bar" role="toolbar" aria-label="Selected pools">
      <span aria-live="polite"><b>${count(size, "pool")}</b> in ${count(zones.size, "zone")}</span>
      <button type="button" class="primary" disabled=${past} onClick=${() => (dialog.value = "limits")}>Limits…</button>
      <button type="button" disabled=${past} onClick=${() => setState("closed")}>Close</button>
      <button type="button" disabled=${past} onClick=${() => setState("open")}>Open</button>
      <button type="button" title="Also the slots at the same time on all days" onClick=${() => (selection.value = sameTimeOfDay(layout.value, selection.value))}>
        Same time, all days
      </button>
      <button type="button" onClick=${() => download("pools.csv", poolsCsv(selected(), settings.value.dimensions, clock.value))}>CSV</button>
      <button type="button" class="plain" aria-label="Clear the selection" title="Clear (Escape)" onClick=${() => (selection.value = new Set())}>×</button>
    </div>
  `;
}

/** @param {{ edits: { pool: Pool, limit: number }[], chosen: string }} properties */
function Preview({ edits, chosen }) {
  const rows = edits.slice(0, PREVIEW_ROWS_MAX);
  return html`
    <div class="preview" role="group" aria-label="Preview" tabindex="0"><table>
      <thead>
        <tr><th>pool</th><th>starts</th><th class="number">reserved</th><th class="number">limit</th><th class="number">new limit</th><th>then</th></tr>
      </thead>
      <tbody>
        ${rows.map(({ pool, limit }) => {
          const before = loadIn(pool, chosen);
          const after = loadIn(withDefinition(pool, { limits: { [chosen]: limit } }), chosen);
          return html`
            <tr key=${pool.name}>
              <td>${pool.zone} ${pool.kind}</td>
              <td>${clock.value.short(Date.parse(pool.starts_at))}</td>
              <td class="number">${number(before.used)}</td>
              <td class="number">${number(before.limit)}</td>
              <td class="number"><b>${number(limit)}</b></td>
              <td class=${after.over > 0 ? "over" : ""}>${effectOf(after)}</td>
            </tr>
          `;
        })}
      </tbody>
    </table></div>
    ${edits.length > rows.length && html`<p class="dim">and ${number(edits.length - rows.length)} more</p>`}
  `;
}

export function LimitsDialog() {
  const [chosen, setChosen] = useState(dimension.value || settings.value.dimensions[0]);
  const [way, setWay] = useState(/** @type {"set" | "shift" | "percent"} */ ("shift"));
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  /** The pools as the planner saw them when the dialog opened: what is changed is changed from there. */
  const [seen, setSeen] = useState(selected);
  const [conflicts, setConflicts] = useState(/** @type {Pool[]} */ ([]));

  const amount = Number(text.trim().replace("−", "-"));
  const valid = text.trim() !== "" && Number.isInteger(amount) && (way !== "set" || (amount >= 0 && amount <= AMOUNT_MAX));
  const edits = valid
    ? seen.map((pool) => ({ pool, limit: changedLimit(pool.limits[chosen], way, amount) })).filter(({ pool, limit }) => limit !== pool.limits[chosen])
    : [];
  const excess = tooMany(edits.length, settings.value.changes_max);
  const overs = edits.map(({ pool, limit }) => loadIn(withDefinition(pool, { limits: { [chosen]: limit } }), chosen).over);
  const over = overs.filter((units) => units > 0);

  /** @param {Event} event */
  async function apply(event) {
    event.preventDefault();
    setBusy(true);
    setFailure("");
    try {
      const newer = await applyEdits(edits.map(({ pool, limit }) => ({ pool, patch: { limits: { [chosen]: limit } } })));
      if (newer.length === 0) {
        notify(`${count(edits.length, "limit")} changed.`);
        closeDialog();
        return;
      }
      setConflicts(newer);
    } catch (error) {
      setFailure(messageOf(error));
    }
    setBusy(false);
  }
  /** Goes on from the pools as they are now. */
  function takeNewer() {
    const newer = new Map(conflicts.map((pool) => [pool.name, pool]));
    setSeen(seen.map((pool) => newer.get(pool.name) ?? pool));
    setConflicts([]);
  }
  const seenLimit = (/** @type {string} */ name) => seen.find((pool) => pool.name === name)?.limits[chosen] ?? 0;
  const plannedLimit = (/** @type {string} */ name) => edits.find(({ pool }) => pool.name === name)?.limit ?? 0;
  return html`
    <${Modal} title=${`Limits of ${count(seen.length, "pool")}`} wide>
      <form onSubmit=${apply}>
        <div class="choices">
          <select aria-label="Dimension" value=${chosen} onChange=${(/** @type {any} */ event) => setChosen(event.target.value)}>
            ${settings.value.dimensions.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
          </select>
          <select aria-label="How" value=${way} onChange=${(/** @type {any} */ event) => setWay(event.target.value)}>
            <option value="shift">shift by</option>
            <option value="percent">shift by per cent</option>
            <option value="set">set to</option>
          </select>
          <input
            aria-label="Amount"
            data-first
            autocomplete="off"
            placeholder=${way === "set" ? "120" : "+10 or -10"}
            value=${text}
            aria-invalid=${text && !valid ? "true" : undefined}
            onInput=${(/** @type {any} */ event) => setText(event.target.value)}
          />
          <span aria-live="polite" class=${over.length ? "over" : "dim"}>
            ${valid &&
            (over.length
              ? `${number(over.length)} would be over their limit, by ${number(over.reduce((sum, units) => sum + units, 0))} in all`
              : `${number(edits.length)} change, none would be over`)}
          </span>
        </div>
        ${conflicts.length > 0 &&
        html`
          <section class="conflict" role="alert">
            <h3>Nothing was changed: somebody else changed ${number(conflicts.length)} of these pools meanwhile</h3>
            <table>
              <thead>
                <tr><th>pool</th><th class="number">you saw</th><th class="number">you want</th><th class="number">theirs, now</th><th>state</th></tr>
              </thead>
              <tbody>
                ${conflicts.slice(0, PREVIEW_ROWS_MAX).map(
                  (pool) => html`
                    <tr key=${pool.name}>
                      <th scope="row">${pool.name}</th>
                      <td class="number">${number(seenLimit(pool.name))}</td>
                      <td class="number">${number(plannedLimit(pool.name))}</td>
                      <td class="number differs">${number(pool.limits[chosen])}</td>
                      <td>${pool.state}</td>
                    </tr>
                  `,
                )}
              </tbody>
            </table>
            <div class="buttons"><button type="button" onClick=${takeNewer}>Go on from theirs</button></div>
          </section>
        `}
        ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
        ${excess && html`<p class="wrong" role="alert">${excess} Select fewer.</p>`}
        ${edits.length > 0 && conflicts.length === 0 && html`<${Preview} edits=${edits} chosen=${chosen} />`}
        <div class="buttons">
          <button type="submit" class="primary" disabled=${busy || edits.length === 0 || excess !== "" || conflicts.length > 0}>
            ${edits.length ? `Change ${count(edits.length, "pool")}` : "Change"}
          </button>
          <button type="button" onClick=${closeDialog}>Cancel</button>
          <span class="dim">All are changed, or none.</span>
        </div>
      </form>
    <//>
  `;
}
