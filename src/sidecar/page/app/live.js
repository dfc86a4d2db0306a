// The live connection: follows the events of all pools, connects again, and says how far behind it is.
import { html, signal } from "./vendor/runtime.js";
import { getSettings, isAbort, Problem } from "./api.js";
import { TIGHTEST } from "./figures.js";
import { load, loading, receive } from "./inventory.js";
import { lagOf } from "./lag.js";
import { notify } from "./notices.js";
import { latenessMeter } from "./server-clock.js";
import { dimension, moment, now, settings } from "./state.js";
import { readStream } from "./stream.js";
import { duration } from "./times.js";

const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 8_000;
// Further behind than this, loading the grid anew shows the present sooner than reading on.
const BEHIND_MAX_MS = 10_000;
// The server says how far behind it is every 5 s. One that is missing is told: what the grid shows may be old by then. After three the
// connection is taken for dead.
const SILENCE_USUAL_MS = 7_000;
const SILENCE_MAX_MS = 16_000;

/**
 * @typedef {object} Connection
 * @property {"connecting" | "live" | "lost"} state
 * @property {number | null} lagMs from the change to the page
 * @property {number} since when the state began
 */

export const connection = signal(/** @type {Connection} */ ({ state: "connecting", lagMs: null, since: Date.now() }));
/** Streams that began without a place: what happened before is not told. */
export const begun = signal(0);
/** Events of the last second. */
export const eventRate = signal(0);
/** Whole seconds since anything was heard; 0 while that is as usual. */
const silence = signal(0);

/** @type {Set<(event: import("./api.js").PoolEvent) => void>} */
const listeners = new Set();

/**
 * Tells every event of the live stream.
 * @param {(event: import("./api.js").PoolEvent) => void} listener
 * @returns {() => void} ends it
 */
export function listen(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** What was stopped and started can be another program, or have other data. */
async function readSettings() {
  const found = await getSettings().catch(() => settings.value);
  if (found.version !== settings.value.version) notify("The server has another version now: reload the page.", "wrong");
  if (!found.dimensions.includes(dimension.value)) dimension.value = TIGHTEST;
  if (JSON.stringify(found) !== JSON.stringify(settings.value)) settings.value = found;
}

/** Follows the events until the page is closed. */
export async function follow() {
  let lastEventId = "";
  let pause = PAUSE_MIN_MS;
  let counted = 0;
  const lateness = latenessMeter();
  setInterval(() => {
    eventRate.value = counted;
    counted = 0;
  }, 1_000);
  for (;;) {
    const controller = new AbortController();
    const began = Date.now();
    let heard = began;
    const watchdog = setInterval(() => {
      const silent = Date.now() - heard;
      if (silent > SILENCE_USUAL_MS) silence.value = Math.floor(silent / 1_000);
      if (silent > SILENCE_MAX_MS) controller.abort();
    }, 1_000);
    const hear = () => {
      heard = Math.max(Date.now(), began + 1);
      silence.value = 0;
    };
    const lag = (/** @type {number} */ lagMs) => {
      if (connection.value.lagMs !== lagMs) connection.value = { ...connection.value, lagMs };
    };
    let lagMs = 0;
    try {
      await readStream({
        lastEventId,
        signal: controller.signal,
        opened() {
          hear();
          if (connection.value.state === "lost") void readSettings();
          if (lastEventId === "") begun.value += 1;
          connection.value = { state: "live", lagMs: connection.value.lagMs, since: heard };
          // Loaded after the stream began, so that no change falls between the two. What could not be loaded meanwhile, the
          // stream does not tell either.
          if (moment.value === null && (lastEventId === "" || loading.value.error)) void load(null);
        },
        event(event) {
          hear();
          pause = PAUSE_MIN_MS;
          counted += 1;
          lagMs = lateness.of(Date.parse(event.at), heard);
          if (counted % 16 === 1) lag(lagMs);
          receive(event);
          for (const listener of listeners) listener(event);
        },
        position(id) {
          lastEventId = id;
        },
        comment(comment) {
          hear();
          pause = PAUSE_MIN_MS;
          const told = lagOf(comment);
          if (told === null) return;
          lateness.told(told);
          lag(told);
        },
      });
    } catch (error) {
      if (!isAbort(error)) lagMs = 0;
      // The server does not know the place: it runs on other data, or on a backup.
      if (error instanceof Problem && error.slug === "bad-header") lastEventId = "";
    }
    clearInterval(watchdog);
    // Without the stream the grid is as new as the last attempt to have it.
    if (heard === began && moment.value === null) void load(null);
    if (lagMs > BEHIND_MAX_MS) lastEventId = "";
    if (connection.value.state !== "lost") connection.value = { state: "lost", lagMs: null, since: Date.now() };
    await new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 2)));
    pause = Math.min(PAUSE_MAX_MS, pause * 2);
  }
}

export function ConnectionMark() {
  const { state, lagMs, since } = connection.value;
  const mark = state === "live" && silence.value > 0 ? "silent" : state;
  const texts = {
    connecting: "connecting…",
    live: lagMs === null ? "live" : `live, ${duration(lagMs)} behind`,
    silent: `nothing heard for ${silence.value} s`,
    lost: `connection lost ${duration(Math.max(1_000, now.value - since))} ago, trying again…`,
  };
  // Without figures, so that it is read out once and not every second.
  const spoken = { connecting: "connecting", live: "live", silent: "nothing heard from the server", lost: "connection lost" };
  return html`
    <span class="connection ${mark}">
      <span class="unseen" role="status">${spoken[mark]}</span>
      <i aria-hidden="true"></i>${texts[mark]}
      ${state === "live" && eventRate.value > 0 && html`<span class="dim">${eventRate.value}/s</span>`}
    </span>
  `;
}
