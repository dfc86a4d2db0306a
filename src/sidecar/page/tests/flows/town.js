// Pools of a small town, two weeks from tomorrow on, as a planner would import them.
import { addDays, clockOf } from "../../app/times.js";
import { call } from "./harness.js";

export const clock = clockOf("Europe/Vienna");
export const today = clock.local(Date.now()).day;
export const tomorrow = addDays(today, 1);

const SLOTS = /** @type {[string, number[], number, number, number][]} */ ([
  ["delivery", [8, 10, 12, 14, 16, 18], 2, 20, 300],
  ["pickup", [9, 13, 17], 4, 30, 400],
]);
const ZONES = /** @type {[string, string][]} */ ([
  ["centre", "101 103"],
  ["north", "130"],
  ["lakes", "824"],
]);

/**
 * @param {string} zone
 * @param {string} kind
 * @param {string} day
 * @param {number} hour
 */
export const nameOf = (zone, kind, day, hour) => `${zone}:${kind}:${day}T${String(hour).padStart(2, "0")}`;

/**
 * A sheet of the town's pools.
 * @param {{ zones?: [string, string][], from?: string, days?: number }} [options]
 */
export function townCsv({ zones = ZONES, from = tomorrow, days = 14 } = {}) {
  const lines = ["name,zone,kind,starts_at,ends_at,closes_at,coverage,orders,items"];
  for (const [zone, coverage] of zones) {
    for (let index = 0; index < days; index += 1) {
      const day = addDays(from, index);
      for (const [kind, hours, length, orders, items] of SLOTS) {
        for (const hour of hours) {
          const [start, end] = [hour, hour + length].map((at) => clock.rfc3339(clock.instant(day, at * 60)));
          lines.push([nameOf(zone, kind, day, hour), zone, kind, start, end, start, coverage, orders, items].join(","));
        }
      }
    }
  }
  return `${lines.join("\n")}\n`;
}

/**
 * @param {import("./harness.js").Server} server
 * @param {Parameters<typeof townCsv>[0]} [options]
 */
export const importTown = (server, options) => call(server, "POST", "/v1/pools/import", townCsv(options));

/**
 * Finds a pool's cell in the grid.
 * @param {import("playwright-core").Page} page
 * @param {string} name
 */
export const cell = (page, name) => page.locator(`[data-name="${name}"]`);
