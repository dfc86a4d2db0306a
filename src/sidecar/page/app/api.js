// Every call to the server. An answer that is not a success is thrown as a Problem.
import { GRID_POOLS_MAX, POOLS_PAGE } from "./limits.js";
import { noteServerDate } from "./server-clock.js";

/** @typedef {Record<string, number>} Units amounts by dimension */

/**
 * @typedef {object} Pool
 * @property {string} name
 * @property {string} zone
 * @property {string} kind
 * @property {string} starts_at
 * @property {string} ends_at
 * @property {string | null} opens_at
 * @property {string | null} closes_at
 * @property {string[]} coverage
 * @property {"open" | "closed"} state
 * @property {"enforce" | "shadow"} mode
 * @property {Units} limits
 * @property {Units} overbook
 * @property {Units} held
 * @property {Units} confirmed
 * @property {Units} remaining
 * @property {string} etag of the definition, not of the counters
 */

/** @typedef {Omit<Pool, "held" | "confirmed" | "remaining" | "etag">} Definition */

/**
 * @typedef {object} PoolEvent
 * @property {string} id
 * @property {string} at
 * @property {string} kind
 * @property {string} pool
 * @property {string | null} reservation
 * @property {string | null} reference
 * @property {Units | null} units
 * @property {{ limits: Units, held: Units, confirmed: Units } | null} after
 * @property {string | null} actor
 * @property {string | null} occurred_at
 * @property {string} [cause]
 * @property {boolean} [would_refuse]
 * @property {Units} [previous_units]
 * @property {number} [refusals] how many were turned away
 * @property {string} [since] from when on they were
 * @property {Definition} [definition] what holds from then on
 */

/**
 * @typedef {object} Reservation
 * @property {string} reservation
 * @property {string} pool
 * @property {Units} units
 * @property {"held" | "confirmed" | "released" | "expired"} state
 * @property {string | null} expires_at
 * @property {string | null} reference
 * @property {string} created_at
 * @property {boolean} [would_refuse]
 */

/**
 * @typedef {object} Offer
 * @property {string} pool
 * @property {string} zone
 * @property {string} kind
 * @property {string} starts_at
 * @property {string} ends_at
 * @property {"none" | "low" | "some" | "plenty"} band
 * @property {boolean} fits
 */

/** @typedef {{ time_zone: string, dimensions: string[], version: string, changes_max: number }} Settings changes_max: pools changed by one call */
/** @typedef {Record<string, unknown>} Patch a merge patch of a pool's definition */
/** @typedef {{ pool: string, if_match?: string, if_none_match?: "*", patch?: Patch, definition?: object }} Change one of patch and definition */
/** @typedef {{ line: number, column: string, detail: string }} LineError */
/** @typedef {{ from?: string, to?: string, zone?: string, asOf?: string }} PoolQuery */

/** What went wrong, in words for people, with what the server said of it. */
export class Problem extends Error {
  /**
   * @param {number} status 0 when no answer came
   * @param {Record<string, any>} document
   */
  constructor(status, document) {
    super(document.detail || document.title || `The server answered ${status}.`);
    this.name = "Problem";
    this.status = status;
    this.slug = String(document.type ?? "").replace(/^.*\/problems\//, "");
    this.document = document;
  }

  /** Whether somebody else changed what this would have changed. */
  get changedMeanwhile() {
    return this.status === 412;
  }
}

/**
 * The message of whatever was thrown.
 * @param {unknown} error
 */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Whether what was thrown only says that nobody waits any more.
 * @param {unknown} error
 */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: string, type?: string, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
export async function send(method, path, { body, type = "application/json", headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { ...(body === undefined ? {} : { "Content-Type": type }), ...headers },
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem(0, { detail: "The server does not answer. What you asked for may or may not have been done." });
  }
  noteServerDate(response.headers.get("Date"));
  if (response.ok) return response;
  const document = await response.json().catch(() => ({}));
  throw new Problem(response.status, document);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @param {{ headers?: Record<string, string>, signal?: AbortSignal }} [options]
 */
async function json(method, path, body, options) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  return (await send(method, path, { body: text, ...options })).json();
}

/** @param {Record<string, string | number | undefined>} values */
export function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  return parameters.size ? `?${parameters}` : "";
}

/** @param {string} name */
const poolPath = (name) => `/v1/pools/${encodeURIComponent(name)}`;

/** @returns {Promise<Settings>} */
export const getSettings = () => json("GET", "/v1/settings");

/**
 * All pools that a query finds, up to what the grid takes.
 * @param {PoolQuery} wanted
 * @param {{ signal?: AbortSignal, progress?: (count: number) => void, most?: number }} [options]
 * @returns {Promise<{ pools: Pool[], more: boolean }>}
 */
export async function listPools({ asOf, ...wanted }, { signal, progress, most = GRID_POOLS_MAX } = {}) {
  /** @type {Pool[]} */
  const pools = [];
  let cursor;
  do {
    const path = `/v1/pools${query({ ...wanted, as_of: asOf, limit: POOLS_PAGE, cursor })}`;
    const page = await json("GET", path, undefined, { signal });
    pools.push(...page.pools);
    cursor = page.next ?? undefined;
    progress?.(pools.length);
  } while (cursor !== undefined && pools.length < most);
  return { pools, more: cursor !== undefined };
}

/**
 * @param {string} name
 * @param {AbortSignal} [signal]
 * @returns {Promise<Pool>}
 */
export const getPool = (name, signal) => json("GET", poolPath(name), undefined, { signal });

/**
 * Changes one pool, unless its definition is another one by now.
 * @param {string} name
 * @param {Patch} patch
 * @param {string} etag
 * @returns {Promise<Pool>}
 */
export const patchPool = (name, patch, etag) => json("PATCH", poolPath(name), patch, { headers: { "If-Match": etag } });

/**
 * Changes or creates many pools: all, or none.
 * @param {Change[]} changes
 * @returns {Promise<{ pools: Pool[] }>}
 */
export const changePools = (changes) => json("POST", "/v1/pools/changes", { changes });

/**
 * What is wrong with a sheet of pools; nothing is imported.
 * @param {string} csv
 * @returns {Promise<LineError[]>}
 */
export async function checkSheet(csv) {
  try {
    await send("POST", "/v1/pools/import?dry_run=true", { body: csv, type: "text/csv" });
    return [];
  } catch (error) {
    // Errors by line are an answer, not a failure of the call.
    if (error instanceof Problem && error.status === 422 && error.document.errors?.[0]?.line) return error.document.errors;
    throw error;
  }
}

/**
 * The events of a pool, newest first.
 * @param {string} name
 * @param {{ limit: number, cursor?: string, signal?: AbortSignal }} options
 * @returns {Promise<{ events: PoolEvent[], next: string | null }>}
 */
export const poolEvents = (name, { signal, ...page }) =>
  json("GET", `${poolPath(name)}/events${query(page)}`, undefined, { signal });

/**
 * @param {{ reference?: string, pool?: string, state?: string, limit?: number, cursor?: string }} wanted
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ reservations: Reservation[], next: string | null }>}
 */
export const findReservations = (wanted, signal) =>
  json("GET", `/v1/reservations${query(wanted)}`, undefined, { signal });

/**
 * @param {string} id
 * @returns {Promise<Reservation>}
 */
export const releaseReservation = (id) => json("POST", `/v1/reservations/${id}/release`);

/**
 * @param {{ location?: string, zone?: string, kind?: string, from?: string, to?: string, units?: Units, limit?: number }} wanted
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ as_of: string, pools: Offer[], truncated?: boolean }>}
 */
export const availability = (wanted, signal) =>
  json("POST", "/v1/availability", { ...wanted, detail: "band" }, { signal });

/** @typedef {{ at: string } & Record<string, any>} HealthSample numbers by name, null where not known */

/**
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ interval_ms: number, samples: HealthSample[] }>} oldest first
 */
export const getHealth = (signal) => json("GET", "/v1/health", undefined, { signal });
