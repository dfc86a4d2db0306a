// What a limit can be, and how many are changed at once.
import { number } from "./figures.js";

export const AMOUNT_MAX = 2 ** 31 - 1;

/**
 * The limit after a change, within what a limit can be.
 * @param {number} limit
 * @param {"set" | "shift" | "percent"} way
 * @param {number} amount
 */
export function changedLimit(limit, way, amount) {
  const wanted = way === "set" ? amount : way === "shift" ? limit + amount : Math.round(limit * (1 + amount / 100));
  return Math.max(0, Math.min(AMOUNT_MAX, wanted));
}

/**
 * Says that changes do not fit into one call; empty when they do.
 * @param {number} count
 * @param {number} max
 */
export const tooMany = (count, max) => (count > max ? `These are ${number(count)} pools, and at most ${number(max)} are changed at once.` : "");
