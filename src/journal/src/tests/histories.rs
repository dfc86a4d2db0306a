//! Reading a journal forwards and backwards from any record, while it grows.

use std::ops::ControlFlow;

use crate::archive::{SegmentMarks, SegmentReader, SegmentSource, archive_segment};
use crate::backwards::BackwardReader;
use crate::damage::{FileDamage, FileError, FileFault};
use crate::directory::{Directory, NewDirectory};
use crate::framing::{CrcFraming, Framing};
use crate::history::{HistoryRange, HistoryReader};
use crate::identifier::{Lsn, SegmentNumber};
use crate::journal::{Journal, Priority};
use crate::mmap::{MmapStorage, Ring};
use crate::recovery::RecoveryStart;
use crate::storage::Segment;
use crate::tests::files::{batch, body, fill_up_to, keys};

/// Four windows of a reader, so that there are places to begin with in the middle.
const SEGMENT_SIZE: usize = 1 << 20;

struct Fixture {
    _parent: tempfile::TempDir,
    data: Directory,
    journal: Journal<MmapStorage>,
    marks: SegmentMarks,
}

impl Fixture {
    fn new() -> Fixture {
        let parent = tempfile::tempdir().expect("a directory for the test");
        let new = NewDirectory {
            segment_size: SEGMENT_SIZE,
            ..NewDirectory::default()
        };
        let data = Directory::open_or_create(&parent.path().join("data"), &new).expect("a data directory");
        let entry = &data.journals()[0];
        let storage = MmapStorage::open(&entry.directory, entry.id, SEGMENT_SIZE, Ring::default()).expect("a journal");
        let incarnations = || getrandom::u64().expect("random numbers");
        let each = |_: crate::Record<'_>| Ok::<(), std::io::Error>(());
        let recovered = Journal::recover(storage, RecoveryStart::FIRST, 0, incarnations, each);
        let journal = recovered.expect("an empty journal").journal;
        Fixture {
            _parent: parent,
            data,
            journal,
            marks: SegmentMarks::default(),
        }
    }

    fn source(&self) -> SegmentSource<'_> {
        let entry = &self.data.journals()[0];
        SegmentSource {
            directory: &entry.directory,
            journal: entry.id,
            segment_size: SEGMENT_SIZE,
            end: None,
        }
    }

    fn path(&self, number: u64, is_archived: bool) -> std::path::PathBuf {
        let place = crate::HistoryPlace {
            segment: SegmentNumber(number),
            is_archived,
            offset: 0,
        };
        place.path(self.source().directory)
    }

    /// What is wrong with the file that reading from this record on meets first.
    fn damage(&self, from: u64) -> FileDamage {
        let range = HistoryRange {
            from: Lsn(from),
            ..HistoryRange::ALL
        };
        let read = HistoryReader::open(&self.source(), range, &self.marks).and_then(|mut reader| {
            while reader.next(|_, _| ())?.is_some() {}
            Ok(())
        });
        match read {
            Err(FileError::Damaged(damage)) => damage,
            other => panic!("{other:?}"),
        }
    }

    fn forwards(&self, from: u64) -> Vec<u64> {
        let range = HistoryRange {
            from: Lsn(from),
            ..HistoryRange::ALL
        };
        let mut reader = HistoryReader::open(&self.source(), range, &self.marks).expect("it can be read");
        let mut lsns = Vec::new();
        while let Some(lsn) = reader
            .next(|record, _| {
                assert_eq!(record.body, body(record.lsn));
                record.lsn.0
            })
            .expect("it is whole")
        {
            lsns.push(lsn);
        }
        lsns
    }

    /// The newest last.
    fn backwards(&self, before: u64, keys: Option<std::ops::RangeInclusive<u64>>) -> Vec<u64> {
        let mut reader = BackwardReader::open(&self.source(), Lsn(before), keys, &self.marks).expect("it can be read");
        let mut lsns = Vec::new();
        loop {
            let upto = reader.before();
            let mut block = Vec::new();
            let read = reader.next_block(|record, _| {
                assert_eq!(record.body, body(record.lsn));
                assert!(record.lsn < upto, "{} was read before {upto}", record.lsn);
                block.push(record.lsn.0);
            });
            if read.expect("it is whole").is_none() {
                break;
            }
            assert!(reader.before() < upto || block.is_empty());
            block.append(&mut lsns);
            lsns = block;
        }
        assert_eq!(reader.before(), Lsn(1));
        lsns
    }

    /// Holds both ways of reading against the records there are, from and before some of them.
    fn check(&self) {
        let durable = self.journal.durable_lsn().0;
        // Each batch is a record and its commit record.
        let all: Vec<u64> = (1..=durable).filter(|lsn| lsn % 2 == 1).collect();
        for lsn in (1..=durable + 3).step_by(37).chain([1, 2, durable, durable + 1]) {
            let place = all.partition_point(|record| *record < lsn);
            assert_eq!(self.forwards(lsn), all[place..], "from {lsn}");
            assert_eq!(self.backwards(lsn, None), all[..place], "before {lsn}");
        }
    }
}

#[test]
fn records_are_read_from_anywhere_and_only_durable_ones() {
    let mut fixture = Fixture::new();
    fixture.check();
    fill_up_to(&mut fixture.journal, 3);
    fixture.check();
    archive_segment(&fixture.source(), SegmentNumber(1), keys, |_| ControlFlow::Continue(()))
        .expect("it is sealed")
        .expect("nobody stops it");
    fixture.check();
    // The newest segment grows after places in it were remembered.
    for _ in 0..150 {
        batch(&mut fixture.journal, Priority::Normal).expect("there is room");
        if fixture.journal.durable_lsn().0.is_multiple_of(60) {
            fixture.check();
        }
    }
    assert_eq!(fixture.journal.segment().number(), SegmentNumber(3));
    // Committed, and not durable.
    let lsn = Lsn(fixture.journal.last_lsn().0 + 1);
    let tag = crate::Tag {
        kind: 16,
        partition: lsn.0 as u16,
        detail: 0,
    };
    let appended = fixture
        .journal
        .append(Priority::Normal, tag, &body(lsn))
        .expect("there is room");
    assert_eq!(appended, lsn);
    let ticket = fixture.journal.commit().expect("one record");
    fixture.check();
    crate::tests::files::finish(&mut fixture.journal, ticket);
    fixture.check();
}

#[test]
fn of_archives_only_the_frames_with_the_keys_are_read() {
    let mut fixture = Fixture::new();
    fill_up_to(&mut fixture.journal, 3);
    let durable = fixture.journal.durable_lsn().0;
    for number in 1..=2 {
        archive_segment(&fixture.source(), SegmentNumber(number), keys, |_| {
            ControlFlow::Continue(())
        })
        .expect("it is sealed")
        .expect("nobody stops it");
    }
    for lsn in (1..durable).step_by(38) {
        let found = fixture.backwards(u64::MAX, Some(1000 + lsn..=1000 + lsn));
        assert!(found.contains(&lsn), "{lsn}");
        assert!(found.len() < 300, "{} records were read for one", found.len());
    }
    assert!(fixture.backwards(u64::MAX, Some(7..=7)).len() < 3);
}

#[test]
fn the_file_that_is_damaged_is_named() {
    let mut fixture = Fixture::new();
    fill_up_to(&mut fixture.journal, 4);
    let second = fixture.path(2, false);
    let whole = std::fs::read(&second).expect("it is there");
    let mut bytes = whole.clone();
    bytes[500_000] ^= 1;
    std::fs::write(&second, &bytes).expect("written");
    let damage = fixture.damage(1);
    assert_eq!((damage.path, damage.fault), (second.clone(), FileFault::Record));
    assert!(damage.offset <= 500_000 && damage.offset > 490_000, "{}", damage.offset);
    std::fs::write(&second, &whole).expect("written");
    std::fs::remove_file(&second).expect("it was there");
    assert_eq!(fixture.damage(1).fault, FileFault::Missing);
}

#[test]
fn a_file_that_is_gone_hides_nothing_but_itself() {
    let mut fixture = Fixture::new();
    fill_up_to(&mut fixture.journal, 6);
    let firsts: Vec<u64> = (1..=6)
        .map(|number| {
            let reader = SegmentReader::open(&fixture.source(), SegmentNumber(number)).expect("it can be read");
            reader.expect("it is there").first_lsn().0
        })
        .collect();
    let all = fixture.forwards(1);
    for number in 1..=5 {
        archive_segment(&fixture.source(), SegmentNumber(number), keys, |_| {
            ControlFlow::Continue(())
        })
        .expect("it is sealed")
        .expect("nobody stops it");
        std::fs::remove_file(fixture.path(number, false)).expect("it was there");
    }
    // Two in the middle, where looking for a segment begins.
    for number in [3, 4] {
        std::fs::remove_file(fixture.path(number, true)).expect("it was there");
    }
    for from in [
        firsts[4],
        firsts[4] + 20,
        firsts[5],
        fixture.journal.durable_lsn().0 + 1,
    ] {
        let place = all.partition_point(|record| *record < from);
        assert_eq!(fixture.forwards(from), all[place..], "from {from}");
    }
    // In what is gone, and before it: the first that is gone is named.
    for from in [1, firsts[1], firsts[1] + 20, firsts[2], firsts[3] + 20] {
        let damage = fixture.damage(from);
        assert_eq!(
            (damage.path, damage.fault),
            (fixture.path(3, false), FileFault::Missing),
            "from {from}"
        );
    }
    let range = HistoryRange {
        from: Lsn(firsts[1] + 20),
        upto: Lsn(firsts[2] - 1),
        ..HistoryRange::ALL
    };
    assert!(HistoryReader::open(&fixture.source(), range, &fixture.marks).is_ok());
}

#[test]
fn records_of_an_unknown_kind_of_the_journals_own_are_refused() {
    let mut fixture = Fixture::new();
    fill_up_to(&mut fixture.journal, 2);
    // The first record, as a newer program might have written it.
    let first = fixture.path(1, false);
    let mut bytes = std::fs::read(&first).expect("it is there");
    bytes[4096 + 24..4096 + 26].copy_from_slice(&0xFF01u16.to_le_bytes());
    let size = crate::bytes::u32_at(&bytes, 4096 + 4) as usize;
    let seed = CrcFraming::seed(
        fixture.source().journal,
        crate::bytes::u64_at(&bytes, 40),
        SegmentNumber(1),
    );
    let crc = CrcFraming::checksum(seed, &bytes[4096 + 4..4096 + crate::record::padded(size)]);
    bytes[4096..4100].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&first, &bytes).expect("written");
    let expected = FileFault::UnknownKind(0xFF01);
    assert_eq!(fixture.damage(1).fault, expected);
    let mut reader =
        BackwardReader::open(&fixture.source(), Lsn(u64::MAX), None, &fixture.marks).expect("it can be read");
    let fault = loop {
        match reader.next_block(|_, _| ()) {
            Ok(Some(_)) => {}
            Err(FileError::Damaged(damage)) => break damage.fault,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault, expected);
}
