//! Damage to the directory of a server that was killed: it does not start, `plimsoll replay repair` says what is lost, and mends it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::past::{drive, lines, order_file, pools, replay};
use crate::support::{Random, Server, plimsoll, refused, seed, succeed};

/// Small segments. Without snapshots every segment stays, and with them the older ones are used again.
const WITHOUT_SNAPSHOTS: [&str; 6] = [
    "--segment-size",
    "64KiB",
    "--snapshot-after",
    "16MiB",
    "--journal-space",
    "64MiB",
];
const WITH_SNAPSHOTS: [&str; 6] = [
    "--segment-size",
    "64KiB",
    "--snapshot-after",
    "128KiB",
    "--journal-space",
    "4MiB",
];

/// A directory as a killed server left it.
struct Killed {
    parent: tempfile::TempDir,
    options: &'static [&'static str],
    /// Everything that was durable.
    events: Vec<String>,
    last_lsn: u64,
}

impl Killed {
    fn new(options: &'static [&'static str], orders: u64, random: &mut Random) -> Killed {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let all = [options, &["--dimensions", "rooms", "--cores", "1"]].concat();
        let server = Server::start(&data, &all);
        pools(&server, parent.path(), 7, 100_000);
        let file = order_file(parent.path(), orders, random);
        drive(&server, &file, &parent.path().join("progress"));
        let has_snapshots = options == WITH_SNAPSHOTS;
        wait_for_history(&data, has_snapshots, 3);
        server.kill();
        // The first command that gets the lock comes after the process is gone.
        let (code, report) = repair(&data, &["--json"]);
        assert_eq!(code, Some(0), "{report}");
        let verified = lines(&replay(&data, &["verify", "--json"])).remove(0);
        Killed {
            events: replay(&data, &["dump"]).lines().map(str::to_owned).collect(),
            last_lsn: verified["journals"][0]["last_lsn"].as_u64().unwrap(),
            parent,
            options,
        }
    }

    /// A copy to be damaged.
    fn copy(&self, name: &str) -> Damaged<'_> {
        let data = self.parent.path().join(name);
        copy(&self.parent.path().join("data"), &data);
        let journal = std::fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-"))
            .unwrap();
        Damaged {
            killed: self,
            data,
            journal,
        }
    }
}

struct Damaged<'killed> {
    killed: &'killed Killed,
    data: PathBuf,
    journal: PathBuf,
}

impl Damaged<'_> {
    fn segment(&self, number: u64) -> PathBuf {
        self.journal.join(format!("{number:010}.segment"))
    }

    fn archive(&self, number: u64) -> PathBuf {
        self.journal.join(format!("archive/{number:010}.archive"))
    }

    /// A start is refused, the damage is told and nothing changed, then mended; what is left is what was before, up to the first LSN that is named as lost,
    /// and work goes on. Returns the report.
    fn is_mended(&self, remedies: &[&str]) -> Value {
        let (told, done) = self.mend();
        let found: Vec<_> = told["journals"][0]["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["remedy"].as_str().unwrap())
            .collect();
        assert_eq!(found, remedies, "{told}");
        done
    }

    /// The same, whatever the remedies; what was told and what was done.
    fn mend(&self) -> (Value, Value) {
        let (code, text) = refused(&self.data, "127.0.0.1:0", &[]);
        assert_eq!(code, Some(17), "{text}");
        assert!(text.contains("plimsoll replay repair"), "{text}");
        let before = contents(&self.data);
        let (code, report) = repair(&self.data, &["--json"]);
        assert_eq!(code, Some(1), "{report}");
        let told: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
        assert_eq!((&told["repaired"], &told["whole"]), (&false.into(), &false.into()));
        assert!(before == contents(&self.data), "telling changes nothing");

        let (code, report) = repair(&self.data, &["--yes", "--json"]);
        assert_eq!(code, Some(0), "{report}");
        let done: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&done["repaired"], &done["whole"]), (&true.into(), &true.into()));
        assert_eq!(done["journals"][0]["cut"], told["journals"][0]["cut"]);
        let after = contents(&self.data);
        for (path, bytes) in before {
            let is_ours = path.ends_with("MANIFEST") || path.ends_with("LOCK");
            let is_kept = after.values().any(|other| *other == bytes);
            assert!(is_ours || is_kept, "{} is gone", path.display());
        }

        replay(&self.data, &["verify"]);
        let cut = &done["journals"][0]["cut"];
        let last_kept = cut["last_kept"].as_u64().unwrap_or(self.killed.last_lsn);
        if !cut.is_null() {
            assert_eq!(cut["first_lost"], last_kept + 1);
            assert_eq!(cut["last_lost"], self.killed.last_lsn);
        }
        let is_kept = |line: &&String| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["lsn"].as_u64().unwrap() <= last_kept
        };
        let kept: Vec<_> = self.killed.events.iter().filter(is_kept).cloned().collect();
        let left: Vec<_> = replay(&self.data, &["dump"]).lines().map(str::to_owned).collect();
        assert_eq!(left, kept);
        assert!(cut.is_null() || kept.len() < self.killed.events.len());
        self.goes_on();
        (told, done)
    }

    fn goes_on(&self) {
        let parent = tempfile::tempdir().unwrap();
        let server = Server::start(&self.data, self.killed.options);
        pools(&server, parent.path(), 7, 100_000);
        let file = order_file(parent.path(), 1_500, &mut Random(7));
        drive(&server, &file, &parent.path().join("progress"));
        let used = succeed(&server, &["pool", "list", "--used"]);
        assert_eq!(server.terminate(), Some(0));
        replay(&self.data, &["verify"]);
        assert_eq!(replay(&self.data, &["state", "--used"]), used);
    }
}

/// Runs `plimsoll replay repair`; its exit code and what it printed.
fn repair(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut until = 200;
    loop {
        let output = plimsoll()
            .args(["replay", "repair", "--data"])
            .arg(data)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        until -= 1;
        // A process that was killed may still be dying.
        if output.status.code() != Some(12) || until == 0 {
            return (output.status.code(), text);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// Waits until this archive is there, and a snapshot if there is to be one: threads of low priority write them beside the traffic.
pub(crate) fn wait_for_history(data: &Path, has_snapshot: bool, archive: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    let name = format!("archive/{archive:010}.archive");
    loop {
        let manifest = std::fs::read_to_string(data.join("MANIFEST")).unwrap();
        let mut entries = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
        let is_there = !has_snapshot || manifest.contains(".snapshot\"");
        if is_there && entries.any(|path| path.join(&name).exists()) {
            return;
        }
        assert!(Instant::now() < until, "no snapshot, or no archive {archive}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All files below a directory, but for the one that says who had it last.
pub(crate) fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if !path.ends_with("LOCK") {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 2;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_kind_of_damage_is_told_and_mended() {
    let mut random = Random(seed());
    let killed = Killed::new(&WITHOUT_SNAPSHOTS, 4_000, &mut random);

    // Whole archives: nothing is lost, whatever happened to the segment.
    let damaged = killed.copy("archived");
    assert!(damaged.archive(3).exists());
    flip(&damaged.segment(2), 4096 + random.below(50_000) as usize);
    std::fs::remove_file(damaged.segment(3)).unwrap();
    damaged.is_mended(&["from_archive", "from_archive"]);

    // A flipped bit in a record that is nowhere else.
    let damaged = killed.copy("flipped");
    std::fs::remove_file(damaged.archive(3)).unwrap();
    flip(&damaged.segment(3), 4096 + random.below(50_000) as usize);
    let report = damaged.is_mended(&["cut"]);
    let aside = PathBuf::from(report["journals"][0]["damaged_files"].as_str().unwrap());
    assert!(aside.join("0000000003.segment").exists());
    assert!(aside.join("0000000004.segment").exists());

    // Segment and archive are gone.
    let damaged = killed.copy("missing");
    std::fs::remove_file(damaged.segment(3)).unwrap();
    std::fs::remove_file(damaged.archive(3)).unwrap();
    let report = damaged.is_mended(&["cut"]);
    assert!(report["journals"][0]["cut"]["shortened"].is_null());

    // Nobody reads what is said: it is mended all the same, and damage that stays is never passed over in silence.
    let damaged = killed.copy("unread");
    std::fs::remove_file(damaged.segment(3)).unwrap();
    let unread = |options: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = plimsoll();
        command.args(["replay", "repair", "--data"]).arg(&damaged.data);
        command.args(options).stdout(writer).status().unwrap().code()
    };
    assert_eq!(unread(&[]), Some(1));
    assert_eq!(unread(&["--json"]), Some(1));
    assert_eq!(unread(&["--yes"]), Some(1));
    assert_eq!(repair(&damaged.data, &[]).0, Some(0));

    // The header is broken, and the archive too.
    let damaged = killed.copy("header");
    flip(&damaged.segment(2), random.below(128) as usize);
    let size = std::fs::metadata(damaged.archive(2)).unwrap().len();
    flip(&damaged.archive(2), random.below(size) as usize);
    damaged.is_mended(&["cut"]);

    // The control page is gone.
    let damaged = killed.copy("control");
    std::fs::remove_file(damaged.journal.join("control")).unwrap();
    let (code, text) = refused(&damaged.data, "127.0.0.1:0", &[]);
    assert_eq!(code, Some(17), "{text}");
    let (code, report) = repair(&damaged.data, &["--yes"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("repaired"), "{report}");
    damaged.goes_on();
    let left = replay(&damaged.data, &["dump"]);
    assert!(left.starts_with(&(killed.events.join("\n") + "\n")));
}

#[test]
fn a_running_server_keeps_an_archive_that_it_cannot_make_again() {
    let killed = Killed::new(&WITH_SNAPSHOTS, 6_000, &mut Random(seed()));
    let damaged = killed.copy("only");
    flip(&damaged.archive(2), 20);
    std::fs::write(damaged.segment(2), vec![0; 64 * 1024]).unwrap();
    let only = std::fs::read(damaged.archive(2)).unwrap();
    let newest = (1..).find(|number| !damaged.archive(*number).exists()).unwrap();
    let server = Server::start(&damaged.data, killed.options);
    pools(&server, killed.parent.path(), 7, 100_000);
    let file = order_file(killed.parent.path(), 3_000, &mut Random(7));
    drive(&server, &file, &killed.parent.path().join("after"));
    // Those behind it are archived all the same.
    wait_for_history(&damaged.data, true, newest + 1);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(std::fs::read(damaged.archive(2)).unwrap(), only);
}

#[test]
fn snapshots_ahead_of_the_cut_go_too() {
    let mut random = Random(seed());
    let killed = Killed::new(&WITH_SNAPSHOTS, 6_000, &mut random);
    let damaged = killed.copy("ahead");
    let manifest = std::fs::read_to_string(damaged.data.join("MANIFEST")).unwrap();
    let manifest: Value = serde_json::from_str(manifest.split_once('\n').unwrap().1).unwrap();
    let newest = &manifest["snapshots"][0];
    let segment = newest["segment"].as_u64().unwrap();
    flip(&damaged.segment(segment), 4096 + 40);
    if damaged.archive(segment).exists() {
        flip(&damaged.archive(segment), 200);
    }
    let (_, report) = damaged.mend();
    let cut = &report["journals"][0]["cut"];
    assert_eq!(cut["snapshots"][0], newest["lsn"]);
    assert!(cut["last_kept"].as_u64().unwrap() < newest["lsn"].as_u64().unwrap());
}

#[test]
fn a_running_server_is_left_alone_and_history_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = [&WITH_SNAPSHOTS[..], &["--dimensions", "rooms", "--cores", "1"]].concat();
    let server = Server::start(&data, &options);
    pools(&server, directory.path(), 7, 100_000);
    let output = plimsoll()
        .args(["replay", "repair", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(12));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("in use by process") && text.contains("help:"), "{text}");
    let file = order_file(directory.path(), 2_000, &mut Random(3));
    drive(&server, &file, &directory.path().join("progress"));
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&data, &[&WITH_SNAPSHOTS[..], &["--cores", "2"]].concat());
    assert_eq!(server.terminate(), Some(0));
    let events = replay(&data, &["dump"]);

    // The journal that is only history has lost its control page: the manifest says what stood in it.
    let old = std::fs::read_to_string(data.join("MANIFEST")).unwrap();
    let old: Value = serde_json::from_str(old.split_once('\n').unwrap().1).unwrap();
    let id = old["journals"][0]["id"].as_str().unwrap();
    assert!(old["journals"][0]["core"].is_null());
    let control = data.join(format!("journal-{}/control", &id[..16]));
    let before = std::fs::read(&control).unwrap();
    std::fs::remove_file(&control).unwrap();
    let (code, text) = repair(&data, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("(history)") && text.contains("--yes"), "{text}");
    assert_eq!(repair(&data, &["--yes"]).0, Some(0));
    assert_eq!(before[64..72], std::fs::read(&control).unwrap()[64..72]);
    assert_eq!(replay(&data, &["dump"]), events);
    replay(&data, &["verify"]);

    // An archive without its segment: nothing is cut, and only a backup helps.
    let archive = data.join(format!("journal-{}/archive/0000000001.archive", &id[..16]));
    let segment = data.join(format!("journal-{}/0000000001.segment", &id[..16]));
    let _ = std::fs::remove_file(segment);
    flip(&archive, 200);
    let (code, text) = repair(&data, &["--yes"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("0000000001.archive at offset 128") && text.contains("backup"),
        "{text}"
    );
    assert_eq!(Server::start(&data, &WITH_SNAPSHOTS).terminate(), Some(0));
}
