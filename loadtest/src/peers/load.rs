//! How a peer is driven: threads, connections and window as Plimsoll is, whatever the peer's protocol.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use plimsoll_client::ReservationId;
use tokio::task::JoinSet;

use super::Work;
use super::connection::Connection;
use crate::ledger::{Fate, Ledger, Tally, Window};
use crate::limits::{POSTGRES_CONNECTIONS, REDIS_BATCH_CONNECTIONS, REDIS_PIPELINE};
use crate::pools::POOLS_PER_ZONE;
use crate::preset::Settings;
use crate::progress::Progress;
use crate::report::grouped;
use crate::threads::{Timing, Worker, Workers};
use crate::usage::Usage;

/// The load, in the peer's terms.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) work: Work,
    /// Servers that share out the pools.
    pub(super) servers: usize,
    pub(super) connections: usize,
    /// Requests in flight on each connection.
    pub(super) in_flight: usize,
    /// Commands in a request.
    pub(super) commands: usize,
    pub(super) pools: usize,
    pub(super) live: usize,
    pub(super) threads: usize,
    pub(super) seconds: u64,
    /// Reserves a second beside queries.
    pub(super) changes: u32,
    pub(super) seed: u64,
}

impl Plan {
    /// A request is a pipeline of what the preset has in flight: all of it is answered after one sync anyway.
    pub(super) fn of_redis(work: Work, settings: &Settings, seed: u64, servers: usize) -> Self {
        let (connections, commands) = match work {
            Work::ReservesAndReleases => (REDIS_BATCH_CONNECTIONS, REDIS_PIPELINE),
            Work::Reserves | Work::Queries => (settings.connections, settings.in_flight),
        };
        Self {
            servers,
            connections,
            commands,
            ..Self::of(work, settings, seed)
        }
    }

    /// One command in a request; the connections are those that give it its best rate.
    pub(super) fn of_postgres(work: Work, settings: &Settings, seed: u64) -> Self {
        let (connections, in_flight) = match work {
            Work::ReservesAndReleases => (POSTGRES_CONNECTIONS, REDIS_PIPELINE),
            Work::Reserves | Work::Queries => (settings.connections.min(POSTGRES_CONNECTIONS), settings.in_flight),
        };
        Self {
            connections,
            in_flight,
            ..Self::of(work, settings, seed)
        }
    }

    fn of(work: Work, settings: &Settings, seed: u64) -> Self {
        Self {
            work,
            servers: 1,
            connections: 1,
            in_flight: 1,
            commands: 1,
            pools: if settings.name == "hot" { 1 } else { settings.pools },
            live: if work == Work::ReservesAndReleases {
                settings.live
            } else {
                0
            },
            threads: settings.threads,
            seconds: settings.seconds,
            changes: if work == Work::Queries { settings.changes } else { 0 },
            seed,
        }
    }

    /// A load of one connection, for tests.
    #[cfg(test)]
    pub(super) fn of_test(work: Work, pools: usize) -> Self {
        Self {
            work,
            servers: 1,
            connections: 1,
            in_flight: 1,
            commands: 1,
            pools,
            live: 0,
            threads: 1,
            seconds: 2,
            changes: 0,
            seed: 1,
        }
    }

    /// The server of a connection, or of a pool.
    pub(super) fn server_of(&self, index: usize) -> usize {
        index % self.servers
    }

    /// How many zones the pools make.
    pub(super) fn zones(&self) -> usize {
        self.pools.div_ceil(POOLS_PER_ZONE)
    }

    /// How many pools a zone has.
    pub(super) fn pools_of_zone(&self, zone: usize) -> usize {
        POOLS_PER_ZONE.min(self.pools - zone * POOLS_PER_ZONE)
    }

    /// Threads of the generator: those of the load and, beside queries, one that changes the numbers.
    fn workers(&self) -> usize {
        self.threads + usize::from(self.changes > 0)
    }
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Reserve { id: ReservationId, pool: u16 },
    Release { id: ReservationId, pool: u16 },
}

/// What became of a command; the error is what the peer said of a command that failed.
pub(super) type Answer = Result<Fate, String>;

/// A running system.
pub(super) trait System {
    type Connector: Connector;

    fn connector(&self) -> Self::Connector;
    /// Its name and its version.
    fn version(&self) -> &str;
    /// How it is driven, for the reader of the report.
    fn how(&self, plan: &Plan) -> String;
    /// What it and its processes have used.
    fn usage(&self) -> Result<Usage>;
    /// Memory, what processes share counted once.
    fn memory_bytes(&self) -> u64;
    /// Bytes that its log has taken since the server began.
    async fn log_bytes(&self) -> Result<u64>;
    /// Units that are reserved of each pool; what is wrong when its records say something else than its counters.
    async fn used(&self, plan: &Plan) -> Result<Result<Vec<i64>, String>>;
    fn stop(self) -> Result<()>;
}

/// Makes connections, on any thread.
pub(super) trait Connector: Clone + Send + 'static {
    type Session: Session;

    /// To the server with this index.
    async fn connect(&self, server: usize) -> Result<Self::Session>;
}

/// A connection. Clones share it.
pub(super) trait Session: Clone + Send + 'static {
    /// Sends commands together and waits for all answers, in order. After an error nobody can tell what took effect.
    fn execute(&mut self, commands: &[Asked]) -> impl Future<Output = Result<Vec<Answer>>> + Send;
    /// Makes reservations before the clock starts, in whichever way is quickest.
    fn fill(&mut self, reserves: &[Asked]) -> impl Future<Output = Result<()>> + Send;
    /// Asks for the pools of zones that have a unit left; how many there are, zone by zone.
    fn query(&mut self, zones: &[usize]) -> impl Future<Output = Result<Vec<usize>>> + Send;
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) ledger: Ledger,
    pub(super) used: Used,
}

/// What was used within the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) server_cpu: f64,
    pub(super) server_rss_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) generator_cpu: f64,
}

/// What a thread that panicked has left is taken as it is.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the threads of the generator through warm-up and window.
pub(super) async fn drive<S: System>(name: &str, system: &S, plan: &Plan) -> Result<Driven> {
    let plan = Arc::new(plan.clone());
    let workers = (0..plan.workers()).map(|index| spawn(&plan, system.connector(), index));
    let workers = Workers::begin(workers.collect::<Result<_>>()?, Timing::default(), plan.seconds).await?;
    let used = watch(name, system, workers.window, plan.seconds, &workers.tallies).await?;
    let ledger = workers.ledger().await?;
    Ok(Driven { ledger, used })
}

/// Samples what the processes use at both ends of the window, and shows progress in between.
async fn watch<S: System>(
    name: &str,
    system: &S,
    window: Window,
    seconds: u64,
    tallies: &[Arc<Tally>],
) -> Result<Used> {
    let done = || -> u64 {
        let of = |tally: &Arc<Tally>| tally.applied.load(Ordering::Relaxed) + tally.answered.load(Ordering::Relaxed);
        tallies.iter().map(of).sum()
    };
    let progress = Progress::new();
    tokio::time::sleep_until(window.start.into()).await;
    let (before, own_before) = (system.usage()?, Usage::of("self")?);
    let log_before = system.log_bytes().await?;
    let mut done_then = done();
    for second in 1..=seconds {
        tokio::time::sleep_until((window.start + Duration::from_secs(second)).into()).await;
        let done_now = done();
        let rate = grouped((done_now - done_then) as f64);
        progress.show(format!("{second:>4} s  {rate:>11}/s  {name}"));
        done_then = done_now;
    }
    let (after, own_after) = (system.usage()?, Usage::of("self")?);
    let log_after = system.log_bytes().await?;
    progress.finish();
    Ok(Used {
        server_cpu: after.cpu_seconds - before.cpu_seconds,
        server_rss_bytes: system.memory_bytes(),
        written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
        log_bytes: log_after.saturating_sub(log_before),
        generator_cpu: own_after.cpu_seconds - own_before.cpu_seconds,
    })
}

fn spawn<C: Connector>(plan: &Arc<Plan>, connector: C, index: usize) -> Result<Worker> {
    let plan = Arc::clone(plan);
    Worker::spawn(format!("peer-{index}"), plan.pools, async move |ledger| {
        // The connection beside the queries is the one after the load's.
        let connections: Vec<usize> = if index < plan.threads {
            (index..plan.connections).step_by(plan.threads).collect()
        } else {
            vec![plan.connections]
        };
        let mut opened = Vec::new();
        for index in connections {
            opened.push(Connection::open(&plan, &connector, index, &ledger).await?);
        }
        Ok(move |window| {
            let mut tasks = JoinSet::new();
            for connection in opened {
                connection.start(window, &ledger, &mut tasks);
            }
            tasks
        })
    })
}
