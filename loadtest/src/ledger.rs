//! What one thread of the generator has seen.
//!
//! - Sums (`used`, `unknown_*`) cover the whole run; counts and latencies only answers that arrived within the window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use plimsoll_client::{Applied, Status, StatusNumber};
use serde::Serialize;

use crate::limits::{LATENCY_NS_MAX, LATENCY_NS_MIN};
use crate::load::detail::Detail;
use crate::series::Series;

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3)?)
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    /// Of the series over time, at least.
    pub(crate) interval: Duration,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took effect, durably.
    Applied,
    /// The server said no, as it may.
    Refused,
    /// An answer that a right server does not give to a right harness, or nothing was sent.
    Error,
    /// Nobody can tell.
    Unknown,
}

impl Fate {
    #[inline]
    pub(crate) fn of(status: StatusNumber, repeated: bool) -> Self {
        // Every key and every reservation is used once.
        if status.is_ok() && !repeated {
            Self::Applied
        } else {
            Self::of_other(status)
        }
    }

    #[cold]
    fn of_other(status: StatusNumber) -> Self {
        match status.applied() {
            Applied::Yes => Self::Error,
            Applied::Unknown => Self::Unknown,
            Applied::No if status.retryable() || status == Status::InsufficientCapacity.into() => Self::Refused,
            Applied::No => Self::Error,
        }
    }
}

/// How many commands met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) reserved: u64,
    pub(crate) confirmed: u64,
    pub(crate) released: u64,
    /// Queries.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.reserved += other.reserved;
        self.confirmed += other.confirmed;
        self.released += other.released;
        self.answered += other.answered;
        self.refused += other.refused;
        self.errors += other.errors;
        self.unknown += other.unknown;
    }

    /// Commands that took effect.
    pub(crate) fn applied(&self) -> u64 {
        self.reserved + self.confirmed + self.released
    }
}

/// What others see of a ledger while it is written, for the line of progress.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) applied: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// What one thread of the generator has seen.
#[derive(Debug)]
pub(crate) struct Ledger {
    window: Option<Window>,
    /// Whether the answer that is being taken arrived within the window.
    counting: bool,
    pub(crate) counts: Counts,
    pub(crate) latencies: Histogram<u64>,
    /// From sending a reserve to an answer of a query that shows it.
    pub(crate) staleness: Histogram<u64>,
    /// How long before its arrival an answer of a query was true, as it says itself.
    pub(crate) age: Histogram<u64>,
    /// Units that are reserved, by pool.
    pub(crate) used: Vec<i64>,
    /// Units of reserves without an answer.
    pub(crate) unknown_reserves: u64,
    /// Units of releases without an answer.
    pub(crate) unknown_releases: u64,
    /// What the first error was.
    pub(crate) problem: Option<String>,
    /// How the window went over time; `None` before it is known.
    pub(crate) series: Option<Series>,
    /// What is known beyond this of loads that keep it.
    pub(crate) detail: Option<Box<Detail>>,
    /// Totals of the whole run.
    totals: Counts,
    tally: Arc<Tally>,
}

impl Ledger {
    pub(crate) fn new(pools: usize, tally: Arc<Tally>) -> Result<Self> {
        Ok(Self {
            window: None,
            counting: false,
            counts: Counts::default(),
            latencies: latencies()?,
            staleness: latencies()?,
            age: latencies()?,
            used: vec![0; pools],
            unknown_reserves: 0,
            unknown_releases: 0,
            problem: None,
            series: None,
            detail: None,
            totals: Counts::default(),
            tally,
        })
    }

    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = Some(window);
        self.series = Some(Series::new(window));
    }

    /// Begins to take what arrived at `now`.
    #[inline]
    pub(crate) fn arrived(&mut self, now: Instant) {
        self.counting = self
            .window
            .is_some_and(|window| window.start <= now && now < window.end);
        if let Some(series) = self.series.as_mut().filter(|_| self.counting) {
            series.at(now);
        }
    }

    /// `count` commands that were sent together have been answered.
    #[inline]
    pub(crate) fn latency(&mut self, latency: Duration, count: u64) {
        if self.counting {
            self.latencies.saturating_record_n(nanos(latency), count);
            if let Some(series) = &mut self.series {
                series.latency(nanos(latency), count);
            }
        }
    }

    /// Whether what is being taken arrived within the window.
    #[inline]
    pub(crate) fn is_counting(&self) -> bool {
        self.counting
    }

    /// A command took effect, or a query was answered.
    #[inline]
    fn in_series(&mut self) {
        if let Some(series) = self.series.as_mut().filter(|_| self.counting) {
            series.applied();
        }
    }

    /// A reserve of one unit.
    #[inline]
    pub(crate) fn reserve(&mut self, pool: u16, fate: Fate) {
        self.reserve_units(pool, 1, fate);
    }

    #[inline]
    pub(crate) fn reserve_units(&mut self, pool: u16, units: u32, fate: Fate) {
        match fate {
            Fate::Applied => {
                self.used[usize::from(pool)] += i64::from(units);
                self.totals.reserved += 1;
                self.counts.reserved += u64::from(self.counting);
                self.in_series();
            }
            other => {
                if other == Fate::Unknown {
                    self.unknown_reserves += u64::from(units);
                }
                self.otherwise(other);
            }
        }
    }

    #[inline]
    pub(crate) fn confirm(&mut self, fate: Fate) {
        match fate {
            Fate::Applied => {
                self.totals.confirmed += 1;
                self.counts.confirmed += u64::from(self.counting);
                self.in_series();
            }
            other => self.otherwise(other),
        }
    }

    /// A query was answered; `age` is how long before its arrival the answer was true.
    #[inline]
    pub(crate) fn answer(&mut self, age: Duration) {
        self.query();
        if self.counting {
            self.age.saturating_record(nanos(age));
        }
    }

    /// A query was answered, whatever its age.
    #[inline]
    pub(crate) fn query(&mut self) {
        self.totals.answered += 1;
        self.counts.answered += u64::from(self.counting);
        self.in_series();
    }

    /// A query was not answered as it must be.
    #[cold]
    pub(crate) fn failed_answer(&mut self, fate: Fate) {
        self.otherwise(fate);
    }

    /// A change became visible so long after it was sent.
    pub(crate) fn visible(&mut self, staleness: Duration) {
        if self.counting {
            self.staleness.saturating_record(nanos(staleness));
        }
    }

    /// A release of one unit.
    #[inline]
    pub(crate) fn release(&mut self, pool: u16, fate: Fate) {
        self.release_units(pool, 1, fate);
    }

    #[inline]
    pub(crate) fn release_units(&mut self, pool: u16, units: u32, fate: Fate) {
        match fate {
            Fate::Applied => {
                self.used[usize::from(pool)] -= i64::from(units);
                self.totals.released += 1;
                self.counts.released += u64::from(self.counting);
                self.in_series();
            }
            other => {
                if other == Fate::Unknown {
                    self.unknown_releases += u64::from(units);
                }
                self.otherwise(other);
            }
        }
    }

    #[cold]
    fn otherwise(&mut self, fate: Fate) {
        for (counts, counting) in [(&mut self.totals, true), (&mut self.counts, self.counting)] {
            let one = u64::from(counting);
            match fate {
                Fate::Applied => unreachable!("what took effect is counted by its kind"),
                Fate::Refused => counts.refused += one,
                Fate::Error => counts.errors += one,
                Fate::Unknown => counts.unknown += one,
            }
        }
    }

    /// Keeps what the first problem was.
    #[cold]
    pub(crate) fn note(&mut self, problem: impl FnOnce() -> String) {
        self.problem.get_or_insert_with(problem);
    }

    /// Lets others see the totals.
    #[inline]
    pub(crate) fn publish(&self) {
        self.tally.applied.store(self.totals.applied(), Ordering::Relaxed);
        self.tally.answered.store(self.totals.answered, Ordering::Relaxed);
        self.tally.refused.store(self.totals.refused, Ordering::Relaxed);
        self.tally
            .errors
            .store(self.totals.errors + self.totals.unknown, Ordering::Relaxed);
    }

    pub(crate) fn set_detail(&mut self, detail: Detail) {
        self.detail = Some(Box::new(detail));
    }

    /// Totals of the whole run.
    pub(crate) fn totals(&self) -> &Counts {
        &self.totals
    }

    /// Takes in what a load before or after it has reserved.
    pub(crate) fn merge_sums(&mut self, other: &Self) {
        for (own, others) in self.used.iter_mut().zip(&other.used) {
            *own += others;
        }
        self.unknown_reserves += other.unknown_reserves;
        self.unknown_releases += other.unknown_releases;
    }

    /// Takes in what another thread has seen.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        self.counts.add(&other.counts);
        self.totals.add(&other.totals);
        self.latencies.add(&other.latencies)?;
        self.staleness.add(&other.staleness)?;
        self.age.add(&other.age)?;
        self.merge_sums(other);
        self.problem = self.problem.take().or_else(|| other.problem.clone());
        match (&mut self.series, &other.series) {
            (Some(own), Some(others)) => own.merge(others)?,
            (own, others) => *own = own.take().or_else(|| others.clone()),
        }
        match (&mut self.detail, &other.detail) {
            (Some(own), Some(others)) => own.merge(others)?,
            (own, others) => *own = own.take().or_else(|| others.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates() {
        let check = |status: Status, repeated, expected| {
            assert_eq!(Fate::of(status.into(), repeated), expected, "{status:?}");
        };
        check(Status::Ok, false, Fate::Applied);
        check(Status::Ok, true, Fate::Error);
        check(Status::InsufficientCapacity, false, Fate::Refused);
        check(Status::Overloaded, false, Fate::Refused);
        check(Status::ReservationNotFound, false, Fate::Error);
        check(Status::Malformed, false, Fate::Error);
        check(Status::OutcomeUnknown, false, Fate::Unknown);
        assert_eq!(Fate::of(StatusNumber(200), false), Fate::Unknown);
    }

    #[test]
    fn only_the_window_is_counted_and_everything_is_summed() {
        let mut ledger = Ledger::new(2, Arc::default()).expect("the bounds are sound");
        let start = Instant::now();
        let second = Duration::from_secs(1);
        ledger.set_window(Window {
            start: start + second,
            end: start + 2 * second,
            interval: second,
        });
        for (at, fate) in [
            (0, Fate::Applied),
            (1, Fate::Applied),
            (1, Fate::Refused),
            (1, Fate::Unknown),
            (2, Fate::Applied),
        ] {
            ledger.arrived(start + at * second);
            ledger.latency(Duration::from_millis(1), 1);
            ledger.reserve(1, fate);
        }
        ledger.release(0, Fate::Applied);
        let expected = Counts {
            reserved: 1,
            refused: 1,
            unknown: 1,
            ..Counts::default()
        };
        assert_eq!(ledger.counts, expected);
        assert_eq!(
            *ledger.totals(),
            Counts {
                reserved: 3,
                released: 1,
                ..expected
            }
        );
        assert_eq!(
            (ledger.used.as_slice(), ledger.unknown_reserves, ledger.latencies.len()),
            (&[-1, 3][..], 1, 3)
        );
    }
}
