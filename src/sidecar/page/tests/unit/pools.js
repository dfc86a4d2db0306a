// Pools for the tests, as the server would answer them.

/**
 * @param {Partial<import("../../app/api.js").Pool>} [given]
 * @returns {import("../../app/api.js").Pool}
 */
export function pool(given = {}) {
  return {
    name: "centre:delivery:2026-11-30T08",
    zone: "centre",
    kind: "delivery",
    starts_at: "2026-11-30T07:00:00.000Z",
    ends_at: "2026-11-30T09:00:00.000Z",
    opens_at: null,
    closes_at: "2026-11-30T07:00:00.000Z",
    coverage: ["101", "103"],
    state: "open",
    mode: "enforce",
    limits: { orders: 100, items: 1000 },
    overbook: { orders: 0, items: 0 },
    held: { orders: 4, items: 40 },
    confirmed: { orders: 80, items: 700 },
    remaining: { orders: 16, items: 260 },
    etag: '"1"',
    ...given,
  };
}
