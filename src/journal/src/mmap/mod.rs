//! Segments and the control page in files. Recovery reads segments through mappings; what is appended is written (`appended.rs`).
//!
//! Invariants:
//! - A file is allocated and written in full before it gets its name and before it is appended to, so that writing into it neither fails for want of room nor
//!   changes its metadata.
//! - The files of a journal belong to the one process that holds the lock of the data directory. Only it writes into them or removes them; none
//!   is ever truncated.

mod appended;
mod mapping;
mod prepare;
mod ring;

pub use appended::AppendedSegment;
pub use mapping::{MmapSegment, SegmentFile};
pub use prepare::{Recycler, RingStatus};

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{CONTROL_HEADER_SIZE, ControlField};
use crate::error::{Action, StorageError};
use crate::header::HEADER_SIZE;
use crate::identifier::{JournalId, SegmentNumber};
use crate::limits::{
    PAGE_SIZE, RING_SEGMENT_COUNT_DEFAULT, RING_SEGMENT_COUNT_MAX, RING_SEGMENT_COUNT_MIN, is_segment_size,
};
use crate::storage::{Look, Segment, Storage};

use mapping::MmapControl;
#[cfg(test)]
pub(crate) use prepare::prepare_segment;
use prepare::{PIECE_BYTES, Preparer};
pub(crate) use ring::try_lock;
use ring::{Attempt, SegmentFiles};

/// The name of the control page's file.
pub(crate) const CONTROL_FILE_NAME: &str = "control";

const SEGMENT_SUFFIX: &str = ".segment";
const NEW_SUFFIX: &str = ".segment.new";
const NUMBER_DIGIT_COUNT: usize = 10;

/// How many segments are kept prepared, and how many files there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    segment_count: usize,
    file_count_max: usize,
}

impl Ring {
    /// That many prepared ones, or the nearest number from [`RING_SEGMENT_COUNT_MIN`] to [`RING_SEGMENT_COUNT_MAX`], and as many files as the disk
    /// has room for.
    pub fn new(segment_count: usize) -> Ring {
        Ring {
            segment_count: segment_count.clamp(RING_SEGMENT_COUNT_MIN, RING_SEGMENT_COUNT_MAX),
            file_count_max: usize::MAX,
        }
    }

    /// The same with at most so many files, prepared ones included; at least two more than the prepared ones. When there are as many, segments are
    /// used again that were given up ([`Recycler::give_up`]); while none is, the journal is full.
    #[must_use]
    pub fn with_file_count_max(self, file_count_max: usize) -> Ring {
        Ring {
            file_count_max: file_count_max.max(self.segment_count + 2),
            ..self
        }
    }

    /// How many are prepared.
    pub fn segment_count(self) -> usize {
        self.segment_count
    }

    /// How many files there may be.
    pub fn file_count_max(self) -> usize {
        self.file_count_max
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new(RING_SEGMENT_COUNT_DEFAULT)
    }
}

/// Keeps a journal in the files of one directory.
///
/// A background thread, started when recovery opens the first segment, prepares segments ahead. It stops when this is dropped.
#[derive(Debug)]
pub struct MmapStorage {
    directory: PathBuf,
    journal: JournalId,
    segment_size: usize,
    ring: Ring,
    control: Option<Arc<MmapControl>>,
    /// Files behind the end of the journal that recovery has no use for.
    unused: BTreeSet<SegmentNumber>,
    /// The oldest segment that recovery reads: it must be able to begin there once more.
    recovered_from: Option<SegmentNumber>,
    preparer: Option<Preparer>,
    /// A full segment could not be written.
    failed: Option<StorageError>,
}

impl MmapStorage {
    /// Opens the directory of a journal. The caller holds the lock of the data directory ([`crate::Directory`]). What an earlier process left half
    /// prepared is removed.
    ///
    /// # Errors
    /// When the directory cannot be read or the control page not be mapped. A missing control page is no error here: recovery reports it.
    pub fn open(
        directory: &Path,
        journal: JournalId,
        segment_size: usize,
        ring: Ring,
    ) -> Result<MmapStorage, StorageError> {
        if !is_segment_size(segment_size) {
            return Err(StorageError::SegmentSize { bytes: segment_size });
        }
        for name in file_names(directory)? {
            if is_half_prepared(&name) {
                let path = directory.join(&name);
                fs::remove_file(&path).map_err(StorageError::io(Action::Remove, &path))?;
            }
        }
        let path = directory.join(CONTROL_FILE_NAME);
        let control = match open_file(&path)? {
            Some(file) if size_of(&file, &path)? == PAGE_SIZE as u64 => Some(Arc::new(MmapControl::map(file, &path)?)),
            _ => None,
        };
        Ok(MmapStorage {
            directory: directory.to_owned(),
            journal,
            segment_size,
            ring,
            control,
            unused: BTreeSet::new(),
            recovered_from: None,
            preparer: None,
            failed: None,
        })
    }

    /// The file of a segment, for the caller's syncs.
    pub fn segment_path(&self, number: SegmentNumber) -> PathBuf {
        segment_path(&self.directory, number)
    }

    /// The file of the control page, for the caller's syncs.
    pub fn control_path(&self) -> PathBuf {
        self.directory.join(CONTROL_FILE_NAME)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What tells which segments are not needed any more; nothing before recovery.
    pub fn recycler(&self) -> Option<Recycler> {
        self.preparer.as_ref().map(Preparer::recycler)
    }

    fn open_existing(&self, path: &Path) -> Result<File, StorageError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(StorageError::io(Action::Open, path))
    }
}

impl Storage for MmapStorage {
    type Segment = SegmentFile;

    fn journal_id(&self) -> JournalId {
        self.journal
    }

    fn segment_size(&self) -> usize {
        self.segment_size
    }

    fn take_prepared(&mut self, number: SegmentNumber) -> Option<SegmentFile> {
        self.preparer.as_mut()?.take(number).map(SegmentFile::Appended)
    }

    fn write_out(&mut self, segment: &mut SegmentFile, is_durable: bool) -> Result<(), StorageError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        segment
            .write_out(is_durable)
            .map_err(|source| StorageError::io(Action::Write, &self.segment_path(segment.number()))(source))
    }

    fn retire(&mut self, mut segment: SegmentFile) {
        if let Err(error) = self.write_out(&mut segment, false) {
            self.failed = Some(error);
        }
    }

    fn prepared_count(&self) -> usize {
        self.preparer.as_ref().map_or(0, Preparer::prepared_count)
    }

    fn is_full(&self) -> bool {
        self.preparer.as_ref().is_some_and(Preparer::is_full)
    }

    fn is_exhausted(&self) -> bool {
        self.preparer.as_ref().is_some_and(Preparer::is_exhausted)
    }

    fn control_header(&self) -> Option<[u8; CONTROL_HEADER_SIZE]> {
        self.control.as_ref().map(|control| control.header())
    }

    fn control_load(&self, field: ControlField) -> u64 {
        self.control
            .as_ref()
            .expect("recovery has seen the control page")
            .load(field)
    }

    fn control_store(&mut self, field: ControlField, value: u64) {
        self.control
            .as_ref()
            .expect("recovery has seen the control page")
            .store(field, value);
    }

    fn segments(&mut self) -> Result<Vec<SegmentNumber>, StorageError> {
        Ok(file_names(&self.directory)?
            .iter()
            .filter_map(|name| segment_number(name))
            .collect())
    }

    fn look(&mut self, number: SegmentNumber) -> Result<Look, StorageError> {
        let path = self.segment_path(number);
        let Some(mut file) = open_file(&path)? else {
            return Ok(Look::Missing);
        };
        if size_of(&file, &path)? != self.segment_size as u64 {
            return Ok(Look::WrongSize);
        }
        let mut header = [0; HEADER_SIZE];
        file.read_exact(&mut header)
            .map_err(StorageError::io(Action::Read, &path))?;
        Ok(Look::Header(header))
    }

    fn open(&mut self, number: SegmentNumber) -> Result<SegmentFile, StorageError> {
        self.recovered_from = Some(self.recovered_from.map_or(number, |first| first.min(number)));
        let path = self.segment_path(number);
        let mut file = self.open_existing(&path)?;
        MmapSegment::map(&mut file, number, self.segment_size, &path).map(SegmentFile::Mapped)
    }

    fn remove(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        let path = self.segment_path(number);
        fs::remove_file(&path).map_err(StorageError::io(Action::Remove, &path))
    }

    fn keep_unused(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        self.unused.insert(number);
        Ok(())
    }

    fn sync_removals(&mut self) -> Result<(), StorageError> {
        sync_directory(&self.directory)
    }

    fn prepare(&mut self, number: SegmentNumber) -> Result<SegmentFile, StorageError> {
        assert!(self.preparer.is_none(), "recovery prepares one segment");
        let files = self.segments()?.into_iter().collect();
        // What an earlier run gave up durably may be used at once, so that a start on a full disk needs no new file.
        // Not so what recovery had to read all the same, because no snapshot was whole.
        let given_up_below = self.control.as_ref().map_or(SegmentNumber::FIRST, |control| {
            SegmentNumber(control.load(ControlField::OldestSegment))
        });
        let recovered_from = self.recovered_from.unwrap_or(SegmentNumber::FIRST);
        let newest_sealed = SegmentNumber(number.0 - 1);
        let mut files = SegmentFiles {
            directory: self.directory.clone(),
            journal: self.journal,
            segment_size: self.segment_size,
            control: self.control.clone(),
            files,
            unused: std::mem::take(&mut self.unused),
            needed_from: given_up_below.min(recovered_from),
            // A start needs a segment, whatever else there is.
            file_count_max: usize::MAX,
        };
        let segment = match files.attempt(number, newest_sealed, &|| false)? {
            Attempt::Prepared(segment) => segment,
            Attempt::Stopped | Attempt::AtEnd { .. } => unreachable!("nobody asked to stop, and there is no end"),
        };
        files.file_count_max = self.ring.file_count_max();
        let preparer = Preparer::start(files, number.next(), self.ring)?;
        self.preparer = Some(preparer);
        Ok(SegmentFile::Appended(segment))
    }

    fn sync_segment(&mut self, segment: &SegmentFile) -> Result<(), StorageError> {
        let path = self.segment_path(segment.number());
        self.open_existing(&path)?
            .sync_data()
            .map_err(StorageError::io(Action::Sync, &path))
    }

    fn sync_control(&mut self) -> Result<(), StorageError> {
        let path = self.control_path();
        self.open_existing(&path)?
            .sync_data()
            .map_err(StorageError::io(Action::Sync, &path))
    }
}

pub(crate) fn segment_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    directory.join(format!("{:0NUMBER_DIGIT_COUNT$}{SEGMENT_SUFFIX}", number.0))
}

fn new_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    directory.join(format!("{:0NUMBER_DIGIT_COUNT$}{NEW_SUFFIX}", number.0))
}

/// The number in the name of a segment's file; nothing for other files.
pub(crate) fn segment_number(name: &str) -> Option<SegmentNumber> {
    parse_number(name.strip_suffix(SEGMENT_SUFFIX)?)
}

/// Whether this is the name of a segment that is being prepared.
pub(crate) fn is_half_prepared(name: &str) -> bool {
    name.strip_suffix(NEW_SUFFIX).and_then(parse_number).is_some()
}

pub(crate) fn parse_number(digits: &str) -> Option<SegmentNumber> {
    if digits.len() != NUMBER_DIGIT_COUNT || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0).map(SegmentNumber)
}

/// The names of a directory's entries, those without a name in UTF-8 left out: none of ours is.
pub(crate) fn file_names(directory: &Path) -> Result<Vec<String>, StorageError> {
    let entries = fs::read_dir(directory).map_err(StorageError::io(Action::Read, directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io(Action::Read, directory))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Makes durable which entries a directory has.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    let file = File::open(directory).map_err(StorageError::io(Action::Open, directory))?;
    file.sync_all().map_err(StorageError::io(Action::Sync, directory))
}

fn open_file(path: &Path) -> Result<Option<File>, StorageError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(Action::Open, path)(error)),
    }
}

fn size_of(file: &File, path: &Path) -> Result<u64, StorageError> {
    Ok(file.metadata().map_err(StorageError::io(Action::Read, path))?.len())
}

/// Reads the file to its end. False when it is to stop before that, which it is asked between pieces.
fn read_through(file: &mut File, path: &Path, is_stopping: &dyn Fn() -> bool) -> Result<bool, StorageError> {
    let mut buffer = vec![0; PIECE_BYTES];
    while !is_stopping() {
        if file.read(&mut buffer).map_err(StorageError::io(Action::Read, path))? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
