// The past as the stream of events tells it: everything since a moment, to the end.
import { FEED_EVENTS_MAX } from "./limits.js";
import { readStream } from "./stream.js";

/** @typedef {import("./api.js").PoolEvent} PoolEvent */

/** What changes a pool itself, rather than what is reserved of it. */
export const CHANGES = "pool_created,pool_changed,pool_reset,pool_retired";

/**
 * @param {{ since: number, kind?: string, pool?: string, zone?: string }} wanted
 * @param {AbortSignal} signal
 * @returns {Promise<{ events: PoolEvent[], whole: boolean }>} in the order told; not whole when there are more than the page takes
 */
export async function readPast({ since, ...filters }, signal) {
  const controller = new AbortController();
  const stop = () => controller.abort();
  signal.addEventListener("abort", stop);
  /** @type {PoolEvent[]} */
  const events = [];
  let whole = false;
  try {
    await readStream({
      filters: { ...filters, since: new Date(since).toISOString() },
      signal: controller.signal,
      event(event) {
        if (events.length < FEED_EVENTS_MAX) events.push(event);
        else stop();
      },
      caughtUp() {
        whole = true;
        stop();
      },
    });
  } catch (error) {
    if (signal.aborted || !controller.signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return { events, whole };
}
