import assert from "node:assert/strict";
import { test } from "node:test";
import { barOf } from "../../app/cell.js";
import { brief, effectOf, loadIn, loadOf, marksOf, TIGHTEST, withDefinition } from "../../app/figures.js";
import { pool } from "./pools.js";

test("the fullest dimension is the one that decides", () => {
  assert.equal(loadOf(pool(), TIGHTEST).dimension, "orders");
  assert.equal(loadOf(pool({ confirmed: { orders: 10, items: 950 } }), TIGHTEST).dimension, "items");
  assert.equal(loadOf(pool(), "items").free, 260);
});

test("the effect of a limit, in words", () => {
  /**
   * @param {number} limit
   * @param {number} overbook
   * @param {string} expected
   */
  const check = (limit, overbook, expected) => {
    const changed = withDefinition(pool(), { limits: { orders: limit }, overbook: { orders: overbook } });
    assert.equal(effectOf(loadIn(changed, "orders")), expected);
    assert.equal(changed.limits.items, 1000);
  };
  check(72, 0, "12 over");
  check(84, 0, "full");
  check(72, 12, "full");
  check(100, 5, "21 free");
  check(0, 0, "84 over");
});

test("the parts of a bar fill it and no more", () => {
  /**
   * @param {Partial<import("../../app/api.js").Pool>} given
   * @param {[number, number, number]} expected
   */
  const check = (given, expected) => {
    const bar = barOf(loadIn(pool(given), "orders"));
    const parts = [bar["--c"], bar["--h"], bar["--o"]].map(Number);
    parts.forEach((part, index) => assert.ok(Math.abs(part - expected[index]) < 1e-9, `${parts} for ${expected}`));
  };
  check({}, [0.8, 0.04, 0]);
  check({ limits: { orders: 60 }, confirmed: { orders: 80 }, held: { orders: 0 } }, [0.75, 0, 0.25]);
  check({ limits: { orders: 0 }, confirmed: { orders: 0 }, held: { orders: 0 } }, [0, 0, 0]);
  check({ limits: { orders: 0 }, confirmed: { orders: 5 }, held: { orders: 5 } }, [0, 0, 1]);
});

test("what stops a pool from selling", () => {
  const at = Date.parse("2026-11-30T06:00:00Z");
  /**
   * @param {Partial<import("../../app/api.js").Pool>} given
   * @param {string[]} expected
   */
  const check = (given, expected) => {
    const marks = Object.entries(marksOf(pool(given), at)).filter(([, is]) => is);
    assert.deepEqual(marks.map(([name]) => name), expected);
  };
  check({}, []);
  check({ closes_at: null }, []);
  check({ state: "closed", closes_at: "2026-11-30T06:00:00Z" }, ["closed", "past"]);
  check({ opens_at: "2026-11-30T06:30:00Z", mode: "shadow" }, ["early", "shadow"]);
  check({ opens_at: "1970-01-01T00:00:00.000Z" }, []);
  check({ confirmed: { orders: 97, items: 0 } }, ["over"]);
});

test("a figure where there is little room", () => {
  assert.deepEqual([0, 999, 1000, 9949, 12_345, 999_499, 1_234_567, -1500].map(brief), ["0", "999", "1.0k", "9.9k", "12k", "999k", "1.2M", "-1.5k"]);
});
