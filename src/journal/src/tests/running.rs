//! The running journal: batches, rolls, priorities, idle commits.

use crate::control::ControlField;
use crate::identifier::{Lsn, SegmentNumber, Tag};
use crate::journal::{Full, Journal, Priority};
use crate::recovery::Summary;
use crate::storage::{Segment, Storage};
use crate::tests::disk::{SIZE, SimStorage};
use crate::tests::{append, durable_batch, finish, recover};

const TAG: Tag = Tag {
    kind: 16,
    partition: 3,
    detail: 7,
};

fn fresh() -> (SimStorage, Journal<SimStorage>) {
    let storage = SimStorage::new();
    let (journal, summary, _) = recover(&storage, 0).expect("an empty journal");
    assert_eq!(summary, Summary::default());
    (storage, journal)
}

#[test]
fn gives_back_what_was_appended() {
    let (storage, mut journal) = fresh();
    assert_eq!(journal.begin(50), 50);
    assert_eq!(append(&mut journal, b"one"), Lsn(1));
    assert_eq!(append(&mut journal, b""), Lsn(2));
    let ticket = journal.commit().expect("two records");
    assert_eq!(ticket.upto, Lsn(3));
    assert_eq!((ticket.id, ticket.opened), (1, Some(SegmentNumber(1))));
    assert_eq!(journal.commit(), None);
    finish(&mut journal, ticket);
    assert_eq!(journal.begin(40), 50, "time never falls");
    let ticket = durable_batch(&mut journal, &[9; 100]);
    assert_eq!((ticket.id, ticket.opened, ticket.upto), (2, None, Lsn(5)));
    assert_eq!(journal.bytes_appended(), 40 + 32 + 56 + 136 + 56);
    drop(journal);
    storage.crash(|| false);
    let (journal, summary, records) = recover(&storage, 10).expect("a whole journal");
    let found: Vec<_> = records
        .iter()
        .map(|record| (record.lsn.0, record.time, record.body.len()))
        .collect();
    assert_eq!(found, [(1, 50, 3), (2, 50, 0), (4, 50, 100)]);
    assert_eq!(records[0].tag, TAG);
    assert_eq!(
        (summary.records, summary.batches, summary.segments, summary.cut),
        (3, 2, 1, None)
    );
    assert_eq!((summary.bytes, summary.last_lsn, summary.last_time), (320, Lsn(5), 50));
    assert_eq!(
        (journal.last_lsn(), journal.durable_lsn(), journal.last_time()),
        (Lsn(5), Lsn(5), 50)
    );
    assert_eq!(storage.numbers(), [1, 2]);
}

#[test]
fn an_open_batch_does_not_count() {
    let (storage, mut journal) = fresh();
    durable_batch(&mut journal, b"kept");
    append(&mut journal, b"not committed");
    drop(journal);
    storage.crash(|| true);
    let (_, summary, records) = recover(&storage, 10).expect("a torn journal");
    assert_eq!((records.len(), summary.last_lsn), (1, Lsn(2)));
    assert!(
        summary
            .cut
            .is_some_and(|cut| cut.segment == SegmentNumber(1) && cut.lsn == Lsn(3))
    );
}

#[test]
fn rolls_within_a_batch() {
    let (storage, mut journal) = fresh();
    let mut bodies = Vec::new();
    for byte in 0..40 {
        bodies.push(vec![byte; 3000]);
        append(&mut journal, &bodies[usize::from(byte)]);
        if byte == 30 {
            journal.storage().disk.borrow_mut().ring = 3;
        }
    }
    let ticket = journal.commit().expect("forty records");
    assert_eq!(
        (ticket.first_segment, ticket.last_segment),
        (SegmentNumber(1), SegmentNumber(2))
    );
    assert_eq!(ticket.opened, Some(SegmentNumber(2)));
    assert_eq!(ticket.upto, Lsn(42), "two batches, each with a commit record");
    finish(&mut journal, ticket);
    let next = durable_batch(&mut journal, b"after");
    assert_eq!((next.first_segment, next.opened), (SegmentNumber(2), None));
    drop(journal);
    storage.crash(|| false);
    let (_, summary, records) = recover(&storage, 10).expect("a whole journal");
    assert!(records.iter().zip(&bodies).all(|(record, body)| record.body == *body));
    assert_eq!((summary.records, summary.batches, summary.segments), (41, 3, 2));
}

/// Appends a group of essential records of this many bytes in all, in pieces of a tenth.
fn append_group(journal: &mut Journal<SimStorage>, size: usize) {
    let body = vec![7; size / 10 - 32];
    assert_eq!(Journal::<SimStorage>::record_size(body.len()) * 10, size);
    for _ in 0..10 {
        journal
            .append(Priority::Essential, TAG, &body)
            .expect("there is room for the group");
    }
}

#[test]
fn a_group_goes_into_one_batch_of_one_segment() {
    let size = 20_000;
    for before in [SIZE - 4096 - 56 - size - 32, SIZE - 4096 - 56 - size - 32 + 8] {
        let (storage, mut journal) = fresh();
        append(&mut journal, &vec![1; before]);
        journal.make_room(size).expect("a segment is prepared");
        append_group(&mut journal, size);
        let ticket = journal.commit().expect("eleven records");
        let is_rolled = before + 32 + size > SIZE - 4096 - 56;
        // What came before it is a batch of its own, or all of it is one batch.
        assert_eq!(ticket.upto, Lsn(if is_rolled { 13 } else { 12 }));
        assert_eq!(ticket.last_segment, SegmentNumber(if is_rolled { 2 } else { 1 }));
        finish(&mut journal, ticket);
        drop(journal);
        storage.crash(|| false);
        let (_, summary, records) = recover(&storage, 10).expect("a whole journal");
        assert_eq!(records.len(), 11);
        assert_eq!(summary.batches, if is_rolled { 2 } else { 1 });
    }
}

#[test]
fn the_largest_group_fills_a_segment() {
    let (storage, mut journal) = fresh();
    let size = journal.max_group_size();
    assert_eq!(size, SIZE - 4096 - 56);
    append(&mut journal, b"first");
    journal.make_room(size).expect("a segment is prepared");
    journal
        .append(Priority::Essential, TAG, &vec![1; size - 32])
        .expect("there is room for it");
    let ticket = journal.commit().expect("two records");
    finish(&mut journal, ticket);
    drop(journal);
    storage.crash(|| false);
    let (_, summary, _) = recover(&storage, 10).expect("a whole journal");
    assert_eq!((summary.records, summary.batches), (2, 2));
}

#[test]
fn a_group_without_room_changes_nothing() {
    let (storage, mut journal) = fresh();
    storage.disk.borrow_mut().ring = 0;
    append(&mut journal, b"before");
    let size = journal.max_group_size();
    assert_eq!(journal.make_room(size), Err(Full::Ring));
    assert_eq!(
        journal.make_room(size - 40),
        Ok(()),
        "the rest of the segment is enough"
    );
    let ticket = journal.commit().expect("one record");
    assert_eq!((ticket.upto, ticket.last_segment), (Lsn(2), SegmentNumber(1)));
}

#[test]
#[should_panic(expected = "a group of")]
fn a_larger_group_is_a_mistake_of_the_caller() {
    let (_, mut journal) = fresh();
    let size = journal.max_group_size() + 8;
    let _: Result<(), Full> = journal.make_room(size);
}

#[test]
fn the_largest_body_fits_an_empty_segment() {
    let (storage, mut journal) = fresh();
    let largest = vec![1; journal.max_body_size()];
    assert_eq!(largest.len(), SIZE - 4096 - 56 - 32);
    durable_batch(&mut journal, b"first");
    durable_batch(&mut journal, &largest);
    durable_batch(&mut journal, b"last");
    drop(journal);
    storage.crash(|| false);
    let (_, summary, records) = recover(&storage, 10).expect("a whole journal");
    assert_eq!((records[1].body.len(), summary.segments), (largest.len(), 3));
}

#[test]
#[should_panic(expected = "a body of")]
fn a_larger_body_is_a_mistake_of_the_caller() {
    let (_, mut journal) = fresh();
    let body = vec![1; journal.max_body_size() + 1];
    let _ = journal.append(Priority::Normal, TAG, &body);
}

#[test]
fn the_last_prepared_segment_is_kept_for_what_is_essential() {
    let (storage, mut journal) = fresh();
    let body = vec![1; journal.max_body_size()];
    storage.disk.borrow_mut().ring = 2;
    append(&mut journal, &body);
    append(&mut journal, &body);
    let before = (journal.last_lsn(), journal.bytes_appended());
    assert_eq!(journal.append(Priority::Normal, TAG, &body), Err(Full::Ring));
    storage.disk.borrow_mut().room = 1;
    assert_eq!(journal.append(Priority::Normal, TAG, &body), Err(Full::Ring));
    assert_eq!(
        before,
        (journal.last_lsn(), journal.bytes_appended()),
        "nothing has changed"
    );
    assert_eq!(journal.append(Priority::Essential, TAG, &body), Ok(Lsn(5)));
    assert_eq!(journal.append(Priority::Essential, TAG, &body), Err(Full::Storage));
    let ticket = journal.commit().expect("three records");
    assert_eq!(ticket.last_segment, SegmentNumber(3));
    finish(&mut journal, ticket);
    assert_eq!(journal.idle_commit(0), None, "it would need a segment");
    storage.disk.borrow_mut().room = 9;
    storage.disk.borrow_mut().ring = 3;
    assert!(journal.idle_commit(0).is_some());
    drop(journal);
    storage.crash(|| true);
    assert_eq!(recover(&storage, 10).expect("a whole journal").1.records, 3);
}

#[test]
fn small_normal_records_do_not_fill_the_last_segment() {
    let (storage, mut journal) = fresh();
    let body = [1; 100];
    let set = |ring, room| {
        storage.disk.borrow_mut().ring = ring;
        storage.disk.borrow_mut().room = room;
    };
    set(1, 1);
    let refused = loop {
        if let Err(full) = journal.append(Priority::Normal, TAG, &body) {
            break full;
        }
    };
    assert_eq!((refused, journal.segment().number()), (Full::Ring, SegmentNumber(1)));
    // One essential record opens the last segment, in which normal ones would fit.
    let append = |journal: &mut Journal<SimStorage>, priority| journal.append(priority, TAG, &body).map(|_| ());
    assert_eq!(append(&mut journal, Priority::Essential), Ok(()));
    assert_eq!(journal.segment().number(), SegmentNumber(2));
    let before = (journal.last_lsn(), journal.bytes_appended());
    assert_eq!(append(&mut journal, Priority::Normal), Err(Full::Storage));
    set(0, 5);
    assert_eq!(append(&mut journal, Priority::Normal), Err(Full::Ring));
    assert_eq!(before, (journal.last_lsn(), journal.bytes_appended()));
    for _ in 0..300 {
        assert_eq!(append(&mut journal, Priority::Essential), Ok(()));
    }
    assert_eq!(journal.segment().number(), SegmentNumber(2));
    // It resumes by itself, in the same segment; the next one is kept again.
    set(1, 5);
    while append(&mut journal, Priority::Normal).is_ok() {}
    assert_eq!(journal.segment().number(), SegmentNumber(2));
    assert_eq!(append(&mut journal, Priority::Essential), Ok(()));
    assert_eq!(append(&mut journal, Priority::Normal), Err(Full::Ring));
    set(3, 5);
    assert_eq!(append(&mut journal, Priority::Normal), Ok(()));
    assert_eq!(journal.segment().number(), SegmentNumber(3));
}

#[test]
fn a_start_on_a_full_disk_keeps_its_segment_for_what_is_essential() {
    let storage = SimStorage::new();
    storage.disk.borrow_mut().room = 1;
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    let body = [1; 100];
    assert_eq!(journal.append(Priority::Normal, TAG, &body), Err(Full::Storage));
    for lsn in 1..400 {
        assert_eq!(journal.append(Priority::Essential, TAG, &body), Ok(Lsn(lsn)));
    }
    storage.disk.borrow_mut().room = 2;
    assert_eq!(journal.append(Priority::Normal, TAG, &body), Ok(Lsn(400)));
}

#[test]
fn half_a_segment_is_kept_until_a_start_knows_whether_there_is_room() {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    storage.disk.borrow_mut().ring = 0;
    let body = [1; 100];
    while journal.append(Priority::Normal, TAG, &body).is_ok() {}
    let used = journal.bytes_appended() as usize;
    assert!(used < SIZE / 2 && used > SIZE / 2 - 4096, "{used} bytes");
    assert_eq!(journal.append(Priority::Normal, TAG, &body), Err(Full::Ring));
    assert!(journal.append(Priority::Essential, TAG, &body).is_ok());
}

#[test]
fn recovery_says_when_there_is_no_room_for_its_segment() {
    let storage = SimStorage::new();
    storage.disk.borrow_mut().room = 0;
    let error = recover(&storage, 0).expect_err("no room");
    let crate::RecoveryError::Storage(error) = error else {
        panic!("{error}")
    };
    assert!(error.is_out_of_space() && !error.is_read_only());
    assert!(error.to_string().contains("65536 bytes"));
}

#[test]
fn an_idle_commit_is_written_once() {
    let (storage, mut journal) = fresh();
    assert_eq!(journal.idle_commit(5), None, "nothing to prove");
    append(&mut journal, b"one");
    assert_eq!(journal.idle_commit(5), None, "a batch is open");
    let ticket = journal.commit().expect("one record");
    assert_eq!(journal.idle_commit(5), None, "not durable yet");
    finish(&mut journal, ticket);
    let ticket = journal.idle_commit(5).expect("now it proves something");
    assert_eq!(ticket.upto, Lsn(3));
    assert_eq!(journal.idle_commit(6), None, "its own sync is not done");
    finish(&mut journal, ticket);
    assert_eq!(journal.idle_commit(7), None, "nothing came since");
    drop(journal);
    storage.crash(|| false);
    // Starts and stops without records use nothing up.
    for incarnation in 1..5 {
        let (mut journal, summary, _) = recover(&storage, incarnation * 10).expect("a whole journal");
        assert_eq!((summary.last_lsn, summary.last_time, summary.cut), (Lsn(3), 5, None));
        assert_eq!(journal.idle_commit(9), None);
        drop(journal);
        storage.crash(|| true);
        assert_eq!(storage.numbers(), [1, 2]);
    }
}

#[test]
fn the_control_page_follows() {
    let (storage, mut journal) = fresh();
    let newest = |journal: &Journal<SimStorage>| journal.storage().control_load(ControlField::NewestDurableSegment);
    assert_eq!(newest(&journal), 0);
    let ticket = durable_batch(&mut journal, b"one");
    assert_eq!(newest(&journal), 1);
    assert_eq!(journal.storage().control_load(ControlField::DurableLsn), ticket.upto.0);
    assert_eq!(storage.control_load(ControlField::OldestSegment), 1);
}

#[test]
#[should_panic(expected = "is durable before it is committed")]
fn only_what_was_committed_is_durable() {
    let (_, mut journal) = fresh();
    append(&mut journal, b"one");
    journal.durable(Lsn(1));
}
