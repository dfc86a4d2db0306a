// The grid as a spreadsheet: download it, edit it, see what would change, import it.
import { html, useState } from "./vendor/runtime.js";
import { changePools, checkSheet, listPools, messageOf, Problem } from "./api.js";
import { tooMany } from "./amounts.js";
import { decodeSheet, download, parseCsv } from "./csv.js";
import { count, number } from "./figures.js";
import { layout } from "./grid.js";
import { pools, take } from "./inventory.js";
import { IMPORT_BYTES_MAX, PREVIEW_ROWS_MAX } from "./limits.js";
import { Modal, closeDialog } from "./modal.js";
import { notify } from "./notices.js";
import { changesOf, definitionsOf, poolsCsv } from "./pool-file.js";
import { clock, days, moment, selection, settings } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").LineError} LineError */
/** @typedef {import("./pool-file.js").SheetChange} SheetChange */

/**
 * @typedef {object} Preview
 * @property {string} text
 * @property {LineError[]} errors
 * @property {SheetChange[]} changes
 * @property {number} unchanged
 */

/** @param {Iterable<string>} names */
function save(names) {
  const found = [...names].map((name) => pools.get(name)).filter((pool) => pool !== undefined);
  download(`pools-${days.value[0]}.csv`, poolsCsv(found, settings.value.dimensions, clock.value));
}

/**
 * Asks the server what is wrong with a sheet, and finds what it would change.
 * @param {string} text
 * @param {Pool[]} [also] pools that are known to exist, wherever their windows lie
 * @returns {Promise<Preview>}
 */
async function preview(text, also = []) {
  const errors = await checkSheet(text);
  if (errors.length) return { text, errors, changes: [], unchanged: 0 };
  const rows = definitionsOf(text, settings.value.dimensions);
  let [start, end] = [Infinity, -Infinity];
  for (const { definition } of rows) {
    start = Math.min(start, Date.parse(definition.starts_at));
    end = Math.max(end, Date.parse(definition.ends_at));
  }
  const known = new Map();
  if (rows.length) {
    // The windows of the file, and those of the grid: a sheet can also move a pool to another day.
    const span = { from: new Date(start).toISOString(), to: new Date(end).toISOString() };
    for (const pool of pools.values()) known.set(pool.name, pool);
    for (const pool of [...(await listPools(span)).pools, ...also]) known.set(pool.name, pool);
  }
  const found = changesOf(text, known, { dimensions: settings.value.dimensions, clock: clock.value });
  return { text, errors, ...found };
}

/**
 * Imports what was previewed, by the versions that the preview was made from.
 * @param {Preview} shown
 */
async function importSheet({ changes }) {
  const wanted = changes.map(({ name, before, definition }) =>
    before ? { pool: name, if_match: before.etag, definition } : { pool: name, if_none_match: /** @type {const} */ ("*"), definition },
  );
  const done = await changePools(wanted);
  take(done.pools);
  return done.pools.length;
}

/** @param {{ errors: LineError[], text: string }} properties */
function Errors({ errors, text }) {
  const rows = parseCsv(text);
  const header = rows[0]?.cells ?? [];
  const byLine = new Map(rows.map((row) => [row.line, row.cells]));
  return html`
    <p class="wrong" role="alert">Nothing can be imported: ${count(errors.length, "error")}.</p>
    <div class="preview" role="group" aria-label="Preview" tabindex="0"><table>
      <thead>
        <tr><th class="number">line</th><th>column</th><th>cell</th><th>what is wrong</th></tr>
      </thead>
      <tbody>
        ${errors.slice(0, PREVIEW_ROWS_MAX).map(
          (error) => html`
            <tr>
              <td class="number">${error.line}</td>
              <td>${error.column}</td>
              <td>${byLine.get(error.line)?.[header.indexOf(error.column)] ?? ""}</td>
              <td>${error.detail}</td>
            </tr>
          `,
        )}
      </tbody>
    </table></div>
    ${errors.length > PREVIEW_ROWS_MAX && html`<p class="dim">and ${number(errors.length - PREVIEW_ROWS_MAX)} more</p>`}
  `;
}

/** @param {{ shown: Preview }} properties */
function Changes({ shown }) {
  const created = shown.changes.filter(({ before }) => before === null).length;
  const excess = tooMany(shown.changes.length, settings.value.changes_max);
  return html`
    <p>
      <b>${number(shown.changes.length - created)}</b> changed, <b>${number(created)}</b> new, ${number(shown.unchanged)} equal.
    </p>
    ${excess && html`<p class="wrong" role="alert">${excess} Import a sheet of fewer days, or the file by <code>plimsoll pool import FILE</code>.</p>`}
    <div class="preview" role="group" aria-label="Preview" tabindex="0"><table>
      <thead>
        <tr><th class="number">line</th><th>pool</th><th>change</th></tr>
      </thead>
      <tbody>
        ${shown.changes.slice(0, PREVIEW_ROWS_MAX).map(
          ({ line, name, before, fields }) => html`
            <tr key=${name}>
              <td class="number">${line}</td>
              <td>${name}</td>
              <td>
                ${before === null
                  ? html`<b>new</b>`
                  : fields.map(({ field, from, to }) => html`<span class="change">${field} ${from} → <b>${to}</b></span>`)}
              </td>
            </tr>
          `,
        )}
      </tbody>
    </table></div>
    ${shown.changes.length > PREVIEW_ROWS_MAX && html`<p class="dim">and ${number(shown.changes.length - PREVIEW_ROWS_MAX)} more</p>`}
  `;
}

export function SheetDialog() {
  const [shown, setShown] = useState(/** @type {Preview | null} */ (null));
  const [busy, setBusy] = useState("");
  const [failure, setFailure] = useState("");

  /** @param {File | undefined} file */
  async function read(file) {
    if (!file) return;
    setShown(null);
    setFailure("");
    if (file.size > IMPORT_BYTES_MAX) return setFailure(`The file is larger than ${IMPORT_BYTES_MAX / 1024 / 1024} MiB.`);
    setBusy("Checking…");
    try {
      setShown(await preview(decodeSheet(await file.arrayBuffer())));
    } catch (error) {
      setFailure(messageOf(error));
    }
    setBusy("");
  }
  async function confirm() {
    if (!shown) return;
    setBusy("Importing…");
    setFailure("");
    try {
      notify(`${count(await importSheet(shown), "pool")} imported.`);
      closeDialog();
    } catch (error) {
      if (error instanceof Problem && error.changedMeanwhile) {
        /** @type {{ pool: string, current: Pool | null }[]} */
        const conflicts = error.document.conflicts ?? [];
        const names = conflicts.slice(0, 3).map(({ pool }) => pool).join(", ") || "a pool";
        setFailure(`Nothing was imported: ${names} changed since the preview, or is in another window. This is the new preview.`);
        setShown(await preview(shown.text, conflicts.map(({ current }) => current).filter((pool) => pool !== null)).catch(() => null));
      } else {
        setFailure(messageOf(error));
      }
    }
    setBusy("");
  }
  /** Without it the browser does not tell that the same file, edited once more, was chosen again. */
  const forget = (/** @type {any} */ event) => (event.target.value = "");
  const all = () => save(layout.value.rows.flatMap((row) => row.names.flat()));
  return html`
    <${Modal} title="The grid as a spreadsheet" wide>
      <section>
        <h3>Download</h3>
        <div class="buttons">
          <button type="button" onClick=${all}>These two weeks, ${count(layout.value.poolCount, "pool")}</button>
          ${selection.value.size > 0 &&
          html`<button type="button" onClick=${() => save(selection.value)}>Selected, ${count(selection.value.size, "pool")}</button>`}
        </div>
        <p class="dim">
          Edit limits, overbooking, times, state and mode, save as CSV, and import it here. The columns held, confirmed and remaining are for reading.
        </p>
      </section>
      <section>
        <h3>Import</h3>
        ${moment.value !== null
          ? html`<p class="dim">The past cannot be changed: go back to the present to import.</p>`
          : html`<input type="file" accept=".csv,text/csv" aria-label="CSV file" onClick=${forget} onChange=${(/** @type {any} */ event) => read(event.target.files[0])} />`}
        ${busy && html`<p class="dim" aria-live="polite">${busy}</p>`} ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
        ${shown && shown.errors.length > 0 && html`<${Errors} errors=${shown.errors} text=${shown.text} />`}
        ${shown && shown.errors.length === 0 && html`<${Changes} shown=${shown} />`}
      </section>
      <div class="buttons">
        <button
          type="button"
          class="primary"
          disabled=${busy !== "" || !shown || shown.changes.length === 0 || shown.changes.length > settings.value.changes_max}
          onClick=${confirm}
        >
          ${shown?.changes.length ? `Import ${count(shown.changes.length, "pool")}` : "Import"}
        </button>
        <button type="button" onClick=${closeDialog}>Cancel</button>
        <span class="dim">All lines are taken, or none.</span>
      </div>
    <//>
  `;
}
