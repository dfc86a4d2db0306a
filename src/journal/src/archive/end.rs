//! Whether a journal ends where its control page says.

use std::path::PathBuf;

use crate::archive::segment::{JournalFiles, SegmentReader, SegmentSource};
use crate::archive::{archive_path, open_archive};
use crate::control::{ControlField, ControlValues};
use crate::damage::{FileDamage, FileError, FileFault};
use crate::identifier::{Lsn, SegmentNumber};
use crate::mmap::CONTROL_FILE_NAME;
use crate::record::as_commit;

/// Holds the control page, whose live fields have no checksum, against the records behind what it says, and against the manifest if the journal has no
/// core; and looks for archives of segments that the journal does not have. Also while the journal runs. Reads the newest segment; changes nothing.
///
/// A machine that lost its power can leave a page that says less, too: the next start reads on, as far as anything proves.
///
/// # Errors
/// Damage; others may be retried.
pub fn check_end(source: &SegmentSource<'_>) -> Result<(), FileError> {
    // Listed before the page is read: an archive is of a segment below the newest that the page speaks of by then.
    let archives = JournalFiles::read(source.directory)?.archives;
    check_control(source)?;
    let (_, newest) = source.durable()?;
    if let Some(number) = archives.iter().find(|number| **number > newest) {
        return Err(damaged(
            archive_path(source.directory, *number),
            0,
            FileFault::BehindEnd,
        ));
    }
    if archives.last() == Some(&newest)
        && let Some(archive) = open_archive(source, newest)?
        && let Some(segment) = SegmentReader::open(source, newest)?
        && !archive.summary().is_of(segment.header())
    {
        return Err(damaged(
            archive_path(source.directory, newest),
            0,
            FileFault::OtherSegment,
        ));
    }
    Ok(())
}

fn check_control(source: &SegmentSource<'_>) -> Result<(), FileError> {
    let path = source.directory.join(CONTROL_FILE_NAME);
    let control = source.control()?;
    let durable_offset = ControlField::DurableLsn.offset() as u64;
    if let Some(end) = source.end {
        if (control.durable_lsn, control.newest_durable_segment) != (end.lsn, end.segment) {
            return Err(damaged(path, durable_offset, FileFault::OtherEnd));
        }
        return Ok(());
    }
    let (durable, newest) = proven_behind(source, control)?;
    // The page is written before any record says so, so one that is read now says it too.
    let control = source.control()?;
    if durable > control.durable_lsn {
        return Err(damaged(path, durable_offset, FileFault::SaysLess));
    }
    if newest > control.newest_durable_segment {
        let offset = ControlField::NewestDurableSegment.offset() as u64;
        return Err(damaged(path, offset, FileFault::SaysLess));
    }
    Ok(())
}

/// The LSN that the newest durable segment and those behind it prove to have been durable, and the last segment of which something must be.
fn proven_behind(source: &SegmentSource<'_>, control: ControlValues) -> Result<(Lsn, SegmentNumber), FileError> {
    let mut durable = Lsn(0);
    let mut newest = control.newest_durable_segment;
    let mut number = newest.max(SegmentNumber::FIRST);
    loop {
        let mut reader = match SegmentReader::open(source, number) {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok((durable, newest)),
            // A file that is only prepared has no header.
            Err(FileError::Damaged(_)) if number > control.newest_durable_segment => return Ok((durable, newest)),
            Err(error) => return Err(error),
        };
        durable = durable.max(reader.header().durable_lsn);
        if reader.first_lsn() <= control.durable_lsn {
            newest = newest.max(number);
        }
        while let Some(record) = reader.next_record()? {
            if let Some(commit) = as_commit(&record) {
                durable = durable.max(commit.durable_lsn);
            }
        }
        number = number.next();
    }
}

fn damaged(path: PathBuf, offset: u64, fault: FileFault) -> FileError {
    FileDamage { path, offset, fault }.into()
}
