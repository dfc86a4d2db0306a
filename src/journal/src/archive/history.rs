//! Checking what recovery does not read.

use std::ops::ControlFlow;

use crate::archive::segment::{SegmentReader, SegmentSource};
use crate::archive::writer::{check_sealed, last_lsn_of};
use crate::archive::{ArchiveSummary, archive_path, verify_archive};
use crate::damage::{FileDamage, FileError, FileFault, SourceFile};
use crate::identifier::SegmentNumber;

/// What a check of history found to be whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySummary {
    /// Archives.
    pub archives: u64,
    /// Sealed segments.
    pub segments: u64,
}

/// Reads every archive and every sealed segment of a journal whose number is below `before`, from the first on: each is whole, continues the one
/// before it, and none is missing both as a segment and as an archive. For a journal that runs, `before` is at most the newest durable segment;
/// for a recovered one, the segment that recovery began with; for one without a core, the number behind its last.
///
/// `pause` is called after at most a megabyte or so with the bytes read since, so that the caller can sleep; when it breaks, the result is nothing. Changes
/// nothing.
///
/// # Errors
/// The first damage; others may be retried.
pub fn check_history(
    source: &SegmentSource<'_>,
    before: SegmentNumber,
    mut pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<HistorySummary>, FileError> {
    let mut summary = HistorySummary::default();
    let mut last: Option<ArchiveSummary> = None;
    for number in (SegmentNumber::FIRST.0..before.0).map(SegmentNumber) {
        let path = archive_path(source.directory, number);
        let mut found = Vec::new();
        // The segment first: it goes only when its archive is there.
        if let Some(reader) = SegmentReader::open(source, number)? {
            let last_lsn = last_lsn_of(source, number)?;
            let Some(segment) = check_sealed(reader, last_lsn, &mut pause)? else {
                return Ok(None);
            };
            summary.segments += 1;
            found.push((segment, source.segment_path(number)));
        }
        if SourceFile::open_if_there(&path)?.is_some() {
            let Some(archive) = verify_archive(&path, &mut pause)? else {
                return Ok(None);
            };
            summary.archives += 1;
            found.push((archive, path));
        }
        let damaged = |path, fault| FileError::Damaged(FileDamage { path, offset: 0, fault });
        if found.is_empty() {
            return Err(damaged(source.segment_path(number), FileFault::Missing));
        }
        for (this, path) in found {
            if this.journal != source.journal {
                return Err(damaged(path, FileFault::OtherJournal(this.journal)));
            }
            let continues = match last {
                None => this.first_lsn.0 == 1 && this.previous_incarnation == 0,
                Some(same) if same.number == number => same == this,
                Some(before) => {
                    this.first_lsn.0 == before.last_lsn.0 + 1 && this.previous_incarnation == before.incarnation
                }
            };
            if !continues {
                return Err(damaged(path, FileFault::DoesNotContinue));
            }
            last = Some(this);
        }
    }
    Ok(Some(summary))
}
