//! What a core counts of its own work, for whoever watches the server: the demo, later metrics.
//!
//! Invariants:
//! - Only the owner core writes its counters, so a load and a store suffice: no atomic addition, no fence, no lock.
//! - Counters of one core are read one by one. A reader may see one that is a batch ahead of another, never one that goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_engine::Message;

/// Values below this have a bucket of their own.
const EXACT_COUNT: usize = 8;
/// Buckets of each octave above: a quantile is at most an eighth too large.
const BUCKETS_PER_OCTAVE: usize = 8;
/// Octaves above the exact values; what is larger counts in the last bucket. In microseconds that is from 67 s on.
const OCTAVE_COUNT: usize = 23;
const BUCKET_COUNT: usize = EXACT_COUNT + OCTAVE_COUNT * BUCKETS_PER_OCTAVE;

/// What the cores of a server have done since it started.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// By core.
    pub cores: Vec<CoreStats>,
    /// Whether archives and sealed segments are whole, as far as they have been checked since the start.
    pub is_history_whole: bool,
}

/// What one core has done since it started. `*_total` only grow; the others are as of the core's last pass.
#[derive(Clone, Debug, Default)]
pub struct CoreStats {
    /// Finished syncs of the journal, each with one or more batches.
    pub syncs_total: u64,
    /// Time that they took, from the call to the answer, in microseconds.
    pub sync_micros_total: u64,
    /// Time that the last one took, in microseconds.
    pub sync_micros_last: u64,
    /// Time of each sync, in microseconds.
    pub sync_micros: Distribution,
    /// Records that were made durable, commit records included.
    pub records_total: u64,
    /// Records that each sync made durable.
    pub records_per_sync: Distribution,
    /// Bytes that were appended to the journal, as of the last sync.
    pub journal_bytes_total: u64,
    /// Commands that the core's engine took in, from every core's connections.
    pub commands_accepted_total: u64,
    /// Commands of those whose outcome left the engine: decided, and durable where they changed anything.
    pub commands_decided_total: u64,
    /// Commands that this core refused as overloaded, as the owner or for an owner that was full.
    pub commands_overloaded_total: u64,
    /// Commands that this core's connections sent and that are not answered yet.
    pub commands_unanswered: u64,
    /// Batches that are appended and wait for their sync to begin.
    pub tickets_waiting: u64,
    /// Open connections.
    pub connections: u64,
}

impl CoreStats {
    /// Commands in the engine: in its inbox, or decided and not durable yet.
    #[must_use]
    pub fn commands_in_engine(&self) -> u64 {
        self.commands_accepted_total.saturating_sub(self.commands_decided_total)
    }
}

/// How often which value occurred, in buckets that grow with the value: a quantile is at most 12.5 % above the true one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    counts: Vec<u64>,
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution {
            counts: vec![0; BUCKET_COUNT],
        }
    }
}

impl Distribution {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The least value that is not exceeded by this share of all (0 to 1), rounded up to its bucket; 0 when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                return greatest(bucket);
            }
        }
        0
    }

    /// What came after an earlier reading of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let pairs = self.counts.iter().zip(&earlier.counts);
        Distribution {
            counts: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < EXACT_COUNT as u64 {
        return value as usize;
    }
    let exponent = value.ilog2() as usize;
    let octave = exponent - EXACT_COUNT.ilog2() as usize;
    let within = (value >> (exponent - BUCKETS_PER_OCTAVE.ilog2() as usize)) as usize - BUCKETS_PER_OCTAVE;
    (EXACT_COUNT + octave * BUCKETS_PER_OCTAVE + within).min(BUCKET_COUNT - 1)
}

/// The greatest value of a bucket.
fn greatest(bucket: usize) -> u64 {
    if bucket < EXACT_COUNT {
        return bucket as u64;
    }
    let octave = (bucket - EXACT_COUNT) / BUCKETS_PER_OCTAVE;
    let within = (bucket - EXACT_COUNT) % BUCKETS_PER_OCTAVE;
    (((BUCKETS_PER_OCTAVE + within + 1) as u64) << octave) - 1
}

/// A number that only its core writes.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Buckets([Counter; BUCKET_COUNT]);

impl Default for Buckets {
    fn default() -> Self {
        Buckets(std::array::from_fn(|_| Counter::default()))
    }
}

impl Buckets {
    fn record(&self, value: u64) {
        self.0[bucket(value)].add(1);
    }

    fn read(&self) -> Distribution {
        Distribution {
            counts: self.0.iter().map(Counter::get).collect(),
        }
    }
}

/// The counters of one core. Aligned, so that no two cores write to one cache line.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct CoreCounters {
    syncs: Counter,
    sync_micros: Counter,
    sync_micros_last: Counter,
    sync_times: Buckets,
    /// The LSN up to which everything is durable; 0 before the first sync.
    durable_lsn: Counter,
    records: Counter,
    batch_sizes: Buckets,
    journal_bytes: Counter,
    accepted: Counter,
    decided: Counter,
    overloaded: Counter,
    unanswered: Counter,
    tickets: Counter,
    connections: Counter,
}

/// What a sync did.
pub(crate) struct Synced {
    pub(crate) took: Duration,
    /// The newest LSN that is durable now.
    pub(crate) upto: u64,
    /// Bytes appended to the journal when it began.
    pub(crate) journal_bytes: u64,
}

impl CoreCounters {
    /// Where the journal stands after recovery: what was there is not counted.
    pub(crate) fn started(&self, last_lsn: u64) {
        self.durable_lsn.set(last_lsn);
    }

    /// A sync has finished.
    pub(crate) fn synced(&self, synced: &Synced) {
        let micros = u64::try_from(synced.took.as_micros()).unwrap_or(u64::MAX);
        let records = synced.upto.saturating_sub(self.durable_lsn.get());
        self.durable_lsn.set(synced.upto);
        self.syncs.add(1);
        self.sync_micros.add(micros);
        self.sync_micros_last.set(micros);
        self.sync_times.record(micros);
        self.records.add(records);
        self.batch_sizes.record(records);
        self.journal_bytes.set(synced.journal_bytes);
    }

    /// The engine took a message in.
    pub(crate) fn accepted(&self, command_count: usize) {
        self.accepted.add(command_count as u64);
    }

    /// The engine gave a message back.
    pub(crate) fn decided(&self, message: &Message) {
        self.decided.add(command_count(message) as u64);
    }

    /// So many commands were refused as overloaded.
    pub(crate) fn overloaded(&self, command_count: usize) {
        self.overloaded.add(command_count as u64);
    }

    /// A pass has ended.
    pub(crate) fn passed(&self, commands_unanswered: usize, tickets_waiting: usize) {
        self.unanswered.set(commands_unanswered as u64);
        self.tickets.set(tickets_waiting as u64);
    }

    pub(crate) fn connected(&self) {
        self.connections.add(1);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
    }

    pub(crate) fn read(&self) -> CoreStats {
        CoreStats {
            syncs_total: self.syncs.get(),
            sync_micros_total: self.sync_micros.get(),
            sync_micros_last: self.sync_micros_last.get(),
            sync_micros: self.sync_times.read(),
            records_total: self.records.get(),
            records_per_sync: self.batch_sizes.read(),
            journal_bytes_total: self.journal_bytes.get(),
            commands_accepted_total: self.accepted.get(),
            commands_decided_total: self.decided.get(),
            commands_overloaded_total: self.overloaded.get(),
            commands_unanswered: self.unanswered.get(),
            tickets_waiting: self.tickets.get(),
            connections: self.connections.get(),
        }
    }
}

/// How many commands a message carries; a request of a rare operation has none.
pub(crate) fn command_count(message: &Message) -> usize {
    match message {
        Message::Commands(batch) => batch.entries.len(),
        Message::Request(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_an_eighth_below_its_greatest() {
        let mut previous = 0;
        for value in (0..4096).chain([65_535, 65_536, 1_000_000, (1 << 26) - 1]) {
            let bucket = bucket(value);
            assert!(bucket >= previous, "{value}");
            previous = bucket;
            let greatest = greatest(bucket);
            assert!(greatest >= value && greatest - value <= value / 8, "{value} {greatest}");
        }
        assert_eq!(bucket((1 << 26) - 1), BUCKET_COUNT - 1);
        assert_eq!(bucket(u64::MAX), BUCKET_COUNT - 1);
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let counters = CoreCounters::default();
        counters.started(100);
        let synced = |micros, upto| Synced {
            took: Duration::from_micros(micros),
            upto,
            journal_bytes: 0,
        };
        counters.synced(&synced(1_000_000, 105));
        let before = counters.read();
        for upto in 106..=204 {
            counters.synced(&synced(5, upto));
        }
        counters.synced(&synced(300, 210));
        let after = counters.read();
        let recent = after.sync_micros.since(&before.sync_micros);
        assert_eq!(
            (recent.count(), recent.quantile(0.5), recent.quantile(0.99)),
            (100, 5, 5)
        );
        assert!((300..=337).contains(&recent.quantile(1.0)));
        assert_eq!((after.records_total, after.records_per_sync.quantile(0.5)), (110, 1));
        assert_eq!(after.sync_micros_last, 300);
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }
}
