//! Recovery that begins where a snapshot ends.

use crate::control::ControlField;
use crate::framing::CrcFraming;
use crate::identifier::{Lsn, SegmentNumber};
use crate::journal::Journal;
use crate::recovery::{Found, RecoveryError, RecoveryStart};
use crate::storage::Segment;
use crate::tests::disk::{Dice, SIZE, SimStorage};
use crate::tests::{Kept, Outcome, append, copied, durable_batch, finish, recover, recover_from};

fn start(lsn: u64, segment: u64) -> RecoveryStart {
    RecoveryStart {
        lsn: Lsn(lsn),
        segment: SegmentNumber(segment),
        time: 0,
    }
}

fn from(storage: &SimStorage, start: RecoveryStart) -> Outcome<CrcFraming> {
    recover_from(storage, start, 500)
}

/// A journal of several segments, with each LSN at which a snapshot could have been taken and the segment that it lies in.
fn journal() -> (SimStorage, Vec<RecoveryStart>) {
    let storage = SimStorage::new();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    let mut dice = Dice(3);
    let mut starts = Vec::new();
    for now in 0..60 {
        storage.disk.borrow_mut().ring = 3;
        journal.begin(now);
        for _ in 0..dice.roll() % 4 {
            append(&mut journal, &vec![now as u8; (dice.roll() % 3000) as usize]);
        }
        let Some(ticket) = journal.commit() else { continue };
        finish(&mut journal, ticket);
        starts.push(RecoveryStart {
            lsn: ticket.upto,
            segment: ticket.last_segment,
            time: now,
        });
    }
    drop(journal);
    storage.crash(|| false);
    assert!(storage.numbers().len() > 2);
    (storage, starts)
}

#[test]
fn gives_back_what_a_recovery_from_the_beginning_does() {
    let (storage, starts) = journal();
    let (whole, summary, records) = from(&copied(&storage), RecoveryStart::FIRST).expect("a whole journal");
    for start in starts {
        for is_recycled in [false, true] {
            let storage = copied(&storage);
            if is_recycled {
                // What lies before is gone, or is somebody else's by now.
                let mut disk = storage.disk.borrow_mut();
                disk.files.retain(|number, _| *number >= start.segment);
            }
            let (journal, part, rest) = from(&storage, start).expect("a whole journal");
            let expected: Vec<Kept> = records
                .iter()
                .filter(|record| record.lsn > start.lsn)
                .cloned()
                .collect();
            assert_eq!(rest, expected, "{start:?}");
            assert_eq!(part.records, rest.len() as u64);
            assert_eq!(
                (part.last_lsn, part.last_time, part.cut),
                (summary.last_lsn, summary.last_time, None)
            );
            assert_eq!(
                (journal.last_lsn(), journal.last_time(), journal.segment().number()),
                (whole.last_lsn(), whole.last_time(), whole.segment().number())
            );
        }
    }
}

#[test]
fn damage_before_the_start_does_not_matter() {
    let (storage, starts) = journal();
    let start = *starts.last().expect("some");
    for number in 1..start.segment.0 {
        let number = SegmentNumber(number);
        let changes: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes[..128].fill(0xFF),
            |bytes| bytes.truncate(4096),
            |bytes| bytes[4096..].fill(0),
            |bytes| bytes[8..12].fill(9),
        ];
        for change in changes {
            let storage = copied(&storage);
            storage.damage(number, change);
            from(&storage, start).expect("only what the snapshot covers is damaged");
            let storage = copied(&storage);
            storage.damage(number, change);
            from(&storage, RecoveryStart::FIRST).expect_err("from the beginning it matters");
        }
    }
}

#[test]
fn a_journal_that_ends_before_the_snapshot_is_damaged() {
    let (storage, starts) = journal();
    let start = *starts.last().expect("some");
    let check = |change: fn(&SimStorage, SegmentNumber), expected: Found| {
        let storage = copied(&storage);
        // Nothing else proves anything.
        storage
            .disk
            .borrow_mut()
            .control
            .clone_from(&SimStorage::new().disk.borrow().control);
        change(&storage, start.segment);
        match from(&storage, start) {
            Err(RecoveryError::Damage(damage)) => {
                assert_eq!(damage.found, expected);
                assert!(damage.evidence >= start.lsn);
                assert_eq!(damage.position.segment, start.segment);
            }
            other => panic!("{expected:?}: {other:?}"),
        }
    };
    check(
        |storage, number| drop(storage.disk.borrow_mut().files.remove(&number)),
        Found::SegmentMissing,
    );
    check(
        |storage, number| storage.damage(number, |bytes| bytes[..128].fill(0)),
        Found::HeaderNotValid,
    );
    check(
        |storage, number| storage.damage(number, |bytes| bytes[4096..].fill(0)),
        Found::BatchNotWhole,
    );
    check(
        |storage, number| {
            // The segment after it, under its name.
            storage.damage(number, |bytes| {
                let mut header = crate::header::SegmentHeader {
                    journal: crate::tests::disk::JOURNAL,
                    number,
                    incarnation: 9,
                    first_lsn: Lsn(1_000_000),
                    file_size: SIZE as u64,
                    opened_at: 0,
                    durable_lsn: Lsn(0),
                    previous_incarnation: 8,
                };
                header.number = number;
                bytes[..128].copy_from_slice(&header.encode());
            });
        },
        Found::HeaderDoesNotContinue,
    );
}

#[test]
fn a_torn_tail_behind_the_snapshot_is_cut() {
    let (storage, starts) = journal();
    let start = starts[starts.len() - 1];
    let (mut journal, ..) = from(&storage, start).expect("a whole journal");
    append(&mut journal, b"never durable");
    journal.commit().expect("one record");
    drop(journal);
    storage.crash(|| false);
    let (journal, summary, records) = from(&storage, start).expect("a torn journal");
    assert_eq!((records.len(), summary.last_lsn), (0, start.lsn));
    assert_eq!(journal.last_lsn(), start.lsn);
}

#[test]
fn a_new_journal_begins_with_the_time_of_its_snapshot() {
    let storage = SimStorage::new();
    let first = RecoveryStart {
        time: 77,
        ..start(0, 1)
    };
    let (mut journal, summary, _) = from(&storage, first).expect("an empty journal");
    assert_eq!((summary.segments, journal.last_time()), (0, 77));
    let ticket = durable_batch(&mut journal, b"first");
    assert_eq!((ticket.upto, journal.begin(5)), (Lsn(2), 77));
    drop(journal);
    storage.crash(|| false);
    let (journal, summary, records): (Journal<_>, _, _) = from(&storage, first).expect("a whole journal");
    assert_eq!((records.len(), summary.skipped, journal.last_time()), (1, 0, 77));
    drop(journal);
    // Nothing that was durable may be missing.
    storage.set_control(ControlField::DurableLsn, 3);
    assert!(matches!(from(&storage, first), Err(RecoveryError::Damage(_))));
}
