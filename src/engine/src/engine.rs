//! One core's engine.
//!
//! Invariants:
//! - A message leaves by `next_reply` only when every record that existed when it was decided is durable.
//! - The state is exactly what the journal's records, in order, make of an empty one.
//! - After a failed sync nothing is decided and nothing leaves any more.

use std::collections::VecDeque;

use plimsoll_domain::{State, StateOptions, Timestamp};
use plimsoll_journal::{CrcFraming, Framing, Journal, Lsn, RecoveryError, SegmentNumber, Storage, Summary, Ticket};
use plimsoll_record::{DecodeError, RecordTag};

use crate::limits::{
    IDLE_MICROS, INBOX_COMMAND_COUNT_MAX, INBOX_MESSAGE_COUNT_MAX, TICKETS_IN_FLIGHT_MAX, TURN_COMMAND_COUNT_MAX,
};
use crate::message::Message;
use crate::process::Processing;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// The state's options.
    pub state: StateOptions,
}

/// What a turn asks of its caller.
#[derive(Debug, Default)]
pub struct Effects {
    /// Segments to sync, oldest ticket first.
    pub ticket: Option<Ticket>,
    /// Whether messages are left for another turn now.
    pub more: bool,
}

/// An engine whose state is back.
pub struct Recovered<S: Storage, F: Framing = CrcFraming> {
    /// The engine.
    pub engine: Engine<S, F>,
    /// What recovery found.
    pub summary: Summary,
}

struct Waiting {
    /// The message leaves when this LSN is durable.
    upto: Lsn,
    message: Message,
}

/// One core's pools, their reservations, and the journal of both.
pub struct Engine<S: Storage, F: Framing = CrcFraming> {
    state: State,
    journal: Journal<S, F>,
    inbox: VecDeque<Message>,
    inbox_command_count: usize,
    waiting: VecDeque<Waiting>,
    tickets_in_flight: usize,
    last_activity: Timestamp,
    poisoned: bool,
    /// Where event bodies are encoded.
    body: Vec<u8>,
    overloaded: Vec<Option<u32>>,
    /// By sender, whether its last message was not taken in.
    refused: Vec<bool>,
}

impl<S: Storage, F: Framing> Engine<S, F> {
    /// Rebuilds the state from the journal and opens a new segment. Blocks; nothing is served meanwhile.
    ///
    /// # Errors
    /// Damage, a foreign or newer journal, or an operating error, as the journal reports them; a record that this program cannot take.
    pub fn recover(
        storage: S,
        options: EngineOptions,
        now: Timestamp,
        incarnations: impl FnMut() -> u64 + 'static,
    ) -> Result<Recovered<S, F>, RecoveryError<DecodeError>> {
        let mut state = State::new(options.state);
        let dimension_count = options.state.dimension_count;
        let recovered = Journal::<S, F>::recover(storage, now.0, incarnations, |record| {
            let tag = RecordTag {
                kind: record.tag.kind,
                partition: record.tag.partition,
                detail: record.tag.detail,
            };
            let event = plimsoll_record::decode(tag, Timestamp(record.time), record.body, dimension_count)?;
            state.apply(&event);
            Ok(())
        })?;
        let engine = Engine {
            state,
            journal: recovered.journal,
            inbox: VecDeque::new(),
            inbox_command_count: 0,
            waiting: VecDeque::new(),
            tickets_in_flight: 0,
            last_activity: now,
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

    /// Decides what has arrived, as much as one turn takes, and appends its events as one batch. Does nothing while as many tickets are on
    /// their way as may be: what arrives gathers for the next batch.
    pub fn turn(&mut self, now: Timestamp) -> Effects {
        if self.poisoned || self.tickets_in_flight >= TICKETS_IN_FLIGHT_MAX {
            return Effects::default();
        }
        if self.inbox.is_empty() {
            return self.idle_turn(now);
        }
        self.last_activity = now;
        let now = Timestamp(self.journal.begin(now.0));
        let first_waiting = self.waiting.len();
        let mut command_count_taken = 0;
        let mut processing = Processing {
            state: &mut self.state,
            journal: &mut self.journal,
            body: &mut self.body,
            overloaded: &mut self.overloaded,
            now,
        };
        while command_count_taken < TURN_COMMAND_COUNT_MAX
            && let Some(mut message) = self.inbox.pop_front()
        {
            let count = command_count(&message);
            self.inbox_command_count -= count;
            command_count_taken += count.max(1);
            match &mut message {
                Message::Commands(batch) => processing.batch(batch),
                Message::Request(request) => processing.request(request),
            }
            self.waiting.push_back(Waiting { upto: Lsn(0), message });
        }
        let ticket = self.journal.commit();
        // Also what changed nothing waits: it may rest on records that are not durable yet.
        let upto = self.journal.last_lsn();
        for waiting in self.waiting.range_mut(first_waiting..) {
            waiting.upto = upto;
        }
        self.tickets_in_flight += usize::from(ticket.is_some());
        Effects {
            ticket,
            more: !self.inbox.is_empty(),
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
        self.waiting.pop_front().map(|waiting| waiting.message)
    }

    /// Whether nothing waits: no message, no reply, no sync.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.waiting.is_empty() && self.tickets_in_flight == 0
    }

    /// Whether a turn would find something to do.
    pub fn wants_turn(&self) -> bool {
        !self.inbox.is_empty() && self.tickets_in_flight < TICKETS_IN_FLIGHT_MAX && !self.poisoned
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

fn command_count(message: &Message) -> usize {
    match message {
        Message::Commands(batch) => batch.entries.len(),
        Message::Request(_) => 1,
    }
}
