//! What shoppers did: counts, and how long the engine took to answer.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The latencies that are told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Two figures: the demo shows no more, and keeps some histograms for each second.
const SIGNIFICANT_FIGURES: u8 = 2;

/// What shoppers ask of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Query,
    Reserve,
    Confirm,
    Release,
}

impl Call {
    pub(super) const ALL: [Call; 4] = [Call::Query, Call::Reserve, Call::Confirm, Call::Release];

    pub(super) fn name(self) -> &'static str {
        match self {
            Call::Query => "queries",
            Call::Reserve => "reserves",
            Call::Confirm => "confirms",
            Call::Release => "releases",
        }
    }
}

/// One sort of call.
#[derive(Clone)]
pub(super) struct Calls {
    /// Those that did what was asked.
    pub(super) done: u64,
    /// Of every answer, refusals included, in microseconds.
    pub(super) latency: Histogram<u64>,
}

/// What shoppers did in some time.
#[derive(Clone)]
pub(super) struct Tally {
    calls: [Calls; Call::ALL.len()],
    /// Reserves that were refused because the pool was full.
    pub(super) full: u64,
    /// Reserves that were refused because the pool was closed, or not open yet.
    pub(super) not_on_sale: u64,
    /// Holds that ended by their deadline.
    pub(super) expired: u64,
    /// Reserves that were sent again with the same key, and found the first one.
    pub(super) repeated: u64,
    /// Calls without effect, for another reason.
    pub(super) failed: u64,
    /// Calls that may have had an effect: then the sums need not agree.
    pub(super) unknown: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let calls = || Calls {
            done: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, SIGNIFICANT_FIGURES)
                .expect("the bounds are in order"),
        };
        Tally {
            calls: std::array::from_fn(|_| calls()),
            full: 0,
            not_on_sale: 0,
            expired: 0,
            repeated: 0,
            failed: 0,
            unknown: 0,
        }
    }

    pub(super) fn of(&self, call: Call) -> &Calls {
        &self.calls[call as usize]
    }

    /// An answer came.
    pub(super) fn answered(&mut self, call: Call, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls[call as usize].latency.saturating_record(micros.max(1));
    }

    /// A call did what was asked.
    pub(super) fn done(&mut self, call: Call) {
        self.calls[call as usize].done += 1;
    }

    pub(super) fn add(&mut self, other: &Tally) {
        for (calls, more) in self.calls.iter_mut().zip(&other.calls) {
            calls.done += more.done;
            calls.latency += &more.latency;
        }
        self.full += other.full;
        self.not_on_sale += other.not_on_sale;
        self.expired += other.expired;
        self.repeated += other.repeated;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }
}
