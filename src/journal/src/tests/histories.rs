//! Reading a journal forwards and backwards from any record, while it grows.

use std::ops::ControlFlow;

use crate::archive::{SegmentMarks, SegmentSource, archive_segment};
use crate::backwards::BackwardReader;
use crate::directory::{Directory, NewDirectory};
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
