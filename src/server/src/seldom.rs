//! Log lines about what clients can make happen any number of times.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets a line through once a second, and counts the others.
#[derive(Default)]
pub(crate) struct Seldom {
    told_at: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Seldom {
    /// It happened: how many times since the last line, when it is time for one.
    pub(crate) fn tell(&self, now: Instant) -> Option<u64> {
        self.untold.set(self.untold.get() + 1);
        let is_time = self
            .told_at
            .get()
            .is_none_or(|told_at| now.saturating_duration_since(told_at) >= INTERVAL);
        is_time.then(|| {
            self.told_at.set(Some(now));
            self.untold.replace(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_all() {
        let seldom = Seldom::default();
        let begun = Instant::now();
        assert_eq!(seldom.tell(begun), Some(1));
        assert_eq!(seldom.tell(begun), None);
        assert_eq!(seldom.tell(begun + INTERVAL / 2), None);
        assert_eq!(seldom.tell(begun + INTERVAL), Some(3));
        assert_eq!(seldom.tell(begun + INTERVAL), None);
    }
}
