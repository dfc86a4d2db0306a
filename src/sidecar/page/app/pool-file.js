// Pools as a sheet: what is downloaded, and what an edited sheet would change.
import { parseCsv, csvText } from "./csv.js";
import { differing, fieldsOf, titleOf } from "./definition.js";
import { instantOf, loadIn } from "./figures.js";

/** @typedef {import("./api.js").Pool} Pool */
/** @typedef {import("./api.js").Definition} Definition */
/** @typedef {import("./times.js").Clock} Clock */

/**
 * @typedef {object} SheetChange
 * @property {number} line
 * @property {string} name
 * @property {Pool | null} before null for a pool that would be created
 * @property {Omit<Definition, "name">} definition
 * @property {{ field: string, from: string, to: string }[]} fields
 */

/**
 * Local times with their offset: a planner reads them, and the import takes them. Texts stand as they are, also where a spreadsheet
 * takes them for formulas: the import would read an apostrophe as part of them.
 * @param {Pool[]} pools
 * @param {string[]} dimensions
 * @param {Clock} clock
 */
export function poolsCsv(pools, dimensions, clock) {
  const time = (/** @type {string | null} */ text) => {
    const instant = instantOf(text);
    return instant === null ? "" : clock.rfc3339(instant);
  };
  const each = (/** @type {(dimension: string) => string | number} */ value) => dimensions.map((name) => String(value(name)));
  const sorted = [...pools].sort((a, b) =>
    a.zone < b.zone ? -1 : a.zone > b.zone ? 1 : a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : Date.parse(a.starts_at) - Date.parse(b.starts_at),
  );
  return csvText([
    [
      ...["name", "zone", "kind", "starts_at", "ends_at", "opens_at", "closes_at", "coverage", "state", "mode"],
      ...dimensions,
      ...each((name) => `overbook_${name}`),
      ...["held", "confirmed", "remaining"].flatMap((figure) => each((name) => `${figure}_${name}`)),
    ],
    ...sorted.map((pool) => [
      pool.name,
      pool.zone,
      pool.kind,
      time(pool.starts_at),
      time(pool.ends_at),
      time(pool.opens_at),
      time(pool.closes_at),
      pool.coverage.join(" "),
      pool.state,
      pool.mode,
      ...each((name) => pool.limits[name]),
      ...each((name) => pool.overbook[name] ?? 0),
      ...each((name) => pool.held[name]),
      ...each((name) => pool.confirmed[name]),
      // From the counters that the stream of events keeps current.
      ...each((name) => loadIn(pool, name).free),
    ]),
  ]);
}

/**
 * A time of a sheet: Unix seconds, or RFC 3339. Null for an empty cell.
 * @param {string} cell
 */
function timeOf(cell) {
  const text = cell.trim();
  if (text === "") return null;
  const instant = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  return Number.isFinite(instant) ? new Date(instant).toISOString() : text;
}

/**
 * The definitions of a sheet that the server found no fault with.
 * @param {string} text
 * @param {string[]} dimensions
 * @returns {{ line: number, name: string, definition: Omit<Definition, "name"> }[]}
 */
export function definitionsOf(text, dimensions) {
  const [header, ...rows] = parseCsv(text);
  if (!header) return [];
  const columns = new Map(header.cells.map((name, index) => [name.trim(), index]));
  return rows.map(({ line, cells }) => {
    const cell = (/** @type {string} */ name) => (cells[columns.get(name) ?? -1] ?? "").trim();
    const amounts = (/** @type {string} */ prefix) =>
      Object.fromEntries(dimensions.map((name) => [name, Number(cell(`${prefix}${name}`) || 0)]));
    return {
      line,
      name: cell("name"),
      definition: {
        zone: cell("zone"),
        kind: cell("kind"),
        starts_at: timeOf(cell("starts_at")) ?? "",
        ends_at: timeOf(cell("ends_at")) ?? "",
        opens_at: timeOf(cell("opens_at")),
        closes_at: timeOf(cell("closes_at")),
        coverage: cell("coverage").split(/\s+/).filter(Boolean),
        state: cell("state") === "closed" ? "closed" : "open",
        mode: cell("mode") === "shadow" ? "shadow" : "enforce",
        limits: amounts(""),
        overbook: amounts("overbook_"),
      },
    };
  });
}

/**
 * Every field of a definition as a text.
 * @param {Omit<Definition, "name">} definition
 * @param {Clock} clock
 */
function texts(definition, clock) {
  const { zone, kind, starts_at, ends_at, coverage } = definition;
  const time = (/** @type {string} */ text) => clock.stamp(Date.parse(text)).slice(0, 16);
  return {
    zone,
    kind,
    starts: time(starts_at),
    ends: time(ends_at),
    coverage: coverage.join(" "),
    ...fieldsOf(definition, clock),
  };
}

/**
 * What a sheet would create and change; a whole definition stands on each line, so a column that is missing counts as empty.
 * @param {string} text
 * @param {ReadonlyMap<string, Pool>} known by name
 * @param {{ dimensions: string[], clock: Clock }} options
 * @returns {{ changes: SheetChange[], unchanged: number }}
 */
export function changesOf(text, known, { dimensions, clock }) {
  /** @type {SheetChange[]} */
  const changes = [];
  let unchanged = 0;
  for (const { line, name, definition } of definitionsOf(text, dimensions)) {
    const before = known.get(name) ?? null;
    if (!before) {
      changes.push({ line, name, before, definition, fields: [] });
      continue;
    }
    /** @type {[Record<string, string>, Record<string, string>]} */
    const [old, wanted] = [texts(before, clock), texts(definition, clock)];
    const fields = differing(old, wanted).map((field) => ({
      field: titleOf(field),
      from: old[field] || "none",
      to: wanted[field] || "none",
    }));
    if (fields.length) changes.push({ line, name, before, definition, fields });
    else unchanged += 1;
  }
  return { changes, unchanged };
}
