//! A run from its beginning to its report.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_client::{Client, Key, KeySource, Options};
use rustix::fs::statfs;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{PresetArguments, Via};
use crate::floors::{Floor, Floors};
use crate::ledger::{Ledger, Tally, Window};
use crate::limits::WARM_UP;
use crate::pools::{self, Pools};
use crate::preset::{Preset, Settings};
use crate::progress::Progress;
use crate::recovery;
use crate::report::{Conditions, Report, Used, grouped};
use crate::server_log::ServerLog;
use crate::server_process::{ServerOptions, ServerProcess, fresh_directory};
use crate::usage::{Usage, machine_cpu_seconds};
use crate::worker::{Plan, Worker};

/// The number that `statfs` gives for a file system in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Runs a preset, prints its report, and says whether it passed.
pub(crate) fn run(arguments: &PresetArguments) -> Result<bool> {
    let settings = match Settings::new(arguments) {
        Ok(settings) => settings,
        Err(wrong) => clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{wrong}\n")).exit(),
    };
    let directory = arguments.data.clone().unwrap_or_else(std::env::temp_dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    if settings.preset == Preset::Recovery {
        let report = runtime.block_on(unless_stopped(recovery::measure(arguments, &settings, &directory)))?;
        tell(&report, arguments)?;
        return Ok(true);
    }
    let report = runtime.block_on(unless_stopped(measure(arguments, &settings, &directory)))?;
    tell(&report, arguments)?;
    let violations: Vec<String> = arguments
        .require
        .iter()
        .filter_map(|wanted| wanted.violation(&report))
        .collect();
    for violation in &violations {
        writeln!(std::io::stderr(), "plimsoll-loadtest: {violation}").context("cannot write the report")?;
    }
    Ok(violations.is_empty() && report.sums_are_right)
}

async fn unless_stopped<R>(run: impl Future<Output = Result<R>>) -> Result<R> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        report = run => report,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

fn tell(report: &(impl fmt::Display + Serialize), arguments: &PresetArguments) -> Result<()> {
    write!(std::io::stdout(), "{report}").context("cannot write the report")?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(report)?;
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn measure(arguments: &PresetArguments, settings: &Settings, directory: &Path) -> Result<Report> {
    let floor_before = settings.has_floors().then(|| Floor::measure(directory)).transpose()?;
    // Made before the server, so that it is removed when the server has ended.
    let data = match &arguments.engine {
        Some(_) => None,
        None => Some(fresh_directory(directory)?),
    };
    let mut server = match &data {
        Some(data) => Some(ServerProcess::start(&ServerOptions {
            program: arguments.server.as_deref(),
            data: data.path(),
            cores: settings.cores,
            key_retention: &arguments.key_retention,
            snapshot_after: arguments.snapshot_after.as_deref(),
            journal_space: arguments.journal_space.as_deref(),
        })?),
        None => None,
    };
    let address = match (&arguments.engine, &server) {
        (Some(address), _) => address.clone(),
        (None, Some(server)) => server.address().to_owned(),
        (None, None) => unreachable!("a run without --engine has a server of its own"),
    };
    let client = Client::connect(address.as_str(), Options::default()).await?;
    let pools = Pools::prepare(&client, settings.pools).await?;
    let seed = match arguments.seed {
        Some(seed) => seed,
        // A running server may remember the keys of a former run.
        None if arguments.engine.is_some() => Key::random()?.0 as u64,
        None => 1,
    };
    let plan = Arc::new(Plan {
        settings: settings.clone(),
        address,
        pools: pools.ids.clone(),
        dimensions: client.dimensions().len(),
        seed,
    });
    let watched = server.as_ref().map(|server| Watched {
        process: server.process(),
        log: Arc::clone(server.log()),
    });
    let load = drive(&plan, watched.as_ref()).await;
    let (ledger, used) = match load {
        Ok(load) => load,
        Err(error) => {
            let ended = server.as_mut().and_then(ServerProcess::ended);
            return Err(ended.map_or(error, |status| anyhow!("the server ended during the run: {status}")));
        }
    };
    let sums = pools::compare(&pools.used(&client).await?, &ledger);
    let conditions = conditions(arguments, settings, seed, client.welcome().server.clone(), directory);
    drop(client);
    if let Some(server) = server {
        server.stop()?;
    }
    let floors = match floor_before {
        Some(before) => Some(Floors {
            before,
            after: Floor::measure(directory)?,
        }),
        None => None,
    };
    Report::new(settings, &ledger, &used, floors.as_ref(), sums, conditions)
}

/// What is watched of a server of the harness's own.
struct Watched {
    /// Its number under `/proc`.
    process: String,
    log: Arc<ServerLog>,
}

/// Runs the threads of the generator through warm-up and window.
async fn drive(plan: &Arc<Plan>, server: Option<&Watched>) -> Result<(Ledger, Used)> {
    let mut starts = Vec::new();
    let mut results = Vec::new();
    let mut tallies = Vec::new();
    let mut readies = Vec::new();
    for index in 0..plan.worker_count() {
        let Worker {
            ready,
            start,
            result,
            tally,
        } = Worker::spawn(plan, index)?;
        readies.push(ready);
        starts.push(start);
        results.push(result);
        tallies.push(tally);
    }
    for (index, ready) in readies.into_iter().enumerate() {
        if ready.await.is_err() {
            // It has ended, so that its result says why.
            (&mut results[index])
                .await
                .context("a thread of the generator panicked")??;
            bail!("a thread of the generator ended before the run");
        }
    }
    let now = Instant::now();
    let seconds = plan.settings.seconds;
    let window = Window {
        start: now + WARM_UP,
        end: now + WARM_UP + Duration::from_secs(seconds),
    };
    for start in starts {
        // One that has ended meanwhile says so in its result.
        let _ = start.send(window);
    }
    let used = watch(window, seconds, server, &tallies).await?;
    let mut all: Option<Ledger> = None;
    for result in results {
        let ledger = result.await.context("a thread of the generator panicked")??;
        match &mut all {
            Some(all) => all.merge(&ledger)?,
            None => all = Some(ledger),
        }
    }
    Ok((all.context("a run has at least one thread")?, used))
}

/// Samples what the processes use at both ends of the window, and shows progress in between.
async fn watch(window: Window, seconds: u64, server: Option<&Watched>, tallies: &[Arc<Tally>]) -> Result<Used> {
    let usage = || -> Result<(Option<Usage>, Usage)> {
        let used = server.map(|server| Usage::of(&server.process)).transpose();
        Ok((used.context("the server is gone")?, Usage::of("self")?))
    };
    let snapshots = || server.map(|server| server.log.snapshots());
    let sum = |of: fn(&Tally) -> u64| -> u64 { tallies.iter().map(|tally| of(tally)).sum() };
    let done = || sum(|tally| tally.applied.load(Ordering::Relaxed) + tally.answered.load(Ordering::Relaxed));
    let progress = Progress::new();
    tokio::time::sleep_until(window.start.into()).await;
    let machine_before = machine_cpu_seconds()?;
    let (server_before, own_before) = usage()?;
    let snapshots_before = snapshots();
    let (mut done_then, mut server_then) = (done(), server_before);
    for second in 1..=seconds {
        tokio::time::sleep_until((window.start + Duration::from_secs(second)).into()).await;
        let (server_now, _) = usage()?;
        let done_now = done();
        let refused = sum(|tally| tally.refused.load(Ordering::Relaxed));
        let errors = sum(|tally| tally.errors.load(Ordering::Relaxed));
        let processors = match (server_then, server_now) {
            (Some(then), Some(now)) => format!("  server {:.2} processors", now.cpu_seconds - then.cpu_seconds),
            _ => String::new(),
        };
        progress.show(format!(
            "{second:>4} s  {:>11}/s{processors}  refused {refused}  errors {errors}",
            grouped((done_now - done_then) as f64),
        ));
        (done_then, server_then) = (done_now, server_now);
    }
    let (server_after, own_after) = usage()?;
    let machine = machine_cpu_seconds()? - machine_before;
    progress.finish();
    let seconds = (window.end - window.start).as_secs_f64();
    Ok(Used {
        server: server_before.zip(server_after),
        generator: (own_before, own_after),
        machine,
        snapshots: snapshots().zip(snapshots_before).map(|(after, before)| after - before),
        seconds,
    })
}

/// The kernel's name for itself.
pub(crate) fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

pub(crate) fn is_on_disk(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|found| found.f_type as u64 != TMPFS_MAGIC)
}

pub(crate) fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}

fn conditions(
    arguments: &PresetArguments,
    settings: &Settings,
    seed: u64,
    server: String,
    directory: &Path,
) -> Conditions {
    let via = match (settings.preset, settings.via) {
        (Preset::Batched, _) => "Client::batch",
        (Preset::Availability, _) => "frames",
        (_, Via::Client) => "Client::reserve",
        (_, Via::Frames) => "frames",
    };
    Conditions {
        cores: arguments.engine.is_none().then_some(settings.cores),
        connections: settings.connections,
        in_flight: settings.in_flight,
        commands_per_frame: settings.commands_per_frame,
        pools: settings.pools,
        live: settings.live,
        threads: settings.threads,
        via,
        hold: settings.hold,
        changes: (settings.preset == Preset::Availability).then_some(settings.changes),
        snapshot_after: arguments.snapshot_after.clone(),
        journal_space: arguments.journal_space.clone(),
        seed,
        server,
        data_is_on_disk: is_on_disk(directory),
        processors: thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel(),
        command_line: command_line(),
    }
}
