//! Frames of many commands: half of a frame releases what is due, the other half reserves. With holds a third releases,
//! a third confirms what was held, and a third holds.
//!
//! - A reservation is released from a second after its answer on, oldest first. A frame never holds more reserves than
//!   half (a third) of its commands, so that the number of live reservations settles instead of swinging from second to
//!   second.
//! - A hold waits in `held` until a frame confirms it, and only then counts as live.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::Reserve;
use plimsoll_client::{Applied, Batch, BatchOutcome, Client, ReservationId};
use tokio::task::JoinSet;

use super::live::Live;
use super::{Plan, client_options};
use crate::keys::Draws;
use crate::ledger::{Fate, Window};
use crate::limits::RESERVATION_LIFE;
use crate::threads::SharedLedger;

/// A connection with its live reservations.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    plan: Arc<Plan>,
    client: Client,
    source: Arc<Mutex<Source>>,
    commands_max: usize,
    /// Reservations that this connection holds at the start.
    live: usize,
}

/// Where the commands of a connection come from.
#[derive(Debug)]
struct Source {
    draws: Draws,
    live: Live,
    held: VecDeque<(ReservationId, u16)>,
}

/// A frame's commands and their pools.
struct Frame {
    batch: Batch,
    pools: Vec<u16>,
    parts: Parts,
    units: Vec<u32>,
}

impl Connection {
    pub(super) async fn open(plan: &Arc<Plan>, index: usize) -> Result<Self> {
        let client = Client::connect(plan.address.as_str(), client_options()).await?;
        let settings = &plan.settings;
        let commands_max = settings.commands_per_frame;
        let welcome = client.welcome();
        if commands_max > usize::from(welcome.commands_max) {
            bail!("the server takes at most {} commands in a frame", welcome.commands_max);
        }
        let share = settings.live / settings.connections;
        let live = share + usize::from(index < settings.live % settings.connections);
        let source = Source {
            draws: Draws::new(plan.seed, index as u64, plan.pools.len()),
            live: Live::default(),
            held: VecDeque::new(),
        };
        Ok(Self {
            plan: Arc::clone(plan),
            client,
            source: Arc::new(Mutex::new(source)),
            commands_max,
            live,
        })
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frame(&self) -> Frame {
        Frame {
            batch: self.client.new_batch(),
            pools: Vec::new(),
            parts: Parts::default(),
            units: self.plan.one_unit(),
        }
    }

    /// The most commands of one kind in a frame.
    fn share(&self) -> usize {
        self.commands_max / if self.plan.settings.hold { 3 } else { 2 }
    }

    /// Reserves what is to be live at the start.
    pub(super) async fn fill(&self, ledger: &SharedLedger) -> Result<()> {
        let mut frame = self.frame();
        let mut rest = self.live;
        while rest > 0 {
            let count = rest.min(self.commands_max);
            frame.clear();
            self.add_reserves(&mut frame, count, 0)?;
            let outcome = self.client.batch(frame.batch).await.context("cannot fill the pools")?;
            self.take(&outcome, &frame.pools, frame.parts, Instant::now(), ledger);
            rest -= count;
            frame.batch = outcome.into_batch();
        }
        if ledger.lock().totals().reserved == 0 && self.live > 0 {
            bail!("the server refused what was to be live at the start");
        }
        Ok(())
    }

    /// Starts a task for each frame that may be in flight.
    pub(super) fn start(self, window: Window, ledger: &SharedLedger, tasks: &mut JoinSet<Result<()>>) {
        self.source().live.spread(Instant::now(), RESERVATION_LIFE);
        for _ in 0..self.plan.settings.in_flight {
            tasks.spawn(self.clone().run(window, ledger.clone()));
        }
    }

    async fn run(self, window: Window, ledger: SharedLedger) -> Result<()> {
        let mut frame = self.frame();
        loop {
            let sent_at = Instant::now();
            if sent_at >= window.end {
                return Ok(());
            }
            frame.clear();
            self.add_releases(&mut frame, sent_at)?;
            self.add_confirms(&mut frame)?;
            self.add_reserves(&mut frame, self.share(), self.plan.settings.hold_seconds())?;
            let answer = self.client.batch(frame.batch).await;
            let now = Instant::now();
            {
                let mut ledger = ledger.lock();
                ledger.arrived(now);
                ledger.latency(now - sent_at, frame.pools.len() as u64);
            }
            frame.batch = match answer {
                Ok(outcome) => {
                    self.take(&outcome, &frame.pools, frame.parts, now, &ledger);
                    outcome.into_batch()
                }
                Err(failed) => {
                    let fate = match failed.error.applied() {
                        Applied::Unknown => Fate::Unknown,
                        _ if failed.error.retryable() => Fate::Refused,
                        _ => Fate::Error,
                    };
                    let mut ledger = ledger.lock();
                    ledger.note(|| failed.error.to_string());
                    for (index, &pool) in frame.pools.iter().enumerate() {
                        if index < frame.parts.releases {
                            ledger.release(pool, fate);
                        } else if index < frame.parts.releases + frame.parts.confirms {
                            ledger.confirm(fate);
                        } else {
                            ledger.reserve(pool, fate);
                        }
                    }
                    ledger.publish();
                    if fate != Fate::Refused {
                        return Ok(());
                    }
                    self.keep(&failed.batch, &frame.pools, frame.parts, now);
                    failed.batch
                }
            };
        }
    }

    fn add_releases(&self, frame: &mut Frame, now: Instant) -> Result<()> {
        let Frame {
            batch, pools, parts, ..
        } = frame;
        let mut result = Ok(());
        self.source().live.take_due(now, self.share(), |id, pool| {
            result = batch.push_release(id, None);
            pools.push(pool);
            parts.releases += 1;
        });
        Ok(result?)
    }

    fn add_confirms(&self, frame: &mut Frame) -> Result<()> {
        let held = &mut self.source().held;
        let count = held.len().min(self.share());
        for (id, pool) in held.drain(..count) {
            frame.batch.push_confirm(id, None)?;
            frame.pools.push(pool);
            frame.parts.confirms += 1;
        }
        Ok(())
    }

    fn add_reserves(&self, frame: &mut Frame, count: usize, hold_seconds: u32) -> Result<()> {
        frame.parts.hold = hold_seconds > 0;
        let mut source = self.source();
        for _ in 0..count {
            let pool = source.draws.pool();
            let key = source.draws.key();
            let reserve = Reserve {
                pool: self.plan.pools[usize::from(pool)],
                key,
                hold_seconds,
                occurred_at: None,
            };
            frame.batch.push_reserve(reserve, &frame.units, None)?;
            frame.pools.push(pool);
        }
        Ok(())
    }

    /// Takes an answer's outcomes.
    fn take(&self, outcome: &BatchOutcome, pools: &[u16], parts: Parts, now: Instant, ledger: &SharedLedger) {
        let mut ledger = ledger.lock();
        let Source { live, held, .. } = &mut *self.source();
        live.begin(now + RESERVATION_LIFE);
        let outcomes = outcome.outcomes();
        let mut found = outcomes.iter();
        let (released, others) = pools.split_at(parts.releases);
        let (confirmed, reserved) = others.split_at(parts.confirms);
        for (index, (&pool, found)) in released.iter().zip(&mut found).enumerate() {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            ledger.release(pool, fate);
            match fate {
                Fate::Applied => {}
                // It is live as before.
                Fate::Refused => live.push(outcome.commands()[index].reservation_id(), pool),
                _ => ledger.note(|| format!("a release was answered with {status}")),
            }
        }
        for (&pool, found) in confirmed.iter().zip(&mut found) {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            ledger.confirm(fate);
            match fate {
                Fate::Applied => live.push(found.outcome.reservation_id(), pool),
                Fate::Refused => held.push_back((outcome.commands()[found.index].reservation_id(), pool)),
                _ => ledger.note(|| format!("a confirmation was answered with {status}")),
            }
        }
        for (&pool, found) in reserved.iter().zip(&mut found) {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            ledger.reserve(pool, fate);
            match fate {
                Fate::Applied if parts.hold => held.push_back((found.outcome.reservation_id(), pool)),
                Fate::Applied => live.push(found.outcome.reservation_id(), pool),
                Fate::Refused => {}
                _ => ledger.note(|| format!("a reserve was answered with {status}")),
            }
        }
        ledger.publish();
    }

    /// Puts back what a frame that had no effect was to release and to confirm.
    fn keep(&self, batch: &Batch, pools: &[u16], parts: Parts, now: Instant) {
        let Source { live, held, .. } = &mut *self.source();
        live.begin(now + RESERVATION_LIFE);
        let mut commands = batch.commands().iter().zip(pools);
        for (command, &pool) in commands.by_ref().take(parts.releases) {
            live.push(command.reservation_id(), pool);
        }
        for (command, &pool) in commands.take(parts.confirms) {
            held.push_back((command.reservation_id(), pool));
        }
    }
}

/// How the commands of a frame are made up: releases, then confirmations, then reserves.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    releases: usize,
    confirms: usize,
    /// Whether the reserves are holds.
    hold: bool,
}

impl Frame {
    fn clear(&mut self) {
        self.batch.clear();
        self.pools.clear();
        self.parts = Parts::default();
    }
}
