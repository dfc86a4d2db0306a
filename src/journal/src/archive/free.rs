//! Removing segments whose archive is enough.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::archive::segment::{SegmentReader, SegmentSource};
use crate::archive::{archive_path, verify_archive};
use crate::control::ControlField;
use crate::damage::{FileDamage, FileError, FileFault, SourceFile};
use crate::error::{Action, StorageError};
use crate::identifier::SegmentNumber;
use crate::mmap::{CONTROL_FILE_NAME, sync_directory, try_lock};

/// Removes the segments of a journal **without a core**, from the first to `last`, up to the first one that has no
/// archive. Each archive is read to its end before its segment goes. A segment that somebody leases is passed over; a
/// later call finds it. Returns how many are gone, durably.
///
/// The caller holds the lock of the data directory. A journal with a core gives its segments up by
/// [`crate::Recycler::give_up`] instead.
///
/// `pause` is called now and then with the bytes read since; when it breaks, the rest stays.
///
/// # Errors
/// Damage of an archive, or one that is of something else than its segment: this segment and those behind it stay.
/// Others may be retried.
pub fn free_archived(
    source: &SegmentSource<'_>,
    last: SegmentNumber,
    mut pause: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<u64, FileError> {
    let mut freed = 0;
    for number in (SegmentNumber::FIRST.0..=last.0).map(SegmentNumber) {
        let path = source.segment_path(number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(StorageError::io(Action::Open, &path)(error).into()),
        };
        let archive = archive_path(source.directory, number);
        if SourceFile::open_if_there(&archive)?.is_none() {
            break;
        }
        let Some(summary) = verify_archive(&archive, &mut pause)? else {
            break;
        };
        let Some(segment) = SegmentReader::open(source, number)? else {
            continue;
        };
        if !summary.is_of(segment.header()) {
            let fault = FileFault::OtherSegment;
            let damage = FileDamage {
                path: archive,
                offset: 0,
                fault,
            };
            return Err(damage.into());
        }
        // Its own lease is one too many.
        drop(segment);
        if !try_lock(&file, &path)? {
            continue;
        }
        publish_needed(source, number.next())?;
        fs::remove_file(&path).map_err(StorageError::io(Action::Remove, &path))?;
        freed += 1;
    }
    if freed > 0 {
        sync_directory(source.directory)?;
    }
    Ok(freed)
}

/// Makes durable what is given up, before it goes.
fn publish_needed(source: &SegmentSource<'_>, oldest: SegmentNumber) -> Result<(), FileError> {
    if source.control()?.oldest_segment >= oldest {
        return Ok(());
    }
    let path = source.directory.join(CONTROL_FILE_NAME);
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(StorageError::io(Action::Open, &path))?;
    file.write_all_at(&oldest.0.to_le_bytes(), ControlField::OldestSegment.offset() as u64)
        .map_err(StorageError::io(Action::Write, &path))?;
    Ok(file.sync_data().map_err(StorageError::io(Action::Sync, &path))?)
}
