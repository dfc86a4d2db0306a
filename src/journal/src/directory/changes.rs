//! Tests of what changes a manifest: snapshots and switches.

use super::*;
use crate::control::ControlField;
use crate::identifier::Tag;
use crate::journal::{Journal, Priority};
use crate::mmap::{MmapStorage, Ring};
use crate::recovery::RecoveryStart;
use crate::snapshot::{FinishedSnapshot, SnapshotHeader, SnapshotReader, SnapshotWriter};

const SIZE: usize = 65536;

fn made(path: &Path) -> Directory {
    let new = NewDirectory {
        journal_count: 2,
        segment_size: SIZE,
        ..NewDirectory::default()
    };
    Directory::open_or_create(path, &new).expect("it is made")
}

fn crash() -> DirectoryError {
    DirectoryError::io(Action::Write, Path::new("crash"))(ErrorKind::Interrupted.into())
}

fn set_durable(journal: &DirectoryJournal, lsn: u64) {
    use std::os::unix::fs::FileExt;

    let path = journal.directory.join(CONTROL_FILE_NAME);
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.write_all_at(&lsn.to_le_bytes(), ControlField::DurableLsn.offset() as u64)
        .expect("written");
}

fn snapshot(data: &Path, journal: JournalId, lsn: u64) -> FinishedSnapshot {
    snapshot_in(data, journal, lsn, 1)
}

fn snapshot_in(data: &Path, journal: JournalId, lsn: u64, segment: u64) -> FinishedSnapshot {
    let header = SnapshotHeader {
        journal,
        lsn: Lsn(lsn),
        segment: SegmentNumber(segment),
        time: 0,
    };
    let mut writer = SnapshotWriter::create(data, header).expect("a snapshot");
    writer.put(&lsn.to_le_bytes()).expect("there is room");
    writer.finish().expect("there is room")
}

/// The snapshots of the journal that can be read, newest first; all are named and none else is there.
fn lsns(directory: &Directory, journal: usize) -> Vec<u64> {
    let files = file_names(&directory.path().join(SNAPSHOTS_DIRECTORY)).unwrap_or_default();
    let named: usize = (0..directory.journals().len())
        .map(|journal| directory.snapshots(journal).len())
        .sum();
    assert_eq!(files.len(), named, "{files:?}");
    let read = |snapshot: &DirectorySnapshot| {
        let mut reader = SnapshotReader::open(&snapshot.path).expect("it is there");
        assert_eq!((reader.header().lsn, reader.size()), (snapshot.lsn, snapshot.size));
        let lsn = reader.next_chunk().expect("whole").expect("a chunk").to_vec();
        assert!(reader.next_chunk().expect("whole").is_none());
        assert_eq!(lsn, snapshot.lsn.0.to_le_bytes());
        snapshot.lsn.0
    };
    directory.snapshots(journal).iter().map(read).collect()
}

#[test]
fn two_snapshots_are_kept() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path();
    let mut directory = made(path);
    let mut writer = directory.take_writer().expect("the first");
    assert!(directory.take_writer().is_none());
    let journals = directory.journals().to_vec();
    set_durable(&journals[0], 30);
    assert_eq!(writer.needed_from(journals[0].id), None);
    let mut open = None;
    for lsn in [10, 20, 30] {
        writer
            .add_snapshot(snapshot(path, journals[0].id, lsn))
            .expect("it is added");
        let first = &writer.snapshots(journals[0].id)[0];
        assert_eq!(first.lsn, Lsn(lsn));
        open.get_or_insert_with(|| SnapshotReader::open(&first.path).expect("it is there"));
    }
    assert_eq!(writer.needed_from(journals[0].id), Some(SegmentNumber(1)));
    assert_eq!((writer.generation(), writer.snapshots(journals[1].id).len()), (4, 0));
    let mut open = open.expect("the first one");
    assert_eq!(
        open.next_chunk().expect("readable although removed"),
        Some(&10u64.to_le_bytes()[..])
    );
    let refused = [
        (journals[0].id, 30, SnapshotRefusal::NotNewer { newest: Lsn(30) }),
        (journals[0].id, 31, SnapshotRefusal::NotDurable { durable: Lsn(30) }),
        (journals[1].id, 1, SnapshotRefusal::NotDurable { durable: Lsn(0) }),
        (JournalId([9; 16]), 1, SnapshotRefusal::UnknownJournal),
    ];
    for (journal, lsn, expected) in refused {
        match writer.add_snapshot(snapshot(path, journal, lsn)) {
            Err(DirectoryError::Snapshot { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
    drop(writer);
    assert!(
        matches!(Directory::open(path), Err(DirectoryError::Locked { .. })),
        "the directory is still held"
    );
    drop(directory);
    let directory = Directory::open(path).expect("it is opened");
    assert_eq!(lsns(&directory, 0), [30, 20]);
    assert_eq!(lsns(&directory, 1), [0; 0]);
}

#[test]
fn a_snapshot_that_was_passed_over_goes_before_a_good_one() {
    // The damaged ones, the new one, and what is left; the last one has the file of a damaged one.
    let cases: [(&[u64], u64, &[u64]); 5] = [
        (&[], 40, &[40, 30]),
        (&[30], 40, &[40, 20]),
        (&[20], 40, &[40, 30]),
        (&[30, 20], 40, &[40]),
        (&[30], 30, &[30, 20]),
    ];
    for (damaged, new, expected) in cases {
        let parent = tempfile::tempdir().expect("a directory for the test");
        let path = parent.path();
        let mut directory = made(path);
        let mut writer = directory.take_writer().expect("the first");
        let journals = directory.journals().to_vec();
        for journal in &journals {
            set_durable(journal, 40);
            for lsn in [20, 30] {
                let added = snapshot_in(path, journal.id, lsn, lsn / 10);
                writer.add_snapshot(added).expect("it is added");
            }
        }
        let lsns_of = |numbers: &[u64]| numbers.iter().copied().map(Lsn).collect::<Vec<_>>();
        writer.passed_over(journals[0].id, &lsns_of(damaged));
        let good: Vec<_> = [30, 20].into_iter().filter(|lsn| !damaged.contains(lsn)).collect();
        let named = |writer: &ManifestWriter, journal: usize| -> Vec<_> {
            let snapshots = writer.snapshots(journals[journal].id);
            snapshots.iter().map(|snapshot| snapshot.lsn.0).collect()
        };
        assert_eq!(named(&writer, 0), good);
        let needed = good.last().map(|lsn| SegmentNumber(lsn / 10));
        assert_eq!(writer.needed_from(journals[0].id), needed);
        writer
            .add_snapshot(snapshot_in(path, journals[0].id, new, 4))
            .expect("it is added");
        assert_eq!(
            (named(&writer, 0), named(&writer, 1)),
            (expected.to_vec(), vec![30, 20])
        );
        drop((writer, directory));
        let directory = Directory::open(path).expect("it is opened");
        assert_eq!(
            (lsns(&directory, 0), lsns(&directory, 1)),
            (expected.to_vec(), vec![30, 20])
        );
    }
}

#[test]
fn a_crash_while_a_snapshot_is_added_leaves_the_old_ones_or_the_new_ones() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let mut is_through = false;
    for crash_at in 0.. {
        let path = parent.path().join(format!("{crash_at}"));
        let mut directory = made(&path);
        let mut writer = directory.take_writer().expect("the first");
        let journal = directory.journals()[0].clone();
        set_durable(&journal, 30);
        for lsn in [10, 20] {
            writer
                .add_snapshot(snapshot(&path, journal.id, lsn))
                .expect("it is added");
        }
        // Half written, as a crash leaves it.
        let header = SnapshotHeader {
            journal: journal.id,
            lsn: Lsn(25),
            segment: SegmentNumber(1),
            time: 0,
        };
        std::mem::forget(SnapshotWriter::create(&path, header).expect("a snapshot"));
        let new = snapshot(&path, journal.id, 30);
        let mut step_count = 0;
        let result = writer.add_snapshot_in_steps(&new, &mut |_| {
            step_count += 1;
            if step_count > crash_at { Err(crash()) } else { Ok(()) }
        });
        is_through |= result.is_ok();
        drop((writer, directory));
        let directory = Directory::open(&path).expect("it is opened");
        let expected = if step_count <= 3 { [20, 10] } else { [30, 20] };
        assert_eq!(lsns(&directory, 0), expected, "step {crash_at}");
        if is_through {
            assert_eq!(crash_at, 5);
            break;
        }
    }
}

#[test]
fn a_snapshot_whose_manifest_was_never_written_is_removed() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path();
    let directory = made(path);
    let finished = snapshot(path, directory.journals()[0].id, 10);
    assert!(finished.path().exists());
    let stranger = path.join(SNAPSHOTS_DIRECTORY).join("notes");
    fs::write(&stranger, "mine").expect("written");
    drop(directory);
    let directory = Directory::open(path).expect("it is opened");
    assert!(!finished.path().exists());
    assert_eq!(directory.snapshots(0), []);
    assert!(stranger.exists(), "only what is known to be a left-over goes");
}

/// Runs the journal with a record.
fn used(directory: &Directory, journal: usize) -> JournalEnd {
    let entry = &directory.journals()[journal];
    let storage = MmapStorage::open(&entry.directory, entry.id, SIZE, Ring::default()).expect("opened");
    let mut incarnation = 0;
    let incarnations = move || {
        incarnation += 1;
        incarnation
    };
    let recovered = Journal::<_>::recover(storage, RecoveryStart::FIRST, 0, incarnations, |_| {
        Ok::<(), std::io::Error>(())
    });
    let mut journal = recovered.expect("a journal").journal;
    journal
        .append(Priority::Normal, Tag::default(), b"body")
        .expect("there is room");
    let ticket = journal.commit().expect("one record");
    journal.write_out(false).expect("written");
    journal.segment_synced(SegmentNumber(1));
    journal.durable(ticket.upto);
    JournalEnd {
        lsn: ticket.upto,
        segment: SegmentNumber(1),
    }
}

#[test]
fn a_crash_at_any_step_of_a_switch_leaves_the_old_journals_or_the_new_ones() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    for crash_at in 0.. {
        let path = parent.path().join(format!("{crash_at}"));
        let mut directory = made(&path);
        let mut writer = directory.take_writer().expect("the first");
        let old: Vec<_> = directory.journals().iter().map(|journal| journal.id).collect();
        let ends: Vec<_> = (0..2)
            .map(|journal| (old[journal], used(&directory, journal)))
            .collect();
        writer.add_snapshot(snapshot(&path, old[0], 2)).expect("it is added");
        drop((writer, directory));
        let directory = Directory::open(&path).expect("it is opened");
        assert_eq!(lsns(&directory, 0), [2]);

        let mut step_count = 0;
        let mut on_step = |_| {
            step_count += 1;
            if step_count > crash_at { Err(crash()) } else { Ok(()) }
        };
        let result = directory
            .create_journals_in_steps(3, &mut on_step)
            .and_then(|journals| {
                let switch = Switch {
                    journals: journals
                        .iter()
                        .map(|journal| SwitchedJournal {
                            id: journal.id,
                            snapshot: (journal.core != Some(2)).then(|| snapshot(&path, journal.id, 0)),
                        })
                        .collect(),
                    owners: std::array::from_fn(|partition| index_u16(partition % 3)),
                    ends: ends.clone(),
                };
                directory.switch_in_steps(&switch, &mut on_step)
            });
        let is_through = result.is_ok();
        drop(result);

        let directory = Directory::open(&path).expect("it is opened");
        let cores: Vec<_> = directory.journals().iter().map(|journal| journal.core).collect();
        let names = journal_directories(&path).expect("a list");
        assert_eq!(
            names.len(),
            directory.journals().len(),
            "step {crash_at}: nothing is left over"
        );
        // Three steps for each journal, one for all, three until the manifest is renamed.
        if step_count <= 13 {
            assert_eq!(cores, [Some(0), Some(1)], "step {crash_at}");
            assert_eq!(lsns(&directory, 0), [2]);
        } else {
            assert_eq!(cores, [None, None, Some(0), Some(1), Some(2)], "step {crash_at}");
            assert_eq!(directory.owners()[4], 3);
            assert_eq!((lsns(&directory, 2), lsns(&directory, 3)), (vec![0], vec![0]));
            assert_eq!((lsns(&directory, 0), lsns(&directory, 4)), (vec![], vec![]));
            for (index, (id, end)) in ends.iter().enumerate() {
                let journal = &directory.journals()[index];
                assert_eq!((journal.id, journal.end), (*id, Some(*end)));
                let mut files = file_names(&journal.directory).expect("a list");
                files.sort_unstable();
                assert_eq!(files, ["0000000001.segment", "control"]);
            }
        }
        let first = cores.iter().position(Option::is_some).expect("one has a core");
        used(&directory, first);
        if is_through {
            assert_eq!(crash_at, 15);
            break;
        }
    }
}

#[test]
fn a_switch_must_say_where_the_old_journals_end() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let switch = |directory: &Directory, ends| Switch {
        journals: directory
            .create_journals(1)
            .expect("they are made")
            .iter()
            .map(|journal| SwitchedJournal {
                id: journal.id,
                snapshot: None,
            })
            .collect(),
        owners: [0; PARTITION_COUNT],
        ends,
    };
    let mut directory = made(parent.path());
    let _writer = directory.take_writer();
    let asked = switch(&directory, Vec::new());
    assert!(matches!(
        directory.switch(&asked),
        Err(DirectoryError::WriterTaken { .. })
    ));
    drop(_writer);
    let directory = Directory::open(parent.path()).expect("it is opened");
    let asked = switch(&directory, Vec::new());
    assert!(matches!(
        directory.switch(&asked),
        Err(DirectoryError::New(ManifestError::End { index: 0 }))
    ));
    let directory = Directory::open(parent.path()).expect("it is opened");
    assert_eq!(directory.journals().len(), 2);
    assert_eq!(journal_directories(parent.path()).expect("a list").len(), 2);
}

#[test]
fn a_journal_with_records_is_never_a_left_over() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let directory = made(parent.path());
    let strangers = directory.create_journals(3).expect("they are made");
    set_durable(&strangers[0], 1);
    fs::write(strangers[1].directory.join("0000000001.segment"), "records").expect("written");
    drop(directory);
    Directory::open(parent.path()).expect("it is opened");
    let is_there: Vec<_> = strangers.iter().map(|journal| journal.directory.exists()).collect();
    assert_eq!(is_there, [true, true, false]);
}
