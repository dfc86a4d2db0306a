//! Frames of many commands: half of a frame releases what is due, the other half reserves.
//!
//! - A reservation is released from a second after its answer on, oldest first. A frame never holds more reserves than
//!   half of its commands, so that the number of live reservations settles instead of swinging from second to second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::Reserve;
use plimsoll_client::{Applied, Batch, BatchOutcome, Client};
use tokio::task::JoinSet;

use super::live::Live;
use super::{Plan, SharedLedger, client_options};
use crate::keys::Draws;
use crate::ledger::{Fate, Window};
use crate::limits::RESERVATION_LIFE;

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
}

/// A frame's commands and their pools.
struct Frame {
    batch: Batch,
    pools: Vec<u16>,
    /// How many of the commands, at the beginning, are releases.
    releases: usize,
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
        let mut units = vec![0; self.plan.dimensions];
        units[0] = 1;
        Frame {
            batch: self.client.new_batch(),
            pools: Vec::new(),
            releases: 0,
            units,
        }
    }

    /// Reserves what is to be live at the start.
    pub(super) async fn fill(&self, ledger: &SharedLedger) -> Result<()> {
        let mut frame = self.frame();
        let mut rest = self.live;
        while rest > 0 {
            let count = rest.min(self.commands_max);
            frame.clear();
            self.add_reserves(&mut frame, count)?;
            let outcome = self.client.batch(frame.batch).await.context("cannot fill the pools")?;
            self.take(&outcome, &frame.pools, 0, Instant::now(), ledger);
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
            self.add_reserves(&mut frame, self.commands_max / 2)?;
            let answer = self.client.batch(frame.batch).await;
            let now = Instant::now();
            {
                let mut ledger = ledger.lock();
                ledger.arrived(now);
                ledger.latency(now - sent_at, frame.pools.len() as u64);
            }
            frame.batch = match answer {
                Ok(outcome) => {
                    self.take(&outcome, &frame.pools, frame.releases, now, &ledger);
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
                        if index < frame.releases {
                            ledger.release(pool, fate);
                        } else {
                            ledger.reserve(pool, fate);
                        }
                    }
                    ledger.publish();
                    if fate != Fate::Refused {
                        return Ok(());
                    }
                    self.keep(&failed.batch, &frame.pools[..frame.releases], now);
                    failed.batch
                }
            };
        }
    }

    fn add_releases(&self, frame: &mut Frame, now: Instant) -> Result<()> {
        let Frame {
            batch, pools, releases, ..
        } = frame;
        let mut result = Ok(());
        self.source().live.take_due(now, self.commands_max / 2, |id, pool| {
            result = batch.push_release(id, None);
            pools.push(pool);
            *releases += 1;
        });
        Ok(result?)
    }

    fn add_reserves(&self, frame: &mut Frame, count: usize) -> Result<()> {
        let mut source = self.source();
        for _ in 0..count {
            let pool = source.draws.pool();
            let key = source.draws.key();
            let reserve = Reserve {
                pool: self.plan.pools[usize::from(pool)],
                key,
                hold_seconds: 0,
                occurred_at: None,
            };
            frame.batch.push_reserve(reserve, &frame.units, None)?;
            frame.pools.push(pool);
        }
        Ok(())
    }

    /// Takes an answer's outcomes.
    fn take(&self, outcome: &BatchOutcome, pools: &[u16], releases: usize, now: Instant, ledger: &SharedLedger) {
        let mut ledger = ledger.lock();
        let live = &mut self.source().live;
        live.begin(now + RESERVATION_LIFE);
        let outcomes = outcome.outcomes();
        let mut found = outcomes.iter();
        let (released, reserved) = pools.split_at(releases);
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
        for (&pool, found) in reserved.iter().zip(&mut found) {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            ledger.reserve(pool, fate);
            match fate {
                Fate::Applied => live.push(found.outcome.reservation_id(), pool),
                Fate::Refused => {}
                _ => ledger.note(|| format!("a reserve was answered with {status}")),
            }
        }
        ledger.publish();
    }

    /// Puts back what a frame that had no effect was to release.
    fn keep(&self, batch: &Batch, pools: &[u16], now: Instant) {
        let live = &mut self.source().live;
        live.begin(now + RESERVATION_LIFE);
        for (command, &pool) in batch.commands().iter().zip(pools) {
            live.push(command.reservation_id(), pool);
        }
    }
}

impl Frame {
    fn clear(&mut self) {
        self.batch.clear();
        self.pools.clear();
        self.releases = 0;
    }
}
