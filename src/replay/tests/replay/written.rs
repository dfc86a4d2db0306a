//! A data directory with one journal, written event by event without an engine, so that a test says what stands in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use plimsoll_domain::{
    Command, Confirm, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, ReservationId,
    Reserve, State, StateOptions, Timestamp, Units,
};
use plimsoll_journal::{
    CrcFraming, Directory, Journal, Lsn, ManifestWriter, MmapStorage, NewDirectory, Priority, RecoveryStart, Ring,
    Segment, SegmentNumber, SegmentSource, SnapshotHeader, SnapshotWriter, Tag, archive_segment, limits,
};

/// Microseconds between two batches.
pub(crate) const STEP: i64 = 1_000_000;
/// The time of the first batch.
pub(crate) const BEGIN: i64 = 1_700_000_000_000_000;

pub(crate) struct Written {
    pub(crate) directory: Directory,
    journal: Journal<MmapStorage, CrcFraming>,
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    random: u64,
    manifest: Option<ManifestWriter>,
    _parent: tempfile::TempDir,
}

impl Written {
    pub(crate) fn new() -> Written {
        let parent = tempfile::tempdir().unwrap();
        let new = NewDirectory {
            dimensions: vec!["rooms".to_owned()],
            journal_count: 1,
            segment_size: limits::SEGMENT_SIZE_MIN,
        };
        let directory = Directory::create(&parent.path().join("data"), &new).unwrap();
        let entry = &directory.journals()[0];
        let storage = MmapStorage::open(&entry.directory, entry.id, directory.segment_size(), Ring::default()).unwrap();
        let mut incarnation = 0;
        let incarnations = move || {
            incarnation += 1;
            incarnation
        };
        let each = |_: plimsoll_journal::Record<'_>| Ok::<(), std::io::Error>(());
        let recovered = Journal::recover(storage, RecoveryStart::FIRST, BEGIN, incarnations, each).unwrap();
        Written {
            journal: recovered.journal,
            directory,
            state: State::new(StateOptions::new(1)),
            now: Timestamp(BEGIN),
            random: 0,
            manifest: None,
            _parent: parent,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn journal_directory(&self) -> &Path {
        &self.directory.journals()[0].directory
    }

    fn source(&self) -> SegmentSource<'_> {
        let entry = &self.directory.journals()[0];
        SegmentSource {
            directory: &entry.directory,
            journal: entry.id,
            segment_size: self.directory.segment_size(),
            end: None,
        }
    }

    /// Writes a batch of one event, whether it fits the state or not, and makes it durable.
    pub(crate) fn write(&mut self, event: &Event) -> Lsn {
        let mut body = Vec::new();
        let tag = plimsoll_record::encode(event, 1, &mut body);
        let tag = Tag {
            kind: tag.kind,
            partition: tag.partition,
            detail: tag.detail,
        };
        self.write_record(tag, &body)
    }

    pub(crate) fn write_record(&mut self, tag: Tag, body: &[u8]) -> Lsn {
        self.journal.begin(self.now.0);
        // The next segment is prepared by a thread of its own.
        let lsn = loop {
            match self.journal.append(Priority::Normal, tag, body) {
                Ok(lsn) => break lsn,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        };
        let ticket = self.journal.commit().expect("something was appended");
        self.journal.write_out(false).unwrap();
        for number in ticket.segments() {
            let path = self.journal.storage().segment_path(number);
            File::open(path).unwrap().sync_data().unwrap();
        }
        if let Some(opened) = ticket.opened {
            self.journal.segment_synced(opened);
        }
        self.journal.durable(ticket.upto);
        self.now = Timestamp(self.now.0 + STEP);
        lsn
    }

    /// Writes an event that was decided, and applies it.
    pub(crate) fn happen(&mut self, event: &Event) -> Lsn {
        let lsn = self.write(event);
        self.state.apply(event);
        lsn
    }

    pub(crate) fn put(&mut self, name: &str, limit: u32) -> PoolId {
        let put = PutPool {
            definition: definition(name, limit),
            expected_version: None,
        };
        let (event, pool) = match self.state.decide_put(&put, self.now).unwrap() {
            PutOutcome::Created(defined) => (Event::PoolCreated(defined.clone()), defined.pool),
            PutOutcome::Changed(defined) => (Event::PoolChanged(defined.clone()), defined.pool),
            PutOutcome::Unchanged { .. } => panic!("the pool has this definition already"),
        };
        self.happen(&event);
        pool
    }

    pub(crate) fn reserve(&mut self, pool: PoolId, rooms: u32, hold_seconds: u32, reference: &str) -> ReservationId {
        self.random += 1;
        let reserve = Reserve {
            pool,
            key: Key(u128::from(self.random)),
            units: Units::from_slice(&[rooms]),
            hold_seconds,
            occurred_at: Timestamp::ABSENT,
            random: self.random,
            reference: Some(reference.into()),
        };
        match self.decide(&Command::Reserve(reserve)) {
            Event::Reserved(event) => event.reservation,
            event => panic!("{event:?}"),
        }
    }

    pub(crate) fn confirm(&mut self, reservation: ReservationId) {
        self.decide(&Command::Confirm(Confirm {
            reservation,
            occurred_at: Timestamp::ABSENT,
        }));
    }

    pub(crate) fn release(&mut self, reservation: ReservationId) {
        self.decide(&Command::Release(Release {
            reservation,
            occurred_at: Timestamp::ABSENT,
        }));
    }

    fn decide(&mut self, command: &Command) -> Event {
        match self.state.decide(command, self.now) {
            Ok(Decision::Change(event)) => {
                self.happen(&event);
                event
            }
            other => panic!("{command:?} leads to {other:?}"),
        }
    }

    /// Writes so many reservations that several segments are sealed.
    pub(crate) fn fill(&mut self, pool: PoolId, count: usize) -> Vec<ReservationId> {
        (0..count)
            .map(|index| self.reserve(pool, 1, 0, &format!("filling {index}")))
            .collect()
    }

    /// Archives the sealed segments, and removes the first of them.
    pub(crate) fn archive(&self) -> PathBuf {
        self.archive_with(plimsoll_replay::put_keys)
    }

    /// The same, with an index of these keys.
    pub(crate) fn archive_with(&self, put_keys: impl Fn(&Event, &mut Vec<u64>)) -> PathBuf {
        let source = self.source();
        let keys = |record: &plimsoll_journal::Record<'_>, keys: &mut Vec<u64>| {
            put_keys(&plimsoll_engine::event_of(record, 1).unwrap(), keys);
        };
        for number in (1..).map(SegmentNumber) {
            if archive_segment(&source, number, keys, |_| std::ops::ControlFlow::Continue(())).is_err() {
                assert!(number.0 > 2, "at least two segments are sealed");
                break;
            }
        }
        std::fs::remove_file(self.journal_directory().join("0000000001.segment")).unwrap();
        self.journal_directory().join("archive/0000000001.archive")
    }

    /// Takes a snapshot of the state as it is now, names it in the manifest, and gives its file.
    pub(crate) fn snapshot(&mut self) -> PathBuf {
        let mut pieces = Vec::new();
        self.state.begin_snapshot();
        while !self.state.copy_snapshot(1 << 20, &mut pieces) {}
        let header = SnapshotHeader {
            journal: self.directory.journals()[0].id,
            lsn: self.journal.durable_lsn(),
            segment: self.journal.segment().number(),
            time: self.journal.last_time(),
        };
        let mut writer = SnapshotWriter::create(self.directory.path(), header).unwrap();
        let mut chunk = Vec::new();
        for piece in &pieces {
            plimsoll_record::encode_piece(piece, 1, &mut chunk);
        }
        writer.put(&chunk).unwrap();
        let finished = writer.finish().unwrap();
        let path = finished.path().to_owned();
        let directory = &mut self.directory;
        let manifest = self
            .manifest
            .get_or_insert_with(|| directory.take_writer().expect("nobody else has taken it"));
        manifest.add_snapshot(finished).unwrap();
        path
    }
}

pub(crate) fn definition(name: &str, limit: u32) -> PoolDefinition {
    PoolDefinition {
        name: name.into(),
        zone: "north".into(),
        kind: "rooms".into(),
        starts_at: Timestamp(0),
        ends_at: Timestamp(1),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: Vec::new(),
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[limit]),
        overbook: Units::default(),
    }
}

/// Flips a bit of a file.
pub(crate) fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 4;
    std::fs::write(path, bytes).unwrap();
}
