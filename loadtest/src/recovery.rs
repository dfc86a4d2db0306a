//! How long a start takes after a kill, by the number of events behind the snapshot.

mod report;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_client::protocol::Reserve;
use plimsoll_client::{Batch, BatchOutcome, Client, PoolId, ReservationId};
use tokio::task::JoinSet;

use self::report::{RecoveryReport, Start, Used};
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger};
use crate::limits::LOG_TIMEOUT;
use crate::pools::{self, Pools};
use crate::preset::Settings;
use crate::progress::Progress;
use crate::report::grouped;
use crate::server_log::CoreRecovery;
use crate::server_process::{ANY_PORT, ServerOptions, ServerProcess, fresh_directory};
use crate::setup::Setup;
use crate::usage::{Usage, machine_cpu_seconds};
use crate::worker::client_options;

/// After a refusal.
const REST: Duration = Duration::from_millis(20);
/// As `--snapshot-after`: no run writes as much.
const NEVER: &str = "1048576GiB";
/// As `--journal-space`: three times [`NEVER`] and some.
const JOURNAL_SPACE: &str = "4194304GiB";
/// As `--snapshot-after`: with the first commands, since what is there already counts.
const AT_ONCE: &str = "64KiB";

/// Fills a directory, takes a snapshot of each core, and starts a server behind each of the tails.
pub(crate) async fn measure(arguments: &Setup, settings: &Settings, directory: &Path) -> Result<RecoveryReport> {
    let data = fresh_directory(directory)?;
    let serve = |snapshot_after| {
        ServerProcess::start(&ServerOptions {
            program: arguments.server.as_deref(),
            data: data.path(),
            cores: &settings.cores.to_string(),
            dimensions: &settings.dimensions,
            listen: ANY_PORT,
            key_retention: &arguments.key_retention,
            snapshot_after: Some(snapshot_after),
            // The server wants room for what comes before a snapshot.
            journal_space: arguments.journal_space.as_deref().or(Some(JOURNAL_SPACE)),
        })
    };
    let cores = settings.cores as usize;
    let progress = Progress::new();
    let server = serve(NEVER)?;
    let client = connect(&server).await?;
    let pools = Pools::prepare(&client, settings.pools, None).await?;
    let seed = arguments.seed.unwrap_or(1);
    let mut traffic = Traffic::new(settings, &pools, seed)?;
    progress.show(format!("filling, {} live", grouped(settings.live as f64)));
    traffic.reserve(&client, settings.live).await?;
    drop(client);
    server.stop()?;

    progress.show("taking a snapshot of each core".to_owned());
    let server = serve(AT_ONCE)?;
    let client = connect(&server).await?;
    let deadline = Instant::now() + LOG_TIMEOUT;
    while server.log().cores_with_snapshots() < cores {
        if Instant::now() > deadline {
            bail!("the server took no snapshot of each core within {LOG_TIMEOUT:?}");
        }
        traffic.churn(&client, settings.commands_per_frame).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(client);
    server.kill()?;

    let mut starts = Vec::with_capacity(1 + settings.tails.len());
    let (mut server, base) = Started::measure(&serve, 0, cores)?;
    starts.push(base.report(&traffic, &pools, &server, None).await?);
    let mut tail = 0;
    for &wanted in &settings.tails {
        progress.show(format!("a tail of {}", grouped(wanted as f64)));
        let client = connect(&server).await?;
        let rest = usize::try_from(wanted - tail).context("more events than this machine can count")?;
        traffic.churn(&client, rest).await?;
        tail = wanted;
        drop(client);
        server.kill()?;
        let started;
        (server, started) = Started::measure(&serve, wanted, cores)?;
        starts.push(started.report(&traffic, &pools, &server, Some(&base)).await?);
    }
    let client = connect(&server).await?;
    let version = client.welcome().server.clone();
    drop(client);
    server.stop()?;
    progress.finish();
    Ok(RecoveryReport::new(settings, starts, seed, version, directory))
}

/// A start that was measured.
struct Started {
    tail: u64,
    ready_after: Duration,
    cores: Vec<CoreRecovery>,
    used: Used,
}

impl Started {
    fn measure(
        serve: &impl Fn(&'static str) -> Result<ServerProcess>,
        tail: u64,
        cores: usize,
    ) -> Result<(ServerProcess, Self)> {
        let machine_before = machine_cpu_seconds()?;
        let server = serve(NEVER)?;
        let used = Used {
            server: Usage::of(&server.process())?,
            machine: machine_cpu_seconds()? - machine_before,
        };
        let started = Self {
            tail,
            ready_after: server.ready_after(),
            cores: server.log().recoveries(cores, LOG_TIMEOUT)?,
            used,
        };
        Ok((server, started))
    }

    /// Adds up the pools. `base` is the start with the shortest tail.
    async fn report(
        &self,
        traffic: &Traffic,
        pools: &Pools,
        server: &ServerProcess,
        base: Option<&Self>,
    ) -> Result<Start> {
        let client = connect(server).await?;
        let sums = pools::compare(&pools.used(&client).await?, &traffic.ledger);
        let sums = sums.map_err(|wrong| anyhow!("after a start with a tail of {}: {wrong}", self.tail))?;
        let base = base.map(|base| base.cores.as_slice());
        Ok(Start::new(
            self.tail,
            self.ready_after,
            &self.cores,
            base,
            self.used,
            sums,
        ))
    }
}

async fn connect(server: &ServerProcess) -> Result<Client> {
    Ok(Client::connect(server.address(), client_options()).await?)
}

/// What fills the directory: frames of many commands, several in flight, each of which must take effect.
struct Traffic {
    draws: Draws,
    pools: Vec<PoolId>,
    commands_max: usize,
    in_flight: usize,
    /// Oldest first.
    live: VecDeque<(ReservationId, u16)>,
    ledger: Ledger,
}

/// A frame: releases, then reserves.
struct Frame {
    batch: Batch,
    pools: Vec<u16>,
    /// What the releases end.
    ending: Vec<ReservationId>,
}

impl Traffic {
    fn new(settings: &Settings, pools: &Pools, seed: u64) -> Result<Self> {
        Ok(Self {
            draws: Draws::new(seed, 0, pools.ids.len()),
            pools: pools.ids.clone(),
            commands_max: settings.commands_per_frame,
            in_flight: settings.in_flight,
            live: VecDeque::new(),
            ledger: Ledger::new(pools.ids.len(), Arc::default())?,
        })
    }

    /// Makes so many reservations.
    async fn reserve(&mut self, client: &Client, count: usize) -> Result<()> {
        self.drive(client, count, 0).await
    }

    /// Causes so many events: half release the oldest reservations, the others make new ones.
    async fn churn(&mut self, client: &Client, count: usize) -> Result<()> {
        self.drive(client, count, self.commands_max / 2).await
    }

    async fn drive(&mut self, client: &Client, count: usize, releases_max: usize) -> Result<()> {
        let mut in_flight = JoinSet::new();
        let mut rest = count;
        loop {
            while rest > 0 && in_flight.len() < self.in_flight {
                let frame = self.frame(client, rest.min(self.commands_max), releases_max)?;
                rest -= frame.pools.len();
                let client = client.clone();
                in_flight.spawn(async move {
                    let Frame { batch, pools, ending } = frame;
                    (client.batch(batch).await, pools, ending)
                });
            }
            let Some(answered) = in_flight.join_next().await else {
                return Ok(());
            };
            let (outcome, pools, ending) = answered.context("a task of the generator panicked")?;
            let refused = self.take(&outcome.context("cannot fill the directory")?, &pools, &ending)?;
            if refused > 0 {
                // The disk does not prepare segments as fast as they are filled.
                rest += refused;
                tokio::time::sleep(REST).await;
            }
        }
    }

    fn frame(&mut self, client: &Client, count: usize, releases_max: usize) -> Result<Frame> {
        let mut batch = client.new_batch();
        let mut pools = Vec::with_capacity(count);
        let releases = releases_max.min(count / 2).min(self.live.len());
        let mut ending = Vec::with_capacity(releases);
        for (id, pool) in self.live.drain(..releases) {
            batch.push_release(id, None)?;
            pools.push(pool);
            ending.push(id);
        }
        for _ in releases..count {
            let pool = self.draws.pool();
            let reserve = Reserve {
                pool: self.pools[usize::from(pool)],
                key: self.draws.key(),
                hold_seconds: 0,
                occurred_at: None,
            };
            batch.push_reserve(reserve, &[1], None)?;
            pools.push(pool);
        }
        Ok(Frame { batch, pools, ending })
    }

    /// How many were refused, and are to be asked for again.
    fn take(&mut self, outcome: &BatchOutcome, pools: &[u16], ending: &[ReservationId]) -> Result<usize> {
        let mut refused = 0;
        for (found, &pool) in outcome.outcomes().iter().zip(pools) {
            let status = found.outcome.status_number();
            let fate = Fate::of(status, found.outcome.is_repeated());
            if fate == Fate::Refused {
                refused += 1;
                self.live
                    .extend(ending.get(found.index).map(|reservation| (*reservation, pool)));
                continue;
            }
            if fate != Fate::Applied {
                bail!("cannot fill the directory: a command was answered with {status}");
            }
            if found.index < ending.len() {
                self.ledger.release(pool, fate);
            } else {
                self.ledger.reserve(pool, fate);
                self.live.push_back((found.outcome.reservation_id(), pool));
            }
        }
        Ok(refused)
    }
}
