// The list of a slot's customers: the references of what is reserved in it, to copy or to download.
import { findReservations } from "./api.js";
import { csvText } from "./csv.js";
import { CUSTOMERS_MAX, RESERVATIONS_PAGE } from "./limits.js";

/** @typedef {import("./api.js").Reservation} Reservation */

/**
 * All that is held or confirmed in a pool.
 * @param {string} pool
 * @param {AbortSignal} [signal]
 * @returns {Promise<Reservation[]>}
 */
export async function customersOf(pool, signal) {
  /** @type {Reservation[]} */
  const found = [];
  for (const state of ["confirmed", "held"]) {
    let cursor;
    do {
      const page = await findReservations({ pool, state, limit: RESERVATIONS_PAGE, cursor }, signal);
      found.push(...page.reservations);
      cursor = page.next ?? undefined;
    } while (cursor !== undefined && found.length < CUSTOMERS_MAX);
  }
  return found;
}

/**
 * What a customer is known by: the reference, or the reservation's id where there is none.
 * @param {Reservation} reservation
 */
export const customerName = ({ reference, reservation }) => reference ?? reservation;

/**
 * @param {Reservation[]} reservations
 * @param {string[]} dimensions
 */
export const customersCsv = (reservations, dimensions) =>
  csvText([
    ["reference", "reservation", "state", ...dimensions, "created_at"],
    ...reservations.map((reservation) => [
      reservation.reference ?? "",
      reservation.reservation,
      reservation.state,
      ...dimensions.map((dimension) => String(reservation.units[dimension] ?? 0)),
      reservation.created_at,
    ]),
  ]);
