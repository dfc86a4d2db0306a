// Which days, how close, which dimension, which zones; and what can be done with the grid as a whole.
import { html } from "./vendor/runtime.js";
import { TIGHTEST } from "./figures.js";
import { togglePast } from "./past.js";
import { DAYS, ZOOMS, dialog, dimension, filter, from, moment, settings, today, zoom } from "./state.js";
import { addDays, dayAndMonth, isDay } from "./times.js";

/** @param {number} count */
export const moveDays = (count) => (from.value = addDays(from.value, count));

/** @param {Event} event */
const valueOf = (event) => /** @type {HTMLInputElement} */ (event.target).value;

export function Toolbar() {
  const last = addDays(from.value, DAYS - 1);
  return html`
    <div class="toolbar" role="toolbar" aria-label="Grid">
      <div class="group">
        <button type="button" title="Two weeks back" aria-label="Two weeks back" onClick=${() => moveDays(-DAYS)}>«</button>
        <button type="button" title="A day back" aria-label="A day back" onClick=${() => moveDays(-1)}>‹</button>
        <button type="button" onClick=${() => (from.value = today.value)}>Today</button>
        <button type="button" title="A day on" aria-label="A day on" onClick=${() => moveDays(1)}>›</button>
        <button type="button" title="Two weeks on" aria-label="Two weeks on" onClick=${() => moveDays(DAYS)}>»</button>
      </div>
      <input
        type="date"
        aria-label="First day"
        value=${from.value}
        onChange=${(/** @type {Event} */ event) => isDay(valueOf(event)) && (from.value = valueOf(event))}
      />
      <span class="range">to ${dayAndMonth(last)} ${last.slice(0, 4)}</span>
      <div class="group" role="radiogroup" aria-label="Days that fill the screen">
        ${ZOOMS.map(
          (count) => html`
            <button
              key=${count}
              type="button"
              role="radio"
              aria-checked=${zoom.value === count}
              title=${count === 1 ? "One day fills the screen" : `${count} days fill the screen`}
              onClick=${() => (zoom.value = count)}
            >
              ${count === 1 ? "1 day" : count}
            </button>
          `,
        )}
      </div>
      <select
        aria-label="Dimension"
        value=${dimension.value}
        onChange=${(/** @type {Event} */ event) => (dimension.value = valueOf(event))}
      >
        <option value=${TIGHTEST}>fullest dimension</option>
        ${settings.value.dimensions.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
      <input
        type="search"
        id="filter"
        placeholder="Filter zones, kinds, pools"
        aria-label="Filter zones, kinds, pools"
        value=${filter.value}
        onInput=${(/** @type {Event} */ event) => (filter.value = valueOf(event))}
      />
      <span class="spring"></span>
      <button type="button" disabled=${moment.value !== null} onClick=${() => (dialog.value = "week")}>Copy week…</button>
      <button type="button" onClick=${() => (dialog.value = "sheet")}>CSV…</button>
      <button type="button" aria-pressed=${moment.value !== null} onClick=${togglePast}>Past</button>
    </div>
  `;
}
