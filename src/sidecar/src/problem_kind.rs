//! The kinds of problems, and the pages that explain them. A slug keeps its meaning for ever.

use http::StatusCode;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProblemKind {
    NotJson,
    BadId,
    BadHeader,
    KeyMissing,
    AdminOnly,
    NotFound,
    PoolNotFound,
    ReservationNotFound,
    MethodNotAllowed,
    Timeout,
    InsufficientCapacity,
    PoolClosed,
    ReservationEnded,
    NotHeld,
    HoldExpired,
    ChangedMeanwhile,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    KeyReused,
    Unsupported,
    Overloaded,
    Internal,
    HistoryDamaged,
    PartlyApplied,
    Unavailable,
    OutcomeUnknown,
}

/// What is the same each time a kind of problem occurs.
pub(crate) struct KindRow {
    pub(crate) kind: ProblemKind,
    pub(crate) status: StatusCode,
    pub(crate) slug: &'static str,
    pub(crate) title: &'static str,
    pub(crate) retryable: bool,
    pub(crate) applied: Option<bool>,
    /// For the page about it: what it means, and what to do.
    pub(crate) help: &'static str,
}

const fn refused(
    kind: ProblemKind,
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    help: &'static str,
) -> KindRow {
    KindRow {
        kind,
        status,
        slug,
        title,
        retryable: false,
        applied: Some(false),
        help,
    }
}

const fn busy(
    kind: ProblemKind,
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    help: &'static str,
) -> KindRow {
    KindRow {
        retryable: true,
        ..refused(kind, status, slug, title, help)
    }
}

/// Every kind, in the order of the enum.
#[rustfmt::skip]
pub(crate) static KINDS: [KindRow; 27] = {
    use ProblemKind as K;
    use StatusCode as S;
    [
        refused(K::NotJson, S::BAD_REQUEST, "not-json", "The body is not JSON",
            "The body could not be read as JSON; the detail names line and column. Send one JSON value in UTF-8."),
        refused(K::BadId, S::BAD_REQUEST, "bad-id", "Not an id or a name",
            "What stands in the path cannot be an id of a reservation (26 characters of Crockford's base32) or the name of a pool ([A-Za-z0-9][A-Za-z0-9._:-]{0,127})."),
        refused(K::BadHeader, S::BAD_REQUEST, "bad-header", "A header cannot be read",
            "The detail names the header and what it must look like."),
        refused(K::KeyMissing, S::BAD_REQUEST, "key-missing", "The Idempotency-Key is missing",
            "A reserve needs the header Idempotency-Key: 1 to 255 visible ASCII characters of your own, the same for each attempt at the same reserve, another one for each new one. It makes sure that a reserve that is sent twice takes effect once."),
        refused(K::AdminOnly, S::FORBIDDEN, "admin-only", "Not on this address",
            "This installation answers what planners ask, and exact numbers, on another address (--admin). Ask there, or ask for bands."),
        refused(K::NotFound, S::NOT_FOUND, "not-found", "There is nothing at this path",
            "See /openapi.json for what there is. With --admin, the page, pools, events and metrics are on the other address."),
        refused(K::PoolNotFound, S::NOT_FOUND, "pool-not-found", "No such pool",
            "No pool has this name now. It may never have been created, or it has retired: its history is still there at /v1/pools/{name}/events."),
        refused(K::ReservationNotFound, S::NOT_FOUND, "reservation-not-found", "No such reservation",
            "The id is well formed, and unknown. Ended reservations are forgotten after --key-retention; the search by reference still finds them."),
        refused(K::MethodNotAllowed, S::METHOD_NOT_ALLOWED, "method-not-allowed", "The method does not go with the path",
            "The header Allow names those that do."),
        busy(K::Timeout, S::REQUEST_TIMEOUT, "timeout", "The body did not arrive in time",
            "The whole body must arrive within 30 seconds."),
        refused(K::InsufficientCapacity, S::CONFLICT, "insufficient-capacity", "The units do not fit",
            "`dimensions` names where the pool is short, `requested` what was asked for, and `remaining` what is left. Ask for less, or for another pool: POST /v1/availability with the same units says which ones fit."),
        refused(K::PoolClosed, S::CONFLICT, "pool-closed", "The pool does not sell",
            "`reason` says why: `closed` by the planner, `not_open_yet` before opens_at, `past_closing` from closes_at on. Holds may still be confirmed, and reservations released."),
        refused(K::ReservationEnded, S::CONFLICT, "reservation-ended", "The reservation has ended",
            "It was released; its units are free. Reserve anew, with a new key."),
        refused(K::NotHeld, S::CONFLICT, "not-held", "The reservation has no deadline",
            "It is confirmed: only a hold has a deadline that can be changed."),
        refused(K::HoldExpired, S::GONE, "hold-expired", "The hold has expired",
            "Its deadline has passed, and its units are free. Reserve anew, with a new key."),
        refused(K::ChangedMeanwhile, S::PRECONDITION_FAILED, "changed-meanwhile", "Changed by somebody else",
            "The ETag in If-Match is not that of the definition that stands now; `etag` and the header ETag give that one, `current` what it says. Look at it, and send your change again with the new ETag."),
        refused(K::TooLarge, S::PAYLOAD_TOO_LARGE, "too-large", "Too large",
            "The body, or what was asked for, is larger than what is taken at once. Send it in parts, or ask for less."),
        refused(K::UnsupportedMediaType, S::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The Content-Type does not go with the call",
            "Bodies are application/json; PATCH takes application/merge-patch+json too; an import takes text/csv or application/x-ndjson."),
        refused(K::Invalid, S::UNPROCESSABLE_ENTITY, "invalid", "A value is not right",
            "`errors` names each field with a JSON pointer, and what is wrong with it."),
        refused(K::KeyReused, S::UNPROCESSABLE_ENTITY, "key-reused", "The key belongs to another request",
            "Another reserve (other pool, units, hold or reference) took effect under this Idempotency-Key. Use a new key for a new reserve."),
        refused(K::Unsupported, S::UNPROCESSABLE_ENTITY, "unsupported", "Not built yet",
            "The field is reserved for a later version."),
        busy(K::Overloaded, S::TOO_MANY_REQUESTS, "overloaded", "Too busy",
            "More is being asked than can be answered at the moment; this request had no effect. Send it again after the time in Retry-After, with the same key."),
        refused(K::Internal, S::INTERNAL_SERVER_ERROR, "internal", "An error of the server",
            "This is a mistake in the program; the log says more."),
        refused(K::HistoryDamaged, S::INTERNAL_SERVER_ERROR, "history-damaged", "A file that holds the past is damaged",
            "The detail names the file. Asking again does not help; `plimsoll replay verify` says what is damaged, and `plimsoll replay repair` what can be done."),
        KindRow {
            applied: None,
            ..refused(K::PartlyApplied, S::INTERNAL_SERVER_ERROR, "partly-applied", "Some of it took effect",
                "Changes of several pools are checked together and then made; somebody else's change, or a full engine, came between, and what had been made could not be taken back. `pools` names those that were changed, of an import `not_done` those that were not. Look at them.")
        },
        busy(K::Unavailable, S::SERVICE_UNAVAILABLE, "unavailable", "Not available at the moment",
            "The engine does not answer, is starting or stopping, or its disk is full; this request had no effect. Send it again after the time in Retry-After, with the same key."),
        KindRow {
            applied: None,
            ..busy(K::OutcomeUnknown, S::GATEWAY_TIMEOUT, "outcome-unknown", "Nobody can tell what happened",
                "The engine did not answer in time; the request may have taken effect. Send it again: a reserve with the same key, a confirmation or a release as it is. It has one effect, however often it is sent.")
        },
    ]
};

impl ProblemKind {
    pub(crate) fn row(self) -> &'static KindRow {
        let row = &KINDS[self as usize];
        debug_assert_eq!(row.kind, self);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_kinds() {
        for (index, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{}", row.slug);
            assert!(row.slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert_eq!(KINDS.iter().filter(|other| other.slug == row.slug).count(), 1);
        }
    }
}
