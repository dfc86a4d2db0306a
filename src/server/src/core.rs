//! One core: its connections, its engine, and the messages between it and the others.
//!
//! Everything happens in passes: what the connections have read and what other cores have sent goes to the owners' engines, the own engine
//! takes a turn, and what has become durable goes out. A pass is bounded and never waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use plimsoll_domain::Timestamp;
use plimsoll_engine::{Batch, Engine, Message};
use plimsoll_journal::{MmapStorage, Ticket};
use plimsoll_protocol::frame::{Frame, Head};
use plimsoll_protocol::{CommandsView, Encoder, Operation, Outcomes, Status, wire};

use crate::admission::{Refused, owned};
use crate::availability::{self, Availability};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::connections::Connections;
use crate::dispatch::dispatch;
use crate::frames::{Frames, PendingFrame};
use crate::history::Asked;
use crate::outgoing::Outgoing;
use crate::requests::Requests;
use crate::runtime::{self, Signal};
use crate::shared::Shared;
use crate::snapshots::Snapshots;
use crate::stats::{CoreCounters, Population, TIMED_SHARE, command_count};

/// How long a core that has more to do waits, so that the runtime looks at its sockets in between.
pub(crate) const BETWEEN_PASSES: Duration = Duration::from_micros(20);

/// How much longer than the drain timeout the last sync may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// One core.
pub(crate) struct Core {
    index: usize,
    pub(crate) shared: Arc<Shared>,
    inner: RefCell<Inner>,
    /// Something has arrived on this executor.
    arrived: Signal,
    /// A ticket waits for its sync.
    pub(crate) unsynced: Signal,
    pub(crate) connections: Rc<Connections>,
    is_drained: Cell<bool>,
    has_ended: Cell<bool>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine<MmapStorage>,
    pub(crate) outgoing: Outgoing,
    pub(crate) frames: Frames,
    pub(crate) requests: Requests,
    /// Requests that the history thread has.
    pub(crate) asked: Asked,
    pub(crate) encoder: Encoder,
    pub(crate) availability: Availability,
    snapshots: Snapshots,
    random: Random,
    pub(crate) clock: Clock,
    /// Messages that each owner has not answered yet.
    unanswered: Vec<usize>,
    tickets: VecDeque<Ticket>,
    dirty: Vec<Rc<Connection>>,
    remaining: Vec<i64>,
    /// Frames of commands until the next one that is timed.
    frames_until_timed: u32,
    /// When what the core has was counted last.
    counted_at: Timestamp,
}

impl Core {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        engine: Engine<MmapStorage>,
        availability: Availability,
        snapshots: Snapshots,
        connections: Connections,
        seed: u64,
    ) -> Core {
        let core_count = shared.core_count();
        Core {
            index,
            inner: RefCell::new(Inner {
                engine,
                outgoing: Outgoing::new(index, core_count),
                frames: Frames::default(),
                requests: Requests::default(),
                asked: Asked::default(),
                encoder: Encoder::new(),
                availability,
                snapshots,
                random: Random(seed),
                clock: Clock::new(),
                unanswered: vec![0; core_count],
                tickets: VecDeque::new(),
                dirty: Vec::new(),
                remaining: Vec::new(),
                frames_until_timed: 0,
                counted_at: Timestamp(i64::MIN),
            }),
            shared,
            arrived: Signal::default(),
            unsynced: Signal::default(),
            connections: Rc::new(connections),
            has_ended: Cell::new(false),
            is_drained: Cell::new(false),
        }
    }

    /// A read brought something that is no question for statistics: the heartbeat is quick for a while.
    pub(crate) fn something_arrived(&self) {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers were put into the connection's buffer outside of a pass.
    pub(crate) fn wants_flush(&self, connection: &Rc<Connection>) {
        if connection.mark_dirty() {
            self.inner.borrow_mut().dirty.push(Rc::clone(connection));
        }
        self.arrived.notify();
    }

    /// Takes a whole frame in: its commands go to their owners with the next pass, which follows.
    pub(crate) fn take_frame(&self, connection: &Rc<Connection>, frame: &Frame<'_>) {
        self.arrived.notify();
        let result = match self.admit(connection, &frame.header, 0) {
            Err(refused) => Err(refused),
            Ok(Operation::Commands) => self.take_commands(connection, frame),
            Ok(operation) => self.take_request(connection, frame, operation).map_err(owned),
        };
        if let Err(refused) = result {
            self.refuse(connection, &frame.header, refused);
        }
    }

    fn take_commands(&self, connection: &Rc<Connection>, frame: &Frame<'_>) -> Result<(), Refused> {
        let inner = &mut *self.inner.borrow_mut();
        let count = usize::from(frame.header.count);
        frame
            .check_payload()
            .map_err(|error| (error.status(), error.to_string().into()))?;
        let view = CommandsView::new(frame.payload, frame.header.count, self.shared.dimensions.len())
            .map_err(|error| (error.status(), error.to_string().into()))?;
        if let Some(traceparent) = view.traceparent() {
            // Callers can make it happen any number of times, so it is said to whoever asked for it.
            tracing::debug!(core = self.index, peer = %connection.peer, traceparent, commands = count, "a frame with a trace context");
        }
        connection.add_commands(count, self.answer_size(count));
        inner.frames_until_timed = inner.frames_until_timed.checked_sub(1).unwrap_or(TIMED_SHARE - 1);
        let timed = match inner.frames_until_timed {
            0 => view.iter().next().map(|first| (first.command.action(), Instant::now())),
            _ => None,
        };
        let frame_index = inner
            .frames
            .insert(Rc::clone(connection), frame.header.correlation, count, timed);
        for command in view.iter() {
            match dispatch(&command, inner.random.next()) {
                Ok(dispatched) => {
                    let owner = usize::from(self.shared.owners[dispatched.partition.index()]);
                    inner
                        .outgoing
                        .push_command(owner, frame_index, command.index as u32, dispatched.command);
                }
                Err(status) => {
                    let outcome = wire::Outcome::refused(status);
                    if let Some(frame) = inner.frames.complete(frame_index, command.index as u32, outcome) {
                        self.answer(inner, frame);
                    }
                }
            }
        }
        Ok(())
    }

    /// One pass: true when there is more to do at once.
    pub(crate) fn pass(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let mailbox = &self.shared.mailboxes[self.index];
        let mut more = false;
        for other in (0..self.shared.core_count()).filter(|other| *other != self.index) {
            more |= mailbox.take_requests(other, |message| self.submit(inner, message));
            more |= mailbox.take_replies(other, |message| {
                inner.unanswered[other] -= 1;
                self.take_reply(inner, message);
            });
        }
        while let Some(message) = self.shared.history.pop_lookup(self.index) {
            self.submit(inner, message);
        }
        if !inner.asked.is_empty() {
            self.take_history_answers(inner);
        }
        self.send_outgoing(inner);
        let now = inner.clock.now();
        if inner.clock.take_set_ahead() {
            inner.engine.clock_was_set_ahead(now);
        }
        let effects = inner.engine.turn(now);
        if let Some(ticket) = effects.ticket {
            inner.tickets.push_back(ticket);
            self.unsynced.notify();
        }
        more |= inner
            .snapshots
            .step(&mut inner.engine, &self.shared.snapshots[self.index]);
        availability::publish(inner, now);
        self.send_replies(inner);
        for connection in inner.dirty.drain(..) {
            connection.flush();
        }
        self.counters()
            .passed(self.connections.accepted_commands.get(), inner.tickets.len());
        self.counters().published(inner.availability.as_of());
        self.count(inner, now);
        more || inner.engine.wants_turn()
    }

    /// Counts what the core has, once a second: it looks at every partition.
    fn count(&self, inner: &mut Inner, now: Timestamp) {
        if now < inner.counted_at.plus_seconds(1) && inner.counted_at <= now {
            return;
        }
        inner.counted_at = now;
        let state = inner.engine.state();
        self.counters().has(&Population {
            pools: state.pool_count(),
            held: state.held_count(),
            confirmed: state.confirmed_count(),
            slots: state.reservation_slot_count(),
            is_journal_full: inner.engine.journal().is_full(),
        });
    }

    /// To the own engine; what it does not take goes back refused.
    fn submit(&self, inner: &mut Inner, message: Message) {
        if let Err(mut message) = self.submit_own(inner, message) {
            self.counters().overloaded(command_count(&message));
            message.refuse(Status::Overloaded);
            self.send_reply(inner, message);
        }
    }

    /// To the own engine, counted.
    fn submit_own(&self, inner: &mut Inner, message: Message) -> Result<(), Message> {
        let count = command_count(&message);
        inner
            .engine
            .submit(message)
            .inspect(|()| self.counters().accepted(count))
    }

    /// Sends what the connections have brought to the owners. Once an owner refuses a message, it gets no other one in this pass, so that no later
    /// command of a frame overtakes an earlier one.
    fn send_outgoing(&self, inner: &mut Inner) {
        for owner in 0..self.shared.core_count() {
            let mut is_refused = false;
            let mut is_sent = false;
            while let Some(mut message) = inner.outgoing.pop(owner) {
                if !is_refused {
                    let result = if owner == self.index {
                        self.submit_own(inner, message)
                    } else {
                        let unanswered = &mut inner.unanswered[owner];
                        self.shared.mailboxes[owner].push_request(self.index, message, unanswered)
                    };
                    match result {
                        Ok(()) => {
                            is_sent = true;
                            continue;
                        }
                        Err(back) => message = back,
                    }
                }
                is_refused = true;
                self.counters().overloaded(command_count(&message));
                message.refuse(Status::Overloaded);
                self.take_reply(inner, message);
            }
            if is_sent && owner != self.index {
                self.shared.mailboxes[owner].notify();
            }
        }
    }

    /// Sends what has become durable to where it came from.
    fn send_replies(&self, inner: &mut Inner) {
        while let Some(message) = inner.engine.next_reply() {
            self.counters().decided(&message);
            self.send_reply(inner, message);
        }
    }

    fn send_reply(&self, inner: &mut Inner, message: Message) {
        let sender = message.sender();
        if sender == self.index {
            self.take_reply(inner, message);
        } else if let Some(mailbox) = self.shared.mailboxes.get(sender) {
            mailbox.push_reply(self.index, message);
            mailbox.notify();
        } else {
            self.shared.history.push_reply(message);
        }
    }

    /// Takes the outcomes of a message that was sent from here.
    fn take_reply(&self, inner: &mut Inner, message: Message) {
        match message {
            Message::Commands(batch) => self.take_outcomes(inner, batch),
            Message::Request(request) => self.take_answer(inner, *request),
        }
    }

    fn take_outcomes(&self, inner: &mut Inner, batch: Box<Batch>) {
        let dimension_count = self.shared.dimensions.len();
        let mut remaining = batch.remaining.chunks_exact(dimension_count);
        for (entry, outcome) in batch.entries.iter().zip(&batch.outcomes) {
            if outcome.has_remaining()
                && let Some(values) = remaining.next()
            {
                inner.frames.add_remaining(entry.frame, entry.index, values);
            }
            if let Some(frame) = inner.frames.complete(entry.frame, entry.index, *outcome) {
                self.answer(inner, frame);
            }
        }
        inner.outgoing.recycle(batch);
    }

    /// Puts the answer to a whole frame into its connection's buffer.
    fn answer(&self, inner: &mut Inner, mut frame: PendingFrame) {
        let count = frame.outcomes.len();
        if let (Some((action, taken_at)), Some(first)) = (frame.timed, frame.outcomes.first()) {
            self.counters().answered(action, first, taken_at.elapsed());
        }
        frame.remaining_values(self.shared.dimensions.len(), &mut inner.remaining);
        let connection = Rc::clone(&frame.connection);
        let outcomes = Outcomes {
            outcomes: &frame.outcomes,
            remaining: &inner.remaining,
        };
        let unsent = &mut connection.unsent.borrow_mut();
        if let Err(error) = inner.encoder.outcomes(unsent, frame.correlation, outcomes) {
            // The limit on commands leaves room for every outcome, so this is a bug; the client learns that its outcomes are unknown.
            tracing::error!(%error, "an answer does not fit a frame");
            let head = Head::answer(Operation::Commands, frame.correlation);
            inner
                .encoder
                .failure(unsent, head, Status::OutcomeUnknown, "the answer does not fit a frame");
        }
        inner.frames.recycle(frame);
        connection.commands_answered(count, self.answer_size(count));
        inner.mark_dirty(&connection);
    }

    /// Runs passes until the server has stopped and everything is answered and synced.
    pub(crate) async fn run(self: Rc<Core>, drain_timeout: Duration) {
        // Each beat is a pass too: an engine that has nothing to do looks at the time.
        let core = Rc::downgrade(&self);
        Arc::clone(&self.shared.pulses[self.index]).attach(move || {
            if let Some(core) = core.upgrade() {
                core.arrived.notify();
            }
        });
        let mut stop_at = None;
        loop {
            let has_more = self.pass();
            self.connections.look();
            if has_more || self.connections.has_line() {
                runtime::sleep(BETWEEN_PASSES).await;
                self.connections.next_turns();
            } else {
                self.wait().await;
            }
            if self.shared.is_stopping() {
                self.connections.stop_listening();
                let stop_at = *stop_at.get_or_insert_with(|| Instant::now() + drain_timeout);
                if self.drain(Instant::now() >= stop_at) {
                    self.close(stop_at + CLOSE_PATIENCE).await;
                    break;
                }
            }
        }
        self.end().await;
    }

    /// Ends every task of this core, so that its sockets and its journal are closed when the executor is.
    async fn end(self: Rc<Core>) {
        self.has_ended.set(true);
        self.unsynced.notify();
        for connection in self.connections.alive() {
            connection.abandon();
        }
        self.connections.next_turns();
        let until = Instant::now() + CLOSE_PATIENCE;
        while Rc::strong_count(&self) > 1 && Instant::now() < until {
            runtime::sleep(BETWEEN_PASSES).await;
        }
        while !self.shared.mailboxes[self.index].leave() {
            runtime::sleep(BETWEEN_PASSES).await;
        }
    }

    async fn wait(&self) {
        let mailbox = &self.shared.mailboxes[self.index];
        poll_fn(|context| {
            if mailbox.poll_notified(context) || self.arrived.poll(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether this core may end: its connections are settled, and no core needs it any more.
    fn drain(&self, is_late: bool) -> bool {
        let connections = self.connections.alive();
        for connection in &connections {
            connection.close();
        }
        let inner = self.inner.borrow();
        let is_answered =
            self.connections.accepted_commands.get() == 0 && inner.requests.is_empty() && inner.asked.is_empty();
        let is_settled = is_answered && connections.iter().all(|connection| connection.is_settled());
        if (is_settled || is_late) && !self.is_drained.replace(true) {
            if !is_settled {
                tracing::warn!(core = self.index, "stopping with answers that clients have not taken");
            }
            self.shared.core_drained();
        }
        self.shared.all_drained() && (inner.engine.is_idle() || is_late)
    }

    /// The commit record that proves everything durable, for a clean stop.
    async fn close(&self, until: Instant) {
        self.settle(until).await;
        for close in [Engine::finish, Engine::close] {
            let ticket = self.with(|inner| {
                let now = inner.clock.now();
                close(&mut inner.engine, now).ticket
            });
            if let Some(ticket) = ticket {
                self.with(|inner| inner.tickets.push_back(ticket));
                self.unsynced.notify();
                self.settle(until).await;
            }
        }
    }

    /// Until nothing waits in the engine, or it takes too long.
    async fn settle(&self, until: Instant) {
        while !self.inner.borrow().engine.is_idle() && Instant::now() < until {
            self.pass();
            runtime::sleep(BETWEEN_PASSES).await;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// The tickets that wait, as one: a sync covers everything before it.
    pub(crate) fn take_tickets(&self) -> Vec<Ticket> {
        self.inner.borrow_mut().tickets.drain(..).collect()
    }

    /// A segment has had its first sync.
    pub(crate) fn segment_synced(&self, number: plimsoll_journal::SegmentNumber) {
        self.inner.borrow_mut().engine.segment_synced(number);
    }

    /// The sync of these tickets has finished: their replies go out with this pass.
    pub(crate) fn durable(&self, tickets: &[Ticket]) {
        {
            let inner = &mut *self.inner.borrow_mut();
            for ticket in tickets {
                inner.engine.durable(ticket.upto);
            }
        }
        self.pass();
        self.arrived.notify();
    }

    /// Runs with the core's insides, outside of a pass.
    pub(crate) fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        run(&mut self.inner.borrow_mut())
    }

    pub(crate) fn counters(&self) -> &CoreCounters {
        &self.shared.counters[self.index]
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

impl Inner {
    /// The connection's answers are sent at the end of the pass.
    pub(crate) fn mark_dirty(&mut self, connection: &Rc<Connection>) {
        if connection.mark_dirty() {
            self.dirty.push(Rc::clone(connection));
        }
    }
}

/// SplitMix64: random bits for reservation ids, seeded from the kernel. They keep ids from being guessed by accident; they are no secret.
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}
