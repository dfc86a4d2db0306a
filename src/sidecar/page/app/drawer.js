// The drawer of one pool: how it stands, its limits, its reservations, its history.
import { html, useEffect, useRef, useState } from "./vendor/runtime.js";
import { getPool, isAbort, messageOf, patchPool, Problem } from "./api.js";
import { barOf, wordsOf } from "./cell.js";
import { drafts, rebaseDraft } from "./drafts.js";
import { effectOf, instantOf, loadIn, marksOf, number } from "./figures.js";
import { focusGrid } from "./grid.js";
import { History } from "./history.js";
import { take, watched } from "./inventory.js";
import { LimitsForm } from "./limits-form.js";
import { notify } from "./notices.js";
import { Customers, Reservations } from "./reservations.js";
import { clock, moment, now, opened } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */

const TABS = ["limits", "reservations", "history"];

export function closeDrawer() {
  opened.value = null;
  focusGrid();
}

/** @param {{ pool: Pool }} properties */
function Standing({ pool }) {
  return html`
    <dl class="standing">
      ${Object.keys(pool.limits).map((dimension) => {
        const load = loadIn(pool, dimension);
        return html`
          <div key=${dimension} class=${load.over > 0 ? "over" : load.free <= 0 ? "full" : load.share >= 0.9 ? "low" : ""} style=${barOf(load)}>
            <dt>${dimension}</dt>
            <dd>
              <span><b>${number(load.confirmed)}</b> confirmed</span> <span><b>${number(load.held)}</b> held</span>
              <span>of <b>${number(load.limit)}</b>${load.ceiling > load.limit ? ` + ${number(load.ceiling - load.limit)}` : ""}</span>
              <b class="effect">${effectOf(load)}</b>
              <span class="bar"></span>
            </dd>
          </div>
        `;
      })}
    </dl>
  `;
}

/** @param {{ pool: Pool, changed: (pool: Pool) => void }} properties */
function CloseOrOpen({ pool, changed }) {
  const [busy, setBusy] = useState(false);
  const closing = pool.state === "open";
  async function change() {
    setBusy(true);
    try {
      const saved = await patchPool(pool.name, { state: closing ? "closed" : "open" }, pool.etag);
      // What is being edited beside it is not in conflict with the planner's own change, only with those of others.
      if (drafts.value.get(pool.name)?.base.etag === pool.etag) rebaseDraft(saved);
      changed(saved);
      notify(closing ? "Closed: nothing more is sold here." : "Open for sale.");
    } catch (error) {
      if (error instanceof Problem && error.changedMeanwhile) {
        changed(error.document.current ?? (await getPool(pool.name)));
        notify("Somebody else changed this pool just now. Look at it and try again.", "wrong");
      } else {
        notify(messageOf(error), "wrong");
      }
    }
    setBusy(false);
  }
  return html`<button type="button" disabled=${busy} onClick=${change}>${closing ? "Close for sale" : "Open for sale"}</button>`;
}

/** @param {{ name: string }} properties */
export function Drawer({ name }) {
  const [tab, setTab] = useState(TABS[0]);
  const [failure, setFailure] = useState("");
  const panel = useRef(/** @type {HTMLElement | null} */ (null));
  const pool = watched(name);
  const past = moment.value !== null;

  // An address can name a pool that the grid does not hold.
  const [fetched, setFetched] = useState(/** @type {Pool | null} */ (null));
  useEffect(() => {
    if (pool) return;
    const controller = new AbortController();
    getPool(name, controller.signal).then(setFetched, (error) => isAbort(error) || setFailure(messageOf(error)));
    return () => controller.abort();
  }, [name, pool === undefined]);

  const changed = (/** @type {Pool} */ now) => {
    take([now]);
    setFetched(now);
  };
  const shown = pool ?? fetched;
  const tabs = past ? ["history"] : TABS;
  const current = tabs.includes(tab) ? tab : tabs[0];
  const marks = shown && marksOf(shown, moment.value ?? now.value);
  const closes = shown && instantOf(shown.closes_at);

  /** @param {KeyboardEvent} event */
  function typed(event) {
    if (event.key === "Escape") {
      closeDrawer();
      event.stopPropagation();
    }
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step && /** @type {HTMLElement} */ (event.target).getAttribute("role") === "tab") {
      setTab(tabs[(tabs.indexOf(current) + step + tabs.length) % tabs.length]);
      requestAnimationFrame(() => /** @type {HTMLElement | null} */ (panel.current?.querySelector("[aria-selected=true]"))?.focus());
    }
  }
  return html`
    <aside class="drawer" aria-label=${`Pool ${name}`} ref=${panel} onKeyDown=${typed}>
      <header>
        <div>
          <h2>${shown ? `${shown.zone} ${shown.kind}` : name}</h2>
          ${shown &&
          html`<p>
            ${clock.value.range(Date.parse(shown.starts_at), Date.parse(shown.ends_at))}
            ${closes !== null && html`<span class="dim">, ${closes > now.value ? "closes" : "closed"} ${clock.value.short(closes)}</span>`}
          </p>`}
          <p class="dim name">${name}</p>
        </div>
        <button type="button" class="plain" aria-label="Close the drawer" title="Close (Escape)" onClick=${closeDrawer}>×</button>
      </header>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${!shown && !failure && html`<p class="dim">Reading…</p>`}
      ${shown &&
      html`
        <div class="badges">
          ${marks && wordsOf(marks).map((word) => html`<span key=${word} class="badge ${word.split(" ")[0]}">${word}</span>`)}
          ${past ? html`<span class="badge">as of ${clock.value.stamp(/** @type {number} */ (moment.value))}</span>` : html`<${CloseOrOpen} pool=${shown} changed=${changed} />`}
          ${!past && shown.state === "closed" && html`<${Customers} name=${name} />`}
        </div>
        <${Standing} pool=${shown} />
        <div class="tabs" role="tablist" aria-label="About this pool">
          ${tabs.map(
            (each) => html`
              <button
                key=${each}
                type="button"
                role="tab"
                id=${`tab-${each}`}
                aria-selected=${each === current}
                aria-controls="tab-panel"
                tabindex=${each === current ? 0 : -1}
                onClick=${() => setTab(each)}
              >
                ${each}
              </button>
            `,
          )}
        </div>
        <div class="tab-panel" role="tabpanel" id="tab-panel" aria-labelledby=${`tab-${current}`}>
          ${current === "limits" && html`<${LimitsForm} pool=${shown} changed=${changed} />`}
          ${current === "reservations" && html`<${Reservations} name=${name} />`}
          ${current === "history" && html`<${History} name=${name} />`}
        </div>
      `}
    </aside>
  `;
}
