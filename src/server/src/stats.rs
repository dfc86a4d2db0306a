//! What a core counts of its own work, for whoever watches the server: the demo, later metrics.
//!
//! Invariants:
//! - Only the owner core writes its counters, so a load and a store suffice: no atomic addition, no fence, no lock.
//! - Counters of one core are read one by one. A reader may see one that is a batch ahead of another, never one that goes back.

use std::time::Duration;

use plimsoll_domain::Command;
use plimsoll_engine::Message;
use plimsoll_protocol::{Status, wire};

use crate::distribution::{Buckets, Counter, Distribution};

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
    /// Commands that left the engine, by sort and outcome.
    pub commands: CommandTable<u64>,
    /// How long frames of commands took, from being taken to being answered, in microseconds; of one in 16, counted as its first command.
    pub command_micros: CommandTable<Distribution>,
    /// Questions for availability that were answered.
    pub availability_answers_total: u64,
    /// Pools.
    pub pools: u64,
    /// Held reservations.
    pub reservations_held: u64,
    /// Confirmed reservations.
    pub reservations_confirmed: u64,
    /// Slots for reservations, those of ended ones included.
    pub reservation_slots: u64,
    /// What is published is as of this time, microseconds since 1970; 0 before the first publication.
    pub published_at: i64,
    /// The journal has no segment left for what takes capacity, as of at most a second ago: reserves are refused, or soon will be.
    pub is_journal_full: bool,
}

/// The sorts of commands, in the order of their numbers on the wire.
pub(crate) const ACTIONS: [wire::Action; 4] = [
    wire::Action::reserve,
    wire::Action::release,
    wire::Action::confirm,
    wire::Action::resize,
];

/// The sorts of outcomes, in the order of their numbers on the wire.
pub(crate) const OUTCOMES: [wire::OutcomeClass; 5] = [
    wire::OutcomeClass::applied,
    wire::OutcomeClass::repeated,
    wire::OutcomeClass::insufficient,
    wire::OutcomeClass::refused,
    wire::OutcomeClass::overloaded,
];

/// A value for each sort of command and outcome.
#[derive(Clone, Debug, Default)]
pub struct CommandTable<T>(pub(crate) [[T; OUTCOMES.len()]; ACTIONS.len()]);

/// One in so many frames is timed: two looks at the clock for each would cost more than the rest of its counting.
pub(crate) const TIMED_SHARE: u32 = 16;

/// Where a command stands in a table.
fn action_index(command: &Command) -> usize {
    match command {
        Command::Reserve(_) => 0,
        Command::Release(_) => 1,
        Command::Confirm(_) => 2,
        Command::Resize(_) => 3,
    }
}

/// Where an outcome stands in a table.
fn outcome_index(outcome: &wire::Outcome) -> usize {
    const INSUFFICIENT: u16 = Status::InsufficientCapacity.number();
    match outcome.status() {
        0 => usize::from(outcome.is_repeated()),
        INSUFFICIENT => 2,
        // The numbers from 80 to 111 say: not applied, and may be sent again.
        80..=111 => 4,
        _ => 3,
    }
}

impl CoreStats {
    /// Commands in the engine: in its inbox, or decided and not durable yet.
    #[must_use]
    pub fn commands_in_engine(&self) -> u64 {
        self.commands_accepted_total.saturating_sub(self.commands_decided_total)
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
    commands: [[Counter; OUTCOMES.len()]; ACTIONS.len()],
    command_times: [[Buckets; OUTCOMES.len()]; ACTIONS.len()],
    availability_answers: Counter,
    pools: Counter,
    held: Counter,
    confirmed: Counter,
    slots: Counter,
    published_at: Counter,
    journal_full: Counter,
}

/// What a core has now.
pub(crate) struct Population {
    pub(crate) pools: usize,
    pub(crate) held: usize,
    pub(crate) confirmed: usize,
    pub(crate) slots: usize,
    pub(crate) is_journal_full: bool,
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
        let Message::Commands(batch) = message else { return };
        self.decided.add(batch.entries.len() as u64);
        for (entry, outcome) in batch.entries.iter().zip(&batch.outcomes) {
            self.commands[action_index(&entry.command)][outcome_index(outcome)].add(1);
        }
    }

    /// A frame of commands that was timed is answered.
    pub(crate) fn answered(&self, action: wire::Action, first: &wire::Outcome, took: Duration) {
        let Some(action) = ACTIONS.iter().position(|known| *known == action) else {
            return;
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.command_times[action][outcome_index(first)].record(micros);
    }

    /// A question for availability was answered.
    pub(crate) fn availability_answered(&self) {
        self.availability_answers.add(1);
    }

    /// What the core has, as of now.
    pub(crate) fn has(&self, population: &Population) {
        self.pools.set(population.pools as u64);
        self.held.set(population.held as u64);
        self.confirmed.set(population.confirmed as u64);
        self.slots.set(population.slots as u64);
        self.journal_full.set(u64::from(population.is_journal_full));
    }

    /// What is published is as of this time.
    pub(crate) fn published(&self, as_of: i64) {
        self.published_at.set(u64::try_from(as_of).unwrap_or(0));
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
            commands: CommandTable(self.commands.each_ref().map(|row| row.each_ref().map(Counter::get))),
            command_micros: CommandTable(
                self.command_times
                    .each_ref()
                    .map(|row| row.each_ref().map(Buckets::read)),
            ),
            availability_answers_total: self.availability_answers.get(),
            pools: self.pools.get(),
            reservations_held: self.held.get(),
            reservations_confirmed: self.confirmed.get(),
            reservation_slots: self.slots.get(),
            published_at: self.published_at.get() as i64,
            is_journal_full: self.journal_full.get() != 0,
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
