//! `plimsoll replay verify`

use clap::Args;
use indicatif::HumanBytes;
use plimsoll_replay::{CoreReport, verify};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, Table};
use crate::values::format_time;

use super::{DataArguments, failure_of, open, progress_bar};

/// The command line of `plimsoll replay verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is checked, from the first event on: the checksums of every archive, every segment and every record up to what is durable;
numbers without gaps, in journals and in partitions; that each event follows from those before it: no enforcing pool past its limit,
each reservation's life in its order; counters equal to the sum of reservations; and that each snapshot is the state that the
journal leads to. It reads each file twice, in memory in proportion to what lives, and takes no lock.

It ends with 0 and a line for each journal, or with 1 and the first fault: file, offset and record.

Examples:
  plimsoll replay verify --data ./slots
  plimsoll replay verify --data /mnt/backup/slots-monday --json")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    data: DataArguments,
}

#[derive(Serialize)]
struct JsonReport<'report> {
    journals: Vec<JsonJournal<'report>>,
    pools: usize,
    live_reservations: usize,
}

#[derive(Serialize)]
struct JsonJournal<'report> {
    journal: String,
    core: Option<u16>,
    events: u64,
    last_lsn: u64,
    archives: u64,
    segments: u64,
    snapshots: Vec<u64>,
    from: Option<String>,
    until: Option<String>,
    #[serde(skip)]
    report: &'report CoreReport,
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let data = &arguments.data;
    let history = open(data)?;
    let bar = progress_bar(0);
    let verified = verify(&history, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
        bar.set_message(format!("({} events)", progress.records));
    });
    bar.finish_and_clear();
    let report = verified.map_err(|error| failure_of(error, data))?;
    let journals = report.cores.iter().map(|core| JsonJournal {
        journal: history.view().journals()[core.journal].id.directory_name(),
        core: core.core,
        events: core.records,
        last_lsn: core.last_lsn.0,
        archives: core.files.archives,
        segments: core.files.segments,
        snapshots: core.snapshots.iter().map(|lsn| lsn.0).collect(),
        from: core.times.and_then(|(from, _)| format_time(from.0)),
        until: core.times.and_then(|(_, until)| format_time(until.0)),
        report: core,
    });
    let report = JsonReport {
        journals: journals.collect(),
        pools: report.pools,
        live_reservations: report.live_reservations,
    };
    let mut output = Output::new();
    if data.json {
        output.json(&report)?;
        return output.finish();
    }
    let head = [
        "journal",
        "core",
        "from",
        "until",
        "events",
        "last LSN",
        "archives",
        "segments",
        "snapshots",
    ];
    let mut table = Table::new(head.map(str::to_owned).into(), 4);
    for journal in &report.journals {
        table.row(vec![
            journal.journal.clone(),
            journal.core.map_or_else(|| "-".to_owned(), |core| core.to_string()),
            journal.from.clone().unwrap_or_else(|| "-".to_owned()),
            journal.until.clone().unwrap_or_else(|| "-".to_owned()),
            journal.events.to_string(),
            journal.last_lsn.to_string(),
            journal.archives.to_string(),
            journal.segments.to_string(),
            journal.report.snapshots.len().to_string(),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    output.line(format_args!(
        "whole: {} pools and {} live reservations follow from {} events ({})",
        report.pools,
        report.live_reservations,
        report.journals.iter().map(|journal| journal.events).sum::<u64>(),
        HumanBytes(history.size().map_err(|error| failure_of(error, data))?),
    ))?;
    output.finish()
}
