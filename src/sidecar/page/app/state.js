// What the planner looks at: the view, the days, what is chosen. Kept in the address, so that it can be sent to somebody.
import { computed, effect, signal } from "./vendor/runtime.js";
import { TIGHTEST } from "./figures.js";
import { addDays, clockOf, isDay } from "./times.js";

/** @typedef {"grid" | "turned-away" | "customer" | "health"} View */

/** @type {View[]} */
export const VIEWS = ["grid", "turned-away", "customer", "health"];
/** How many days the grid holds. */
export const DAYS = 14;
/** How many of them fill the screen. */
export const ZOOMS = [14, 7, 4, 2, 1];

/** @type {import("./vendor/runtime.js").Signal<import("./api.js").Settings>} */
export const settings = signal({ time_zone: "UTC", dimensions: [], version: "", changes_max: 0 });
export const clock = computed(() => clockOf(settings.value.time_zone));
/** Moves on while the page is open, so that closing times pass. */
export const now = signal(Date.now());
export const today = computed(() => clock.value.local(now.value).day);

export const view = signal(/** @type {View} */ ("grid"));
/** The first day of the grid; empty until the time zone is known. */
export const from = signal("");
export const zoom = signal(ZOOMS[0]);
export const dimension = signal(TIGHTEST);
export const filter = signal("");
/** Zones whose kinds are folded away. */
export const folded = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** The pool whose drawer is open. */
export const opened = signal(/** @type {string | null} */ (null));
/** The moment that the grid shows, or null for the present. */
export const moment = signal(/** @type {number | null} */ (null));
/** Names of the pools that a change of many is for. */
export const selection = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** The dialog over the page, if any. */
export const dialog = signal(/** @type {"limits" | "week" | "sheet" | "shortcuts" | null} */ (null));

/** The days of the grid. */
export const days = computed(() => Array.from({ length: DAYS }, (_, index) => addDays(from.value, index)));
/** From when to when the grid reaches. */
export const span = computed(() => {
  const start = clock.value.instant(from.value, 0);
  return { start, end: clock.value.instant(addDays(from.value, DAYS), 0) };
});

/**
 * @param {ReadonlySet<string>} set
 * @param {string} item
 */
export function toggled(set, item) {
  const next = new Set(set);
  if (!next.delete(item)) next.add(item);
  return next;
}

/** @param {number} step in ZOOMS; above 0 comes closer */
export function zoomBy(step) {
  const index = ZOOMS.indexOf(zoom.value) + step;
  zoom.value = ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, index))];
}

/**
 * Shows a pool in the grid.
 * @param {import("./api.js").Pool} pool
 */
export function showPool(pool) {
  const { day } = clock.value.local(Date.parse(pool.starts_at));
  if (!days.value.includes(day)) from.value = day;
  opened.value = pool.name;
  view.value = "grid";
}

function readAddress() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const parameters = new URLSearchParams(search);
  view.value = VIEWS.find((known) => known === path) ?? "grid";
  const wanted = parameters.get("from") ?? "";
  from.value = isDay(wanted) ? wanted : from.value || today.value;
  const wantedZoom = Number(parameters.get("zoom"));
  zoom.value = ZOOMS.includes(wantedZoom) ? wantedZoom : zoom.value;
  filter.value = parameters.get("filter") ?? "";
  dimension.value = settings.value.dimensions.includes(parameters.get("dimension") ?? "")
    ? /** @type {string} */ (parameters.get("dimension"))
    : TIGHTEST;
  opened.value = parameters.get("pool");
}

/** Call once the settings are known. */
export function keepAddress() {
  readAddress();
  addEventListener("hashchange", readAddress);
  effect(() => {
    const parameters = new URLSearchParams();
    if (from.value !== today.peek()) parameters.set("from", from.value);
    if (zoom.value !== ZOOMS[0]) parameters.set("zoom", String(zoom.value));
    if (dimension.value !== TIGHTEST) parameters.set("dimension", dimension.value);
    if (filter.value !== "") parameters.set("filter", filter.value);
    if (opened.value !== null) parameters.set("pool", opened.value);
    const address = `#/${view.value}${parameters.size ? `?${parameters}` : ""}`;
    // Only another view is a step that the browser's back button undoes.
    const sameView = location.hash.split("?")[0] === `#/${view.value}` || location.hash === "";
    if (location.hash !== address) history[sameView ? "replaceState" : "pushState"](null, "", address);
  });
}
