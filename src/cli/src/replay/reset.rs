//! `plimsoll replay reset`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plimsoll_client::{Client, Reset, ResetChange, ResetReport, State};
use plimsoll_domain::Timestamp;
use plimsoll_form::{AfterForm, ByDimension, after_form, by_name};
use plimsoll_journal::DirectoryError;
use plimsoll_server::{Fatal, Options, Server};
use serde::Serialize;

use crate::connection::{block_on, connect_patiently, failure_of, read_failure};
use crate::failure::Failure;
use crate::output::{Output, notice, printable};
use crate::serve;
use crate::values::ValueError;

use super::moment::parse_end;
use super::{DataArguments, SourceArguments, open};

/// How long the engine may look for what a pool was.
const PATIENCE: Duration = Duration::from_mins(30);
/// Nothing is forgotten and no pool retires by itself while a stopped directory is reset: how long either stays is the server's business.
const FOR_EVER: Duration = Duration::from_hours(24 * 36_500);
/// Changes in one answer.
const PAGE: u32 = 1000;

/// The command line of `plimsoll replay reset`.
#[derive(Debug, Args)]
#[command(after_help = "\
What was reserved since ends as released; keys keep what they led to. What ended since lives again under the same id and key, except
holds whose deadline has passed. A pool may stand above its limit afterwards: it then sells nothing until it is below. Nothing
that was recorded is changed: the reset is recorded as events of its own, all or none of them, for each pool.

A time with milliseconds, as `at` of an event is printed, is the end of that millisecond: the event is kept.

First look with --dry-run: it lists every change, and prints the pool's version. The real run is refused when the pool has changed
since. A reader that goes away stops nothing: all pools are reset, and it ends with 1. Close a pool that sells, or it will have.

It works on the directory of a stopped server (--data), or through a running one (--engine).

Examples:
  plimsoll pool close zone-7:monday
  plimsoll replay reset zone-7:monday --to 2026-12-24T12:00:00Z --engine 127.0.0.1:7440 --dry-run
  plimsoll replay reset zone-7:monday --to 2026-12-24T12:00:00Z --engine 127.0.0.1:7440 --version 91f0c3a27be4d508
  plimsoll replay reset zone-7:monday zone-7:tuesday --to 1782302400 --data ./slots --any-version")]
pub(crate) struct ResetArguments {
    /// The pools
    #[arg(required = true)]
    pools: Vec<String>,

    /// The moment to go back to; one with milliseconds is the end of that millisecond, so that an event's `at` includes the event
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
    to: Timestamp,

    /// Take the definition back too: limits, state, times and the rest
    #[arg(long)]
    attributes: bool,

    /// List what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// The version of each pool that the dry run printed, in the order of the pools
    #[arg(long, value_name = "VERSION", value_delimiter = ',', value_parser = parse_version, conflicts_with = "dry_run")]
    version: Vec<u64>,

    /// Whatever happened since the dry run
    #[arg(long, conflicts_with_all = ["version", "dry_run"])]
    any_version: bool,

    #[command(flatten)]
    source: SourceArguments,
}

/// 16 hexadecimal digits. No pool has the version 0.
fn parse_version(text: &str) -> Result<u64, ValueError> {
    let is_digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(version) if is_digits && version != 0 => Ok(version),
        _ => Err(ValueError::new(
            "expected the 16 hexadecimal digits that the dry run printed",
        )),
    }
}

pub(super) fn run(arguments: &ResetArguments) -> Result<(), Failure> {
    let expected = versions(arguments)?;
    let (server, engine) = match &arguments.source.engine {
        Some(engine) => (None, engine.clone()),
        None => {
            let server = start(&arguments.source.data)?;
            let address = server.address().to_string();
            (Some(server), address)
        }
    };
    let done = block_on(reset(arguments, &expected, &engine));
    let stopped = server.map_or(Ok(()), |server| {
        server.handle().shutdown();
        server.wait().map_err(serve::failure_of)
    });
    done.and(stopped)
}

/// For each pool the version that must stand.
fn versions(arguments: &ResetArguments) -> Result<Vec<Option<u64>>, Failure> {
    if arguments.dry_run || arguments.any_version {
        return Ok(vec![None; arguments.pools.len()]);
    }
    if arguments.version.len() != arguments.pools.len() {
        return Err(Failure::usage(format!(
            "{} pools and {} versions",
            arguments.pools.len(),
            arguments.version.len()
        ))
        .help("--dry-run prints the version of each pool; name them with --version, or say --any-version"));
    }
    Ok(arguments.version.iter().copied().map(Some).collect())
}

/// An engine of this process on the directory, in which nothing happens but what it is told.
fn start(data: &DataArguments) -> Result<Server, Failure> {
    // A server would make a directory that is missing.
    let segment_size = open(data)?.view().segment_size() as u64;
    Server::start(&options(data.data.clone(), segment_size)).map_err(|fatal| {
        let is_locked = matches!(fatal, Fatal::Directory(DirectoryError::Locked { .. }));
        let failure = serve::failure_of(fatal);
        match is_locked {
            true => failure.help("while a server runs, name it with --engine"),
            false => failure,
        }
    })
}

fn options(data: PathBuf, segment_size: u64) -> Options {
    let mut options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        key_retention: FOR_EVER,
        retire_after: FOR_EVER,
        stands_still: true,
        ..Options::new(data)
    };
    // How much room it may have is the server's business too.
    options.journal_space = options.journal_space.max(options.journal_space_min(segment_size));
    options
}

async fn reset(arguments: &ResetArguments, expected: &[Option<u64>], engine: &str) -> Result<(), Failure> {
    let client = connect_patiently(engine, PATIENCE).await?;
    let dimensions = client.dimensions();
    let mut output = Output::new();
    // All of them are looked at before the first is changed.
    for (pool, version) in arguments.pools.iter().zip(expected) {
        if arguments.any_version {
            break;
        }
        let (report, changes) = look(&client, arguments, pool, *version, engine).await?;
        if arguments.dry_run {
            print(
                &mut output,
                arguments,
                &Printed::new(pool, &report, changes, &dimensions),
            )?;
        }
    }
    if arguments.dry_run {
        output.finish()?;
        notice("note: a dry run, nothing was changed");
        return Ok(());
    }
    // A reader that goes away does not leave the pools half way.
    let mut printed = Ok(());
    for (index, (pool, version)) in arguments.pools.iter().zip(expected).enumerate() {
        let asked = Reset {
            expected_version: *version,
            dry_run: false,
            limit: 1,
            ..question(arguments, pool)
        };
        match client.reset_pool(&asked).await {
            Ok(report) => {
                let form = Printed::new(pool, &report, Vec::new(), &dimensions);
                printed = printed.and(print(&mut output, arguments, &form));
            }
            Err(error) => {
                // Why it goes no further matters more than who reads how far it came.
                let _ = output.finish();
                return Err(failure_of(error, engine)
                    .about(pool)
                    .details(vec![format!("{index} of {} pools were reset", arguments.pools.len())])
                    .help("look with --dry-run at what stands now, then reset it with that version"));
            }
        }
    }
    printed.and(output.finish()).map_err(Failure::after_change)
}

fn question<'a>(arguments: &ResetArguments, pool: &'a str) -> Reset<'a> {
    Reset {
        pool,
        to: arguments.to.0,
        attributes: arguments.attributes,
        expected_version: None,
        dry_run: true,
        offset: 0,
        limit: PAGE,
    }
}

/// A dry run, with all changes where they are printed.
async fn look(
    client: &Client,
    arguments: &ResetArguments,
    pool: &str,
    version: Option<u64>,
    engine: &str,
) -> Result<(ResetReport, Vec<ResetChange>), Failure> {
    let mut asked = Reset {
        expected_version: version,
        ..question(arguments, pool)
    };
    let mut changes = Vec::new();
    loop {
        let report = client.reset_pool(&asked).await.map_err(|error| {
            let failure = read_failure(error, engine)
                .about(pool)
                .details(vec!["no pool was reset".to_owned()]);
            match changes.is_empty() {
                true => failure,
                false => failure.help("the pool changes while it is listed: close it first"),
            }
        })?;
        changes.extend(report.changes.iter().cloned());
        let is_all = changes.len() >= report.change_count as usize || report.changes.is_empty();
        if is_all || !arguments.dry_run {
            return Ok((report, changes));
        }
        asked.offset = changes.len() as u32;
        // The list is of one state.
        asked.expected_version = Some(report.version);
    }
}

/// What a reset of a pool does or did.
#[derive(Serialize)]
struct Printed<'a> {
    pool: &'a str,
    version: String,
    change_count: u32,
    before: AfterForm<'a>,
    after: AfterForm<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    kind: String,
    reservation: Option<String>,
    reference: Option<String>,
    before: Option<Side<'a>>,
    after: Option<Side<'a>>,
}

#[derive(Serialize)]
struct Side<'a> {
    state: String,
    units: ByDimension<'a, u32>,
}

impl<'a> Printed<'a> {
    fn new(pool: &'a str, report: &ResetReport, changes: Vec<ResetChange>, dimensions: &'a [String]) -> Printed<'a> {
        let side = |side: (State, Vec<u32>)| Side {
            state: side.0.to_string(),
            units: ByDimension {
                dimensions,
                values: side.1,
            },
        };
        let changes = changes.into_iter().map(|change| Change {
            kind: change.kind.to_string(),
            reservation: change.reservation.map(|id| id.to_string()),
            reference: change.reference,
            before: change.before.map(side),
            after: change.after.map(side),
        });
        Printed {
            pool,
            version: format!("{:016x}", report.version),
            change_count: report.change_count,
            before: after_form(&report.before, dimensions),
            after: after_form(&report.after, dimensions),
            changes: changes.collect(),
        }
    }
}

fn print(output: &mut Output, arguments: &ResetArguments, printed: &Printed<'_>) -> Result<(), Failure> {
    if arguments.source.data.json {
        return output.json(printed);
    }
    let counters = |counters: &AfterForm<'_>| {
        let (held, confirmed) = (by_name(&counters.held), by_name(&counters.confirmed));
        format!("held {held} confirmed {confirmed} of {}", by_name(&counters.limits))
    };
    output.line(format_args!(
        "{} version {}: {} -> {}; {} changes",
        printed.pool,
        printed.version,
        counters(&printed.before),
        counters(&printed.after),
        printed.change_count
    ))?;
    for change in &printed.changes {
        let side = |side: &Option<Side<'_>>| {
            side.as_ref().map_or_else(
                || "ended".to_owned(),
                |side| format!("{} {}", side.state, by_name(&side.units)),
            )
        };
        match &change.reservation {
            Some(reservation) => {
                let reference = change
                    .reference
                    .as_ref()
                    .map(|text| format!(" ({})", printable(text)))
                    .unwrap_or_default();
                output.line(format_args!(
                    "  {} {reservation}{reference}: {} -> {}",
                    change.kind,
                    side(&change.before),
                    side(&change.after)
                ))?;
            }
            None => output.line(format_args!("  {}", change.kind))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_segments_have_room() {
        for segment_size in [64 << 10, 64 << 20, 600 << 20, 1 << 30] {
            let options = options(PathBuf::new(), segment_size);
            assert!(options.journal_space >= options.journal_space_min(segment_size));
        }
    }

    #[test]
    fn versions_are_what_a_dry_run_printed() {
        assert_eq!(parse_version("91f0c3a27be4d508"), Ok(0x91f0_c3a2_7be4_d508));
        for text in [
            "0",
            "0000000000000000",
            "+1f0c3a27be4d508",
            "91f0c3a27be4d50",
            "91f0c3a27be4d5081",
            "91f0c3a27be4d50x",
            "",
        ] {
            assert!(parse_version(text).is_err(), "{text}");
        }
    }
}
