//! What the world below a journal can refuse.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Opening a file or directory.
    Open,
    /// Creating a file or directory.
    Create,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making durable.
    Sync,
    /// Mapping into memory.
    Map,
    /// Giving another name.
    Rename,
    /// Removing.
    Remove,
    /// Locking.
    Lock,
    /// Drawing random numbers.
    Draw,
    /// Starting a thread.
    Spawn,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Action::Open => "open",
            Action::Create => "create",
            Action::Read => "read",
            Action::Write => "write",
            Action::Sync => "sync",
            Action::Map => "map",
            Action::Rename => "rename",
            Action::Remove => "remove",
            Action::Lock => "lock",
            Action::Draw => "draw random numbers for",
            Action::Spawn => "start the preparing thread of",
        })
    }
}

/// A failure of what keeps the segments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
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
    /// The disk, or the quota, has no room for a file. Freeing room helps.
    #[error("no room for the {bytes_needed} bytes of {}", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes_needed: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that must not be there.
    #[error("{} is there already", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// A chunk of a snapshot is empty or too large.
    #[error("a chunk of {bytes} bytes: a snapshot's chunks have 1 to 1048576")]
    ChunkSize {
        /// The size.
        bytes: usize,
    },
    /// The size asked of segments is out of range.
    #[error("segments of {bytes} bytes: the size must be a multiple of 4096 from 65536 to 1073741824")]
    SegmentSize {
        /// The size.
        bytes: usize,
    },
}

impl StorageError {
    pub(crate) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        move |source| StorageError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    fn source_error(&self) -> Option<&io::Error> {
        match self {
            StorageError::Io { source, .. } | StorageError::NoRoom { source, .. } => Some(source),
            StorageError::InTheWay { .. } | StorageError::ChunkSize { .. } | StorageError::SegmentSize { .. } => None,
        }
    }

    /// Whether the disk or the quota is full.
    pub fn is_out_of_space(&self) -> bool {
        self.source_error().is_some_and(is_out_of_space)
    }

    /// Whether the file system is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.source_error().is_some_and(is_read_only)
    }

    /// Whether the process may not do this.
    pub fn is_permission_denied(&self) -> bool {
        self.source_error().is_some_and(is_permission_denied)
    }
}

pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

pub(crate) fn is_read_only(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::ROFS)
}

pub(crate) fn is_permission_denied(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM))
}
