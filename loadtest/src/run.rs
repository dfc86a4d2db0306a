//! A run from its beginning to its report.

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
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{PresetArguments, Via};
use crate::floors::{Floor, Floors};
use crate::ledger::{Ledger, Tally, Window};
use crate::limits::WARM_UP;
use crate::pools::{self, Pools};
use crate::preset::{Preset, Settings};
use crate::progress::Progress;
use crate::report::{Conditions, Report, Used, grouped};
use crate::server_process::{ServerOptions, ServerProcess};
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
    let report = runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            report = measure(arguments, &settings, &directory) => report,
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })?;
    write!(std::io::stdout(), "{report}").context("cannot write the report")?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
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

async fn measure(arguments: &PresetArguments, settings: &Settings, directory: &Path) -> Result<Report> {
    let floor_before = settings.has_floors().then(|| Floor::measure(directory)).transpose()?;
    let mut server = match &arguments.engine {
        Some(_) => None,
        None => Some(ServerProcess::start(&ServerOptions {
            program: arguments.server.as_deref(),
            directory,
            cores: settings.cores,
            key_retention: &arguments.key_retention,
        })?),
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
    let load = drive(&plan, server.as_ref().map(ServerProcess::process)).await;
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

/// Runs the threads of the generator through warm-up and window.
async fn drive(plan: &Arc<Plan>, server: Option<String>) -> Result<(Ledger, Used)> {
    let mut starts = Vec::new();
    let mut results = Vec::new();
    let mut tallies = Vec::new();
    let mut readies = Vec::new();
    for index in 0..plan.settings.threads {
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
    let used = watch(window, seconds, server.as_deref(), &tallies).await?;
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
async fn watch(window: Window, seconds: u64, server: Option<&str>, tallies: &[Arc<Tally>]) -> Result<Used> {
    let usage = || -> Result<(Option<Usage>, Usage)> {
        let server = server.map(Usage::of).transpose().context("the server is gone")?;
        Ok((server, Usage::of("self")?))
    };
    let sum = |of: fn(&Tally) -> u64| -> u64 { tallies.iter().map(|tally| of(tally)).sum() };
    let applied = || sum(|tally| tally.applied.load(Ordering::Relaxed));
    let progress = Progress::new();
    tokio::time::sleep_until(window.start.into()).await;
    let machine_before = machine_cpu_seconds()?;
    let (server_before, own_before) = usage()?;
    let (mut applied_then, mut server_then) = (applied(), server_before);
    for second in 1..=seconds {
        tokio::time::sleep_until((window.start + Duration::from_secs(second)).into()).await;
        let (server_now, _) = usage()?;
        let applied_now = applied();
        let refused = sum(|tally| tally.refused.load(Ordering::Relaxed));
        let errors = sum(|tally| tally.errors.load(Ordering::Relaxed));
        let processors = match (server_then, server_now) {
            (Some(then), Some(now)) => format!("  server {:.2} processors", now.cpu_seconds - then.cpu_seconds),
            _ => String::new(),
        };
        progress.show(format!(
            "{second:>4} s  {:>11}/s{processors}  refused {refused}  errors {errors}",
            grouped((applied_now - applied_then) as f64),
        ));
        (applied_then, server_then) = (applied_now, server_now);
    }
    let (server_after, own_after) = usage()?;
    let machine = machine_cpu_seconds()? - machine_before;
    progress.finish();
    let seconds = (window.end - window.start).as_secs_f64();
    Ok(Used {
        server: server_before.zip(server_after),
        generator: (own_before, own_after),
        machine,
        seconds,
    })
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
        (_, Via::Client) => "Client::reserve",
        (_, Via::Frames) => "frames",
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Conditions {
        cores: arguments.engine.is_none().then_some(settings.cores),
        connections: settings.connections,
        in_flight: settings.in_flight,
        commands_per_frame: settings.commands_per_frame,
        pools: settings.pools,
        live: settings.live,
        threads: settings.threads,
        via,
        seed,
        server,
        data_is_on_disk: statfs(directory).is_ok_and(|found| found.f_type as u64 != TMPFS_MAGIC),
        processors: thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim_end().to_owned(),
        command_line: std::env::args().collect::<Vec<_>>().join(" "),
    }
}
