//! What keeps a server from starting, or ends it. A closed list: each has its own exit code, and a remedy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use plimsoll_engine::RecordError;
use plimsoll_journal::{DirectoryError, ManifestError, RecoveryError};

use crate::recovery::SnapshotError;

/// What keeps a server from starting, or ends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The kernel or a sandbox does not let this process use io_uring.
    #[error("io_uring is refused on this host")]
    IoUringRefused {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The limit of locked memory is too low for the rings.
    #[error(
        "the limit of locked memory is {found} bytes; {needed} are needed for {cores} cores, beside what other processes of this user lock"
    )]
    LockedMemory {
        /// The limit that stands, in bytes.
        found: u64,
        /// What is needed, in bytes.
        needed: u64,
        /// How many executors share it.
        cores: usize,
    },
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Directory(#[from] DirectoryError),
    /// The directory has other dimensions, or a new one was given none.
    #[error("{}", dimensions_text(.found, .asked))]
    Dimensions {
        /// Those of the directory; none when it is new.
        found: Vec<String>,
        /// Those that were asked for.
        asked: Vec<String>,
    },
    /// More cores than this process may run on.
    #[error("{asked} cores were asked for, and this process may run on {allowed} processors")]
    TooManyCores {
        /// Cores asked for.
        asked: usize,
        /// Processors that are allowed.
        allowed: usize,
    },
    /// A processor that this process may not run on.
    #[error("processor {asked} is not among those that this process may run on: {allowed:?}")]
    Processor {
        /// The processor asked for.
        asked: usize,
        /// Those that are allowed.
        allowed: Vec<usize>,
    },
    /// The journals would fill up before two snapshots are taken.
    #[error(
        "{found} bytes for the segments of a core are too little: snapshots after {snapshot_after} bytes need {needed}"
    )]
    JournalSpace {
        /// What was granted, in bytes.
        found: u64,
        /// After so many bytes a snapshot is taken.
        snapshot_after: u64,
        /// The least that works, in bytes.
        needed: u64,
    },
    /// A journal could not be recovered.
    #[error("journal {} cannot be recovered", path.display())]
    Recovery {
        /// The journal's directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<RecoveryError<RecordError>>,
    },
    /// No snapshot is whole, and without one the journal cannot be read.
    #[error("snapshot {} is damaged, there is no other, and the journal does not begin with an empty state", path.display())]
    Snapshot {
        /// The newest one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<SnapshotError>,
    },
    /// A snapshot or an archive that another version of this program wrote. Going on without it could overlook what it knows.
    #[error("{} is of another version of plimsoll", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not known of it.
        #[source]
        source: Box<SnapshotError>,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An address that others can reach, while there is no authentication.
    #[error("{address} is not a loopback address, and there is no authentication yet")]
    InsecureListen {
        /// The address.
        address: SocketAddr,
    },
    /// A sync failed: what the disk holds is unknown, so nothing more is acknowledged.
    #[error("a sync of journal {} failed", path.display())]
    SyncFailed {
        /// The journal's directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A thread or an executor could not start, or ended by itself.
    #[error("executor {core} failed")]
    Executor {
        /// The core.
        core: usize,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// One row of the list that `plimsoll serve --help` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The exit code.
    pub exit_code: u8,
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// By exit code, from 10 on; a number is never used again.
static CATALOGUE: [CatalogueEntry; 14] = [
    CatalogueEntry {
        exit_code: 10,
        meaning: "io_uring is refused",
        remedy: "see what refuses it with `plimsoll tune --check`: set kernel.io_uring_disabled to 0, or allow io_uring in the container's seccomp profile (tuning/README.md)",
    },
    CatalogueEntry {
        exit_code: 11,
        meaning: "too little locked memory",
        remedy: "raise LimitMEMLOCK, or `ulimit -l` (tuning/README.md)",
    },
    CatalogueEntry {
        exit_code: 12,
        meaning: "the data directory is in use",
        remedy: "stop the server that runs on it, or choose another with --data",
    },
    CatalogueEntry {
        exit_code: 13,
        meaning: "the data directory cannot be used",
        remedy: "check that --data names a directory of plimsoll, or an empty one, on a file system that this user may write to",
    },
    CatalogueEntry {
        exit_code: 14,
        meaning: "no space left for the data directory",
        remedy: "free space on its file system; each core needs a few segments of 64 MiB",
    },
    CatalogueEntry {
        exit_code: 15,
        meaning: "the dimensions do not match",
        remedy: "give --dimensions on a new directory; leave it out, or repeat the same, on an existing one",
    },
    CatalogueEntry {
        exit_code: 16,
        meaning: "there are no such processors",
        remedy: "leave --cores out, or name processors that this process may run on",
    },
    CatalogueEntry {
        exit_code: 17,
        meaning: "a journal or a snapshot is damaged",
        remedy: "check the disk and keep a copy of the data directory; restore the file that is named from a backup, or see what 'plimsoll replay repair' can do",
    },
    CatalogueEntry {
        exit_code: 18,
        meaning: "the address cannot be listened on",
        remedy: "stop what listens there, or choose another with --listen or --http",
    },
    CatalogueEntry {
        exit_code: 19,
        meaning: "the address is not a loopback address",
        remedy: "listen on 127.0.0.1, or accept the risk with --insecure-listen",
    },
    CatalogueEntry {
        exit_code: 20,
        meaning: "a sync failed",
        remedy: "check the disk and the kernel's log; a restart recovers what is really on the disk",
    },
    CatalogueEntry {
        exit_code: 21,
        meaning: "an executor failed",
        remedy: "see the log above; at a start, most often other processes of this user have locked too much memory (tuning/README.md)",
    },
    CatalogueEntry {
        exit_code: 22,
        meaning: "a journal of another directory, or of a newer plimsoll",
        remedy: "start the version of plimsoll that wrote it, or put back the directory's own files",
    },
    CatalogueEntry {
        exit_code: 23,
        meaning: "too little space for the journals",
        remedy: "raise --journal-space, or lower --snapshot-after",
    },
];

impl Fatal {
    /// The process's exit code, 10 to 29.
    pub fn exit_code(&self) -> u8 {
        match self {
            Fatal::IoUringRefused { .. } => 10,
            Fatal::LockedMemory { .. } => 11,
            Fatal::Directory(DirectoryError::Locked { .. }) => 12,
            Fatal::Directory(error) if error.is_out_of_space() => 14,
            Fatal::Directory(DirectoryError::Manifest {
                source: ManifestError::UnknownVersion { .. },
                ..
            }) => 22,
            Fatal::Directory(_) => 13,
            Fatal::Dimensions { .. } => 15,
            Fatal::Processor { .. } | Fatal::TooManyCores { .. } => 16,
            Fatal::Recovery { source, .. } => match &**source {
                RecoveryError::Storage(error) if error.is_out_of_space() => 14,
                RecoveryError::Storage(_) => 13,
                RecoveryError::Refused(_) | RecoveryError::Record { .. } => 22,
                _ => 17,
            },
            Fatal::JournalSpace { .. } => 23,
            Fatal::Snapshot { .. } => 17,
            Fatal::Newer { .. } => 22,
            Fatal::Listen { .. } => 18,
            Fatal::InsecureListen { .. } => 19,
            Fatal::SyncFailed { .. } => 20,
            Fatal::Executor { .. } => 21,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        let code = self.exit_code();
        CATALOGUE
            .iter()
            .find(|entry| entry.exit_code == code)
            .map_or("", |entry| entry.remedy)
    }

    /// Every exit code with its meaning and remedy.
    pub fn catalogue() -> &'static [CatalogueEntry] {
        &CATALOGUE
    }
}

fn dimensions_text(found: &[String], asked: &[String]) -> String {
    if found.is_empty() {
        "a new data directory needs the names of its dimensions".into()
    } else {
        format!(
            "the data directory has the dimensions {}, not {}",
            found.join(","),
            asked.join(",")
        )
    }
}

/// Ends the process with the exit code, after a word in the log: for what happens while the server runs.
pub(crate) fn stop_process(fatal: &Fatal) -> ! {
    let source = std::error::Error::source(fatal)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(%fatal, source, remedy = fatal.remedy(), "stopping");
    std::process::exit(i32::from(fatal.exit_code()));
}
