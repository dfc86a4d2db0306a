//! Why a data directory does not open.

use std::io;
use std::path::{Path, PathBuf};

use crate::damage::FileError;
use crate::directory::manifest::ManifestError;
use crate::error::{Action, StorageError, is_out_of_space, is_permission_denied, is_read_only};
use crate::identifier::Lsn;

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
    /// A snapshot that cannot be used.
    #[error("the snapshot {} cannot be used: {reason}", path.display())]
    Snapshot {
        /// The file, which is removed.
        path: PathBuf,
        /// Why.
        #[source]
        reason: SnapshotRefusal,
    },
    /// Something else may change the manifest: a [`crate::ManifestWriter`] was taken.
    #[error("the manifest of {} may be changed by something else", path.display())]
    WriterTaken {
        /// The directory.
        path: PathBuf,
    },
    /// A control page that cannot be read.
    #[error(transparent)]
    Control(#[from] FileError),
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

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotRefusal {
    /// It is of no journal that has a core.
    #[error("it is of no journal in use")]
    UnknownJournal,
    /// There is one that is as new.
    #[error("there is one up to LSN {newest}")]
    NotNewer {
        /// The newest one's LSN.
        newest: Lsn,
    },
    /// A crash could take back what it holds. Whoever writes a snapshot waits for that before it is added.
    #[error("the journal is durable up to LSN {durable} only")]
    NotDurable {
        /// The LSN up to which the journal is durable.
        durable: Lsn,
    },
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
