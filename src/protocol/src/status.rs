//! The status numbers of the protocol.

use std::fmt;

/// The permanent outcome of a command or a frame. A number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[non_exhaustive]
pub enum Status {
    /// Done, now or by an earlier attempt with the same key.
    Ok = 0,
    /// No pool of this name or id.
    PoolNotFound = 16,
    /// Unknown, forgotten or forged id.
    ReservationNotFound = 17,
    /// The units do not fit.
    InsufficientCapacity = 18,
    /// The planner closed the pool.
    PoolClosed = 19,
    /// Before `opens_at`.
    PoolNotOpenYet = 20,
    /// From `closes_at` on.
    PoolPastClosing = 21,
    /// The key belongs to another request.
    KeyReused = 22,
    /// The reservation was released.
    ReservationEnded = 23,
    /// The hold's deadline has passed.
    HoldExpired = 24,
    /// The version that the change was made from is not current.
    ChangedMeanwhile = 25,
    /// The reservation is confirmed: it has no deadline to change.
    NotHeld = 26,
    /// More changes than count together.
    TooManyChanges = 27,
    /// A file that holds the past is damaged.
    HistoryDamaged = 28,
    /// A value out of its range.
    Invalid = 48,
    /// An operation or feature that this server does not have.
    Unsupported = 49,
    /// The payload is not what the operation asks for.
    Malformed = 50,
    /// The header is not valid; the connection is closed.
    FrameInvalid = 51,
    /// Above the limits of `welcome`.
    FrameTooLarge = 52,
    /// No version in common.
    VersionUnsupported = 53,
    /// The payload was damaged on its way.
    ChecksumMismatch = 54,
    /// Reserved.
    Unauthenticated = 55,
    /// A queue is full.
    Overloaded = 80,
    /// The server is starting or stopping.
    Unavailable = 81,
    /// No room left on the disk.
    StorageFull = 82,
    /// Made by the client: no answer arrived; send it again with the same key.
    OutcomeUnknown = 112,
}

/// Did the command take effect?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It did.
    Yes,
    /// It did not, and never will.
    No,
    /// Nobody can tell from this answer.
    Unknown,
}

/// Whether the same command may succeed when it is sent again unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// There is nothing to retry: it was done.
    Done,
    /// The answer will be the same until something else changes.
    No,
    /// Yes, after a pause.
    Yes,
    /// Yes, and safely only with the same key (or, without a key, because the command is idempotent by state).
    ByKey,
}

/// One row of the table in ARCHITECTURE.md.
struct Row {
    status: Status,
    name: &'static str,
    retry: Retry,
    applied: Applied,
    meaning: &'static str,
}

const fn row(status: Status, name: &'static str, retry: Retry, applied: Applied, meaning: &'static str) -> Row {
    Row {
        status,
        name,
        retry,
        applied,
        meaning,
    }
}

#[rustfmt::skip]
static ROWS: [Row; 26] = {
    use Status as S;
    use {Applied as A, Retry as R};
    [
        row(S::Ok, "ok", R::Done, A::Yes, "done, now or by an earlier attempt with the same key"),
        row(S::PoolNotFound, "pool_not_found", R::No, A::No, "no pool of this name or id"),
        row(S::ReservationNotFound, "reservation_not_found", R::No, A::No, "unknown, forgotten or forged id"),
        row(S::InsufficientCapacity, "insufficient_capacity", R::No, A::No, "the units do not fit"),
        row(S::PoolClosed, "pool_closed", R::No, A::No, "the planner closed the pool"),
        row(S::PoolNotOpenYet, "pool_not_open_yet", R::No, A::No, "before `opens_at`"),
        row(S::PoolPastClosing, "pool_past_closing", R::No, A::No, "from `closes_at` on"),
        row(S::KeyReused, "key_reused", R::No, A::No, "the key belongs to another request"),
        row(S::ReservationEnded, "reservation_ended", R::No, A::No, "the reservation was released"),
        row(S::HoldExpired, "hold_expired", R::No, A::No, "the hold's deadline has passed"),
        row(S::ChangedMeanwhile, "changed_meanwhile", R::No, A::No, "the version that the change was made from is not current"),
        row(S::NotHeld, "not_held", R::No, A::No, "the reservation is confirmed: it has no deadline to change"),
        row(S::TooManyChanges, "too_many_changes", R::No, A::No, "more changes at once than can count together"),
        row(S::HistoryDamaged, "history_damaged", R::No, A::No, "a file that holds the past is damaged, or of a version that the server does not know"),
        row(S::Invalid, "invalid", R::No, A::No, "a value out of its range"),
        row(S::Unsupported, "unsupported", R::No, A::No, "an operation or feature that this server does not have"),
        row(S::Malformed, "malformed", R::No, A::No, "the payload is not what the operation asks for"),
        row(S::FrameInvalid, "frame_invalid", R::No, A::No, "the header is not valid; the connection is closed"),
        row(S::FrameTooLarge, "frame_too_large", R::No, A::No, "above the limits of `welcome`"),
        row(S::VersionUnsupported, "version_unsupported", R::No, A::No, "no version in common"),
        row(S::ChecksumMismatch, "checksum_mismatch", R::Yes, A::No, "the payload was damaged on its way"),
        row(S::Unauthenticated, "unauthenticated", R::No, A::No, "reserved"),
        row(S::Overloaded, "overloaded", R::Yes, A::No, "a queue is full"),
        row(S::Unavailable, "unavailable", R::Yes, A::No, "the server is starting or stopping"),
        row(S::StorageFull, "storage_full", R::Yes, A::No, "no room left on the disk"),
        row(S::OutcomeUnknown, "outcome_unknown", R::ByKey, A::Unknown, "made by the client: no answer arrived; send it again with the same key"),
    ]
};

/// One above the highest number in use.
const NUMBERS_END: usize = 113;

/// For each number the index of its row plus 1; 0 where there is none.
static INDEX_BY_NUMBER: [u8; NUMBERS_END] = {
    let mut index_by_number = [0; NUMBERS_END];
    let mut index = 0;
    while index < ROWS.len() {
        index_by_number[ROWS[index].status as usize] = index as u8 + 1;
        index += 1;
    }
    index_by_number
};

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The status of this number; `None` for one that this version does not know: see [`StatusNumber`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        match INDEX_BY_NUMBER.get(usize::from(number)) {
            None | Some(0) => None,
            Some(&index) => Some(ROWS[usize::from(index) - 1].status),
        }
    }

    /// Every status, in the order of the numbers.
    pub fn all() -> impl ExactSizeIterator<Item = Status> {
        ROWS.iter().map(|row| row.status)
    }

    /// The permanent name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What it means, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Whether and how the same command may be sent again.
    #[must_use]
    pub fn retry(self) -> Retry {
        self.row().retry
    }

    /// Whether the same command, sent again unchanged, may succeed: [`Retry::Yes`] or [`Retry::ByKey`].
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self.row().retry, Retry::Yes | Retry::ByKey)
    }

    /// Did the command take effect?
    #[must_use]
    pub fn applied(self) -> Applied {
        self.row().applied
    }

    fn row(self) -> &'static Row {
        // Every status has a row; a test walks them.
        &ROWS[usize::from(INDEX_BY_NUMBER[self as usize]).saturating_sub(1)]
    }
}

/// A status number as it came over the wire, which a later version may have added.
///
/// A number that is not known is judged by its range: 16 to 47 refused, 48 to 79 a wrong request, 80 to 111 not applied
/// and retryable, any other outcome unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct StatusNumber(pub u16);

impl StatusNumber {
    /// The status, when this version knows it.
    #[must_use]
    pub fn known(self) -> Option<Status> {
        Status::from_number(self.0)
    }

    /// Whether it says that the command is done.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// Whether and how the same command may be sent again.
    #[must_use]
    pub fn retry(self) -> Retry {
        match (self.known(), self.0) {
            (Some(status), _) => status.retry(),
            (None, 16..=79) => Retry::No,
            (None, 80..=111) => Retry::Yes,
            (None, _) => Retry::ByKey,
        }
    }

    /// Whether the same command, sent again unchanged, may succeed.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self.retry(), Retry::Yes | Retry::ByKey)
    }

    /// Did the command take effect?
    #[must_use]
    pub fn applied(self) -> Applied {
        match (self.known(), self.0) {
            (Some(status), _) => status.applied(),
            (None, 16..=111) => Applied::No,
            (None, _) => Applied::Unknown,
        }
    }
}

impl From<Status> for StatusNumber {
    fn from(status: Status) -> Self {
        Self(status.number())
    }
}

/// The name; `status 99` for a number that this version does not know.
impl fmt::Display for StatusNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(status) => f.write_str(status.name()),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the architecture page, as texts: number, name, retryable, applied, meaning.
    fn page_rows() -> Vec<[String; 5]> {
        include_str!("../../../ARCHITECTURE.md")
            .lines()
            .skip_while(|line| !line.starts_with("| number | name | retryable | applied | meaning |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace("–", "")).collect();
                std::array::from_fn(|index| cells[index + 1].clone())
            })
            .collect()
    }

    #[test]
    fn the_table_is_that_of_the_architecture_page() {
        let known: Vec<[String; 5]> = Status::all()
            .map(|status| {
                [
                    status.number().to_string(),
                    format!("`{}`", status.name()),
                    match status.retry() {
                        Retry::Done => "",
                        Retry::No => "no",
                        Retry::Yes => "yes",
                        Retry::ByKey => "by key",
                    }
                    .to_owned(),
                    match status.applied() {
                        Applied::Yes => "yes",
                        Applied::No => "no",
                        Applied::Unknown => "unknown",
                    }
                    .to_owned(),
                    status.meaning().to_owned(),
                ]
            })
            .collect();
        assert_eq!(page_rows(), known);
    }

    #[test]
    fn every_number_leads_to_its_status_and_back() {
        let mut count = 0;
        for number in 0..=u16::MAX {
            if let Some(status) = Status::from_number(number) {
                assert_eq!(status.number(), number);
                assert_eq!(status.row().status, status);
                count += 1;
            }
        }
        assert_eq!(count, ROWS.len());
        assert!(ROWS.is_sorted_by_key(|row| row.status.number()));
    }

    #[test]
    fn numbers_that_are_not_known_are_judged_by_their_range() {
        let check = |number, retry, applied| {
            assert_eq!(Status::from_number(number), None, "{number} is known");
            let number = StatusNumber(number);
            assert_eq!((number.retry(), number.applied()), (retry, applied), "{number}");
        };
        check(1, Retry::ByKey, Applied::Unknown);
        check(15, Retry::ByKey, Applied::Unknown);
        check(29, Retry::No, Applied::No);
        check(47, Retry::No, Applied::No);
        check(79, Retry::No, Applied::No);
        check(83, Retry::Yes, Applied::No);
        check(111, Retry::Yes, Applied::No);
        check(113, Retry::ByKey, Applied::Unknown);
        check(u16::MAX, Retry::ByKey, Applied::Unknown);
        for status in Status::all() {
            assert_eq!(StatusNumber::from(status).applied(), status.applied());
            assert_eq!(StatusNumber::from(status).retry(), status.retry());
        }
    }

    #[test]
    fn only_what_was_not_applied_or_is_safe_by_key_may_be_retried() {
        for status in Status::all() {
            if status.retryable() {
                let safe = status.applied() == Applied::No || status.retry() == Retry::ByKey;
                assert!(safe, "{status} must not be retried");
            }
        }
    }
}
