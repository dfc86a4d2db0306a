// The live connection: follows the events of all pools, connects again, and says how far behind it is.
import { html, signal } from "./vendor/runtime.js";
import { isAbort } from "./api.js";
import { load, receive } from "./inventory.js";
import { lagOf } from "./lag.js";
import { moment, now } from "./state.js";
import { latenessMeter } from "./server-clock.js";
import { readStream } from "./stream.js";
import { duration } from "./times.js";

const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 8_000;
// Further behind than this, loading the grid anew shows the present sooner than reading on.
const BEHIND_MAX_MS = 10_000;
// The server says how far behind it is every 5 s; after three that are missing, the connection is taken for dead.
const SILENCE_MAX_MS = 16_000;

/**
 * @typedef {object} Connection
 * @property {"connecting" | "live" | "lost"} state
 * @property {number | null} lagMs from the change to the page
 * @property {number} since when the state began
 */

export const connection = signal(/** @type {Connection} */ ({ state: "connecting", lagMs: null, since: Date.now() }));
/** Events of the last second. */
export const eventRate = signal(0);

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
      if (Date.now() - heard > SILENCE_MAX_MS) controller.abort();
    }, 1_000);
    const lag = (/** @type {number} */ lagMs) => {
      if (connection.value.lagMs !== lagMs) connection.value = { ...connection.value, lagMs };
    };
    let lagMs = 0;
    try {
      await readStream({
        lastEventId,
        signal: controller.signal,
        opened() {
          heard = Math.max(Date.now(), began + 1);
          connection.value = { state: "live", lagMs: connection.value.lagMs, since: heard };
          // Loaded after the stream began, so that no change falls between the two.
          if (lastEventId === "" && moment.value === null) void load(null);
        },
        event(event) {
          heard = Date.now();
          pause = PAUSE_MIN_MS;
          counted += 1;
          lagMs = lateness.of(Date.parse(event.at), heard);
          if (counted % 16 === 1) lag(lagMs);
          receive(event);
        },
        position(id) {
          lastEventId = id;
        },
        comment(comment) {
          heard = Date.now();
          pause = PAUSE_MIN_MS;
          const told = lagOf(comment);
          if (told === null) return;
          lateness.told(told);
          lag(told);
        },
      });
    } catch (error) {
      if (!isAbort(error)) lagMs = 0;
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
  const texts = {
    connecting: "connecting…",
    live: lagMs === null ? "live" : `live, ${duration(lagMs)} behind`,
    lost: `connection lost ${duration(Math.max(1_000, now.value - since))} ago, trying again…`,
  };
  return html`
    <span class="connection ${state}" role="status">
      <i aria-hidden="true"></i>${texts[state]}
      ${state === "live" && eventRate.value > 0 && html`<span class="dim">${eventRate.value}/s</span>`}
    </span>
  `;
}
