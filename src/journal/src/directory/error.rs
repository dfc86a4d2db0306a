//! Why a data directory does not open.

use std::io;
use std::path::{Path, PathBuf};

use crate::directory::manifest::ManifestError;
use crate::error::{Action, StorageError, is_out_of_space, is_permission_denied, is_read_only};

/// Why a data directory does not open, or was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process runs on the directory. Stop it first.
    #[error("{} is in use by {}", path.display(), ProcessName(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it has written its id yet.
        pid: Option<u32>,
    },
    /// There is no data directory.
    #[error("{} is no data directory: it has no manifest", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is not empty and holds something else.
    #[error("{} holds `{}`, which is no part of a data directory: choose an empty one", path.display(), entry.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first entry that is not known.
        entry: PathBuf,
    },
    /// There are journals with records, and no manifest that names them. Restore the manifest.
    #[error("{} has records, but the data directory has no manifest", journal.display())]
    ManifestLost {
        /// The journal's directory.
        journal: PathBuf,
    },
    /// The manifest is not valid.
    #[error("the manifest {} is not valid", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// A new directory cannot be made as asked.
    #[error("no data directory can be made like this")]
    New(#[source] ManifestError),
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: Action,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// As for a journal's own files.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

struct ProcessName(Option<u32>);

impl std::fmt::Display for ProcessName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("another process"),
        }
    }
}

impl DirectoryError {
    pub(crate) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
        move |source| DirectoryError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    fn holds(&self, of_io: fn(&io::Error) -> bool, of_storage: fn(&StorageError) -> bool) -> bool {
        match self {
            DirectoryError::Io { source, .. } => of_io(source),
            DirectoryError::Storage(error) => of_storage(error),
            _ => false,
        }
    }

    /// Whether the disk or the quota is full.
    pub fn is_out_of_space(&self) -> bool {
        self.holds(is_out_of_space, StorageError::is_out_of_space)
    }

    /// Whether the file system is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.holds(is_read_only, StorageError::is_read_only)
    }

    /// Whether the process may not do this.
    pub fn is_permission_denied(&self) -> bool {
        self.holds(is_permission_denied, StorageError::is_permission_denied)
    }
}
