//! A run from its beginning to its report.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_client::{Client, Key, KeySource, Options};
use rustix::fs::statfs;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{PresetArguments, Via};
use crate::faults::{Faults, Running};
use crate::floors::{Floor, Floors};
use crate::hot;
use crate::html;
use crate::ledger::{Ledger, Tally, Window};
use crate::load::account::Accountant;
use crate::load::arguments::RunArguments;
use crate::overload;
use crate::peers::{Beside, Peers};
use crate::pools::{self, Pools};
use crate::preset::{Preset, Settings};
use crate::progress::Progress;
use crate::recovery;
use crate::report::{Conditions, Report, Used, grouped};
use crate::server_log::ServerLog;
use crate::server_process::{ANY_PORT, ServerOptions, ServerProcess, fresh_directory};
use crate::setup::Setup;
use crate::threads::{Timing, Workers};
use crate::usage::{Usage, machine_cpu_seconds};
use crate::worker::{Plan, spawn};

/// The number that `statfs` gives for a file system in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Runs a preset, prints its report, and says whether it passed.
pub(crate) fn run(arguments: &PresetArguments) -> Result<bool> {
    let settings = match Settings::new(arguments) {
        Ok(settings) => settings,
        Err(wrong) => wrong_usage(wrong),
    };
    let setup = arguments.setup();
    let directory = setup.data.clone().unwrap_or_else(std::env::temp_dir);
    let peers = Peers::find(arguments, &settings, &directory)?;
    let runtime = runtime()?;
    if settings.preset == Preset::Recovery {
        let report = runtime.block_on(unless_stopped(recovery::measure(&setup, &settings, &directory)))?;
        tell(&peers.undriven(&settings).behind(&report), &setup)?;
        tell_page(&html::Page::of_text(settings.name, &report.to_string()), &setup)?;
        return Ok(true);
    }
    let (measured, beside) = runtime.block_on(unless_stopped(async {
        let measured = match settings.preset {
            Preset::Hot => hot::measure_both(&setup, &settings, &directory).await,
            Preset::Overload => overload::measure(&setup, &settings, &directory).await,
            _ => measure(&setup, &settings, &directory).await,
        }?;
        let seed = setup.seed.unwrap_or(1);
        let beside = peers.measure(&settings, seed, &directory, measured.report.rate).await?;
        Ok((measured, beside))
    }))?;
    conclude(&measured, &beside, &setup)
}

/// Runs a free load, prints its report, and says whether it passed.
pub(crate) fn run_free(arguments: &RunArguments) -> Result<bool> {
    let settings = match arguments.settings() {
        Ok(settings) => settings,
        Err(Ok(wrong)) => wrong_usage(&wrong),
        Err(Err(error)) => return Err(error),
    };
    let setup = arguments.setup.clone();
    let directory = setup.data.clone().unwrap_or_else(std::env::temp_dir);
    let measured = runtime()?.block_on(unless_stopped(measure(&setup, &settings, &directory)))?;
    conclude(&measured, &Beside::default(), &setup)
}

fn wrong_usage(wrong: &str) -> ! {
    clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{wrong}\n")).exit()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

/// A load that was measured.
pub(crate) struct Measured {
    pub(crate) report: Report,
    pub(crate) ledger: Ledger,
}

/// Prints a report, writes what was asked for, and says whether the load passed.
fn conclude(measured: &Measured, beside: &Beside, setup: &Setup) -> Result<bool> {
    let report = &measured.report;
    tell(&beside.behind(report), setup)?;
    tell_page(&html::Page::of_load(measured, beside.to_string()), setup)?;
    let violations: Vec<String> = setup
        .require
        .iter()
        .filter_map(|wanted| wanted.violation(report))
        .collect();
    for violation in &violations {
        writeln!(std::io::stderr(), "plimsoll-loadtest: {violation}").context("cannot write the report")?;
    }
    let missing = report.extra.account.as_ref().map_or(0, |account| account.missing);
    let sums_are_right = report.sums_are_right && beside.sums_are_right();
    Ok(violations.is_empty() && sums_are_right && missing == 0)
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

fn tell_page(page: &html::Page, setup: &Setup) -> Result<()> {
    match &setup.html {
        Some(path) => fs::write(path, page.to_string()).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    }
}

fn tell(report: &(impl fmt::Display + Serialize), arguments: &Setup) -> Result<()> {
    write!(std::io::stdout(), "{report}").context("cannot write the report")?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(report)?;
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Runs a load on a server of its own, or on a running one.
pub(crate) async fn measure(arguments: &Setup, settings: &Settings, directory: &Path) -> Result<Measured> {
    let floor_before = settings.has_floors().then(|| Floor::measure(directory)).transpose()?;
    // Made before the server, so that it is removed when the server has ended.
    let data = match &arguments.engine {
        Some(_) => None,
        None => Some(fresh_directory(directory)?),
    };
    let cores = settings.cores.to_string();
    let options = data.as_ref().map(|data| ServerOptions {
        program: arguments.server.as_deref(),
        data: data.path(),
        cores: &cores,
        dimensions: &settings.dimensions,
        listen: ANY_PORT,
        key_retention: &arguments.key_retention,
        snapshot_after: arguments.snapshot_after.as_deref(),
        journal_space: arguments.journal_space.as_deref(),
    });
    let mut server = options.as_ref().map(ServerProcess::start).transpose()?;
    let address = match (&arguments.engine, &server) {
        (Some(address), _) => address.clone(),
        (None, Some(server)) => server.address().to_owned(),
        (None, None) => unreachable!("a run without --engine has a server of its own"),
    };
    let client = Client::connect(address.as_str(), Options::default()).await?;
    let pools = prepare_pools(&client, settings, server.is_some()).await?;
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
        running: Arc::new(Running::new(server.process())),
        log: Arc::clone(server.log()),
    });
    let faults = match (&watched, options) {
        (Some(watched), Some(options)) if !settings.faults.is_empty() => Some(Faults {
            faults: &settings.faults,
            server: &mut server,
            options,
            running: Arc::clone(&watched.running),
        }),
        _ => None,
    };
    let load = drive(&plan, watched.as_ref(), faults, Timing::default()).await;
    let Driven { mut ledger, used, .. } = match load {
        Ok(load) => load,
        Err(error) => {
            let ended = server.as_mut().and_then(ServerProcess::ended);
            return Err(ended.map_or(error, |status| anyhow!("the server ended during the run: {status}")));
        }
    };
    let mut account = None;
    let mut records = Vec::new();
    let one_unit = plan.units();
    let accountant = Accountant {
        client: &client,
        pools: &plan.pools,
        units: &one_unit,
    };
    if settings.work.as_ref().is_some_and(|work| work.account) {
        records = ledger
            .detail
            .as_mut()
            .map(|detail| std::mem::take(&mut detail.records))
            .unwrap_or_default();
        account = Some(accountant.settle(&mut records, &mut ledger).await?);
    }
    let sums = pools::compare(&pools.used(&client).await?, &ledger);
    if let Some(account) = &mut account {
        accountant.check(&records, account).await?;
    }
    let conditions = conditions(arguments, settings, seed, client.welcome().server.clone(), directory);
    drop(client);
    if let Some(server) = server.take() {
        server.stop()?;
    }
    let floors = match floor_before {
        Some(before) => Some(Floors {
            before,
            after: Floor::measure(directory)?,
        }),
        None => None,
    };
    let mut report = Report::new(settings, &ledger, &used, floors.as_ref(), sums, conditions)?;
    report.extra.account = account;
    report.extra.faults.clone_from(&settings.faults);
    Ok(Measured { report, ledger })
}

/// Makes the pools of a load; those of a file exist on a running server.
async fn prepare_pools(client: &Client, settings: &Settings, own_server: bool) -> Result<Pools> {
    let Some(work) = &settings.work else {
        return Pools::prepare(client, settings.pools, None).await;
    };
    match &work.replay {
        Some(replay) => {
            let own: Vec<&str> = settings.dimensions.split(',').collect();
            if client.dimensions() != own {
                bail!(
                    "the server's dimensions are {}; name them by --dimensions",
                    client.dimensions().join(",")
                );
            }
            if own_server {
                Pools::prepare_named(client, &replay.orders.pools, work.limit).await
            } else {
                Pools::find(client, &replay.orders.pools).await
            }
        }
        None => Pools::prepare(client, settings.pools, work.limit).await,
    }
}

/// What is watched of a server of the harness's own.
pub(crate) struct Watched {
    pub(crate) running: Arc<Running>,
    pub(crate) log: Arc<ServerLog>,
}

/// A load that was driven.
pub(crate) struct Driven {
    pub(crate) ledger: Ledger,
    pub(crate) used: Used,
    pub(crate) window: Window,
}

/// Runs the threads of the generator through warm-up and window.
pub(crate) async fn drive(
    plan: &Arc<Plan>,
    server: Option<&Watched>,
    faults: Option<Faults<'_>>,
    timing: Timing,
) -> Result<Driven> {
    let workers = (0..plan.worker_count()).map(|index| spawn(plan, index));
    let seconds = plan.settings.seconds;
    let workers = Workers::begin(workers.collect::<Result<_>>()?, timing, seconds).await?;
    let window = workers.window;
    let faults = async {
        match faults {
            Some(faults) => faults.run(window.start).await,
            None => Ok(()),
        }
    };
    let (used, ()) = tokio::try_join!(watch(window, seconds, server, &workers.tallies), faults)?;
    Ok(Driven {
        ledger: workers.ledger().await?,
        used,
        window,
    })
}

/// Samples what the processes use at both ends of the window, and shows progress in between.
async fn watch(window: Window, seconds: u64, server: Option<&Watched>, tallies: &[Arc<Tally>]) -> Result<Used> {
    let usage = || -> Result<(Option<Usage>, Usage)> {
        let used = server.map(|server| server.running.usage()).transpose();
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

pub(crate) fn conditions(
    arguments: &Setup,
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
