use std::fs;
use std::path::PathBuf;

use super::*;
use crate::damage::{FileDamage, FileError};
use crate::identifier::Tag;
use crate::mmap::Ring;
use crate::recovery::RecoveryStart;
use crate::tests::files::{Files, body, directory, fill_up_to, keys};
use std::ops::ControlFlow;

/// A journal that is in its fifth segment, the first three of them archived.
fn archived() -> (tempfile::TempDir, Files) {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = directory(parent.path());
    let files = Files::of(&data);
    let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
    fill_up_to(&mut journal, 5);
    drop(journal);
    for number in 1..=3 {
        files.archive(number);
    }
    (parent, files)
}

fn path(files: &Files, number: u64) -> PathBuf {
    archive_path(&files.directory, SegmentNumber(number))
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn damage<T: std::fmt::Debug>(result: Result<T, FileError>) -> FileDamage {
    match result {
        Err(FileError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

/// The records of a segment, without commit records.
fn of_segment(files: &Files, number: u64) -> Vec<(Lsn, i64, Tag)> {
    let mut reader = SegmentReader::open(&files.source(), SegmentNumber(number))
        .expect("it is there")
        .expect("it is there");
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().expect("it can be read") {
        if record.tag.kind < crate::record::OWN_KIND_MIN {
            records.push((record.lsn, record.time, record.tag));
        }
    }
    records
}

fn rest(reader: &mut ArchiveReader) -> Vec<(Lsn, i64, Tag)> {
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().expect("a whole archive") {
        assert_eq!(record.body, body(record.lsn));
        records.push((record.lsn, record.time, record.tag));
    }
    records
}

#[test]
fn gives_back_the_records_of_the_segment() {
    let (_parent, files) = archived();
    let mut next = Lsn(1);
    for number in 1..=3 {
        let mut reader = ArchiveReader::open(&path(&files, number)).expect("a whole archive");
        assert!(reader.size() < 65536, "{} bytes", reader.size());
        let summary = reader.summary();
        assert_eq!((summary.journal, summary.number.0), (files.journal, number));
        assert_eq!(summary.first_lsn, next);
        next = Lsn(summary.last_lsn.0 + 1);
        let records = of_segment(&files, number);
        assert_eq!(rest(&mut reader), records);
        for (index, (lsn, ..)) in records.iter().enumerate() {
            // Its own LSN, and that of the commit record before it.
            for lsn in [*lsn, Lsn(lsn.0 - 1)] {
                reader.seek(lsn).expect("a whole archive");
                assert_eq!(rest(&mut reader), records[index..], "{lsn}");
            }
            reader.only(1000 + lsn.0..=1000 + lsn.0);
            assert!(rest(&mut reader).iter().any(|(found, ..)| found == lsn));
        }
        reader.seek(next).expect("a whole archive");
        assert_eq!(rest(&mut reader), []);
        reader.only(7..=7);
        assert_eq!(rest(&mut reader), []);
        let verified = verify_archive(&path(&files, number), go_on).expect("a whole archive");
        assert_eq!(verified, Some(summary));
    }
}

#[test]
fn a_key_leads_to_its_frames_only() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let data = crate::directory::Directory::open_or_create(
        &parent.path().join("data"),
        &crate::NewDirectory {
            segment_size: 8 * 1024 * 1024,
            ..crate::NewDirectory::default()
        },
    )
    .expect("a data directory");
    let journal = data.journals()[0].clone();
    let storage =
        crate::MmapStorage::open(&journal.directory, journal.id, data.segment_size(), Ring::default()).expect("opened");
    let mut incarnation = 0;
    let incarnations = move || {
        incarnation += 1;
        incarnation
    };
    let each = |_: Record<'_>| Ok::<(), std::io::Error>(());
    let recovered = crate::Journal::<_>::recover(storage, RecoveryStart::FIRST, 0, incarnations, each);
    let mut journal = recovered.expect("an empty journal").journal;
    while crate::Segment::number(journal.segment()) == SegmentNumber(1) {
        let lsn = Lsn(journal.last_lsn().0 + 1);
        let size = if lsn.0 % 31 == 1 { 600_000 } else { 3000 };
        let tag = Tag {
            kind: 16,
            partition: lsn.0 as u16,
            detail: 0,
        };
        let Ok(_) = journal.append(crate::Priority::Normal, tag, &vec![lsn.0 as u8; size]) else {
            continue;
        };
        let ticket = journal.commit().expect("one record");
        crate::tests::files::finish(&mut journal, ticket);
    }
    drop(journal);
    let entry = &data.journals()[0];
    let source = SegmentSource {
        directory: &entry.directory,
        journal: entry.id,
        segment_size: data.segment_size(),
        end: None,
    };
    let mut handled = 0;
    archive_segment(&source, SegmentNumber(1), keys, |bytes| {
        handled += bytes;
        assert!(bytes < 2_000_000);
        ControlFlow::Continue(())
    })
    .expect("it is sealed")
    .expect("nobody stops it");
    assert!(handled > 8_000_000, "{handled}");
    let path = archive_path(&entry.directory, SegmentNumber(1));
    let mut reader = ArchiveReader::open(&path).expect("a whole archive");
    assert!(reader.size() < 1_000_000);
    let lsn = reader.summary().first_lsn.0 + 100;
    reader.only(1000 + lsn..=1000 + lsn);
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().expect("a whole archive") {
        found.push(record.lsn.0);
    }
    assert!(found.contains(&lsn) && found.len() < 200, "{}", found.len());
    assert!(verify_archive(&path, go_on).expect("a whole archive").is_some());
}

#[test]
fn an_archive_cut_or_flipped_anywhere_is_damaged() {
    let (_parent, files) = archived();
    let path = path(&files, 1);
    let whole = fs::read(&path).expect("it is there");
    let verify = || damage(verify_archive(&path, go_on));
    let step = 53;
    for size in (0..whole.len()).step_by(step).chain(whole.len() - 70..whole.len()) {
        fs::write(&path, &whole[..size]).expect("written");
        assert!(verify().offset <= size as u64, "cut at {size}");
    }
    let places = (0..300)
        .chain((300..whole.len()).step_by(step))
        .chain(whole.len() - 500..whole.len());
    for offset in places {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1 << (offset % 8);
        fs::write(&path, &flipped).expect("written");
        let damage = verify();
        assert!(damage.to_string().contains("0000000001.archive"), "{damage}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).expect("written");
    verify();
    // Another one's name.
    fs::copy(super::tests::path(&files, 2), &path).expect("copied");
    assert_eq!(verify().fault, FileFault::OtherFile);
}

#[test]
fn only_what_is_sealed_and_durable_is_archived() {
    let (_parent, files) = archived();
    // It is in its fifth segment, so the fourth is sealed.
    files.archive(4);
    for number in [5, 6] {
        let result = archive_segment(&files.source(), SegmentNumber(number), keys, go_on);
        assert!(matches!(result, Err(FileError::NotSealed { .. })), "{number}");
    }
    assert_eq!(
        JournalFiles::read(&files.directory).expect("a list").archives,
        [1, 2, 3, 4].map(SegmentNumber)
    );
}

#[test]
fn a_damaged_segment_is_not_archived() {
    let (_parent, files) = archived();
    let whole = fs::read(files.segment(4)).expect("it is there");
    let end = 4096 + of_segment(&files, 4).len() * 1000;
    for offset in [0, 50, 4096, 5000, end] {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1;
        fs::write(files.segment(4), &flipped).expect("written");
        let damage = damage(archive_segment(&files.source(), SegmentNumber(4), keys, go_on));
        assert!(damage.path.ends_with("0000000004.segment") && damage.offset <= offset as u64);
        assert!(!path(&files, 4).exists());
    }
}

#[test]
fn stopping_leaves_nothing() {
    let (_parent, files) = archived();
    let mut calls = 0;
    loop {
        let mut left = calls;
        let result = archive_segment(&files.source(), SegmentNumber(4), keys, |_| {
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if result.expect("it is sealed").is_some() {
            break;
        }
        assert_eq!(
            fs::read_dir(files.directory.join(ARCHIVE_DIRECTORY))
                .expect("a list")
                .count(),
            3
        );
        calls += 1;
    }
    assert!(path(&files, 4).exists());
}

#[test]
fn a_crash_leaves_a_half_written_archive_that_does_not_count() {
    let (parent, files) = archived();
    let whole = fs::read(path(&files, 3)).expect("it is there");
    fs::remove_file(path(&files, 3)).expect("removed");
    let unfinished = path(&files, 3).with_extension("archive.new");
    fs::write(&unfinished, &whole[..whole.len() / 2]).expect("written");
    assert_eq!(JournalFiles::read(&files.directory).expect("a list").archives.len(), 2);
    drop(directory(parent.path()));
    assert!(!unfinished.exists());
    files.archive(3);
    assert_eq!(fs::read(path(&files, 3)).expect("it is there"), whole);
}

#[test]
fn history_is_checked_from_the_first_segment_on() {
    let (_parent, files) = archived();
    let check = || check_history(&files.source(), SegmentNumber(5), go_on);
    let summary = check().expect("whole").expect("nobody stops it");
    assert_eq!((summary.archives, summary.segments), (3, 4));
    // Those that are archived may go.
    for number in 1..=3 {
        fs::remove_file(files.segment(number)).expect("removed");
    }
    let summary = check().expect("whole").expect("nobody stops it");
    assert_eq!((summary.archives, summary.segments), (3, 1));
    let stopped = check_history(&files.source(), SegmentNumber(5), |_| ControlFlow::Break(()));
    assert!(stopped.expect("no damage so far").is_none());
    // A flip in an archive, and in a segment.
    for (path, place) in [(path(&files, 2), 200), (files.segment(4), 5000)] {
        let whole = fs::read(&path).expect("it is there");
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        fs::write(&path, &flipped).expect("written");
        let damage = damage(check());
        assert_eq!(damage.path, path);
        assert!(damage.offset <= place as u64);
        fs::write(&path, &whole).expect("written");
    }
    // One that is missing.
    let second = path(&files, 2);
    fs::rename(&second, second.with_extension("gone")).expect("renamed");
    assert_eq!(damage(check()).fault, FileFault::Missing);
    fs::rename(second.with_extension("gone"), &second).expect("renamed");
    assert!(check().is_ok());
    // One of another life of the journal.
    let other = archived();
    fs::copy(path(&other.1, 2), &second).expect("copied");
    assert!(matches!(damage(check()).fault, FileFault::OtherJournal(_)));
}

#[test]
fn an_archive_goes_only_when_its_segment_makes_another() {
    let (_parent, files) = archived();
    let again = |number| archive_segment_again(&files.source(), SegmentNumber(number), keys, go_on);
    let whole = fs::read(path(&files, 2)).expect("it is there");
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    fs::write(path(&files, 2), &flipped).expect("written");
    let segment = fs::read(files.segment(2)).expect("it is there");
    // Neither from a damaged segment nor from none.
    let mut bad = segment.clone();
    bad[5000] ^= 1;
    fs::write(files.segment(2), &bad).expect("written");
    assert_eq!(damage(again(2)).path, files.segment(2));
    assert_eq!(fs::read(path(&files, 2)).expect("it stays"), flipped);
    fs::remove_file(files.segment(2)).expect("it was there");
    assert_eq!(damage(again(2)).fault, FileFault::Missing);
    assert_eq!(fs::read(path(&files, 2)).expect("it stays"), flipped);
    fs::write(files.segment(2), &segment).expect("written");
    assert!(again(2).expect("the segment is whole").is_some());
    assert_eq!(fs::read(path(&files, 2)).expect("it is there"), whole);
}

#[test]
fn an_archive_of_another_life_does_not_pass_for_that_of_the_segment() {
    let (_parent, files) = archived();
    let archive = |number| archive_segment(&files.source(), SegmentNumber(number), keys, go_on);
    let whole = fs::read(path(&files, 2)).expect("it is there");
    // A segment of the same journal with the same number, as a backup that went on would have it.
    let mut header = of(&files, 2);
    header.incarnation += 1;
    let mut bytes = fs::read(files.segment(2)).expect("it is there");
    bytes[..crate::HEADER_SIZE].copy_from_slice(&header.encode());
    let segment = fs::read(files.segment(2)).expect("it is there");
    fs::write(files.segment(2), &bytes).expect("written");
    assert_eq!(damage(archive(2)).fault, FileFault::OtherSegment);
    fs::write(files.segment(2), &segment).expect("written");
    assert!(archive(2).expect("it is there").is_some());
    // One of another journal, whether the segment is there or not.
    let other = archived();
    fs::copy(path(&other.1, 2), path(&files, 2)).expect("copied");
    assert!(matches!(damage(archive(2)).fault, FileFault::OtherJournal(_)));
    fs::remove_file(files.segment(2)).expect("it was there");
    assert!(matches!(damage(archive(2)).fault, FileFault::OtherJournal(_)));
    let range = crate::HistoryRange::ALL;
    let mut reader =
        crate::HistoryReader::open(&files.source(), range, &SegmentMarks::default()).expect("the first is whole");
    let fault = loop {
        match reader.next(|_, _| ()) {
            Ok(Some(())) => {}
            other => break damage(other).fault,
        }
    };
    assert!(matches!(fault, FileFault::OtherJournal(_)));
    fs::write(path(&files, 2), &whole).expect("written");
    // What cannot be looked for may well be there.
    fs::remove_file(path(&files, 2)).expect("it was there");
    std::os::unix::fs::symlink(path(&files, 2), path(&files, 2)).expect("a link to itself");
    assert!(matches!(archive(2), Err(FileError::Storage(_))));
    assert!(matches!(
        check_history(&files.source(), SegmentNumber(5), go_on),
        Err(FileError::Storage(_))
    ));
}

/// The header of a segment.
fn of(files: &Files, number: u64) -> SegmentHeader {
    let reader = SegmentReader::open(&files.source(), SegmentNumber(number)).expect("it can be read");
    *reader.expect("it is there").header()
}

#[test]
fn an_index_with_an_unknown_meaning_leads_to_everything() {
    let (_parent, files) = archived();
    let path = path(&files, 2);
    let all = rest(&mut ArchiveReader::open(&path).expect("whole"));
    let mut bytes = fs::read(&path).expect("it is there");
    let trailer = bytes.len() - TRAILER_SIZE;
    bytes[trailer + 56] = 1;
    let crc = trailer_checksum(&array_at(&bytes, trailer));
    put(&mut bytes, trailer + 8, &crc.to_le_bytes());
    fs::write(&path, &bytes).expect("written");
    let mut reader = ArchiveReader::open(&path).expect("whole");
    reader.only(7..=7);
    assert_eq!(rest(&mut reader), all);
}
