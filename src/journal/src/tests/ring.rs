//! Segments that are used again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::archive::{JournalFiles, SegmentReader};
use crate::control::ControlField;
use crate::identifier::SegmentNumber;
use crate::journal::{Full, Priority};
use crate::mmap::Ring;
use crate::recovery::RecoveryStart;
use crate::storage::{Segment, Storage};
use crate::tests::files::{Files, batch, directory, fill_up_to, wait_until};

/// The inode of each segment's file.
fn inodes(files: &Files) -> BTreeMap<u64, u64> {
    let numbers = JournalFiles::read(&files.directory).expect("a list").segments;
    let inode = |number: &SegmentNumber| fs::metadata(files.segment(number.0)).map(|metadata| metadata.ino());
    numbers
        .iter()
        .filter_map(|number| Some((number.0, inode(number).ok()?)))
        .collect()
}

#[test]
fn a_full_ring_refuses_keeps_a_segment_for_what_is_essential_and_resumes() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let ring = Ring::new(2).with_file_count_max(6);
    let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
    let recycler = journal.storage().recycler().expect("it runs");
    fill_up_to(&mut journal, 4);
    wait_until("two are prepared", || recycler.status().prepared == 2);
    assert_eq!((recycler.status().files, recycler.status().is_at_end), (6, false));
    // One more for everybody, then one for what is essential, then none.
    let full = |journal: &mut _, priority| {
        loop {
            if let Err(full) = batch(journal, priority) {
                break full;
            }
        }
    };
    assert_eq!(full(&mut journal, Priority::Normal), Full::Ring);
    assert_eq!((journal.segment().number().0, recycler.status().prepared), (5, 1));
    wait_until("the ring is at its end", || recycler.status().is_at_end);
    assert_eq!(full(&mut journal, Priority::Essential), Full::Ring);
    assert_eq!((journal.segment().number().0, recycler.status().prepared), (6, 0));

    let before = inodes(&files);
    // Not archived, so not gone, whatever is said.
    recycler.give_up(SegmentNumber(3));
    files.archive(1);
    recycler.give_up(SegmentNumber(3));
    wait_until("segment 1 is used again", || recycler.status().prepared == 1);
    let after = inodes(&files);
    assert_eq!((after.get(&1), after[&7], after[&2]), (None, before[&1], before[&2]));
    assert_eq!(journal.storage().control_load(ControlField::OldestSegment), 3);
    assert_eq!(batch(&mut journal, Priority::Normal), Err(Full::Ring));
    for number in 2..=4 {
        files.archive(number);
    }
    recycler.give_up(SegmentNumber(9));
    wait_until("two are prepared", || recycler.status().prepared == 2);
    assert!(!recycler.status().is_at_end);
    // Nothing is given up that is still written to.
    assert_eq!(journal.storage().control_load(ControlField::OldestSegment), 6);
    fill_up_to(&mut journal, 8);
    let last = journal.last_lsn();
    assert!(recycler.status().files <= 6);
    // What is not sealed or archived stays, whatever was said.
    let there = inodes(&files);
    assert!((5..=8).all(|number| there.contains_key(&number)), "{there:?}");
    drop(journal);
    let start = RecoveryStart {
        segment: SegmentNumber(5),
        lsn: SegmentReader::open(&files.source(), SegmentNumber(5))
            .expect("it is there")
            .expect("it is there")
            .first_lsn(),
        time: 0,
    };
    let (journal, summary, lsns) = files.recover(ring, start);
    assert_eq!((summary.last_lsn, summary.cut), (last, None));
    assert!(lsns.iter().zip(&lsns[1..]).all(|(one, next)| one.0 + 2 == next.0));
    drop(journal);
}

#[test]
fn a_steady_state_writes_no_new_files() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let ring = Ring::new(2).with_file_count_max(6);
    let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
    let recycler = journal.storage().recycler().expect("it runs");
    fill_up_to(&mut journal, 4);
    wait_until("the ring is full", || inodes(&files).len() == 6);
    let first: Vec<_> = inodes(&files).into_values().collect();
    for number in 4..20 {
        fill_up_to(&mut journal, number);
        let archived = JournalFiles::read(&files.directory).expect("a list").archives.len() as u64;
        for sealed in archived + 1..number - 1 {
            files.archive(sealed);
        }
        recycler.give_up(SegmentNumber(number - 1));
        wait_until("segments are prepared", || recycler.status().prepared == 2);
    }
    let last: Vec<_> = inodes(&files).into_values().collect();
    assert!(last.iter().all(|inode| first.contains(inode)), "{first:?} {last:?}");
}

#[test]
fn small_normal_records_do_not_fill_the_last_segment() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let ring = Ring::new(2).with_file_count_max(4);
    let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
    let recycler = journal.storage().recycler().expect("it runs");
    while batch(&mut journal, Priority::Normal).is_ok()
        || recycler.status().prepared > 1
        || !recycler.status().is_at_end
    {}
    let number = journal.segment().number();
    // Essential records go on, into the last segment; there a normal one would fit.
    while journal.segment().number() == number {
        batch(&mut journal, Priority::Essential).expect("one is prepared");
    }
    assert_eq!(recycler.status().prepared, 0);
    assert_eq!(batch(&mut journal, Priority::Normal), Err(Full::Ring));
    batch(&mut journal, Priority::Essential).expect("there is room for it");
    files.archive(1);
    recycler.give_up(SegmentNumber(2));
    wait_until("segment 1 is used again", || recycler.status().prepared == 1);
    batch(&mut journal, Priority::Normal).expect("it resumes");
    assert_eq!(journal.segment().number(), number.next());
    // A start that gets no other segment than its own.
    while batch(&mut journal, Priority::Essential).is_ok() {}
    drop((journal, recycler));
    let (mut journal, ..) = files.recover(ring, start_of(&files, 2));
    let recycler = journal.storage().recycler().expect("it runs");
    wait_until("the ring is at its end", || recycler.status().is_at_end);
    assert_eq!(batch(&mut journal, Priority::Normal), Err(Full::Ring));
    batch(&mut journal, Priority::Essential).expect("there is room for it");
    files.archive(2);
    files.archive(3);
    recycler.give_up(SegmentNumber(4));
    wait_until("a segment is used again", || recycler.status().prepared > 0);
    batch(&mut journal, Priority::Normal).expect("it resumes");
}

/// Where reading the segment begins, as a snapshot that ends with its first record has it.
fn start_of(files: &Files, number: u64) -> RecoveryStart {
    let reader = SegmentReader::open(&files.source(), SegmentNumber(number)).expect("it can be read");
    RecoveryStart {
        lsn: reader.expect("it is there").first_lsn(),
        segment: SegmentNumber(number),
        time: 0,
    }
}

#[test]
fn a_lease_keeps_a_segment_as_it_is() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let ring = Ring::new(2).with_file_count_max(5);
    let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
    let recycler = journal.storage().recycler().expect("it runs");
    fill_up_to(&mut journal, 3);
    let mut reader = SegmentReader::open(&files.source(), SegmentNumber(1))
        .expect("it is there")
        .expect("it is there");
    files.archive(1);
    let inode = inodes(&files)[&1];
    recycler.give_up(SegmentNumber(2));
    while batch(&mut journal, Priority::Essential).is_ok() {}
    wait_until("the leased one is passed over", || recycler.status().is_at_end);
    assert_eq!(inodes(&files)[&1], inode);
    let mut count = 0;
    while reader.next_record().expect("it can be read").is_some() {
        count += 1;
    }
    assert!(count > 20 && reader.offset() > 50_000);
    drop(reader);
    wait_until("it is used again", || recycler.status().prepared == 1);
    assert_eq!(inodes(&files).get(&1), None);
    assert!(inodes(&files).into_values().any(|other| other == inode));
    assert!(
        SegmentReader::open(&files.source(), SegmentNumber(1))
            .expect("no error")
            .is_none()
    );
}

#[test]
fn a_start_uses_what_the_last_one_prepared() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
    batch(&mut journal, Priority::Normal).expect("there is room");
    let recycler = journal.storage().recycler().expect("it runs");
    wait_until("three are prepared", || recycler.status().prepared == 3);
    drop(journal);
    let before = inodes(&files);
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    // A gap, as a start leaves it that removes a segment which was opened and not durable.
    fs::remove_file(files.segment(2)).expect("it is removed");
    let (mut journal, summary, _) = files.recover(Ring::default(), RecoveryStart::FIRST);
    assert_eq!((summary.segments, journal.segment().number().0), (1, 2));
    let recycler = journal.storage().recycler().expect("it runs");
    wait_until("three are prepared", || recycler.status().prepared == 3);
    let after = inodes(&files);
    assert_eq!((after[&1], after[&2], after[&3]), (before[&1], before[&4], before[&3]));
    batch(&mut journal, Priority::Normal).expect("there is room");
    drop(journal);
    let (mut journal, summary, lsns) = files.recover(Ring::default(), RecoveryStart::FIRST);
    assert_eq!((summary.segments, lsns.len()), (2, 2));
    journal.write_out(false).expect("the header is written");
    drop(journal);
    // Segment 3 was opened, and nothing in it was kept: its header is valid for its number, so the file must go.
    let inode = inodes(&files)[&3];
    let keeper = fs::File::open(files.segment(3)).expect("it is there");
    let (journal, summary, _) = files.recover(Ring::default(), RecoveryStart::FIRST);
    assert_eq!((summary.segments, journal.segment().number().0), (2, 3));
    assert_ne!(inodes(&files)[&3], inode);
    drop(keeper);
}

#[test]
fn a_start_uses_what_was_given_up_before_it_writes_a_file() {
    for start in [5, 1] {
        let parent = tempfile::tempdir().expect("a directory for the test");
        let data = directory(parent.path());
        let files = Files::of(&data);
        let ring = Ring::new(2).with_file_count_max(9);
        let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
        let recycler = journal.storage().recycler().expect("it runs");
        fill_up_to(&mut journal, 6);
        wait_until("two are prepared", || recycler.status().prepared == 2);
        for number in 1..=4 {
            files.archive(number);
        }
        drop(journal);
        // It was said, and stored before the first of them was to go.
        let path = files.directory.join("control");
        let mut page = fs::read(&path).expect("it is there");
        page[ControlField::OldestSegment.offset()] = 5;
        fs::write(&path, page).expect("written");
        for unused in [7, 8] {
            fs::remove_file(files.segment(unused)).expect("removed");
        }
        let before = inodes(&files);
        assert_eq!(before.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        let from = if start == 1 {
            RecoveryStart::FIRST
        } else {
            start_of(&files, start)
        };
        let (journal, ..) = files.recover(ring, from);
        let recycler = journal.storage().recycler().expect("it runs");
        wait_until("two are prepared", || recycler.status().prepared == 2);
        let after = inodes(&files);
        let inherited: Vec<_> = (7..=9)
            .map(|number| before.values().any(|inode| *inode == after[&number]))
            .collect();
        if start == 1 {
            // All was read, since there was no snapshot; so all is needed until somebody says otherwise.
            assert!((1..=6).all(|number| after[&number] == before[&number]));
        } else {
            assert_eq!((inherited, recycler.status().files), (vec![true; 3], 6));
            assert!((4..=6).all(|number| after[&number] == before[&number]));
        }
    }
}

#[test]
fn a_crash_before_the_new_name_is_durable_changes_nothing() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::new(2), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 3);
    let last = journal.last_lsn();
    let recycler = journal.storage().recycler().expect("it runs");
    wait_until("two are prepared", || recycler.status().prepared == 2);
    files.archive(1);
    drop((journal, recycler));
    let from = RecoveryStart {
        lsn: SegmentReader::open(&files.source(), SegmentNumber(2))
            .expect("it is there")
            .expect("it is there")
            .first_lsn(),
        segment: SegmentNumber(2),
        time: 0,
    };
    // Before the rename, all is as it was; after it, the file under its new name is prepared and no segment.
    assert_eq!(files.recover(Ring::new(2), from).1.last_lsn, last);
    let next = JournalFiles::read(&files.directory).expect("a list").segments.len() as u64 + 1;
    fs::rename(files.segment(1), files.segment(next)).expect("renamed");
    let (mut journal, summary, _) = files.recover(Ring::new(2), from);
    assert_eq!((summary.last_lsn, summary.cut), (last, None));
    batch(&mut journal, Priority::Normal).expect("there is room");
    fill_up_to(&mut journal, next + 1);
    let last = journal.last_lsn();
    drop(journal);
    assert_eq!(files.recover(Ring::new(2), from).1.last_lsn, last);
}

#[test]
fn a_smaller_ring_gives_room_back() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 9);
    wait_until("three are prepared", || journal.storage().prepared_count() == 3);
    drop(journal);
    for number in 1..=7 {
        files.archive(number);
    }
    let lease = SegmentReader::open(&files.source(), SegmentNumber(2)).expect("it is there");
    let ring = Ring::new(2).with_file_count_max(5);
    let (journal, ..) = files.recover(ring, RecoveryStart::FIRST);
    let recycler = journal.storage().recycler().expect("it runs");
    wait_until("two are prepared", || recycler.status().prepared == 2);
    assert!(recycler.status().files > 8);
    recycler.give_up(SegmentNumber(7));
    wait_until("what is given up is removed", || recycler.status().files <= 7);
    let there = inodes(&files);
    let kept: Vec<_> = (1..=9).map(|number| there.contains_key(&number)).collect();
    assert_eq!(kept, [false, true, false, false, false, false, true, true, true]);
    drop((journal, lease));
}
