//! Drives the connections of one thread.
//!
//! One thread waits for all its sockets and for the next time in one place. What is due goes out in one write for each
//! connection, what has arrived comes in with one read; a command costs no task, no wake-up and no allocation.
//!
//! - `slots[correlation - 1]` is a frame in flight and `entries` from `index * commands_per_frame` on are its commands; `free`
//!   names the slots that are not in flight.
//! - A connection that is lost is made anew; what was in flight on it has an unknown outcome.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use plimsoll_client::ReservationId;
use plimsoll_client::protocol::{Reserve, wire};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::detail::Detail;
use super::line::Line;
use super::mix::Operation;
use super::orders::ReplayPart;
use super::source::{Entry, Mixture, Source};
use super::taking::{Now, Taking, count_fate};
use super::work::Work;
use crate::ledger::{Fate, Ledger, Window, nanos};
use crate::limits::{DRAIN_TIMEOUT, LATE, RECONNECT_PAUSE, TICK, WARM_UP};
use crate::pools::{ALL_WINDOWS, POOLS_PER_ZONE, zone_name};
use crate::schedule::{self, Part, Schedule};
use crate::worker::Plan;
use crate::worker::buffers::Asked;

/// How long the thread waits at most: then it looks at the clock and at lost connections.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// How exactly the kernel keeps the times of this thread. Its default, 50 µs, is as long as a command takes.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1000).expect("1000 is not 0");

/// A frame that may be in flight.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// 0: it is not in flight.
    count: u32,
}

#[derive(Debug)]
struct Connection {
    /// `None` when it was lost.
    line: Option<Line>,
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Whether the kernel did not take all of what is to be written.
    blocked: bool,
}

/// The connections of one thread, ready to begin.
pub(crate) struct Driver {
    plan: Arc<Plan>,
    work: Arc<Work>,
    part: Part,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// A query that did not fit into the frame before it.
    stash: Option<Entry>,
    /// The frame that is being put together.
    commands: Vec<wire::Command>,
    units: Vec<u32>,
    one: Vec<u32>,
    zones: Vec<String>,
    /// The connection that is asked first for the next frame.
    turn: usize,
    connect_at: Instant,
}

impl Driver {
    /// Opens the connections of thread `index`.
    pub(crate) fn open(plan: &Arc<Plan>, work: &Arc<Work>, index: usize) -> Result<Self> {
        let settings = &plan.settings;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot wait for sockets")?;
        let count = (index..settings.connections).step_by(settings.threads).len();
        let mut driver = Self {
            plan: Arc::clone(plan),
            work: Arc::clone(work),
            part: Part {
                index,
                count: settings.threads,
            },
            epoll,
            connections: Vec::with_capacity(count),
            stash: None,
            commands: Vec::new(),
            units: Vec::new(),
            one: plan.units(),
            zones: (0..plan.pools.len().div_ceil(POOLS_PER_ZONE)).map(zone_name).collect(),
            turn: 0,
            connect_at: Instant::now(),
        };
        let idle = Entry {
            due: 0,
            operation: Operation::Reserve,
            pool: 0,
            units: 0,
            key: plimsoll_client::Key(0),
            id: ReservationId(0),
            tag: 0,
        };
        for index in 0..count {
            driver.connections.push(Connection {
                line: None,
                slots: vec![Slot::default(); settings.in_flight],
                entries: vec![idle; settings.in_flight * settings.commands_per_frame],
                free: (0..settings.in_flight as u32).rev().collect(),
                blocked: false,
            });
            driver.connect(index)?;
        }
        Ok(driver)
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let line = Line::open(&self.plan.address, self.plan.settings.commands_per_frame)?;
        epoll::add(
            &self.epoll,
            &line.stream,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        let connection = &mut self.connections[index];
        connection.line = Some(line);
        connection.blocked = false;
        Ok(())
    }

    /// Sends what is due until the window ends, and takes the answers.
    pub(crate) fn run(mut self, window: Window, ledger: &mut Ledger) -> Result<()> {
        // Without it times are kept less exactly.
        let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS));
        let begun = window.start.checked_sub(WARM_UP).context("the clock has just begun")?;
        let mut source = self.source(window)?;
        let mut detail = Detail::new()?;
        let deadline = window.end + DRAIN_TIMEOUT / 2;
        let end = nanos(window.end - begun);
        let is_open = self.work.arrivals != schedule::Arrivals::Closed || self.work.replay.is_some();
        let mut sending = true;
        let mut events = Vec::with_capacity(self.connections.len());
        loop {
            let now = Now::of(begun, window);
            if sending && now.instant < window.end {
                self.give_up(&mut source, now, &mut detail);
                self.send(&mut source, now, &mut detail)?;
            } else if sending {
                sending = false;
                if is_open {
                    // What came due since the round before.
                    self.send(&mut source, Now { nanos: end, ..now }, &mut detail)?;
                }
            } else if !self.is_in_flight() || now.instant >= deadline {
                break;
            }
            self.write(&mut source, &mut detail, ledger);
            let wait = match source.due(now.nanos) {
                Some(due) if sending && self.has_room() => {
                    Duration::from_nanos(due.saturating_sub(now.nanos)).clamp(TICK, WAIT_MAX)
                }
                _ => WAIT_MAX,
            };
            self.wait(wait, &mut events)?;
            self.read(&events, &mut source, Now::of(begun, window), &mut detail, ledger);
            self.connect_lost(&mut detail);
            ledger.publish();
        }
        for index in 0..self.connections.len() {
            self.lose(index, &mut source, &mut detail, ledger);
        }
        if is_open {
            let unsent = source.give_up_until(end) + u64::from(self.stash.is_some());
            detail.due += unsent;
            detail.unsent += unsent;
        }
        (detail.skipped, detail.records) = source.finish();
        ledger.publish();
        ledger.set_detail(detail);
        Ok(())
    }

    fn source(&self, window: Window) -> Result<Source> {
        let (work, plan) = (&self.work, &self.plan);
        if let Some(replay) = &work.replay {
            let part = ReplayPart::new(replay, self.part, nanos(WARM_UP), plan.seed);
            return Ok(Source::Replay(Box::new(part)));
        }
        let schedule = Schedule::new(
            &schedule::Plan {
                arrivals: work.arrivals,
                rate: work.rate,
                warm_up: WARM_UP,
                seconds: (window.end - window.start).as_secs_f64(),
                seed: plan.seed,
            },
            self.part,
        );
        let mixture = Mixture::new(
            Arc::clone(work),
            schedule,
            plan.pools.len(),
            plan.seed,
            self.part.index as u64,
        );
        Ok(Source::Mixture(Box::new(mixture)))
    }

    /// Gives up what has waited for longer than callers do.
    fn give_up(&mut self, source: &mut Source, now: Now, detail: &mut Detail) {
        if let Some(patience) = self.work.patience {
            let count = source.give_up_until(now.nanos.saturating_sub(nanos(patience)));
            if now.counting {
                detail.due += count;
                detail.unsent += count;
            }
        }
    }

    /// Puts what is due into frames, in turn on the connections that have room.
    fn send(&mut self, source: &mut Source, now: Now, detail: &mut Detail) -> Result<()> {
        let commands_max = self.plan.settings.commands_per_frame;
        while let Some(index) = self.next_with_room() {
            let Self {
                plan,
                work,
                connections,
                commands,
                units,
                one,
                zones,
                stash,
                ..
            } = self;
            let connection = &mut connections[index];
            let (Some(line), Some(&slot)) = (&mut connection.line, connection.free.last()) else {
                bail!("a connection with room is there and has a free slot");
            };
            let correlation = u64::from(slot) + 1;
            let entries = &mut connection.entries[slot as usize * commands_max..][..commands_max];
            commands.clear();
            units.clear();
            let mut count = 0;
            while count < commands_max
                && let Some(entry) = stash.take().or_else(|| source.next(now.nanos))
            {
                let command = match entry.operation {
                    Operation::Availability if count > 0 => {
                        *stash = Some(entry);
                        break;
                    }
                    Operation::Availability => None,
                    Operation::Reserve | Operation::Hold => {
                        match &work.replay {
                            Some(replay) => units.extend_from_slice(replay.orders.units(entry.tag)),
                            None => units.extend_from_slice(one),
                        }
                        Some(wire::Command::reserve(Reserve {
                            pool: plan.pools[usize::from(entry.pool)],
                            key: entry.key,
                            hold_seconds: if entry.operation == Operation::Hold {
                                work.hold_seconds
                            } else {
                                0
                            },
                            occurred_at: None,
                        }))
                    }
                    Operation::Confirm => Some(wire::Command::confirm(entry.id, None)),
                    Operation::Release => Some(wire::Command::release(entry.id, None)),
                };
                let lag = now.nanos - entry.due;
                if now.counting {
                    detail.due += 1;
                    detail.sent += 1;
                    detail.late += u64::from(lag > nanos(LATE));
                    detail.lag.saturating_record(lag);
                }
                entries[count] = entry;
                count += 1;
                match command {
                    Some(command) => commands.push(command),
                    None => break,
                }
            }
            if count == 0 {
                return Ok(());
            }
            if commands.is_empty() {
                let asked = Asked {
                    zone: &zones[usize::from(entries[0].pool) / POOLS_PER_ZONE],
                    window: ALL_WINDOWS,
                    units: one,
                    exact: false,
                };
                line.buffers.add_query(correlation, asked)?;
            } else {
                line.buffers.add_commands(correlation, commands, units)?;
            }
            connection.free.pop();
            connection.slots[slot as usize].count = count as u32;
        }
        Ok(())
    }

    /// The next connection in turn that can take a frame.
    fn next_with_room(&mut self) -> Option<usize> {
        let count = self.connections.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if self.connections[index].has_room() {
                self.turn = index + 1;
                return Some(index);
            }
        }
        None
    }

    fn has_room(&self) -> bool {
        self.connections.iter().any(Connection::has_room)
    }

    fn is_in_flight(&self) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.free.len() < connection.slots.len())
    }

    /// Hands to the kernel what it takes.
    fn write(&mut self, source: &mut Source, detail: &mut Detail, ledger: &mut Ledger) {
        for index in 0..self.connections.len() {
            let Connection { line, blocked, .. } = &mut self.connections[index];
            let Some(line) = line.as_mut().filter(|line| line.has_output()) else {
                continue;
            };
            let written = line.write().and_then(|()| {
                if line.has_output() != *blocked {
                    *blocked = line.has_output();
                    let wanted = if *blocked {
                        EventFlags::IN | EventFlags::OUT
                    } else {
                        EventFlags::IN
                    };
                    epoll::modify(&self.epoll, &line.stream, EventData::new_u64(index as u64), wanted)?;
                }
                Ok(())
            });
            if let Err(error) = written {
                self.note(&error, ledger);
                self.lose(index, source, detail, ledger);
            }
        }
    }

    /// Waits until something has arrived, or can be written, or the time is over. `events` says on which connections.
    fn wait(&self, time: Duration, events: &mut Vec<epoll::Event>) -> Result<()> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        events.clear();
        // Under load something is there already: one call is enough then.
        epoll::wait(&self.epoll, spare_capacity(events), Some(&at_once))?;
        if events.is_empty() {
            // The time of `epoll::wait` itself has whole milliseconds.
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: time.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    epoll::wait(&self.epoll, spare_capacity(events), Some(&at_once))?;
                }
                Err(error) => return Err(error).context("cannot wait for sockets"),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        events: &[epoll::Event],
        source: &mut Source,
        now: Now,
        detail: &mut Detail,
        ledger: &mut Ledger,
    ) {
        ledger.arrived(now.instant);
        for event in events {
            let index = event.data.u64() as usize;
            if let Err(error) = self.take_answers(index, source, now, detail, ledger) {
                self.note(&error, ledger);
                self.lose(index, source, detail, ledger);
            }
        }
    }

    /// Takes the answers of one connection that have arrived in whole.
    fn take_answers(
        &mut self,
        index: usize,
        source: &mut Source,
        now: Now,
        detail: &mut Detail,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let commands_max = self.plan.settings.commands_per_frame;
        let Connection {
            line,
            slots,
            entries,
            free,
            ..
        } = &mut self.connections[index];
        let Some(line) = line else { return Ok(()) };
        if !line.read()? {
            return Ok(());
        }
        while let Some(frame) = line.buffers.take_frame()? {
            let correlation = frame.header.correlation.0;
            let slot = correlation.wrapping_sub(1) as usize;
            let count = slots.get(slot).map_or(0, |slot| slot.count as usize);
            if count == 0 {
                bail!(
                    "an answer to {correlation}, which was not asked: {}",
                    frame.header.status
                );
            }
            let entries = &entries[slot * commands_max..][..count];
            let mut taking = Taking {
                source,
                now,
                detail,
                ledger,
                accepted_only: self.work.accepted_only,
            };
            taking.frame(frame, entries, self.plan.dimensions)?;
            slots[slot].count = 0;
            free.push(slot as u32);
        }
        Ok(())
    }

    /// Why a connection is lost; in a run with faults that is no problem.
    fn note(&self, error: &anyhow::Error, ledger: &mut Ledger) {
        if self.plan.settings.faults.is_empty() {
            ledger.note(|| format!("{error:#}"));
        }
    }

    /// A connection is gone: nobody can tell what became of what was in flight on it.
    fn lose(&mut self, index: usize, source: &mut Source, detail: &mut Detail, ledger: &mut Ledger) {
        let commands_max = self.plan.settings.commands_per_frame;
        let connection = &mut self.connections[index];
        // Closing its socket takes it out of what is waited for.
        connection.line = None;
        connection.blocked = false;
        for (slot, found) in connection.slots.iter_mut().enumerate() {
            let count = std::mem::take(&mut found.count) as usize;
            if count == 0 {
                continue;
            }
            connection.free.push(slot as u32);
            for entry in &connection.entries[slot * commands_max..][..count] {
                count_fate(ledger, entry, Fate::Unknown);
                if ledger.is_counting() {
                    detail.answered(entry.operation, Fate::Unknown, 0);
                }
                source.answered(entry, Fate::Unknown, ReservationId(0));
            }
        }
    }

    /// Makes lost connections anew. One that cannot be made shows that none can, for a while.
    fn connect_lost(&mut self, detail: &mut Detail) {
        if Instant::now() < self.connect_at {
            return;
        }
        for index in 0..self.connections.len() {
            if self.connections[index].line.is_some() {
                continue;
            }
            if self.connect(index).is_err() {
                self.connect_at = Instant::now() + RECONNECT_PAUSE;
                return;
            }
            detail.reconnects += 1;
        }
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        self.line.is_some() && !self.free.is_empty()
    }
}
