//! What a newer program may have written stops this one, with a clear word and nothing changed.

use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use serde_json::Value;

use crate::past::{drive, order_file, pools};
use crate::repairs::{contents, copy, wait_for_history};
use crate::support::{Random, Server, plimsoll, refused};

const OPTIONS: [&str; 10] = [
    "--segment-size",
    "64KiB",
    "--snapshot-after",
    "128KiB",
    "--journal-space",
    "4MiB",
    "--dimensions",
    "rooms",
    "--cores",
    "1",
];

/// The files of a directory that were written last.
struct Newest {
    manifest: PathBuf,
    control: PathBuf,
    segment: PathBuf,
    archive: PathBuf,
    snapshot: PathBuf,
}

impl Newest {
    fn of(data: &Path) -> Newest {
        let manifest = std::fs::read_to_string(data.join("MANIFEST")).unwrap();
        let manifest: Value = serde_json::from_str(manifest.split_once('\n').unwrap().1).unwrap();
        let id = manifest["journals"][0]["id"].as_str().unwrap();
        let journal = data.join(format!("journal-{}", &id[..16]));
        let control = std::fs::read(journal.join("control")).unwrap();
        let newest = u64::from_le_bytes(control[136..144].try_into().unwrap());
        let mut archives: Vec<_> = std::fs::read_dir(journal.join("archive"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        archives.sort();
        let snapshot = manifest["snapshots"][0]["file"].as_str().unwrap();
        Newest {
            manifest: data.join("MANIFEST"),
            control: journal.join("control"),
            segment: journal.join(format!("{newest:010}.segment")),
            archive: archives.pop().unwrap(),
            snapshot: data.join("snapshots").join(snapshot),
        }
    }
}

/// Changes the bytes of a file.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Gives a file another format version; the checksum at offset 12 is of what is before and behind it, up to `size`.
fn set_version(path: &Path, size: usize) {
    change(path, |bytes| {
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = crc32c_append(crc32c(&bytes[..12]), &bytes[16..size]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
}

/// Changes the first record of a segment, and its checksum with it.
fn change_record(path: &Path, to: impl FnOnce(&mut [u8])) {
    change(path, |bytes| {
        let seed = crc32c(&bytes[16..32]);
        let seed = crc32c_append(seed, &bytes[40..48]);
        let seed = crc32c_append(seed, &bytes[32..40]);
        let size = u32::from_le_bytes(bytes[4100..4104].try_into().unwrap()) as usize;
        let record = &mut bytes[4096..4096 + size.next_multiple_of(8)];
        to(record);
        let crc = crc32c_append(seed, &record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
    });
}

/// Changes the first piece of a snapshot, and the checksum of its chunk with it.
fn change_piece(path: &Path, to: impl FnOnce(&mut [u8])) {
    change(path, |bytes| {
        let seed = crc32c(&bytes[16..40]);
        let seed = crc32c_append(seed, &0u64.to_le_bytes());
        let size = u32::from_le_bytes(bytes[4100..4104].try_into().unwrap()) as usize;
        let chunk = &mut bytes[4096..4096 + (8 + size).next_multiple_of(8)];
        to(&mut chunk[8..]);
        let crc = crc32c_append(seed, &chunk[4..]);
        chunk[..4].copy_from_slice(&crc.to_le_bytes());
    });
}

fn set_manifest(path: &Path, to: impl FnOnce(&str) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    let json = to(text.split_once('\n').unwrap().1);
    let crc = crc32c(json.as_bytes());
    std::fs::write(path, format!("plimsoll-manifest 1 {crc:08x} {}\n{json}", json.len())).unwrap();
}

/// What a newer program may have done to the newest files; the exit code of a start, and what start and `replay verify` say.
type Case = (&'static str, fn(&Newest), i32, &'static str, &'static str);

const CASES: [Case; 10] = [
    (
        "kind",
        |newest| change_record(&newest.segment, |record| record[24] = 77),
        22,
        "unknown kind 77",
        "unknown kind 77",
    ),
    (
        "bit",
        |newest| change_record(&newest.segment, |record| record[31] |= 0x80),
        22,
        "unknown bits 0x80000000",
        "unknown bits 0x80000000",
    ),
    (
        "own-kind",
        |newest| change_record(&newest.segment, |record| record[24..26].copy_from_slice(&[1, 0xFF])),
        22,
        "kind 0xff01, which this program does not know",
        "kind 0xff01, which this program does not know",
    ),
    (
        "segment",
        |newest| set_version(&newest.segment, 128),
        22,
        "has format version 2, which this program does not know",
        "format version 2 is unknown to this program",
    ),
    (
        "control",
        |newest| set_version(&newest.control, 64),
        22,
        "the control page has format version 2",
        "format version 2 is unknown to this program",
    ),
    (
        "snapshot",
        |newest| set_version(&newest.snapshot, 4096),
        22,
        "format version 2 is unknown to this program",
        "format version 2 is unknown to this program",
    ),
    (
        "piece",
        |newest| change_piece(&newest.snapshot, |piece| piece[4] = 99),
        22,
        "a piece of unknown kind 99",
        "a piece of unknown kind 99",
    ),
    (
        "archive",
        |newest| set_version(&newest.archive, 128),
        22,
        "format version 2 is unknown to this program",
        "format version 2 is unknown to this program",
    ),
    (
        "manifest",
        |newest| change(&newest.manifest, |bytes| bytes["plimsoll-manifest ".len()] = b'2'),
        22,
        "version 2 is unknown to this program",
        "version 2 is unknown to this program",
    ),
    (
        "field",
        |newest| set_manifest(&newest.manifest, |json| json.replacen('{', "{\"colour\":1,", 1)),
        13,
        "unknown field `colour`",
        "unknown field `colour`",
    ),
];

#[test]
fn what_is_newer_stops_a_start_and_replay_and_stays_as_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &OPTIONS);
    pools(&server, parent.path(), 7, 100_000);
    let file = order_file(parent.path(), 3_000, &mut Random(11));
    drive(&server, &file, &parent.path().join("progress"));
    wait_for_history(&data, true, 2);
    // The newest segment holds an event that the newest snapshot does not.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&data, &OPTIONS);
    let file = order_file(parent.path(), 30, &mut Random(12));
    drive(&server, &file, &parent.path().join("more"));
    assert_eq!(server.terminate(), Some(0));
    for (name, newer, code, at_start, in_replay) in CASES {
        let copied = parent.path().join(name);
        copy(&data, &copied);
        newer(&Newest::of(&copied));
        let before = contents(&copied);
        let (found, text) = refused(&copied, "127.0.0.1:0", &OPTIONS);
        assert_eq!(found, Some(code), "{name}: {text}");
        assert!(text.contains(at_start) && text.contains("help:"), "{name}: {text}");
        for command in ["verify", "repair"] {
            let output = plimsoll()
                .args(["replay", command, "--data"])
                .arg(&copied)
                .args(if command == "repair" { &["--yes"][..] } else { &[] })
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            if command == "verify" {
                assert_eq!(output.status.code(), Some(1), "{name}: {text}");
                assert!(text.contains(in_replay), "{name}: {text}");
            } else {
                // Records are not the journal's business: none is damaged.
                let is_whole = ["kind", "bit", "piece"].contains(&name);
                assert_eq!(output.status.success(), is_whole, "{name}: {text}");
            }
        }
        assert!(before == contents(&copied), "{name}: something was changed");
    }
}
