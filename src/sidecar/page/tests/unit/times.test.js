import assert from "node:assert/strict";
import { test } from "node:test";
import { addDays, clockOf, dayName, daysBetween, duration, isDay, mondayOf, timeOfDay, weekdayOf } from "../../app/times.js";

/**
 * @param {string} zone
 * @param {string} day
 * @param {number} minute
 * @param {string} expected
 */
function check(zone, day, minute, expected) {
  const clock = clockOf(zone);
  const instant = clock.instant(day, minute);
  assert.equal(new Date(instant).toISOString(), expected, `${zone} ${day} ${minute}`);
}

test("a local time is an instant", () => {
  check("UTC", "2026-11-30", 480, "2026-11-30T08:00:00.000Z");
  check("Europe/Vienna", "2026-11-30", 480, "2026-11-30T07:00:00.000Z");
  check("Europe/Vienna", "2026-07-30", 480, "2026-07-30T06:00:00.000Z");
  check("America/New_York", "2026-11-30", 1439, "2026-12-01T04:59:00.000Z");
  check("Asia/Kathmandu", "2026-11-30", 0, "2026-11-29T18:15:00.000Z");
  check("Pacific/Apia", "2026-11-30", 480, "2026-11-29T19:00:00.000Z");
  check("Pacific/Marquesas", "2026-11-30", 480, "2026-11-30T17:30:00.000Z");
});

test("where the clock goes forward, the missing hour is the next one", () => {
  check("Europe/Vienna", "2027-03-28", 119, "2027-03-28T00:59:00.000Z");
  check("Europe/Vienna", "2027-03-28", 150, "2027-03-28T01:30:00.000Z");
  check("Europe/Vienna", "2027-03-28", 180, "2027-03-28T01:00:00.000Z");
  check("America/New_York", "2027-03-14", 150, "2027-03-14T07:30:00.000Z");
});

test("where the clock goes back, the first of two", () => {
  check("Europe/Vienna", "2026-10-25", 150, "2026-10-25T00:30:00.000Z");
  check("America/New_York", "2026-11-01", 90, "2026-11-01T05:30:00.000Z");
  check("Australia/Lord_Howe", "2027-04-04", 105, "2027-04-03T14:45:00.000Z");
});

test("an instant is a local time, and comes back", () => {
  for (const zone of ["UTC", "Europe/Vienna", "America/St_Johns", "Australia/Lord_Howe", "Asia/Tokyo"]) {
    const clock = clockOf(zone);
    // Every five hours for a year, which meets the day after each change too.
    for (let instant = Date.UTC(2026, 0, 1); instant < Date.UTC(2027, 0, 1); instant += 5 * 3_600_000) {
      const { day, minute } = clock.local(instant);
      const back = clock.instant(day, minute);
      assert.deepEqual(clock.local(back), { day, minute }, `${zone} ${new Date(instant).toISOString()}`);
    }
  }
});

test("what the browser's field holds comes back, and an offset is written out", () => {
  const clock = clockOf("America/St_Johns");
  const instant = Date.UTC(2026, 10, 30, 12, 0);
  assert.equal(clock.field(instant), "2026-11-30T08:30");
  assert.equal(clock.parseField("2026-11-30T08:30"), instant);
  assert.ok(Number.isNaN(clock.parseField("")));
  assert.ok(Number.isNaN(clock.parseField("2026-02-31T08:30")));
  assert.equal(clock.rfc3339(instant), "2026-11-30T08:30:00-03:30");
  assert.equal(clock.short(instant), "Mon 30 Nov 08:30");
  assert.equal(clock.range(instant, instant + 7_200_000), "Mon 30 Nov 08:30–10:30");
  assert.equal(clock.range(instant, instant + 72_000_000), "Mon 30 Nov 08:30 – Tue 1 Dec 04:30");
  assert.equal(clock.stamp(instant), "2026-11-30 08:30:00");
});

test("days are counted on the calendar", () => {
  assert.equal(addDays("2027-03-27", 2), "2027-03-29");
  assert.equal(addDays("2024-03-01", -1), "2024-02-29");
  assert.equal(daysBetween("2026-10-24", "2026-10-27"), 3);
  assert.equal(weekdayOf("2026-11-30"), 0);
  assert.equal(mondayOf("2026-12-06"), "2026-11-30");
  assert.equal(dayName("2026-12-06"), "Sun 6 Dec");
  assert.equal(timeOfDay(1440), "24:00");
  assert.ok(isDay("2024-02-29") && !isDay("2023-02-29") && !isDay("today"));
});

test("a duration in the unit that fits", () => {
  const texts = [0.25, 12.4, 2400, 61_000, 180_000, 8_000_000, 900_000_000].map(duration);
  assert.deepEqual(texts, ["250 µs", "12 ms", "2.4 s", "61 s", "3 min", "2 h", "10 days"]);
});
