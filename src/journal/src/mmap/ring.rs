//! Where the next segment's file comes from.
//!
//! A file that is used again keeps its bytes, so nothing but its name is written. That is safe, because:
//! - its header names another number than the file then does, so it is no segment until a header for that number is stored, and then its records
//!   count only under the new incarnation: those that are left over have another seed;
//! - a file whose header *is* valid for the number is never used for it: recovery removes such files behind the end of a journal, and here it is
//!   looked for once more;
//! - the new name is durable before the journal gets the file, and that the old segment is not needed is durable before its name goes;
//! - a reader that leases the old segment keeps it as it is: the file is passed over while a lease is held, and never waited for.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::archive::archive_path;
use crate::control::ControlField;
use crate::error::{Action, StorageError};
use crate::header::{HEADER_SIZE, HeaderExpectation, HeaderFault, SegmentHeader};
use crate::identifier::{JournalId, SegmentNumber};
use crate::mmap::mapping::MmapControl;
use crate::mmap::prepare::{prepare_segment, rename_to_free_name};
use crate::mmap::{AppendedSegment, CONTROL_FILE_NAME, open_file, read_through, segment_path, size_of, sync_directory};

/// The files of a journal.
#[derive(Debug)]
pub(super) struct SegmentFiles {
    pub(super) directory: PathBuf,
    pub(super) journal: JournalId,
    pub(super) segment_size: usize,
    pub(super) control: Option<Arc<MmapControl>>,
    /// All segments and prepared files.
    pub(super) files: BTreeSet<SegmentNumber>,
    /// Those that recovery found behind the end of the journal, never used.
    pub(super) unused: BTreeSet<SegmentNumber>,
    /// Segments below this are given up.
    pub(super) needed_from: SegmentNumber,
    pub(super) file_count_max: usize,
}

/// What came of an attempt to get a segment.
pub(super) enum Attempt {
    Prepared(AppendedSegment),
    /// It was told to stop before the segment was ready.
    Stopped,
    /// There are as many files as may be, and none can be used again yet. If some cannot because they are leased, trying again later may help.
    AtEnd {
        is_leased: bool,
    },
}

/// What came of an attempt to use a file again.
enum Reuse {
    Prepared(AppendedSegment),
    /// Somebody reads it.
    Leased,
    /// It is of no use.
    Unfit,
    /// It was told to stop. The file is as it was.
    Stopped,
}

impl SegmentFiles {
    /// Gets the segment with this number, from an unused file, from a segment that is given up, or, if there may be one more, by writing a file.
    /// `newest_sealed` and what is below is not written to any more.
    pub(super) fn attempt(
        &mut self,
        number: SegmentNumber,
        newest_sealed: SegmentNumber,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<Attempt, StorageError> {
        // First the one that has the name already: nothing else can take its place. Then those whose turn by name would come last.
        let mut unused: Vec<_> = self.unused.iter().copied().collect();
        unused.sort_by_key(|file| (*file != number, Reverse(*file)));
        for file in unused {
            match self.reuse(file, number, is_stopping)? {
                Reuse::Prepared(segment) => return Ok(Attempt::Prepared(segment)),
                Reuse::Stopped => return Ok(Attempt::Stopped),
                Reuse::Leased | Reuse::Unfit => self.discard(file)?,
            }
        }
        let mut is_leased = false;
        for file in self.recyclable(newest_sealed) {
            match self.reuse(file, number, is_stopping)? {
                Reuse::Prepared(segment) => return Ok(Attempt::Prepared(segment)),
                Reuse::Stopped => return Ok(Attempt::Stopped),
                Reuse::Leased => is_leased = true,
                Reuse::Unfit => self.discard(file)?,
            }
        }
        if self.files.len() >= self.file_count_max {
            return Ok(Attempt::AtEnd { is_leased });
        }
        Ok(
            match prepare_segment(&self.directory, number, self.segment_size, is_stopping)? {
                Some(segment) => {
                    self.files.insert(number);
                    Attempt::Prepared(segment)
                }
                None => Attempt::Stopped,
            },
        )
    }

    /// Removes segments that are given up while there are more files than may be.
    pub(super) fn trim(&mut self, newest_sealed: SegmentNumber) -> Result<(), StorageError> {
        if self.files.len() <= self.file_count_max {
            return Ok(());
        }
        for number in self.recyclable(newest_sealed) {
            if self.files.len() <= self.file_count_max {
                break;
            }
            let path = segment_path(&self.directory, number);
            let Some(file) = open_file(&path)? else { continue };
            if try_lock(&file, &path)? {
                self.publish_needed()?;
                self.discard(number)?;
            }
        }
        Ok(())
    }

    /// Segments that are given up and whose archive is there, oldest first.
    fn recyclable(&self, newest_sealed: SegmentNumber) -> Vec<SegmentNumber> {
        self.files
            .range(..self.needed_from.min(newest_sealed.next()))
            .filter(|number| archive_path(&self.directory, **number).exists())
            .copied()
            .collect()
    }

    /// Gives the file the number, if nobody reads it.
    fn reuse(
        &mut self,
        from: SegmentNumber,
        to: SegmentNumber,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<Reuse, StorageError> {
        let (path, named) = (segment_path(&self.directory, from), segment_path(&self.directory, to));
        let Some(mut file) = open_file(&path)? else {
            self.files.remove(&from);
            return Ok(Reuse::Unfit);
        };
        if !try_lock(&file, &path)? {
            return Ok(Reuse::Leased);
        }
        if size_of(&file, &path)? != self.segment_size as u64 || !self.is_invalid_as(&mut file, &path, to)? {
            return Ok(Reuse::Unfit);
        }
        // A file that was copied here may have holes, and writing into a hole can fail for want of room.
        match fallocate(&file, FallocateFlags::empty(), 0, self.segment_size as u64) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Ok(Reuse::Unfit),
            Err(error) => return Err(StorageError::io(Action::Write, &path)(error.into())),
        }
        // A page that cannot be read is found here, not when it is needed; and the others are in memory then.
        match read_through(&mut file, &path, is_stopping) {
            Ok(true) => {}
            Ok(false) => return Ok(Reuse::Stopped),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a segment cannot be used again"
                );
                return Ok(Reuse::Unfit);
            }
        }
        if from < self.needed_from {
            self.publish_needed()?;
        }
        if from != to {
            rename_to_free_name(&path, &named)?;
            self.files.remove(&from);
            self.unused.remove(&from);
            self.files.insert(to);
            // Until it is handed out: if the sync fails, the next attempt finds it under its new name.
            self.unused.insert(to);
        }
        sync_directory(&self.directory)?;
        // The journal would keep the lock as long as it has the file.
        file.unlock().map_err(StorageError::io(Action::Lock, &named))?;
        self.unused.remove(&to);
        Ok(Reuse::Prepared(AppendedSegment::new(file, to, self.segment_size)))
    }

    /// Whether the file would be no segment under this number.
    fn is_invalid_as(&self, file: &mut File, path: &Path, number: SegmentNumber) -> Result<bool, StorageError> {
        let mut header = [0; HEADER_SIZE];
        file.read_exact(&mut header)
            .map_err(StorageError::io(Action::Read, path))?;
        let expected = HeaderExpectation {
            journal: self.journal,
            number,
            file_size: self.segment_size,
        };
        Ok(SegmentHeader::decode(&header, expected) == Err(HeaderFault::NotValid))
    }

    /// Removes a file that is unused or given up.
    fn discard(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        let path = segment_path(&self.directory, number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io(Action::Remove, &path)(error));
            }
            _ => {}
        }
        self.files.remove(&number);
        self.unused.remove(&number);
        sync_directory(&self.directory)
    }

    /// Makes durable what is given up, before anything of it goes.
    fn publish_needed(&self) -> Result<(), StorageError> {
        let Some(control) = &self.control else { return Ok(()) };
        if control.load(ControlField::OldestSegment) < self.needed_from.0 {
            control.store(ControlField::OldestSegment, self.needed_from.0);
        }
        let path = self.directory.join(CONTROL_FILE_NAME);
        File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(StorageError::io(Action::Sync, &path))
    }
}

/// Takes the file for this process alone, for as long as it is open. Whether that was possible at once.
pub(crate) fn try_lock(file: &File, path: &Path) -> Result<bool, StorageError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(StorageError::io(Action::Lock, path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::identifier::Lsn;

    const SIZE: usize = 65536;
    const JOURNAL: JournalId = JournalId([6; 16]);

    /// A directory with one unused file under this number.
    fn unused(directory: &Path, number: SegmentNumber, file_count_max: usize) -> SegmentFiles {
        SegmentFiles {
            directory: directory.to_owned(),
            journal: JOURNAL,
            segment_size: SIZE,
            control: None,
            files: BTreeSet::from([number]),
            unused: BTreeSet::from([number]),
            needed_from: SegmentNumber::FIRST,
            file_count_max,
        }
    }

    fn attempt(files: &mut SegmentFiles, number: u64) -> Attempt {
        files
            .attempt(SegmentNumber(number), SegmentNumber(0), &|| false)
            .expect("there is room")
    }

    #[test]
    fn a_file_with_a_header_for_the_number_never_gets_it() {
        for (header_number, is_used) in [(7, false), (8, true)] {
            let directory = tempfile::tempdir().expect("a directory for the test");
            let header = SegmentHeader {
                journal: JOURNAL,
                number: SegmentNumber(header_number),
                incarnation: 1,
                first_lsn: Lsn(1),
                file_size: SIZE as u64,
                opened_at: 0,
                durable_lsn: Lsn(0),
                previous_incarnation: 0,
            };
            let mut bytes = header.encode().to_vec();
            bytes.resize(SIZE, 0xEE);
            let path = segment_path(directory.path(), SegmentNumber(9));
            fs::write(&path, bytes).expect("written");
            let keeper = File::open(&path).expect("it is there");
            let mut files = unused(directory.path(), SegmentNumber(9), 9);
            assert!(matches!(attempt(&mut files, 7), Attempt::Prepared(_)));
            let named = fs::metadata(segment_path(directory.path(), SegmentNumber(7))).expect("it is there");
            let inode = keeper.metadata().expect("it is open").ino();
            assert_eq!(named.ino() == inode, is_used, "header of {header_number}");
            assert!(!path.exists());
            assert_eq!(files.files, BTreeSet::from([SegmentNumber(7)]));
        }
    }

    #[test]
    fn stops_within_a_file_and_leaves_it_as_it_is() {
        use std::cell::Cell;

        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = segment_path(directory.path(), SegmentNumber(9));
        let mut file = File::create(&path).expect("made");
        io::Write::write_all(&mut file, &[0xEE; SIZE]).expect("written");
        let mut files = unused(directory.path(), SegmentNumber(9), 9);
        let asked = Cell::new(0);
        let is_stopping = || asked.replace(asked.get() + 1) == 1;
        let attempt_at = |files: &mut SegmentFiles| {
            files
                .attempt(SegmentNumber(7), SegmentNumber(0), &is_stopping)
                .expect("there is room")
        };
        // Asked before the first read, then before the one that would find the end.
        assert!(matches!(attempt_at(&mut files), Attempt::Stopped));
        assert_eq!((asked.get(), path.exists()), (2, true));
        assert_eq!(files.unused, BTreeSet::from([SegmentNumber(9)]));
        assert!(matches!(attempt_at(&mut files), Attempt::Prepared(_)));
        assert!(!path.exists());
    }

    #[test]
    fn holes_are_filled_before_a_file_is_used_again() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = segment_path(directory.path(), SegmentNumber(1));
        let file = File::create(&path).expect("made");
        file.set_len(SIZE as u64).expect("it has a size");
        let blocks = || file.metadata().expect("it is open").blocks() * 512;
        assert!(blocks() < SIZE as u64);
        let mut files = unused(directory.path(), SegmentNumber(1), 1);
        assert!(matches!(attempt(&mut files, 1), Attempt::Prepared(_)));
        assert!(blocks() >= SIZE as u64);
        assert!(matches!(attempt(&mut files, 2), Attempt::AtEnd { is_leased: false }));
    }
}
