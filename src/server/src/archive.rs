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
    ArchiveSummary, DirectoryJournal, FileDamage, FileError, FileFault, JournalEnd, JournalFiles, JournalId, Lsn,
    Record, Recycler, SegmentNumber, SegmentSource, archive_last_segment, archive_path, archive_segment,
    archive_segment_again, check_history, free_archived,
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
    /// The first segment that is not known to be archived, but for those that were passed over.
    archived_below: SegmentNumber,
    /// The first segment that cannot be archived. Whatever is left of it is the only copy, so neither it nor those behind it are given up.
    kept_from: Option<SegmentNumber>,
    /// Not before this.
    next_at: Instant,
}

impl Archive {
    fn source<'path>(
        &self,
        journal: JournalId,
        directory: &'path Path,
        end: Option<JournalEnd>,
    ) -> SegmentSource<'path> {
        SegmentSource {
            directory,
            journal,
            segment_size: self.segment_size,
            end,
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
            kept_from: None,
            next_at: Instant::now(),
        });
        let mut progress: Vec<_> = progress.collect();
        while !self.shared.is_finished() {
            let mut is_busy = false;
            for (core, progress) in progress.iter_mut().enumerate() {
                if Instant::now() >= progress.next_at {
                    let pause = self.step(core, progress);
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
    fn step(&self, core: usize, progress: &mut Progress) -> Duration {
        let journal = &self.journals[core];
        let source = self.source(journal.id, &journal.directory, None);
        let number = progress.archived_below;
        let give_up = |below: SegmentNumber| {
            let below = below.min(self.shared.snapshots[core].needed_from());
            if let Some(recycler) = &journal.recycler {
                recycler.give_up(progress.kept_from.map_or(below, |kept| kept.min(below)));
            }
        };
        match self.archive(&source, number) {
            Ok(None) => INTERVAL,
            Ok(Some(_)) => {
                give_up(number.next());
                progress.archived_below = number.next();
                Duration::ZERO
            }
            Err(FileError::NotSealed { .. }) => {
                give_up(number);
                INTERVAL
            }
            Err(FileError::Damaged(damage)) if is_of_history(&damage, &journal.directory, number) => {
                self.shared.history_is_damaged();
                tracing::error!(core, segment = number.0, %damage, "a segment cannot be archived; it is kept, and passed over until the next start");
                progress.kept_from.get_or_insert(number);
                progress.archived_below = number.next();
                Duration::ZERO
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

    /// Archives a segment. An archive that is damaged, or of something else, is written again; it goes only when another one has taken its place.
    fn archive(&self, source: &SegmentSource<'_>, number: SegmentNumber) -> Result<Option<ArchiveSummary>, FileError> {
        let dimension_count = self.shared.dimensions.len();
        let keys = |record: &Record<'_>, keys: &mut Vec<u64>| put_record_keys(record, dimension_count, keys);
        let pause = |_| self.goes_on();
        match archive_segment(source, number, keys, pause) {
            // One of another version is not ours to replace.
            Err(FileError::Damaged(damage))
                if damage.path == archive_path(source.directory, number)
                    && !matches!(damage.fault, FileFault::UnknownVersion(_)) =>
            {
                tracing::error!(%damage, "an archive is of no use; it is made again if its segment is whole");
                archive_segment_again(source, number, keys, pause)
            }
            result => result,
        }
    }

    /// Archives what a journal without a core has left, and frees its segments.
    fn archive_history(&self, journal: &DirectoryJournal, end: JournalEnd) -> Result<(), FileError> {
        let source = self.source(journal.id, &journal.directory, Some(end));
        let dimension_count = self.shared.dimensions.len();
        let keys = |record: &Record<'_>, keys: &mut Vec<u64>| put_record_keys(record, dimension_count, keys);
        let pause = |_| self.goes_on();
        let Some(first) = JournalFiles::read(&journal.directory)?.segments.first().copied() else {
            return Ok(());
        };
        for number in (first.0..end.segment.0).map(SegmentNumber) {
            if self.archive(&source, number)?.is_none() {
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
            .map(|journal| (journal.id, &journal.directory, None, journal.recovered_from));
        let history = history
            .iter()
            .map(|(journal, end)| (journal.id, &journal.directory, Some(*end), end.segment.next()));
        for (journal, directory, end, before) in history.chain(running) {
            let source = self.source(journal, directory, end);
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

/// Whether the damage is to a segment or an archive with this number, or to that behind it, which tells where it ends: trying again does not help then.
fn is_of_history(damage: &FileDamage, journal: &Path, number: SegmentNumber) -> bool {
    let name = damage.path.file_stem().and_then(|name| name.to_str());
    let of = name.and_then(|name| name.parse().ok());
    damage.path.starts_with(journal) && of.is_some_and(|of| [number, number.next()].contains(&SegmentNumber(of)))
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
