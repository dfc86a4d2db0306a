//! The binary where it needs no engine: help, wrong usage, settings, files that cannot be read, exit codes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn plimsoll(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    // Nothing of the environment of the tests.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PLIMSOLL_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(arguments).stdin(Stdio::null());
    command
}

/// Runs it and holds exit code and standard error against what is expected; gives standard output.
fn check(command: &mut Command, code: i32, expected: &[&str]) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{command:?}\n{stderr}");
    for part in expected {
        assert!(stderr.contains(part), "{command:?}: {part:?} is not in\n{stderr}");
    }
    String::from_utf8(stdout).expect("texts are UTF-8")
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).expect("the directory can be written to");
    path.to_str().expect("a path of UTF-8").to_owned()
}

/// An address that nothing listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").to_string()
}

#[test]
fn help_teaches_and_offers_only_what_works() {
    let help = check(&mut plimsoll(&["--help"]), 0, &[]);
    for part in [
        "serve",
        "demo",
        "pool",
        "availability",
        "reserve",
        "confirm",
        "resize",
        "release",
        "show",
        "orders",
        "replay",
        "backup",
        "tune",
        "completions",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part}");
    }
    for command in [
        &["pool", "import"][..],
        &["pool", "list"],
        &["pool", "export"],
        &["pool", "set"],
        &["pool", "close"],
        &["availability"],
        &["reserve"],
        &["resize"],
        &["orders"],
        &["serve"],
        &["demo"],
        &["replay", "verify"],
        &["replay", "repair"],
        &["tune"],
        &["completions"],
    ] {
        let help = check(plimsoll(command).arg("--help"), 0, &[]);
        assert!(help.contains("Examples:"), "{command:?}");
    }
    let help = check(&mut plimsoll(&["serve", "--help"]), 0, &[]);
    for code in 10..=20 {
        assert!(help.contains(&format!("\n  {code}  ")), "exit code {code}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for line in [
        &[][..],
        &["nonsense"],
        &["pool"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--drain-timeout", "10"],
        &["serve", "--cores", "0"],
        &["serve", "--engine", "127.0.0.1:1"],
        &["reserve", "pool"],
        &["reserve", "pool", "--units", "rooms"],
        &["reserve", "pool", "--units", "rooms=1", "--hold", "0s"],
        &["reserve", "pool", "--units", "rooms=1", "--hold", "2d"],
        &["confirm"],
        &["resize", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        &["resize", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--version", "3"],
        &[
            "resize",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "--units",
            "rooms=1",
            "--version",
            "65536",
        ],
        &["availability"],
        &["availability", "--kind", "slot"],
        &["availability", "--zone", "z", "--from", "tomorrow"],
        &["availability", "--zone", "z", "--units", "rooms=0"],
        &["availability", "--zone", "z", "--limit", "0"],
        &["pool", "set", "pool"],
        &["pool", "set", "pool", "--state", "ajar"],
        &["pool", "set", "pool", "--limits", "rooms=-1"],
        &["pool", "close"],
        &["pool", "export"],
        &["pool", "export", "pools.txt"],
        &["orders", "a.csv", "--hold=1500ms"],
        &["pool", "list", "--used", "--json"],
        &["orders", "a.csv", "--window", "0"],
        &["demo", "--seconds", "0"],
        &["tune"],
        &["tune", "--check", "--cores", "0"],
    ] {
        let output = plimsoll(line).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(output.stdout.is_empty(), "{line:?}");
        assert!(!output.stderr.is_empty(), "{line:?}");
    }
    check(
        &mut plimsoll(&["reserve", "p", "--units", "a=1", "--key", "\u{e9}"]),
        2,
        &["error: --key: a key has visible ASCII"],
    );
    for line in [
        &["show", "xyz"][..],
        &["confirm", "xyz"],
        &["resize", "xyz", "--hold", "10m"],
    ] {
        check(
            &mut plimsoll(line),
            2,
            &["error: \"xyz\" is no reservation id: a reservation id has 26 characters"],
        );
    }
}

#[test]
fn settings_that_are_wrong_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = write(directory.path(), "a.toml", "[serve]\ndrain_timout = '3s'\n");
    let expected = [
        "a.toml: [serve] drain_timout: unknown key",
        "help: the nearest that exists is drain_timeout",
    ];
    check(&mut plimsoll(&["serve", "--config", &file]), 2, &expected);
    // Also where the command at hand has no use for them, and by the environment.
    check(plimsoll(&["show", "x"]).env("PLIMSOLL_CONFIG", &file), 2, &expected);
    let file = write(directory.path(), "b.toml", "[client]\ntimeout = 'soon'\n");
    check(
        &mut plimsoll(&["serve", "--config", &file]),
        2,
        &["b.toml: [client] timeout: invalid value \"soon\": expected a duration"],
    );
    check(
        &mut plimsoll(&["serve", "--config", "missing.toml"]),
        2,
        &["error: cannot read missing.toml"],
    );
}

#[test]
fn the_command_line_goes_before_the_environment_before_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let [line, environment, file] = [nobody(), nobody(), nobody()];
    let settings = write(
        directory.path(),
        "a.toml",
        &format!("[client]\nengine = '{file}'\ntimeout = '1s'\n"),
    );
    let list = ["pool", "list", "--config", &settings];
    check(
        &mut plimsoll(&list),
        1,
        &[&format!("error: no engine answers at {file}"), "help: start one with"],
    );
    check(
        plimsoll(&list).env("PLIMSOLL_CLIENT_ENGINE", &environment),
        1,
        &[&environment],
    );
    check(
        plimsoll(&list)
            .env("PLIMSOLL_CLIENT_ENGINE", &environment)
            .args(["--engine", &line]),
        1,
        &[&line],
    );
    check(plimsoll(&list).env("PLIMSOLL_CLIENT_TIMEOUT", "soon"), 2, &["soon"]);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    check(
        &mut plimsoll(&["pool", "import", "missing.csv"]),
        1,
        &["error: cannot read missing.csv: No such file"],
    );
    check(
        &mut plimsoll(&["orders", "missing.csv.gz"]),
        1,
        &["error: cannot read missing.csv.gz: No such file"],
    );
    let file = write(directory.path(), "pools.txt", "name\n");
    check(
        &mut plimsoll(&["pool", "import", &file]),
        2,
        &["the ending says neither CSV nor NDJSON", "help: name the file .csv"],
    );
    let file = write(directory.path(), "orders.csv.gz", "at,op,order,pool\n");
    check(&mut plimsoll(&["orders", &file]), 1, &["error: cannot read", "gzip"]);
}

#[test]
fn a_completion_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            check(&mut plimsoll(&["completions", shell]), 0, &[]).contains("plimsoll"),
            "{shell}"
        );
    }
}

/// What the scripts of the shells call.
#[test]
fn a_command_line_is_completed() {
    let completed = |line: &[&str]| {
        let mut command = plimsoll(&["--", "plimsoll"]);
        command
            .args(line)
            .env("PLIMSOLL_COMPLETE", "bash")
            .env("PLIMSOLL_CLIENT_ENGINE", nobody())
            .env("_CLAP_COMPLETE_INDEX", line.len().to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_IFS", "\n");
        check(&mut command, 0, &[])
    };
    assert_eq!(completed(&["conf"]), "confirm");
    assert_eq!(completed(&["pool", "cl"]), "close");
    assert_eq!(completed(&["tu"]), "tune");
    assert_eq!(completed(&["tune", "--ch"]), "--check");
    assert_eq!(completed(&["availability", "--zo"]), "--zone");
    // Names of pools, of which there are none when no engine answers.
    assert_eq!(completed(&["pool", "close", "north"]), "");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = plimsoll(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
