//! What the server counts of its own work.

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Encoder, Operation, wire};

use crate::attempts::Attempts;
use crate::client::Client;
use crate::error::Error;
use crate::pools::read;

/// What the server has counted since it started, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// By core.
    pub cores: Vec<CoreStats>,
    /// The server's clock, microseconds since 1970.
    pub at: i64,
    /// When the server started, microseconds since 1970.
    pub started_at: i64,
    /// Program and version.
    pub server: String,
    /// Archives and sealed segments are whole, as far as they have been checked.
    pub is_history_whole: bool,
    /// What the process has in memory; 0 when it cannot be told.
    pub memory_bytes: u64,
    /// Size of the data directory's file system; 0 when it cannot be told.
    pub disk_size_bytes: u64,
    /// What is free of it.
    pub disk_free_bytes: u64,
}

/// What one core has counted since the server started, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreStats {
    /// Finished syncs of the journal.
    pub syncs: u64,
    /// The time that they took, in microseconds.
    pub sync_micros: u64,
    /// The time that each took, in microseconds.
    pub sync_times: Distribution,
    /// Records that were made durable.
    pub records: u64,
    /// Records that each sync made durable.
    pub records_per_sync: Distribution,
    /// Bytes that were appended to the journal.
    pub journal_bytes: u64,
    /// Commands, by sort and outcome.
    pub commands: Vec<CommandCount>,
    /// How long commands took, by sort and outcome: of a share of them.
    pub latencies: Vec<CommandLatency>,
    /// Commands that were refused as overloaded before an engine took them.
    pub commands_shed: u64,
    /// Questions for availability that were answered.
    pub availability_answers: u64,
    /// Commands in the engine now: waiting, or decided and not durable yet.
    pub commands_in_engine: u64,
    /// Commands that its connections sent and that are not answered yet.
    pub commands_unanswered: u64,
    /// Batches that wait for their sync to begin.
    pub tickets_waiting: u64,
    /// Open connections.
    pub connections: u64,
    /// Pools.
    pub pools: u64,
    /// Held reservations.
    pub reservations_held: u64,
    /// Confirmed reservations.
    pub reservations_confirmed: u64,
    /// Slots for reservations, those of ended ones included.
    pub reservation_slots: u64,
    /// What is published is as of this time, microseconds since 1970.
    pub published_at: i64,
    /// Its journal has no segment left for what takes capacity: reserves are refused, or soon will be.
    pub is_journal_full: bool,
}

/// Commands of a sort with an outcome of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandCount {
    /// `reserve`, `release`, `confirm` or `resize`; `other` for one that this version does not know.
    pub action: &'static str,
    /// `applied`, `repeated`, `insufficient`, `refused` or `overloaded`; `other` for one that this version does not know.
    pub outcome: &'static str,
    /// How many.
    pub count: u64,
}

/// How long commands of a sort with an outcome of a sort took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLatency {
    /// As [`CommandCount::action`].
    pub action: &'static str,
    /// As [`CommandCount::outcome`].
    pub outcome: &'static str,
    /// In microseconds.
    pub micros: Distribution,
}

/// Values below this have a bucket of their own; behind them each octave has as many buckets.
const BUCKETS_PER_OCTAVE: usize = 8;

/// How often which value occurred, in buckets that grow with the value: each is at most an eighth of its value wide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
}

impl Distribution {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many values there are that are at most this one; those of a bucket that reaches beyond it are left out.
    #[must_use]
    pub fn count_up_to(&self, value: u64) -> u64 {
        let buckets = self.counts.iter().enumerate();
        buckets
            .take_while(|(bucket, _)| greatest(*bucket) <= value)
            .map(|(_, count)| count)
            .sum()
    }

    /// The least value that is not exceeded by this share of all (0 to 1), rounded up to its bucket; `None` when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut passed = 0;
        let reached = self.counts.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        reached.map(greatest)
    }

    /// What came after an earlier reading of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.counts.iter().zip(before);
        Distribution {
            counts: pairs.map(|(now, before)| now.saturating_sub(before)).collect(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Distribution) -> Distribution {
        let size = self.counts.len().max(other.counts.len());
        let at = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or(0);
        let sums = (0..size).map(|index| at(&self.counts, index).saturating_add(at(&other.counts, index)));
        Distribution { counts: sums.collect() }
    }

    /// The sum of all values, each taken as the greatest of its bucket.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let buckets = self.counts.iter().enumerate();
        buckets.fold(0, |sum, (bucket, count)| {
            sum.saturating_add(greatest(bucket).saturating_mul(*count))
        })
    }
}

/// The greatest value of a bucket.
fn greatest(bucket: usize) -> u64 {
    if bucket < BUCKETS_PER_OCTAVE {
        return bucket as u64;
    }
    let octave = bucket / BUCKETS_PER_OCTAVE - 1;
    let within = bucket % BUCKETS_PER_OCTAVE;
    let end = (BUCKETS_PER_OCTAVE + within + 1) as u64;
    // A bucket that no value can have, from an answer that says so all the same.
    end.checked_shl(octave as u32)
        .map_or(u64::MAX, |end| end.saturating_sub(1))
}

impl<'a> From<flatbuffers::Vector<'a, u64>> for Distribution {
    fn from(counts: flatbuffers::Vector<'a, u64>) -> Self {
        Self {
            counts: counts.iter().collect(),
        }
    }
}

fn action_name(action: wire::Action) -> &'static str {
    match action {
        wire::Action::reserve => "reserve",
        wire::Action::release => "release",
        wire::Action::confirm => "confirm",
        wire::Action::resize => "resize",
        _ => "other",
    }
}

fn outcome_name(outcome: wire::OutcomeClass) -> &'static str {
    match outcome {
        wire::OutcomeClass::applied => "applied",
        wire::OutcomeClass::repeated => "repeated",
        wire::OutcomeClass::insufficient => "insufficient",
        wire::OutcomeClass::refused => "refused",
        wire::OutcomeClass::overloaded => "overloaded",
        _ => "other",
    }
}

impl From<wire::CoreStats<'_>> for CoreStats {
    fn from(table: wire::CoreStats<'_>) -> Self {
        let commands = table.commands().iter().map(|count| CommandCount {
            action: action_name(count.action()),
            outcome: outcome_name(count.outcome()),
            count: count.count(),
        });
        let latencies = table.latencies().iter().map(|latency| CommandLatency {
            action: action_name(latency.action()),
            outcome: outcome_name(latency.outcome()),
            micros: latency.micros().into(),
        });
        Self {
            syncs: table.syncs(),
            sync_micros: table.sync_micros(),
            sync_times: table.sync_times().into(),
            records: table.records(),
            records_per_sync: table.records_per_sync().into(),
            journal_bytes: table.journal_bytes(),
            commands: commands.collect(),
            latencies: latencies.collect(),
            commands_shed: table.commands_shed(),
            availability_answers: table.availability_answers(),
            commands_in_engine: table.commands_in_engine(),
            commands_unanswered: table.commands_unanswered(),
            tickets_waiting: table.tickets_waiting(),
            connections: table.connections(),
            pools: table.pools(),
            reservations_held: table.reservations_held(),
            reservations_confirmed: table.reservations_confirmed(),
            reservation_slots: table.reservation_slots(),
            published_at: table.published_at(),
            is_journal_full: table.is_journal_full(),
        }
    }
}

impl Client {
    /// What the server counts of its own work. Reading disturbs no command; counters of one core are read one by one, so that one may be a moment
    /// ahead of another.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] as unsupported by a server that is older. Reading has no effect, so that any retryable error may be tried again.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let mut frame = Vec::new();
        Encoder::new().empty(&mut frame, Head::request(Operation::Stats, CorrelationId(0)));
        let epoch = self.inner.shared.epoch();
        let answer = self.call(frame, epoch, &mut Attempts::new(self.options())).await?;
        let table = read::<wire::Stats>("Stats", &answer)?;
        Ok(Stats {
            cores: table.cores().iter().map(CoreStats::from).collect(),
            at: table.at(),
            started_at: table.started_at(),
            server: table.server().unwrap_or_default().to_owned(),
            is_history_whole: table.is_history_whole(),
            memory_bytes: table.memory_bytes(),
            disk_size_bytes: table.disk_size_bytes(),
            disk_free_bytes: table.disk_free_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_schema() {
        let greatest_values: Vec<u64> = (0..26).map(greatest).collect();
        let expected = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 39,
        ];
        assert_eq!(greatest_values, expected);
        assert_eq!(greatest(100_000), u64::MAX);
    }

    #[test]
    fn distributions_tell_shares_and_what_came_since() {
        let earlier = Distribution { counts: vec![1, 2] };
        let now = Distribution {
            counts: vec![1, 5, 0, 7],
        };
        let since = now.since(&earlier);
        assert_eq!(
            (since.count(), since.quantile(0.3), since.quantile(0.31)),
            (10, Some(1), Some(3))
        );
        assert_eq!((now.count_up_to(2), now.count_up_to(3), now.sum()), (6, 13, 26));
        assert_eq!(now.with(&earlier).count(), 16);
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
