//! Segments, group commit and recovery of opaque, checksummed records.
//!
//! A [`Journal`] appends records to segments and closes them in batches; a batch counts as a whole or not at all. It never
//! syncs while it runs: [`Journal::commit`] returns a [`Ticket`], its owner calls [`Journal::write_out`], syncs the ticket's segments and says so with
//! [`Journal::durable`]. [`Journal::recover`] reads the records back and decides where the journal ends, by the table in `recovery/table.rs`.
//!
//! Recovery begins with the first record, or where a snapshot ends: [`SnapshotWriter`] and [`SnapshotReader`] keep it, the [`ManifestWriter`] makes it
//! count. Segments that no snapshot needs are used again once [`archive_segment`] has copied them and the [`Recycler`] was told; readers of
//! history lease what they read ([`SegmentReader`], [`ArchiveReader`]). [`backup`] copies a directory that is in use.
//!
//! What lies below is a [`Storage`]: [`MmapStorage`] keeps segments in files; a simulator brings its own. [`Directory`] is what several journals
//! share: the lock and the manifest. The bytes are specified in `ARCHITECTURE.md`.
//!
//! ```
//! use plimsoll_journal::{Directory, MmapStorage, NewDirectory, Ring, limits};
//! use plimsoll_journal::{CrcFraming, Journal, Priority, RecoveryStart, Tag};
//!
//! # let parent = tempfile::tempdir()?;
//! # let path = parent.path().join("data");
//! let new = NewDirectory {
//!     dimensions: vec!["orders".to_owned()],
//!     journal_count: 1,
//!     segment_size: limits::SEGMENT_SIZE_MIN,
//! };
//! let directory = Directory::open_or_create(&path, &new)?;
//! let entry = &directory.journals()[0];
//! let storage = MmapStorage::open(&entry.directory, entry.id, directory.segment_size(), Ring::default())?;
//! let mut incarnation = 0; // Random in earnest.
//! let incarnations = move || {
//!     incarnation += 1;
//!     incarnation
//! };
//! let each = |_: plimsoll_journal::Record<'_>| Ok::<(), std::io::Error>(());
//! let recovered = Journal::<_, CrcFraming>::recover(storage, RecoveryStart::FIRST, 0, incarnations, each)?;
//! let mut journal = recovered.journal;
//!
//! journal.begin(1_000_000);
//! journal.append(Priority::Normal, Tag { kind: 16, partition: 5, detail: 0 }, b"opaque")?;
//! let ticket = journal.commit().expect("something was appended");
//! journal.write_out(false)?;
//! for number in ticket.segments() {
//!     std::fs::File::open(journal.storage().segment_path(number))?.sync_data()?;
//! }
//! if let Some(opened) = ticket.opened {
//!     journal.segment_synced(opened);
//!     std::fs::File::open(journal.storage().control_path())?.sync_data()?;
//! }
//! journal.durable(ticket.upto);
//! assert_eq!(journal.durable_lsn(), ticket.upto);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod backup;
mod backwards;
mod bytes;
mod control;
mod damage;
mod directory;
mod error;
mod framing;
mod header;
mod history;
mod identifier;
mod journal;
pub mod limits;
mod mmap;
mod new_file;
mod record;
mod recovery;
mod repair;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;

pub use archive::{
    ArchiveReader, ArchiveSummary, HistorySummary, JournalFiles, SegmentMarks, SegmentReader, SegmentSource,
    archive_last_segment, archive_path, archive_segment, archive_segment_again, check_end, check_history,
    free_archived, verify_archive,
};
pub use backup::{BackupError, BackupProgress, BackupSummary, backup};
pub use backwards::BackwardReader;
pub use control::{CONTROL_HEADER_SIZE, ControlField, new_control_page};
pub use damage::{FileDamage, FileError, FileFault};
pub use directory::{
    Directory, DirectoryError, DirectoryJournal, DirectorySnapshot, DirectoryView, JournalEnd, ManifestError,
    ManifestWriter, NewDirectory, SnapshotRefusal, Switch, SwitchedJournal,
};
pub use error::{Action, StorageError};
pub use framing::{CrcFraming, Framing};
pub use header::HEADER_SIZE;
pub use history::{HistoryPlace, HistoryRange, HistoryReader, history_size};
pub use identifier::{JournalId, Lsn, Position, Record, SegmentNumber, Tag};
pub use journal::{Full, Journal, Priority, Ticket};
pub use mmap::{AppendedSegment, MmapSegment, MmapStorage, Recycler, Ring, RingStatus, SegmentFile};
pub use record::{COMMIT_KIND, COMMIT_SIZE, OWN_KIND_MIN, RECORD_HEADER_SIZE, Records};
pub use recovery::{Damage, Found, NotTaken, Recovered, RecoveryError, RecoveryStart, Refusal, Summary};
pub use repair::{
    CutAway, CutSnapshot, Fault, Finding, JournalRepair, Remedy, RepairError, RepairPlan, find_damage, repair,
};
pub use snapshot::{
    FinishedSnapshot, SnapshotHeader, SnapshotReader, SnapshotSummary, SnapshotWriter, verify_snapshot,
};
pub use storage::{Look, Segment, Storage};
