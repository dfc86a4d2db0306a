//! One core's engine.
//!
//! Invariants:
//! - A message leaves by `next_reply` only when every record that existed when it was decided is durable.
//! - The state is exactly what the journal's records, in order, make of an empty one.
//! - After a failed sync nothing is decided and nothing leaves any more.

use std::collections::VecDeque;

use plimsoll_domain::{Event, Replaying, SnapshotPiece, State, StateOptions, Timestamp};
use plimsoll_journal::{
    CrcFraming, Framing, Journal, Lsn, Record, RecoveryError, RecoveryStart, Segment, SegmentNumber, Storage,
    StorageError, Summary, Ticket,
};
use plimsoll_protocol::Status;
use plimsoll_record::DecodeError;

use crate::limits::{
    EXPIRIES_PER_TURN_MAX, EXTENDING_MICROS_MAX, HOUSEKEEPING_PER_TURN_MAX, IDLE_MICROS, INBOX_COMMAND_COUNT_MAX,
    INBOX_MESSAGE_COUNT_MAX, PUT_WEIGHT, TICKETS_IN_FLIGHT_MAX, TURN_COMMAND_COUNT_MAX, WAITING_COMMAND_COUNT_MAX,
    WAITING_MESSAGE_COUNT_MAX,
};
use crate::lost_demand::LostDemand;
use crate::message::{Call, Message};
use crate::process::Processing;
use crate::publication::{Publication, Publications};
use crate::replay::{Replay, tag_of};

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// The state's options.
    pub state: StateOptions,
    /// How long a hold still lasts whose deadline passed while the server was down, in microseconds from its start; 0 lets it expire at once.
    pub hold_grace_micros: i64,
}

/// What a turn asks of its caller.
#[derive(Debug, Default)]
pub struct Effects {
    /// Segments to sync, oldest ticket first.
    pub ticket: Option<Ticket>,
    /// Whether messages are left for another turn now.
    pub more: bool,
}

/// Why a record of the journal cannot be taken. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is not an event that this program knows.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is an event, and does not fit what the records before it have led to.
    #[error("the event does not fit the state before it: {reason}")]
    Misfit {
        /// What does not fit.
        reason: &'static str,
    },
}

/// What recovery begins with in place of an empty state.
pub struct RecoveryBase {
    /// The state that a snapshot gave.
    pub state: Replaying,
    /// What the snapshot covers.
    pub start: RecoveryStart,
}

/// An engine whose state is back.
pub struct Recovered<S: Storage, F: Framing = CrcFraming> {
    /// The engine.
    pub engine: Engine<S, F>,
    /// What recovery found.
    pub summary: Summary,
}

/// Which moment a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotMoment {
    /// The last LSN that it covers: that of a commit record.
    pub lsn: Lsn,
    /// The segment in which that record lies.
    pub segment: SegmentNumber,
    /// The time of the last record, in microseconds since 1970.
    pub time: i64,
}

struct Waiting {
    /// The message leaves when this LSN is durable.
    upto: Lsn,
    message: Message,
}

/// One core's pools, their reservations, and the journal of both.
pub struct Engine<S: Storage, F: Framing = CrcFraming> {
    options: EngineOptions,
    state: State,
    journal: Journal<S, F>,
    inbox: VecDeque<Message>,
    inbox_command_count: usize,
    waiting: VecDeque<Waiting>,
    waiting_command_count: usize,
    publications: Publications,
    lost_demand: LostDemand,
    tickets_in_flight: usize,
    last_activity: Timestamp,
    /// Deadlines that passed while nobody could confirm are moved before anything else happens, until this time at the latest.
    extending_until: Option<Timestamp>,
    /// Nothing happens by itself.
    stands_still: bool,
    poisoned: bool,
    /// Where event bodies are encoded.
    body: Vec<u8>,
    overloaded: Vec<Option<u32>>,
    /// By sender, whether its last message was not taken in.
    refused: Vec<bool>,
}

impl<S: Storage, F: Framing> Engine<S, F> {
    /// Rebuilds the state from a snapshot, if there is one, and the journal behind it, and opens a new segment. Blocks; nothing is served
    /// meanwhile.
    ///
    /// # Errors
    /// Damage, a foreign or newer journal, or an operating error, as the journal reports them; a record that this program cannot take.
    pub fn recover(
        storage: S,
        options: EngineOptions,
        base: Option<RecoveryBase>,
        now: Timestamp,
        incarnations: impl FnMut() -> u64 + 'static,
    ) -> Result<Recovered<S, F>, RecoveryError<RecordError>> {
        let (state, start) = match base {
            Some(base) => (base.state, base.start),
            None => (Replaying::new(options.state), RecoveryStart::FIRST),
        };
        let mut replay = Replay::new(state, options.state.dimension_count);
        let recovered =
            Journal::<S, F>::recover_batches(storage, start, now.0, incarnations, |records| replay.take(records))?;
        let mut state = replay.finish();
        let mut publications = Publications::default();
        publications.publish_all(&mut state, now);
        let engine = Engine {
            options,
            state,
            journal: recovered.journal,
            inbox: VecDeque::new(),
            inbox_command_count: 0,
            waiting: VecDeque::new(),
            waiting_command_count: 0,
            publications,
            lost_demand: LostDemand::default(),
            tickets_in_flight: 0,
            last_activity: now,
            extending_until: extending_until(options, now),
            stands_still: false,
            poisoned: false,
            body: Vec::with_capacity(256),
            overloaded: Vec::new(),
            refused: Vec::new(),
        };
        Ok(Recovered {
            engine,
            summary: recovered.summary,
        })
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// The message itself when too much is waiting already (overloaded) or a sync has failed; nothing of it has an effect.
    pub fn submit(&mut self, message: Message) -> Result<(), Message> {
        let command_count = command_count(&message);
        let is_full = self.inbox.len() >= INBOX_MESSAGE_COUNT_MAX
            || self.inbox_command_count + command_count > INBOX_COMMAND_COUNT_MAX;
        let sender = message.sender();
        if self.refused.len() <= sender {
            self.refused.resize(sender + 1, false);
        }
        // No later command of a frame overtakes one that was refused.
        let continues_refused = self.refused[sender] && message.continues();
        self.refused[sender] = is_full || self.poisoned || continues_refused;
        if self.refused[sender] {
            return Err(message);
        }
        self.inbox_command_count += command_count;
        self.inbox.push_back(message);
        Ok(())
    }

    /// Decides what has arrived and what is due by itself, as much as one turn takes, and appends the events as one batch. Does nothing while
    /// as many tickets are on their way as may be: what arrives gathers for the next batch.
    pub fn turn(&mut self, now: Timestamp) -> Effects {
        if self.poisoned || self.tickets_in_flight >= TICKETS_IN_FLIGHT_MAX {
            return Effects::default();
        }
        let begun = Timestamp(self.journal.begin(now.0));
        let first_waiting = self.waiting.len();
        let mut event_count = self.extend_deadlines(begun);
        if self.extending_until.is_none() {
            event_count += self.keep_house(begun);
            if self.inbox.is_empty() && event_count == 0 {
                return self.idle_turn(now);
            }
            self.last_activity = now;
            self.take_inbox(begun);
        }
        let ticket = self.journal.commit();
        // Also what changed nothing waits: it may rest on records that are not durable yet.
        let upto = self.journal.last_lsn();
        for waiting in self.waiting.range_mut(first_waiting..) {
            waiting.upto = upto;
        }
        self.publications.gather(&mut self.state, upto, begun);
        self.tickets_in_flight += usize::from(ticket.is_some());
        Effects {
            ticket,
            more: !self.inbox.is_empty() && self.has_room_for_replies() || self.extending_until.is_some(),
        }
    }

    fn take_inbox(&mut self, now: Timestamp) {
        let mut command_count_taken = 0;
        while command_count_taken < TURN_COMMAND_COUNT_MAX
            && self.has_room_for_replies()
            && let Some(mut message) = self.inbox.pop_front()
        {
            let count = command_count(&message);
            self.inbox_command_count -= count;
            self.waiting_command_count += count;
            command_count_taken += turn_weight(&message);
            let mut processing = self.processing(now);
            match &mut message {
                Message::Commands(batch) => processing.batch(batch),
                Message::Request(request) => processing.request(request),
            }
            self.waiting.push_back(Waiting { upto: Lsn(0), message });
        }
    }

    /// While a sync does not come to its end, what only reads would otherwise gather without a bound.
    fn has_room_for_replies(&self) -> bool {
        self.waiting.len() < WAITING_MESSAGE_COUNT_MAX && self.waiting_command_count < WAITING_COMMAND_COUNT_MAX
    }

    fn processing(&mut self, now: Timestamp) -> Processing<'_, S, F> {
        Processing {
            state: &mut self.state,
            journal: &mut self.journal,
            publications: &mut self.publications,
            lost_demand: &mut self.lost_demand,
            body: &mut self.body,
            overloaded: &mut self.overloaded,
            now,
        }
    }

    /// Moves deadlines that passed while nobody could confirm, as many as one turn takes, and returns how many events that were.
    fn extend_deadlines(&mut self, now: Timestamp) -> usize {
        let expires_at = now.plus_micros(self.options.hold_grace_micros);
        let mut count = 0;
        while let Some(until) = self.extending_until
            && count < TURN_COMMAND_COUNT_MAX
        {
            let Some(event) = self.state.next_extension(now, expires_at) else {
                self.extending_until = None;
                break;
            };
            match self.processing(now).record(&event) {
                Ok(()) => count += 1,
                // A segment is being prepared.
                Err(Status::Overloaded) if now < until => break,
                // Without room for the events they expire as usual.
                Err(_) => self.extending_until = None,
            }
        }
        count
    }

    /// From now on nothing happens by itself: no deadline is moved, no hold expires, no pool retires, and nothing is swept. To be called before the
    /// first turn.
    pub fn stand_still(&mut self) {
        self.stands_still = true;
        self.extending_until = None;
    }

    /// Lets happen what happens by itself, and returns how many events that were.
    fn keep_house(&mut self, now: Timestamp) -> usize {
        if self.stands_still {
            return 0;
        }
        let mut count = 0;
        let next_expiry = |state: &mut State| state.next_expiry(now);
        count += self.record_next(now, EXPIRIES_PER_TURN_MAX, next_expiry);
        let next_retirement = |state: &mut State| state.next_retirement(now);
        let retired = self.record_next(now, HOUSEKEEPING_PER_TURN_MAX, next_retirement);
        if retired == 0 {
            // Sweeping once for many retired pools is cheaper than for each.
            count += self.record_next(now, 1, |state: &mut State| state.next_sweep(now));
        }
        count += retired;
        for _ in 0..HOUSEKEEPING_PER_TURN_MAX {
            match self.record_lost_demand(now) {
                Some(recorded) => count += recorded,
                None => break,
            }
        }
        count
    }

    /// Records the refusals of the next pool, if there are some and there is room; returns how many events that were.
    fn record_lost_demand(&mut self, now: Timestamp) -> Option<usize> {
        let lost = self.lost_demand.next(now)?;
        let event = self
            .state
            .turned_away(lost.pool, lost.since, now, lost.refusals, lost.units);
        let Some(event) = event else { return Some(0) };
        if self.processing(now).record(&event).is_err() {
            self.lost_demand.put_back(lost);
            return None;
        }
        Some(1)
    }

    /// Records what is next as long as there is something and there is room.
    fn record_next(&mut self, now: Timestamp, most: usize, next: impl Fn(&mut State) -> Option<Event>) -> usize {
        for count in 0..most {
            match next(&mut self.state) {
                Some(event) if self.processing(now).record(&event).is_ok() => {}
                _ => return count,
            }
        }
        most
    }

    /// The clock was set ahead: deadlines that have passed by that are treated like those that passed while the server was down.
    pub fn clock_was_set_ahead(&mut self, now: Timestamp) {
        if !self.stands_still {
            self.extending_until = extending_until(self.options, now);
        }
    }

    fn idle_turn(&mut self, now: Timestamp) -> Effects {
        self.last_activity = self.last_activity.min(now);
        if self.tickets_in_flight > 0 || now.0 - self.last_activity.0 < IDLE_MICROS {
            return Effects::default();
        }
        self.last_activity = now;
        self.close(now)
    }

    /// Records the lost demand that has been counted so far, for a clean stop; [`Engine::close`] follows when that is durable.
    pub fn finish(&mut self, now: Timestamp) -> Effects {
        if self.poisoned {
            return Effects::default();
        }
        let now = Timestamp(self.journal.begin(now.0));
        self.lost_demand.end();
        while self.record_lost_demand(now).is_some() {}
        let ticket = self.journal.commit();
        self.publications.gather(&mut self.state, self.journal.last_lsn(), now);
        self.tickets_in_flight += usize::from(ticket.is_some());
        Effects { ticket, more: false }
    }

    /// Writes a commit record that proves all before it durable, if there is none yet: for a clean stop, when every ticket is done.
    pub fn close(&mut self, now: Timestamp) -> Effects {
        let ticket = if self.poisoned {
            None
        } else {
            self.journal.idle_commit(now.0)
        };
        self.tickets_in_flight += usize::from(ticket.is_some());
        Effects { ticket, more: false }
    }

    /// Brings what was appended to where a sync finds it, see [`Journal::write_out`].
    ///
    /// # Errors
    /// As bad as a sync that fails.
    pub fn write_out(&mut self, is_durable: bool) -> Result<(), StorageError> {
        self.journal.write_out(is_durable)
    }

    /// The segments of a ticket that opened new ones are synced: from now on the control page names them, and has to be synced before
    /// [`Engine::durable`] is called for the ticket.
    pub fn segment_synced(&mut self, number: SegmentNumber) {
        self.journal.segment_synced(number);
    }

    /// A ticket's sync has finished. Tickets finish in the order in which they were given out.
    pub fn durable(&mut self, upto: Lsn) {
        assert!(self.tickets_in_flight > 0, "a sync finished that nobody asked for");
        self.tickets_in_flight -= 1;
        self.journal.durable(upto);
    }

    /// A ticket's sync has failed. Nothing is decided or answered any more: what the disk holds is unknown.
    pub fn sync_failed(&mut self) {
        self.poisoned = true;
    }

    /// The next message whose outcomes may be told.
    pub fn next_reply(&mut self) -> Option<Message> {
        if self.poisoned || self.waiting.front()?.upto > self.journal.durable_lsn() {
            return None;
        }
        let message = self.waiting.pop_front()?.message;
        self.waiting_command_count -= command_count(&message);
        Some(message)
    }

    /// What readers may be told next; see [`Publication`]. All of it is to be taken before the replies.
    pub fn next_publication(&mut self) -> Option<Publication> {
        if self.poisoned {
            return None;
        }
        self.publications.next(self.journal.durable_lsn())
    }

    /// Takes a publication back, so that its memory is used again.
    pub fn recycle(&mut self, publication: Publication) {
        self.publications.recycle(publication);
    }

    /// As of when the publications that were given out tell everything: now, or the time of the first batch that is not durable yet. It never
    /// goes back as long as the clock does not, since no batch is earlier than the turn before it.
    pub fn published_as_of(&self, now: Timestamp) -> Timestamp {
        self.publications.as_of(now.max(Timestamp(self.journal.last_time())))
    }

    /// Begins a snapshot of this moment, between two turns; nothing when one is being taken, before the first batch of this run, or after a failed
    /// sync. It may be used once the journal is durable up to its LSN.
    pub fn begin_snapshot(&mut self) -> Option<SnapshotMoment> {
        let lsn = self.journal.last_lsn();
        // Before the first batch of this run the last record lies in a segment that recovery has read, not in the active one.
        let is_new = self.journal.bytes_appended() > 0;
        if self.poisoned || self.state.is_taking_snapshot() || !is_new {
            return None;
        }
        self.state.begin_snapshot();
        Some(SnapshotMoment {
            lsn,
            segment: self.segment_number(),
            time: self.journal.last_time(),
        })
    }

    /// Begins a copy of the state as recovery left it, for another journal: all of it is durable.
    pub fn begin_copy(&mut self) {
        self.state.begin_snapshot();
    }

    /// The segment that records are appended to.
    pub fn segment_number(&self) -> SegmentNumber {
        self.journal.segment().number()
    }

    /// Copies about this many bytes of the snapshot that was begun, see [`State::copy_snapshot`]; true when that was all. One that nobody wants any
    /// more is copied to its end all the same.
    pub fn copy_snapshot(&mut self, byte_count: usize, pieces: &mut Vec<SnapshotPiece>) -> bool {
        self.state.copy_snapshot(byte_count, pieces)
    }

    /// Whether nothing waits: no message, no reply, no sync.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.waiting.is_empty() && self.tickets_in_flight == 0
    }

    /// Whether a turn would find something to do.
    pub fn wants_turn(&self) -> bool {
        let may_turn = self.tickets_in_flight < TICKETS_IN_FLIGHT_MAX && !self.poisoned;
        may_turn && !self.inbox.is_empty() && self.has_room_for_replies()
    }

    /// What this core knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The journal.
    pub fn journal(&self) -> &Journal<S, F> {
        &self.journal
    }
}

/// The event of a journal's record; commit records are not given out by the journal.
///
/// # Errors
/// The record is none that this program knows. Trying again does not help.
pub fn event_of(record: &Record<'_>, dimension_count: usize) -> Result<Event, DecodeError> {
    plimsoll_record::decode(tag_of(record), Timestamp(record.time), record.body, dimension_count)
}

fn extending_until(options: EngineOptions, now: Timestamp) -> Option<Timestamp> {
    (options.hold_grace_micros > 0).then(|| now.plus_micros(EXTENDING_MICROS_MAX))
}

/// What a message takes of a turn, in commands.
fn turn_weight(message: &Message) -> usize {
    match message {
        Message::Commands(batch) => batch.entries.len().max(1),
        Message::Request(request) => match &request.call {
            // A definition is recorded and published with all its texts.
            Call::PutPools { puts, .. } => PUT_WEIGHT * puts.len().max(1),
            Call::ResolvePools(names) | Call::GetPools(names) => names.len().max(1),
            Call::ListPools { limit, .. } => (*limit).max(1),
            Call::GetReservations(ids) => ids.len().max(1),
            // Whatever comes behind it waits for the next turn.
            Call::ResetPool { .. } => TURN_COMMAND_COUNT_MAX,
        },
    }
}

fn command_count(message: &Message) -> usize {
    match message {
        Message::Commands(batch) => batch.entries.len(),
        Message::Request(_) => 1,
    }
}
