// Editing one pool: limits with a preview of the effect, and what to do when somebody else changed it meanwhile.
import { html, useId, useState } from "./vendor/runtime.js";
import { getPool, messageOf, patchPool, Problem } from "./api.js";
import { amountsOf, differing, faultOf, fieldsOf, patchOf, titleOf } from "./definition.js";
import { drafts, forgetDraft, keepDraft, rebaseDraft } from "./drafts.js";
import { effectOf, loadIn, withDefinition } from "./figures.js";
import { notify } from "./notices.js";
import { clock } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./definition.js").Fields} Fields */

/**
 * @param {{ base: Fields, mine: Fields, theirs: Fields, onTop: () => void, discard: () => void }} properties
 */
export function Conflict({ base, mine, theirs, onTop, discard }) {
  const fields = Object.keys(theirs).filter((field) => base[field] !== theirs[field] || base[field] !== mine[field]);
  return html`
    <section class="conflict" role="alert">
      <h3>Somebody else changed this pool while you were editing</h3>
      <table>
        <thead>
          <tr><th>field</th><th>was</th><th>yours</th><th>theirs, now</th></tr>
        </thead>
        <tbody>
          ${fields.map(
            (field) => html`
              <tr key=${field}>
                <th scope="row">${titleOf(field)}</th>
                <td>${base[field] || "none"}</td>
                <td class=${mine[field] !== base[field] ? "differs" : ""}>${mine[field] || "none"}</td>
                <td class=${theirs[field] !== base[field] ? "differs" : ""}>${theirs[field] || "none"}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
      <div class="buttons">
        <button type="button" onClick=${onTop}>Put my changes on top of theirs</button>
        <button type="button" onClick=${discard}>Take theirs</button>
      </div>
    </section>
  `;
}

/** @param {{ pool: Pool, changed: (pool: Pool) => void }} properties changed: takes the pool as the server answered it */
export function LimitsForm({ pool, changed }) {
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");

  const kept = drafts.value.get(pool.name);
  const base = kept?.base ?? pool;
  const baseFields = fieldsOf(base, clock.value);
  const draft = kept?.fields ?? baseFields;
  const edited = differing(baseFields, draft);
  const newer = base.etag !== pool.etag;
  const faults = Object.fromEntries(edited.map((field) => [field, faultOf(field, draft[field])]));
  const broken = Object.values(faults).some((fault) => fault !== null);
  const after = withDefinition(pool, amountsOf(draft));

  /** @param {string} field */
  const input = (field) => ({
    id: `${id}-${field}`,
    value: draft[field],
    "aria-invalid": faults[field] ? "true" : undefined,
    "data-edited": edited.includes(field) ? "" : undefined,
    onInput: (/** @type {any} */ event) => keepDraft(base, { ...draft, [field]: event.target.value }),
  });

  /** @param {Event} event */
  async function save(event) {
    event.preventDefault();
    setBusy(true);
    setFailure("");
    try {
      const saved = await patchPool(pool.name, patchOf(baseFields, draft, clock.value), base.etag);
      forgetDraft(pool.name);
      changed(saved);
      notify("Saved.");
    } catch (error) {
      if (error instanceof Problem && error.changedMeanwhile) {
        // With the pool as it is now, the form shows both versions.
        changed(error.document.current ?? (await getPool(pool.name)));
      } else {
        setFailure(messageOf(error));
      }
    }
    setBusy(false);
  }
  const undo = () => forgetDraft(pool.name);
  return html`
    ${newer &&
    html`<${Conflict} base=${baseFields} mine=${draft} theirs=${fieldsOf(pool, clock.value)} onTop=${() => rebaseDraft(pool)} discard=${undo} />`}
    <form class="limits" onSubmit=${save}>
      <table>
        <thead>
          <tr><th scope="col"><span class="unseen">dimension</span></th><th scope="col">limit</th><th scope="col">overbook</th><th scope="col">then</th></tr>
        </thead>
        <tbody>
          ${Object.keys(pool.limits).map((dimension) => {
            const load = loadIn(after, dimension);
            const fault = faults[`limits.${dimension}`] ?? faults[`overbook.${dimension}`];
            return html`
              <tr key=${dimension}>
                <th scope="row">${dimension}</th>
                <td><input inputmode="numeric" autocomplete="off" aria-label=${`limit of ${dimension}`} ...${input(`limits.${dimension}`)} /></td>
                <td><input inputmode="numeric" autocomplete="off" aria-label=${`overbooking of ${dimension}`} ...${input(`overbook.${dimension}`)} /></td>
                <td class="then ${load.over > 0 ? "over" : ""}" aria-live="polite">${fault ?? effectOf(load)}</td>
              </tr>
            `;
          })}
        </tbody>
      </table>
      <div class="fields">
        <label for=${`${id}-opens_at`}>opens</label><input type="datetime-local" ...${input("opens_at")} />
        <label for=${`${id}-closes_at`}>closes</label><input type="datetime-local" ...${input("closes_at")} />
        <label for=${`${id}-mode`}>mode</label>
        <select ...${input("mode")}>
          <option value="enforce">enforce the limits</option>
          <option value="shadow">shadow: record all, refuse none</option>
        </select>
        ${pool.coverage.length > 0 && html`<span>serves</span><span class="dim">${pool.coverage.join(" ")}</span>`}
      </div>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      <div class="buttons">
        <button type="submit" class="primary" disabled=${busy || broken || newer || edited.length === 0}>Save</button>
        ${edited.length > 0 && html`<button type="button" onClick=${undo}>Undo</button>`}
        <span class="dim">times in ${clock.value.timeZone}</span>
      </div>
    </form>
  `;
}
