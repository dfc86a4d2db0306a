//! `plimsoll replay`: what a data directory remembers.

mod diff;
mod dump;
mod event_form;
mod history;
mod moment;
mod online;
mod repair;
mod reset;
mod state;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_domain::PoolId;
use plimsoll_replay::{History, ReplayError};

use crate::failure::{Exit, Failure};

use diff::DiffArguments;
use dump::DumpArguments;
use history::HistoryArguments;
use repair::RepairArguments;
use reset::ResetArguments;
use state::StateArguments;
use verify::VerifyArguments;

/// The commands of `plimsoll replay`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Check everything: files, records, that each follows from those before, and the snapshots
    Verify(VerifyArguments),
    /// Print events as NDJSON
    Dump(DumpArguments),
    /// Show what happened to a pool or a reservation, with the counters after each event
    History(HistoryArguments),
    /// Show the pools, or one, as they were at a moment
    State(StateArguments),
    /// Show what changed between two moments
    Diff(DiffArguments),
    /// Make what pools were at an earlier moment their present
    Reset(ResetArguments),
    /// Say what can be done about damage that keeps a server from starting, and do it with --yes
    Repair(RepairArguments),
}

/// What every one of them takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArguments {
    /// The data directory; a server may run on it
    #[arg(long, value_name = "DIR", default_value = "plimsoll-data")]
    pub(crate) data: PathBuf,

    /// Print JSON, one object on a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What those take that also work through a running engine.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,

    /// Ask this engine, instead of reading a directory
    #[arg(long, value_name = "ADDR", conflicts_with = "data")]
    pub(crate) engine: Option<String>,
}

pub(crate) fn run(command: &ReplayCommand) -> Result<(), Failure> {
    match command {
        ReplayCommand::Verify(arguments) => verify::run(arguments),
        ReplayCommand::Dump(arguments) => dump::run(arguments),
        ReplayCommand::History(arguments) => history::run(arguments),
        ReplayCommand::State(arguments) => state::run(arguments),
        ReplayCommand::Diff(arguments) => diff::run(arguments),
        ReplayCommand::Reset(arguments) => reset::run(arguments),
        ReplayCommand::Repair(arguments) => repair::run(arguments),
    }
}

fn open(data: &DataArguments) -> Result<History, Failure> {
    History::read(&data.data).map_err(|error| failure_of(error, data))
}

fn failure_of(error: ReplayError, data: &DataArguments) -> Failure {
    let help = match &error {
        ReplayError::Directory(_) => Some("name a data directory of plimsoll with --data"),
        ReplayError::Backwards => return Failure::usage("--from lies behind --to"),
        ReplayError::Record { .. } | ReplayError::Snapshot { .. } => Some(
            "keep the file, and restore it or the directory from a backup; 'plimsoll replay repair --help' says what else there is",
        ),
        _ => None,
    };
    let failure = Failure::failed(format!("{} cannot be read to the end", data.data.display())).because(error);
    match help {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// The same, of a moment that this option gave.
fn failure_of_moment(error: ReplayError, option: &str, data: &DataArguments) -> Failure {
    match error {
        ReplayError::NoSuchLsn { .. } | ReplayError::NoSuchCore { .. } => Failure::usage(format!("{option}: {error}")),
        error => failure_of(error, data),
    }
}

/// The pools that ever had this name, at least one.
fn pools_named(history: &History, name: &str, data: &DataArguments) -> Result<Vec<PoolId>, Failure> {
    let pools = history.pools_named(name).map_err(|error| failure_of(error, data))?;
    if pools.is_empty() {
        return Err(never_was(name));
    }
    Ok(pools)
}

fn never_was(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("there never was a pool {name:?}"))
        .help("'plimsoll replay state' shows the pools there are")
}

/// A bar on standard error for long work; it is not drawn where that is no terminal.
fn progress_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}")
    {
        bar.set_style(style);
    }
    bar
}
