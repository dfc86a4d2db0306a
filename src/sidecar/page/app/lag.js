// How far the stream of events is behind, as its comments tell.

/**
 * The lag of a comment in milliseconds, or null for another comment.
 * @param {string} comment
 */
export function lagOf(comment) {
  const [, value] = /^lag_ms=(\d+)$/.exec(comment) ?? [];
  return value === undefined ? null : Number(value);
}
