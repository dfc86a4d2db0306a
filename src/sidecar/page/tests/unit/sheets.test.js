import assert from "node:assert/strict";
import { test } from "node:test";
import { csvText, decodeSheet, parseCsv } from "../../app/csv.js";
import { customersCsv } from "../../app/customers.js";
import { changesOf, poolsCsv } from "../../app/pool-file.js";
import { clockOf } from "../../app/times.js";
import { pool } from "./pools.js";

const options = { dimensions: ["orders", "items"], clock: clockOf("Europe/Vienna") };

test("CSV as spreadsheets write it", () => {
  /**
   * @param {string} text
   * @param {[number, ...string[]][]} expected line and cells
   */
  const check = (text, expected) => assert.deepEqual(parseCsv(text).map(({ line, cells }) => [line, ...cells]), expected);
  check("a,b\n1,2\n", [[1, "a", "b"], [2, "1", "2"]]);
  check("\uFEFFa;b\r\n1,5;2", [[1, "a", "b"], [2, "1,5", "2"]]);
  check('a,b\n"x, ""y""\nz",2\n\n3,4', [[1, "a", "b"], [2, 'x, "y"\nz', "2"], [5, "3", "4"]]);
  check("", []);
  check('"a', [[1, "a"]]);
  check("a,b\n,\n", [[1, "a", "b"]]);
});

test("a file is UTF-8, or what spreadsheets write otherwise", () => {
  const bytes = (/** @type {number[]} */ ...values) => Uint8Array.from(values).buffer;
  assert.equal(decodeSheet(bytes(0x53, 0xc3, 0xbc, 0x64)), "Süd");
  assert.equal(decodeSheet(bytes(0x53, 0xfc, 0x64)), "Süd");
});

test("what was written is read again", () => {
  const rows = [["a", 'b"c', "d;e"], ["1\n2", "", "x,y"]];
  assert.deepEqual(parseCsv(csvText(rows)).map(({ cells }) => cells), rows);
});

test("a sheet that nobody edited changes nothing", () => {
  const pools = [pool(), pool({ name: "b", opens_at: "2026-11-01T00:00:00.000Z", overbook: { orders: 3, items: 0 }, mode: "shadow" })];
  const known = new Map(pools.map((each) => [each.name, each]));
  const text = poolsCsv(pools, options.dimensions, options.clock);
  assert.match(text, /2026-11-30T08:00:00\+01:00/);
  assert.deepEqual(changesOf(text, known, options), { changes: [], unchanged: 2 });
  // As a spreadsheet of another country saves it.
  const semicolons = `\uFEFF${parseCsv(text).map(({ cells }) => cells.join(";")).join("\n")}`;
  assert.deepEqual(changesOf(semicolons, known, options), { changes: [], unchanged: 2 });
});

test("what an edited sheet would change", () => {
  const known = new Map([["p", pool({ name: "p" })]]);
  const header = "name,zone,kind,starts_at,ends_at,closes_at,coverage,state,orders,items\n";
  /**
   * @param {string} row
   * @param {string[] | null} expected null for a new pool
   */
  const check = (row, expected) => {
    const { changes, unchanged } = changesOf(`${header}${row}\n`, known, options);
    const fields = changes[0]?.fields.map(({ field, from, to }) => `${field} ${from} → ${to}`);
    assert.deepEqual(changes.length ? fields : [], expected ?? []);
    assert.equal(changes[0]?.before === null, expected === null);
    assert.equal(unchanged, expected?.length === 0 ? 1 : 0);
  };
  const rest = "2026-11-30T07:00:00Z,2026-11-30T09:00:00Z,2026-11-30T08:00:00+01:00,101 103,";
  check(`p,centre,delivery,${rest}open,100,1000`, []);
  check(`p,centre,delivery,${rest}closed,120,1000`, ["limit of orders 100 → 120", "state open → closed"]);
  check(`p,centre,delivery,1796022000,2026-11-30T09:00:00Z,,101,open,100,1000`, [
    "coverage 101 103 → 101",
    "closes 2026-11-30T08:00 → none",
  ]);
  check(`q,centre,delivery,${rest}open,100,1000`, null);
});

test("the list of customers", () => {
  const reservation = { pool: "p", units: { orders: 1 }, state: /** @type {const} */ ("confirmed"), expires_at: null, created_at: "2026-11-30T07:00:00Z" };
  const text = customersCsv([{ ...reservation, reservation: "R1", reference: 'a,"b"' }, { ...reservation, reservation: "R2", reference: null }], ["orders", "items"]);
  assert.deepEqual(parseCsv(text).map(({ cells }) => cells.slice(0, 5)), [
    ["reference", "reservation", "state", "orders", "items"],
    ['a,"b"', "R1", "confirmed", "1", "0"],
    ["", "R2", "confirmed", "1", "0"],
  ]);
  /**
   * @param {string} reference
   * @param {string} expected
   */
  const check = (reference, expected) => {
    const [, row] = parseCsv(customersCsv([{ ...reservation, reservation: "R", reference }], []));
    assert.equal(row.cells[0], expected);
  };
  for (const formula of ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1", "\n=1", "=1,2", '="a"']) check(formula, `'${formula}`);
  for (const text of ["order-1", "1=1", "'=1", ""]) check(text, text);
});

test("texts of a sheet stand as they are, so that they can be imported again", () => {
  const odd = pool({ zone: "=1+1", kind: "-delivery", coverage: ["@10", "+43"] });
  const text = poolsCsv([odd], options.dimensions, options.clock);
  assert.deepEqual(parseCsv(text)[1].cells.slice(1, 3), ["=1+1", "-delivery"]);
  assert.deepEqual(changesOf(text, new Map([[odd.name, odd]]), options), { changes: [], unchanged: 1 });
  // What a spreadsheet saves when it ran it as a formula.
  const [change] = changesOf(text.replace("=1+1", "2"), new Map([[odd.name, odd]]), options).changes;
  assert.deepEqual(change.fields, [{ field: "zone", from: "=1+1", to: "2" }]);
});
