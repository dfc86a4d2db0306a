// The fields of a pool's definition that a planner edits, as texts of a form, and as the merge patch of what was changed.
import { AMOUNT_MAX } from "./amounts.js";
import { instantOf } from "./figures.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").Patch} Patch */
/** @typedef {import("./times.js").Clock} Clock */
/** @typedef {Record<string, string>} Fields texts by `limits.D`, `overbook.D`, `opens_at`, `closes_at`, `mode` and `state` */

/**
 * @param {Pick<Pool, "limits" | "overbook" | "opens_at" | "closes_at" | "mode" | "state">} pool
 * @param {Clock} clock
 * @returns {Fields}
 */
export function fieldsOf(pool, clock) {
  /** @type {Fields} */
  const fields = {};
  for (const dimension in pool.limits) {
    fields[`limits.${dimension}`] = String(pool.limits[dimension]);
    fields[`overbook.${dimension}`] = String(pool.overbook?.[dimension] ?? 0);
  }
  const opens = instantOf(pool.opens_at);
  const closes = instantOf(pool.closes_at);
  fields.opens_at = opens === null ? "" : clock.field(opens);
  fields.closes_at = closes === null ? "" : clock.field(closes);
  fields.mode = pool.mode;
  fields.state = pool.state;
  return fields;
}

/**
 * The name of a field for people.
 * @param {string} field
 */
export function titleOf(field) {
  const [group, dimension] = field.split(".");
  if (group === "limits") return `limit of ${dimension}`;
  if (group === "overbook") return `overbooking of ${dimension}`;
  const titles = /** @type {Record<string, string>} */ ({ opens_at: "opens", closes_at: "closes" });
  return titles[field] ?? field;
}

/**
 * The fields in which two differ.
 * @param {Fields} a
 * @param {Fields} b
 */
export const differing = (a, b) => Object.keys(b).filter((field) => a[field] !== b[field]);

/**
 * What is wrong with a field, or null.
 * @param {string} field
 * @param {string} text
 */
export function faultOf(field, text) {
  if (!field.includes(".")) return null;
  if (!/^\d+$/.test(text.trim())) return "a whole number, 0 or more";
  return Number(text) > AMOUNT_MAX ? `at most ${AMOUNT_MAX}` : null;
}

/**
 * The merge patch that makes the draft of the base; holds only what differs.
 * @param {Fields} base
 * @param {Fields} draft
 * @param {Clock} clock
 * @returns {Patch}
 */
export function patchOf(base, draft, clock) {
  /** @type {Record<string, any>} */
  const patch = {};
  for (const field of differing(base, draft)) {
    const [group, dimension] = field.split(".");
    const text = draft[field].trim();
    if (dimension !== undefined) (patch[group] ??= {})[dimension] = Number(text);
    else if (!field.endsWith("_at")) patch[field] = text;
    else patch[field] = text === "" ? null : new Date(clock.parseField(text)).toISOString();
  }
  return patch;
}

/**
 * A draft of an older base on top of a newer one: what was edited stays, all else is the newer.
 * @param {Fields} base
 * @param {Fields} draft
 * @param {Fields} newer
 * @returns {Fields}
 */
export function rebased(base, draft, newer) {
  const merged = { ...newer };
  for (const field of differing(base, draft)) merged[field] = draft[field];
  return merged;
}

/**
 * The limits that a draft would give, where they can be read.
 * @param {Fields} draft
 * @returns {{ limits: Record<string, number>, overbook: Record<string, number> }}
 */
export function amountsOf(draft) {
  /** @type {Record<string, Record<string, number>>} */
  const amounts = { limits: {}, overbook: {} };
  for (const field in draft) {
    const [group, dimension] = field.split(".");
    if (dimension !== undefined && faultOf(field, draft[field]) === null) amounts[group][dimension] = Number(draft[field]);
  }
  return { limits: amounts.limits, overbook: amounts.overbook };
}
