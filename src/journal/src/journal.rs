//! The running journal.
//!
//! Invariants:
//! - Records lie in the active segment from its header's page to `offset` without gaps, with LSNs that rise by 1 and times that never fall.
//! - Behind the records of an open batch there is always room for its commit record.
//! - `durable <= committed < batch_first <= next`: what is durable has been committed, and only the open batch is not.
//! - A segment that is opened names the one before it and the LSN that follows all committed records.
//! - While no segment is prepared, what is left of the active one belongs to essential records; only what a start finds
//!   open is shared, and of that half at most.

use std::fmt;
use std::marker::PhantomData;

use crate::control::ControlField;
use crate::error::StorageError;
use crate::framing::{CrcFraming, Framing};
use crate::header::{HEADER_PAGE_SIZE, HEADER_SIZE, SegmentHeader};
use crate::identifier::{Lsn, Record, SegmentNumber, Tag};
use crate::limits::RECORD_SIZE_MAX;
use crate::record::{COMMIT_SIZE, Commit, OWN_KIND_MIN, RECORD_HEADER_SIZE, padded, write, write_commit};
use crate::storage::{Segment, Storage};

/// How badly a record is needed when segments run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Opens a new segment only while at least two are prepared, and goes into the last one only while another is
    /// prepared behind it.
    Normal,
    /// May open the last prepared segment too, and fill it: records that free capacity, so that a full disk does not
    /// keep it.
    Essential,
}

impl Priority {
    const fn prepared_count_min(self) -> usize {
        match self {
            Priority::Normal => 2,
            Priority::Essential => 1,
        }
    }
}

/// Why a record was not appended. Nothing has changed; later it may fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Full {
    /// The disk is full: no segment could be prepared.
    #[error("no room left on the disk for another segment")]
    Storage,
    /// Segments are used up faster than they are prepared.
    #[error("no segment is prepared yet")]
    Ring,
}

/// A request to sync. When [`Journal::write_out`] was called and then the sync of all its segments has finished, [`Journal::durable`] may be called with `upto`; tickets finish in the order
/// in which they were given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Counts the tickets of this journal since recovery, from 1.
    pub id: u64,
    /// The LSN of the newest commit record: up to it the sync makes the journal durable.
    pub upto: Lsn,
    /// The first segment to sync.
    pub first_segment: SegmentNumber,
    /// The last segment to sync.
    pub last_segment: SegmentNumber,
    /// The newest segment whose first sync this is, if it is one: then [`Journal::segment_synced`] is called with it after the sync, and the control
    /// page is synced, before [`Journal::durable`] is called.
    pub opened: Option<SegmentNumber>,
}

impl Ticket {
    /// The segments to sync, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentNumber> + use<> {
        (self.first_segment.0..=self.last_segment.0).map(SegmentNumber)
    }
}

/// Where recovery left off.
pub(crate) struct Start {
    /// The number of the segment that is opened, and the incarnation of the one before it.
    pub(crate) number: SegmentNumber,
    pub(crate) previous_incarnation: u64,
    /// The last commit record, which is durable.
    pub(crate) last_lsn: Lsn,
    pub(crate) time: i64,
    /// Whether an empty commit record would prove nothing that is not proven already.
    pub(crate) is_proven: bool,
}

/// An append-only log of opaque records in batches.
///
/// It makes no system call and starts no thread of its own; what it needs comes through its [`Storage`].
pub struct Journal<S: Storage, F: Framing = CrcFraming> {
    storage: S,
    segment: S::Segment,
    number: SegmentNumber,
    incarnation: u64,
    seed: u32,
    /// Where the next record goes, in bytes from the beginning of the segment.
    offset: usize,
    /// Where a record must end at the latest: behind it a commit record still fits.
    limit: usize,
    body_size_max: usize,
    /// No segment was prepared behind the active one when that was last looked at: what is left of it is kept for
    /// essential records.
    is_last: bool,
    /// Where normal records end all the same in the last segment, as long as nothing says that no other can be had.
    shared_limit: usize,
    /// The LSN of the next record.
    next: u64,
    /// The LSN of the first record of the open batch; `next` if it is empty.
    batch_first: u64,
    /// The LSN of the last commit record.
    committed: u64,
    durable: u64,
    time: i64,
    bytes_appended: u64,
    ticket_count: u64,
    /// The first segment that was stored into since the last ticket.
    ticket_first_segment: SegmentNumber,
    /// The newest segment opened since the last ticket.
    opened: Option<SegmentNumber>,
    is_proven: bool,
    incarnations: Box<dyn FnMut() -> u64>,
    framing: PhantomData<fn() -> F>,
}

impl<S: Storage, F: Framing> Journal<S, F> {
    /// Writes the header of the first segment of this run.
    pub(crate) fn start(
        storage: S,
        segment: S::Segment,
        incarnations: Box<dyn FnMut() -> u64>,
        start: &Start,
    ) -> Journal<S, F> {
        let segment_size = storage.segment_size();
        assert_eq!(segment.number(), start.number, "the storage opened another segment");
        let space = segment_size - HEADER_PAGE_SIZE - COMMIT_SIZE;
        let mut journal = Journal {
            storage,
            segment,
            number: start.number,
            incarnation: start.previous_incarnation,
            seed: 0,
            offset: HEADER_PAGE_SIZE,
            limit: segment_size - COMMIT_SIZE,
            body_size_max: space.min(RECORD_SIZE_MAX) - RECORD_HEADER_SIZE,
            is_last: true,
            // A start does not wait for the first attempt to prepare a segment; if that finds the disk full, at least
            // half is left.
            shared_limit: HEADER_PAGE_SIZE + space / 2,
            next: start.last_lsn.0 + 1,
            batch_first: start.last_lsn.0 + 1,
            committed: start.last_lsn.0,
            durable: start.last_lsn.0,
            time: start.time,
            bytes_appended: 0,
            ticket_count: 0,
            ticket_first_segment: start.number,
            opened: None,
            is_proven: start.is_proven,
            incarnations,
            framing: PhantomData,
        };
        journal.open_active();
        journal
    }

    /// Begins a turn: the records that follow carry the time that is returned, `now` or the last record's time if that is later. In
    /// microseconds since 1970.
    pub fn begin(&mut self, now: i64) -> i64 {
        self.time = self.time.max(now);
        self.time
    }

    /// Appends a record to the open batch. It counts once the batch is committed, and is durable once the ticket is.
    ///
    /// When the record does not fit the active segment, the batch so far is committed and the next segment is opened.
    ///
    /// # Errors
    /// When there is no segment to open, or none is prepared and what is left is kept for essential records. Nothing
    /// has changed, and a later attempt may succeed.
    ///
    /// # Panics
    /// When the body is larger than [`Journal::max_body_size`] or the kind is one of the journal's own: the caller checks both.
    #[inline]
    pub fn append(&mut self, priority: Priority, tag: Tag, body: &[u8]) -> Result<Lsn, Full> {
        assert!(body.len() <= self.body_size_max, "a body of {} bytes", body.len());
        assert!(tag.kind < OWN_KIND_MIN, "kind {:#x} is the journal's own", tag.kind);
        let size = Self::record_size(body.len());
        if self.is_last && priority == Priority::Normal {
            self.share_last(size)?;
        }
        if self.offset + size > self.limit {
            self.roll(priority)?;
        }
        let lsn = Lsn(self.next);
        let record = Record {
            lsn,
            time: self.time,
            tag,
            body,
        };
        let into = self.segment.slice_mut(self.offset..self.offset + size);
        write::<F>(into, self.seed, &record);
        self.offset += size;
        self.next += 1;
        self.bytes_appended += size as u64;
        Ok(lsn)
    }

    /// Makes sure that a group of essential records, appended next, goes into one batch of one segment, with none of them
    /// refused: together they take at most `size` bytes, as [`Journal::record_size`] counts them. When the rest of the
    /// active segment is too small, the batch so far is committed and the next segment is opened.
    ///
    /// # Errors
    /// When there is no segment to open. Nothing has changed, and a later attempt may succeed.
    ///
    /// # Panics
    /// When `size` is above [`Journal::max_group_size`]: the caller checks that.
    pub fn make_room(&mut self, size: usize) -> Result<(), Full> {
        assert!(size <= self.max_group_size(), "a group of {size} bytes");
        if self.offset + size > self.limit {
            self.roll(Priority::Essential)?;
        }
        Ok(())
    }

    /// Closes the batch and asks for its sync; nothing if nothing was appended since the last ticket.
    pub fn commit(&mut self) -> Option<Ticket> {
        if self.next == self.batch_first {
            return None;
        }
        self.put_commit();
        Some(self.ticket())
    }

    /// Appends an empty commit record that proves all before it durable, for a clean stop and after an idle second. Does nothing if something is
    /// not durable yet, if the last record is such a commit record already, or if there is no segment for it.
    pub fn idle_commit(&mut self, now: i64) -> Option<Ticket> {
        if self.is_proven || self.next != self.batch_first || self.durable != self.committed {
            return None;
        }
        if self.offset > self.limit {
            self.roll(Priority::Normal).ok()?;
        }
        self.begin(now);
        self.put_commit();
        self.is_proven = true;
        Some(self.ticket())
    }

    /// Brings what was appended to where a sync of the segments' files finds it. If `is_durable`, what was appended to the active segment since the
    /// last call is durable when this returns, without another sync: enough for a ticket of that segment alone which opened none.
    ///
    /// # Errors
    /// As bad as a sync that fails: what the disk holds is unknown.
    pub fn write_out(&mut self, is_durable: bool) -> Result<(), StorageError> {
        self.storage.write_out(&mut self.segment, is_durable)
    }

    /// The first sync of a segment has finished, header included: the control page says so from now on. The caller then syncs the control page.
    ///
    /// # Panics
    /// When the segment was never opened, or is older than one that was synced before.
    pub fn segment_synced(&mut self, number: SegmentNumber) {
        let newest = self.storage.control_load(ControlField::NewestDurableSegment);
        assert!(number.0 >= newest, "segment {number} was synced after {newest}");
        assert!(number <= self.number, "segment {number} was never opened");
        self.storage.control_store(ControlField::NewestDurableSegment, number.0);
    }

    /// The journal is durable up to a ticket's LSN: followers may read that far, and later records say so.
    ///
    /// # Panics
    /// When the LSN is lower than before, or was never committed.
    pub fn durable(&mut self, upto: Lsn) {
        assert!(upto.0 >= self.durable, "LSN {upto} is durable after {}", self.durable);
        assert!(upto.0 <= self.committed, "LSN {upto} is durable before it is committed");
        self.durable = upto.0;
        self.storage.control_store(ControlField::DurableLsn, upto.0);
    }

    /// The LSN of the last commit record, 0 if there is none.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.committed)
    }

    /// The LSN up to which all is durable: that of a commit record, or 0.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable)
    }

    /// The time of the current turn, in microseconds since 1970; no record's is later.
    pub fn last_time(&self) -> i64 {
        self.time
    }

    /// Bytes of records appended since recovery, commit records and padding included.
    pub fn bytes_appended(&self) -> u64 {
        self.bytes_appended
    }

    /// The largest body that [`Journal::append`] takes, in bytes.
    pub fn max_body_size(&self) -> usize {
        self.body_size_max
    }

    /// The bytes that a record with a body of this size takes in a segment.
    pub const fn record_size(body_size: usize) -> usize {
        padded(RECORD_HEADER_SIZE + body_size)
    }

    /// The most bytes that the records of one batch take: those of an empty segment.
    pub fn max_group_size(&self) -> usize {
        self.limit - HEADER_PAGE_SIZE
    }

    /// The segment that is appended to. A simulator syncs what it sees here; full segments came back through [`Storage::retire`].
    pub fn segment(&self) -> &S::Segment {
        &self.segment
    }

    /// What lies below.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Whether there is no segment behind the active one for records of [`Priority::Normal`], nor room for more: they are refused, or soon will be.
    pub fn is_full(&self) -> bool {
        self.storage.prepared_count() < Priority::Normal.prepared_count_min() && self.storage.is_exhausted()
    }

    /// Gives back what lies below. What was not synced is not durable.
    pub fn into_storage(self) -> S {
        self.storage
    }

    fn put_commit(&mut self) {
        let record_count = u32::try_from(self.next - self.batch_first).expect("a batch lies in one segment");
        let commit = Commit {
            first_lsn: Lsn(self.batch_first),
            record_count,
            durable_lsn: Lsn(self.durable),
        };
        let into = self.segment.slice_mut(self.offset..self.offset + COMMIT_SIZE);
        write_commit::<F>(into, self.seed, self.time, commit);
        self.offset += COMMIT_SIZE;
        self.bytes_appended += COMMIT_SIZE as u64;
        self.committed = self.next;
        self.next += 1;
        self.batch_first = self.next;
        self.is_proven = false;
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket_count += 1;
        let ticket = Ticket {
            id: self.ticket_count,
            upto: Lsn(self.committed),
            first_segment: self.ticket_first_segment,
            last_segment: self.number,
            opened: self.opened.take(),
        };
        self.ticket_first_segment = self.number;
        ticket
    }

    /// Closes the batch, if it is not empty, and goes on in the next segment.
    #[cold]
    #[inline(never)]
    fn roll(&mut self, priority: Priority) -> Result<(), Full> {
        let next = self.number.next();
        let prepared = if self.storage.prepared_count() >= priority.prepared_count_min() {
            self.storage.take_prepared(next)
        } else {
            None
        };
        let Some(segment) = prepared else {
            return Err(self.full());
        };
        assert_eq!(segment.number(), next, "the storage gave another segment");
        if self.next == self.batch_first {
            // Earlier tickets sync all of the full segment.
            self.ticket_first_segment = next;
        } else {
            self.put_commit();
        }
        let full = std::mem::replace(&mut self.segment, segment);
        self.storage.retire(full);
        self.number = next;
        self.offset = HEADER_PAGE_SIZE;
        self.is_last = self.storage.prepared_count() == 0;
        self.shared_limit = HEADER_PAGE_SIZE;
        self.open_active();
        Ok(())
    }

    /// Whether a normal record of this size may go into the active segment although none was prepared behind it.
    #[cold]
    #[inline(never)]
    fn share_last(&mut self, size: usize) -> Result<(), Full> {
        if self.storage.prepared_count() > 0 {
            self.is_last = false;
            return Ok(());
        }
        if self.offset + size <= self.shared_limit && !self.storage.is_exhausted() {
            return Ok(());
        }
        Err(self.full())
    }

    fn full(&self) -> Full {
        if self.storage.is_full() {
            Full::Storage
        } else {
            Full::Ring
        }
    }

    /// Writes the header of the active segment. `incarnation` still is that of the segment before it.
    fn open_active(&mut self) {
        // 0 stands for "no segment before this one".
        let incarnation = (self.incarnations)().max(1);
        let header = SegmentHeader {
            journal: self.storage.journal_id(),
            number: self.number,
            incarnation,
            first_lsn: Lsn(self.next),
            file_size: self.storage.segment_size() as u64,
            opened_at: self.time,
            durable_lsn: Lsn(self.durable),
            previous_incarnation: self.incarnation,
        };
        self.segment.slice_mut(0..HEADER_SIZE).copy_from_slice(&header.encode());
        self.incarnation = incarnation;
        self.seed = F::seed(header.journal, incarnation, self.number);
        self.opened = Some(self.number);
    }
}

impl<S: Storage, F: Framing> fmt::Debug for Journal<S, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("id", &self.storage.journal_id())
            .field("segment", &self.number)
            .field("offset", &self.offset)
            .field("committed", &self.committed)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}
