//! A journal in files, for tests of what happens to them beside the journal.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::archive::{SegmentSource, archive_segment};
use crate::directory::{Directory, NewDirectory};
use crate::framing::CrcFraming;
use crate::identifier::{JournalId, Lsn, Record, SegmentNumber, Tag};
use crate::journal::{Full, Journal, Priority, Ticket};
use crate::limits::SEGMENT_SIZE_MIN;
use crate::mmap::{MmapStorage, Ring};
use crate::recovery::{RecoveryStart, Summary};

pub(crate) fn directory(path: &Path) -> Directory {
    let new = NewDirectory {
        segment_size: SEGMENT_SIZE_MIN,
        ..NewDirectory::default()
    };
    Directory::open_or_create(path, &new).expect("a data directory")
}

/// Where one journal's files are, apart from the lock of its directory.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    pub(crate) journal: JournalId,
}

impl Files {
    pub(crate) fn of(directory: &Directory) -> Files {
        let journal = &directory.journals()[0];
        Files {
            directory: journal.directory.clone(),
            journal: journal.id,
        }
    }

    pub(crate) fn source(&self) -> SegmentSource<'_> {
        SegmentSource {
            directory: &self.directory,
            journal: self.journal,
            segment_size: SEGMENT_SIZE_MIN,
            end: None,
        }
    }

    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:010}.segment"))
    }

    pub(crate) fn archive(&self, number: u64) {
        archive_segment(&self.source(), SegmentNumber(number), keys, |_| {
            ControlFlow::Continue(())
        })
        .expect("it is sealed")
        .expect("nobody stops it");
    }

    pub(crate) fn recover(&self, ring: Ring, start: RecoveryStart) -> (Journal<MmapStorage>, Summary, Vec<Lsn>) {
        let storage = MmapStorage::open(&self.directory, self.journal, SEGMENT_SIZE_MIN, ring).expect("a journal");
        let mut lsns = Vec::new();
        let incarnations = || getrandom::u64().expect("random numbers");
        let recovered = Journal::<_, CrcFraming>::recover(storage, start, 0, incarnations, |record| {
            assert_eq!(record.body, body(record.lsn));
            lsns.push(record.lsn);
            Ok::<(), std::io::Error>(())
        })
        .expect("a whole journal");
        (recovered.journal, recovered.summary, lsns)
    }
}

/// Records have as keys what is left of their partition modulo 4 and, each, its LSN.
pub(crate) fn keys(record: &Record<'_>, keys: &mut Vec<u64>) {
    keys.push(u64::from(record.tag.partition % 4));
    keys.push(1000 + record.lsn.0);
}

/// What a record with this LSN holds: about 1 to 4 KB that do not compress to nothing.
pub(crate) fn body(lsn: Lsn) -> Vec<u8> {
    let size = 1000 + lsn.0 as usize * 7919 % 3000;
    (0..size)
        .map(|index| ((index as u64 * index as u64 * lsn.0) >> 7) as u8)
        .collect()
}

pub(crate) fn finish(journal: &mut Journal<MmapStorage>, ticket: Ticket) {
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

/// A durable batch of one record, or why not.
pub(crate) fn batch(journal: &mut Journal<MmapStorage>, priority: Priority) -> Result<Lsn, Full> {
    let lsn = Lsn(journal.last_lsn().0 + 1);
    // When the journal goes on in the next segment, nothing is open, so the LSN stays.
    let tag = Tag {
        kind: 16,
        partition: lsn.0 as u16,
        detail: 0,
    };
    let appended = journal.append(priority, tag, &body(lsn))?;
    assert_eq!(appended, lsn);
    let ticket = journal.commit().expect("one record");
    finish(journal, ticket);
    Ok(lsn)
}

/// Appends durable batches until the journal is in the segment.
pub(crate) fn fill_up_to(journal: &mut Journal<MmapStorage>, number: u64) {
    use crate::storage::Segment;

    while journal.segment().number().0 < number {
        match batch(journal, Priority::Normal) {
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
