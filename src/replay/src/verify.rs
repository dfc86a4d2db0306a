//! Whether everything that a data directory remembers is whole, and follows from itself.
//!
//! For each journal, the oldest first: every archive and every sealed segment is read in full, with all checksums (`check_history`); then every durable
//! record is read once more in order, decoded, held against the state that those before it lead to, and applied. What that shows: LSNs and the
//! sequences of partitions without gaps, times that do not go back, no enforcing pool above its ceiling by an event that adds units, each reservation's
//! life in its order, counters equal to the sums of reservations, resets in one piece, and that the archives' indexes lead to each record by all its keys. Where the journal has a
//! snapshot, the state at its LSN is the snapshot's. Control pages are held against the records behind what they say, and archives against the journal's end.

use std::io::ErrorKind;
use std::ops::ControlFlow;

use plimsoll_domain::{Event, PoolId, State, StateOptions, Timestamp};
use plimsoll_journal::{
    DirectorySnapshot, DirectoryView, FileError, HistorySummary, Lsn, SegmentNumber, SnapshotReader, StorageError,
    check_end, check_history,
};

use crate::cursor::JournalCursor;
use crate::error::{RecordFault, ReplayError, SnapshotFault};
use crate::history::{History, Selection};
use crate::keys::put_keys;
use crate::snapshots::{partition_digests, restore_open};

/// Records between two looks at the progress.
const PROGRESS_RECORD_COUNT: u64 = 1 << 14;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Which journal is being read, an index of all there ever were.
    pub journal: usize,
    /// Bytes of files that were read, about: each file is read twice.
    pub bytes: u64,
    /// Bytes that there are to read.
    pub total: u64,
    /// Records that were applied.
    pub records: u64,
}

/// What was found of one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreReport {
    /// Which journal, an index of all there ever were.
    pub journal: usize,
    /// The core; nothing of a journal that is only history.
    pub core: Option<u16>,
    /// Archives and sealed segments that are whole.
    pub files: HistorySummary,
    /// Events that were applied.
    pub records: u64,
    /// The last durable LSN.
    pub last_lsn: Lsn,
    /// The times of the first and the last event, if there is one.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The LSNs of snapshots that are equal to the state there.
    pub snapshots: Vec<Lsn>,
}

/// What was found; everything is as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// By journal, the oldest first.
    pub cores: Vec<CoreReport>,
    /// Pools that live at the end.
    pub pools: usize,
    /// Reservations that take units at the end.
    pub live_reservations: usize,
}

/// Checks all of it, up to what was durable when each journal's turn came. Nothing is changed, and memory is in proportion to what lives at a time.
///
/// # Errors
/// The first fault: file, offset and LSN. Errors of the operating system may be retried.
pub fn verify(history: &History, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport, ReplayError> {
    let mut now = VerifyProgress {
        total: history.size()? * 2,
        ..VerifyProgress::default()
    };
    let mut state = State::new(StateOptions::new(history.dimension_count()));
    let mut cores = Vec::new();
    // A server that runs on the directory replaces them long before their turn comes.
    let mut snapshots = open_snapshots(history)?;
    for journal in 0..history.view().journals().len() {
        now.journal = journal;
        let files = check_files(history, journal, &mut |bytes| {
            now.bytes += bytes;
            progress(now);
        })?;
        let snapshots = std::mem::take(&mut snapshots[journal]);
        cores.push(apply(
            history,
            (journal, files, snapshots),
            &mut state,
            &mut now,
            &mut progress,
        )?);
    }
    let at = cores.iter().filter_map(|core| core.times).map(|(_, last)| last).max();
    let live = state.reservations(at.unwrap_or(Timestamp(0)));
    Ok(VerifyReport {
        cores,
        pools: state.pool_count(),
        live_reservations: live.filter(|reservation| !reservation.state.is_ended()).count(),
    })
}

/// A snapshot, and its file.
type OpenSnapshot = (DirectorySnapshot, Result<SnapshotReader, FileError>);

/// By journal the snapshots that the manifest names, the newest first. One that is gone by now counts only if the manifest still names it.
fn open_snapshots(history: &History) -> Result<Vec<Vec<OpenSnapshot>>, ReplayError> {
    let view = history.view();
    let is_gone = |error: &FileError| matches!(error, FileError::Storage(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound);
    let mut by_journal = Vec::new();
    for journal in 0..view.journals().len() {
        let mut open = Vec::new();
        for snapshot in view.snapshots(journal) {
            let reader = SnapshotReader::open(&snapshot.path);
            if reader.as_ref().is_err_and(is_gone) {
                let now = DirectoryView::read(view.path())?;
                let position = now
                    .journals()
                    .iter()
                    .position(|other| other.id == view.journals()[journal].id);
                if position.is_none_or(|position| !now.snapshots(position).contains(snapshot)) {
                    continue;
                }
            }
            open.push((snapshot.clone(), reader));
        }
        by_journal.push(open);
    }
    Ok(by_journal)
}

fn check_files(
    history: &History,
    journal: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<HistorySummary, ReplayError> {
    let source = history.view().source(journal);
    check_end(&source)?;
    let before = match history.view().journals()[journal].end {
        Some(end) => end.segment.next(),
        None => history.view().durable(journal)?.1.max(SegmentNumber::FIRST),
    };
    let summary = check_history(&source, before, |bytes| {
        progress(bytes);
        ControlFlow::Continue(())
    })?;
    Ok(summary.unwrap_or_default())
}

fn apply(
    history: &History,
    (journal, files, mut snapshots): (usize, HistorySummary, Vec<OpenSnapshot>),
    state: &mut State,
    now: &mut VerifyProgress,
    progress: &mut impl FnMut(VerifyProgress),
) -> Result<CoreReport, ReplayError> {
    let entry = &history.view().journals()[journal];
    let mut events = JournalCursor::open(history, journal, Lsn(1), Lsn(u64::MAX))?;
    let mut report = CoreReport {
        journal,
        core: entry.core,
        files,
        records: 0,
        last_lsn: events.last(),
        times: None,
        snapshots: Vec::new(),
    };
    let mut keys = Vec::new();
    let mut reset = None;
    let bytes_before = now.bytes;
    while let Some(recorded) = events.next(history, &Selection::ALL)? {
        // The oldest is last, so that it is taken first.
        while let Some(snapshot) = snapshots.pop_if(|(snapshot, _)| snapshot.lsn < recorded.lsn) {
            // A snapshot is of the end of a batch: no record has its LSN, and the next one's is the next.
            report.snapshots.push(compare(history, journal, snapshot, state)?);
        }
        let fault = |fault| history.fault(journal, recorded.lsn, recorded.place, fault);
        if report.times.is_some_and(|(_, last)| recorded.time < last) {
            return Err(fault(RecordFault::TimeGoesBack));
        }
        keys.clear();
        put_keys(&recorded.event, &mut keys);
        if keys.iter().any(|key| !events.is_indexed(*key)) {
            return Err(fault(RecordFault::NotIndexed));
        }
        if !belongs(&mut reset, recorded.lsn, &recorded.event) {
            return Err(fault(RecordFault::ResetNotWhole));
        }
        state
            .check_fits(&recorded.event)
            .map_err(|why| fault(RecordFault::DoesNotFit(why)))?;
        state.apply(&recorded.event);
        report.records += 1;
        now.records += 1;
        report.times = Some((report.times.map_or(recorded.time, |(first, _)| first), recorded.time));
        if report.records.is_multiple_of(PROGRESS_RECORD_COUNT) {
            now.bytes = bytes_before + events.bytes();
            progress(*now);
        }
    }
    now.bytes = bytes_before + events.bytes();
    while let Some(snapshot) = snapshots.pop() {
        if snapshot.0.lsn > report.last_lsn {
            return Err(ReplayError::Snapshot {
                fault: SnapshotFault::NoSuchLsn(snapshot.0.lsn),
                path: snapshot.0.path,
            });
        }
        report.snapshots.push(compare(history, journal, snapshot, state)?);
    }
    let wrong_counters = state.check_counters().err().map(RecordFault::Counters);
    if let Some(fault) = reset.map(|_| RecordFault::ResetNotWhole).or(wrong_counters) {
        let lsn = report.last_lsn;
        let place = plimsoll_journal::HistoryPlace {
            segment: history.view().durable(journal)?.1,
            is_archived: false,
            offset: 0,
        };
        return Err(history.fault(journal, lsn, place, fault));
    }
    Ok(report)
}

/// The events of a reset that are still to come.
struct RestOfReset {
    pool: PoolId,
    next: Lsn,
    left: u32,
}

/// Whether the event may stand there: those of a reset follow it at once, in its batch, whose end would take an LSN.
fn belongs(reset: &mut Option<RestOfReset>, lsn: Lsn, event: &Event) -> bool {
    match reset {
        Some(rest) => {
            if rest.next != lsn || event.pool() != Some(rest.pool) {
                return false;
            }
            (rest.next, rest.left) = (Lsn(lsn.0 + 1), rest.left - 1);
        }
        None => {
            if let Event::PoolReset(begun) = event {
                *reset = Some(RestOfReset {
                    pool: begun.pool,
                    next: Lsn(lsn.0 + 1),
                    left: begun.change_count,
                });
            }
        }
    }
    if reset.as_ref().is_some_and(|rest| rest.left == 0) {
        *reset = None;
    }
    true
}

/// Holds a snapshot against the state that the journal up to its LSN leads to.
fn compare(
    history: &History,
    journal: usize,
    (snapshot, reader): OpenSnapshot,
    state: &mut State,
) -> Result<Lsn, ReplayError> {
    let of_snapshot = |fault| ReplayError::Snapshot {
        path: snapshot.path.clone(),
        fault,
    };
    let reader = reader.map_err(|error| of_snapshot(error.into()))?;
    let (header, mut kept) = restore_open(reader, history.dimension_count()).map_err(of_snapshot)?;
    let expected = partition_digests(state);
    let found = partition_digests(&mut kept);
    for (partition, owner) in (0..).map(plimsoll_domain::PartitionId).zip(history.view().owners()) {
        if usize::from(*owner) == journal && expected.get(&partition) != found.get(&partition) {
            return Err(of_snapshot(SnapshotFault::Differs {
                partition,
                lsn: header.lsn,
            }));
        }
    }
    Ok(header.lsn)
}
