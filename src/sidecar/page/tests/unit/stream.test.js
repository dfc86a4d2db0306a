import assert from "node:assert/strict";
import { test } from "node:test";
import { lagOf } from "../../app/lag.js";
import { pathOf, roundUp } from "../../app/chart.js";
import { definitionsBefore, grouped } from "../../app/history.js";
import { latenessMeter, noteServerDate, serverNow } from "../../app/server-clock.js";
import { parser } from "../../app/stream.js";
import { refusedByPool } from "../../app/turned-away.js";

/**
 * @param {string[]} chunks
 * @returns {string[]} what was told
 */
function told(chunks) {
  /** @type {string[]} */
  const found = [];
  const parse = parser({
    event: (event) => found.push(`event ${event.pool}`),
    position: (id) => found.push(`position ${id}`),
    caughtUp: () => found.push("caught up"),
    comment: (comment) => found.push(`comment ${comment}`),
  });
  for (const chunk of chunks) parse(chunk);
  return found;
}

test("a stream in pieces of any length tells the same", () => {
  const text = ': lag_ms=12\nid: c1\n\nid: c2\nevent: reserved\ndata: {"pool":"a"}\n\nevent: caught_up\ndata: {"as_of":"x"}\n\nid:c3\r\ndata:{"pool":\r\ndata: "b"}\r\n\r\n';
  const expected = ["comment lag_ms=12", "position c1", "event a", "position c2", "caught up", "event b", "position c3"];
  assert.deepEqual(told([text]), expected);
  assert.deepEqual(told([...text]), expected);
  for (let cut = 1; cut < text.length; cut += 7) assert.deepEqual(told([text.slice(0, cut), text.slice(cut)]), expected);
});

test("a problem ends a stream, and is no event", () => {
  const text = 'event: problem\ndata: {"status":503,"detail":"the engine is gone"}\n\n';
  assert.throws(() => told([text]), { status: 503, message: "the engine is gone" });
});

test("half an event at the end of a stream is not told", () => {
  assert.deepEqual(told(['id: c1\ndata: {"pool":"a"}\n']), []);
});

test("the lag that a comment tells", () => {
  assert.equal(lagOf("lag_ms=12"), 12);
  assert.equal(lagOf("hello"), null);
});

/** @param {Partial<import("../../app/api.js").PoolEvent>} given */
const event = (given) =>
  /** @type {import("../../app/api.js").PoolEvent} */ ({ id: "1", at: "2026-11-30T07:00:00.000Z", kind: "pool_changed", pool: "a", ...given });

test("what was turned away is summed by pool, the most first", () => {
  const rows = refusedByPool([
    event({ pool: "a", refusals: 2, units: { orders: 2 }, since: "2026-11-30T06:59:00.000Z" }),
    event({ pool: "b", refusals: 5, units: { orders: 9 } }),
    event({ pool: "a", refusals: 1, units: { orders: 1, items: 4 }, at: "2026-11-30T08:00:00.000Z" }),
  ]);
  assert.deepEqual(rows, [
    { pool: "b", refusals: 5, units: { orders: 9 }, first: "2026-11-30T07:00:00.000Z", last: "2026-11-30T07:00:00.000Z" },
    { pool: "a", refusals: 3, units: { orders: 3, items: 4 }, first: "2026-11-30T06:59:00.000Z", last: "2026-11-30T08:00:00.000Z" },
  ]);
});

test("each change of a pool finds the definition before it", () => {
  const definition = /** @type {any} */ ({});
  const events = [event({ id: "3", definition }), event({ id: "x", pool: "b", definition }), event({ id: "2", kind: "reserved" }), event({ id: "1", definition })];
  assert.deepEqual([...definitionsBefore(events)].map(([id, before]) => [id, before.id]), [["3", "1"]]);
});

test("what one call made of many pools is told once", () => {
  const created = { kind: "pool_created", after: { limits: { orders: 5 }, held: {}, confirmed: {} } };
  const groups = grouped([
    event({ id: "4", pool: "a", kind: "pool_reset" }),
    event({ id: "3", pool: "c", ...created, at: "2026-11-30T07:00:00.900Z" }),
    event({ id: "2", pool: "b", ...created, at: "2026-11-30T07:00:00.100Z" }),
    event({ id: "1", pool: "a", ...created, at: "2026-11-30T06:59:59.900Z" }),
  ]);
  assert.deepEqual(groups.map(({ pools }) => pools), [["a"], ["c", "b"], ["a"]]);
});

test("a chart's axis and line", () => {
  assert.deepEqual([0, 0.3, 1, 7, 23, 101, 2400].map(roundUp), [1, 0.5, 1, 10, 25, 200, 2500]);
  assert.equal(pathOf([0, null, 10], 10), "M0.0 96.0M400.0 4.0");
});

test("lateness does not depend on the clocks", () => {
  const lateness = latenessMeter();
  lateness.told(10);
  // The planner's clock is three minutes fast.
  const heard = (/** @type {number} */ at, /** @type {number} */ late) => lateness.of(at, at + 180_000 + late);
  assert.deepEqual([heard(0, 5), heard(100, 5), heard(200, 905), heard(300, 2)], [10, 10, 910, 10]);
});

test("a server's date counts when it differs by more than its own coarseness", () => {
  noteServerDate(new Date(Date.now() + 1_000).toUTCString());
  assert.ok(Math.abs(serverNow() - Date.now()) < 50);
  noteServerDate(new Date(Date.now() - 60_000).toUTCString());
  assert.ok(Math.abs(serverNow() - Date.now() + 60_000) < 1_100);
  noteServerDate(null);
  assert.ok(serverNow() < Date.now() - 50_000);
});
