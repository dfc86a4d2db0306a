import assert from "node:assert/strict";
import { test } from "node:test";
import { differing, faultOf, fieldsOf, patchOf, rebased } from "../../app/definition.js";
import { changedLimit, tooMany } from "../../app/amounts.js";
import { clockOf } from "../../app/times.js";
import { copiedName, planWeek } from "../../app/week-plan.js";
import { pool } from "./pools.js";

const clock = clockOf("Europe/Vienna");

test("a patch holds what was edited, and nothing else", () => {
  const base = fieldsOf(pool(), clock);
  /**
   * @param {Record<string, string>} edits
   * @param {object} expected
   */
  const check = (edits, expected) => assert.deepEqual(patchOf(base, { ...base, ...edits }, clock), expected);
  check({}, {});
  check({ "limits.orders": "120" }, { limits: { orders: 120 } });
  check({ "overbook.items": " 7 ", state: "closed" }, { overbook: { items: 7 }, state: "closed" });
  check({ closes_at: "" }, { closes_at: null });
  check({ closes_at: "2026-11-30T07:30" }, { closes_at: "2026-11-30T06:30:00.000Z" });
});

test("amounts that cannot be a limit", () => {
  for (const text of ["", "-1", "1.5", "x", "2147483648"]) assert.notEqual(faultOf("limits.orders", text), null, text);
  for (const text of ["0", " 12 ", "2147483647"]) assert.equal(faultOf("limits.orders", text), null, text);
});

test("an edit on top of a newer version keeps what others changed", () => {
  const base = fieldsOf(pool(), clock);
  const mine = { ...base, "limits.orders": "90" };
  const theirs = { ...base, "limits.orders": "110", state: "closed" };
  const merged = rebased(base, mine, theirs);
  assert.deepEqual(differing(theirs, merged), ["limits.orders"]);
  assert.equal(merged["limits.orders"], "90");
  assert.equal(merged.state, "closed");
});

test("limits that are set and shifted", () => {
  assert.equal(changedLimit(100, "set", 30), 30);
  assert.equal(changedLimit(100, "shift", -120), 0);
  assert.equal(changedLimit(100, "percent", 15), 115);
  assert.equal(changedLimit(2 ** 31 - 1, "shift", 5), 2 ** 31 - 1);
});

test("more changes than one call takes", () => {
  assert.equal(tooMany(5_001, 5_000), "These are 5,001 pools, and at most 5,000 are changed at once.");
  assert.equal(tooMany(5_000, 5_000), "");
});

const all = { limits: true, times: true, state: true, mode: true, create: true };

/**
 * A slot of eight o'clock local time.
 * @param {string} day
 * @param {Partial<import("../../app/api.js").Pool>} [given]
 */
const morning = (day, given) =>
  pool({
    name: `centre:delivery:${day}T08`,
    starts_at: new Date(clock.instant(day, 480)).toISOString(),
    ends_at: new Date(clock.instant(day, 600)).toISOString(),
    closes_at: new Date(clock.instant(day, 420)).toISOString(),
    ...given,
  });

test("a week keeps the local time of day when the clocks go forward", () => {
  const source = [morning("2027-03-22", { limits: { orders: 77, items: 1000 } }), morning("2027-03-23")];
  const target = [morning("2027-03-29")];
  const plan = planWeek(source, target, { from: "2027-03-22", to: "2027-03-29", clock, wanted: all });
  assert.deepEqual(plan.changes.map(({ pool, patch }) => [pool.name, patch]), [["centre:delivery:2027-03-29T08", { limits: { orders: 77 } }]]);
  assert.equal(plan.creations.length, 1);
  const { name, definition } = plan.creations[0];
  assert.equal(name, "centre:delivery:2027-03-30T08");
  // Seven o'clock UTC before, six after.
  assert.equal(source[1].starts_at, "2027-03-23T07:00:00.000Z");
  assert.equal(definition.starts_at, "2027-03-30T06:00:00.000Z");
  assert.equal(definition.closes_at, "2027-03-30T05:00:00.000Z");
});

test("only what is wanted is copied, and what has no partner is told", () => {
  const source = [morning("2026-11-30", { state: "closed", limits: { orders: 5, items: 5 } }), morning("2026-12-01")];
  const target = [morning("2026-12-07"), morning("2026-12-09")];
  const wanted = { limits: false, times: false, state: true, mode: true, create: false };
  const plan = planWeek(source, target, { from: "2026-11-30", to: "2026-12-07", clock, wanted });
  assert.deepEqual(plan.changes.map(({ patch }) => patch), [{ state: "closed" }]);
  assert.deepEqual([plan.creations.length, plan.missing.length, plan.alone.length, plan.unchanged], [0, 1, 1, 0]);
});

test("a slot that was moved there is not created again, and holds nothing up", () => {
  const source = [morning("2026-11-30"), morning("2026-12-01")];
  const target = [morning("2026-12-07", { starts_at: "2026-12-07T07:30:00.000Z" })];
  const plan = planWeek(source, target, { from: "2026-11-30", to: "2026-12-07", clock, wanted: all });
  assert.deepEqual(plan.taken, ["centre:delivery:2026-12-07T08"]);
  assert.deepEqual(plan.creations.map(({ name }) => name), ["centre:delivery:2026-12-08T08"]);
});

test("a slot in the hour that the clocks leave out keeps its length", () => {
  const [starts_at, ends_at] = [120, 180].map((minute) => new Date(clock.instant("2027-03-21", minute)).toISOString());
  const source = [morning("2027-03-21", { starts_at, ends_at })];
  const plan = planWeek(source, [], { from: "2027-03-15", to: "2027-03-22", clock, wanted: all });
  const { definition } = plan.creations[0];
  assert.deepEqual([definition.starts_at, definition.ends_at], ["2027-03-28T01:00:00.000Z", "2027-03-28T02:00:00.000Z"]);
});

test("the name of a copy", () => {
  assert.equal(copiedName("a:2026-11-30T08", "2026-11-30", "2026-12-07"), "a:2026-12-07T08");
  assert.equal(copiedName("a-20261130", "2026-11-30", "2026-12-07"), "a-20261207");
  assert.equal(copiedName("slot-7", "2026-11-30", "2026-12-07"), "slot-7:2026-12-07");
});
