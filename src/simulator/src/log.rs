//! What the journal has written, read from the bytes by a reader of its own.
//!
//! It knows the layout of `ARCHITECTURE.md` and shares no code with the journal but the checksum. Records are kept by a hash, in order, so
//! that a recovery can be held against them.

use plimsoll_domain::{Event, ReleaseCause};
use plimsoll_journal::{COMMIT_KIND, Framing, JournalId, Record, SegmentNumber};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::digest::Digest;
use crate::disk::SimDisk;
use crate::memory::PAGE_SIZE;

/// An event as the journal has it.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) lsn: u64,
    pub(crate) at: i64,
    pub(crate) event: Event,
}

/// One record, its LSN being its place in the log plus 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRecord {
    pub(crate) segment: u64,
    pub(crate) offset: usize,
    /// Without padding.
    pub(crate) size: usize,
    pub(crate) is_commit: bool,
    pub(crate) hash: u64,
}

pub(crate) struct Log {
    pub(crate) records: Vec<LogRecord>,
    segment: u64,
    offset: usize,
    seed: Option<u32>,
    pub(crate) last_time: i64,
    /// Events that are still to come of a reset's group.
    group_left: u32,
    /// Planted: a group is closed after its first event.
    splits_groups: bool,
}

impl Log {
    pub(crate) fn new(splits_groups: bool) -> Log {
        Log {
            records: Vec::new(),
            segment: 1,
            offset: PAGE_SIZE,
            seed: None,
            last_time: i64::MIN,
            group_left: 0,
            splits_groups,
        }
    }

    /// The LSN of the last record.
    pub(crate) fn last_lsn(&self) -> u64 {
        self.records.len() as u64
    }

    /// After a recovery: what lies behind the LSN is cut off, and the journal goes on in this segment.
    pub(crate) fn restart(&mut self, last_lsn: u64, last_time: i64, segment: u64) {
        self.records.truncate(last_lsn as usize);
        (self.segment, self.offset, self.seed, self.last_time) = (segment, PAGE_SIZE, None, last_time);
        self.group_left = 0;
    }

    /// Reads what has been written since the last time, up to this LSN and to the end of the segment that is active.
    pub(crate) fn read<F: Framing>(
        &mut self,
        disk: &SimDisk,
        upto: u64,
        active: u64,
        dimension_count: usize,
    ) -> Result<Vec<Happened>, Violation> {
        let mut events = Vec::new();
        loop {
            if self.last_lsn() >= upto {
                return Ok(events);
            }
            let Some(memory) = disk.memory(self.segment) else {
                return Ok(events);
            };
            let bytes = memory.bytes();
            let seed = *self.seed.get_or_insert_with(|| {
                let incarnation = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes"));
                F::seed(
                    JournalId(bytes[16..32].try_into().expect("16 bytes")),
                    incarnation,
                    SegmentNumber(self.segment),
                )
            });
            let Some((record, end)) = record_at::<F>(bytes, seed, self.offset, self.last_lsn() + 1) else {
                if self.segment >= active {
                    return Ok(events);
                }
                (self.segment, self.offset, self.seed) = (self.segment + 1, PAGE_SIZE, None);
                continue;
            };
            if record.time < self.last_time {
                return violation(Promise::Forgotten, || {
                    format!(
                        "LSN {} has time {}, below the record before it: {}",
                        record.lsn, record.time, self.last_time
                    )
                });
            }
            self.last_time = record.time;
            let is_commit = record.tag.kind == COMMIT_KIND;
            if is_commit {
                self.close_batch(record.lsn.0)?;
            } else {
                let happened = decode(&record, dimension_count)?;
                self.follow_group(&happened)?;
                events.push(happened);
            }
            self.records.push(LogRecord {
                segment: self.segment,
                offset: self.offset,
                size: 32 + record.body.len(),
                is_commit,
                hash: hash(&record),
            });
            self.offset = end;
        }
    }
}

impl Log {
    /// The events of a reset come one behind the other.
    fn follow_group(&mut self, happened: &Happened) -> Result<(), Violation> {
        if let Event::PoolReset(event) = &happened.event {
            let left = std::mem::replace(&mut self.group_left, event.change_count);
            let is_closed = left == 0 && event.change_count > 0;
            hold(is_closed, Promise::Forgotten, || {
                format!("a reset of nothing, or within another one: {event:?}, {left} left")
            })?;
            return if self.splits_groups {
                self.close_batch(happened.lsn)
            } else {
                Ok(())
            };
        }
        let is_part = match &happened.event {
            Event::PoolChanged(_) | Event::Restored(_) => true,
            Event::Released(event) => event.cause == ReleaseCause::Reset,
            _ => false,
        };
        let must_be_part = matches!(&happened.event, Event::Restored(_))
            || matches!(&happened.event, Event::Released(event) if event.cause == ReleaseCause::Reset);
        hold(
            if self.group_left > 0 { is_part } else { !must_be_part },
            Promise::Forgotten,
            || {
                format!(
                    "{happened:?} stands where {} events of a reset are left",
                    self.group_left
                )
            },
        )?;
        self.group_left = self.group_left.saturating_sub(1);
        Ok(())
    }

    /// A batch ends at this LSN: a reset counts as a whole.
    fn close_batch(&self, lsn: u64) -> Result<(), Violation> {
        hold(self.group_left == 0, Promise::Forgotten, || {
            format!(
                "a batch ends at LSN {lsn}, and {} events of a reset are left",
                self.group_left
            )
        })
    }
}

/// The event of a record.
pub(crate) fn decode(record: &Record<'_>, dimension_count: usize) -> Result<Happened, Violation> {
    let (lsn, at) = (record.lsn.0, record.time);
    match plimsoll_engine::event_of(record, dimension_count) {
        Ok(event) => Ok(Happened { lsn, at, event }),
        Err(error) => violation(Promise::Forgotten, || {
            format!("the record at LSN {lsn} cannot be read: {error}")
        }),
    }
}

/// What a record says, without its checksum.
pub(crate) fn hash(record: &Record<'_>) -> u64 {
    let mut digest = Digest::new();
    digest.add(record.lsn.0);
    digest.add(record.time as u64);
    digest.add(u64::from(record.tag.kind) << 48 | u64::from(record.tag.partition) << 32 | u64::from(record.tag.detail));
    digest.add_bytes(record.body);
    digest.0
}

fn record_at<F: Framing>(bytes: &[u8], seed: u32, offset: usize, lsn: u64) -> Option<(Record<'_>, usize)> {
    let bytes = bytes.get(offset..)?;
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().expect("8 bytes")));
    let size = (u64_at(0)? >> 32) as usize;
    let padded = size.checked_next_multiple_of(8)?;
    let whole = bytes.get(..padded).filter(|whole| whole.len() >= 32)?;
    if u64_at(8)? != lsn || F::checksum(seed, &whole[4..]) != u64_at(0)? as u32 {
        return None;
    }
    let tag = u64_at(24)?;
    let record = Record {
        lsn: plimsoll_journal::Lsn(lsn),
        time: u64_at(16)? as i64,
        tag: plimsoll_journal::Tag {
            kind: tag as u16,
            partition: (tag >> 16) as u16,
            detail: (tag >> 32) as u32,
        },
        body: &whole[32..size],
    };
    Some((record, offset + padded))
}
