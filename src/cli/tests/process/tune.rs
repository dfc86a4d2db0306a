//! What `plimsoll tune --check` says of this host, of directories, and what of it stops a server.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Server, plimsoll, refused};

fn tune(data: &Path, options: &[&str]) -> Command {
    let mut command = plimsoll();
    command.args(["tune", "--check", "--data"]).arg(data).args(options);
    command
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn verdict<'report>(report: &'report serde_json::Value, check: &str) -> &'report str {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {report}"))["verdict"]
        .as_str()
        .unwrap()
}

#[test]
fn a_host_that_a_server_starts_on_has_no_must() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let _server = Server::start(&data, &["--dimensions", "rooms", "--cores", "1"]);
    let output = tune(&data, &["--json"]).output().unwrap();
    let report = json(&output);
    // Where the tests run may be a file system in memory; nothing else that stops a server can be off.
    let is_memory = verdict(&report, "file-system") == "must";
    assert_eq!(report["must"], u32::from(is_memory), "{report}");
    assert_eq!(output.status.code(), Some(i32::from(is_memory)), "{report}");
    for check in ["kernel", "io-uring", "data-directory", "cores"] {
        assert_eq!(verdict(&report, check), "fine", "{report}");
    }
    // The directory says how many cores there are.
    assert_eq!(report["cores"].as_array().unwrap().len(), 1);
    let counts = ["must", "should", "unknown", "fine"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(
        counts.iter().sum::<u64>(),
        report["checks"].as_array().unwrap().len() as u64
    );
}

#[test]
fn each_line_names_what_is_off_and_the_last_one_sums_up() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let report = json(&tune(&data, &["--json"]).output().unwrap());
    let output = tune(&data, &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (summary, off) = lines.split_last().unwrap();
    assert_eq!(
        off.len() as u64,
        report["checks"].as_array().unwrap().len() as u64 - report["fine"].as_u64().unwrap()
    );
    for line in off {
        let mut words = line.split_whitespace();
        let (found, check) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(verdict(&report, check), found, "{line}");
        assert_eq!(line.contains("; do: "), found != "unknown", "{line}");
    }
    for part in ["must", "should", "unknown", "fine", data.to_str().unwrap()] {
        assert!(summary.contains(part), "{summary}");
    }
}

/// What the command calls a must is what the server refuses, for the same reason.
#[test]
fn what_stops_a_server_is_a_must() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let is_must = |command: &mut Command, check: &str| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(verdict(&json(&output), check), "must");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("help: do what the lines with must say"), "{error}");
    };
    is_must(&mut tune(&data, &["--cores", "4000", "--json"]), "cores");
    let new = ["--dimensions", "rooms", "--cores", "4000"];
    assert_eq!(refused(&data, "127.0.0.1:0", &new).0, Some(16));

    let file = directory.path().join("letter.txt");
    std::fs::write(&file, "dear").unwrap();
    is_must(&mut tune(&file, &["--json"]), "data-directory");
    assert_eq!(refused(&file, "127.0.0.1:0", &["--dimensions", "rooms"]).0, Some(13));

    let line = tune(&data, &["--json"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\""])
        .arg(line.get_program())
        .args(line.get_args())
        .stdin(Stdio::null());
    is_must(&mut command, "locked-memory");
}
