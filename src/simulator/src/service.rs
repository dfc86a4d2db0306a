//! What a core's server does with its engine: messages in, turns, syncs, answers out.

use plimsoll_domain::{ReservationId, Timestamp};
use plimsoll_engine::limits::{INBOX_COMMAND_COUNT_MAX, INBOX_MESSAGE_COUNT_MAX, TICKETS_IN_FLIGHT_MAX};
use plimsoll_engine::{Answer, Batch, Call, Entry, Message, Request};
use plimsoll_journal::{Framing, Segment, Ticket};
use plimsoll_protocol::{Status, wire};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::disk::CONTROL;
use crate::mirror::Room;
use crate::plants::Plant;
use crate::readers;
use crate::trace::note;
use crate::world::{Asked, Stage, Sync, TENSE_STEPS, World};

/// Turns between two comparisons of the whole state.
const TURNS_BETWEEN_COMPARISONS: u64 = 64;

impl<F: Framing + 'static> World<F> {
    /// A message reaches its owner; once one is refused, those behind it are too.
    pub(crate) fn submit(&mut self, sender: usize, owner: usize) -> Result<(), Violation> {
        let Some(message) = self.channels[sender][owner].pop_front() else {
            return Ok(());
        };
        note(
            "submit",
            [
                sender as u64,
                owner as u64,
                self.channels[sender][owner].len() as u64,
                0,
            ],
        );
        let size = if let Message::Commands(batch) = &message {
            batch.entries.len()
        } else {
            1
        };
        let Some(refused) = self.hand_over(owner, message, size)? else {
            return Ok(());
        };
        let behind = std::mem::take(&mut self.channels[sender][owner]);
        for mut message in std::iter::once(refused).chain(behind) {
            message.refuse(Status::Overloaded);
            self.route_refused(owner, message)?;
        }
        Ok(())
    }

    /// The engine takes the message exactly if its bounds leave room for it.
    fn hand_over(&mut self, owner: usize, message: Message, size: usize) -> Result<Option<Message>, Violation> {
        let plant = self.plant;
        let core = &mut self.cores[owner];
        let (message_count, command_count) = core.mirror.counts();
        let fits = message_count < INBOX_MESSAGE_COUNT_MAX && command_count + size <= INBOX_COMMAND_COUNT_MAX;
        if fits {
            core.mirror.submit(&message);
        }
        let mut message = message;
        if let Some(plant) = plant {
            plant.message(&mut message);
        }
        let refused = core.engine().submit(message).err();
        hold(refused.is_none() == fits, Promise::Bounded, || {
            format!(
                "{message_count} messages with {command_count} commands wait; one with {size} is refused: {}",
                !fits
            )
        })?;
        Ok(refused)
    }

    pub(crate) fn turn(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let core = &mut self.cores[index];
        let waits = core.tickets_in_flight() >= TICKETS_IN_FLIGHT_MAX;
        let takes_messages = !waits && core.mirror.counts().0 > 0;
        let crashes = !waits && self.fault_dice.permille(self.mix.turn_crash);
        core.disk
            .borrow()
            .fuse
            .set(crashes.then(|| 1 + self.fault_dice.below(8)));
        let engine = core.engine.as_mut().expect("the process runs");
        let effects = engine.turn(Timestamp(now));
        let (last_lsn, last_time) = (engine.journal().last_lsn().0, engine.journal().last_time());
        let active = engine.journal().segment().number().0;
        let dimension_count = self.rules.dimension_count;
        let mut events = core
            .log
            .read::<F>(&core.disk.borrow(), last_lsn, active, dimension_count)?;
        if let Some(plant) = self.plant {
            plant.events(&mut events);
        }
        if takes_messages || effects.ticket.is_some() {
            note("turn", [index as u64, last_lsn, events.len() as u64, active]);
        }
        if core.disk.borrow().fuse.is_blown() {
            note("crash in the turn", [index as u64, core.log.last_lsn(), 0, 0]);
            return self.crash();
        }
        core.disk.borrow().fuse.set(None);
        hold(core.log.last_lsn() == last_lsn, Promise::Forgotten, || {
            format!(
                "the journal stands at LSN {last_lsn}, and its segments hold {}",
                core.log.last_lsn()
            )
        })?;
        let mut has_written = false;
        if waits {
            hold(events.is_empty() && effects.ticket.is_none(), Promise::Bounded, || {
                format!("a turn that has to wait made {events:?} and {:?}", effects.ticket)
            })?;
        } else {
            hold(last_time == core.clock.max(now), Promise::Forgotten, || {
                format!("a turn at {now} after {} has time {last_time}", core.clock)
            })?;
            let room = {
                let disk = core.disk.borrow();
                let status = if disk.is_reported_full {
                    Status::StorageFull
                } else {
                    Status::Overloaded
                };
                Room {
                    prepared_count: disk.prepared.len(),
                    wants_more: effects.more,
                    status,
                }
            };
            has_written = !events.is_empty();
            let changed = readers::touched(&events);
            core.mirror.turn(&mut core.model, events, last_time, last_lsn, room)?;
            if !changed.0.is_empty() {
                core.readers.expect(&core.model, changed, last_lsn, last_time);
            }
            core.readers.is_bounded()?;
        }
        core.clock = last_time;
        core.tickets.extend(effects.ticket);
        if has_written {
            self.remember(index);
        }
        let core = &mut self.cores[index];
        hold(
            core.tickets_in_flight() <= TICKETS_IN_FLIGHT_MAX,
            Promise::Bounded,
            || format!("{} tickets are in flight", core.tickets_in_flight()),
        )?;
        core.turn_count += 1;
        if core.turn_count.is_multiple_of(TURNS_BETWEEN_COMPARISONS) {
            let state = core.engine.as_ref().expect("the process runs").state();
            state.assert_counters();
            core.model.compare(state, last_time)?;
        }
        // What changed nothing has no ticket, and may leave at once.
        self.tell(index)
    }

    /// The next part of a sync: it begins, its segments are done, its control page is done.
    pub(crate) fn sync(&mut self, index: usize) -> Result<(), Violation> {
        let plant = self.plant;
        let core = &mut self.cores[index];
        match core.sync.take() {
            None => {
                let takes_all = self.dice.coin();
                let core = &mut self.cores[index];
                let mut tickets: Vec<_> = match () {
                    () if plant == Some(Plant::TicketsOutOfOrder) => core.tickets.pop_back().into_iter().collect(),
                    () if takes_all => core.tickets.drain(..).collect(),
                    () => core.tickets.pop_front().into_iter().collect(),
                };
                if tickets.is_empty() {
                    return Ok(());
                }
                let first = tickets.iter().map(|ticket| ticket.first_segment.0).min().unwrap_or(0);
                let mut last = tickets.iter().map(|ticket| ticket.last_segment.0).max().unwrap_or(0);
                note("sync begins", [index as u64, tickets[0].upto.0, first, last]);
                if plant == Some(Plant::SyncSkipsLastSegment) && first < last {
                    last -= 1;
                }
                if plant == Some(Plant::ControlBeforeSegment)
                    && let Some(opened) = tickets.iter().filter_map(|ticket| ticket.opened).next_back()
                {
                    core.engine().segment_synced(opened);
                    let disk = &mut core.disk.borrow_mut();
                    disk.begin_sync(std::iter::once(CONTROL));
                    disk.finish_sync();
                    tickets.iter_mut().for_each(|ticket| ticket.opened = None);
                }
                core.disk.borrow_mut().begin_sync(first..=last);
                if plant == Some(Plant::AckBeforeSync) {
                    tickets.iter().for_each(|ticket| core.engine().durable(ticket.upto));
                }
                let is_told = plant == Some(Plant::AckBeforeSync);
                core.sync = Some(Sync {
                    tickets,
                    stage: Stage::Segments,
                    is_told,
                });
                if plant == Some(Plant::AckBeforeSync) {
                    self.tell(index)?;
                }
                Ok(())
            }
            Some(sync) if self.fault_dice.permille(self.mix.sync_failure) => self.fail_sync(index, sync),
            Some(Sync {
                tickets,
                stage: Stage::Segments,
                is_told,
            }) => {
                core.disk.borrow_mut().finish_sync();
                let opened = tickets.iter().filter_map(|ticket| ticket.opened).next_back();
                let Some(opened) = opened else {
                    return self.durable(index, &tickets);
                };
                note("segment synced", [index as u64, opened.0, 0, 0]);
                core.engine().segment_synced(opened);
                if plant == Some(Plant::ControlNotSynced) {
                    return self.durable(index, &tickets);
                }
                core.disk.borrow_mut().begin_sync(std::iter::once(CONTROL));
                core.sync = Some(Sync {
                    tickets,
                    stage: Stage::Control,
                    is_told,
                });
                Ok(())
            }
            Some(Sync {
                tickets,
                stage: Stage::Control,
                ..
            }) => {
                core.disk.borrow_mut().finish_sync();
                self.durable(index, &tickets)
            }
        }
    }

    fn fail_sync(&mut self, index: usize, sync: Sync) -> Result<(), Violation> {
        let core = &mut self.cores[index];
        note("sync fails", [index as u64, sync.tickets[0].upto.0, 0, 0]);
        core.disk.borrow_mut().fail_sync();
        if self.plant == Some(Plant::FailedSyncRetried) {
            core.sync = Some(sync);
            self.tension = 2 * TENSE_STEPS;
            return Ok(());
        }
        let engine = core.engine();
        engine.sync_failed();
        let message = Message::Request(Box::new(Request {
            sender: 0,
            origin: 0,
            part: 0,
            call: Call::GetPools(Vec::new()),
            answer: Answer::Pending,
        }));
        let is_poisoned = engine.submit(message).is_err()
            && engine.turn(Timestamp(self.now)).ticket.is_none()
            && engine.close(Timestamp(self.now)).ticket.is_none()
            && engine.next_reply().is_none()
            && engine.next_publication().is_none();
        hold(is_poisoned, Promise::BadDisk, || {
            "an engine goes on after a failed sync".to_owned()
        })?;
        // The process stops; the machine does not.
        self.kill()
    }

    fn durable(&mut self, index: usize, tickets: &[Ticket]) -> Result<(), Violation> {
        note(
            "durable",
            [
                index as u64,
                tickets.last().map_or(0, |ticket| ticket.upto.0),
                tickets.len() as u64,
                0,
            ],
        );
        if tickets.iter().any(|ticket| ticket.opened.is_some()) {
            self.tension = TENSE_STEPS;
        }
        for ticket in tickets.iter().filter(|_| self.plant != Some(Plant::AckBeforeSync)) {
            self.cores[index].engine().durable(ticket.upto);
        }
        self.tell(index)
    }

    /// What may be told is told: to readers first, then to those who asked.
    fn tell(&mut self, index: usize) -> Result<(), Violation> {
        let state_options = self.options().state;
        let (plant, now) = (self.plant, self.now);
        let durable = self.cores[index].engine().journal().durable_lsn().0;
        self.cores[index].snapshots.durable(durable, plant, state_options)?;
        if plant == Some(Plant::ReplyBeforePublication) {
            self.replies(index, durable)?;
            return self.publications(index, durable);
        }
        self.publications(index, durable)?;
        let core = &mut self.cores[index];
        let as_of = match plant {
            Some(Plant::AgeNotTold) => Timestamp(now),
            _ => core.engine().published_as_of(Timestamp(now)),
        };
        // What was told too early has no age.
        if plant != Some(Plant::PublishBeforeSync) {
            core.readers.tell_age(as_of, now, core.clock)?;
        }
        self.replies(index, durable)
    }

    fn publications(&mut self, index: usize, durable: u64) -> Result<(), Violation> {
        let plant = self.plant;
        let core = &mut self.cores[index];
        if plant == Some(Plant::PublishBeforeSync) {
            core.readers.take_early();
            core.floor = core.floor.max(core.readers.published_upto);
        }
        let engine = core.engine.as_mut().expect("the process runs");
        while let Some(publication) = engine.next_publication() {
            if plant == Some(Plant::PublishBeforeSync) {
                continue;
            }
            if plant == Some(Plant::PublicationLost) && self.fault_dice.permille(50) {
                continue;
            }
            core.readers.take(&publication, durable)?;
            core.floor = core.floor.max(core.readers.published_upto);
            engine.recycle(publication);
        }
        Ok(())
    }

    fn replies(&mut self, index: usize, durable: u64) -> Result<(), Violation> {
        let plant = self.plant;
        let core = &mut self.cores[index];
        let engine = core.engine.as_mut().expect("the process runs");
        let mut messages = Vec::new();
        while let Some(mut message) = engine.next_reply() {
            core.floor = core.floor.max(durable);
            if let Some(plant) = plant {
                plant.reply(&mut message);
            }
            let upto = core.mirror.reply(&message, durable, self.rules.dimension_count)?;
            core.readers.reply(upto)?;
            messages.push(message);
        }
        if plant == Some(Plant::RepliesOutOfOrder) && messages.len() > 1 {
            messages.swap(0, 1);
        }
        messages.into_iter().try_for_each(|message| self.route(index, message))
    }

    /// Refused before it was taken in, it overtakes what was.
    fn route_refused(&mut self, owner: usize, message: Message) -> Result<(), Violation> {
        let last = self.cores[owner].last_reply.clone();
        self.cores[owner].last_reply.clear();
        let result = self.route(owner, message);
        self.cores[owner].last_reply = last;
        result
    }

    fn route(&mut self, owner: usize, message: Message) -> Result<(), Violation> {
        let sender = message.sender();
        match message {
            Message::Commands(batch) => {
                for (entry, outcome) in batch.entries.iter().zip(&batch.outcomes) {
                    let place = (entry.frame, entry.index);
                    let last = self.cores[owner].last_reply.insert(sender, place);
                    hold(last.is_none_or(|last| last < place), Promise::Order, || {
                        format!("core {owner} answers {place:?} of core {sender} after {last:?}")
                    })?;
                    self.complete(entry, outcome)?;
                }
                Ok(())
            }
            Message::Request(request) => match self.asked.remove(&request.origin) {
                Some(Asked::Put(pool)) => match &request.answer {
                    Answer::PutPools(results) => {
                        results.iter().try_for_each(|result| self.ledger.planned(pool, result))
                    }
                    Answer::Refused(Status::Overloaded) => {
                        self.ledger.put_is_lost(pool);
                        Ok(())
                    }
                    answer => violation(Promise::Answer, || format!("a definition is answered with {answer:?}")),
                },
                Some(Asked::Read) | None => Ok(()),
            },
        }
    }

    fn complete(&mut self, entry: &Entry, outcome: &wire::Outcome) -> Result<(), Violation> {
        // Of a lost connection.
        let Some(frame) = self.frames.get_mut(&entry.frame) else {
            return Ok(());
        };
        let place = &mut frame.outcomes[entry.index as usize];
        hold(place.is_none(), Promise::Order, || {
            format!("{entry:?} is answered twice")
        })?;
        *place = Some(*outcome);
        frame.left -= 1;
        if frame.left == 0 {
            self.clients[frame.client].answers.push_back(entry.frame);
        }
        Ok(())
    }

    pub(crate) fn client_takes_answer(&mut self, index: usize) -> Result<(), Violation> {
        let client = &mut self.clients[index];
        let Some(handle) = client.answers.pop_front() else {
            return Ok(());
        };
        client.frames_in_flight -= 1;
        let frame = self.frames.remove(&handle).expect("a frame that is answered");
        note(
            "client takes answer",
            [index as u64, u64::from(handle), frame.entries.len() as u64, 0],
        );
        let mut overloaded = [false; 4];
        for ((wish, owner), outcome) in frame.entries.iter().zip(&frame.outcomes) {
            let outcome = outcome.as_ref().expect("a complete frame");
            let is_overloaded = outcome.status() == Status::Overloaded.number();
            hold(is_overloaded || !overloaded[*owner], Promise::Order, || {
                format!("after a command of frame {handle} was refused as overloaded, wish {wish} was not: {outcome:?}")
            })?;
            overloaded[*owner] |= is_overloaded;
            if self.ledger.outcome(*wish, &mut self.clients[index], outcome)? {
                self.clients[index].open.push_back(*wish);
            } else {
                self.clients[index].unfinished -= 1;
            }
        }
        Ok(())
    }

    /// More than the queues take arrives at once, and is refused.
    pub(crate) fn flood(&mut self, owner: usize) -> Result<(), Violation> {
        note("flood", [owner as u64, 0, 0, 0]);
        let size = self.fault_dice.pick(&[1, 8192]);
        // Until nothing fits any more, even where a sync does not come to its end and turns go on.
        for _ in 0..3 {
            self.flood_once(owner, size)?;
            self.turn(owner)?;
        }
        Ok(())
    }

    fn flood_once(&mut self, owner: usize, size: u32) -> Result<(), Violation> {
        // No core sends as this one, and nobody waits for its frames.
        let sender = self.cores.len();
        for number in 0..=INBOX_MESSAGE_COUNT_MAX as u32 {
            let command = plimsoll_domain::Command::Release(plimsoll_domain::Release {
                reservation: ReservationId(u128::from(self.fault_dice.bits())),
                occurred_at: Timestamp::ABSENT,
            });
            let frame = 1 << 31 | self.handle_count << 15 | number;
            let entries = (0..size).map(|index| Entry {
                frame,
                index,
                command: command.clone(),
            });
            let batch = Batch {
                sender,
                entries: entries.collect(),
                ..Batch::default()
            };
            if self
                .hand_over(owner, Message::Commands(Box::new(batch)), size as usize)?
                .is_some()
            {
                break;
            }
        }
        self.handle_count += 1;
        Ok(())
    }
}
