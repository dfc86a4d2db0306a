//! What one connection to a peer does: reserves and releases, or queries, or changes beside queries.
//!
//! - What is due to be released goes before a reserve, but never twice in a row, so that the number of live reservations
//!   settles as in the preset `batched`.

use std::iter;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use plimsoll_client::ReservationId;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Work;
use super::load::{Answer, Asked, Connector, Plan, Session, lock};
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger, Window};
use crate::limits::{CHANGES_INTERVAL, PEER_COMMANDS_PER_FILL, RESERVATION_LIFE};
use crate::threads::SharedLedger;
use crate::worker::live::Live;

/// Where the commands of a connection come from.
#[derive(Debug)]
struct Source {
    draws: Draws,
    /// The pools of its server are this one and every so many after it.
    pool_first: usize,
    pool_step: usize,
    live: Live,
    released_last: bool,
}

impl Source {
    fn new(plan: &Plan, index: usize) -> Self {
        let pool_first = plan.server_of(index);
        let pool_count = (plan.pools - pool_first).div_ceil(plan.servers);
        Self {
            draws: Draws::new(plan.seed, index as u64, pool_count),
            pool_first,
            pool_step: plan.servers,
            live: Live::default(),
            released_last: false,
        }
    }

    fn reserve(&mut self) -> Asked {
        let pool = self.pool_first + usize::from(self.draws.pool()) * self.pool_step;
        Asked::Reserve {
            id: ReservationId(self.draws.key().0),
            pool: pool as u16,
        }
    }

    fn next(&mut self, now: Instant) -> Asked {
        let mut due = None;
        if !self.released_last {
            self.live
                .take_due(now, 1, |id, pool| due = Some(Asked::Release { id, pool }));
        }
        self.released_last = due.is_some();
        due.unwrap_or_else(|| self.reserve())
    }
}

/// A connection with its live reservations.
#[derive(Clone, Debug)]
pub(super) struct Connection<S> {
    plan: Arc<Plan>,
    session: S,
    source: Arc<Mutex<Source>>,
    index: usize,
}

impl<S: Session> Connection<S> {
    pub(super) async fn open<C: Connector<Session = S>>(
        plan: &Arc<Plan>,
        connector: &C,
        index: usize,
        ledger: &SharedLedger,
    ) -> Result<Self> {
        let mut session = connector.connect(plan.server_of(index)).await?;
        let mut source = Source::new(plan, index);
        let share = plan.live / plan.connections;
        let mut rest = share + usize::from(index < plan.live % plan.connections);
        while rest > 0 {
            let count = rest.min(PEER_COMMANDS_PER_FILL);
            let reserves: Vec<Asked> = iter::repeat_with(|| source.reserve()).take(count).collect();
            session.fill(&reserves).await.context("cannot fill the pools")?;
            source.live.begin(Instant::now());
            let made = iter::repeat(Ok(Fate::Applied));
            take(&reserves, made, &mut ledger.lock(), Some(&mut source.live));
            rest -= count;
        }
        Ok(Self {
            plan: Arc::clone(plan),
            session,
            source: Arc::new(Mutex::new(source)),
            index,
        })
    }

    /// Starts a task for each request that may be in flight.
    pub(super) fn start(self, window: Window, ledger: &SharedLedger, tasks: &mut JoinSet<Result<()>>) {
        lock(&self.source).live.spread(Instant::now(), RESERVATION_LIFE);
        if self.index == self.plan.connections {
            tasks.spawn(self.change(window, ledger.clone()));
            return;
        }
        for slot in 0..self.plan.in_flight {
            if self.plan.work == Work::Queries {
                tasks.spawn(self.clone().query(slot, window, ledger.clone()));
            } else {
                tasks.spawn(self.clone().reserve(window, ledger.clone()));
            }
        }
    }

    /// Reserves, and releases what is due, until the window ends.
    async fn reserve(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        let mut commands = Vec::with_capacity(self.plan.commands);
        loop {
            let sent_at = Instant::now();
            if sent_at >= window.end {
                return Ok(());
            }
            commands.clear();
            {
                let mut source = lock(&self.source);
                commands.extend(iter::repeat_with(|| source.next(sent_at)).take(self.plan.commands));
            }
            if !self.ask(&commands, sent_at, true, &ledger).await {
                return Ok(());
            }
        }
    }

    /// Sends commands and takes the answers; false when there is no connection any more.
    async fn ask(&mut self, commands: &[Asked], sent_at: Instant, timed: bool, ledger: &SharedLedger) -> bool {
        let answers = self.session.execute(commands).await;
        let now = Instant::now();
        let mut ledger = ledger.lock();
        ledger.arrived(now);
        if timed {
            ledger.latency(now - sent_at, commands.len() as u64);
        }
        let live = &mut lock(&self.source).live;
        let releases = self.plan.work == Work::ReservesAndReleases;
        let mut live = releases.then(|| {
            live.begin(now + RESERVATION_LIFE);
            live
        });
        let connected = answers.is_ok();
        match answers {
            Ok(answers) => take(commands, answers, &mut ledger, live.as_deref_mut()),
            Err(error) => {
                ledger.note(|| format!("{error:#}"));
                take(commands, iter::repeat(Ok(Fate::Unknown)), &mut ledger, live);
            }
        }
        ledger.publish();
        connected
    }

    /// Asks for zones in turn until the window ends.
    async fn query(mut self, slot: usize, window: Window, ledger: SharedLedger) -> Result<()> {
        let count = self.plan.commands;
        let first = (self.index * self.plan.in_flight + slot) * count;
        let zones: Vec<usize> = (first..first + count).map(|zone| zone % self.plan.zones()).collect();
        loop {
            let sent_at = Instant::now();
            if sent_at >= window.end {
                return Ok(());
            }
            let answers = self.session.query(&zones).await;
            let now = Instant::now();
            let mut ledger = ledger.lock();
            ledger.arrived(now);
            ledger.latency(now - sent_at, count as u64);
            match answers {
                Ok(found) => {
                    for (found, &zone) in found.into_iter().zip(&zones) {
                        let expected = self.plan.pools_of_zone(zone);
                        if found == expected {
                            ledger.query();
                        } else {
                            ledger.failed_answer(Fate::Error);
                            ledger.note(|| format!("a query: expected {expected} pools, found {found}"));
                        }
                    }
                    ledger.publish();
                }
                Err(error) => {
                    for _ in &zones {
                        ledger.failed_answer(Fate::Unknown);
                    }
                    ledger.note(|| format!("a query: {error:#}"));
                    ledger.publish();
                    return Ok(());
                }
            }
        }
    }

    /// Reserves beside the queries, as often as the plan says. What is due while an answer is on its way goes together.
    async fn change(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        let rate = f64::from(self.plan.changes);
        let mut ticks = tokio::time::interval(CHANGES_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let mut sent = 0;
        loop {
            let now = ticks.tick().await.into_std();
            if now >= window.end {
                return Ok(());
            }
            let due = ((now - begun).as_secs_f64() * rate) as usize;
            let count = (due - sent).min(PEER_COMMANDS_PER_FILL);
            if count == 0 {
                continue;
            }
            sent += count;
            let commands: Vec<Asked> = {
                let mut source = lock(&self.source);
                iter::repeat_with(|| source.reserve()).take(count).collect()
            };
            if !self.ask(&commands, now, false, &ledger).await {
                return Ok(());
            }
        }
    }
}

/// Counts answers, and keeps in mind what is to be released.
fn take(
    commands: &[Asked],
    answers: impl IntoIterator<Item = Answer>,
    ledger: &mut Ledger,
    mut live: Option<&mut Live>,
) {
    for (command, answer) in commands.iter().zip(answers) {
        let fate = answer.unwrap_or_else(|error| {
            ledger.note(|| error);
            Fate::Error
        });
        match *command {
            Asked::Reserve { id, pool } => {
                ledger.reserve(pool, fate);
                if let Some(live) = live.as_deref_mut().filter(|_| fate == Fate::Applied) {
                    live.push(id, pool);
                }
            }
            Asked::Release { pool, .. } => ledger.release(pool, fate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_share_out_the_pools() {
        let plan = Plan {
            servers: 2,
            ..Plan::of_test(Work::Reserves, 5)
        };
        for (index, expected) in [(0, vec![0, 2, 4]), (1, vec![1, 3]), (2, vec![0, 2, 4])] {
            let mut source = Source::new(&plan, index);
            let mut drawn: Vec<u16> = (0..200)
                .map(|_| match source.next(Instant::now()) {
                    Asked::Reserve { pool, .. } => pool,
                    Asked::Release { .. } => panic!("nothing lives"),
                })
                .collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn, expected, "connection {index}");
        }
    }

    #[test]
    fn half_of_the_commands_release_what_is_due() {
        let plan = Plan::of_test(Work::ReservesAndReleases, 3);
        let mut source = Source::new(&plan, 0);
        let mut ledger = Ledger::new(3, Arc::default()).expect("the bounds are sound");
        let now = Instant::now();
        source.live.begin(now);
        let made: Vec<Asked> = (0..10).map(|_| source.reserve()).collect();
        take(
            &made,
            iter::repeat(Ok(Fate::Applied)),
            &mut ledger,
            Some(&mut source.live),
        );
        let asked: Vec<Asked> = (0..10).map(|_| source.next(now)).collect();
        let releases = asked.iter().filter(|asked| matches!(asked, Asked::Release { .. }));
        assert_eq!(releases.count(), 5);
        let answers = [Ok(Fate::Applied), Err("no".to_owned()), Ok(Fate::Unknown)];
        take(&asked[..3], answers, &mut ledger, Some(&mut source.live));
        let totals = ledger.totals();
        assert_eq!((totals.reserved, totals.released), (10, 1));
        assert_eq!((totals.errors, totals.unknown), (1, 1));
        assert_eq!(ledger.used.iter().sum::<i64>(), 9);
        assert_eq!(ledger.problem.as_deref(), Some("no"));
    }
}
