// The past: a slider through it, and who changed what.
import { html, signal, useEffect, useMemo, useState } from "./vendor/runtime.js";
import { isAbort, messageOf } from "./api.js";
import { CHANGES, readPast } from "./feed.js";
import { number } from "./figures.js";
import { EventLine, grouped } from "./history.js";
import { loading } from "./inventory.js";
import { PREVIEW_ROWS_MAX } from "./limits.js";
import { serverNow } from "./server-clock.js";
import { clock, moment } from "./state.js";
import { duration } from "./times.js";

/** @typedef {import("./api.js").PoolEvent} PoolEvent */

const HOUR = 3_600_000;
const REACHES = /** @type {[string, number][]} */ ([
  ["10 minutes", HOUR / 6],
  ["hour", HOUR],
  ["day", 24 * HOUR],
  ["week", 7 * 24 * HOUR],
  ["5 weeks", 35 * 24 * HOUR],
]);
const STEPS = 1_000;
const SLIDING_MS = 200;

/** How far back the slider reaches. */
const reaching = signal(HOUR);
/** Until when it does: it must not move under the hand. */
const until = signal(0);

/** Shows the present, or the past from this moment on. */
export function togglePast() {
  if (moment.value !== null) return (moment.value = null);
  until.value = serverNow();
  moment.value = until.value;
}

export function PastBar() {
  const [sliding, setSliding] = useState(/** @type {number | null} */ (null));
  const at = sliding ?? /** @type {number} */ (moment.value);
  const reach = reaching.value;
  const start = until.value - reach;

  useEffect(() => {
    if (sliding === null) return;
    const timer = setTimeout(() => {
      moment.value = sliding;
      setSliding(null);
    }, SLIDING_MS);
    return () => clearTimeout(timer);
  }, [sliding]);

  /** @param {number} wanted */
  const slide = (wanted) => setSliding(Math.max(start, Math.min(until.value, wanted)));
  const position = Math.round(((at - start) / reach) * STEPS);
  return html`
    <div class="past-bar" role="region" aria-label="The past">
      <b>As it was</b>
      <input
        type="datetime-local"
        step="1"
        aria-label="Moment"
        value=${clock.value.stamp(at).replace(" ", "T")}
        onChange=${(/** @type {any} */ event) => {
          const wanted = clock.value.parseField(event.target.value);
          const seconds = Number(event.target.value.slice(17) || 0);
          if (Number.isFinite(wanted)) moment.value = Math.min(serverNow(), wanted + seconds * 1000);
        }}
      />
      <input
        type="range"
        min="0"
        max=${STEPS}
        value=${Math.max(0, Math.min(STEPS, position))}
        aria-label="Moment within the reach"
        aria-valuetext=${clock.value.stamp(at)}
        onInput=${(/** @type {any} */ event) => slide(start + (Number(event.target.value) / STEPS) * reach)}
      />
      <select
        aria-label="Reach of the slider"
        value=${String(reach)}
        onChange=${(/** @type {any} */ event) => {
          reaching.value = Number(event.target.value);
          setSliding(Math.max(at, until.value - reaching.value));
        }}
      >
        ${REACHES.map(([name, length]) => html`<option key=${name} value=${String(length)}>last ${name}</option>`)}
      </select>
      <span class="dim">${loading.value.busy ? "reading…" : `${duration(serverNow() - at)} ago`}</span>
      <span class="spring"></span>
      <button type="button" class="primary" onClick=${() => (moment.value = null)}>Back to the present</button>
    </div>
  `;
}

/** Who changed what, as far back as the slider reaches. */
export function ChangeList() {
  const since = until.value - reaching.value;
  const [found, setFound] = useState(/** @type {{ events: PoolEvent[], whole: boolean } | null} */ (null));
  const [failure, setFailure] = useState("");
  useEffect(() => {
    const controller = new AbortController();
    setFound(null);
    setFailure("");
    readPast({ since, kind: CHANGES }, controller.signal).then(
      ({ events, whole }) => setFound({ events: events.sort((a, b) => (a.at < b.at ? 1 : -1)), whole }),
      (error) => isAbort(error) || setFailure(messageOf(error)),
    );
    return () => controller.abort();
  }, [since]);

  const groups = useMemo(() => grouped(found?.events ?? []), [found]);
  return html`
    <section class="change-list" aria-label="Who changed what" tabindex="0">
      <h2>Who changed what</h2>
      ${failure && html`<p class="wrong" role="alert">${failure}</p>`}
      ${!found && !failure && html`<p class="dim">Reading…</p>`}
      ${found?.events.length === 0 && html`<p class="dim">No pool was changed since ${clock.value.stamp(since)}.</p>`}
      ${found && !found.whole && html`<p class="dim">There are more than are listed.</p>`}
      <ol class="events">
        ${groups
          .slice(0, PREVIEW_ROWS_MAX)
          .map(({ event, before, pools }) => html`<${EventLine} key=${event.id} event=${event} before=${before} pools=${pools} />`)}
      </ol>
      ${groups.length > PREVIEW_ROWS_MAX && html`<p class="dim">and ${number(groups.length - PREVIEW_ROWS_MAX)} more</p>`}
    </section>
  `;
}
