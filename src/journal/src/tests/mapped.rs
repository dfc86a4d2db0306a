//! Journals in files.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::directory::{Directory, NewDirectory};
use crate::framing::CrcFraming;
use crate::identifier::{SegmentNumber, Tag};
use crate::journal::{Full, Journal, Priority, Ticket};
use crate::limits::SEGMENT_SIZE_MIN;
use crate::mmap::{MmapStorage, Ring, prepare_segment};
use crate::recovery::{Found, RecoveryError, RecoveryStart, Summary};
use crate::storage::Storage;

fn directory(path: &Path) -> Directory {
    let new = NewDirectory {
        segment_size: SEGMENT_SIZE_MIN,
        ..NewDirectory::default()
    };
    Directory::open_or_create(path, &new).expect("a data directory")
}

fn storage(directory: &Directory) -> MmapStorage {
    let journal = &directory.journals()[0];
    MmapStorage::open(
        &journal.directory,
        journal.id,
        directory.segment_size(),
        Ring::default(),
    )
    .expect("a journal")
}

fn recover(directory: &Directory, incarnation: u64) -> (Journal<MmapStorage>, Summary) {
    let mut incarnation = incarnation;
    let incarnations = move || {
        incarnation += 1;
        incarnation
    };
    let recovered =
        Journal::<_, CrcFraming>::recover(storage(directory), RecoveryStart::FIRST, 0, incarnations, |record| {
            assert!(
                record.body.iter().all(|byte| *byte == record.lsn.0 as u8),
                "LSN {}",
                record.lsn
            );
            Ok::<(), std::io::Error>(())
        })
        .expect("a whole journal");
    (recovered.journal, recovered.summary)
}

fn finish(journal: &mut Journal<MmapStorage>, ticket: Ticket) {
    journal.write_out(false).expect("written");
    for number in ticket.segments() {
        File::open(journal.storage().segment_path(number))
            .and_then(|file| file.sync_data())
            .expect("synced");
    }
    if let Some(opened) = ticket.opened {
        journal.segment_synced(opened);
        File::open(journal.storage().control_path())
            .and_then(|file| file.sync_data())
            .expect("synced");
    }
    journal.durable(ticket.upto);
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn rolls_through_prepared_files_and_comes_back() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let (mut journal, summary) = recover(&data, 0);
    assert_eq!(summary, Summary::default());
    let mut lsns = Vec::new();
    for _ in 0..60 {
        for index in 0..3 {
            let body = [index; 5000];
            let lsn = loop {
                match journal.append(Priority::Normal, Tag::default(), &body) {
                    Ok(lsn) => break lsn,
                    Err(full) => assert_eq!(full, Full::Ring),
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            lsns.push(lsn);
        }
        let ticket = journal.commit().expect("three records");
        finish(&mut journal, ticket);
    }
    drop(journal);
    let mut found = Vec::new();
    let recovered = Journal::<_, CrcFraming>::recover(
        storage(&data),
        RecoveryStart::FIRST,
        0,
        || 7,
        |record| {
            assert_eq!(record.body, [(found.len() % 3) as u8; 5000]);
            found.push(record.lsn);
            Ok::<(), std::io::Error>(())
        },
    );
    let summary = recovered.expect("a whole journal").summary;
    assert_eq!(found, lsns);
    assert!(summary.segments > 10, "{summary:?}");
}

#[test]
fn a_new_process_finds_the_records() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    for start in 0..3 {
        let (mut journal, summary) = recover(&data, start * 100);
        assert_eq!((summary.records, summary.segments), (start, start));
        let lsn = journal.last_lsn().0 + 1;
        journal
            .append(Priority::Normal, Tag::default(), &[lsn as u8; 100])
            .expect("there is room");
        let ticket = journal.commit().expect("one record");
        finish(&mut journal, ticket);
    }
}

#[test]
fn keeps_the_ring_full_and_cleans_up() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = data.journals()[0].directory.clone();
    fs::write(files.join("0000000009.segment.new"), "half").expect("a left-over is written");
    let (journal, _) = recover(&data, 0);
    wait_until("three segments are prepared", || {
        journal.storage().prepared_count() == 3
    });
    assert!(!journal.storage().is_full());
    assert!(!files.join("0000000009.segment.new").exists());
    let mut names = crate::mmap::file_names(&files).expect("a list");
    names.sort_unstable();
    let segment = |number: u64| format!("{number:010}.segment");
    assert_eq!(
        names,
        [segment(1), segment(2), segment(3), segment(4), "control".to_owned()]
    );
    drop(journal);
    // Prepared files are no part of the journal.
    let (journal, summary) = recover(&data, 10);
    assert_eq!((summary, journal.last_lsn().0), (Summary::default(), 0));
}

#[test]
fn a_file_in_the_way_is_never_overwritten() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let path = data.journals()[0].directory.join("0000000003.segment");
    let mut storage = storage(&data);
    let segment = storage.prepare(SegmentNumber(1)).expect("there is room");
    drop(segment);
    drop(storage);
    let _ = fs::remove_file(data.journals()[0].directory.join("0000000002.segment"));
    fs::write(&path, "somebody's").expect("it is written");
    let result = prepare_segment(
        &data.journals()[0].directory,
        SegmentNumber(3),
        SEGMENT_SIZE_MIN,
        &|| false,
    );
    assert!(matches!(result, Err(crate::StorageError::InTheWay { .. })));
    assert_eq!(fs::read(&path).expect("it is there"), b"somebody's");
}

#[test]
fn a_lost_control_page_is_damage() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    fs::remove_file(storage(&data).control_path()).expect("it is removed");
    let result = Journal::<_, CrcFraming>::recover(
        storage(&data),
        RecoveryStart::FIRST,
        0,
        || 1,
        |_| Ok::<(), std::io::Error>(()),
    );
    let Err(RecoveryError::Damage(damage)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(damage.found, Found::ControlPageMissing);
}
