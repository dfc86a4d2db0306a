//! Data directories of every format so far are read: by history, and as a start does.
//!
//! The fixtures are made by `tests/fixtures/make`, which says how to add one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_domain::{Restoring, State, StateOptions, Timestamp};
use plimsoll_engine::{Engine, EngineOptions, RecoveryBase};
use plimsoll_journal::{
    CrcFraming, Directory, HistoryRange, HistoryReader, JournalFiles, Lsn, MmapStorage, Ring, SegmentMarks,
    SnapshotReader,
};
use plimsoll_replay::{History, Moment, Replayer, kind_of, verify};
use xxhash_rust::xxh3::xxh3_64;

/// All fixtures.
const FORMATS: [&str; 1] = ["format-1"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Unpacks a fixture's data directory.
fn unpack(name: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    unpack_directory(&fixture(name).join("data"), target.path());
    target
}

fn unpack_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            fs::create_dir(to.join(name)).unwrap();
            unpack_directory(&path, &to.join(name));
        } else {
            let bytes = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
            fs::write(to.join(name.strip_suffix(".zst").unwrap()), bytes).unwrap();
        }
    }
}

/// What shows of a state, a line for each pool and each reservation. It is not `State::digest`, which may change with what a state holds.
fn lines(state: &State, now: Timestamp) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (id, pool) in state.pools_after("") {
        let definition = pool.definition();
        lines.insert(format!(
            "pool {:x} {} {} {} {} {} {} {} {} {:?} {} {} {:?} {:?} {:?} {:?}",
            id.0,
            definition.name,
            pool.version(),
            definition.zone,
            definition.kind,
            definition.starts_at.0,
            definition.ends_at.0,
            definition.opens_at.0,
            definition.closes_at.0,
            definition.coverage,
            definition.closed,
            definition.shadow,
            definition.limits.0,
            definition.overbook.0,
            pool.held().0,
            pool.confirmed().0,
        ));
    }
    for view in state.reservations(now) {
        lines.insert(format!(
            "reservation {:x} {:x} {:x} {:?} {} {} {:?} {} {} {:?}",
            view.id.0,
            view.pool.0,
            state.key(view.id).unwrap().0,
            view.units.0,
            view.state as u8,
            view.created_at.0,
            view.expires_at.map(|at| at.0),
            view.version,
            view.would_refuse,
            state.reference(view.id),
        ));
    }
    lines
}

fn digest(lines: &BTreeSet<String>) -> String {
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// What a start makes of the directory: the lines of all cores.
fn recovered(path: &Path, now: Timestamp) -> BTreeSet<String> {
    let directory = Directory::open(path).unwrap();
    let options = EngineOptions {
        state: StateOptions::new(directory.dimensions().len()),
        hold_grace_micros: 0,
    };
    let mut all = BTreeSet::new();
    for (index, journal) in directory.journals().iter().enumerate() {
        if journal.core.is_none() {
            continue;
        }
        let snapshot = directory.snapshots(index).first().expect("a snapshot of each core");
        let mut reader = SnapshotReader::open(&snapshot.path).unwrap();
        let start = reader.header().into();
        let mut restoring = Restoring::new(options.state);
        while let Some(chunk) = reader.next_chunk().unwrap() {
            plimsoll_record::decode_pieces(chunk, options.state.dimension_count, |piece| {
                restoring.take(&piece).unwrap();
                Ok::<(), plimsoll_record::SnapshotError>(())
            })
            .unwrap();
        }
        let base = RecoveryBase {
            state: restoring.before_replay().unwrap(),
            start,
        };
        let size = directory.segment_size();
        let storage = MmapStorage::open(&journal.directory, journal.id, size, Ring::default()).unwrap();
        let mut incarnation = 1 << 60;
        let incarnations = move || {
            incarnation += 1;
            incarnation
        };
        let recovered = Engine::<_, CrcFraming>::recover(storage, options, Some(base), now, incarnations).unwrap();
        all.extend(lines(recovered.engine.state(), now));
    }
    all
}

#[test]
fn every_format_is_read() {
    for name in FORMATS {
        let unpacked = unpack(name);
        let history = History::read(unpacked.path()).unwrap();
        let report = verify(&history, |_| ()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let times = report.cores.iter().filter_map(|core| core.times);
        let now = times.map(|(_, last)| last).max().unwrap();
        let mut replayer = Replayer::new(&history).unwrap();
        replayer.advance(Moment::Time(Timestamp(i64::MAX)), |_, _| ()).unwrap();
        let replayed = lines(replayer.state(), now);

        // What the server said before it was killed.
        let dimensions = history.dimension_count();
        for line in fs::read_to_string(fixture(name).join("USED")).unwrap().lines() {
            let (pool, used) = line.split_once(',').unwrap();
            let pool = replayer.state().pool(replayer.state().pool_id(pool).unwrap()).unwrap();
            let held_and_confirmed = pool.held().0.iter().zip(&pool.confirmed().0);
            let found: Vec<_> = held_and_confirmed
                .take(dimensions)
                .map(|(held, confirmed)| (held + confirmed).to_string())
                .collect();
            assert_eq!(found.join(","), used, "{name}: {}", pool.definition().name);
        }
        let recorded = fs::read_to_string(fixture(name).join("STATE")).unwrap_or_default();
        let events: u64 = report.cores.iter().map(|core| core.records).sum();
        let found = format!(
            "{} of {} lines after {events} events\n",
            digest(&replayed),
            replayed.len()
        );
        assert_eq!(found, recorded, "{name}: STATE");
        assert_eq!(recovered(unpacked.path(), now), replayed, "{name}");
    }
}

/// A fixture is more than a few records.
#[test]
fn every_format_has_all_kinds_of_files() {
    for name in FORMATS {
        let unpacked = unpack(name);
        let history = History::read(unpacked.path()).unwrap();
        let (mut archived, mut sealed, mut ended) = (0, 0, 0);
        for (index, journal) in history.view().journals().iter().enumerate() {
            let files = JournalFiles::read(&journal.directory).unwrap();
            let (_, newest) = history.view().durable(index).unwrap();
            archived += files.archives.len();
            sealed += files.segments.iter().filter(|number| **number < newest).count();
            ended += usize::from(journal.end.is_some());
            if journal.core.is_some() {
                assert!(files.segments.contains(&newest), "{name}: the open segment");
                assert_eq!(history.view().snapshots(index).len(), 2, "{name}");
            }
        }
        assert!(
            archived > 3 && sealed > 0 && ended == 2,
            "{name}: {archived}, {sealed}, {ended}"
        );
    }
}

#[test]
fn every_kind_that_is_known_is_in_a_fixture() {
    let (mut kinds, mut details, mut pieces) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for name in FORMATS {
        let unpacked = unpack(name);
        let history = History::read(unpacked.path()).unwrap();
        for journal in 0..history.view().journals().len() {
            let mut reader = HistoryReader::open(
                &history.view().source(journal),
                HistoryRange::ALL,
                &SegmentMarks::default(),
            )
            .unwrap();
            let take = |record: &plimsoll_journal::Record<'_>, _| {
                let event = plimsoll_engine::event_of(record, history.dimension_count()).unwrap();
                (record.tag.kind, record.tag.detail, kind_of(&event))
            };
            while let Some((kind, detail, name)) = reader.next(take).unwrap() {
                kinds.insert(kind, name);
                // The bits that say what sort of event it is; of a reserve and a resize the one for shadow mode.
                details.insert((
                    name,
                    if detail >> 24 > 0 {
                        detail >> 24 << 24
                    } else {
                        detail & 0x1FF
                    },
                ));
            }
            for snapshot in history.view().snapshots(journal) {
                assert!(snapshot.lsn >= Lsn(0));
                let mut reader = SnapshotReader::open(&snapshot.path).unwrap();
                while let Some(mut chunk) = reader.next_chunk().unwrap() {
                    while !chunk.is_empty() {
                        let size = u32::from_le_bytes(chunk[..4].try_into().unwrap()) as usize;
                        pieces.insert(u16::from_le_bytes([chunk[4], chunk[5]]));
                        chunk = &chunk[4 + size..];
                    }
                }
            }
        }
    }
    for kind in plimsoll_record::KINDS {
        assert!(
            kinds.contains_key(&kind),
            "kind {kind} is in no fixture: see tests/fixtures/make"
        );
    }
    for piece in plimsoll_record::PIECE_KINDS {
        assert!(
            pieces.contains(&piece),
            "piece {piece} is in no fixture: see tests/fixtures/make"
        );
    }
    assert_eq!(kinds.len(), plimsoll_record::KINDS.len());
    // Asked for, and moved because nobody could confirm; of a hold, and of what was confirmed; in shadow mode.
    for (kind, detail) in [
        ("resized", 1),
        ("released", 0),
        ("released", 256),
        ("reserved", 1 << 24),
    ] {
        let is_there = details
            .iter()
            .any(|(name, bits)| *name == kind && bits & detail == detail);
        assert!(is_there, "{kind} with {detail:#x} is in no fixture");
    }
}
