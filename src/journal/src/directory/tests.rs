use std::collections::HashSet;

use super::*;
use crate::identifier::{SegmentNumber, Tag};
use crate::journal::{Journal, Priority};
use crate::mmap::{MmapStorage, Ring};
use crate::recovery::RecoveryStart;

fn new_directory() -> NewDirectory {
    NewDirectory {
        dimensions: vec!["orders".to_owned(), "items".to_owned()],
        journal_count: 3,
        segment_size: 65536,
    }
}

#[test]
fn is_made_once_and_stays_as_it_was_made() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path().join("deep/data");
    let made = Directory::open_or_create(&path, &new_directory()).expect("it is made");
    let (id, journals) = (made.id(), made.journals().to_vec());
    assert_eq!(made.owners()[4], 1);
    assert_eq!(
        journals.iter().map(|journal| journal.core).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    assert_eq!(
        journals.iter().map(|journal| journal.id).collect::<HashSet<_>>().len(),
        3
    );
    drop(made);
    fs::write(path.join(MANIFEST_NEXT), "half").expect("a left-over is written");
    let other = NewDirectory {
        journal_count: 1,
        ..new_directory()
    };
    let opened = Directory::open_or_create(&path, &other).expect("it is opened");
    assert_eq!((opened.id(), opened.journals()), (id, &journals[..]));
    assert_eq!(opened.dimensions(), ["orders", "items"]);
    assert_eq!((opened.segment_size(), opened.generation()), (65536, 1));
    assert!(!path.join(MANIFEST_NEXT).exists());
    drop(opened);
    assert!(Directory::open(&path).is_ok());
    assert!(matches!(
        Directory::create(&path, &other),
        Err(DirectoryError::Foreign { .. })
    ));
}

#[test]
fn names_the_process_that_holds_the_lock() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let held = Directory::open_or_create(parent.path(), &new_directory()).expect("it is made");
    let pid = std::process::id();
    for result in [
        Directory::open(parent.path()),
        Directory::open_or_create(parent.path(), &new_directory()),
    ] {
        let error = result.expect_err("it is locked");
        assert!(
            matches!(error, DirectoryError::Locked { pid: Some(found), .. } if found == pid),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("process {pid}")));
    }
    drop(held);
    assert!(Directory::open(parent.path()).is_ok());
}

#[test]
fn a_crash_at_any_step_leaves_a_start_possible() {
    let crash = || DirectoryError::io(Action::Write, Path::new("crash"))(ErrorKind::Interrupted.into());
    let mut steps = Vec::new();
    let parent = tempfile::tempdir().expect("a directory for the test");
    let mut note = |step| {
        steps.push(step);
        Ok(())
    };
    Directory::open_or_create_in_steps(&parent.path().join("whole"), &new_directory(), &mut note).expect("it is made");
    assert_eq!(steps.len(), 1 + 3 * 3 + 5);
    for crash_at in 0..steps.len() {
        let path = parent.path().join(format!("{crash_at}"));
        // Crashes twice, the second time among what the first one left.
        for _ in 0..2 {
            let mut step_count = 0;
            let result = Directory::open_or_create_in_steps(&path, &new_directory(), &mut |_| {
                step_count += 1;
                if step_count > crash_at { Err(crash()) } else { Ok(()) }
            });
            // Once it is renamed the manifest counts, whether or not the last sync came.
            assert_eq!(
                result.is_err(),
                !path.join(MANIFEST).exists() || step_count > crash_at,
                "step {crash_at}"
            );
        }
        let directory = Directory::open_or_create(&path, &new_directory()).expect("it is made after the crash");
        assert_eq!(directory.journals().len(), 3);
        assert_eq!(
            journal_directories(&path).expect("a list").len(),
            3,
            "nothing is left over"
        );
        for journal in directory.journals() {
            let storage = MmapStorage::open(&journal.directory, journal.id, 65536, Ring::default()).expect("opened");
            Journal::<_>::recover(storage, RecoveryStart::FIRST, 0, || 7, |_| Ok::<(), std::io::Error>(()))
                .expect("an empty journal");
        }
    }
}

#[test]
fn refuses_what_is_not_its_own() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path();
    assert!(matches!(
        Directory::open(&path.join("none")),
        Err(DirectoryError::NotFound { .. })
    ));
    assert!(matches!(Directory::open(path), Err(DirectoryError::NotFound { .. })));
    assert_eq!(file_names(path).expect("a list"), [""; 0], "nothing was made");
    fs::write(path.join("thesis.txt"), "chapter one").expect("a file is written");
    let error = Directory::open_or_create(path, &new_directory()).expect_err("somebody else's");
    assert!(
        matches!(&error, DirectoryError::Foreign { entry, .. } if entry == Path::new("thesis.txt")),
        "{error}"
    );
    assert_eq!(file_names(path).expect("a list"), ["thesis.txt"], "nothing was made");
    let journal = path.join("journal-0123456789abcdef");
    fs::create_dir(&journal).expect("a directory is made");
    fs::remove_file(path.join("thesis.txt")).expect("it is removed");
    fs::write(journal.join("notes"), "").expect("a file is written");
    assert!(matches!(
        Directory::open_or_create(path, &new_directory()),
        Err(DirectoryError::Foreign { .. })
    ));
    for (dimensions, journal_count, segment_size) in [(0, 1, 65536), (1, 0, 65536), (1, 1025, 65536), (1, 1, 65537)] {
        let new = NewDirectory {
            dimensions: vec!["a".to_owned(); dimensions],
            journal_count,
            segment_size,
        };
        let result = Directory::open_or_create(&path.join("other"), &new);
        assert!(matches!(result, Err(DirectoryError::New(_))), "{new:?}");
    }
}

#[test]
fn refuses_records_without_a_manifest() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let path = parent.path();
    let directory = Directory::open_or_create(path, &new_directory()).expect("it is made");
    let entry = directory.journals()[0].clone();
    let storage = MmapStorage::open(&entry.directory, entry.id, 65536, Ring::default()).expect("opened");
    let recovered =
        Journal::<_>::recover(storage, RecoveryStart::FIRST, 0, || 7, |_| Ok::<(), std::io::Error>(())).expect("empty");
    let mut journal = recovered.journal;
    journal
        .append(Priority::Normal, Tag::default(), b"body")
        .expect("there is room");
    drop(journal);
    drop(directory);
    assert_eq!(segment_number("0000000001.segment"), Some(SegmentNumber(1)));
    fs::remove_file(path.join(MANIFEST)).expect("it is removed");
    for result in [Directory::open(path), Directory::open_or_create(path, &new_directory())] {
        assert!(matches!(result, Err(DirectoryError::ManifestLost { .. })));
    }
    fs::write(path.join(MANIFEST), "plimsoll-manifest 1 00000000 2\n{}").expect("it is written");
    assert!(matches!(Directory::open(path), Err(DirectoryError::Manifest { .. })));
}
