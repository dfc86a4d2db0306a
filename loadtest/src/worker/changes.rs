//! What happens beside the queries of availability: reserves, as many a second as the plan says, and a probe.
//!
//! - The first pool is the probe's alone, so that it knows what remains of it. The reserves go to the others.
//! - The probe has a connection for its reserves and another one for its queries, as two callers have.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::{Reserve, wire};
use plimsoll_client::{Client, PoolId};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::buffers::Asked;
use super::by_frames::{Answered, answered};
use super::queries::read_answer;
use super::socket::Socket;
use super::{Plan, client_options};
use crate::keys::Draws;
use crate::ledger::{Fate, Window};
use crate::limits::{CHANGES_INTERVAL, PROBE_REST, PROBE_TIMEOUT};
use crate::pools::{ALL_WINDOWS, zone_name};
use crate::threads::SharedLedger;

/// The connections, ready to begin.
pub(super) struct Changes {
    plan: Arc<Plan>,
    client: Client,
    probe: Probe,
}

/// The pool of the probe, by its place in the plan.
const PROBED: u16 = 0;

/// No connection of the queries has these streams of keys.
const CHANGES_STREAM: u64 = 1 << 32;
const PROBE_STREAM: u64 = CHANGES_STREAM + 1;

struct Probe {
    plan: Arc<Plan>,
    draws: Draws,
    reserves: Socket,
    queries: Socket,
    /// The frame of the query, encoded.
    query: Vec<u8>,
}

impl Changes {
    pub(super) async fn open(plan: &Arc<Plan>) -> Result<Self> {
        let mut queries = Socket::open(&plan.address).await?;
        let asked = Asked {
            zone: &zone_name(0),
            window: ALL_WINDOWS,
            units: &plan.one_unit(),
            exact: true,
        };
        let query = queries.encode_query(1, asked)?;
        Ok(Self {
            plan: Arc::clone(plan),
            client: Client::connect(plan.address.as_str(), client_options()).await?,
            probe: Probe {
                plan: Arc::clone(plan),
                draws: Draws::new(plan.seed, PROBE_STREAM, plan.pools.len()),
                reserves: Socket::open(&plan.address).await?,
                queries,
                query,
            },
        })
    }

    pub(super) fn start(self, window: Window, ledger: &SharedLedger, tasks: &mut JoinSet<Result<()>>) {
        let Self { plan, client, probe } = self;
        if plan.settings.changes > 0 {
            tasks.spawn(reserve(plan, client, window, ledger.clone()));
        }
        tasks.spawn(probe.run(window, ledger.clone()));
    }
}

/// Reserves as often as the plan says. What is due while an answer is on its way goes into the next frame.
async fn reserve(plan: Arc<Plan>, client: Client, window: Window, ledger: SharedLedger) -> Result<()> {
    let rate = f64::from(plan.settings.changes);
    let mut draws = Draws::new(plan.seed, CHANGES_STREAM, plan.pools.len() - 1);
    let units = plan.one_unit();
    let mut batch = client.new_batch();
    let mut pools = Vec::new();
    let mut ticks = tokio::time::interval(CHANGES_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut sent = 0;
    loop {
        let now = ticks.tick().await.into_std();
        if now >= window.end {
            return Ok(());
        }
        let due = ((now - begun).as_secs_f64() * rate) as u64;
        batch.clear();
        pools.clear();
        while sent < due && batch.len() < batch.commands_max() {
            let pool = PROBED + 1 + draws.pool();
            batch.push_reserve(reserve_of(plan.pools[usize::from(pool)], &mut draws), &units, None)?;
            pools.push(pool);
            sent += 1;
        }
        if pools.is_empty() {
            continue;
        }
        let outcome = client.batch(batch).await.context("cannot reserve beside the queries")?;
        let mut ledger = ledger.lock();
        ledger.arrived(Instant::now());
        for (found, &pool) in outcome.outcomes().iter().zip(&pools) {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            ledger.reserve(pool, fate);
            if fate != Fate::Applied {
                ledger.note(|| format!("a reserve was answered with {status}"));
            }
        }
        ledger.publish();
        batch = outcome.into_batch();
    }
}

fn reserve_of(pool: PoolId, draws: &mut Draws) -> Reserve {
    Reserve {
        pool,
        key: draws.key(),
        hold_seconds: 0,
        occurred_at: None,
    }
}

impl Probe {
    async fn run(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        while Instant::now() < window.end {
            self.measure(&ledger).await?;
            self.check(&ledger).await?;
            ledger.lock().publish();
            tokio::time::sleep(PROBE_REST).await;
        }
        Ok(())
    }

    /// Sends a reserve and asks again and again until an answer shows it.
    async fn measure(&mut self, ledger: &SharedLedger) -> Result<()> {
        let before = self.remaining().await?;
        let sent_at = Instant::now();
        self.send_reserve().await?;
        while self.remaining().await? == before {
            if sent_at.elapsed() > PROBE_TIMEOUT {
                bail!("a change is not visible after {PROBE_TIMEOUT:?}");
            }
        }
        let now = Instant::now();
        {
            let mut ledger = ledger.lock();
            ledger.arrived(now);
            ledger.visible(now - sent_at);
        }
        self.take_acknowledgement(ledger).await
    }

    /// A query that is sent after an acknowledgement must show its change.
    async fn check(&mut self, ledger: &SharedLedger) -> Result<()> {
        let before = self.remaining().await?;
        self.send_reserve().await?;
        self.take_acknowledgement(ledger).await?;
        let after = self.remaining().await?;
        if after != before - 1 {
            let mut ledger = ledger.lock();
            ledger.failed_answer(Fate::Error);
            ledger.note(|| format!("{before} remained, a reserve was acknowledged, and {after} remained then"));
        }
        Ok(())
    }

    async fn send_reserve(&mut self) -> Result<()> {
        let reserve = reserve_of(self.plan.pools[usize::from(PROBED)], &mut self.draws);
        self.reserves
            .add_command(1, wire::Command::reserve(reserve), &self.plan.one_unit())?;
        self.reserves.write().await
    }

    async fn take_acknowledgement(&mut self, ledger: &SharedLedger) -> Result<()> {
        let frame = self.reserves.next_frame().await?;
        let mut ledger = ledger.lock();
        ledger.arrived(Instant::now());
        let Answered { fate, .. } = answered(frame, self.plan.dimensions, &mut ledger);
        ledger.reserve(PROBED, fate);
        if fate != Fate::Applied {
            bail!("a reserve of the probe had no effect");
        }
        Ok(())
    }

    /// What remains of the probe's pool in the first dimension.
    async fn remaining(&mut self) -> Result<i64> {
        self.queries.add_frame(&self.query);
        self.queries.write().await?;
        let answer = read_answer(self.queries.next_frame().await?)?;
        let id = self.plan.pools[usize::from(PROBED)].0;
        let place = answer
            .pools()
            .iter()
            .position(|pool| pool.pool() == id)
            .context("the probe's pool is not in the answer")?;
        let remaining = answer.remaining().context("an exact answer has numbers")?;
        if remaining.len() != answer.pools().len() * self.plan.dimensions {
            bail!("an exact answer has a number for each dimension of each pool");
        }
        Ok(remaining.get(place * self.plan.dimensions))
    }
}
