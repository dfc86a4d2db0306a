import assert from "node:assert/strict";
import { test } from "node:test";
import { layOut, rowKey, rowsBetween, sharesOf } from "../../app/layout.js";
import { between, move, namesOfDay, namesOfRow, sameTimeOfDay } from "../../app/navigation.js";
import { addDays, clockOf } from "../../app/times.js";
import { pool } from "./pools.js";

const clock = clockOf("Europe/Vienna");
const days = Array.from({ length: 14 }, (_, index) => addDays("2026-11-30", index));

/**
 * @param {string} name also tells zone and kind
 * @param {string} day
 * @param {number} hour
 * @param {number} hours
 */
function slot(name, day, hour, hours) {
  const [zone, kind] = name.split(":");
  const instant = (/** @type {number} */ at) => new Date(clock.instant(day, at * 60)).toISOString();
  return pool({ name, zone, kind, starts_at: instant(hour), ends_at: instant(hour + hours) });
}

/**
 * @param {import("../../app/api.js").Pool[]} pools
 * @param {{ filter?: string, folded?: Set<string>, shown?: string[] }} [options]
 */
const laidOut = (pools, { filter = "", folded = new Set(), shown = days } = {}) => layOut(pools, { clock, days: shown, filter, folded });

const example = [
  slot("b:delivery:1", "2026-11-30", 8, 2),
  slot("b:delivery:2", "2026-11-30", 10, 2),
  slot("b:delivery:3", "2026-12-01", 8, 2),
  slot("b:collect:1", "2026-11-30", 8, 12),
  slot("b:collect:2", "2026-12-01", 8, 12),
  slot("a:delivery:1", "2026-11-30", 8, 2),
  slot("a:delivery:2", "2026-12-01", 10, 2),
];

test("zones and their kinds are rows, in order; slots stand by their hours", () => {
  const layout = laidOut(example);
  assert.deepEqual(layout.rows.map((row) => `${row.zone} ${row.kind}`), ["a ", "a delivery", "b ", "b collect", "b delivery"]);
  assert.deepEqual([layout.opens, layout.closes, layout.columns, layout.poolCount], [480, 1200, 4, 7]);
  assert.deepEqual([layout.hasHours, laidOut([slot("a:night:1", "2026-11-30", 15, 22)]).hasHours], [true, false]);
  const delivery = layout.rows[4];
  assert.deepEqual(delivery.cells.map(({ name, day, column }) => [name, day, column]), [
    ["b:delivery:1", 0, 0],
    ["b:delivery:2", 0, 1],
    ["b:delivery:3", 1, 2],
  ]);
  assert.deepEqual(sharesOf(delivery.cells[1], layout), { left: 120 / 720, width: 120 / 720 });
  assert.deepEqual(layout.rows[2].names[1], ["b:delivery:3", "b:collect:2"]);
});

test("a filter and folded zones leave rows out", () => {
  assert.deepEqual(laidOut(example, { filter: "B coll" }).rows.map((row) => row.kind), ["", "collect"]);
  assert.equal(laidOut(example, { filter: "nothing" }).poolCount, 0);
  assert.deepEqual(laidOut(example, { folded: new Set(["b"]) }).rows.map((row) => row.kind), ["", "delivery", ""]);
});

test("slots that overlap stand in lanes, and a lane is used again", () => {
  const layout = laidOut([slot("a:k:1", "2026-11-30", 8, 4), slot("a:k:2", "2026-11-30", 10, 4), slot("a:k:3", "2026-11-30", 12, 2)]);
  assert.deepEqual(layout.rows[1].cells.map((cell) => cell.lane), [0, 1, 0]);
  assert.equal(layout.rows[1].lanes, 2);
});

test("a night of a hotel fills its day; what began before the first day is on it while it lasts", () => {
  const layout = laidOut([slot("r:A:0", "2026-11-29", 14, 22), slot("r:A:1", "2026-11-28", 14, 70), slot("r:A:2", "2026-11-30", 14, 22)]);
  assert.deepEqual(layout.rows[1].cells.map(({ name, day, whole, lane }) => [name, day, whole, lane]), [
    ["r:A:1", 0, true, 0],
    ["r:A:2", 0, true, 1],
  ]);
});

test("slots of a day with another offset stand below the others", () => {
  const shown = Array.from({ length: 14 }, (_, index) => addDays("2027-03-22", index));
  const layout = laidOut([slot("a:k:1", "2027-03-27", 8, 2), slot("a:k:2", "2027-03-28", 8, 2)], { shown });
  assert.deepEqual(layout.rows[1].cells.map(({ day, start, end }) => [day, start, end]), [
    [5, 480, 600],
    [6, 480, 600],
  ]);
});

test("rows between two heights", () => {
  const { rows } = laidOut(example);
  assert.deepEqual(rowsBetween(rows, 0, 1), { start: 0, end: 1 });
  assert.deepEqual(rowsBetween(rows, 26, 63), { start: 1, end: 3 });
  assert.deepEqual(rowsBetween(rows, 10_000, 20_000), { start: 5, end: 5 });
});

test("keys lead from slot to slot", () => {
  const layout = laidOut(example);
  /**
   * @param {string} from a pool, or the zone of a heading
   * @param {string} key
   * @param {string | null} expected
   */
  const check = (from, key, expected) => {
    const row = layout.rows.find((candidate) => candidate.cells.some((cell) => cell.name === from));
    const place = row ? { key: row.key, name: from } : { key: rowKey(from, ""), name: "" };
    const target = move(layout, place, key, 2);
    assert.equal(target && (target.name || target.key), expected, `${key} from ${from}`);
  };
  check("b:delivery:1", "ArrowRight", "b:delivery:2");
  check("b:delivery:3", "ArrowRight", null);
  check("b:delivery:1", "ArrowLeft", rowKey("b", "delivery"));
  check("b:delivery:3", "ArrowUp", "b:collect:2");
  check("b:collect:1", "ArrowUp", "a:delivery:1");
  check("a:delivery:2", "ArrowDown", "b:collect:2");
  check("b:delivery:2", "Ctrl+ArrowRight", "b:delivery:3");
  check("b:delivery:3", "Ctrl+ArrowLeft", "b:delivery:1");
  check("b:delivery:2", "Home", "b:delivery:1");
  check("a:delivery:1", "End", "a:delivery:2");
  check("a:delivery:1", "PageDown", "b:delivery:1");
  check("a:delivery:1", "Ctrl+End", "b:delivery:3");
  check("a", "ArrowDown", rowKey("a", "delivery"));
  check("gone", "ArrowDown", rowKey("a", ""));
});

test("a range is a rectangle, whatever its direction", () => {
  const layout = laidOut(example);
  const collect = { key: rowKey("b", "collect"), name: "b:collect:1" };
  const delivery = { key: rowKey("b", "delivery"), name: "b:delivery:2" };
  const upper = { key: rowKey("a", "delivery"), name: "a:delivery:2" };
  assert.deepEqual([...between(layout, delivery, delivery)], ["b:delivery:2"]);
  assert.deepEqual([...between(layout, delivery, collect)].sort(), ["b:collect:1", "b:delivery:1", "b:delivery:2"]);
  assert.deepEqual(between(layout, upper, delivery), between(layout, delivery, upper));
});

test("rows, days and the same time on all days", () => {
  const layout = laidOut(example);
  assert.equal(namesOfRow(layout, rowKey("b", "")).length, 5);
  assert.deepEqual(namesOfRow(layout, rowKey("b", "collect")), ["b:collect:1", "b:collect:2"]);
  assert.deepEqual(namesOfDay(layout, 1).sort(), ["a:delivery:2", "b:collect:2", "b:delivery:3"]);
  assert.deepEqual([...sameTimeOfDay(layout, new Set(["b:delivery:1"]))].sort(), ["b:delivery:1", "b:delivery:3"]);
});
