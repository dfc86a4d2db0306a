//! The preset `overload`: what is left of the rate when ten times as much is offered.
//!
//! Generator and server have processors of their own, so that the one cannot take the other's time. Three loads, one after the
//! other, on one server: the closed loop of `p16`, whose rate is the peak; ten times the peak in an open loop; and, after a
//! second of rest, `p16` again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use plimsoll_client::{Client, Options};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::faults::Running;
use crate::ledger::Ledger;
use crate::load::work::Work;
use crate::pools::{self, Pools};
use crate::preset::Settings;
use crate::report::Report;
use crate::run::{Driven, Measured, Watched, conditions, drive};
use crate::schedule::Arrivals;
use crate::server_process::{ANY_PORT, ServerOptions, ServerProcess, fresh_directory};
use crate::setup::Setup;
use crate::threads::Timing;
use crate::worker::Plan;

/// How many times the peak is offered.
const FACTOR: f64 = 10.0;
/// How long the peak is measured, at most.
const PEAK_SECONDS: u64 = 10;
/// Between the end of the overload and the probe.
const REST: Duration = Duration::from_secs(1);
/// How long the probe lasts.
const PROBE_SECONDS: u64 = 3;
/// How exactly is told when it is normal again.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Which share of the peak is normal.
const NORMAL: f64 = 0.9;
/// Frames in flight on each connection of `p16`.
const PEAK_IN_FLIGHT: usize = 16;
/// A caller whose command cannot be sent for so long goes away: the backlog of a minute would measure nothing but itself.
const PATIENCE: Duration = Duration::from_millis(1);
/// Most threads of the generator.
const THREADS_MAX: usize = 4;

/// The processors of the server, and those of the generator.
struct Processors {
    server: Vec<usize>,
    generator: Vec<usize>,
}

impl Processors {
    /// The first `count` of those that this process may use are the server's.
    fn divide(count: usize) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot find out about processors")?;
        let mut server: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|index| allowed.is_set(*index)).collect();
        if server.len() <= count {
            bail!(
                "{} processors are not enough: the server gets {count}, and the generator needs at least one",
                server.len()
            );
        }
        let generator = server.split_off(count);
        Ok(Self { server, generator })
    }

    /// As `--cores` of the server: ranges of one, since a lone number would be a count.
    fn option(&self) -> String {
        let ranges: Vec<String> = self.server.iter().map(|index| format!("{index}-{index}")).collect();
        ranges.join(",")
    }
}

/// Holds this thread, and those that it starts from here on, on some processors.
fn hold_on(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for index in processors {
        set.set(*index);
    }
    sched_setaffinity(None, &set).context("cannot choose processors")
}

/// Measures all three loads. The report is that of the overload.
pub(crate) async fn measure(setup: &Setup, settings: &Settings, directory: &Path) -> Result<Measured> {
    let processors = Processors::divide(settings.cores as usize)?;
    let data = fresh_directory(directory)?;
    // What the server starts, snapshots and history too, inherits where it may run.
    hold_on(&processors.server)?;
    let server = ServerProcess::start(&ServerOptions {
        program: setup.server.as_deref(),
        data: data.path(),
        cores: &processors.option(),
        dimensions: &settings.dimensions,
        listen: ANY_PORT,
        key_retention: &setup.key_retention,
        snapshot_after: setup.snapshot_after.as_deref(),
        journal_space: setup.journal_space.as_deref(),
    })?;
    hold_on(&processors.generator)?;
    let threads = processors.generator.len().min(THREADS_MAX).max(settings.threads);
    let client = Client::connect(server.address(), Options::default()).await?;
    let pools = Pools::prepare(&client, settings.pools, None).await?;
    let phase = Phase {
        server: &server,
        watched: Watched {
            running: Arc::new(Running::new(server.process())),
            log: Arc::clone(server.log()),
        },
        pools: &pools,
        dimensions: client.dimensions().len(),
        seed: setup.seed.unwrap_or(1),
    };
    let closed = Settings {
        in_flight: PEAK_IN_FLIGHT.min(settings.in_flight),
        threads: threads.min(settings.connections),
        seconds: settings.seconds.min(PEAK_SECONDS),
        ..settings.clone()
    };
    let mut sums = Ledger::new(pools.ids.len(), Arc::default())?;
    let peak = phase.drive(&closed, 0, Timing::default()).await?;
    sums.merge_sums(&peak.ledger);
    let peak_rate = rate(&peak);

    let work = Arc::new(Work {
        patience: Some(PATIENCE),
        accepted_only: true,
        ..Work::reserves(Arrivals::Constant, FACTOR * peak_rate)
    });
    let open = Settings {
        work: Some(Arc::clone(&work)),
        threads: closed.threads,
        ..settings.clone()
    };
    let overload = phase.drive(&open, 1, Timing::default()).await?;
    sums.merge_sums(&overload.ledger);
    let rss_max_bytes = overload.used.server.map(|(_, after)| after.rss_max_bytes);

    tokio::time::sleep_until((overload.window.end + REST).into()).await;
    let probe = Settings {
        seconds: PROBE_SECONDS,
        ..closed
    };
    let timing = Timing {
        warm_up: Duration::ZERO,
        interval: PROBE_INTERVAL,
    };
    let after = phase.drive(&probe, 2, timing).await?;
    sums.merge_sums(&after.ledger);

    let found = pools::compare(&pools.used(&client).await?, &sums);
    let mut conditions = conditions(setup, &open, phase.seed, client.welcome().server.clone(), directory);
    // Those that the generator was held on are not all.
    conditions.processors = processors.server.len() + processors.generator.len();
    drop(client);
    let mut report = Report::new(&open, &overload.ledger, &overload.used, None, found, conditions)?;
    server.stop()?;
    let extra = &mut report.extra;
    extra.peak_rate = Some(peak_rate);
    extra.share = Some(report.rate / peak_rate);
    extra.after_rate = Some(rate(&after));
    extra.normal_after_ms = normal_after(&after, peak_rate)
        .map(|time| (after.window.start - overload.window.end + time).as_secs_f64() * 1e3);
    extra.rss_max_bytes = rss_max_bytes;
    extra.remarks.push(format!(
        "server on processor {}, generator on processor {}",
        list(&processors.server),
        list(&processors.generator)
    ));
    if processors.generator.len() == 1 {
        extra.remarks.push(
            "with one processor the generator may not be able to offer so much: what could not be sent is counted"
                .to_owned(),
        );
    }
    Ok(Measured {
        report,
        ledger: overload.ledger,
    })
}

fn list(processors: &[usize]) -> String {
    let texts: Vec<String> = processors.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// What is the same for all loads.
struct Phase<'run> {
    server: &'run ServerProcess,
    watched: Watched,
    pools: &'run Pools,
    dimensions: usize,
    seed: u64,
}

impl Phase<'_> {
    async fn drive(&self, settings: &Settings, phase: u64, timing: Timing) -> Result<Driven> {
        let plan = Arc::new(Plan {
            settings: settings.clone(),
            address: self.server.address().to_owned(),
            pools: self.pools.ids.clone(),
            dimensions: self.dimensions,
            // Keys of one load are not those of another.
            seed: self.seed.wrapping_add(phase << 32),
        });
        drive(&plan, Some(&self.watched), None, timing).await
    }
}

fn rate(driven: &Driven) -> f64 {
    driven.ledger.counts.applied() as f64 / driven.used.seconds
}

/// From the start of a load until the end of the first interval in which so much took effect as is normal.
fn normal_after(driven: &Driven, peak_rate: f64) -> Option<Duration> {
    let series = driven.ledger.series.as_ref()?;
    let enough = NORMAL * peak_rate * series.interval().as_secs_f64();
    let index = series
        .points()
        .iter()
        .position(|point| point.applied as f64 >= enough)?;
    Some(series.interval() * (index as u32 + 1))
}
