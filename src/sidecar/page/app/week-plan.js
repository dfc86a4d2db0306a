// What copying a week onto another would do, as a function of the pools of both.
//
// A slot of the source belongs to the slot of the target with the same zone, kind, day of the week and local time of day,
// also where the clocks changed in between.
import { instantOf } from "./figures.js";
import { addDays, daysBetween } from "./times.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").Definition} Definition */
/** @typedef {import("./api.js").Patch} Patch */
/** @typedef {import("./times.js").Clock} Clock */

/**
 * @typedef {object} Wanted
 * @property {boolean} limits limits and overbooking
 * @property {boolean} times opening and closing times
 * @property {boolean} state open or closed
 * @property {boolean} mode
 * @property {boolean} create the slots that the target lacks
 */

/**
 * @typedef {object} WeekPlan
 * @property {{ source: Pool, pool: Pool, patch: Patch }[]} changes
 * @property {{ source: Pool, name: string, definition: Omit<Definition, "name"> }[]} creations
 * @property {number} unchanged
 * @property {string[]} taken names of slots that are not created, since pools of the target have them
 * @property {Pool[]} missing slots of the source that the target lacks and that are not created
 * @property {Pool[]} alone slots of the target without one in the source
 */

const NAME_MAX = 128;

/**
 * The pools that begin in the week from a Monday on.
 * @param {Pool[]} pools
 * @param {string} monday
 * @param {Clock} clock
 */
export function ofWeek(pools, monday, clock) {
  return pools.filter((pool) => {
    const distance = daysBetween(monday, clock.local(Date.parse(pool.starts_at)).day);
    return distance >= 0 && distance < 7;
  });
}

/**
 * @param {Pool[]} pools of one week
 * @param {string} monday
 * @param {Clock} clock
 * @returns {Map<string, Pool>} by what makes a slot the same in another week
 */
function slots(pools, monday, clock) {
  const found = new Map();
  for (const pool of [...pools].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const start = clock.local(Date.parse(pool.starts_at));
    const end = clock.local(Date.parse(pool.ends_at));
    const place = [pool.zone, pool.kind, daysBetween(monday, start.day), start.minute, daysBetween(monday, end.day), end.minute];
    // Several pools of one window are told apart by the order of their names.
    let key = place.join("\n");
    for (let twin = 1; found.has(key); twin += 1) key = [...place, twin].join("\n");
    found.set(key, pool);
  }
  return found;
}

/**
 * A name for the copy of a pool: the same with the other day in it.
 * @param {string} name
 * @param {string} from the day of the source
 * @param {string} to the day of the copy
 */
export function copiedName(name, from, to) {
  for (const form of [(/** @type {string} */ day) => day, (/** @type {string} */ day) => day.replaceAll("-", "")]) {
    if (name.includes(form(from))) return name.replace(form(from), form(to));
  }
  return `${name.slice(0, NAME_MAX - 11)}:${to}`;
}

/**
 * @param {Pool[]} source
 * @param {Pool[]} target
 * @param {{ from: string, to: string, clock: Clock, wanted: Wanted }} options from and to are Mondays
 * @returns {WeekPlan}
 */
export function planWeek(source, target, { from, to, clock, wanted }) {
  const distance = daysBetween(from, to);
  /** @param {string | null} time */
  const shifted = (time) => {
    const instant = instantOf(time);
    if (instant === null) return null;
    const { day, minute } = clock.local(instant);
    return new Date(clock.instant(addDays(day, distance), minute)).toISOString();
  };
  /** @param {Pool} pool */
  const windowOf = (pool) => {
    const [starts, ends] = [pool.starts_at, pool.ends_at].map((time) => /** @type {string} */ (shifted(time)));
    if (starts < ends) return { starts_at: starts, ends_at: ends };
    // In an hour that the clocks leave out: the slot keeps its length.
    const length = Date.parse(pool.ends_at) - Date.parse(pool.starts_at);
    return { starts_at: starts, ends_at: new Date(Date.parse(starts) + length).toISOString() };
  };
  /** @type {WeekPlan} */
  const plan = { changes: [], creations: [], unchanged: 0, taken: [], missing: [], alone: [] };
  const names = new Set(target.map(({ name }) => name));
  const there = slots(ofWeek(target, to, clock), to, clock);
  for (const [key, pool] of slots(ofWeek(source, from, clock), from, clock)) {
    const twin = there.get(key);
    there.delete(key);
    if (twin) {
      const patch = patchFor(pool, twin, wanted, shifted);
      if (Object.keys(patch).length) plan.changes.push({ source: pool, pool: twin, patch });
      else plan.unchanged += 1;
    } else if (wanted.create) {
      const { day } = clock.local(Date.parse(pool.starts_at));
      const name = copiedName(pool.name, day, addDays(day, distance));
      if (names.has(name)) {
        plan.taken.push(name);
        continue;
      }
      names.add(name);
      plan.creations.push({
        source: pool,
        name,
        definition: {
          zone: pool.zone,
          kind: pool.kind,
          ...windowOf(pool),
          opens_at: shifted(pool.opens_at),
          closes_at: shifted(pool.closes_at),
          coverage: pool.coverage,
          state: pool.state,
          mode: pool.mode,
          limits: pool.limits,
          overbook: pool.overbook,
        },
      });
    } else {
      plan.missing.push(pool);
    }
  }
  plan.alone = [...there.values()];
  return plan;
}

/**
 * @param {Pool} source
 * @param {Pool} twin
 * @param {Wanted} wanted
 * @param {(time: string | null) => string | null} shifted
 * @returns {Patch}
 */
function patchFor(source, twin, wanted, shifted) {
  /** @type {Record<string, any>} */
  const patch = {};
  if (wanted.limits) {
    for (const group of /** @type {const} */ (["limits", "overbook"])) {
      const changed = Object.entries(source[group]).filter(([dimension, amount]) => (twin[group][dimension] ?? 0) !== amount);
      if (changed.length) patch[group] = Object.fromEntries(changed);
    }
  }
  if (wanted.times) {
    for (const field of /** @type {const} */ (["opens_at", "closes_at"])) {
      const time = shifted(source[field]);
      if (instantOf(time) !== instantOf(twin[field])) patch[field] = time;
    }
  }
  if (wanted.state && source.state !== twin.state) patch.state = source.state;
  if (wanted.mode && source.mode !== twin.mode) patch.mode = source.mode;
  return patch;
}
