// How much the page takes on, so that nothing grows without a bound.

/** Pools in the grid at once; past it the planner is told that there are more. */
export const GRID_POOLS_MAX = 20_000;
/** Pools in one answer of the server. */
export const POOLS_PAGE = 1_000;
/** Events that wait for the grid while it loads; past it the grid loads anew. */
export const WAITING_EVENTS_MAX = 50_000;
/** Reservations in a customer list. */
export const CUSTOMERS_MAX = 50_000;
/** Reservations in one answer of the server. */
export const RESERVATIONS_PAGE = 500;
/** Events in one page of a history. */
export const HISTORY_PAGE = 100;
/** Changes listed beside a past grid, and minutes of refusals listed. */
export const FEED_EVENTS_MAX = 20_000;
/** Bytes of a file that is imported. */
export const IMPORT_BYTES_MAX = 16 * 1024 * 1024;
/** Rows of a preview; the rest is counted. */
export const PREVIEW_ROWS_MAX = 200;
