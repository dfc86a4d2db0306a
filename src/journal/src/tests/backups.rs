//! Copies of a data directory.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::archive::{JournalFiles, SegmentReader, archive_last_segment, check_history, free_archived};
use crate::backup::{BackupError, backup};
use crate::damage::FileError;
use crate::directory::{Directory, DirectoryError, JournalEnd, ManifestWriter, Switch, SwitchedJournal};
use crate::identifier::{Lsn, SegmentNumber};
use crate::journal::{Journal, Priority};
use crate::mmap::{MmapStorage, Ring, file_names};
use crate::recovery::RecoveryStart;
use crate::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::storage::{Segment, Storage};
use crate::tests::files::{Files, batch, directory, fill_up_to, keys, wait_until};
use std::ops::ControlFlow;

fn snapshot(data: &Path, writer: &mut ManifestWriter, files: &Files, journal: &Journal<MmapStorage>) {
    let header = SnapshotHeader {
        journal: files.journal,
        lsn: journal.last_lsn(),
        segment: journal.segment().number(),
        time: journal.last_time(),
    };
    let mut snapshot = SnapshotWriter::create(data, header).expect("a snapshot");
    snapshot.put(&header.lsn.0.to_le_bytes()).expect("there is room");
    writer
        .add_snapshot(snapshot.finish().expect("there is room"))
        .expect("it is added");
}

/// Recovers the copy from each of its snapshots, and checks its history. Returns its last LSN.
fn check(copy: &Path) -> Lsn {
    let data = Directory::open(copy).expect("a data directory");
    let files = Files::of(&data);
    let mut starts: Vec<_> = data
        .snapshots(0)
        .iter()
        .map(|snapshot| {
            let mut reader = SnapshotReader::open(&snapshot.path).expect("it is there");
            assert_eq!(
                reader.next_chunk().expect("whole"),
                Some(&snapshot.lsn.0.to_le_bytes()[..])
            );
            assert!(reader.next_chunk().expect("whole").is_none());
            RecoveryStart::from(reader.header())
        })
        .collect();
    if starts.is_empty() {
        starts.push(RecoveryStart::FIRST);
    }
    let mut last = None;
    // The oldest first: the others still find what they need.
    for start in starts.into_iter().rev() {
        let history = check_history(&files.source(), start.segment, |_| ControlFlow::Continue(()));
        history.expect("all of it is there");
        let (journal, summary, lsns) = files.recover(Ring::default(), start);
        assert_eq!(summary.cut, None);
        assert!(lsns.first().is_none_or(|lsn| *lsn > start.lsn));
        assert_eq!(*last.get_or_insert(journal.last_lsn()), journal.last_lsn());
    }
    last.expect("at least one start")
}

#[test]
fn a_copy_made_while_the_journal_runs_holds_what_was_durable() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path().join("data");
    let mut data = directory(&path);
    let mut writer = data.take_writer().expect("the first");
    let files = Files::of(&data);
    let (durable, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let ring = Ring::new(2).with_file_count_max(12);
            let (mut journal, ..) = files.recover(ring, RecoveryStart::FIRST);
            let recycler = journal.storage().recycler().expect("it runs");
            let mut sealed = 0;
            while !is_done.load(Ordering::Acquire) {
                if let Ok(lsn) = batch(&mut journal, Priority::Normal) {
                    durable.store(lsn.0 + 1, Ordering::Release);
                }
                // A snapshot and an archive for each segment; what is not needed is used again.
                let number = journal.segment().number().0;
                if number > sealed + 1 {
                    sealed += 1;
                    files.archive(sealed);
                    snapshot(&path, &mut writer, &files, &journal);
                    recycler.give_up(
                        writer
                            .needed_from(files.journal)
                            .expect("there is a snapshot")
                            .min(SegmentNumber(sealed + 1)),
                    );
                }
            }
        });
        for round in 0..8 {
            let to = parent.path().join(format!("copy-{round}"));
            // Some begin before anything is there.
            std::thread::sleep(std::time::Duration::from_millis(40 * round));
            let before = durable.load(Ordering::Acquire);
            let mut progress = None;
            let summary = backup(&path, &to, |so_far| progress = Some(so_far)).expect("a copy");
            assert_eq!(progress, Some(summary.copied));
            let last = check(&to);
            assert_eq!(summary.ends, [(files.journal, last)]);
            assert!(last.0 >= before, "round {round}: {last} of {before}");
        }
        is_done.store(true, Ordering::Release);
        server.join().expect("it ran on");
    });
    assert!(durable.load(Ordering::Acquire) > 0);
    assert!(
        JournalFiles::read(&files.directory).expect("a list").segments[0].0 > 1,
        "segments were used again"
    );
}

#[test]
fn a_copy_is_a_directory_that_runs_on() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let (path, to) = (parent.path().join("data"), parent.path().join("deep/copy"));
    let mut data = directory(&path);
    let mut writer = data.take_writer().expect("the first");
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 4);
    files.archive(1);
    snapshot(&path, &mut writer, &files, &journal);
    batch(&mut journal, Priority::Normal).expect("there is room");
    let last = journal.last_lsn();
    // What is not durable yet is no part of the copy.
    journal
        .append(Priority::Normal, crate::Tag::default(), &[1; 100])
        .expect("there is room");
    journal.commit().expect("one record");
    // From here on there is no new file.
    wait_until("three are prepared", || journal.storage().prepared_count() == 3);
    let before: Vec<_> = JournalFiles::read(&files.directory).expect("a list").segments;
    let summary = backup(&path, &to, |_| ()).expect("a copy");
    assert_eq!(summary.ends, [(files.journal, last)]);
    assert_eq!(JournalFiles::read(&files.directory).expect("a list").segments, before);
    assert_eq!(check(&to), last);

    let copy = Directory::open(&to).expect("a data directory");
    assert_eq!((copy.id(), copy.journals().len()), (data.id(), 1));
    let copied = Files::of(&copy);
    let kept = JournalFiles::read(&copied.directory).expect("a list");
    assert_eq!(kept.archives, [SegmentNumber(1)]);
    assert!(!kept.segments.contains(&SegmentNumber(1)));
    let start = RecoveryStart {
        lsn: copy.snapshots(0)[0].lsn,
        segment: copy.snapshots(0)[0].segment,
        time: 0,
    };
    let (mut journal, ..) = copied.recover(Ring::new(2).with_file_count_max(8), start);
    fill_up_to(&mut journal, 7);
    // Segments with holes can be used again too.
    for number in 2..=6 {
        copied.archive(number);
    }
    let recycler = journal.storage().recycler().expect("it runs");
    recycler.give_up(SegmentNumber(5));
    fill_up_to(&mut journal, 10);
    assert!(recycler.status().files <= 8);
}

/// Gives the directory another journal, and makes that which it has history.
fn switched(path: &Path, journal: Journal<MmapStorage>) -> (Directory, JournalEnd) {
    let end = JournalEnd {
        lsn: journal.last_lsn(),
        segment: journal.segment().number(),
    };
    drop(journal);
    let data = Directory::open(path).expect("a data directory");
    let journals = data.create_journals(1).expect("they are made");
    let switch = Switch {
        journals: vec![SwitchedJournal {
            id: journals[0].id,
            snapshot: None,
        }],
        owners: [0; crate::limits::PARTITION_COUNT],
        ends: vec![(data.journals()[0].id, end)],
    };
    (data.switch(&switch).expect("they are switched"), end)
}

#[test]
fn a_journal_without_a_core_is_copied_from_its_archives() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let (path, to) = (parent.path().join("data"), parent.path().join("copy"));
    let data = directory(&path);
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::new(2), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 7);
    for number in 1..=5 {
        files.archive(number);
    }
    drop(data);
    let (data, end) = switched(&path, journal);
    // As if they had been used again; and one that could not be archived.
    for number in [1, 2, 4] {
        fs::remove_file(files.segment(number)).expect("removed");
    }
    fs::remove_file(crate::archive::archive_path(&files.directory, SegmentNumber(3))).expect("removed");
    let summary = backup(&path, &to, |_| ()).expect("a copy");
    assert_eq!(
        summary.ends,
        [(files.journal, end.lsn), (data.journals()[1].id, Lsn(0))]
    );
    let copy = Directory::open(&to).expect("a data directory");
    assert_eq!((copy.journals()[0].core, copy.journals()[0].end), (None, Some(end)));
    let copied = Files::of(&copy);
    let kept = JournalFiles::read(&copied.directory).expect("a list");
    assert_eq!(kept.archives, [1, 2, 4, 5].map(SegmentNumber));
    assert_eq!(kept.segments, [3, 6, 7].map(SegmentNumber));
    let history = check_history(&copied.source(), end.segment, |_| ControlFlow::Continue(()));
    let history = history.expect("all of it is there").expect("nobody stops it");
    assert_eq!((history.archives, history.segments), (4, 2));
    let again = backup(&to, &parent.path().join("again"), |_| ()).expect("a copy of the copy");
    assert_eq!(again.ends, summary.ends);
}

#[test]
fn history_can_consist_of_archives_alone() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let (path, to) = (parent.path().join("data"), parent.path().join("copy"));
    let data = directory(&path);
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::new(2), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 5);
    drop(data);
    let (data, end) = switched(&path, journal);
    let go_on = |_| ControlFlow::Continue(());
    let free = || free_archived(&files.source(), end.segment, go_on);
    let there = |files: &Files| JournalFiles::read(&files.directory).expect("a list");
    assert_eq!(
        (free().expect("nothing is archived"), there(&files).segments.len()),
        (0, 5)
    );
    for number in [1, 2, 4] {
        files.archive(number);
    }
    // A lease keeps its segment; a segment without an archive keeps those behind it.
    let lease = SegmentReader::open(&files.source(), SegmentNumber(1)).expect("it is there");
    assert_eq!(free().expect("whole"), 1);
    assert_eq!(there(&files).segments, [1, 3, 4, 5].map(SegmentNumber));
    drop(lease);
    assert_eq!(free().expect("whole"), 1);
    files.archive(3);
    // A damaged archive keeps its segment.
    let archive = crate::archive::archive_path(&files.directory, SegmentNumber(3));
    let whole = fs::read(&archive).expect("it is there");
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    fs::write(&archive, &flipped).expect("written");
    assert!(matches!(free(), Err(FileError::Damaged(damage)) if damage.path == archive));
    assert_eq!(there(&files).segments, [3, 4, 5].map(SegmentNumber));
    fs::write(&archive, &whole).expect("written");
    assert_eq!(free().expect("whole"), 2);

    // The last one, up to the journal's end.
    let source = files.source();
    let archive_last = |end| archive_last_segment(&source, end, keys, go_on);
    let elsewhere = JournalEnd {
        lsn: Lsn(end.lsn.0 - 1),
        ..end
    };
    assert!(matches!(archive_last(elsewhere), Err(FileError::NotSealed { .. })));
    let summary = archive_last(end).expect("whole").expect("nobody stops it");
    assert_eq!((summary.number, summary.last_lsn), (end.segment, end.lsn));
    let check = |files: &Files| {
        let history = check_history(&files.source(), end.segment.next(), go_on).expect("all of it is there");
        let history = history.expect("nobody stops it");
        (history.archives, history.segments)
    };
    assert_eq!(check(&files), (5, 1));
    assert_eq!(free().expect("whole"), 1);
    assert_eq!((check(&files), free().expect("whole")), ((5, 0), 0));
    let control = files.source().control().expect("it is there");
    assert_eq!(control.oldest_segment, end.segment.next());
    drop(data);
    Directory::open(&path).expect("a data directory");
    let copied = backup(&path, &to, |_| ()).expect("a copy");
    assert_eq!(copied.ends[0], (files.journal, end.lsn));
    let copy = Files::of(&Directory::open(&to).expect("a data directory"));
    assert_eq!((check(&copy), there(&copy).segments.len()), ((5, 0), 0));
}

#[test]
fn what_is_not_a_whole_copy_is_no_directory() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let (path, to) = (parent.path().join("data"), parent.path().join("copy"));
    let data = directory(&path);
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 3);
    drop(journal);
    let mut bytes = fs::read(files.segment(2)).expect("it is there");
    bytes[5000] ^= 1;
    fs::write(files.segment(2), &bytes).expect("written");
    match backup(&path, &to, |_| ()) {
        Err(BackupError::File(FileError::Damaged(damage))) => {
            assert!(
                damage.path.ends_with("0000000002.segment") && damage.offset == 4096,
                "{damage}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(Directory::open(&to), Err(DirectoryError::ManifestLost { .. })));
    let names = file_names(&to).expect("a list");
    assert!(matches!(
        backup(&path, &to, |_| ()),
        Err(BackupError::TargetNotEmpty { .. })
    ));
    assert_eq!(file_names(&to).expect("a list"), names);
    // A segment that was durable and is gone.
    let other = parent.path().join("other");
    fs::remove_file(files.segment(1)).expect("removed");
    assert!(matches!(
        backup(&path, &other, |_| ()),
        Err(BackupError::File(FileError::Damaged(_)))
    ));
    assert!(!other.exists());
    assert!(matches!(
        backup(&parent.path().join("none"), &other, |_| ()),
        Err(BackupError::Directory(DirectoryError::NotFound { .. }))
    ));
}
