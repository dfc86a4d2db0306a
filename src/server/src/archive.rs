//! History: sealed segments are compressed into the archive, and then used again. What recovery did not read is checked beside it.
//!
//! Two plain threads of low priority do it for all cores, a quarter of a mebibyte or so at a time.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_engine::event_of;
use plimsoll_journal::{
    DirectoryJournal, FileError, FileFault, JournalEnd, JournalFiles, JournalId, Lsn, Record, Recycler, SegmentNumber,
    SegmentSource, archive_last_segment, archive_segment, check_history, free_archived,
};
use plimsoll_replay::put_keys;

use crate::background::spawn;
use crate::shared::Shared;

/// How often the thread looks for a sealed segment.
const INTERVAL: Duration = Duration::from_millis(200);
/// After a failure it waits so long.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The check of history sleeps between two steps: it reads 25 megabytes a second at most.
const CHECK_PAUSE: Duration = Duration::from_millis(10);

/// What a core's journal needs.
pub(crate) struct ArchivedJournal {
    pub(crate) id: JournalId,
    pub(crate) directory: PathBuf,
    /// Recovery has read from here on.
    pub(crate) recovered_from: SegmentNumber,
    pub(crate) recycler: Option<Recycler>,
    /// Snapshots that recovery found damaged.
    pub(crate) passed_over: Vec<Lsn>,
}

/// Starts the threads, one that archives and one that checks; they end when the executors have. `history` are the journals that have no core any more, with their ends.
pub(crate) fn start(
    shared: Arc<Shared>,
    segment_size: usize,
    journals: Vec<ArchivedJournal>,
    history: Vec<(DirectoryJournal, JournalEnd)>,
) -> std::io::Result<[JoinHandle<()>; 2]> {
    let archive = Archive {
        segment_size,
        journals,
        shared,
    };
    let archive = Arc::new(archive);
    let checking = Arc::clone(&archive);
    let checked = history.clone();
    let check = spawn("check", move || checking.check(&checked))?;
    let archive = spawn("archive", move || archive.run(&history))?;
    Ok([check, archive])
}

struct Archive {
    shared: Arc<Shared>,
    segment_size: usize,
    journals: Vec<ArchivedJournal>,
}

/// How far a core's segments are archived.
struct Progress {
    /// The first segment that is not known to be archived.
    archived_below: SegmentNumber,
    /// Not before this.
    next_at: Instant,
}

impl Archive {
    fn source<'path>(&self, journal: JournalId, directory: &'path Path) -> SegmentSource<'path> {
        SegmentSource {
            directory,
            journal,
            segment_size: self.segment_size,
        }
    }

    /// Until the executors have ended.
    fn goes_on(&self) -> ControlFlow<()> {
        match self.shared.is_finished() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn run(&self, history: &[(DirectoryJournal, JournalEnd)]) {
        for (journal, end) in history {
            if let Err(error) = self.archive_history(journal, *end) {
                tracing::error!(
                    directory = %journal.directory.display(),
                    error = &error as &dyn std::error::Error,
                    "a journal that has no core any more cannot be archived; the next start tries again"
                );
            }
        }
        let progress = self.journals.iter().map(|journal| Progress {
            archived_below: first_segment(journal),
            next_at: Instant::now(),
        });
        let mut progress: Vec<_> = progress.collect();
        while !self.shared.is_finished() {
            let mut is_busy = false;
            for (core, progress) in progress.iter_mut().enumerate() {
                if Instant::now() >= progress.next_at {
                    let pause = self.step(core, &mut progress.archived_below);
                    progress.next_at = Instant::now() + pause;
                    is_busy |= pause.is_zero();
                }
            }
            if !is_busy {
                std::thread::sleep(INTERVAL);
            }
        }
    }

    /// Archives the next sealed segment of a core, if there is one, and gives up what is in no use any more. Returns how long to wait.
    fn step(&self, core: usize, archived_below: &mut SegmentNumber) -> Duration {
        let journal = &self.journals[core];
        let source = self.source(journal.id, &journal.directory);
        let number = *archived_below;
        let shared = &self.shared;
        let pause = |_| self.goes_on();
        let dimension_count = shared.dimensions.len();
        let keys = |record: &Record<'_>, keys: &mut Vec<u64>| put_record_keys(record, dimension_count, keys);
        match archive_segment(&source, number, keys, pause) {
            Ok(None) => INTERVAL,
            Ok(Some(_)) => {
                *archived_below = number.next();
                if let Some(recycler) = &journal.recycler {
                    recycler.give_up(number.next().min(shared.snapshots[core].needed_from()));
                }
                Duration::ZERO
            }
            Err(FileError::NotSealed { .. }) => {
                if let Some(recycler) = &journal.recycler {
                    recycler.give_up(number.min(shared.snapshots[core].needed_from()));
                }
                INTERVAL
            }
            // One of another version is not ours to replace.
            Err(FileError::Damaged(damage))
                if is_archive(&damage.path, &journal.directory)
                    && !matches!(damage.fault, FileFault::UnknownVersion(_)) =>
            {
                // The segment is still there, so its archive is written again.
                tracing::error!(core, %damage, "an archive is damaged, and replaced");
                match std::fs::remove_file(&damage.path) {
                    Ok(()) => Duration::ZERO,
                    Err(_) => INTERVAL_AFTER_FAILURE,
                }
            }
            Err(error) => {
                tracing::error!(
                    core,
                    segment = number.0,
                    error = &error as &dyn std::error::Error,
                    "a segment cannot be archived; it is kept, and tried again"
                );
                INTERVAL_AFTER_FAILURE
            }
        }
    }

    /// Archives what a journal without a core has left, and frees its segments.
    fn archive_history(&self, journal: &DirectoryJournal, end: JournalEnd) -> Result<(), FileError> {
        let source = self.source(journal.id, &journal.directory);
        let dimension_count = self.shared.dimensions.len();
        let keys = |record: &Record<'_>, keys: &mut Vec<u64>| put_record_keys(record, dimension_count, keys);
        let pause = |_| self.goes_on();
        let Some(first) = JournalFiles::read(&journal.directory)?.segments.first().copied() else {
            return Ok(());
        };
        for number in (first.0..end.segment.0).map(SegmentNumber) {
            if archive_segment(&source, number, keys, pause)?.is_none() {
                return Ok(());
            }
        }
        archive_last_segment(&source, end, keys, pause)?;
        free_archived(&source, end.segment, pause)?;
        Ok(())
    }

    /// Reads what recovery did not need. Damage does not stop the server, whose state does not rest on it; it is told.
    fn check(&self, history: &[(DirectoryJournal, JournalEnd)]) {
        let running = self
            .journals
            .iter()
            .map(|journal| (journal.id, &journal.directory, journal.recovered_from));
        let history = history
            .iter()
            .map(|(journal, end)| (journal.id, &journal.directory, end.segment.next()));
        for (journal, directory, before) in history.chain(running) {
            let source = self.source(journal, directory);
            let pause = |_| {
                std::thread::sleep(CHECK_PAUSE);
                self.goes_on()
            };
            match check_history(&source, before, pause) {
                Ok(Some(summary)) if summary.archives + summary.segments > 0 => {
                    tracing::info!(directory = %directory.display(), ?summary, "history is whole");
                }
                Ok(_) => {}
                Err(error) => {
                    self.shared.history_is_damaged();
                    tracing::error!(
                        directory = %directory.display(),
                        error = &error as &dyn std::error::Error,
                        "history is damaged: what is served does not rest on it, but the past cannot be told in full"
                    );
                }
            }
        }
    }
}

/// Whether the file is one of the journal's archives, and not a segment.
fn is_archive(path: &Path, journal: &Path) -> bool {
    path.parent() != Some(journal)
}

/// The oldest segment that is there: those before it went because they are archived.
fn first_segment(journal: &ArchivedJournal) -> SegmentNumber {
    match JournalFiles::read(&journal.directory) {
        Ok(files) => files.segments.first().copied().unwrap_or(SegmentNumber::FIRST),
        // The archive of each is looked for, which takes longer.
        Err(_) => SegmentNumber::FIRST,
    }
}

/// Puts the keys under which the record is to be found into the list; what is no event, has none.
fn put_record_keys(record: &Record<'_>, dimension_count: usize, keys: &mut Vec<u64>) {
    if let Ok(event) = event_of(record, dimension_count) {
        put_keys(&event, keys);
    }
}
