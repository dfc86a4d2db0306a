//! What lasts: snapshots, other numbers of cores, backups, archives; with the real bookings, held and confirmed, and kills.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::orders::{check, expected, figures, import, orders};
use crate::support::{Random, Server, plimsoll, seed, serve};

const DIMENSIONS: &str = "rooms,guests";
const NAME: &str = "first_night_rooms_guests";
/// Small segments and snapshots, so that all of it happens within a few seconds.
const SMALL: [&str; 6] = [
    "--dimensions",
    DIMENSIONS,
    "--segment-size",
    "256KiB",
    "--snapshot-after",
    "512KiB",
];

fn options(cores: usize) -> Vec<&'static str> {
    let cores = match cores {
        1 => ["--cores", "1"],
        _ => ["--cores", "2"],
    };
    [&SMALL[..], &["--hold-grace", "1s"], &cores].concat()
}

fn snapshots(data: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(data.join("snapshots")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Waits for what happens in the background.
fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn archives(data: &Path) -> usize {
    let journals = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    journals
        .filter_map(|journal| std::fs::read_dir(journal.join("archive")).ok())
        .map(Iterator::count)
        .sum()
}

#[test]
fn bookings_outlive_kills_snapshots_and_other_numbers_of_cores() {
    let Some(expected) = expected(NAME) else { return };
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let progress = directory.path().join("progress");
    let mut server = Server::start(&data, &options(2));
    import(&server);
    let listen = server.engine();
    let mut client = orders(&listen, DIMENSIONS, &progress, &["--hold"]);
    let mut kills = 0;
    while client.try_wait().unwrap().is_none() && kills < 12 {
        std::thread::sleep(Duration::from_millis(100 + random.below(300)));
        server.kill();
        // A kill while the number of cores is being changed leaves the directory on one side of the change.
        if random.below(2) == 0 {
            let mut half = serve(&data, &listen, &options(1 + kills % 2))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(random.below(400)));
            half.kill().unwrap();
            half.wait().unwrap();
        }
        kills += 1;
        server = Server::start_on(&data, &listen, &options(1 + kills % 2));
    }
    let figures = figures(&mut client);
    check(&server, DIMENSIONS, &figures, &expected);
    for cores in [1, 2, 1] {
        assert_eq!(server.terminate(), Some(0));
        server = Server::start_on(&data, &listen, &options(cores));
        check(&server, DIMENSIONS, &figures, &expected);
    }
    wait_until("a segment in the archive", || archives(&data) > 0);
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_said() {
    let Some(expected) = expected(NAME) else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let progress = directory.path().join("progress");
    let server = Server::start(&data, &options(1));
    import(&server);
    let figures = figures(&mut orders(&server.engine(), DIMENSIONS, &progress, &["--hold"]));
    wait_until("two snapshots", || snapshots(&data).len() == 2);
    server.kill();
    // The newest, somewhere behind its header.
    let newest = snapshots(&data).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let mut command = serve(&data, "127.0.0.1:0", &options(1));
    let log = directory.path().join("log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::spawn(&mut command);
    check(&server, DIMENSIONS, &figures, &expected);
    let log = std::fs::read_to_string(log).unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(log.contains("passed over") && log.contains(name), "{log}");
}

#[test]
fn a_backup_taken_half_way_goes_on_as_a_server_of_its_own() {
    let Some(expected) = expected(NAME) else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let progress = directory.path().join("progress");
    let server = Server::start(&data, &options(2));
    import(&server);
    let mut client = orders(&server.engine(), DIMENSIONS, &progress, &["--hold"]);
    wait_until("a part of the orders", || {
        std::fs::metadata(&progress).is_ok_and(|file| file.len() > 200_000)
    });
    // The client rests meanwhile: a refusal that it has not kept would be decided anew by the copy, behind what came after it.
    let client_id = Pid::from_child(&client);
    kill_process(client_id, Signal::STOP).unwrap();
    // What the client knows is in the copy, since it is copied first.
    let copied_progress = directory.path().join("copied-progress");
    std::fs::copy(&progress, &copied_progress).unwrap();
    let copy = directory.path().join("copy");
    let output = plimsoll()
        .args(["backup", "--data"])
        .arg(&data)
        .arg("--to")
        .arg(&copy)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(
        error.is_empty() && output.stdout.is_empty(),
        "a backup is quiet: {error}"
    );
    kill_process(client_id, Signal::CONT).unwrap();
    check(&server, DIMENSIONS, &figures(&mut client), &expected);
    drop(server);
    std::fs::remove_dir_all(&data).unwrap();
    let restored = Server::start(&copy, &options(1));
    let mut client = orders(&restored.engine(), DIMENSIONS, &copied_progress, &["--hold"]);
    check(&restored, DIMENSIONS, &figures(&mut client), &expected);
    // Nothing is copied over anything.
    let again = plimsoll()
        .args(["backup", "--data"])
        .arg(&copy)
        .arg("--to")
        .arg(&copy)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1));
}
