//! How a peer is driven: threads, connections and window as Plimsoll is, whatever the peer's protocol.
//!
//! - What is due to be released goes before a reserve, but never twice in a row, so that the number of live reservations
//!   settles as in the preset `batched`.

use std::iter;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_client::ReservationId;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Work;
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger, Tally, Window};
use crate::limits::{
    CHANGES_INTERVAL, DRAIN_TIMEOUT, PEER_COMMANDS_PER_FILL, POSTGRES_CONNECTIONS, REDIS_BATCH_CONNECTIONS,
    REDIS_PIPELINE, RESERVATION_LIFE, WARM_UP,
};
use crate::pools::POOLS_PER_ZONE;
use crate::preset::Settings;
use crate::progress::Progress;
use crate::report::grouped;
use crate::usage::Usage;
use crate::worker::live::Live;

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
    seed: u64,
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

    /// The server of a connection, or of a pool.
    pub(super) fn server_of(&self, index: usize) -> usize {
        index % self.servers
    }

    fn zones(&self) -> usize {
        self.pools.div_ceil(POOLS_PER_ZONE)
    }

    /// How many pools a zone has.
    fn pools_of_zone(&self, zone: usize) -> usize {
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
    pub(super) generator_cpu: f64,
}

type SharedLedger = Arc<Mutex<Ledger>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread of the generator, as the coordinator sees it.
struct Worker {
    ready: oneshot::Receiver<()>,
    start: oneshot::Sender<Window>,
    result: oneshot::Receiver<Result<Ledger>>,
    tally: Arc<Tally>,
}

/// Runs the threads of the generator through warm-up and window.
pub(super) async fn drive<S: System>(name: &str, system: &S, plan: &Plan) -> Result<Driven> {
    let plan = Arc::new(plan.clone());
    let mut workers = Vec::new();
    for index in 0..plan.workers() {
        workers.push(spawn(&plan, system.connector(), index)?);
    }
    for worker in &mut workers {
        if (&mut worker.ready).await.is_err() {
            // It has ended, so that its result says why.
            (&mut worker.result)
                .await
                .context("a thread of the generator panicked")??;
            bail!("a thread of the generator ended before the run");
        }
    }
    let start = Instant::now() + WARM_UP;
    let window = Window {
        start,
        end: start + Duration::from_secs(plan.seconds),
        interval: Duration::from_secs(1),
    };
    let (mut results, mut tallies) = (Vec::new(), Vec::new());
    for worker in workers {
        // One that has ended meanwhile says so in its result.
        let _ = worker.start.send(window);
        results.push(worker.result);
        tallies.push(worker.tally);
    }
    let used = watch(name, system, window, plan.seconds, &tallies).await?;
    let mut ledger = Ledger::new(plan.pools, Arc::default())?;
    for result in results {
        ledger.merge(&result.await.context("a thread of the generator panicked")??)?;
    }
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
    let mut done_then = done();
    for second in 1..=seconds {
        tokio::time::sleep_until((window.start + Duration::from_secs(second)).into()).await;
        let done_now = done();
        let rate = grouped((done_now - done_then) as f64);
        progress.show(format!("{second:>4} s  {rate:>11}/s  {name}"));
        done_then = done_now;
    }
    let (after, own_after) = (system.usage()?, Usage::of("self")?);
    progress.finish();
    Ok(Used {
        server_cpu: after.cpu_seconds - before.cpu_seconds,
        server_rss_bytes: system.memory_bytes(),
        written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
        generator_cpu: own_after.cpu_seconds - own_before.cpu_seconds,
    })
}

fn spawn<C: Connector>(plan: &Arc<Plan>, connector: C, index: usize) -> Result<Worker> {
    let plan = Arc::clone(plan);
    let tally = Arc::new(Tally::default());
    let ledger = Ledger::new(plan.pools, Arc::clone(&tally))?;
    let (ready_sender, ready) = oneshot::channel();
    let (start, start_receiver) = oneshot::channel();
    let (result_sender, result) = oneshot::channel();
    thread::Builder::new()
        .name(format!("peer-{index}"))
        .spawn(move || {
            let outcome = run(&plan, &connector, index, ledger, ready_sender, start_receiver);
            // The coordinator has gone away when it was interrupted.
            let _ = result_sender.send(outcome);
        })
        .context("cannot start a thread")?;
    Ok(Worker {
        ready,
        start,
        result,
        tally,
    })
}

fn run<C: Connector>(
    plan: &Arc<Plan>,
    connector: &C,
    index: usize,
    ledger: Ledger,
    ready: oneshot::Sender<()>,
    start: oneshot::Receiver<Window>,
) -> Result<Ledger> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let shared = Arc::new(Mutex::new(ledger));
    runtime.block_on(async {
        // The connection beside the queries is the one after the load's.
        let connections: Vec<usize> = if index < plan.threads {
            (index..plan.connections).step_by(plan.threads).collect()
        } else {
            vec![plan.connections]
        };
        let mut opened = Vec::new();
        for index in connections {
            opened.push(Connection::open(plan, connector, index, &shared).await?);
        }
        let _ = ready.send(());
        let window = start.await.context("the run was given up")?;
        lock(&shared).set_window(window);
        let mut tasks = JoinSet::new();
        for connection in opened {
            connection.start(window, &shared, &mut tasks);
        }
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                ended.context("a task of the generator panicked")??;
            }
            anyhow::Ok(())
        };
        let deadline = tokio::time::Instant::from_std(window.end + DRAIN_TIMEOUT);
        tokio::time::timeout_at(deadline, all)
            .await
            .map_err(|_| anyhow!("no answers within {DRAIN_TIMEOUT:?} after the last request"))?
    })?;
    drop(runtime);
    let ledger = Arc::into_inner(shared).context("a task of the generator has outlived its runtime")?;
    Ok(ledger.into_inner().unwrap_or_else(PoisonError::into_inner))
}

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
struct Connection<S> {
    plan: Arc<Plan>,
    session: S,
    source: Arc<Mutex<Source>>,
    index: usize,
}

impl<S: Session> Connection<S> {
    async fn open<C: Connector<Session = S>>(
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
            take(&reserves, made, &mut lock(ledger), Some(&mut source.live));
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
    fn start(self, window: Window, ledger: &SharedLedger, tasks: &mut JoinSet<Result<()>>) {
        lock(&self.source).live.spread(Instant::now(), RESERVATION_LIFE);
        if self.index == self.plan.connections {
            tasks.spawn(self.change(window, Arc::clone(ledger)));
            return;
        }
        for slot in 0..self.plan.in_flight {
            if self.plan.work == Work::Queries {
                tasks.spawn(self.clone().query(slot, window, Arc::clone(ledger)));
            } else {
                tasks.spawn(self.clone().reserve(window, Arc::clone(ledger)));
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
        let mut ledger = lock(ledger);
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
            let mut ledger = lock(&ledger);
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
