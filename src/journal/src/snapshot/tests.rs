use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::*;
use crate::damage::{FileDamage, FileError};
use crate::error::StorageError;
use crate::limits::SNAPSHOT_CHUNK_SIZE_MAX;
use crate::mmap::file_names;

const HEADER: SnapshotHeader = SnapshotHeader {
    journal: JournalId([0xAB; 16]),
    lsn: Lsn(77),
    segment: SegmentNumber(3),
    time: -9,
};

fn chunks() -> Vec<Vec<u8>> {
    vec![vec![1; 1], vec![2; 24], vec![3; 333], vec![2; 24], vec![5; 8]]
}

fn written(data: &Path, header: SnapshotHeader, chunks: &[Vec<u8>]) -> PathBuf {
    let mut writer = SnapshotWriter::create(data, header).expect("a snapshot");
    for chunk in chunks {
        writer.put(chunk).expect("there is room");
    }
    let finished = writer.finish().expect("there is room");
    assert_eq!(
        finished.size(),
        fs::metadata(finished.path()).expect("it is there").len()
    );
    finished.path().to_owned()
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    let mut reader = SnapshotReader::open(path)?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        chunks.push(chunk.to_vec());
    }
    assert!(reader.next_chunk()?.is_none());
    assert_eq!(reader.offset(), reader.size());
    Ok(chunks)
}

fn damage(path: &Path) -> FileDamage {
    match read(path) {
        Err(FileError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn gives_back_what_was_put() {
    let data = tempfile::tempdir().expect("a directory for the test");
    for chunks in [Vec::new(), chunks(), vec![vec![9; SNAPSHOT_CHUNK_SIZE_MAX]; 6]] {
        let path = written(data.path(), HEADER, &chunks);
        assert_eq!(
            path.strip_prefix(data.path()).expect("it is within"),
            Path::new("snapshots/snapshot-abababababababab-00000000000000000077.snapshot")
        );
        assert!(is_snapshot_name(
            path.file_name().and_then(|name| name.to_str()).expect("a name")
        ));
        assert_eq!(read(&path).expect("a whole snapshot"), chunks);
        let summary = verify_snapshot(&path, |_| ControlFlow::Continue(()))
            .expect("a whole snapshot")
            .expect("nobody stops it");
        assert_eq!((summary.header, summary.chunks), (HEADER, chunks.len() as u64));
        assert_eq!(summary.chunk_bytes, chunks.iter().map(Vec::len).sum::<usize>() as u64);
        assert_eq!(summary.size, fs::metadata(&path).expect("it is there").len());
    }
    assert!(
        verify_snapshot(&data.path().join("snapshots").join(HEADER.file_name()), |_| {
            ControlFlow::Break(())
        })
        .expect("no damage so far")
        .is_none()
    );
}

#[test]
fn a_file_cut_at_any_byte_is_no_snapshot() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let path = written(data.path(), HEADER, &chunks());
    let whole = fs::read(&path).expect("it is there");
    for size in 0..whole.len() {
        fs::write(&path, &whole[..size]).expect("written");
        let damage = damage(&path);
        assert_eq!(damage.fault, FileFault::Truncated, "{size} bytes");
        assert!(damage.offset <= size as u64, "{damage} of {size} bytes");
    }
    let mut longer = whole;
    longer.push(0);
    fs::write(&path, &longer).expect("written");
    assert_eq!(damage(&path).fault, FileFault::Excess);
}

#[test]
fn a_flipped_bit_in_any_byte_is_seen() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let path = written(data.path(), HEADER, &chunks());
    let whole = fs::read(&path).expect("it is there");
    for offset in (0..64).chain(4095..whole.len()) {
        let mut flipped = whole.clone();
        flipped[offset] ^= 1 << (offset % 8);
        fs::write(&path, &flipped).expect("written");
        let damage = damage(&path);
        assert!(damage.offset <= offset as u64, "byte {offset}: {damage}");
        assert_eq!(damage.offset == 0, offset < 4096, "byte {offset}: {damage}");
        assert!(damage.to_string().contains("00000077.snapshot"), "{damage}");
    }
}

#[test]
fn chunks_have_their_place() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let path = written(data.path(), HEADER, &[vec![1; 24], vec![2; 24], vec![1; 24]]);
    let whole = fs::read(&path).expect("it is there");
    let frame = |index: usize| 4096 + index * 32..4096 + (index + 1) * 32;
    // Two equal chunks change places: only their checksums tell.
    let mut moved = whole.clone();
    moved[frame(0)].copy_from_slice(&whole[frame(2)]);
    fs::write(&path, &moved).expect("written");
    assert_eq!((damage(&path).offset, damage(&path).fault), (4096, FileFault::Checksum));
    // One is left out.
    let mut shorter = whole.clone();
    shorter.drain(frame(1));
    fs::write(&path, &shorter).expect("written");
    assert_eq!(damage(&path).offset, 4096 + 32);
    // One of another snapshot.
    let other = written(
        data.path(),
        SnapshotHeader { lsn: Lsn(78), ..HEADER },
        &[vec![1; 24], vec![2; 24], vec![1; 24]],
    );
    let other = fs::read(other).expect("it is there");
    let mut mixed = whole.clone();
    mixed[frame(1)].copy_from_slice(&other[frame(1)]);
    fs::write(&path, &mixed).expect("written");
    assert_eq!(damage(&path).offset, 4096 + 32);
    // Another file under this name.
    fs::write(&path, other).expect("written");
    assert_eq!(damage(&path).fault, FileFault::OtherFile);
}

#[test]
fn a_chunk_out_of_range_is_refused_and_changes_nothing() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let mut writer = SnapshotWriter::create(data.path(), HEADER).expect("a snapshot");
    writer.put(b"first").expect("there is room");
    for chunk in [Vec::new(), vec![1; SNAPSHOT_CHUNK_SIZE_MAX + 1]] {
        match writer.put(&chunk) {
            Err(StorageError::ChunkSize { bytes }) => assert_eq!(bytes, chunk.len()),
            other => panic!("{other:?}"),
        }
    }
    writer.put(b"second").expect("there is room");
    let finished = writer.finish().expect("there is room");
    assert_eq!(read(finished.path()).expect("whole"), [&b"first"[..], b"second"]);
}

#[test]
fn an_unfinished_one_leaves_nothing() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let mut writer = SnapshotWriter::create(data.path(), HEADER).expect("a snapshot");
    writer.put(b"chunk").expect("there is room");
    let directory = data.path().join(SNAPSHOTS_DIRECTORY);
    assert_eq!(file_names(&directory).expect("a list"), [HEADER.file_name() + ".new"]);
    drop(writer);
    assert_eq!(file_names(&directory).expect("a list"), [""; 0]);
}
