//! Reading a journal back, and deciding where it ends.
//!
//! Invariants:
//! - Nothing is changed before the end of the journal is known: damage and refusals leave everything as it was.
//! - Records are handed out only batch by batch, each batch once its commit record was found valid.
//! - When the next segment is opened, everything kept is durable and everything cut off is durably gone.

mod error;
pub(crate) mod read;
pub(crate) mod table;

pub use error::{Damage, NotTaken, RecoveryError, Refusal};
pub use table::Found;

use std::collections::BTreeMap;
use std::hint::black_box;

use crate::control::ControlField;
use crate::error::StorageError;
use crate::framing::{CrcFraming, Framing};
use crate::header::HEADER_PAGE_SIZE;
use crate::identifier::{Lsn, Position, Record, SegmentNumber};
use crate::journal::{Journal, Start};
use crate::limits::{PAGE_SIZE, is_segment_size};
use crate::record::{Records, read_checked};
use crate::snapshot::SnapshotHeader;
use crate::storage::{Look, Segment, Storage};

use read::{Kept, Reader};

/// A journal that is ready to run.
#[derive(Debug)]
pub struct Recovered<S: Storage, F: Framing = CrcFraming> {
    /// The journal.
    pub journal: Journal<S, F>,
    /// What was found.
    pub summary: Summary,
}

/// Where reading begins, because a snapshot covers what lies before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryStart {
    /// The LSN that the snapshot covers: records up to it are skipped.
    pub lsn: Lsn,
    /// The segment that the LSN lies in. Segments before it are not looked at and may be gone.
    pub segment: SegmentNumber,
    /// The time that the snapshot was taken at, in microseconds since 1970: no later record's is below it.
    pub time: i64,
}

impl RecoveryStart {
    /// The beginning of a journal: every record is read.
    pub const FIRST: RecoveryStart = RecoveryStart {
        lsn: Lsn(0),
        segment: SegmentNumber::FIRST,
        time: i64::MIN,
    };
}

impl From<SnapshotHeader> for RecoveryStart {
    fn from(header: SnapshotHeader) -> RecoveryStart {
        RecoveryStart {
            lsn: header.lsn,
            segment: header.segment,
            time: header.time,
        }
    }
}

/// What recovery found, from the segment on that it began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that were handed out, without commit records.
    pub records: u64,
    /// Records that were read and not handed out, since the snapshot covers them.
    pub skipped: u64,
    /// Batches, empty ones included.
    pub batches: u64,
    /// Bytes of records and commit records, padding included.
    pub bytes: u64,
    /// Segments that were kept.
    pub segments: u64,
    /// Where the journal was cut, if something of it lay behind its last whole batch: the end of that batch.
    pub cut: Option<Position>,
    /// The last commit record, 0 if there is none.
    pub last_lsn: Lsn,
    /// The last commit record's time, in microseconds since 1970; 0 if there is none.
    pub last_time: i64,
}

impl<S: Storage, F: Framing> Journal<S, F> {
    /// Reads the journal from `start` on, hands every record of every whole batch behind it to `each` in order, removes what lies behind the last of them, and opens a new segment
    /// with the first number of `incarnations`, which must be random: neither 0 nor ever equal to an earlier one. `now` is in microseconds since
    /// 1970. Waits for the disk.
    ///
    /// Everything that was handed out is durable when this returns. A crash at any step leaves a journal that recovers to the same records, or to those
    /// without batches at the end that never were durable.
    ///
    /// The start is [`RecoveryStart::FIRST`], or that of a snapshot. When a snapshot turns out to be damaged, the one before it is as good a start: with
    /// a new storage, and as long as its segment is there ([`Storage::segments`]).
    ///
    /// # Errors
    /// A journal that does not reach up to the start is damaged: what a snapshot holds was durable.
    /// Damage, refusals, and errors of `each` change nothing and stay. Errors of the storage may be retried with a new storage; for want of room
    /// ([`StorageError::is_out_of_space`]) once there is some.
    pub fn recover<E>(
        storage: S,
        start: RecoveryStart,
        now: i64,
        incarnations: impl FnMut() -> u64 + 'static,
        mut each: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Recovered<S, F>, RecoveryError<E>> {
        Self::recover_batches(storage, start, now, incarnations, |mut records| {
            records.try_for_each(|record| {
                let lsn = record.lsn;
                each(record).map_err(|source| NotTaken { lsn, source })
            })
        })
    }

    /// Like [`Journal::recover`], and hands out the records of a batch together, so that the caller can look ahead.
    ///
    /// # Errors
    /// As [`Journal::recover`].
    pub fn recover_batches<E>(
        mut storage: S,
        start: RecoveryStart,
        now: i64,
        incarnations: impl FnMut() -> u64 + 'static,
        take: impl FnMut(Records<'_>) -> Result<(), NotTaken<E>>,
    ) -> Result<Recovered<S, F>, RecoveryError<E>> {
        let segment_size = storage.segment_size();
        if !is_segment_size(segment_size) {
            return Err(StorageError::SegmentSize { bytes: segment_size }.into());
        }
        let mut reader = Reader::<S, F>::new(&mut storage, start)?;
        reader.read(take)?;
        let Reader {
            mut kept,
            summary,
            evidence,
            newest_durable,
            is_proven,
            faults,
            ..
        } = reader;

        while kept.last().is_some_and(|segment| segment.last_lsn < segment.first_lsn) {
            kept.pop();
        }
        let last = kept.last().map_or(SegmentNumber(0), |segment| segment.number);
        let previous_incarnation = kept.last().map_or(0, |segment| segment.incarnation);
        assert!(
            last >= newest_durable,
            "the journal ends in segment {last}, before segment {newest_durable}"
        );
        remove_after(&mut storage, last, &faults)?;
        for segment in &kept {
            rewrite(&mut storage, segment, evidence, newest_durable)?;
        }
        // Stored even where nothing changes: the page may be clean and yet not on the disk.
        storage.control_store(ControlField::DurableLsn, summary.last_lsn.0);
        storage.control_store(ControlField::NewestDurableSegment, last.0);
        storage.sync_control()?;

        let segment = storage.prepare(last.next())?;
        let opening = Start {
            number: last.next(),
            previous_incarnation,
            last_lsn: summary.last_lsn,
            time: if summary.batches == 0 {
                start.time.max(now)
            } else {
                start.time.max(summary.last_time).max(now)
            },
            is_proven,
        };
        let journal = Journal::start(storage, segment, Box::new(incarnations), &opening);
        let summary = Summary {
            segments: kept.len() as u64,
            ..summary
        };
        Ok(Recovered { journal, summary })
    }
}

/// Removes every segment behind the last one that is kept, newest first, so that a crash in between leaves no gap. A file without a valid header
/// for its number is no segment yet and may stay for later use: recovery takes no record from it, now or ever, until a header is written into it.
fn remove_after<S: Storage>(
    storage: &mut S,
    last: SegmentNumber,
    faults: &BTreeMap<SegmentNumber, Look>,
) -> Result<(), StorageError> {
    let mut numbers = storage.segments()?;
    numbers.retain(|number| *number > last);
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        if let Some(Look::Header(_)) = faults.get(&number) {
            storage.keep_unused(number)?;
        } else {
            storage.remove(number)?;
        }
    }
    // Even if nothing was removed now: a removal by a recovery that was cut short may not be durable yet, and a segment that comes back could be
    // taken for one that continues the journal.
    storage.sync_removals()
}

/// Stores what was kept beyond the evidence once more and syncs it. After a failed sync the kernel may hold it in clean pages that never
/// reached the disk; only storing makes them dirty again.
fn rewrite<S: Storage>(
    storage: &mut S,
    kept: &Kept,
    evidence: Lsn,
    newest_durable: SegmentNumber,
) -> Result<(), StorageError> {
    let header_is_durable = kept.number <= newest_durable;
    if header_is_durable && kept.last_lsn <= evidence {
        return Ok(());
    }
    let mut segment = storage.open(kept.number)?;
    let mut from = HEADER_PAGE_SIZE;
    while from < kept.end {
        let (record, end) = read_checked(segment.bytes(), from);
        if record.lsn > evidence {
            break;
        }
        from = end;
    }
    if !header_is_durable {
        store_again(&mut segment, 0, HEADER_PAGE_SIZE);
    }
    store_again(&mut segment, from, kept.end);
    storage.sync_segment(&segment)
}

fn store_again<T: Segment>(segment: &mut T, from: usize, to: usize) {
    let mut copy = [0; PAGE_SIZE];
    let mut from = from;
    while from < to {
        let size = (to - from).min(PAGE_SIZE);
        copy[..size].copy_from_slice(&segment.bytes()[from..from + size]);
        // Storing what was just loaded changes nothing that the compiler can see.
        segment
            .slice_mut(from..from + size)
            .copy_from_slice(&black_box(&copy)[..size]);
        from += size;
    }
}
