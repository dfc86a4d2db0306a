//! Damage in files, what a repair says about it, and what it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::archive::{SegmentMarks, archive_path, check_end, check_history};
use crate::control::ControlField;
use crate::damage::{FileError, FileFault};
use crate::directory::{Directory, DirectoryError, DirectoryView, JournalEnd, Switch, SwitchedJournal};
use crate::error::Action;
use crate::framing::CrcFraming;
use crate::history::{HistoryRange, HistoryReader};
use crate::identifier::{Lsn, SegmentNumber};
use crate::journal::Journal;
use crate::limits::SEGMENT_SIZE_MIN;
use crate::mmap::{MmapStorage, Ring};
use crate::recovery::{RecoveryError, RecoveryStart};
use crate::repair::{Remedy, RepairPlan, find_damage, repair, repair_in_steps};
use crate::snapshot::{SnapshotHeader, SnapshotWriter};
use crate::storage::Segment;
use crate::tests::files::{self, Files, batch, fill_up_to};

/// Segments that are full, before the one that is written to.
const SEALED: u64 = 5;

/// A journal of a process that was killed.
struct Killed {
    parent: tempfile::TempDir,
    files: Files,
    durable: Lsn,
    /// The last LSN before each segment, by number.
    before: BTreeMap<u64, Lsn>,
}

impl Killed {
    /// With archives of the segments up to this one, and snapshots at the beginning of these segments.
    fn new(archived: u64, snapshots: &[u64]) -> Killed {
        let parent = tempfile::tempdir().expect("a directory for the test");
        let mut directory = files::directory(&parent.path().join("data"));
        let files = Files::of(&directory);
        let (mut journal, ..) = files.recover(Ring::default(), RecoveryStart::FIRST);
        let mut manifest = directory.take_writer().expect("the first");
        let mut before = BTreeMap::new();
        for number in 1..=SEALED + 1 {
            fill_up_to(&mut journal, number);
            assert_eq!(journal.segment().number().0, number);
            if number > 1 {
                // The batch that opened the segment is in it.
                before.insert(number, Lsn(journal.last_lsn().0 - 2));
            }
            if snapshots.contains(&number) {
                let header = SnapshotHeader {
                    journal: files.journal,
                    lsn: journal.durable_lsn(),
                    segment: SegmentNumber(number),
                    time: journal.last_time(),
                };
                let mut writer = SnapshotWriter::create(directory.path(), header).expect("a snapshot");
                writer.put(b"state").expect("there is room");
                manifest
                    .add_snapshot(writer.finish().expect("there is room"))
                    .expect("it is durable");
            }
        }
        for _ in 0..3 {
            batch(&mut journal, crate::journal::Priority::Normal).expect("there is room");
        }
        for number in 1..=archived {
            files.archive(number);
        }
        Killed {
            durable: journal.durable_lsn(),
            parent,
            files,
            before,
        }
    }

    fn data(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    fn open(&self) -> Directory {
        Directory::open(&self.data()).expect("nobody else has it")
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.files.segment(number)
    }

    fn archive(&self, number: u64) -> PathBuf {
        archive_path(&self.files.directory, SegmentNumber(number))
    }

    fn plan(&self) -> RepairPlan {
        find_damage(&self.open()).expect("it can be read")
    }

    fn remedies(&self) -> Vec<Remedy> {
        let plan = self.plan();
        let findings = plan.journals.iter().flat_map(|journal| &journal.findings);
        findings.map(|finding| finding.remedy).collect()
    }

    /// Repairs, and finds nothing any more.
    fn repair(&self) -> RepairPlan {
        let mut directory = self.open();
        let plan = find_damage(&directory).expect("it can be read");
        let before = contents(&self.data());
        repair(&mut directory, &plan).expect("it is repaired");
        let after = contents(&self.data());
        for (path, bytes) in before {
            let is_manifest = path.ends_with("MANIFEST") || path.ends_with("LOCK");
            assert!(
                is_manifest || after.values().any(|other| *other == bytes),
                "{} is gone",
                path.display()
            );
        }
        let again = find_damage(&directory).expect("it can be read");
        assert!(again.is_whole(), "{again:?}");
        plan
    }

    /// What a start makes of it: the LSNs of all records from the first on, or from the newest snapshot's.
    fn start(&self) -> Result<(Journal<MmapStorage>, RecoveryStart, Vec<Lsn>), RecoveryError<std::io::Error>> {
        let directory = self.open();
        let start = directory.snapshots(0).iter().find_map(|snapshot| {
            let reader = crate::snapshot::SnapshotReader::open(&snapshot.path).ok()?;
            Some(reader.header().into())
        });
        let start = start.unwrap_or(RecoveryStart::FIRST);
        let storage = MmapStorage::open(
            &self.files.directory,
            self.files.journal,
            SEGMENT_SIZE_MIN,
            Ring::default(),
        )?;
        let mut lsns = Vec::new();
        let incarnations = || getrandom::u64().expect("random numbers");
        let recovered = Journal::<_, CrcFraming>::recover(storage, start, 0, incarnations, |record| {
            assert_eq!(record.body, files::body(record.lsn));
            lsns.push(record.lsn);
            Ok(())
        })?;
        Ok((recovered.journal, start, lsns))
    }

    /// A start gives the records up to this LSN, history is whole, and the journal goes on.
    fn holds(&self, last: Lsn) {
        let (mut journal, start, lsns) = self.start().expect("a start succeeds");
        // Each batch is a record and its commit record.
        let expected: Vec<_> = (start.lsn.0 + 1..last.0).step_by(2).map(Lsn).collect();
        assert_eq!(lsns, expected);
        assert_eq!(journal.last_lsn(), last);
        let next = batch(&mut journal, crate::journal::Priority::Normal).expect("there is room");
        assert_eq!(next, Lsn(last.0 + 1));
        let before = journal.segment().number();
        let whole = check_history(&self.files.source(), before, |_| std::ops::ControlFlow::Continue(()));
        whole.expect("history is whole");
    }
}

/// All files below a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).expect("a file"));
        }
    }
    found
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[offset] ^= 16;
    fs::write(path, bytes).expect("written");
}

/// Damage to a journal without snapshots: what is found, and the last LSN that stays if something is lost.
fn check(archived: u64, damage: impl Fn(&Killed), remedies: &[Remedy], last_kept: impl Fn(&Killed) -> Option<Lsn>) {
    let killed = Killed::new(archived, &[]);
    damage(&killed);
    assert_eq!(killed.remedies(), remedies);
    let last_kept = last_kept(&killed);
    let plan = killed.repair();
    let cut = plan.journals[0].cut.as_ref();
    assert_eq!(
        cut.map(|cut| (cut.last_kept, cut.last_lost)),
        last_kept.map(|last| (last, killed.durable))
    );
    killed.holds(last_kept.unwrap_or(killed.durable));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for (archived, snapshots) in [(0, &[][..]), (3, &[]), (5, &[2, 4]), (1, &[6])] {
        let killed = Killed::new(archived, snapshots);
        let before = contents(&killed.data());
        assert_eq!(killed.remedies(), []);
        assert_eq!(before.len(), contents(&killed.data()).len());
        killed.holds(killed.durable);
    }
    // Nothing was ever written.
    let parent = tempfile::tempdir().expect("a directory for the test");
    let directory = files::directory(&parent.path().join("data"));
    assert!(find_damage(&directory).expect("it can be read").is_whole());
}

#[test]
fn a_flipped_bit_is_taken_from_the_archive_or_cuts() {
    let damage = |killed: &Killed| flip(&killed.segment(3), 4096 + 30);
    check(5, damage, &[Remedy::FromArchive], |_| None);
    check(3, damage, &[Remedy::FromArchive], |_| None);
    check(2, damage, &[Remedy::Cut], |killed| Some(killed.before[&3]));
    // In the middle of the segment: the whole batches before it stay.
    let damage = |killed: &Killed| flip(&killed.segment(3), 30_000);
    check(0, damage, &[Remedy::Cut], |killed| {
        let plan = killed.plan();
        let cut = plan.journals[0].cut.as_ref().expect("a cut");
        assert!(cut.last_kept > killed.before[&3] && cut.last_kept < killed.before[&4]);
        assert_eq!(cut.shortened, Some(SegmentNumber(3)));
        Some(cut.last_kept)
    });
    // In the very first record, and in the last segment.
    let damage = |killed: &Killed| flip(&killed.segment(1), 4096);
    check(0, damage, &[Remedy::Cut], |_| Some(Lsn(0)));
    let damage = |killed: &Killed| flip(&killed.segment(SEALED + 1), 4096 + 30);
    check(4, damage, &[Remedy::Cut], |killed| Some(killed.before[&(SEALED + 1)]));
}

#[test]
fn a_missing_segment_or_header_is_taken_from_the_archive_or_cuts() {
    let damages: [fn(&Killed, u64); 3] = [
        |killed, number| fs::remove_file(killed.segment(number)).expect("it was there"),
        |killed, number| flip(&killed.segment(number), 20),
        |killed, number| {
            let file = fs::OpenOptions::new().write(true).open(killed.segment(number));
            file.and_then(|file| file.set_len(8192)).expect("it was there");
        },
    ];
    for damage in damages {
        check(4, |killed| damage(killed, 4), &[Remedy::FromArchive], |_| None);
        check(
            3,
            |killed| damage(killed, 4),
            &[Remedy::Cut],
            |killed| Some(killed.before[&4]),
        );
        let last = SEALED + 1;
        check(
            3,
            |killed| damage(killed, last),
            &[Remedy::Cut],
            |killed| Some(killed.before[&last]),
        );
        // Two at once, one of which is archived.
        let two = |killed: &Killed| {
            damage(killed, 2);
            damage(killed, 5);
        };
        check(2, two, &[Remedy::FromArchive, Remedy::Cut], |killed| {
            Some(killed.before[&5])
        });
    }
}

#[test]
fn damage_side_by_side_is_taken_from_the_archives() {
    let damage = |killed: &Killed| {
        flip(&killed.segment(2), 30_000);
        fs::remove_file(killed.segment(3)).expect("it was there");
        flip(&killed.segment(4), 20);
    };
    check(5, damage, &[Remedy::FromArchive; 3], |_| None);
    // What lies behind the cut needs nothing from its archive.
    let damage = |killed: &Killed| {
        damage(killed);
        flip(&killed.archive(3), 200);
    };
    check(5, damage, &[Remedy::FromArchive, Remedy::Cut], |killed| {
        Some(killed.before[&3])
    });
}

#[test]
fn an_archive_is_made_again_from_its_segment() {
    let damage = |killed: &Killed| flip(&killed.archive(2), 200);
    check(3, damage, &[Remedy::ArchivedAgain], |_| None);
    let killed = Killed::new(3, &[]);
    damage(&killed);
    killed.repair();
    assert!(!killed.archive(2).exists());
    killed.files.archive(2);
    killed.holds(killed.durable);
    // An archive of another segment under this name.
    let damage = |killed: &Killed| {
        fs::copy(killed.archive(1), killed.archive(2)).expect("copied");
    };
    check(3, damage, &[Remedy::ArchivedAgain], |_| None);
}

#[test]
fn what_lies_behind_damage_is_judged_by_its_archive() {
    // A start begins behind all of it. Of segment 3 nothing is whole, so nothing but the archive of segment 2 tells where that ends.
    let damage = |killed: &Killed| {
        flip(&killed.segment(3), 20);
        flip(&killed.archive(3), 200);
    };
    let killed = Killed::new(3, &[4, 5]);
    damage(&killed);
    flip(&killed.segment(2), 30_000);
    let archive = fs::read(killed.archive(2)).expect("a file");
    let backup = [Remedy::Backup; 2];
    assert_eq!(killed.remedies(), [&backup[..], &[Remedy::FromArchive]].concat());
    let mut directory = killed.open();
    let plan = find_damage(&directory).expect("it can be read");
    repair(&mut directory, &plan).expect("what can be is repaired");
    drop(directory);
    assert_eq!(fs::read(killed.archive(2)).expect("it stays"), archive);
    assert_eq!(killed.remedies(), backup);
    // Without it nobody knows.
    let killed = Killed::new(3, &[4, 5]);
    damage(&killed);
    fs::remove_file(killed.archive(2)).expect("it was there");
    assert_eq!(killed.remedies(), [Remedy::Backup; 3]);
    let plan = killed.plan();
    let last = plan.journals[0].findings.last().expect("a finding");
    assert_eq!(last.fault, crate::Fault::File(crate::FileFault::EndUnknown));
}

#[test]
fn archives_behind_the_end_are_put_aside() {
    // Those of another life of the journal, over which a backup was copied.
    let damage = |killed: &Killed| {
        let other = Killed::new(5, &[]);
        for number in [7, 9] {
            fs::copy(other.archive(5), killed.archive(number)).expect("copied");
        }
    };
    check(3, damage, &[Remedy::NotOfJournal; 2], |_| None);
}

#[test]
fn a_cut_makes_it_another_directory() {
    let killed = Killed::new(3, &[]);
    let id = killed.open().id();
    // What is mended without a loss leaves it the same.
    flip(&killed.segment(2), 4096 + 30);
    killed.repair();
    assert_eq!(killed.open().id(), id);
    flip(&killed.segment(5), 4096 + 30);
    killed.repair();
    assert_ne!(killed.open().id(), id);
}

#[test]
fn looking_leaves_what_no_manifest_names() {
    let killed = Killed::new(3, &[]);
    let header = SnapshotHeader {
        journal: killed.files.journal,
        lsn: Lsn(2),
        segment: SegmentNumber(1),
        time: 0,
    };
    let mut writer = SnapshotWriter::create(&killed.data(), header).expect("a snapshot");
    writer.put(b"state").expect("there is room");
    let finished = writer.finish().expect("there is room");
    let directory = Directory::open_as_it_is(&killed.data()).expect("nobody else has it");
    assert!(find_damage(&directory).expect("it can be read").is_whole());
    assert!(finished.path().exists());
    drop(directory);
    killed.open();
    assert!(!finished.path().exists());
}

#[test]
fn a_control_page_is_made_anew() {
    let damages: [fn(&Path); 3] = [
        |control| fs::remove_file(control).expect("it was there"),
        |control| flip(control, 20),
        |control| fs::write(control, b"short").expect("written"),
    ];
    for damage in damages {
        for archived in [0, 5] {
            let killed = Killed::new(archived, &[]);
            let control = killed.files.directory.join("control");
            damage(&control);
            assert!(matches!(killed.start(), Err(RecoveryError::Damage(_))));
            assert_eq!(killed.remedies(), [Remedy::ControlAnew]);
            killed.repair();
            let page = fs::read(&control).expect("it is there");
            let durable = crate::bytes::u64_at(&page, ControlField::DurableLsn.offset());
            // The last commit record says so of the one before it.
            assert_eq!(durable, killed.durable.0 - 2);
            killed.holds(killed.durable);
        }
        let killed = Killed::new(2, &[]);
        damage(&killed.files.directory.join("control"));
        flip(&killed.segment(4), 4096);
        assert_eq!(killed.remedies(), [Remedy::ControlAnew, Remedy::Cut]);
        killed.repair();
        killed.holds(killed.before[&4]);
    }
}

#[test]
fn snapshots_ahead_of_the_cut_go_and_the_one_before_takes_over() {
    let killed = Killed::new(3, &[2, 5]);
    flip(&killed.segment(5), 4096 + 30);
    let plan = killed.repair();
    let cut = plan.journals[0].cut.as_ref().expect("a cut");
    assert_eq!((cut.last_kept, cut.snapshots.len()), (killed.before[&5], 1));
    assert!(cut.snapshots[0].is_whole);
    assert_eq!(killed.open().snapshots(0).len(), 1);
    killed.holds(killed.before[&5]);

    // Before both: all of the journal is read again, and what was used again comes from the archives.
    let killed = Killed::new(3, &[4, 5]);
    for number in [1, 2] {
        fs::remove_file(killed.segment(number)).expect("it was there");
    }
    assert_eq!(killed.remedies(), []);
    flip(&killed.segment(4), 4096 + 30);
    flip(&killed.segment(5), 4096 + 30);
    assert_eq!(
        killed.remedies(),
        [Remedy::FromArchive, Remedy::FromArchive, Remedy::Cut]
    );
    killed.repair();
    assert_eq!(killed.open().snapshots(0).len(), 0);
    killed.holds(killed.before[&4]);

    // Damage that a start does not meet is no reason to cut.
    let killed = Killed::new(2, &[4, 5]);
    flip(&killed.segment(3), 4096 + 30);
    assert_eq!(killed.remedies(), [Remedy::Backup]);
    assert!(!killed.plan().can_mend());
    killed.start().expect("a start succeeds");
    let killed = Killed::new(3, &[4, 5]);
    flip(&killed.segment(3), 4096 + 30);
    assert_eq!(killed.remedies(), [Remedy::FromArchive]);
    killed.repair();
    killed.holds(killed.durable);
}

#[test]
fn a_damaged_snapshot_is_put_aside() {
    let killed = Killed::new(3, &[2, 5]);
    let newest = killed.open().snapshots(0)[0].path.clone();
    flip(&newest, 4100);
    assert_eq!(killed.remedies(), [Remedy::WithoutSnapshot]);
    killed.repair();
    assert_eq!(killed.open().snapshots(0).len(), 1);
    killed.holds(killed.durable);
}

#[test]
fn files_of_a_newer_program_are_left_alone() {
    let killed = Killed::new(3, &[]);
    let mut bytes = fs::read(killed.archive(2)).expect("a file");
    bytes[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..128]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(killed.archive(2), &bytes).expect("written");
    let error = find_damage(&killed.open()).expect_err("it is newer");
    assert!(matches!(error, crate::RepairError::Newer(_)), "{error}");
}

#[test]
fn a_crash_at_any_step_leaves_what_a_repair_or_a_start_handles() {
    let crash = || DirectoryError::io(Action::Write, Path::new("crash"))(ErrorKind::Interrupted.into());
    let scenarios: [fn(&Killed); 4] = [
        |killed| flip(&killed.segment(5), 4096 + 30),
        |killed| {
            flip(&killed.segment(2), 4096);
            flip(&killed.archive(1), 200);
            fs::remove_file(killed.segment(5)).expect("it was there");
        },
        |killed| {
            fs::remove_file(killed.files.directory.join("control")).expect("it was there");
            flip(&killed.segment(5), 4096 + 30);
        },
        |killed| fs::remove_file(killed.segment(2)).expect("it was there"),
    ];
    for (scenario, damage) in scenarios.into_iter().enumerate() {
        for crash_at in 0.. {
            let killed = Killed::new(3, &[3, 5]);
            damage(&killed);
            let mut directory = killed.open();
            let plan = find_damage(&directory).expect("it can be read");
            let cut = plan.journals.first().and_then(|journal| journal.cut.clone());
            let last = cut.as_ref().map_or(killed.durable, |cut| cut.last_kept);
            let before = contents(&killed.files.directory);
            let mut step_count = 0;
            let result = repair_in_steps(&mut directory, &plan, &mut |_| {
                step_count += 1;
                if step_count > crash_at { Err(crash()) } else { Ok(()) }
            });
            drop(directory);
            match killed.start() {
                Err(RecoveryError::Damage(_)) => {}
                Err(error) => panic!("scenario {scenario}, step {crash_at}: {error}"),
                // Nothing else than what the whole repair leaves, or what was left where nothing had to be cut.
                Ok((journal, ..)) => assert_eq!(journal.last_lsn(), last, "scenario {scenario}, step {crash_at}"),
            }
            let mut directory = killed.open();
            let again = find_damage(&directory).expect("it can be read");
            for journal in &again.journals {
                let cut_again = journal.cut.as_ref().map(|cut| (cut.last_kept, cut.last_lost));
                assert!(
                    cut_again == cut.as_ref().map(|cut| (cut.last_kept, cut.last_lost)),
                    "scenario {scenario}, step {crash_at}: {cut_again:?} after {cut:?}"
                );
            }
            repair(&mut directory, &again).expect("it is repaired");
            let left = find_damage(&directory).expect("it can be read");
            assert!(left.is_whole(), "scenario {scenario}, step {crash_at}: {left:?}");
            drop(directory);
            let after = contents(&killed.files.directory);
            for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with("control")) {
                let is_there = after.values().any(|other| other == bytes);
                assert!(is_there, "scenario {scenario}, step {crash_at}: {}", path.display());
            }
            killed.holds(last);
            if result.is_ok() {
                assert!(
                    crash_at >= 3 || scenario == 3,
                    "scenario {scenario} has {crash_at} steps"
                );
                break;
            }
        }
    }
}

/// The journal stays as history, and another one goes on.
fn ended(killed: &Killed, lsn: Lsn, segment: u64) {
    let directory = killed.open();
    let made = directory.create_journals(1).expect("they are made");
    let end = JournalEnd {
        lsn,
        segment: SegmentNumber(segment),
    };
    let switch = Switch {
        journals: vec![SwitchedJournal {
            id: made[0].id,
            snapshot: None,
        }],
        owners: [0; crate::limits::PARTITION_COUNT],
        ends: vec![(killed.files.journal, end)],
    };
    directory.switch(&switch).expect("it is switched");
}

#[test]
fn the_manifest_says_where_a_journal_without_a_core_ends() {
    let killed = Killed::new(3, &[]);
    ended(&killed, killed.durable, SEALED + 1);
    assert_eq!(killed.remedies(), []);
    let control = killed.files.directory.join("control");
    let mut page = fs::read(&control).expect("a file");
    page[ControlField::DurableLsn.offset()] ^= 1;
    fs::write(&control, &page).expect("written");
    let view = DirectoryView::read(&killed.data()).expect("a manifest");
    let read = || {
        let (mut reader, mut last) = (
            HistoryReader::open(&view.source(0), HistoryRange::ALL, &SegmentMarks::default()).expect("it can be read"),
            Lsn(0),
        );
        while let Some(lsn) = reader.next(|record, _| record.lsn).expect("it is whole") {
            last = lsn;
        }
        last
    };
    assert_eq!(read(), Lsn(killed.durable.0 - 1));
    let Err(FileError::Damaged(damage)) = check_end(&view.source(0)) else {
        panic!("the page says something else");
    };
    assert_eq!((damage.path, damage.fault), (control.clone(), FileFault::OtherEnd));
    assert_eq!(killed.remedies(), [Remedy::ControlAnew]);
    fs::remove_file(&control).expect("it was there");
    assert_eq!(read(), Lsn(killed.durable.0 - 1));
    killed.repair();
    check_end(&view.source(0)).expect("it is as the manifest says");
}

#[test]
fn a_journal_that_ended_without_a_record_is_looked_at_too() {
    let parent = tempfile::tempdir().expect("a directory for the test");
    let files = Files::of(&files::directory(&parent.path().join("data")));
    let killed = Killed {
        parent,
        files,
        durable: Lsn(0),
        before: BTreeMap::new(),
    };
    ended(&killed, Lsn(0), 0);
    assert_eq!(killed.remedies(), []);
    let control = killed.files.directory.join("control");
    let whole = fs::read(&control).expect("a file");
    let mut page = whole.clone();
    page[8] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&page[..12]), &page[16..64]);
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&control, &page).expect("written");
    let error = find_damage(&killed.open()).expect_err("it is newer");
    assert!(matches!(error, crate::RepairError::Newer(_)), "{error}");
    fs::remove_file(&control).expect("it was there");
    let view = DirectoryView::read(&killed.data()).expect("a manifest");
    assert_eq!(
        view.durable(0).expect("the manifest says it"),
        (Lsn(0), SegmentNumber(0))
    );
    assert_eq!(killed.remedies(), [Remedy::ControlAnew]);
    killed.repair();
    assert_eq!(fs::read(&control).expect("it is there"), whole);
}
