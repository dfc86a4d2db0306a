//! Walks the decision table row by row, with a constructed journal for whatever a row names.

use crate::bytes::put;
use crate::control::ControlField;
use crate::header::{HEADER_SIZE, SegmentHeader};
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::recovery::table::{Evidence, Found, TABLE, Verdict};
use crate::recovery::{RecoveryError, Refusal};
use crate::tests::disk::{JOURNAL, SIZE, SimStorage};
use crate::tests::{append, durable_batch, finish, recover};

const FIRST: SegmentNumber = SegmentNumber(1);
const SECOND: SegmentNumber = SegmentNumber(2);

/// Two batches in segment 1 (LSN 1 to 4), a large one each in segment 1 (5 and 6) and 2 (7 and 8), and one more in 2 (9 and 10). Everything is on the disk;
/// the control page proves nothing unless a case says so, and headers and commit records only prove LSN 4 (those of segment 2) and 8.
fn journal() -> SimStorage {
    let storage = SimStorage::new();
    let control = storage.disk.borrow().control.clone();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    durable_batch(&mut journal, b"one");
    durable_batch(&mut journal, b"two");
    append(&mut journal, &[3; 40_000]);
    append(&mut journal, &[4; 40_000]);
    let ticket = journal.commit().expect("two records");
    finish(&mut journal, ticket);
    durable_batch(&mut journal, b"five");
    drop(journal);
    storage.crash(|| true);
    storage.disk.borrow_mut().control = control;
    storage
}

/// The same without segment 2 and all that proves something: two batches that nobody knows to be durable.
fn unproven() -> SimStorage {
    let storage = SimStorage::new();
    let control = storage.disk.borrow().control.clone();
    let (mut journal, ..) = recover(&storage, 0).expect("an empty journal");
    append(&mut journal, b"one");
    journal.commit();
    append(&mut journal, b"two");
    journal.commit();
    drop(journal);
    storage.crash(|| true);
    storage.disk.borrow_mut().control = control;
    storage
}

fn remove(storage: &SimStorage, number: SegmentNumber) {
    storage
        .disk
        .borrow_mut()
        .files
        .remove(&number)
        .expect("the segment is there");
}

fn shorten(storage: &SimStorage, number: SegmentNumber) {
    storage.damage(number, |bytes| bytes.truncate(SIZE - 4096));
}

fn clear_header(storage: &SimStorage, number: SegmentNumber) {
    storage.damage(number, |bytes| bytes[..HEADER_SIZE].fill(0));
}

fn flip(storage: &SimStorage, number: SegmentNumber, offset: usize) {
    storage.damage(number, |bytes| bytes[offset] ^= 4);
}

fn set_header(storage: &SimStorage, number: SegmentNumber, change: impl FnOnce(&mut SegmentHeader)) {
    let mut header = SegmentHeader {
        journal: JOURNAL,
        number,
        incarnation: 99,
        first_lsn: Lsn(1),
        file_size: SIZE as u64,
        opened_at: 0,
        durable_lsn: Lsn(0),
        previous_incarnation: 0,
    };
    change(&mut header);
    storage.damage(number, |bytes| bytes[..HEADER_SIZE].copy_from_slice(&header.encode()));
}

fn set_durable_lsn(storage: &SimStorage, lsn: u64) {
    storage.set_control(ControlField::DurableLsn, lsn);
}

/// The last LSN that is given back where the verdict is no error.
type Case = (SimStorage, Lsn);

fn case(storage: SimStorage, change: impl FnOnce(&SimStorage), last_lsn: u64) -> Case {
    change(&storage);
    (storage, Lsn(last_lsn))
}

/// A flip in the second batch of segment 1.
const IN_SECOND_BATCH: usize = 4096 + 96 + 33;
/// A flip in the large batch of segment 2.
const IN_LARGE_BATCH: usize = 4096 + 50;

/// Journals in which recovery finds this with this evidence.
fn cases(found: Found, evidence: Evidence) -> Vec<Case> {
    let reaches = evidence == Evidence::Reaches;
    let prove = move |storage: &SimStorage| {
        if reaches {
            set_durable_lsn(storage, 2);
        }
    };
    let newest = |storage: &SimStorage, number| storage.set_control(ControlField::NewestDurableSegment, number);
    match found {
        Found::ControlPageMissing => vec![case(journal(), |storage| storage.disk.borrow_mut().control = None, 0)],
        Found::ControlPageNotValid => (0..64)
            .map(|offset| {
                case(
                    journal(),
                    |storage| {
                        let mut disk = storage.disk.borrow_mut();
                        disk.control.as_mut().expect("a control page").cached[offset] ^= 8;
                    },
                    0,
                )
            })
            .collect(),
        Found::ControlPageOfUnknownVersion => vec![case(
            journal(),
            |storage| {
                let mut disk = storage.disk.borrow_mut();
                let page = &mut disk.control.as_mut().expect("a control page").cached;
                put(page, 8, &2u32.to_le_bytes());
                let header = &page[..crate::control::CONTROL_HEADER_SIZE];
                let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
                put(page, 12, &crc.to_le_bytes());
            },
            0,
        )],
        Found::ControlPageOfOtherJournal => vec![case(
            journal(),
            |storage| {
                let page = crate::control::new_control_page(JournalId([1; 16]), SIZE);
                storage
                    .disk
                    .borrow_mut()
                    .control
                    .as_mut()
                    .expect("a control page")
                    .cached
                    .copy_from_slice(&page);
            },
            0,
        )],
        Found::HeaderOfUnknownVersion => [FIRST, SECOND]
            .map(|number| {
                case(
                    journal(),
                    |storage| {
                        storage.damage(number, |bytes| {
                            put(bytes, 8, &2u32.to_le_bytes());
                            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..HEADER_SIZE]);
                            put(bytes, 12, &crc.to_le_bytes());
                        });
                    },
                    0,
                )
            })
            .into(),
        Found::HeaderOfOtherJournal => [FIRST, SECOND]
            .map(|number| {
                let other = |header: &mut SegmentHeader| header.journal = JournalId([1; 16]);
                case(journal(), |storage| set_header(storage, number, other), 0)
            })
            .into(),
        Found::DurableSegmentMissing | Found::DurableSegmentOfWrongSize | Found::DurableHeaderNotValid => {
            [FIRST, SECOND]
                .map(|number| {
                    let change = |storage: &SimStorage| {
                        newest(storage, 2);
                        match found {
                            Found::DurableSegmentMissing => remove(storage, number),
                            Found::DurableSegmentOfWrongSize => shorten(storage, number),
                            _ => clear_header(storage, number),
                        }
                    };
                    case(journal(), change, 0)
                })
                .into()
        }
        Found::SegmentMissing => vec![case(
            unproven(),
            |storage| {
                prove(storage);
                remove(storage, FIRST);
            },
            0,
        )],
        Found::HeaderNotValid => vec![
            case(
                unproven(),
                |storage| {
                    prove(storage);
                    clear_header(storage, FIRST);
                },
                0,
            ),
            case(
                unproven(),
                |storage| {
                    prove(storage);
                    shorten(storage, FIRST);
                },
                0,
            ),
        ],
        Found::HeaderContinues | Found::BatchWhole => vec![case(journal(), |_| (), 10), case(unproven(), |_| (), 4)],
        Found::HeaderDoesNotContinue => {
            let mut cases = vec![
                case(
                    unproven(),
                    |storage| {
                        prove(storage);
                        set_header(storage, FIRST, |header| header.first_lsn = Lsn(5));
                    },
                    0,
                ),
                case(
                    unproven(),
                    |storage| {
                        prove(storage);
                        set_header(storage, FIRST, |header| header.previous_incarnation = 5);
                    },
                    0,
                ),
            ];
            if reaches {
                // Its own header is evidence, and so is being durable.
                cases.push(case(
                    unproven(),
                    |storage| {
                        set_header(storage, FIRST, |header| {
                            header.previous_incarnation = 5;
                            header.durable_lsn = Lsn(1);
                        });
                    },
                    0,
                ));
                cases.push(case(
                    unproven(),
                    |storage| {
                        newest(storage, 1);
                        set_header(storage, FIRST, |header| header.previous_incarnation = 5);
                    },
                    0,
                ));
            }
            cases
        }
        Found::BatchNotWholeNextContinues => vec![case(journal(), |_| (), 10)],
        Found::BatchNotWhole if reaches => vec![
            // The control page's durable LSN.
            case(
                unproven(),
                |storage| {
                    flip(storage, FIRST, IN_SECOND_BATCH);
                    set_durable_lsn(storage, 4);
                },
                0,
            ),
            // The header of segment 2, which was opened when LSN 4 was durable. Its records and those of segment 1 behind the hole are gone.
            case(
                journal(),
                |storage| {
                    storage.damage(FIRST, |bytes| bytes[IN_SECOND_BATCH..].fill(0));
                    storage.damage(SECOND, |bytes| bytes[4096..].fill(0));
                },
                0,
            ),
            // A commit record behind the hole in the same segment: that of LSN 6, written when LSN 4 was durable.
            case(
                journal(),
                |storage| {
                    flip(storage, FIRST, IN_SECOND_BATCH);
                    remove(storage, SECOND);
                },
                0,
            ),
            // A commit record in a later segment: that of LSN 10, written when LSN 8 was durable.
            case(journal(), |storage| flip(storage, SECOND, IN_LARGE_BATCH), 0),
            case(
                journal(),
                |storage| {
                    storage.damage(FIRST, |bytes| bytes[4096 + 192..].fill(0));
                },
                0,
            ),
            // Segment 2 was durable, so segment 1 is whole.
            case(
                unproven(),
                |storage| {
                    storage
                        .disk
                        .borrow_mut()
                        .files
                        .insert(SECOND, journal().disk.borrow().files[&FIRST].clone());
                    set_header(storage, SECOND, |header| header.first_lsn = Lsn(5));
                    newest(storage, 2);
                    storage.damage(FIRST, |bytes| bytes[IN_SECOND_BATCH..].fill(0));
                },
                0,
            ),
            // The same, and segment 2 proves no LSN that matters.
            case(
                unproven(),
                |storage| {
                    let second = storage.disk.borrow().files[&FIRST].clone();
                    storage.disk.borrow_mut().files.insert(SECOND, second);
                    set_header(storage, SECOND, |header| header.first_lsn = Lsn(1));
                    newest(storage, 2);
                },
                0,
            ),
            // The first batch of a durable segment was durable.
            case(
                unproven(),
                |storage| {
                    newest(storage, 1);
                    storage.damage(FIRST, |bytes| bytes[4096..].fill(0));
                },
                0,
            ),
        ],
        Found::BatchNotWhole => vec![
            case(unproven(), |_| (), 4),
            case(unproven(), |storage| flip(storage, FIRST, IN_SECOND_BATCH), 2),
            case(unproven(), |storage| flip(storage, FIRST, 4096), 0),
            // Its commit record is gone.
            case(unproven(), |storage| flip(storage, FIRST, 4096 + 96 + 40), 2),
            // Segment 2 is there and continues something that is not.
            case(
                unproven(),
                |storage| {
                    let second = storage.disk.borrow().files[&FIRST].clone();
                    storage.disk.borrow_mut().files.insert(SECOND, second);
                    set_header(storage, SECOND, |header| header.first_lsn = Lsn(7));
                },
                4,
            ),
            // Segment 1 keeps no batch, so both go.
            case(
                unproven(),
                |storage| {
                    flip(storage, FIRST, 4096);
                    let second = storage.disk.borrow().files[&FIRST].clone();
                    storage.disk.borrow_mut().files.insert(SECOND, second);
                    set_header(storage, SECOND, |header| header.first_lsn = Lsn(7));
                },
                0,
            ),
        ],
    }
}

#[test]
fn every_row_decides_as_it_says() {
    for (index, row) in TABLE.iter().enumerate() {
        assert!(!row.found.is_empty());
        for found in row.found {
            let cases = cases(*found, row.evidence);
            assert!(!cases.is_empty());
            for (number, (storage, last_lsn)) in cases.into_iter().enumerate() {
                check(
                    &format!("row {index}, {found:?}, case {number}"),
                    row.verdict,
                    *found,
                    &storage,
                    last_lsn,
                );
            }
        }
    }
}

fn check(name: &str, verdict: Verdict, found: Found, storage: &SimStorage, last_lsn: Lsn) {
    let files_before = storage.numbers();
    let outcome = recover(storage, 500);
    match verdict {
        Verdict::Damage => match outcome {
            Err(RecoveryError::Damage(damage)) => assert_eq!(damage.found, found, "{name}: {damage}"),
            other => panic!("{name}: {other:?}"),
        },
        Verdict::Refused => match (found, outcome) {
            (
                Found::ControlPageOfUnknownVersion,
                Err(RecoveryError::Refused(Refusal::UnknownControlVersion { version: 2 })),
            ) => {}
            (Found::HeaderOfOtherJournal, Err(RecoveryError::Refused(Refusal::OtherJournal { .. }))) => {}
            (
                Found::HeaderOfUnknownVersion,
                Err(RecoveryError::Refused(Refusal::UnknownVersion { version: 2, .. })),
            ) => {}
            (_, other) => panic!("{name}: {other:?}"),
        },
        Verdict::EndsBefore
        | Verdict::ReadRecords
        | Verdict::Abandoned
        | Verdict::ApplyBatch
        | Verdict::SegmentEnds
        | Verdict::Torn => {
            let (_, summary, records) = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(summary.last_lsn, last_lsn, "{name}");
            // Half of the LSNs are those of commit records.
            assert_eq!(records.len() as u64, last_lsn.0 / 2, "{name}");
            if verdict == Verdict::Abandoned {
                assert!(summary.cut.is_some(), "{name}");
            }
            // What is kept, and the segment that was opened.
            let files: Vec<u64> = (1..=summary.segments + 1).collect();
            assert_eq!(storage.numbers(), files, "{name}");
            let removals = storage.disk.borrow().removals.clone();
            assert!(
                removals.is_sorted_by(|newer, older| newer > older),
                "{name}: newest first"
            );
            let expected: Vec<_> = files_before
                .iter()
                .rev()
                .filter(|number| **number > summary.segments)
                .copied()
                .map(SegmentNumber)
                .collect();
            assert_eq!(removals, expected, "{name}");
            storage.crash(|| true);
            assert_eq!(storage.numbers(), files, "{name}: what was removed stays away");
            return;
        }
    }
    assert_eq!(storage.numbers(), files_before, "{name}: nothing was changed");
}
