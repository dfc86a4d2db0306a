//! How much of history is read before whoever asked gets to say whether to go on.

use std::time::{Duration, Instant};

/// Records between two looks at the clock.
const RECORDS_BETWEEN_LOOKS: u32 = 512;

/// Bounds a piece of reading in time and in bytes. It is looked at between records and blocks, so that every piece gets somewhere.
#[derive(Debug)]
pub struct Budget {
    /// Nothing when time does not count.
    until: Option<Instant>,
    bytes: u64,
    records: u32,
    is_spent: bool,
}

/// What a bounded reader has come to.
#[derive(Debug)]
pub enum Step<T> {
    /// The next one.
    Next(T),
    /// The budget is spent: go on with another one.
    Paused,
    /// There is no other.
    End,
}

impl Budget {
    /// So much time, and so many bytes of records.
    pub fn new(time: Duration, bytes: u64) -> Budget {
        Budget {
            until: Some(Instant::now() + time),
            bytes,
            records: 0,
            is_spent: false,
        }
    }

    /// Never spent.
    pub fn unlimited() -> Budget {
        Budget {
            until: None,
            bytes: u64::MAX,
            records: 0,
            is_spent: false,
        }
    }

    /// A block or a file was looked at.
    pub fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_spent |= self.bytes == 0 || self.until.is_some_and(|until| Instant::now() >= until);
    }

    /// A record was looked at; now and then the clock is too.
    pub(crate) fn spend_record(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_spent |= self.bytes == 0;
        self.records += 1;
        if self.records.is_multiple_of(RECORDS_BETWEEN_LOOKS) {
            self.spend(0);
        }
    }

    /// Whether that was it.
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }
}
