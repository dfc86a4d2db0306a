// Server-sent events, read by fetch: so that the lag in the comments is seen, and a last event's id can be sent.
import { Problem, query } from "./api.js";

/**
 * @typedef {object} StreamOptions
 * @property {Record<string, string | undefined>} [filters]
 * @property {string} [lastEventId]
 * @property {AbortSignal} signal
 * @property {() => void} [opened]
 * @property {(event: import("./api.js").PoolEvent) => void} event
 * @property {(id: string) => void} [position] where to go on after a break; everything before it was told
 * @property {() => void} [caughtUp] the past that was asked for has been told
 * @property {(comment: string) => void} [comment]
 */

/**
 * Gathers the lines of a stream into events and comments. A problem that ends the stream is thrown.
 * @param {Pick<StreamOptions, "event" | "position" | "caughtUp" | "comment">} take
 */
export function parser({ event, position, caughtUp, comment }) {
  let rest = "";
  let id = "";
  let name = "";
  /** @type {string[]} */
  let data = [];

  /** @param {string} line */
  function line(line) {
    if (line === "") {
      if (name === "problem") {
        const document = JSON.parse(data.join("\n"));
        throw new Problem(document.status, document);
      }
      if (name === "caught_up") caughtUp?.();
      else if (data.length) event(JSON.parse(data.join("\n")));
      if (id) position?.(id);
      [id, name, data] = ["", "", []];
    } else if (line.startsWith(":")) {
      comment?.(line.slice(1).trim());
    } else {
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data.push(value);
      if (field === "id") id = value;
      if (field === "event") name = value;
    }
  }

  return (/** @type {string} */ chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) line(text.replace(/\r$/, ""));
  };
}

/**
 * Reads one connection to its end; who calls decides whether there is another.
 * @param {StreamOptions} options
 */
export async function readStream({ filters = {}, lastEventId, signal, opened, ...take }) {
  const response = await fetch(`/v1/events${query(filters)}`, {
    headers: { Accept: "text/event-stream", ...(lastEventId ? { "Last-Event-ID": lastEventId } : {}) },
    signal,
    cache: "no-store",
  });
  if (!response.ok || !response.body) throw new Problem(response.status, await response.json().catch(() => ({})));
  opened?.();
  const parse = parser(take);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parse(value);
  }
}
