//! Segments, group commit and recovery of opaque, checksummed records.
//!
//! A [`Journal`] appends records to memory-mapped segments and closes them in batches; a batch counts as a whole or not at all. It never
//! syncs while it runs: [`Journal::commit`] returns a [`Ticket`], its owner syncs the ticket's segments and says so with
//! [`Journal::durable`]. [`Journal::recover`] reads the records back and decides where the journal ends, by the table in `recovery/table.rs`.
//!
//! What lies below is a [`Storage`]: [`MmapStorage`] keeps segments in files; a simulator brings its own. [`Directory`] is what several journals
//! share: the lock and the manifest. The bytes are specified in `ARCHITECTURE.md`.

mod bytes;
mod control;
mod error;
mod framing;
mod header;
mod identifier;
mod journal;
pub mod limits;
mod record;
mod recovery;
mod storage;

pub use control::{CONTROL_HEADER_SIZE, ControlField, new_control_page};
pub use error::{Action, StorageError};
pub use framing::{CrcFraming, Framing};
pub use header::HEADER_SIZE;
pub use identifier::{JournalId, Lsn, Position, Record, SegmentNumber, Tag};
pub use journal::{Full, Journal, Priority, Ticket};
pub use record::{COMMIT_KIND, COMMIT_SIZE, OWN_KIND_MIN, RECORD_HEADER_SIZE};
pub use recovery::{Damage, Found, Recovered, RecoveryError, Refusal, Summary};
pub use storage::{Look, Segment, Storage};
