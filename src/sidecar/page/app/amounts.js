// What a limit can be, and how many are changed at once.

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
