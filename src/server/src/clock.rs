//! The owner's clock: the system's, as long as it goes on evenly.
//!
//! Event times never go back, so a clock that is wrong for a moment, and followed, would put every later event into the future, across restarts too:
//! pools would count as past their closing times, and ended reservations as long forgotten. A step is therefore followed only when it stays.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plimsoll_domain::Timestamp;

/// A larger step against the monotonic clock is a jump, in microseconds.
const STEP_MAX: i64 = 1_000_000;
/// A jump that stays for so long is followed: somebody set the clock, or the machine slept.
const FOLLOWED_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct Clock {
    time: i64,
    at: Instant,
    jumped_at: Option<Instant>,
    was_set_ahead: bool,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            time: system_time(),
            at: Instant::now(),
            jumped_at: None,
            was_set_ahead: false,
        }
    }

    /// Whether a jump ahead was followed since the last call. Deadlines of holds that passed by it are not their customers' fault.
    pub(crate) fn take_set_ahead(&mut self) -> bool {
        std::mem::take(&mut self.was_set_ahead)
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        self.tell(system_time(), Instant::now())
    }

    fn tell(&mut self, found: i64, at: Instant) -> Timestamp {
        let elapsed = at.saturating_duration_since(self.at);
        let expected = self
            .time
            .saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
        let is_even = found.abs_diff(expected) <= STEP_MAX.unsigned_abs();
        let is_followed = is_even || self.jumped_at.is_some_and(|jumped_at| at - jumped_at >= FOLLOWED_AFTER);
        if is_followed {
            if !is_even {
                tracing::warn!("the clock stays where it jumped to, and is followed");
            }
            *self = Clock {
                time: found,
                at,
                jumped_at: None,
                was_set_ahead: self.was_set_ahead || (!is_even && found > expected),
            };
            return Timestamp(found);
        }
        if self.jumped_at.is_none() {
            let seconds = (found - expected) / 1_000_000;
            tracing::warn!(
                seconds,
                "the system clock jumped; not followed unless it stays for {FOLLOWED_AFTER:?}"
            );
            self.jumped_at = Some(at);
        }
        Timestamp(expected)
    }
}

fn system_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn small_steps_are_followed_and_jumps_only_when_they_stay() {
        let begun = Instant::now();
        let mut clock = Clock {
            time: 1000 * SECOND,
            at: begun,
            jumped_at: None,
            was_set_ahead: false,
        };
        let mut check = |seconds: u64, found: i64, expected: i64| {
            let told = clock.tell(found * SECOND, begun + Duration::from_secs(seconds));
            assert_eq!(
                told,
                Timestamp(expected * SECOND),
                "{seconds} s in, the system says {found}"
            );
        };
        check(10, 1011, 1011);
        // A day ahead for a moment.
        check(11, 1012 + 86_400, 1012);
        check(30, 1031 + 86_400, 1031);
        check(31, 1032, 1032);
        // An hour back, and it stays.
        check(40, 1041 - 3600, 1041);
        check(99, 1100 - 3600, 1100);
        check(100, 1101 - 3600, 1101 - 3600);
        // An hour ahead again, and it stays: that is told, once.
        check(101, 1102, 1102 - 3600);
        check(160, 1161, 1161 - 3600);
        check(161, 1162, 1162);
        assert!(clock.take_set_ahead());
        assert!(!clock.take_set_ahead());
    }
}
