// The list of a slot's customers: the references of what is reserved in it, to copy or to download.
import { findReservations } from "./api.js";
import { csvText } from "./csv.js";
import { number } from "./figures.js";
import { CUSTOMERS_MAX, RESERVATIONS_PAGE } from "./limits.js";

/** @typedef {import("./api.js").Reservation} Reservation */

/**
 * All that is held or confirmed in a pool.
 * @param {string} pool
 * @returns {Promise<Reservation[]>}
 */
export async function customersOf(pool) {
  /** @type {Map<string, Reservation>} */
  const found = new Map();
  // The held ones first: one that is confirmed while they are read is found again, and none is missed.
  for (const state of ["held", "confirmed"]) {
    let cursor;
    do {
      const page = await findReservations({ pool, state, limit: RESERVATIONS_PAGE, cursor });
      for (const reservation of page.reservations) found.set(reservation.reservation, reservation);
      if (found.size > CUSTOMERS_MAX) {
        throw new Error(`More than ${number(CUSTOMERS_MAX)} customers: read them by \`plimsoll find --pool ${pool}\`.`);
      }
      cursor = page.next ?? undefined;
    } while (cursor !== undefined);
  }
  return [...found.values()];
}

/**
 * What a customer is known by: the reference, or the reservation's id where there is none.
 * @param {Reservation} reservation
 */
export const customerName = ({ reference, reservation }) => reference ?? reservation;

/**
 * A reference comes from outside: a spreadsheet must not take it for a formula. Nobody imports the list, so that the apostrophe,
 * which OWASP proposes, becomes part of nothing. The wide forms are formulas where East Asian text is typed.
 * @param {string} text
 */
const harmless = (text) => (/^[=+\-@＝＋－＠\t\r\n\0]/.test(text) ? `'${text}` : text);

/**
 * @param {Reservation[]} reservations
 * @param {string[]} dimensions
 */
export const customersCsv = (reservations, dimensions) =>
  csvText([
    ["reference", "reservation", "state", ...dimensions, "created_at"],
    ...reservations.map((reservation) => [
      harmless(reservation.reference ?? ""),
      reservation.reservation,
      reservation.state,
      ...dimensions.map((dimension) => String(reservation.units[dimension] ?? 0)),
      reservation.created_at,
    ]),
  ]);
