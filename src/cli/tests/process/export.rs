//! An export that is imported again changes nothing, on the engine that it is of and on another.

use std::path::Path;

use crate::support::{Server, bookings, fail, run, succeed};

const POOLS: &str = "\
name,zone,kind,starts_at,ends_at,opens_at,closes_at,coverage,state,mode,rooms,guests,overbook_rooms,overbook_guests
a,\"north, east\",\"a \"\"kind\"\"\",4102473600,4102480800,5,4102473600,101 2,closed,shadow,8,14,1,
b,north,slot,4102473600,4102480800,,,,,,0,2147483647,,2147483647
";

const UNCHANGED: &str = "created            0\nchanged            0\n";

fn start(data: &Path) -> Server {
    Server::start(data, &["--dimensions", "rooms,guests", "--cores", "2"])
}

fn exported(server: &Server, directory: &Path, name: &str) -> String {
    let path = directory.join(name).to_str().unwrap().to_owned();
    assert_eq!(succeed(server, &["pool", "export", &path]), "");
    path
}

/// Exports in every form, and imports each here and on an empty engine.
fn round_trip(server: &Server, directory: &Path) {
    let plain = succeed(server, &["pool", "export", "-"]);
    for name in ["pools.csv", "pools.csv.gz", "pools.ndjson", "pools.ndjson.gz"] {
        let path = exported(server, directory, name);
        assert!(
            succeed(server, &["pool", "import", &path]).starts_with(UNCHANGED),
            "{name}"
        );
        let other = start(&directory.join(format!("other-{name}")));
        succeed(&other, &["pool", "import", &path]);
        let definitions = |text: &str| -> Vec<String> {
            let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
            let header = cells(text.lines().next().unwrap());
            let end = header.iter().position(|name| name.starts_with("held_")).unwrap();
            // Commas within quotes come first, so that counting from the end is right.
            let behind = header.len() - end;
            text.lines()
                .map(|line| {
                    let cells = cells(line);
                    cells[..cells.len() - behind].join(",")
                })
                .collect()
        };
        assert_eq!(
            definitions(&succeed(&other, &["pool", "export", "-"])),
            definitions(&plain),
            "{name}"
        );
    }
}

#[test]
fn every_field_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"));
    let pools = directory.path().join("made.csv");
    std::fs::write(&pools, POOLS).unwrap();
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    succeed(&server, &["reserve", "b", "--units", "guests=3"]);
    let text = succeed(&server, &["pool", "export", "-"]);
    let last = text.lines().last().unwrap();
    assert!(
        last.ends_with(",0,2147483647,0,2147483647,0,0,0,3,0,4294967291"),
        "{last}"
    );
    round_trip(&server, directory.path());
}

#[test]
fn the_real_pools_come_back() {
    let Some(pools) = bookings("resort-pools.csv") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"));
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    let path = exported(&server, directory.path(), "pools.csv.gz");
    assert!(succeed(&server, &["pool", "import", &path]).starts_with(UNCHANGED));
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"));
    let path = exported(&server, directory.path(), "pools.csv");
    let before = std::fs::read(&path).unwrap();
    fail(
        &server,
        &["pool", "export", "pools.txt"],
        2,
        "the ending says neither CSV nor NDJSON",
    );
    fail(
        &server,
        &["pool", "export", "missing/pools.csv"],
        1,
        "error: cannot write missing/pools.csv",
    );
    let engine = server.engine();
    assert_eq!(server.terminate(), Some(0));
    let other = start(&directory.path().join("other"));
    let output = run(&other, &["pool", "export", &path, "--timeout", "1s"]);
    assert!(output.status.success(), "an engine that is there: {engine} was another");
    assert_eq!(std::fs::read(&path).unwrap(), before, "both have no pools");
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".plimsoll-export")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
