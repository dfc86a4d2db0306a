// What happened to a pool: who, when, what.
import { html, useEffect, useRef, useState } from "./vendor/runtime.js";
import { isAbort, messageOf, poolEvents } from "./api.js";
import { differing, fieldsOf, titleOf } from "./definition.js";
import { CHANGES, readPast } from "./feed.js";
import { count, number, unitsText } from "./figures.js";
import { watched } from "./inventory.js";
import { HISTORY_PAGE } from "./limits.js";
import { clock } from "./state.js";

/** @typedef {import("./api.js").PoolEvent} PoolEvent */

const REFRESH_MS = 1_000;
/** Pools of a group that are named when somebody asks. */
const NAMED = 40;

/**
 * What an event did, in words.
 * @param {PoolEvent} event
 * @param {PoolEvent | undefined} before the pool's definition before it, where that is known
 */
export function eventText(event, before) {
  const units = unitsText(event.units);
  switch (event.kind) {
    case "reserved":
      return `reserved ${units}${event.would_refuse ? ", past the limit (shadow)" : ""}`;
    case "confirmed":
      return `confirmed ${units}`;
    case "resized":
      return `resized ${unitsText(event.previous_units)} → ${units}`;
    case "released":
      return `released ${units}${event.cause === "reset" ? " by a reset" : ""}`;
    case "expired":
      return `hold expired, ${units} free again`;
    case "turned_away":
      return `turned away ${number(event.refusals ?? 0)}, who asked for ${units}`;
    case "pool_created":
      return `created with ${unitsText(event.definition?.limits ?? event.after?.limits) || "limits of 0"}`;
    case "pool_changed":
      return changeText(event, before);
    case "pool_reset":
      return "reset to an earlier moment";
    case "pool_retired":
      return "retired";
    default:
      return event.kind.replaceAll("_", " ");
  }
}

/**
 * @param {PoolEvent} event
 * @param {PoolEvent | undefined} before
 */
function changeText(event, before) {
  if (event.definition && before?.definition) {
    const [old, now] = [fieldsOf(before.definition, clock.value), fieldsOf(event.definition, clock.value)];
    const changes = differing(old, now).map((field) => `${titleOf(field)} ${old[field] || "none"} → ${now[field] || "none"}`);
    if (changes.length) return changes.join(", ");
  }
  const state = event.definition ? `, ${event.definition.state}` : "";
  return `changed to ${unitsText(event.after?.limits)}${state}`;
}

/**
 * For each event, newest first, the one that gave the pool the definition it had before.
 * @param {PoolEvent[]} events
 * @returns {Map<string, PoolEvent>}
 */
export function definitionsBefore(events) {
  const found = new Map();
  /** @type {Map<string, string>} by pool, the newer event that waits for its predecessor */
  const waits = new Map();
  for (const event of events) {
    if (!event.definition) continue;
    const newer = waits.get(event.pool);
    if (newer !== undefined) found.set(newer, event);
    waits.set(event.pool, event.id);
  }
  return found;
}

/**
 * Events that one call made of many pools: the same, in the same second, by the same.
 * @param {PoolEvent[]} events
 * @returns {{ event: PoolEvent, before: PoolEvent | undefined, pools: string[] }[]} in their order
 */
export function grouped(events) {
  const before = definitionsBefore(events);
  /** @type {Map<string, { event: PoolEvent, before: PoolEvent | undefined, pools: string[] }>} */
  const groups = new Map();
  for (const event of events) {
    const key = [event.at.slice(0, 19), event.actor, eventText(event, before.get(event.id))].join("\n");
    const group = groups.get(key);
    if (group) group.pools.push(event.pool);
    else groups.set(key, { event, before: before.get(event.id), pools: [event.pool] });
  }
  return [...groups.values()];
}

/** @param {{ event: PoolEvent, before?: PoolEvent, pools?: string[] }} properties */
export function EventLine({ event, before, pools = [] }) {
  const at = Date.parse(event.at);
  return html`
    <li class="event ${event.kind}">
      <time datetime=${event.at} title=${event.occurred_at ? `occurred at ${clock.value.stamp(Date.parse(event.occurred_at))}` : event.at}
        >${clock.value.stamp(at)}</time
      >
      <span class="what">
        ${pools.length > 0 && html`<b title=${pools.slice(0, NAMED).join(" ")}>${pools.length === 1 ? pools[0] : count(pools.length, "pool")}</b> `}${eventText(event, before)}
        ${event.reference && html` <span class="reference">${event.reference}</span>`}
      </span>
      <span class="who" title=${event.actor ? undefined : "Nobody is known by name before there is authentication"}>${event.actor ?? "—"}</span>
    </li>
  `;
}

/** @param {{ name: string }} properties */
export function History({ name }) {
  const [onlyChanges, setOnlyChanges] = useState(false);
  const [page, setPage] = useState(/** @type {{ events: PoolEvent[], next: string | null }} */ ({ events: [], next: null }));
  const [state, setState] = useState("loading");
  const pool = watched(name);

  /** @param {AbortSignal} signal */
  async function read(signal) {
    try {
      if (onlyChanges) {
        const { events } = await readPast({ since: 0, pool: name, kind: CHANGES }, signal);
        setPage({ events: events.reverse(), next: null });
      } else {
        setPage(await poolEvents(name, { limit: HISTORY_PAGE, signal }));
      }
      setState("");
    } catch (error) {
      if (!isAbort(error)) setState(messageOf(error));
    }
  }

  useEffect(() => {
    const controller = new AbortController();
    setState("loading");
    void read(controller.signal);
    return () => controller.abort();
  }, [name, onlyChanges]);

  // New events show themselves, as long as nobody has paged into the past. A busy pool changes more often than it is read.
  const seen = useRef(pool);
  const current = useRef({ pool, page, read, onlyChanges });
  current.current = { pool, page, read, onlyChanges };
  useEffect(() => {
    const controller = new AbortController();
    const timer = setInterval(() => {
      const { pool, page, read, onlyChanges } = current.current;
      const isNew = onlyChanges ? pool?.etag !== seen.current?.etag : pool !== seen.current;
      if (!isNew || page.events.length > HISTORY_PAGE) return;
      seen.current = pool;
      void read(controller.signal);
    }, REFRESH_MS);
    return () => {
      clearInterval(timer);
      controller.abort();
    };
  }, [name]);

  async function more() {
    try {
      const older = await poolEvents(name, { limit: HISTORY_PAGE, cursor: page.next ?? undefined });
      setPage({ events: [...page.events, ...older.events], next: older.next });
    } catch (error) {
      setState(messageOf(error));
    }
  }

  const before = definitionsBefore(page.events);
  return html`
    <div class="bar-of-choices">
      <label><input type="checkbox" checked=${onlyChanges} onChange=${() => setOnlyChanges(!onlyChanges)} /> only changes of the pool</label>
    </div>
    ${state === "loading" && page.events.length === 0 && html`<p class="dim">Reading the history…</p>`}
    ${state !== "" && state !== "loading" && html`<p class="wrong" role="alert">${state}</p>`}
    ${state === "" && page.events.length === 0 && html`<p class="dim">Nothing happened to this pool yet.</p>`}
    <ol class="events">
      ${page.events.map((event) => html`<${EventLine} key=${event.id} event=${event} before=${before.get(event.id)} />`)}
    </ol>
    ${page.next !== null && html`<button type="button" onClick=${more}>Older</button>`}
  `;
}
