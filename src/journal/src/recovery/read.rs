//! The reading half of recovery: changes nothing.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::control::{ControlFault, ControlField, check_header};
use crate::error::StorageError;
use crate::framing::Framing;
use crate::header::{HEADER_PAGE_SIZE, HeaderExpectation, HeaderFault, SegmentHeader};
use crate::identifier::{Lsn, Position, SegmentNumber};
use crate::record::{COMMIT_KIND, OWN_KIND_MIN, Records, as_commit, read, read_checked, scan_for_evidence};
use crate::recovery::error::{Damage, NotTaken, RecoveryError, Refusal};
use crate::recovery::table::{Found, Verdict, verdict};
use crate::recovery::{RecoveryStart, Summary};
use crate::storage::{Look, Segment, Stored};

/// A segment of which batches were kept.
pub(crate) struct Kept {
    pub(crate) number: SegmentNumber,
    pub(crate) incarnation: u64,
    pub(crate) first_lsn: Lsn,
    /// The last commit record; below `first_lsn` when there is none.
    pub(crate) last_lsn: Lsn,
    /// The end of the last batch, in bytes from the beginning of the segment.
    pub(crate) end: usize,
}

pub(crate) struct Reader<'storage, S: Stored, F: Framing> {
    storage: &'storage mut S,
    /// The valid header of each segment that has one.
    headers: BTreeMap<SegmentNumber, SegmentHeader>,
    /// What else is there of each file.
    pub(crate) faults: BTreeMap<SegmentNumber, Look>,
    /// The segment that reading begins with; what lies before it is no concern of recovery.
    first: SegmentNumber,
    /// The LSN up to which the caller has the records' effects.
    covered: Lsn,
    /// The LSN that the next batch's first record must have.
    expected: Lsn,
    pub(crate) newest_durable: SegmentNumber,
    /// The highest LSN that something read so far proves to have been durable.
    pub(crate) evidence: Lsn,
    pub(crate) kept: Vec<Kept>,
    pub(crate) summary: Summary,
    /// Whether the last commit record is empty and proves all before it, or there is nothing to prove.
    pub(crate) is_proven: bool,
    framing: PhantomData<fn() -> F>,
}

/// Where a segment's whole batches end.
struct Hole {
    /// The end of the last whole batch.
    end: usize,
    /// The first place without a valid record, and the LSN that it would have.
    offset: usize,
    lsn: Lsn,
}

impl<'storage, S: Stored, F: Framing> Reader<'storage, S, F> {
    /// Checks the control page and all headers from the start on.
    pub(crate) fn new<E>(storage: &'storage mut S, start: RecoveryStart) -> Result<Self, RecoveryError<E>> {
        let journal = storage.journal_id();
        let segment_size = storage.segment_size();
        let fault = match storage.control_header() {
            None => Some(Found::ControlPageMissing),
            Some(header) => match check_header(&header, journal, segment_size) {
                Ok(()) => None,
                Err(ControlFault::NotValid) => Some(Found::ControlPageNotValid),
                Err(ControlFault::UnknownVersion(version)) => {
                    let verdict = verdict(Found::ControlPageOfUnknownVersion, || Ok::<_, StorageError>(false))?;
                    assert_eq!(verdict, Verdict::Refused);
                    return Err(RecoveryError::Refused(Refusal::UnknownControlVersion { version }));
                }
                Err(ControlFault::OtherJournal) => Some(Found::ControlPageOfOtherJournal),
            },
        };
        if let Some(found) = fault {
            let verdict = verdict(found, || Ok::<_, StorageError>(false))?;
            assert_eq!(verdict, Verdict::Damage);
            let position = Position {
                segment: SegmentNumber(0),
                offset: 0,
                lsn: Lsn(0),
            };
            return Err(RecoveryError::Damage(Damage {
                journal,
                found,
                position,
                evidence: Lsn(0),
            }));
        }
        let mut reader = Reader {
            // Before the first header is read: an LSN that must be there, or the first of all.
            expected: start.lsn.max(Lsn(1)),
            first: start.segment,
            covered: start.lsn,
            newest_durable: SegmentNumber(storage.control_load(ControlField::NewestDurableSegment)),
            // A snapshot holds only what was durable.
            evidence: Lsn(storage.control_load(ControlField::DurableLsn)).max(start.lsn),
            headers: BTreeMap::new(),
            faults: BTreeMap::new(),
            kept: Vec::new(),
            summary: Summary::default(),
            is_proven: true,
            framing: PhantomData,
            storage,
        };
        reader.read_headers()?;
        Ok(reader)
    }

    fn read_headers<E>(&mut self) -> Result<(), RecoveryError<E>> {
        let journal = self.storage.journal_id();
        let file_size = self.storage.segment_size();
        let mut numbers = self.storage.segments()?;
        numbers.retain(|number| *number >= self.first);
        numbers.sort_unstable();
        for number in numbers {
            let look = self.storage.look(number)?;
            let Look::Header(bytes) = look else {
                self.faults.insert(number, look);
                continue;
            };
            let refusal = match SegmentHeader::decode(
                &bytes,
                HeaderExpectation {
                    journal,
                    number,
                    file_size,
                },
            ) {
                Ok(header) => {
                    self.evidence = self.evidence.max(header.durable_lsn);
                    if number <= self.newest_durable {
                        // The sync that made the segment durable covered its first batch, and all before it.
                        self.evidence = self.evidence.max(header.first_lsn);
                    }
                    self.headers.insert(number, header);
                    continue;
                }
                Err(HeaderFault::NotValid) => {
                    self.faults.insert(number, look);
                    continue;
                }
                Err(HeaderFault::UnknownVersion(version)) => Refusal::UnknownVersion {
                    segment: number,
                    version,
                },
                Err(HeaderFault::OtherJournal(journal)) => Refusal::OtherJournal {
                    segment: number,
                    journal,
                },
            };
            let found = match refusal {
                Refusal::OtherJournal { .. } => Found::HeaderOfOtherJournal,
                _ => Found::HeaderOfUnknownVersion,
            };
            let verdict = verdict(found, || Ok::<_, StorageError>(false))?;
            assert_eq!(verdict, Verdict::Refused);
            return Err(RecoveryError::Refused(refusal));
        }
        Ok(())
    }

    /// Reads segment after segment until the journal ends.
    pub(crate) fn read<E>(
        &mut self,
        mut take: impl FnMut(Records<'_>) -> Result<(), NotTaken<E>>,
    ) -> Result<(), RecoveryError<E>> {
        let mut number = self.first;
        loop {
            let found = self.file_at(number);
            let position = Position {
                segment: number,
                offset: 0,
                lsn: self.expected,
            };
            match self.decide(found, position, |reader| {
                reader.expect_durable(number);
                reader.scan_from(number)
            })? {
                Verdict::ReadRecords => {}
                Verdict::EndsBefore | Verdict::Abandoned => {
                    let end = Position {
                        segment: number,
                        offset: 0,
                        lsn: self.expected,
                    };
                    self.summary.cut = self.has_header_from(number).then_some(end);
                    return Ok(());
                }
                other => unreachable!("{other:?} is no verdict on a file"),
            }
            let header = self.headers[&number];
            self.expected = header.first_lsn;
            let seed = F::seed(header.journal, header.incarnation, number);
            let segment = self.storage.open(number)?;
            let hole = self.read_batches(&segment, &header, seed, &mut take)?;
            let next = number.next();
            let next_found = self.file_at(next);
            let found = match next_found {
                Found::HeaderContinues => Found::BatchNotWholeNextContinues,
                // The table's row for files that were durable needs no evidence, so it comes before the rows for records that do.
                Found::DurableSegmentMissing | Found::DurableSegmentOfWrongSize | Found::DurableHeaderNotValid => {
                    let position = Position {
                        segment: next,
                        offset: 0,
                        lsn: self.expected,
                    };
                    self.decide(next_found, position, |_| Ok(()))?;
                    unreachable!("a durable segment without a valid header is damage");
                }
                _ => Found::BatchNotWhole,
            };
            let position = Position {
                segment: number,
                offset: hole.offset as u64,
                lsn: hole.lsn,
            };
            let mut has_commit_behind = false;
            let verdict = self.decide(found, position, |reader| {
                let evidence = scan_for_evidence::<F>(segment.bytes(), seed, hole.offset, hole.lsn);
                has_commit_behind = evidence.is_some();
                reader.evidence = reader.evidence.max(evidence.unwrap_or_default());
                reader.expect_durable(next);
                reader.scan_from(next)
            })?;
            match verdict {
                Verdict::SegmentEnds => number = next,
                Verdict::Torn => {
                    let is_cut = hole.lsn > self.expected || has_commit_behind || self.has_header_from(next);
                    let end = Position {
                        segment: number,
                        offset: hole.end as u64,
                        lsn: self.expected,
                    };
                    self.summary.cut = is_cut.then_some(end);
                    return Ok(());
                }
                other => unreachable!("{other:?} is no verdict on records"),
            }
        }
    }

    /// Looks the verdict up. `scan` raises the evidence by what lies behind the place; it is called only if that matters.
    fn decide<E>(
        &mut self,
        found: Found,
        position: Position,
        scan: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<Verdict, RecoveryError<E>> {
        let verdict = verdict(found, || {
            scan(self)?;
            Ok::<_, StorageError>(self.evidence >= self.expected)
        })?;
        if verdict == Verdict::Damage {
            let journal = self.storage.journal_id();
            return Err(RecoveryError::Damage(Damage {
                journal,
                found,
                position,
                evidence: self.evidence,
            }));
        }
        Ok(verdict)
    }

    /// What lies where this segment belongs, seen from the segments before it.
    fn file_at(&self, number: SegmentNumber) -> Found {
        let is_durable = number <= self.newest_durable;
        if let Some(header) = self.headers.get(&number) {
            let continues = if number == self.first && self.covered.0 > 0 {
                // What lies before it is not read, and may be gone.
                header.first_lsn <= self.covered
            } else {
                let previous_incarnation = self.kept.last().map_or(0, |segment| segment.incarnation);
                header.first_lsn == self.expected && header.previous_incarnation == previous_incarnation
            };
            return if continues {
                Found::HeaderContinues
            } else {
                Found::HeaderDoesNotContinue
            };
        }
        match (self.faults.get(&number), is_durable) {
            (None | Some(Look::Missing), true) => Found::DurableSegmentMissing,
            (None | Some(Look::Missing), false) => Found::SegmentMissing,
            (Some(Look::WrongSize), true) => Found::DurableSegmentOfWrongSize,
            (Some(Look::Header(_)), true) => Found::DurableHeaderNotValid,
            (Some(Look::WrongSize | Look::Header(_)), false) => Found::HeaderNotValid,
        }
    }

    fn has_header_from(&self, number: SegmentNumber) -> bool {
        self.headers.range(number..).next().is_some()
    }

    /// Nothing is ever missing before a segment that was durable.
    fn expect_durable(&mut self, number: SegmentNumber) {
        if number <= self.newest_durable {
            self.evidence = self.evidence.max(self.expected);
        }
    }

    /// Raises the evidence by the commit records in this segment and all later ones, each under its own seed.
    fn scan_from(&mut self, number: SegmentNumber) -> Result<(), StorageError> {
        for (number, header) in self.headers.range(number..) {
            let segment = self.storage.open(*number)?;
            let seed = F::seed(header.journal, header.incarnation, *number);
            let evidence = scan_for_evidence::<F>(segment.bytes(), seed, HEADER_PAGE_SIZE, self.expected);
            self.evidence = self.evidence.max(evidence.unwrap_or_default());
        }
        Ok(())
    }

    /// Hands out the records of the segment's whole batches.
    fn read_batches<E>(
        &mut self,
        segment: &S::Segment,
        header: &SegmentHeader,
        seed: u32,
        take: &mut impl FnMut(Records<'_>) -> Result<(), NotTaken<E>>,
    ) -> Result<Hole, RecoveryError<E>> {
        let bytes = segment.bytes();
        let mut end = HEADER_PAGE_SIZE;
        self.kept.push(Kept {
            number: header.number,
            incarnation: header.incarnation,
            first_lsn: header.first_lsn,
            last_lsn: Lsn(header.first_lsn.0 - 1),
            end,
        });
        loop {
            let mut offset = end;
            let mut lsn = self.expected;
            // First the whole batch is checked, then its records are handed out.
            let whole = loop {
                let Some((record, next)) = read::<F>(bytes, seed, offset, lsn) else {
                    break None;
                };
                if record.tag.kind >= OWN_KIND_MIN {
                    if record.tag.kind != COMMIT_KIND {
                        let position = Position {
                            segment: header.number,
                            offset: offset as u64,
                            lsn,
                        };
                        let kind = record.tag.kind;
                        return Err(RecoveryError::Refused(Refusal::UnknownKind { position, kind }));
                    }
                    let count = lsn.0 - self.expected.0;
                    break as_commit(&record)
                        .filter(|commit| commit.first_lsn == self.expected && u64::from(commit.record_count) == count)
                        .map(|commit| (commit, record.time, next));
                }
                offset = next;
                lsn = Lsn(lsn.0 + 1);
            };
            let Some((commit, time, next)) = whole else {
                return Ok(Hole { end, offset, lsn });
            };
            let verdict = verdict(Found::BatchWhole, || Ok::<_, StorageError>(false))?;
            assert_eq!(verdict, Verdict::ApplyBatch);
            let mut at = end;
            let mut skipped = 0;
            while at < offset {
                let (record, after) = read_checked(bytes, at);
                if record.lsn > self.covered {
                    break;
                }
                at = after;
                skipped += 1;
            }
            if at < offset {
                take(Records::new(bytes, at..offset))
                    .map_err(|NotTaken { lsn, source }| RecoveryError::Record { lsn, source })?;
            }
            self.summary.skipped += skipped;
            self.summary.records += u64::from(commit.record_count) - skipped;
            self.summary.batches += 1;
            self.summary.bytes += (next - end) as u64;
            self.summary.last_lsn = lsn;
            self.summary.last_time = time;
            self.evidence = self.evidence.max(commit.durable_lsn);
            self.is_proven = commit.record_count == 0 && commit.durable_lsn.0 + 1 == lsn.0;
            self.expected = Lsn(lsn.0 + 1);
            let kept = self.kept.last_mut().expect("the segment was pushed above");
            kept.last_lsn = lsn;
            kept.end = next;
            end = next;
        }
    }
}
