//! Another number of cores: the partitions of a data directory are spread over new journals, before anything is served.
//!
//! Every old journal is recovered as usual. Each new one begins with a snapshot of the partitions that it gets. One replacement of the manifest makes
//! them count; a crash before it leaves the directory as it was, one after it has nothing left to do.

use std::time::Instant;

use plimsoll_domain::limits::PARTITION_COUNT;
use plimsoll_domain::{PartitionId, Timestamp};
use plimsoll_engine::{Engine, EngineOptions};
use plimsoll_journal::{
    Directory, DirectoryJournal, JournalEnd, JournalId, Lsn, MmapStorage, Ring, SegmentNumber, SnapshotHeader,
    StorageError, Switch, SwitchedJournal,
};

use crate::fatal::Fatal;
use crate::recovery::{self, Source};
use crate::snapshot_file::SnapshotFile;

/// So much of a state is copied at once, in bytes.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Journals that have a core, by core, each with its index among all of the directory.
pub(crate) fn running(directory: &Directory) -> Vec<(usize, &DirectoryJournal)> {
    let mut running: Vec<_> = directory
        .journals()
        .iter()
        .enumerate()
        .filter(|(_, journal)| journal.core.is_some())
        .collect();
    running.sort_by_key(|(_, journal)| journal.core);
    running
}

/// What the state of a core is got back from.
pub(crate) fn source<'start>(
    directory: &'start Directory,
    index: usize,
    options: EngineOptions,
    ring: Ring,
) -> Source<'start> {
    Source {
        journal: &directory.journals()[index],
        snapshots: directory.snapshots(index),
        began_with_snapshot: directory.journals().iter().any(|journal| journal.core.is_none()),
        segment_size: directory.segment_size(),
        ring,
        options,
    }
}

/// A journal that was recovered for the last time.
struct Old {
    id: JournalId,
    end: JournalEnd,
    time: i64,
    engine: Engine<MmapStorage>,
}

/// Spreads the directory over this many new journals.
pub(crate) fn change(
    directory: Directory,
    core_count: usize,
    options: EngineOptions,
    now: Timestamp,
    random: fn() -> u64,
) -> Result<Directory, Fatal> {
    let begun = Instant::now();
    let mut old = Vec::new();
    for (index, journal) in running(&directory) {
        let source = source(&directory, index, options, Ring::default());
        let recovered = recovery::recover(&source, now, random)?.recovered;
        let summary = recovered.summary;
        // Recovery has opened a new segment behind the last one.
        let opened = recovered.engine.segment_number().0;
        old.push(Old {
            id: journal.id,
            end: JournalEnd {
                lsn: summary.last_lsn,
                segment: SegmentNumber(if summary.last_lsn.0 == 0 { 0 } else { opened - 1 }),
            },
            time: recovered.engine.journal().last_time(),
            engine: recovered.engine,
        });
    }
    let owners = spread(core_count, |partition| {
        old.iter()
            .map(|old| old.engine.state().partition_load(partition))
            .sum::<usize>()
    });
    let failed = |error: StorageError| Fatal::Directory(error.into());
    let journals = directory.create_journals(core_count)?;
    let time = old.iter().map(|old| old.time).max().unwrap_or(now.0);
    let mut files = Vec::new();
    for journal in &journals {
        let header = SnapshotHeader {
            journal: journal.id,
            lsn: Lsn(0),
            segment: SegmentNumber::FIRST,
            time,
        };
        files.push(SnapshotFile::create(directory.path(), header, options.state.dimension_count).map_err(failed)?);
    }
    let mut ends = Vec::new();
    for mut old in old {
        copy(&mut old.engine, |piece| {
            files[usize::from(owners[piece.partition().index()])].put(piece)
        })
        .map_err(failed)?;
        ends.push((old.id, old.end));
    }
    let mut switched = Vec::new();
    for (journal, file) in journals.iter().zip(files) {
        switched.push(SwitchedJournal {
            id: journal.id,
            snapshot: Some(file.finish().map_err(failed)?),
        });
    }
    let old_count = ends.len();
    let directory = directory.switch(&Switch {
        journals: switched,
        owners,
        ends,
    })?;
    tracing::info!(from = old_count, to = core_count, elapsed = ?begun.elapsed(), "the number of cores was changed");
    Ok(directory)
}

fn copy(
    engine: &mut Engine<MmapStorage>,
    mut put: impl FnMut(&plimsoll_domain::SnapshotPiece) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut pieces = Vec::new();
    engine.begin_copy();
    loop {
        let is_all = engine.copy_snapshot(COPIED_AT_ONCE, &mut pieces);
        for piece in pieces.drain(..) {
            put(&piece)?;
        }
        if is_all {
            return Ok(());
        }
    }
}

/// Gives the partitions to the cores, the heaviest first, each to the core that has least so far.
fn spread(core_count: usize, load_of: impl Fn(PartitionId) -> usize) -> [u16; PARTITION_COUNT] {
    let mut partitions: Vec<_> = (0..PARTITION_COUNT as u16)
        .map(|partition| (load_of(PartitionId(partition)), partition))
        .collect();
    partitions.sort_unstable_by_key(|(load, partition)| (std::cmp::Reverse(*load), *partition));
    let mut owners = [0; PARTITION_COUNT];
    // By core, what it has, and how many partitions: those that hold nothing are spread evenly as well.
    let mut loads = vec![(0, 0); core_count];
    for (load, partition) in partitions {
        let lightest = (0..core_count).min_by_key(|core| loads[*core]).unwrap_or(0);
        loads[lightest].0 += load;
        loads[lightest].1 += 1;
        owners[usize::from(partition)] = lightest as u16;
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_spread_by_what_they_hold() {
        let load_of = |partition: PartitionId| match partition.0 {
            7 => 1000,
            8 => 600,
            9 => 400,
            partition if partition < 100 => 1,
            _ => 0,
        };
        let owners = spread(2, load_of);
        let of = |core: u16| (0..1024).filter(move |partition| owners[*partition] == core);
        let load = |core| {
            of(core)
                .map(|partition| load_of(PartitionId(partition as u16)))
                .sum::<usize>()
        };
        assert!(load(0).abs_diff(load(1)) <= 1, "{} and {}", load(0), load(1));
        let empty = spread(3, |_| 0);
        for core in 0..3 {
            let count = empty.iter().filter(|owner| **owner == core).count();
            assert!((341..=342).contains(&count), "core {core} has {count} partitions");
        }
    }
}
