//! Getting a core's state back: from its newest snapshot that is whole, and the journal behind it.

use std::path::Path;
use std::time::Instant;

use plimsoll_domain::{Restoring, Timestamp};
use plimsoll_engine::{Engine, EngineOptions, Recovered, RecoveryBase};
use plimsoll_journal::{
    ArchiveReader, DirectoryError, DirectoryJournal, DirectorySnapshot, FileError, FileFault, JournalFiles, Lsn,
    MmapStorage, RecoveryError, Ring, SegmentNumber, SnapshotReader, archive_path,
};

use crate::fatal::Fatal;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read, or is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its bytes are not pieces of a state.
    #[error(transparent)]
    Bytes(#[from] plimsoll_record::SnapshotError),
    /// Its pieces do not make a state.
    #[error(transparent)]
    State(#[from] plimsoll_domain::RestoreError),
}

impl SnapshotError {
    /// Whether the file is whole, and this program does not know what stands in it.
    fn is_of_another_version(&self) -> bool {
        match self {
            SnapshotError::File(error) => is_of_another_version(error),
            SnapshotError::Bytes(error) => matches!(error, plimsoll_record::SnapshotError::UnknownKind { .. }),
            SnapshotError::State(_) => false,
        }
    }
}

/// Whether the file is whole, and of a format that this program does not know.
pub(crate) fn is_of_another_version(error: &FileError) -> bool {
    matches!(error, FileError::Damaged(damage) if matches!(damage.fault, FileFault::UnknownVersion(_)))
}

/// Refuses a journal whose newest archive is of a format that this program does not know: a newer program has run on the directory. Damage is told later,
/// since nothing that is served rests on an archive.
pub(crate) fn refuse_newer_archive(journal: &DirectoryJournal) -> Result<(), Fatal> {
    let files = JournalFiles::read(&journal.directory).map_err(DirectoryError::from)?;
    let Some(number) = files.archives.last() else {
        return Ok(());
    };
    let path = archive_path(&journal.directory, *number);
    match ArchiveReader::open(&path) {
        Err(error) if is_of_another_version(&error) => Err(Fatal::Newer {
            path,
            source: Box::new(error.into()),
        }),
        _ => Ok(()),
    }
}

/// What a core's state is got back from.
pub(crate) struct Source<'start> {
    pub(crate) journal: &'start DirectoryJournal,
    /// The newest first.
    pub(crate) snapshots: &'start [DirectorySnapshot],
    /// Whether the journal began with a snapshot, and so cannot be read from an empty state on.
    pub(crate) began_with_snapshot: bool,
    pub(crate) segment_size: usize,
    pub(crate) ring: Ring,
    pub(crate) options: EngineOptions,
}

/// A core's engine, and where reading its journal began.
pub(crate) struct RecoveredCore {
    pub(crate) recovered: Recovered<MmapStorage>,
    pub(crate) first_segment: SegmentNumber,
    /// Snapshots that are damaged.
    pub(crate) passed_over: Vec<Lsn>,
}

/// Gets the state back. A snapshot that is damaged is passed over, loudly.
pub(crate) fn recover(
    source: &Source<'_>,
    now: Timestamp,
    random: impl FnMut() -> u64 + 'static,
) -> Result<RecoveredCore, Fatal> {
    let begun = Instant::now();
    let mut passed_over = Vec::new();
    let base = newest_base(source, &mut passed_over)?;
    let restored_in = begun.elapsed();
    let path = &source.journal.directory;
    let failed = |source| Fatal::Recovery {
        path: path.clone(),
        source: Box::new(source),
    };
    let storage = MmapStorage::open(path, source.journal.id, source.segment_size, source.ring)
        .map_err(|error| failed(RecoveryError::Storage(error)))?;
    let first_segment = base.as_ref().map_or(SegmentNumber::FIRST, |base| base.start.segment);
    let from_lsn = base.as_ref().map_or(0, |base| base.start.lsn.0);
    let recovered = Engine::recover(storage, source.options, base, now, random).map_err(failed)?;
    tracing::info!(
        core = source.journal.core,
        from_lsn,
        ?restored_in,
        summary = ?recovered.summary,
        elapsed = ?begun.elapsed(),
        "state recovered"
    );
    Ok(RecoveredCore {
        recovered,
        first_segment,
        passed_over,
    })
}

fn newest_base(source: &Source<'_>, passed_over: &mut Vec<Lsn>) -> Result<Option<RecoveryBase>, Fatal> {
    let mut first_error = None;
    for snapshot in source.snapshots {
        match restore(&snapshot.path, source.options) {
            Ok(base) => return Ok(Some(base)),
            Err(error) if error.is_of_another_version() => {
                return Err(Fatal::Newer {
                    path: snapshot.path.clone(),
                    source: Box::new(error),
                });
            }
            Err(error) => {
                tracing::error!(
                    path = %snapshot.path.display(),
                    error = &error as &dyn std::error::Error,
                    "a snapshot is damaged and passed over; an older one, or the whole journal, takes its place"
                );
                passed_over.push(snapshot.lsn);
                first_error.get_or_insert((snapshot.path.clone(), error));
            }
        }
    }
    match first_error {
        // Reading from the first segment on is as good, unless the journal took over from another one.
        Some((path, source_error)) if source.began_with_snapshot => Err(Fatal::Snapshot {
            path,
            source: Box::new(source_error),
        }),
        _ => Ok(None),
    }
}

fn restore(path: &Path, options: EngineOptions) -> Result<RecoveryBase, SnapshotError> {
    let mut reader = SnapshotReader::open(path)?;
    let start = reader.header().into();
    let mut restoring = Restoring::new(options.state);
    while let Some(chunk) = reader.next_chunk()? {
        plimsoll_record::decode_pieces(chunk, options.state.dimension_count, |piece| {
            restoring.take(&piece).map_err(SnapshotError::from)
        })?;
    }
    Ok(RecoveryBase {
        state: restoring.before_replay()?,
        start,
    })
}
