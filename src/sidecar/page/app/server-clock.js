// The server's time: what is past its closing time, and how far behind the page is, must not depend on the planner's clock.

/** Dates of answers have no fraction; a difference below this may be that alone. */
const COARSE_MS = 2_000;

let ahead = 0;

/**
 * Takes the date of an answer that just came.
 * @param {string | null} date
 */
export function noteServerDate(date) {
  const difference = Date.parse(date ?? "") - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) < COARSE_MS ? 0 : difference;
}

export const serverNow = () => Date.now() + ahead;

/**
 * How late events come, whatever the two clocks show: the most punctual one so far is taken to be as late as the server says it is.
 * @returns {{ told: (lagMs: number) => void, of: (at: number, heard: number) => number }}
 */
export function latenessMeter() {
  let punctual = Infinity;
  let told = 0;
  return {
    told: (lagMs) => (told = lagMs),
    of(at, heard) {
      punctual = Math.min(punctual, heard - at);
      return heard - at - punctual + told;
    },
  };
}
