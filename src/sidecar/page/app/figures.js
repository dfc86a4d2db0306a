// What the counters of a pool mean: how full it is, in which dimension, and what stops it from selling.

/** @typedef {import("./api.js").Pool} Pool */

/**
 * @typedef {object} Load
 * @property {string} dimension
 * @property {number} limit
 * @property {number} ceiling limit and overbooking allowance
 * @property {number} held
 * @property {number} confirmed
 * @property {number} used held and confirmed
 * @property {number} free below 0 when over
 * @property {number} over units above the ceiling
 * @property {number} share of the ceiling that is used; 1 when the ceiling is 0
 */

/** The choice of a dimension that takes the fullest one of each pool. */
export const TIGHTEST = "";

/**
 * @param {Pool} pool
 * @param {string} dimension
 * @returns {Load}
 */
export function loadIn(pool, dimension) {
  const limit = pool.limits[dimension] ?? 0;
  const ceiling = limit + (pool.overbook?.[dimension] ?? 0);
  const held = pool.held[dimension] ?? 0;
  const confirmed = pool.confirmed[dimension] ?? 0;
  const used = held + confirmed;
  return {
    dimension,
    limit,
    ceiling,
    held,
    confirmed,
    used,
    free: ceiling - used,
    over: Math.max(0, used - ceiling),
    share: ceiling > 0 ? used / ceiling : 1,
  };
}

/**
 * In the dimension asked for, or in the fullest one.
 * @param {Pool} pool
 * @param {string} dimension or TIGHTEST
 * @returns {Load}
 */
export function loadOf(pool, dimension) {
  if (dimension !== TIGHTEST) return loadIn(pool, dimension);
  let fullest = null;
  for (const name in pool.limits) {
    const load = loadIn(pool, name);
    if (!fullest || load.share > fullest.share) fullest = load;
  }
  return fullest ?? loadIn(pool, "");
}

/**
 * An optional instant of a pool; the beginning of time and its absence are the same.
 * @param {string | null} time
 */
export const instantOf = (time) => (time === null || Date.parse(time) === 0 ? null : Date.parse(time));

/**
 * @typedef {object} Marks
 * @property {boolean} closed
 * @property {boolean} past closing time
 * @property {boolean} early not open for sale yet
 * @property {boolean} shadow
 * @property {boolean} over
 */

/**
 * @param {Pool} pool
 * @param {number} now
 * @returns {Marks}
 */
export function marksOf(pool, now) {
  const closes = instantOf(pool.closes_at);
  const opens = instantOf(pool.opens_at);
  let over = false;
  for (const dimension in pool.limits) over ||= loadIn(pool, dimension).over > 0;
  return {
    closed: pool.state === "closed",
    past: closes !== null && closes <= now,
    early: opens !== null && opens > now,
    shadow: pool.mode === "shadow",
    over,
  };
}

/**
 * How a pool would stand with other limits.
 * @param {Pool} pool
 * @param {Partial<Pool>} changed
 * @returns {Pool}
 */
export function withDefinition(pool, changed) {
  return {
    ...pool,
    ...changed,
    limits: { ...pool.limits, ...changed.limits },
    overbook: { ...pool.overbook, ...changed.overbook },
  };
}

/**
 * The effect of a change in one dimension, in words: `12 over`, `full`, `30 free`.
 * @param {Load} load
 */
export function effectOf(load) {
  if (load.over > 0) return `${number(load.over)} over`;
  return load.free === 0 ? "full" : `${number(load.free)} free`;
}

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** @param {number} value */
export const number = (value) => whole.format(value);

/**
 * `1 pool`, `1,232 pools`
 * @param {number} value
 * @param {string} noun
 */
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/**
 * `1.2k` where there is no room for more.
 * @param {number} value
 */
export function brief(value) {
  const size = Math.abs(value);
  if (size < 1_000) return String(Math.round(value));
  if (size < 9_950) return `${(value / 1_000).toFixed(1)}k`;
  if (size < 999_500) return `${Math.round(value / 1_000)}k`;
  return `${(value / 1_000_000).toFixed(size < 9_950_000 ? 1 : 0)}M`;
}

/**
 * `orders 3, items 40`
 * @param {import("./api.js").Units | null | undefined} units
 */
export const unitsText = (units) =>
  Object.entries(units ?? {})
    .filter(([, amount]) => amount !== 0)
    .map(([dimension, amount]) => `${dimension} ${number(amount)}`)
    .join(", ");

