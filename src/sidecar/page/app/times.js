// The installation's time zone: local days and minutes of a day, as instants and back.
//
// A local day is a text `YYYY-MM-DD`, a time of day counts minutes from its midnight, an instant counts milliseconds
// since 1970. Days are counted on the calendar, never in steps of 24 hours: a day can have 23 or 25.

const MINUTE = 60_000;
const QUARTER = 15 * MINUTE;
const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
// More quarters of an hour than a year has; a planner who looks further asks the browser again.
const OFFSETS_MAX = 40_000;

const two = (/** @type {number} */ value) => String(value).padStart(2, "0");

/** @param {string} day */
const midnight = (day) => Date.parse(`${day}T00:00:00Z`);

/** @param {number} time as if local time were UTC */
const dayOf = (time) => new Date(time).toISOString().slice(0, 10);

/**
 * @param {string} day
 * @param {number} count may be negative
 */
export const addDays = (day, count) => dayOf(midnight(day) + count * 1440 * MINUTE);

/**
 * How many days lie from one to another.
 * @param {string} from
 * @param {string} to
 */
export const daysBetween = (from, to) => Math.round((midnight(to) - midnight(from)) / (1440 * MINUTE));

/**
 * 0 is Monday.
 * @param {string} day
 */
export const weekdayOf = (day) => (new Date(midnight(day)).getUTCDay() + 6) % 7;

/** @param {string} day */
export const mondayOf = (day) => addDays(day, -weekdayOf(day));

/** @param {string} day */
export const weekdayName = (day) => WEEKDAYS[weekdayOf(day)];

/**
 * `30 Nov`
 * @param {string} day
 */
export const dayAndMonth = (day) => `${Number(day.slice(8))} ${MONTHS[Number(day.slice(5, 7)) - 1]}`;

/**
 * `Mon 30 Nov`
 * @param {string} day
 */
export const dayName = (day) => `${weekdayName(day)} ${dayAndMonth(day)}`;

/**
 * Whether a text is a day of the calendar.
 * @param {string} text
 */
export const isDay = (text) =>
  /^\d{4}-\d\d-\d\d$/.test(text) && Number.isFinite(midnight(text)) && dayOf(midnight(text)) === text;

/**
 * `08:00`; 1440 is `24:00`.
 * @param {number} minute
 */
export const timeOfDay = (minute) => `${two(Math.floor(minute / 60))}:${two(minute % 60)}`;

/**
 * @typedef {object} Clock
 * @property {string} timeZone
 * @property {(instant: number) => number} offset milliseconds by which local time is ahead of UTC
 * @property {(instant: number) => { day: string, minute: number }} local
 * @property {(day: string, minute: number) => number} instant the first one, where the clock goes back; one as far
 *   behind the gap as asked, where the clock goes forward
 * @property {(instant: number) => string} short `Mon 30 Nov 08:00`
 * @property {(start: number, end: number) => string} range `Mon 30 Nov 08:00–10:00`; over midnight with both days
 * @property {(instant: number) => string} stamp `2026-11-30 08:00:05`
 * @property {(instant: number) => string} field `2026-11-30T08:00`, for an input of the browser
 * @property {(text: string) => number} parseField NaN for what is no time
 * @property {(instant: number) => string} rfc3339 with the local offset
 */

/**
 * @param {string} timeZone an IANA name
 * @returns {Clock}
 */
export function clockOf(timeZone) {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone,
    calendar: "iso8601",
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  /** @type {Map<number, number>} */
  const offsets = new Map();

  /** @param {number} instant */
  function offset(instant) {
    // Clocks change at quarters of an hour, and asking the browser each time would be most of a grid's work.
    const quarter = Math.floor(instant / QUARTER);
    let found = offsets.get(quarter);
    if (found === undefined) {
      const start = quarter * QUARTER;
      /** @type {Record<string, number>} */
      const parts = {};
      for (const { type, value } of format.formatToParts(start)) parts[type] = Number(value);
      found = Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second) - start;
      if (offsets.size >= OFFSETS_MAX) offsets.clear();
      offsets.set(quarter, found);
    }
    return found;
  }

  const shifted = (/** @type {number} */ instant) => new Date(instant + offset(instant)).toISOString();

  /** @param {number} instant */
  function local(instant) {
    const time = instant + offset(instant);
    return { day: dayOf(time), minute: Math.floor((time - midnight(dayOf(time))) / MINUTE) };
  }

  /**
   * @param {string} day
   * @param {number} minute
   */
  function instant(day, minute) {
    const wanted = midnight(day) + minute * MINUTE;
    // No zone is further from UTC than 26 hours, and none changes twice in that time.
    const before = offset(wanted - 26 * 60 * MINUTE);
    const after = offset(wanted + 26 * 60 * MINUTE);
    for (const candidate of [wanted - Math.max(before, after), wanted - Math.min(before, after)]) {
      if (candidate + offset(candidate) === wanted) return candidate;
    }
    return wanted - before;
  }

  return {
    timeZone,
    offset,
    local,
    instant,
    short(instant) {
      const { day, minute } = local(instant);
      return `${dayName(day)} ${timeOfDay(minute)}`;
    },
    range(start, end) {
      const [starts, ends] = [this.short(start), this.short(end)];
      return local(start).day === local(end).day ? `${starts}–${ends.slice(-5)}` : `${starts} – ${ends}`;
    },
    stamp: (instant) => shifted(instant).slice(0, 19).replace("T", " "),
    field: (instant) => shifted(instant).slice(0, 16),
    parseField(text) {
      const [, day, hours, minutes] = /^(\d{4}-\d\d-\d\d)T(\d\d):(\d\d)/.exec(text) ?? [];
      return day && isDay(day) ? instant(day, Number(hours) * 60 + Number(minutes)) : NaN;
    },
    rfc3339(instant) {
      const minutes = Math.round(offset(instant) / MINUTE);
      const ahead = Math.abs(minutes);
      const suffix = `${minutes < 0 ? "-" : "+"}${two(Math.floor(ahead / 60))}:${two(ahead % 60)}`;
      return `${shifted(instant).slice(0, 19)}${suffix}`;
    },
  };
}

/**
 * `2.4 s`, `3 min`: how long something takes or is ago.
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (milliseconds > 0 && milliseconds < 1) return `${Math.round(milliseconds * 1000)} µs`;
  if (seconds < 1) return `${Math.round(milliseconds)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}
