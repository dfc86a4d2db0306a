//! Files that get their name when they are whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Action, StorageError};
use crate::mmap::sync_directory;

/// What a file's name ends with while it is being written.
pub(crate) const UNFINISHED_SUFFIX: &str = ".new";
/// So much is written between two syncs: one sync of everything at once would make the journals' own syncs wait for it.
const SYNC_INTERVAL_BYTES: u64 = 4 * 1024 * 1024;

/// A file that is being written. It is removed again unless it is finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
    unfinished: PathBuf,
    size: u64,
    synced_size: u64,
    is_finished: bool,
}

impl NewFile {
    /// Begins the file that is to have this path. What a crash left of an earlier attempt is overwritten.
    pub(crate) fn create(path: &Path) -> Result<NewFile, StorageError> {
        let mut unfinished = OsString::from(path);
        unfinished.push(UNFINISHED_SUFFIX);
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished).map_err(StorageError::io(Action::Create, &unfinished))?;
        Ok(NewFile {
            file,
            path: path.to_owned(),
            unfinished,
            size: 0,
            synced_size: 0,
            is_finished: false,
        })
    }

    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all(bytes)
            .map_err(StorageError::io(Action::Write, &self.unfinished))?;
        self.size += bytes.len() as u64;
        if self.size - self.synced_size >= SYNC_INTERVAL_BYTES {
            self.synced_size = self.size;
            self.file
                .sync_data()
                .map_err(StorageError::io(Action::Sync, &self.unfinished))?;
        }
        Ok(())
    }

    /// Gives it this size in bytes, with a hole behind what was written.
    pub(crate) fn extend(&mut self, size: u64) -> Result<(), StorageError> {
        self.file
            .set_len(size)
            .map_err(StorageError::io(Action::Write, &self.unfinished))
    }

    /// Makes it durable under its name.
    pub(crate) fn finish(mut self) -> Result<(), StorageError> {
        self.file
            .sync_all()
            .map_err(StorageError::io(Action::Sync, &self.unfinished))?;
        fs::rename(&self.unfinished, &self.path).map_err(StorageError::io(Action::Rename, &self.unfinished))?;
        self.is_finished = true;
        sync_directory(self.path.parent().expect("a file has a directory"))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // Left where it is, it would only take room until the next start removes it.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}
