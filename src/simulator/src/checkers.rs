//! The promises, and how a breach of one is told.

use std::fmt;

/// A promise of `ARCHITECTURE.md`, as far as the simulator holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// 1: never oversold.
    Oversold,
    /// 2: acknowledged is durable.
    Durable,
    /// 3: at most one effect for each key.
    OneEffect,
    /// 4: one order for each pool, and answers in order.
    Order,
    /// 5: reads are fresh, and never ahead of what is durable.
    Fresh,
    /// 6: nothing is forgotten; the state is a function of the journal.
    Forgotten,
    /// 7: queues are bounded.
    Bounded,
    /// 8: a bad disk is noticed, and progress resumes.
    BadDisk,
    /// Holds and pools end when they should.
    Time,
    /// What was turned away is told once.
    LostDemand,
    /// A snapshot is the state of its moment.
    Snapshot,
    /// An answer that the model would not give.
    Answer,
    /// An assertion of production code.
    Assertion,
}

impl Promise {
    /// The checker's name.
    pub fn name(self) -> &'static str {
        match self {
            Promise::Oversold => "1 never oversold",
            Promise::Durable => "2 acknowledged is durable",
            Promise::OneEffect => "3 at most one effect per key",
            Promise::Order => "4 one order per pool",
            Promise::Fresh => "5 reads are fresh and never ahead",
            Promise::Forgotten => "6 nothing is forgotten",
            Promise::Bounded => "7 overload sheds",
            Promise::BadDisk => "8 a bad disk is noticed",
            Promise::Time => "holds and pools end in time",
            Promise::LostDemand => "lost demand is told once",
            Promise::Snapshot => "a snapshot is the state of its moment",
            Promise::Answer => "answers match the model",
            Promise::Assertion => "assertion of production code",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub promise: Promise,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.promise.name(), self.detail)
    }
}

/// Tells a broken promise.
pub(crate) fn violation<T>(promise: Promise, detail: impl FnOnce() -> String) -> Result<T, Violation> {
    Err(Violation {
        promise,
        detail: detail(),
    })
}

/// Tells a broken promise unless it holds.
pub(crate) fn hold(holds: bool, promise: Promise, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { violation(promise, detail) }
}
