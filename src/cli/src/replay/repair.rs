//! `plimsoll replay repair`

use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_journal::{
    CutAway, Directory, Finding, JournalId, JournalRepair, Remedy, RepairError, RepairPlan, find_damage, repair,
};
use plimsoll_server::Fatal;
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// The command line of `plimsoll replay repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --yes nothing is changed: the command says what is damaged, what can be done about it, and exactly what would be lost.
It reads every segment and every archive, under the lock of the directory, so no server may run on it.

What it can do, the harmless first:
  a segment whose archive is whole       is written anew from the archive; nothing is lost
  an archive whose segment is whole      is put aside, and made again by the server; nothing is lost
  an archive behind the journal's end    is put aside; a restored backup can leave the old directory's
  a snapshot                             is put aside; the one before it, or the journal, leads to the same state
  the control page                       is made anew from what the segments say; if the newest batches are missing as well,
                                         nothing is left that says so
  damage in the middle of a journal      cuts the journal at the last whole batch before it; what was written later is lost,
                                         for the partitions of that core, and for them alone

A cut takes back what was acknowledged: reservations made later are gone, those released later are live again, and the numbers
of the lost records (LSNs) are given again to other records. So the directory gets a new id: cursors and the progress of 'plimsoll
orders' from before are refused, and whoever follows the journal has to begin anew. Where a backup has what is damaged, restoring it loses less.

Damage that a start does not meet (in history that has neither a whole archive nor a whole segment) never makes a cut: what is
served does not rest on it. Only a copy of the file from a backup mends it.

Nothing is deleted: whatever leaves its place lies in 'damaged-<n>' in the journal's directory afterwards. Copy the whole
directory before all the same.

It ends with 0 when nothing is damaged (any more), and with 1 when something is.

Examples:
  plimsoll replay repair --data ./slots
  cp -a ./slots ./slots-before && plimsoll replay repair --data ./slots --yes
  plimsoll replay verify --data ./slots")]
pub(crate) struct RepairArguments {
    /// The data directory; no server may run on it
    #[arg(long, value_name = "DIR", default_value = "plimsoll-data")]
    data: PathBuf,

    /// Do it
    #[arg(long)]
    yes: bool,

    /// Print JSON, one object on a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonReport {
    /// What is damaged, or was.
    journals: Vec<JsonJournal>,
    /// Whether the files were changed.
    repaired: bool,
    /// Whether a start succeeds now, and history is whole.
    whole: bool,
}

#[derive(Serialize)]
struct JsonJournal {
    journal: String,
    core: Option<u16>,
    findings: Vec<JsonFinding>,
    cut: Option<JsonCut>,
    damaged_files: Option<PathBuf>,
}

#[derive(Serialize)]
struct JsonFinding {
    file: PathBuf,
    offset: u64,
    fault: String,
    remedy: &'static str,
}

#[derive(Serialize)]
struct JsonCut {
    last_kept: u64,
    first_lost: u64,
    last_lost: u64,
    shortened: Option<u64>,
    segments: Vec<u64>,
    archives: Vec<u64>,
    snapshots: Vec<u64>,
    /// Those of them that are whole.
    whole_snapshots: Vec<u64>,
}

pub(super) fn run(arguments: &RepairArguments) -> Result<(), Failure> {
    let data = &arguments.data;
    let mut directory = Directory::open_as_it_is(data).map_err(|error| {
        let fatal = Fatal::from(error);
        Failure::new(
            Exit::Fatal(fatal.exit_code()),
            format!("{} cannot be repaired", data.display()),
        )
        .help(fatal.remedy())
        .because(fatal)
    })?;
    let found = find_damage(&directory).map_err(|error| failure_of(error, data))?;
    let is_to_be_done = arguments.yes && found.can_mend();
    // What would be lost is said before anything is changed, and stays said if the repair is broken off.
    let said = match arguments.json {
        true => Ok(()),
        false => say(&found, is_to_be_done),
    };
    let (mut aside, mut left) = (Vec::new(), None);
    if is_to_be_done {
        aside = repair(&mut directory, &found).map_err(|error| failure_of(error, data))?;
        left = Some(find_damage(&directory).map_err(|error| failure_of(error, data))?);
    }
    let after = left.as_ref().unwrap_or(&found);
    let told = said.and_then(|()| tell(&found, after, &aside, is_to_be_done, arguments.json));
    // A reader that went away changes neither what is done nor what is damaged.
    verdict(after, arguments)?;
    match is_to_be_done {
        true => told.map_err(Failure::after_change),
        false => told,
    }
}

/// What was done.
fn tell(
    found: &RepairPlan,
    after: &RepairPlan,
    aside: &[(JournalId, PathBuf)],
    is_done: bool,
    as_json: bool,
) -> Result<(), Failure> {
    let mut output = Output::new();
    if as_json {
        output.json(&JsonReport {
            journals: found.journals.iter().map(|journal| json(journal, aside)).collect(),
            repaired: is_done,
            whole: after.is_whole(),
        })?;
        return output.finish();
    }
    for (_, path) in aside {
        output.line(format_args!("put aside: {}", path.display()))?;
    }
    if after.is_whole() {
        output.line(if is_done { "repaired" } else { "nothing is damaged" })?;
    }
    output.finish()
}

fn verdict(after: &RepairPlan, arguments: &RepairArguments) -> Result<(), Failure> {
    if after.is_whole() {
        return Ok(());
    }
    let data = arguments.data.display();
    let failure = Failure::failed(format!("{data} is damaged"));
    Err(if after.can_mend() {
        failure.help(format!(
            "copy the directory, then run 'plimsoll replay repair --data {data} --yes'; a backup may lose less"
        ))
    } else {
        failure.help("only the files that are named, or the directory, from a backup help")
    })
}

fn failure_of(error: RepairError, data: &Path) -> Failure {
    let help = match &error {
        RepairError::Refused { .. } | RepairError::Newer(_) => {
            "use the version of plimsoll that wrote it, or put back the directory's own files"
        }
        _ => "check the disk and the rights on the directory; what was repaired so far does no harm, so run it again",
    };
    Failure::failed(format!("{} cannot be repaired", data.display()))
        .because(error)
        .help(help)
}

fn say(found: &RepairPlan, is_to_be_done: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    for journal in &found.journals {
        let of = match journal.core {
            Some(core) => format!("core {core}"),
            None => "history".to_owned(),
        };
        output.line(format_args!("{} ({of}):", journal.journal.directory_name()))?;
        for finding in &journal.findings {
            let Finding {
                path, offset, fault, ..
            } = finding;
            output.line(format_args!("  {} at offset {offset}: {fault}", path.display()))?;
            output.line(format_args!("    {}", remedy_text(finding.remedy)))?;
        }
        if let Some(cut) = &journal.cut {
            say_cut(&mut output, cut, is_to_be_done)?;
        }
    }
    output.finish()
}

fn say_cut(output: &mut Output, cut: &CutAway, is_to_be_done: bool) -> Result<(), Failure> {
    let are = if is_to_be_done { "are" } else { "would be" };
    output.line(format_args!(
        "  the records with LSN {} to {} {are} lost; the last one that stays is {}",
        cut.last_kept.0 + 1,
        cut.last_lost,
        cut.last_kept
    ))?;
    let mut aside: Vec<String> = Vec::new();
    let segments = cut.segments.iter().map(|number| format!("{:010}.segment", number.0));
    aside.extend(segments);
    aside.extend(
        cut.shortened
            .map(|number| format!("{:010}.segment (behind the cut)", number.0)),
    );
    aside.extend(cut.archives.iter().map(|number| format!("{:010}.archive", number.0)));
    aside.extend(cut.snapshots.iter().map(|snapshot| {
        let whole = if snapshot.is_whole { ", which is whole" } else { "" };
        format!("the snapshot at LSN {}{whole}", snapshot.lsn)
    }));
    for file in aside {
        output.line(format_args!("    {are} put aside: {file}"))?;
    }
    Ok(())
}

fn remedy_text(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::FromArchive => "its archive is whole: the segment is written anew from it, and nothing is lost",
        Remedy::ArchivedAgain => "its segment is whole: the server makes the archive again, and nothing is lost",
        Remedy::NotOfJournal => {
            "the journal has no such segment: the archive is put aside, and nothing of the journal is lost"
        }
        Remedy::WithoutSnapshot => "what is before it leads to the same state: it is put aside, and nothing is lost",
        Remedy::ControlAnew => "it is made anew from what segments, archives and snapshots prove",
        Remedy::Cut => "the journal is cut at the last whole batch before it",
        _ => "nothing can be done about it here: only a copy of the file from a backup helps",
    }
}

fn remedy_name(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::FromArchive => "from_archive",
        Remedy::ArchivedAgain => "archived_again",
        Remedy::NotOfJournal => "not_of_journal",
        Remedy::WithoutSnapshot => "without_snapshot",
        Remedy::ControlAnew => "control_anew",
        Remedy::Cut => "cut",
        _ => "backup",
    }
}

fn json(journal: &JournalRepair, aside: &[(JournalId, PathBuf)]) -> JsonJournal {
    let findings = journal.findings.iter().map(|finding| JsonFinding {
        file: finding.path.clone(),
        offset: finding.offset,
        fault: finding.fault.to_string(),
        remedy: remedy_name(finding.remedy),
    });
    let numbers = |numbers: &[plimsoll_journal::SegmentNumber]| numbers.iter().map(|number| number.0).collect();
    JsonJournal {
        journal: journal.journal.directory_name(),
        core: journal.core,
        findings: findings.collect(),
        cut: journal.cut.as_ref().map(|cut| JsonCut {
            last_kept: cut.last_kept.0,
            first_lost: cut.last_kept.0 + 1,
            last_lost: cut.last_lost.0,
            shortened: cut.shortened.map(|number| number.0),
            segments: numbers(&cut.segments),
            archives: numbers(&cut.archives),
            snapshots: cut.snapshots.iter().map(|snapshot| snapshot.lsn.0).collect(),
            whole_snapshots: cut
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.is_whole)
                .map(|snapshot| snapshot.lsn.0)
                .collect(),
        }),
        damaged_files: aside
            .iter()
            .find(|(id, _)| *id == journal.journal)
            .map(|(_, path)| path.clone()),
    }
}
