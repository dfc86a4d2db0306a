// The pools that the grid shows. What changes a counter repaints a row; what changes the set of pools lays the grid out anew.
//
// - Every pool here overlaps the span that was loaded.
// - Events that arrive while pools are loaded wait, and are applied to what was loaded. Events of a pool come in order, and an event
//   that the loaded counters already hold is followed by those that made them what they are.
import { batch, signal } from "./vendor/runtime.js";
import { getPool, listPools, messageOf, isAbort } from "./api.js";
import { WAITING_EVENTS_MAX } from "./limits.js";
import { rowKey } from "./layout.js";
import { clock, span } from "./state.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").PoolEvent} PoolEvent */

const REPAINT_MS = 200;
// More pools than this are read by one list rather than one by one.
const SINGLE_READS_MAX = 20;
const DEFINITION_KINDS = new Set(["pool_created", "pool_changed", "pool_reset"]);

/** @type {Map<string, Pool>} */
export const pools = new Map();
/** Counts up whenever pools came, went or moved. */
export const structure = signal(0);
export const loading = signal({ busy: true, count: 0, error: "", more: false });

/** @type {Map<string, import("./vendor/runtime.js").Signal<number>>} */
const ticks = new Map();
/** Counters that are not painted yet. @type {Map<string, Pick<Pool, "held" | "confirmed">>} */
const repaints = new Map();
/** @type {Set<string>} */
const rereads = new Set();
/** @type {PoolEvent[]} */
let waiting = [];
let loadingEvents = false;
let overrun = false;
/** @type {AbortController | null} */
let loader = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * Read it to be painted again when a pool of this row changed.
 * @param {string} key
 */
export function tick(key) {
  let found = ticks.get(key);
  if (!found) ticks.set(key, (found = signal(0)));
  return found;
}

/**
 * The pool by that name, and a new look at it whenever it changes.
 * @param {string} name
 */
export function watched(name) {
  void structure.value;
  const pool = pools.get(name);
  if (pool) void tick(rowKey(pool.zone, pool.kind)).value;
  return pools.get(name);
}

/**
 * Whether the grid has to be laid out anew when one follows the other.
 * @param {Pool} before
 * @param {Pool} after
 */
const moved = (before, after) =>
  before.zone !== after.zone ||
  before.kind !== after.kind ||
  before.starts_at !== after.starts_at ||
  before.ends_at !== after.ends_at;

/** @param {Pool} pool */
const inSpan = (pool) => Date.parse(pool.ends_at) > span.value.start && Date.parse(pool.starts_at) < span.value.end;

/**
 * Takes what the server answered about pools into the grid.
 * @param {Iterable<Pool>} changed
 */
export function take(changed) {
  const touched = new Set();
  let laidOut = true;
  for (const pool of changed) {
    const before = pools.get(pool.name);
    if (!inSpan(pool)) {
      laidOut &&= !pools.delete(pool.name);
      continue;
    }
    if (!before || moved(before, pool)) laidOut = false;
    pools.set(pool.name, pool);
    touched.add(rowKey(pool.zone, pool.kind)).add(rowKey(pool.zone, ""));
  }
  batch(() => {
    for (const key of touched) tick(key).value += 1;
    if (!laidOut) structure.value += 1;
  });
}

function flush() {
  timer = undefined;
  const counted = [];
  for (const [name, counters] of repaints) {
    const pool = pools.get(name);
    if (pool) counted.push({ ...pool, ...counters });
  }
  repaints.clear();
  take(counted);
  if (rereads.size > SINGLE_READS_MAX) {
    rereads.clear();
    void load(null);
    return;
  }
  const names = [...rereads];
  rereads.clear();
  for (const name of names) void reread(name);
}

/** @param {string} name */
async function reread(name) {
  const [loaded, before] = [loader, pools.get(name)];
  try {
    const pool = await getPool(name);
    // Meanwhile the grid was loaded anew, perhaps with the past.
    if (loader !== loaded) return;
    // An event that came meanwhile may tell more than this answer: one of the two is older, and nobody knows which.
    if (repaints.has(name) || pools.get(name) !== before) readAgain(name);
    take([pool]);
  } catch {
    // It is gone, or the server is: the stream of events tells which.
  }
}

/** @param {string} name */
function readAgain(name) {
  rereads.add(name);
  timer ??= setTimeout(flush, REPAINT_MS);
}

/** @param {PoolEvent} event */
function apply(event) {
  if (event.kind === "pool_retired") {
    repaints.delete(event.pool);
    if (pools.delete(event.pool)) structure.value += 1;
  } else if (DEFINITION_KINDS.has(event.kind)) {
    readAgain(event.pool);
  }
  if (event.after && pools.has(event.pool)) {
    // Not the limits: these belong to a definition with its version, which is read.
    const { held, confirmed } = event.after;
    repaints.set(event.pool, { held, confirmed });
  }
  timer ??= setTimeout(flush, REPAINT_MS);
}

/**
 * An event of the live stream.
 * @param {PoolEvent} event
 */
export function receive(event) {
  if (!loadingEvents) return apply(event);
  if (waiting.length >= WAITING_EVENTS_MAX) overrun = true;
  else waiting.push(event);
}

/**
 * Loads the pools of the span, as they are or as they were at a moment.
 * @param {number | null} moment
 */
export async function load(moment) {
  loader?.abort();
  const mine = (loader = new AbortController());
  loadingEvents = true;
  overrun = false;
  waiting = [];
  repaints.clear();
  rereads.clear();
  loading.value = { ...loading.value, busy: true, count: 0, error: "" };
  const { start, end } = span.value;
  try {
    const wanted = {
      from: clock.value.rfc3339(start),
      to: clock.value.rfc3339(end),
      asOf: moment === null ? undefined : new Date(moment).toISOString(),
    };
    const progress = (/** @type {number} */ count) => (loading.value = { ...loading.value, count });
    const found = await listPools(wanted, { signal: mine.signal, progress });
    if (mine.signal.aborted) return;
    batch(() => {
      pools.clear();
      for (const pool of found.pools) pools.set(pool.name, pool);
      structure.value += 1;
      for (const row of ticks.values()) row.value += 1;
      loading.value = { busy: false, count: found.pools.length, error: "", more: found.more };
    });
  } catch (error) {
    if (isAbort(error) || mine.signal.aborted) return;
    loading.value = { busy: false, count: 0, error: messageOf(error), more: false };
  }
  // A past grid does not live.
  if (moment !== null) return;
  loadingEvents = false;
  if (overrun) return void load(null);
  for (const event of waiting) apply(event);
  waiting = [];
}
