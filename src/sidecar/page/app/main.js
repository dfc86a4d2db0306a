// The page: its frame, its views, and the order in which it starts.
import { effect, html, render, signal, untracked, useEffect } from "./vendor/runtime.js";
import { getSettings, messageOf } from "./api.js";
import { Customer } from "./customer.js";
import { drafts, guardDrafts } from "./drafts.js";
import { Drawer } from "./drawer.js";
import { number } from "./figures.js";
import { Grid, focusGrid } from "./grid.js";
import { Health } from "./health.js";
import { load, loading, pools } from "./inventory.js";
import { matcher } from "./layout.js";
import { ConnectionMark, follow } from "./live.js";
import { Notices } from "./notices.js";
import { EmptyGrid, StatusBar } from "./status.js";
import { ChangeList, PastBar } from "./past.js";
import { LimitsDialog, SelectionBar } from "./ranges.js";
import { serverNow } from "./server-clock.js";
import { SheetDialog } from "./sheet.js";
import { ShortcutsDialog, shortcut } from "./shortcuts.js";
import { VIEWS, clock, dialog, filter, from, keepAddress, moment, now, opened, selection, settings, showPool, view } from "./state.js";
import { Toolbar } from "./toolbar.js";
import { TurnedAway } from "./turned-away.js";
import { WeekDialog } from "./week.js";

const TITLES = { grid: "Grid", "turned-away": "Turned away", customer: "Customer’s view", health: "Health" };

const CLOCK_MS = 5_000;

/** Set when the page cannot begin. */
const failure = signal("");
const ready = signal(false);

/** Leads back to what was edited and not saved. */
function Unsaved() {
  const bases = [...drafts.value.values()].map(({ base }) => base);
  if (bases.length === 0) return null;
  const place = bases.findIndex(({ name }) => name === opened.value);
  return html`
    <button type="button" class="unsaved" title="Show the next pool with changes that are not saved" onClick=${() => showPool(bases[(place + 1) % bases.length])}>
      ${number(bases.length)} not saved
    </button>
  `;
}

function TopBar() {
  return html`
    <header class="top">
      <a class="brand" href="#/grid" aria-label="Plimsoll, to the grid">
        <img src="/page/icon.svg" alt="" width="20" height="20" /><b>Plimsoll</b>
      </a>
      <nav aria-label="Views">
        ${VIEWS.map(
          (name) => html`
            <a
              key=${name}
              href=${`#/${name}`}
              aria-current=${view.value === name ? "page" : undefined}
              onClick=${(/** @type {Event} */ event) => {
                event.preventDefault();
                view.value = name;
              }}
              >${TITLES[name]}</a
            >
          `,
        )}
      </nav>
      <span class="spring"></span>
      <${Unsaved} />
      <${ConnectionMark} />
      <span class="zone" title="All times are shown in the installation’s time zone">${settings.value.time_zone}</span>
      <button type="button" class="plain" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${() => (dialog.value = "shortcuts")}>?</button>
    </header>
  `;
}

function GridView() {
  const shown = loading.value;
  return html`
    <h1 class="unseen">Grid</h1>
    <${Toolbar} />
    ${moment.value !== null && html`<${PastBar} />`}
    <div class="workplace">
      <div class="sheet" aria-busy=${shown.busy}>
        <${Grid} />
        <${EmptyGrid} />
        <${SelectionBar} />
      </div>
      ${moment.value !== null && opened.value === null && html`<${ChangeList} />`}
      ${opened.value !== null && html`<${Drawer} key=${opened.value} name=${opened.value} />`}
    </div>
    <${StatusBar} />
  `;
}

function Page() {
  useEffect(() => {
    addEventListener("keydown", shortcut);
    return () => removeEventListener("keydown", shortcut);
  }, []);
  if (failure.value) {
    return html`
      <main class="broken">
        <h1>The page could not start</h1>
        <p>${failure.value}</p>
        <button type="button" class="primary" onClick=${start}>Try again</button>
      </main>
    `;
  }
  if (!ready.value) return html`<main class="broken" aria-busy="true"><p>Connecting…</p></main>`;
  return html`
    <${TopBar} />
    <main class="view-${view.value}">
      ${view.value === "grid" && html`<${GridView} />`}
      ${view.value === "turned-away" && html`<${TurnedAway} />`}
      ${view.value === "customer" && html`<${Customer} />`}
      ${view.value === "health" && html`<${Health} />`}
    </main>
    ${dialog.value === "limits" && html`<${LimitsDialog} />`} ${dialog.value === "week" && html`<${WeekDialog} />`}
    ${dialog.value === "sheet" && html`<${SheetDialog} />`} ${dialog.value === "shortcuts" && html`<${ShortcutsDialog} />`}
    <${Notices} />
  `;
}

async function start() {
  failure.value = "";
  try {
    settings.value = await getSettings();
    // A browser that does not know the zone cannot show the times of this installation.
    void clock.value;
  } catch (error) {
    failure.value = messageOf(error);
    return;
  }
  now.value = serverNow();
  setInterval(() => (now.value = serverNow()), CLOCK_MS);
  keepAddress();
  guardDrafts();
  ready.value = true;
  let first = true;
  effect(() => {
    void from.value;
    // What is selected is in sight, or not selected.
    selection.value = new Set();
    const then = moment.value;
    // The first time, the live stream loads the grid once it is open.
    if (!first || then !== null) untracked(() => void load(then));
    first = false;
  });
  effect(() => {
    // The same when a filter takes it out of sight.
    const isShown = matcher(filter.value);
    const names = untracked(() => [...selection.value]);
    const kept = names.filter((name) => {
      const pool = pools.get(name);
      return pool && isShown(pool);
    });
    if (kept.length < names.length) selection.value = new Set(kept);
  });
  void follow();
  focusGrid();
}

render(html`<${Page} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
void start();
