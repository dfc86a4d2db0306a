//! A copy of a data directory, also of one that a server runs on.
//!
//! Why the copy always recovers:
//! - The manifest is read before the control pages. A snapshot that it names was durable by then, so it covers no more than the durable LSN that is
//!   read afterwards.
//! - Of each journal exactly the whole batches up to that durable LSN are copied. They do not change any more, so it does not matter that the journal
//!   runs on meanwhile; and nothing behind them is copied, so nothing there can prove that something is missing.
//! - The copy's control page says what the copy holds.
//! - Snapshots that are opened and segments that are leased stay as they are, and archives are for ever. What was superseded before it could be
//!   opened or leased is in a newer manifest, so that is read again.
//! - The copy gets its manifest last: until then it is no data directory.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::{ARCHIVE_DIRECTORY, ArchiveReader, Batches, SegmentReader, SegmentSource, archive_path};
use crate::bytes::put;
use crate::control::{CONTROL_HEADER_SIZE, ControlField, ControlValues, new_control_page};
use crate::damage::{FileDamage, FileError, FileFault, SourceFile};
use crate::directory::manifest::Manifest;
use crate::directory::{DirectoryError, OF_THE_FILE_SYSTEM, make_path, read_manifest, replace_manifest};
use crate::error::{Action, StorageError};
use crate::header::HEADER_PAGE_SIZE;
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::mmap::{CONTROL_FILE_NAME, file_names, segment_path, sync_directory};
use crate::new_file::NewFile;
use crate::snapshot::SNAPSHOTS_DIRECTORY;

/// So much is copied at once.
const COPY_SIZE: usize = 1024 * 1024;
/// How often the manifest is read again when what it names is superseded before it could be opened.
const ATTEMPT_COUNT_MAX: usize = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(CONTROL_HEADER_SIZE < HEADER_PAGE_SIZE);

/// Why there is no copy. What was copied so far is no data directory; it may be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is there already. Nothing was changed.
    #[error("{} is not empty: choose another place for the copy", path.display())]
    TargetNotEmpty {
        /// Where the copy was to be.
        path: PathBuf,
    },
    /// What is to be copied is no data directory, or the copy's manifest cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file is damaged, or cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StorageError> for BackupError {
    fn from(error: StorageError) -> BackupError {
        BackupError::File(error.into())
    }
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Files that are copied.
    pub files: u64,
    /// Bytes that are copied.
    pub bytes: u64,
}

/// What a copy holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// Files and bytes.
    pub copied: BackupProgress,
    /// The LSN that each journal ends with in the copy.
    pub ends: Vec<(JournalId, Lsn)>,
}

/// Copies the data directory at `from` to `to`, which is made, or is an empty directory. The copy is a data directory of its own, and holds of each
/// journal all that was durable when this was called, and maybe more. It is durable when this returns.
///
/// Changes nothing at `from` and takes no lock, so a server may run there; it needs the right to read the files. Segments are leased until they are
/// copied: a server whose ring has room for little more than its tail may refuse work meanwhile.
///
/// # Errors
/// See [`BackupError`]. With an empty target it may be tried again.
pub fn backup(from: &Path, to: &Path, mut progress: impl FnMut(BackupProgress)) -> Result<BackupSummary, BackupError> {
    refuse_used(to)?;
    let Pinned {
        manifest,
        snapshots,
        journals,
    } = pin(from)?;
    make_path(to)?;
    let mut copy = Copy {
        copied: BackupProgress::default(),
        progress: &mut progress,
    };
    let mut ends = Vec::new();
    let mut archives = Vec::new();
    for journal in journals {
        ends.push((journal.id, journal.control.durable_lsn));
        archives.push((journal.id.directory_name(), journal.archived.clone()));
        copy.journal(to, manifest.segment_size, journal)?;
    }
    for (directory, numbers) in archives {
        let (from, to) = (from.join(&directory), to.join(&directory));
        if !numbers.is_empty() {
            make_directory(&to.join(ARCHIVE_DIRECTORY))?;
        }
        for number in numbers {
            copy.file(
                &SourceFile::open(&archive_path(&from, number))?,
                &archive_path(&to, number),
            )?;
        }
        sync_directory(&to)?;
    }
    if !snapshots.is_empty() {
        make_directory(&to.join(SNAPSHOTS_DIRECTORY))?;
    }
    for snapshot in snapshots {
        let name = snapshot.path().file_name().expect("a snapshot has a name");
        copy.file(&snapshot, &to.join(SNAPSHOTS_DIRECTORY).join(name))?;
    }
    let copied = copy.copied;
    sync_directory(to)?;
    replace_manifest(to, &manifest, &mut |_| Ok(()))?;
    Ok(BackupSummary { copied, ends })
}

fn refuse_used(path: &Path) -> Result<(), BackupError> {
    let names = match fs::read_dir(path) {
        Ok(_) => file_names(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StorageError::io(Action::Read, path)(error).into()),
    };
    if names.iter().any(|name| name != OF_THE_FILE_SYSTEM) {
        return Err(BackupError::TargetNotEmpty { path: path.to_owned() });
    }
    Ok(())
}

/// What is to be copied, kept from going.
struct Pinned {
    manifest: Manifest,
    snapshots: Vec<SourceFile>,
    journals: Vec<PinnedJournal>,
}

struct PinnedJournal {
    id: JournalId,
    /// What the copy's control page is to say.
    control: ControlValues,
    /// Segments whose archive is copied in their place.
    archived: Vec<SegmentNumber>,
    /// The other segments up to the one with the durable LSN, and the last LSN that is copied of each.
    segments: Vec<(SegmentReader, Lsn)>,
}

fn pin(from: &Path) -> Result<Pinned, BackupError> {
    let mut attempt = 1;
    loop {
        match try_pin(from)? {
            Ok(pinned) => return Ok(pinned),
            Err(_) if attempt < ATTEMPT_COUNT_MAX => {
                attempt += 1;
                std::thread::sleep(ATTEMPT_PAUSE);
            }
            Err(path) => {
                let fault = FileFault::Missing;
                return Err(FileError::Damaged(FileDamage { path, offset: 0, fault }).into());
            }
        }
    }
}

/// The inner error is a file that is not there although the manifest asks for it.
fn try_pin(from: &Path) -> Result<Result<Pinned, PathBuf>, BackupError> {
    let manifest = read_manifest(from)?.ok_or_else(|| DirectoryError::NotFound { path: from.to_owned() })?;
    let mut snapshots = Vec::new();
    for snapshot in &manifest.snapshots {
        let path = from
            .join(SNAPSHOTS_DIRECTORY)
            .join(manifest.snapshot_file_name(snapshot));
        match File::open(&path) {
            Ok(file) => snapshots.push(SourceFile::new(file, &path)?),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err(path)),
            Err(error) => return Err(StorageError::io(Action::Open, &path)(error).into()),
        }
    }
    let mut journals = Vec::new();
    for (index, journal) in manifest.journals.iter().enumerate() {
        let directory = from.join(journal.id.directory_name());
        let source = SegmentSource {
            directory: &directory,
            journal: journal.id,
            segment_size: manifest.segment_size,
            end: journal.end,
        };
        let snapshots = manifest.snapshots_of(index).map(|snapshot| snapshot.segment);
        let archived_below = match journal.core {
            Some(_) => snapshots.min().unwrap_or(SegmentNumber::FIRST),
            // Nothing recovers it, and its segments go once they are archived.
            None => SegmentNumber(u64::MAX),
        };
        match try_pin_journal(&source, archived_below)? {
            Ok(journal) => journals.push(journal),
            Err(path) => return Ok(Err(path)),
        }
    }
    Ok(Ok(Pinned {
        manifest,
        snapshots,
        journals,
    }))
}

fn try_pin_journal(
    source: &SegmentSource<'_>,
    archived_below: SegmentNumber,
) -> Result<Result<PinnedJournal, PathBuf>, BackupError> {
    let mut control = source.control()?;
    let durable = control.durable_lsn;
    let newest = control.newest_durable_segment;
    let mut archived = Vec::new();
    let mut segments: Vec<(SegmentReader, Lsn)> = Vec::new();
    // The newest durable segment is stored before the durable LSN, so the LSN may still lie in the segment before it.
    for number in (1..=newest.0).map(SegmentNumber) {
        if durable.0 == 0 {
            break;
        }
        let archive = archive_path(source.directory, number);
        if number < archived_below && SourceFile::open_if_there(&archive)?.is_some() {
            // A segment that could not be archived ends where this archive begins.
            if let Some((_, last)) = segments.last_mut().filter(|(_, last)| *last == durable) {
                *last = Lsn(ArchiveReader::open(&archive)?.summary().first_lsn.0 - 1);
            }
            archived.push(number);
            continue;
        }
        let Some(reader) = SegmentReader::open(source, number)? else {
            return Ok(Err(source.segment_path(number)));
        };
        if reader.first_lsn() > durable {
            break;
        }
        if let Some((_, last)) = segments.last_mut().filter(|(_, last)| *last == durable) {
            *last = Lsn(reader.first_lsn().0 - 1);
        }
        segments.push((reader, durable));
    }
    let last = segments.last().map(|(reader, _)| reader.header().number);
    control.newest_durable_segment = last.max(archived.last().copied()).unwrap_or_default();
    Ok(Ok(PinnedJournal {
        id: source.journal,
        control,
        archived,
        segments,
    }))
}

/// A copy that is being made.
struct Copy<'call> {
    copied: BackupProgress,
    progress: &'call mut dyn FnMut(BackupProgress),
}

impl Copy<'_> {
    fn journal(&mut self, to: &Path, segment_size: usize, journal: PinnedJournal) -> Result<(), BackupError> {
        let directory = to.join(journal.id.directory_name());
        make_directory(&directory)?;
        let mut page = new_control_page(journal.id, segment_size);
        for (field, value) in [
            (ControlField::DurableLsn, journal.control.durable_lsn.0),
            (ControlField::OldestSegment, journal.control.oldest_segment.0),
            (
                ControlField::NewestDurableSegment,
                journal.control.newest_durable_segment.0,
            ),
        ] {
            put(&mut page, field.offset(), &value.to_le_bytes());
        }
        let mut control = NewFile::create(&directory.join(CONTROL_FILE_NAME))?;
        control.write(&page)?;
        control.finish()?;
        self.note(1, page.len());
        // The lease of each ends with its turn.
        for (mut reader, last) in journal.segments {
            self.segment(&directory, &mut reader, last)?;
        }
        Ok(())
    }

    /// Copies the batches up to the LSN; behind them the file has a hole, which reads as zeros.
    fn segment(&mut self, directory: &Path, reader: &mut SegmentReader, last: Lsn) -> Result<(), BackupError> {
        let header = *reader.header();
        let mut file = NewFile::create(&segment_path(directory, header.number))?;
        let mut page = [0; HEADER_PAGE_SIZE];
        put(&mut page, 0, &header.encode());
        file.write(&page)?;
        self.note(0, page.len());
        let mut batches = Batches::new(header.first_lsn);
        let mut block = Vec::with_capacity(COPY_SIZE);
        while reader.next_lsn() <= last {
            let offset = reader.offset();
            let Some((record, bytes)) = reader.next_with_bytes()? else {
                return Err(reader.source().damaged(offset, FileFault::Record).into());
            };
            if !batches.take(&record) {
                return Err(reader.source().damaged(offset, FileFault::Record).into());
            }
            block.extend_from_slice(bytes);
            if block.len() >= COPY_SIZE {
                file.write(&block)?;
                self.note(0, block.len());
                block.clear();
            }
        }
        if batches.open_from() <= last {
            return Err(reader.source().damaged(reader.offset(), FileFault::Record).into());
        }
        file.write(&block)?;
        file.extend(header.file_size)?;
        file.finish()?;
        self.note(1, block.len());
        Ok(())
    }

    fn file(&mut self, from: &SourceFile, to: &Path) -> Result<(), BackupError> {
        let mut file = NewFile::create(to)?;
        let mut block = vec![0; COPY_SIZE];
        let mut offset = 0;
        while offset < from.size() {
            let size = (from.size() - offset).min(COPY_SIZE as u64) as usize;
            from.read_at(&mut block[..size], offset)?;
            file.write(&block[..size])?;
            self.note(0, size);
            offset += size as u64;
        }
        file.finish()?;
        self.note(1, 0);
        Ok(())
    }

    fn note(&mut self, files: u64, bytes: usize) {
        self.copied.files += files;
        self.copied.bytes += bytes as u64;
        (self.progress)(self.copied);
    }
}

fn make_directory(path: &Path) -> Result<(), StorageError> {
    fs::create_dir(path).map_err(StorageError::io(Action::Create, path))
}
