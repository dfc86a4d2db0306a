//! What is printed of the past leads back to it: times, places in a journal, references; and names that never were are told.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{Server, fail, json, plimsoll, run, succeed};

/// A server with two pools, `A` and `B`, that lie on two cores if there are two.
fn start(directory: &Path, cores: &str) -> Server {
    let server = Server::start(&directory.join("data"), &["--dimensions", "rooms", "--cores", cores]);
    let pools = directory.join("pools.csv");
    let names: Vec<String> = (0..16).map(|number| format!("P{number},z,k,0,1,9\n")).collect();
    std::fs::write(
        &pools,
        format!("name,zone,kind,starts_at,ends_at,rooms\n{}", names.concat()),
    )
    .unwrap();
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    server
}

fn replay(directory: &Path, arguments: &[&str]) -> Output {
    plimsoll()
        .arg("replay")
        .args(arguments)
        .arg("--data")
        .arg(directory.join("data"))
        .output()
        .unwrap()
}

fn lines(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = replay(directory, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The command fails with this code and says this.
fn refuses(directory: &Path, arguments: &[&str], code: i32, expected: &str) {
    let output = replay(directory, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(error.contains(expected), "{arguments:?}: {error}");
}

#[test]
fn an_event_leads_back_to_its_moment() {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path(), start(directory.path(), "2"));
    for number in 0..16 {
        let pool = format!("P{number}");
        succeed(&server, &["reserve", &pool, "--units", "rooms=1"]);
        // The time that is printed, cut to milliseconds, includes the event.
        let events = json(&server, &["pool", "events", &pool, "--limit", "1"]);
        let at = events[0]["at"].as_str().unwrap();
        let used = replay(path, &["state", &pool, "--used", "--at", at]).stdout;
        assert_eq!(String::from_utf8(used).unwrap(), format!("{pool},1\n"), "{at}");
        std::thread::sleep(std::time::Duration::from_millis(2));
        let then = succeed(&server, &["pool", "list", "--used", "--as-of", at]);
        assert!(then.contains(&format!("{pool},1\n")), "{at}: {then}");
        let until = lines(path, &["dump", "--pool", &pool, "--kind", "reserved", "--until", at]);
        assert_eq!(until.len(), 1, "{at}");
    }
    // Each LSN is that of a core.
    let reserved = lines(path, &["dump", "--kind", "reserved"]);
    let mut cores: Vec<u64> = reserved.iter().map(|event| event["core"].as_u64().unwrap()).collect();
    for event in &reserved {
        let at = format!("lsn:{}:{}", event["core"], event["lsn"]);
        let pool = event["pool"].as_str().unwrap();
        let used = replay(path, &["state", pool, "--used", "--at", &at]).stdout;
        assert_eq!(String::from_utf8(used).unwrap(), format!("{pool},1\n"), "{at}");
    }
    cores.sort_unstable();
    cores.dedup();
    assert_eq!(cores, [0, 1]);
    refuses(
        path,
        &["state", "--at", "lsn:2"],
        2,
        "--at: each of the 2 cores has an LSN 2",
    );
    refuses(path, &["diff", "--from", "lsn:2"], 2, "--from: each of the 2 cores");
    refuses(path, &["diff", "--from", "1", "--to", "lsn:0:9999"], 2, "--to: ");
    refuses(path, &["diff", "--from", "lsn:0:9999"], 2, "--from: ");
    // A journal without a core says which it is.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&path.join("data"), &["--cores", "1"]);
    let moved = lines(path, &["dump", "--kind", "reserved"]);
    assert!(
        moved
            .iter()
            .all(|event| event["core"].is_null() && event["journal"].is_string())
    );
    drop(server);
}

#[test]
fn every_event_of_a_reservation_has_its_reference() {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path(), start(directory.path(), "1"));
    let reserve = |reference: &str, options: &[&str]| {
        let line = ["reserve", "P1", "--units", "rooms=1", "--reference", reference];
        let made = json(&server, &[&line[..], options].concat());
        made[0]["reservation"].as_str().unwrap().to_owned()
    };
    let (released, confirmed) = (reserve("one", &[]), reserve("two", &["--hold", "10m"]));
    std::thread::sleep(std::time::Duration::from_millis(5));
    let from = jiff::Timestamp::now().to_string();
    std::thread::sleep(std::time::Duration::from_millis(5));
    succeed(&server, &["release", &released]);
    succeed(&server, &["confirm", &confirmed]);
    for options in [&[][..], &["--pool", "P1"], &["--kind", "released,confirmed"]] {
        let events = lines(path, &[&["dump", "--from", &from][..], options].concat());
        let references: Vec<_> = events
            .iter()
            .map(|event| event["reference"].as_str().unwrap())
            .collect();
        assert_eq!(references, ["one", "two"], "{options:?}");
    }
}

#[test]
fn names_that_never_were_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path(), start(directory.path(), "1"));
    let at = jiff::Timestamp::now().to_string();
    fail(
        &server,
        &["replay", "state", "nobody"],
        1,
        "there was no pool \"nobody\"",
    );
    fail(
        &server,
        &["replay", "state", "nobody", "--at", &at],
        1,
        "there was no pool \"nobody\"",
    );
    fail(
        &server,
        &["replay", "dump", "--pool", "nobody"],
        1,
        "there never was a pool \"nobody\"",
    );
    refuses(
        path,
        &["diff", "nobody", "--from", "1"],
        1,
        "there never was a pool \"nobody\"",
    );
    assert_eq!(json(&server, &["replay", "dump", "--pool", "P1"]).len(), 1);
    assert_eq!(json(&server, &["replay", "state", "P1"]).len(), 1);
}

#[test]
fn a_reference_does_not_control_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path(), start(directory.path(), "1"));
    let reference = "a\u{1b}[2Jb";
    std::thread::sleep(std::time::Duration::from_millis(5));
    let then = jiff::Timestamp::now().to_string();
    std::thread::sleep(std::time::Duration::from_millis(5));
    let made = json(
        &server,
        &["reserve", "P1", "--units", "rooms=1", "--reference", reference],
    );
    let id = made[0]["reservation"].as_str().unwrap();
    let shown = [
        run(&server, &["find", "--reference", reference]),
        run(&server, &["show", id]),
        run(&server, &["replay", "reset", "P1", "--to", &then, "--dry-run"]),
        replay(path, &["history", "P1"]),
        replay(path, &["state", "--reservations"]),
    ];
    for (place, output) in shown.iter().enumerate() {
        assert!(!output.stdout.contains(&0x1b), "{place}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("a\\u{1b}[2Jb"), "{place}: {text}");
    }
    assert_eq!(
        json(&server, &["find", "--reference", reference])[0]["reference"],
        reference
    );
}
