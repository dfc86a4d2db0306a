//! Files of a journal: whatever stands in them, recovery gives a journal or a typed error.
//!
//! An input is a list of what was written: headers, records and commit records with right checksums and any content, and then bytes over
//! them. What recovery accepts must go on, and be recovered again as it was; what it refuses must be left as it was.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use plimsoll_domain::Timestamp;
use plimsoll_journal::{
    COMMIT_KIND, ControlField, CrcFraming, Framing, Journal, Lsn, Priority, Record, RecoveryError, RecoveryStart,
    Segment, SegmentNumber, Tag,
};
use plimsoll_record::{DecodeError, RecordTag, decode};

use crate::commands::sample_events;
use crate::counting::within;
use crate::input::Input;
use crate::memory::{Files, JOURNAL, MemoryStorage, SIZE};

const STEP_COUNT_MAX: usize = 200;
const SEGMENT_COUNT_MAX: usize = 6;

const COMMIT_TAG: Tag = Tag {
    kind: COMMIT_KIND,
    partition: 0,
    detail: 0,
};

/// Writes what an input says.
struct Writer {
    files: Files,
    /// The file that is written to, where, and under which seed.
    number: u64,
    offset: usize,
    seed: u32,
    incarnation: u64,
    /// The LSN of the next record, and of the batch's first one.
    lsn: u64,
    first_lsn: u64,
}

impl Writer {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(file) = self.files.segments.get_mut(&self.number)
            && let Some(place) = file.get_mut(offset..).filter(|place| place.len() >= bytes.len())
        {
            place[..bytes.len()].copy_from_slice(bytes);
        }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        if self.files.segments.len() == SEGMENT_COUNT_MAX {
            return;
        }
        let flags = input.u8();
        let previous_incarnation = if flags & 1 == 0 {
            self.incarnation
        } else {
            u64::from(input.u8())
        };
        self.number = if flags & 2 == 0 {
            self.number + 1
        } else {
            u64::from(input.u8() % 8)
        };
        self.incarnation = if flags & 4 == 0 {
            self.incarnation.wrapping_add(11)
        } else {
            input.u64()
        };
        let first_lsn = if flags & 8 == 0 { self.lsn } else { input.u64() };
        let durable_lsn = if flags & 16 == 0 { 0 } else { u64::from(input.u8()) };
        let mut header = [0; 128];
        header[..8].copy_from_slice(b"PLIMSEG1");
        header[8] = if flags & 32 == 0 { 1 } else { input.u8() };
        header[16..32].copy_from_slice(&JOURNAL.0);
        let fields = [
            self.number,
            self.incarnation,
            first_lsn,
            SIZE as u64,
            5,
            durable_lsn,
            previous_incarnation,
        ];
        for (index, field) in fields.iter().enumerate() {
            header[32 + 8 * index..][..8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        self.files.segments.insert(self.number, vec![0; SIZE]);
        self.put(0, &header);
        (self.offset, self.seed) = (
            4096,
            CrcFraming::seed(JOURNAL, self.incarnation, SegmentNumber(self.number)),
        );
        self.first_lsn = self.lsn;
    }

    fn append(&mut self, lsn: u64, time: i64, tag: Tag, body: &[u8]) {
        let mut record = vec![0; (32 + body.len()).next_multiple_of(8)];
        record[4..8].copy_from_slice(&(32 + body.len() as u32).to_le_bytes());
        record[8..16].copy_from_slice(&lsn.to_le_bytes());
        record[16..24].copy_from_slice(&time.to_le_bytes());
        record[24..26].copy_from_slice(&tag.kind.to_le_bytes());
        record[26..28].copy_from_slice(&tag.partition.to_le_bytes());
        record[28..32].copy_from_slice(&tag.detail.to_le_bytes());
        record[32..32 + body.len()].copy_from_slice(body);
        let crc = CrcFraming::checksum(self.seed, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        self.put(self.offset, &record);
        self.offset += record.len();
    }

    fn record(&mut self, input: &mut Input<'_>) {
        let flags = input.u8();
        let tag = match flags >> 2 & 3 {
            // What only looks like a commit record, and other kinds that are the journal's own.
            1 => COMMIT_TAG,
            2 => Tag {
                kind: 0xFF00 | u16::from(input.u8()),
                ..COMMIT_TAG
            },
            _ => Tag {
                kind: input.u16(),
                partition: input.u16(),
                detail: input.u32(),
            },
        };
        let lsn = if flags & 1 == 0 { self.lsn } else { input.u64() };
        let size = usize::from(if flags & 2 == 0 {
            u16::from(input.u8())
        } else {
            input.u16()
        });
        let body = input.take(size);
        self.append(lsn, i64::from(input.u32()), tag, body);
        self.lsn = lsn.wrapping_add(1);
    }

    fn commit(&mut self, input: &mut Input<'_>) {
        let flags = input.u8();
        let first_lsn = if flags & 1 == 0 { self.first_lsn } else { input.u64() };
        let count = if flags & 2 == 0 {
            self.lsn.wrapping_sub(self.first_lsn) as u32
        } else {
            input.u32()
        };
        let durable_lsn = if flags & 4 == 0 {
            self.first_lsn.saturating_sub(1)
        } else {
            input.u64()
        };
        let mut body = [0; 24];
        body[..8].copy_from_slice(&first_lsn.to_le_bytes());
        body[8..12].copy_from_slice(&count.to_le_bytes());
        body[16..].copy_from_slice(&durable_lsn.to_le_bytes());
        self.append(self.lsn, i64::from(input.u32()), COMMIT_TAG, &body);
        self.lsn = self.lsn.wrapping_add(1);
        self.first_lsn = self.lsn;
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0 => self.open(input),
            1..=3 => self.record(input),
            4..=6 => self.commit(input),
            7 => {
                let (offset, size) = (usize::from(input.u16()), input.below(32));
                self.put(offset, input.take(size));
            }
            8 => self.files.set(ControlField::DurableLsn, u64::from(input.u8())),
            9 => {
                // Damage to a whole file.
                let number = u64::from(input.u8() % 8);
                match input.below(5) {
                    0 => drop(self.files.segments.remove(&number)),
                    1 => drop(self.files.segments.insert(number, vec![0; 4096])),
                    2 => self.files.control = None,
                    3 => {
                        let at = input.below(256);
                        if let Some(control) = &mut self.files.control {
                            control[at] = input.u8();
                        }
                    }
                    _ => self.number = number,
                }
            }
            10 => self
                .files
                .set(ControlField::NewestDurableSegment, u64::from(input.u8() % 8)),
            _ => {
                // A record that is no longer the last one.
                let back = 8 * input.below(64);
                self.offset = self.offset.saturating_sub(back).max(4096);
            }
        }
    }
}

/// A record as it was handed out.
type HandedOut = (u64, i64, Tag, Vec<u8>);

type Recovered = Result<Journal<MemoryStorage>, RecoveryError<DecodeError>>;

/// Recovers, with the memory that the files need and no more.
fn recover(files: &Rc<RefCell<Files>>, start: RecoveryStart, picky: bool) -> (Recovered, Vec<HandedOut>) {
    let storage = MemoryStorage(Rc::clone(files));
    let mut records = Vec::new();
    let incarnation = Cell::new(1_u64 << 40);
    let incarnations = move || {
        incarnation.set(incarnation.get() + 1);
        incarnation.get()
    };
    let each = |record: Record<'_>| {
        let Tag {
            kind,
            partition,
            detail,
        } = record.tag;
        let event = decode(
            RecordTag {
                kind,
                partition,
                detail,
            },
            Timestamp(record.time),
            record.body,
            2,
        );
        records.push((record.lsn.0, record.time, record.tag, record.body.to_vec()));
        if picky { event.map(drop) } else { Ok(()) }
    };
    let count = files.borrow().segments.len() + 4;
    let recovered = within(8 * count * SIZE, || {
        Journal::<_, CrcFraming>::recover(storage, start, 9, incarnations, each)
    });
    (recovered.map(|recovered| recovered.journal), records)
}

/// # Panics
/// When recovery panics, takes memory without bound, changes what it refuses, or does not recover again what it accepted.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let lsn = if flags & 1 == 0 { 0 } else { input.u8() };
    let start = if lsn == 0 {
        RecoveryStart::FIRST
    } else {
        RecoveryStart {
            lsn: Lsn(u64::from(lsn)),
            segment: SegmentNumber(u64::from(1 + input.u8() % 7)),
            time: i64::from(input.u8()),
        }
    };
    let mut writer = Writer {
        files: Files::new(),
        number: 0,
        offset: 4096,
        seed: 0,
        incarnation: 0,
        lsn: 1,
        first_lsn: 1,
    };
    for _ in 0..STEP_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        writer.step(&mut input);
    }
    let before = writer.files.clone();
    let files = Rc::new(RefCell::new(writer.files));
    let (recovered, records) = recover(&files, start, flags & 2 != 0);
    let journal = match recovered {
        Ok(journal) => journal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(*files.borrow() == before, "what is refused stays as it was: {error}");
            return;
        }
    };
    assert!(
        records.iter().all(|(lsn, ..)| *lsn > start.lsn.0),
        "what the snapshot covers is skipped"
    );
    assert!(
        records.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "records come in order"
    );
    assert_eq!(recover_again(journal, &files, start), records);
}

/// Goes on with the journal, and recovers it: the records before what was added now.
fn recover_again(
    mut journal: Journal<MemoryStorage>,
    files: &Rc<RefCell<Files>>,
    start: RecoveryStart,
) -> Vec<HandedOut> {
    let added = Tag {
        kind: 16,
        partition: 5,
        detail: 0,
    };
    journal.begin(10);
    let lsn = journal
        .append(Priority::Normal, added, b"added")
        .expect("there is room");
    let ticket = journal.commit().expect("something was appended");
    let segment = journal.segment();
    let (number, bytes) = (segment.number(), segment.bytes().to_vec());
    files.borrow_mut().segments.insert(number.0, bytes);
    if let Some(opened) = ticket.opened {
        journal.segment_synced(opened);
    }
    journal.durable(ticket.upto);
    drop(journal);
    let (recovered, mut records) = recover(files, start, false);
    recovered.expect("what was accepted and went on is accepted");
    let last = records.pop().expect("what was added is there");
    assert_eq!((last.0, last.2, &last.3[..]), (lsn.0, added, &b"added"[..]));
    records
}

/// Journals of real events in one segment and in several, with and without a torn end.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, events_each, tail, flags) in [
        ("one", usize::MAX, &[][..], 0),
        ("picky", usize::MAX, &[][..], 2),
        ("several", 6, &[][..], 0),
        ("torn", 6, &[7, 0, 17, 5, 1, 2, 3, 4, 5][..], 0),
        ("durable", 6, &[8, 3, 10, 1][..], 0),
    ] {
        let mut bytes = vec![flags];
        for (index, (tag, time, body)) in sample_events(1, 7, 300).into_iter().take(24).enumerate() {
            if index == 0 || index % events_each == 0 {
                bytes.extend([0, 0]);
            }
            bytes.extend([1, 0]);
            bytes.extend(tag.kind.to_le_bytes());
            bytes.extend(tag.partition.to_le_bytes());
            bytes.extend(tag.detail.to_le_bytes());
            bytes.push(body.len() as u8);
            bytes.extend(&body[..body.len().min(255)]);
            bytes.extend((time as u32).to_le_bytes());
            if index % 3 == 2 {
                bytes.extend([4, 0]);
                bytes.extend((time as u32).to_le_bytes());
            }
        }
        bytes.extend(tail);
        seeds.push((name.to_owned(), bytes));
    }
    let start = [&[1, 3, 1, 0], &seeds[2].1[1..]].concat();
    seeds.push(("from-a-snapshot".to_owned(), start));
    seeds
}
