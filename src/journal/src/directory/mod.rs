//! The data directory: its lock, its manifest, and making it.
//!
//! Invariants:
//! - Nothing is read or changed without the lock.
//! - The manifest is written last: a directory without one either is new, or has lost it, which its records tell.

mod error;
mod leftovers;
pub(crate) mod manifest;
mod switch;
mod view;
mod writer;

pub use error::{DirectoryError, SnapshotRefusal};
pub use manifest::{JournalEnd, ManifestError};
pub use switch::{Switch, SwitchedJournal};
pub use view::DirectoryView;
pub use writer::ManifestWriter;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::SegmentSource;
use crate::control::new_control_page;
use crate::error::Action;
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::limits::{MANIFEST_SIZE_MAX, PARTITION_COUNT, SEGMENT_SIZE_DEFAULT, is_segment_size};
use crate::mmap::{CONTROL_FILE_NAME, file_names, is_half_prepared, segment_number, sync_directory};
use crate::snapshot::SNAPSHOTS_DIRECTORY;

use manifest::{Manifest, ManifestJournal, check_dimensions, check_journal_count};

const LOCK: &str = "LOCK";
const MANIFEST: &str = "MANIFEST";
const MANIFEST_NEXT: &str = "MANIFEST.next";
const JOURNAL_PREFIX: &str = "journal-";
/// What a file system puts into its own root.
pub(crate) const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// What a new data directory is to be like; fixed from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDirectory {
    /// The names of the dimensions, in order: 1 to 8 different ones that match `[a-z][a-z0-9_]{0,31}`.
    pub dimensions: Vec<String>,
    /// How many journals, one for each core, 1 to 1,024. Partition `p` belongs to journal `p % journal_count`.
    pub journal_count: usize,
    /// The size of each segment in bytes, within [`is_segment_size`].
    pub segment_size: usize,
}

impl Default for NewDirectory {
    /// One dimension, `units`, and one journal.
    fn default() -> NewDirectory {
        NewDirectory {
            dimensions: vec!["units".to_owned()],
            journal_count: 1,
            segment_size: SEGMENT_SIZE_DEFAULT,
        }
    }
}

/// A journal of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryJournal {
    /// Which journal.
    pub id: JournalId,
    /// The core that owns it; nothing if it is only history.
    pub core: Option<u16>,
    /// Where its files are.
    pub directory: PathBuf,
    /// Where it ends, if it is only history.
    pub end: Option<JournalEnd>,
}

/// A snapshot that the manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySnapshot {
    /// The LSN that it covers.
    pub lsn: Lsn,
    /// The segment that the LSN lies in: from there on recovery reads.
    pub segment: SegmentNumber,
    /// The file.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub size: u64,
}

/// A data directory, locked for this process until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    manifest: Manifest,
    journals: Vec<DirectoryJournal>,
    snapshots: Vec<Vec<DirectorySnapshot>>,
    /// Keeps the lock. Closing the file gives it up.
    lock: Arc<File>,
    is_writer_taken: bool,
}

/// A step of making a directory; before each a crash is tried in the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    RemoveLeftovers,
    CreateJournal,
    WriteControl,
    SyncJournal,
    SyncJournals,
    WriteManifest,
    SyncManifest,
    RenameManifest,
    SyncDirectory,
    RemoveSnapshot,
}

pub(crate) type OnStep<'call> = &'call mut dyn FnMut(Step) -> Result<(), DirectoryError>;

impl Directory {
    /// Opens the data directory, or makes it if the path is missing, empty, or was left by a crash while a directory was being made. An existing one keeps
    /// its own dimensions, journals and segment size whatever `new` says.
    ///
    /// # Errors
    /// As for [`Directory::open`]; when the directory holds something else, or records without a manifest; when `new` is out of range.
    pub fn open_or_create(path: &Path, new: &NewDirectory) -> Result<Directory, DirectoryError> {
        Directory::open_or_create_in_steps(path, new, &mut |_| Ok(()))
    }

    /// Makes a data directory where there is none.
    ///
    /// # Errors
    /// As for [`Directory::open_or_create`]; [`DirectoryError::Foreign`] if there is one already.
    pub fn create(path: &Path, new: &NewDirectory) -> Result<Directory, DirectoryError> {
        if path.join(MANIFEST).exists() {
            return Err(DirectoryError::Foreign {
                path: path.to_owned(),
                entry: MANIFEST.into(),
            });
        }
        Directory::open_or_create(path, new)
    }

    /// Opens an existing data directory.
    ///
    /// # Errors
    /// [`DirectoryError::Locked`] while another process runs on it; [`DirectoryError::NotFound`] if there is none; when the manifest is not valid.
    pub fn open(path: &Path) -> Result<Directory, DirectoryError> {
        let directory = Directory::open_as_it_is(path)?;
        leftovers::remove(path, &directory.manifest)?;
        Ok(directory)
    }

    /// Opens an existing data directory, and leaves in it what a process that died has left, whole or not.
    ///
    /// # Errors
    /// As for [`Directory::open`].
    pub fn open_as_it_is(path: &Path) -> Result<Directory, DirectoryError> {
        // Looked for before the lock, so that nothing is made where no data directory is.
        if !path.join(MANIFEST).exists() {
            if path.is_dir() {
                refuse_lost_manifest(path)?;
            }
            return Err(DirectoryError::NotFound { path: path.to_owned() });
        }
        let lock = Arc::new(lock(path)?);
        let manifest = read_manifest(path)?.ok_or_else(|| DirectoryError::NotFound { path: path.to_owned() })?;
        Directory::as_it_is(path, manifest, lock)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drawn when the directory was made, and again when a repair cut one of its journals.
    pub fn id(&self) -> [u8; 16] {
        self.manifest.directory_id
    }

    /// How often the manifest was replaced, from 1.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }

    /// The names of the dimensions, in order.
    pub fn dimensions(&self) -> &[String] {
        &self.manifest.dimensions
    }

    /// The size of each segment in bytes.
    pub fn segment_size(&self) -> usize {
        self.manifest.segment_size
    }

    /// The journals; owners are indices of this list.
    pub fn journals(&self) -> &[DirectoryJournal] {
        &self.journals
    }

    /// Which journal each partition belongs to.
    pub fn owners(&self) -> &[u16; PARTITION_COUNT] {
        &self.manifest.owners
    }

    /// The snapshots of the journal with this index when the directory was opened, the newest first; at most
    /// [`crate::limits::SNAPSHOT_COUNT_MAX`].
    pub fn snapshots(&self, journal: usize) -> &[DirectorySnapshot] {
        &self.snapshots[journal]
    }

    /// The files of the journal with this index.
    pub(crate) fn source(&self, journal: usize) -> SegmentSource<'_> {
        SegmentSource {
            directory: &self.journals[journal].directory,
            journal: self.journals[journal].id,
            segment_size: self.manifest.segment_size,
            end: self.journals[journal].end,
        }
    }

    /// Takes snapshots of a journal out of the manifest, durably. Their files are the caller's business; where they were, the next start would remove them.
    ///
    /// When the journal is cut, its LSNs are given again: the directory becomes another one, so that nobody goes on with positions of before.
    pub(crate) fn forget_snapshots(
        &mut self,
        journal: usize,
        lsns: &[Lsn],
        is_cut: bool,
        on_step: OnStep<'_>,
    ) -> Result<(), DirectoryError> {
        let mut manifest = self.manifest.clone();
        manifest.generation += 1;
        manifest
            .snapshots
            .retain(|snapshot| usize::from(snapshot.journal) != journal || !lsns.contains(&snapshot.lsn));
        if is_cut {
            manifest.directory_id = draw(&self.path)?;
        }
        replace_manifest(&self.path, &manifest, on_step)?;
        self.snapshots[journal] = named_snapshots(&self.path, &manifest, journal);
        self.manifest = manifest;
        Ok(())
    }

    /// What may change the manifest while this directory is read; nothing if it was taken before. It keeps the lock of the directory too.
    pub fn take_writer(&mut self) -> Option<ManifestWriter> {
        if std::mem::replace(&mut self.is_writer_taken, true) {
            return None;
        }
        Some(ManifestWriter::new(
            &self.path,
            self.manifest.clone(),
            Arc::clone(&self.lock),
        ))
    }

    fn from_manifest(path: &Path, manifest: Manifest, lock: Arc<File>) -> Result<Directory, DirectoryError> {
        let directory = Directory::as_it_is(path, manifest, lock)?;
        leftovers::remove(path, &directory.manifest)?;
        Ok(directory)
    }

    fn as_it_is(path: &Path, manifest: Manifest, lock: Arc<File>) -> Result<Directory, DirectoryError> {
        // The process that renamed the manifest may have died before this. Only then may go what this manifest does not name.
        sync_directory(path)?;
        let journals = manifest.directory_journals(path);
        let snapshots = (0..manifest.journals.len())
            .map(|journal| named_snapshots(path, &manifest, journal))
            .collect();
        Ok(Directory {
            path: path.to_owned(),
            manifest,
            journals,
            snapshots,
            lock,
            is_writer_taken: false,
        })
    }

    fn open_or_create_in_steps(
        path: &Path,
        new: &NewDirectory,
        on_step: OnStep<'_>,
    ) -> Result<Directory, DirectoryError> {
        make_path(path)?;
        if !path.join(MANIFEST).exists() {
            // Before the lock: a directory that is somebody else's gets no file of ours.
            refuse_foreign(path)?;
        }
        let lock = Arc::new(lock(path)?);
        let manifest = match read_manifest(path)? {
            Some(manifest) => manifest,
            None => create_content(path, new, on_step)?,
        };
        Directory::from_manifest(path, manifest, lock)
    }
}

/// Makes the directory and its parents, durably.
pub(crate) fn make_path(path: &Path) -> Result<(), DirectoryError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_path(parent)?;
    match fs::create_dir(path) {
        Ok(()) => Ok(sync_directory(parent)?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(DirectoryError::io(Action::Create, path)(error)),
    }
}

impl Manifest {
    fn directory_journals(&self, path: &Path) -> Vec<DirectoryJournal> {
        let journals = self.journals.iter().map(|journal| DirectoryJournal {
            id: journal.id,
            core: journal.core,
            directory: path.join(journal.id.directory_name()),
            end: journal.end,
        });
        journals.collect()
    }
}

fn named_snapshots(path: &Path, manifest: &Manifest, journal: usize) -> Vec<DirectorySnapshot> {
    manifest
        .snapshots_of(journal)
        .map(|snapshot| DirectorySnapshot {
            lsn: snapshot.lsn,
            segment: snapshot.segment,
            path: path
                .join(SNAPSHOTS_DIRECTORY)
                .join(manifest.snapshot_file_name(snapshot)),
            size: snapshot.size,
        })
        .collect()
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let lock_path = path.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(DirectoryError::io(Action::Open, &lock_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
            return Err(DirectoryError::Locked {
                path: path.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(DirectoryError::io(Action::Lock, &lock_path)(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    write(&mut file).map_err(DirectoryError::io(Action::Write, &lock_path))?;
    Ok(file)
}

pub(crate) fn read_manifest(path: &Path) -> Result<Option<Manifest>, DirectoryError> {
    let path = path.join(MANIFEST);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryError::io(Action::Open, &path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_SIZE_MAX)
        .read_to_end(&mut bytes)
        .map_err(DirectoryError::io(Action::Read, &path))?;
    Manifest::decode(&bytes)
        .map(Some)
        .map_err(|source| DirectoryError::Manifest { path, source })
}

/// Refuses a directory without a manifest that holds more than a crash while it was being made can have left.
fn refuse_foreign(path: &Path) -> Result<(), DirectoryError> {
    refuse_lost_manifest(path)?;
    for entry in fs::read_dir(path).map_err(DirectoryError::io(Action::Read, path))? {
        let entry = entry.map_err(DirectoryError::io(Action::Read, path))?.file_name();
        let is_ours = entry
            .to_str()
            .is_some_and(|name| [LOCK, MANIFEST_NEXT, OF_THE_FILE_SYSTEM].contains(&name) || is_journal_name(name));
        if !is_ours {
            return Err(DirectoryError::Foreign {
                path: path.to_owned(),
                entry: entry.into(),
            });
        }
    }
    for journal in journal_directories(path)? {
        for name in file_names(&journal)? {
            if name != CONTROL_FILE_NAME {
                let entry = journal.join(name);
                return Err(DirectoryError::Foreign {
                    path: path.to_owned(),
                    entry,
                });
            }
        }
    }
    Ok(())
}

/// Segments exist only where a manifest existed before.
fn refuse_lost_manifest(path: &Path) -> Result<(), DirectoryError> {
    for journal in journal_directories(path)? {
        let names = file_names(&journal)?;
        if names
            .iter()
            .any(|name| segment_number(name).is_some() || is_half_prepared(name))
        {
            return Err(DirectoryError::ManifestLost { journal });
        }
    }
    Ok(())
}

fn journal_directories(path: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let names = file_names(path)?;
    Ok(names
        .iter()
        .filter(|name| is_journal_name(name))
        .map(|name| path.join(name))
        .filter(|path| path.is_dir())
        .collect())
}

fn is_journal_name(name: &str) -> bool {
    name.strip_prefix(JOURNAL_PREFIX)
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn create_content(path: &Path, new: &NewDirectory, on_step: OnStep<'_>) -> Result<Manifest, DirectoryError> {
    check_dimensions(&new.dimensions).map_err(DirectoryError::New)?;
    check_journal_count(new.journal_count).map_err(DirectoryError::New)?;
    if !is_segment_size(new.segment_size) {
        return Err(DirectoryError::New(ManifestError::SegmentSize {
            bytes: new.segment_size as u64,
        }));
    }
    // Once more, under the lock.
    refuse_foreign(path)?;
    on_step(Step::RemoveLeftovers)?;
    remove_if_there(&path.join(MANIFEST_NEXT))?;
    for journal in journal_directories(path)? {
        fs::remove_dir_all(&journal).map_err(DirectoryError::io(Action::Remove, &journal))?;
    }

    let mut journals = Vec::with_capacity(new.journal_count);
    for core in 0..new.journal_count {
        let id = JournalId(draw(path)?);
        create_journal(&path.join(id.directory_name()), id, new.segment_size, on_step)?;
        journals.push(ManifestJournal {
            id,
            core: Some(index_u16(core)),
            end: None,
        });
    }
    on_step(Step::SyncJournals)?;
    sync_directory(path)?;
    let manifest = Manifest {
        directory_id: draw(path)?,
        dimensions: new.dimensions.clone(),
        generation: 1,
        segment_size: new.segment_size,
        journals,
        owners: std::array::from_fn(|partition| index_u16(partition % new.journal_count)),
        snapshots: Vec::new(),
    };
    replace_manifest(path, &manifest, on_step)?;
    Ok(manifest)
}

fn create_journal(path: &Path, id: JournalId, segment_size: usize, on_step: OnStep<'_>) -> Result<(), DirectoryError> {
    on_step(Step::CreateJournal)?;
    fs::create_dir(path).map_err(DirectoryError::io(Action::Create, path))?;
    on_step(Step::WriteControl)?;
    let control = path.join(CONTROL_FILE_NAME);
    write_and_sync(&control, &new_control_page(id, segment_size))?;
    on_step(Step::SyncJournal)?;
    Ok(sync_directory(path)?)
}

pub(crate) fn replace_manifest(path: &Path, manifest: &Manifest, on_step: OnStep<'_>) -> Result<(), DirectoryError> {
    let next = path.join(MANIFEST_NEXT);
    on_step(Step::WriteManifest)?;
    let bytes = manifest.encode();
    assert!(
        bytes.len() as u64 <= MANIFEST_SIZE_MAX,
        "a manifest of {} bytes",
        bytes.len()
    );
    let mut file = File::create(&next).map_err(DirectoryError::io(Action::Create, &next))?;
    file.write_all(&bytes)
        .map_err(DirectoryError::io(Action::Write, &next))?;
    on_step(Step::SyncManifest)?;
    file.sync_all().map_err(DirectoryError::io(Action::Sync, &next))?;
    on_step(Step::RenameManifest)?;
    fs::rename(&next, path.join(MANIFEST)).map_err(DirectoryError::io(Action::Rename, &next))?;
    on_step(Step::SyncDirectory)?;
    Ok(sync_directory(path)?)
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> Result<(), DirectoryError> {
    let mut file = File::create(path).map_err(DirectoryError::io(Action::Create, path))?;
    file.write_all(bytes).map_err(DirectoryError::io(Action::Write, path))?;
    file.sync_all().map_err(DirectoryError::io(Action::Sync, path))
}

fn remove_if_there(path: &Path) -> Result<(), DirectoryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DirectoryError::io(Action::Remove, path)(error)),
        _ => Ok(()),
    }
}

fn draw(path: &Path) -> Result<[u8; 16], DirectoryError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let source = error
            .raw_os_error()
            .map_or_else(|| ErrorKind::Unsupported.into(), std::io::Error::from_raw_os_error);
        DirectoryError::io(Action::Draw, path)(source)
    })?;
    Ok(bytes)
}

fn index_u16(index: usize) -> u16 {
    u16::try_from(index).expect("counts of journals and partitions fit 16 bits")
}

#[cfg(test)]
mod changes;
#[cfg(test)]
mod tests;
