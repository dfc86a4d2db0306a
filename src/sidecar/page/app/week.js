// Copying a week onto another, with a preview.
import { html, useEffect, useState } from "./vendor/runtime.js";
import { tooMany } from "./amounts.js";
import { changePools, isAbort, listPools, messageOf, Problem } from "./api.js";
import { count, effectOf, loadOf, number, TIGHTEST, withDefinition } from "./figures.js";
import { take } from "./inventory.js";
import { GRID_POOLS_MAX, PREVIEW_ROWS_MAX } from "./limits.js";
import { matcher } from "./layout.js";
import { Modal, closeDialog } from "./modal.js";
import { notify } from "./notices.js";
import { clock, filter, from as firstDay, settings } from "./state.js";
import { addDays, dayAndMonth, isDay, mondayOf } from "./times.js";
import { planWeek } from "./week-plan.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./week-plan.js").Wanted} Wanted */

const CHOICES = /** @type {[keyof Wanted, string][]} */ ([
  ["limits", "limits and overbooking"],
  ["times", "opening and closing times"],
  ["state", "open or closed"],
  ["mode", "mode"],
  ["create", "create slots that are missing"],
]);

/** Pools that are named when somebody asks. */
const NAMED = 40;

/**
 * @param {string} monday
 * @param {AbortSignal} signal
 */
async function readWeek(monday, signal) {
  const [start, end] = [monday, addDays(monday, 7)].map((day) => clock.value.rfc3339(clock.value.instant(day, 0)));
  const { pools, more } = await listPools({ from: start, to: end }, { signal });
  if (more) throw new Error(`The week of ${dayAndMonth(monday)} has more than ${number(GRID_POOLS_MAX)} slots: use \`plimsoll pool export\` and \`import\`.`);
  return pools.filter(matcher(filter.value));
}

/**
 * A field of a patch in words.
 * @param {import("./api.js").Patch} patch
 */
function patchText(patch) {
  return Object.entries(patch)
    .map(([field, value]) => {
      if (value !== null && typeof value === "object") {
        const amounts = Object.entries(value).map(([dimension, amount]) => `${dimension} ${number(amount)}`);
        return `${field === "limits" ? "" : "overbooking "}${amounts.join(", ")}`;
      }
      const title = field.replace("_at", "");
      return field.endsWith("_at") ? `${title} ${value === null ? "never" : clock.value.short(Date.parse(String(value)))}` : String(value);
    })
    .join(", ");
}

/** @param {{ label: string, monday: string, change: (monday: string) => void }} properties */
function WeekChoice({ label, monday, change }) {
  return html`
    <label class="week">
      ${label}
      <input type="date" value=${monday} onChange=${(/** @type {any} */ event) => isDay(event.target.value) && change(mondayOf(event.target.value))} />
      <span class="dim">${dayAndMonth(monday)} – ${dayAndMonth(addDays(monday, 6))}</span>
    </label>
  `;
}

export function WeekDialog() {
  const [from, setFrom] = useState(mondayOf(addDays(firstDay.value, 6)));
  const [to, setTo] = useState(mondayOf(addDays(firstDay.value, 13)));
  const [wanted, setWanted] = useState(/** @type {Wanted} */ ({ limits: true, times: false, state: false, mode: false, create: true }));
  const [weeks, setWeeks] = useState(/** @type {{ source: Pool[], target: Pool[] } | null} */ (null));
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const [round, setRound] = useState(0);

  useEffect(() => {
    const controller = new AbortController();
    setWeeks(null);
    Promise.all([readWeek(from, controller.signal), readWeek(to, controller.signal)]).then(
      ([source, target]) => setWeeks({ source, target }),
      (error) => isAbort(error) || setFailure(messageOf(error)),
    );
    return () => controller.abort();
  }, [from, to, round]);

  const chosen = (/** @type {(monday: string) => void} */ set) => (/** @type {string} */ monday) => {
    setFailure("");
    set(monday);
  };
  const plan = weeks && from !== to ? planWeek(weeks.source, weeks.target, { from, to, clock: clock.value, wanted }) : null;
  const total = plan ? plan.changes.length + plan.creations.length : 0;
  const excess = tooMany(total, settings.value.changes_max);
  const overs = (plan?.changes ?? []).filter(
    ({ pool, patch }) => loadOf(withDefinition(pool, /** @type {Partial<Pool>} */ (patch)), TIGHTEST).over > 0,
  ).length;

  async function apply() {
    if (!plan) return;
    setBusy(true);
    setFailure("");
    try {
      const changes = [
        ...plan.changes.map(({ pool, patch }) => ({ pool: pool.name, if_match: pool.etag, patch })),
        ...plan.creations.map(({ name, definition }) => ({ pool: name, if_none_match: /** @type {const} */ ("*"), definition })),
      ];
      take((await changePools(changes)).pools);
      notify(`${count(plan.changes.length, "slot")} changed, ${number(plan.creations.length)} created.`);
      closeDialog();
      return;
    } catch (error) {
      if (error instanceof Problem && error.changedMeanwhile) {
        const [first] = error.document.conflicts ?? [];
        setFailure(
          plan.creations.some(({ name }) => name === first?.pool)
            ? `Nothing was copied: there is a pool ${first.pool} already, in another week or made meanwhile. Copy without it by a filter, or without missing slots.`
            : `Nothing was copied: somebody else changed ${first?.pool ?? "a slot"} meanwhile. The preview shows the slots as they are now.`,
        );
        setRound(round + 1);
      } else {
        setFailure(messageOf(error));
      }
    }
    setBusy(false);
  }
  return html`
    <${Modal} title="Copy a week onto another" wide>
      <div class="choices">
        <${WeekChoice} label="from the week of" monday=${from} change=${chosen(setFrom)} />
        <${WeekChoice} label="onto the week of" monday=${to} change=${chosen(setTo)} />
      </div>
      <div class="choices">
        ${CHOICES.map(
          ([name, text]) => html`
            <label key=${name}>
              <input type="checkbox" checked=${wanted[name]} onChange=${() => setWanted({ ...wanted, [name]: !wanted[name] })} /> ${text}
            </label>
          `,
        )}
      </div>
      ${filter.value && html`<p class="dim">Only what fits the filter “${filter.value}”.</p>`}
      <p class="dim">A slot at 08:00 stays at 08:00 by the clocks of ${clock.value.timeZone}, also where they change in between.</p>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${from === to && html`<p class="wrong">Choose two different weeks.</p>`}
      ${!weeks && !failure && html`<p class="dim">Reading both weeks…</p>`}
      ${plan &&
      html`
        <p aria-live="polite">
          <b>${number(plan.changes.length)}</b> changed, <b>${number(plan.creations.length)}</b> created, ${number(plan.unchanged)} equal.
          ${plan.missing.length > 0 && ` ${number(plan.missing.length)} are missing there.`}
          ${plan.taken.length > 0 &&
          html` <b class="over" title=${plan.taken.slice(0, NAMED).join(" ")}
            >${number(plan.taken.length)} cannot be created: pools of their names are there at other times, as ${plan.taken[0]}.</b
          >`}
          ${plan.alone.length > 0 && ` ${number(plan.alone.length)} of the other week have no source and stay as they are.`}
          ${overs > 0 && html` <b class="over">${number(overs)} would be over their limit.</b>`}
        </p>
        ${excess &&
        html`<p class="wrong" role="alert">
          ${excess} Filter the grid by zone or kind and copy in parts, or import a sheet of the week by <code>plimsoll pool import FILE</code>.
        </p>`}
        <div class="preview" role="group" aria-label="Preview" tabindex="0"><table>
          <thead>
            <tr><th>pool</th><th>starts</th><th>becomes</th><th>then</th></tr>
          </thead>
          <tbody>
            ${plan.changes.slice(0, PREVIEW_ROWS_MAX).map(({ pool, patch }) => {
              const after = loadOf(withDefinition(pool, /** @type {Partial<Pool>} */ (patch)), TIGHTEST);
              return html`
                <tr key=${pool.name}>
                  <td>${pool.name}</td>
                  <td>${clock.value.short(Date.parse(pool.starts_at))}</td>
                  <td>${patchText(patch)}</td>
                  <td class=${after.over > 0 ? "over" : ""}>${effectOf(after)}</td>
                </tr>
              `;
            })}
            ${plan.creations.slice(0, Math.max(0, PREVIEW_ROWS_MAX - plan.changes.length)).map(
              ({ name, definition }) => html`
                <tr key=${name}>
                  <td>${name}</td>
                  <td>${clock.value.short(Date.parse(definition.starts_at))}</td>
                  <td><b>new</b>, ${patchText({ limits: definition.limits })}</td>
                  <td></td>
                </tr>
              `,
            )}
          </tbody>
        </table></div>
        ${total > PREVIEW_ROWS_MAX && html`<p class="dim">and ${number(total - PREVIEW_ROWS_MAX)} more</p>`}
      `}
      <div class="buttons">
        <button type="button" class="primary" disabled=${busy || total === 0 || excess !== ""} onClick=${apply}>
          ${total ? `Copy onto ${count(total, "slot")}` : "Copy"}
        </button>
        <button type="button" onClick=${closeDialog}>Cancel</button>
        <span class="dim">All are changed, or none.</span>
      </div>
    <//>
  `;
}
