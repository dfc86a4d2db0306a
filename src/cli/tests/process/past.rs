//! What a data directory remembers, looked into with `plimsoll replay`: beside a running server, and of a stopped one.

use std::path::Path;

use plimsoll_form::json::{Json, repeated};
use serde_json::Value;

use crate::orders::{check, expected, figures, import, orders};
use crate::repairs::wait_for_history;
use crate::support::{Random, Server, bookings, plimsoll, seed, succeed};

/// Small segments, so that history lies in archives as well.
const SMALL: [&str; 6] = [
    "--segment-size",
    "64KiB",
    "--snapshot-after",
    "256KiB",
    "--journal-space",
    "4MiB",
];

/// Segments that an import of thousands of pools finds room in right after the start, when only half of the first one is for it.
const LARGER: [&str; 6] = [
    "--segment-size",
    "4MiB",
    "--snapshot-after",
    "4MiB",
    "--journal-space",
    "64MiB",
];

/// Runs `plimsoll replay` to its end; what it printed.
pub(crate) fn replay(data: &Path, arguments: &[&str]) -> String {
    let output = plimsoll()
        .arg("replay")
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A name that stands twice in one object of a line of JSON.
fn repeated_key(line: &str) -> Option<String> {
    fn of(value: &Json) -> Option<String> {
        match value {
            Json::Object(fields) => {
                let here = repeated(fields).map(str::to_owned);
                here.or_else(|| fields.iter().find_map(|(_, value)| of(value)))
            }
            Json::List(items) => items.iter().find_map(of),
            _ => None,
        }
    }
    of(&serde_json::from_str(line).unwrap())
}

pub(crate) fn pools(server: &Server, directory: &Path, count: usize, limit: u32) {
    let mut file = String::from("name,zone,kind,starts_at,ends_at,rooms\n");
    for pool in 0..count {
        file.push_str(&format!("pool-{pool},north,rooms,0,1,{limit}\n"));
    }
    let path = directory.join("pools.csv");
    std::fs::write(&path, file).unwrap();
    succeed(server, &["pool", "import", path.to_str().unwrap()]);
}

/// A file of orders that reserve and release at random.
pub(crate) fn order_file(directory: &Path, count: u64, random: &mut Random) -> std::path::PathBuf {
    let mut file = String::from("at,op,order,pool,rooms\n");
    let mut live = Vec::new();
    for order in 0..count {
        if random.below(3) == 0 && !live.is_empty() {
            let (order, pool) = live.swap_remove(random.below(live.len() as u64) as usize);
            file.push_str(&format!("{},release,order-{order},pool-{pool},0\n", order + 1));
        } else {
            let pool = random.below(7);
            file.push_str(&format!("{},reserve,order-{order},pool-{pool},1\n", order + 1));
            live.push((order, pool));
        }
    }
    let path = directory.join("orders.csv");
    std::fs::write(&path, file).unwrap();
    path
}

pub(crate) fn drive(server: &Server, file: &Path, progress: &Path) {
    let progress = progress.to_str().unwrap();
    succeed(server, &["orders", file.to_str().unwrap(), "--progress", progress]);
}

#[test]
fn history_is_told_beside_a_running_server_and_after_another_number_of_cores() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = [&SMALL[..], &["--dimensions", "rooms", "--cores", "1"]].concat();
    let server = Server::start(&data, &options);
    pools(&server, directory.path(), 7, 100_000);
    let file = order_file(directory.path(), 6_000, &mut random);
    drive(&server, &file, &directory.path().join("first"));
    let used = succeed(&server, &["pool", "list", "--used"]);
    let now = jiff::Timestamp::now().to_string();

    // Read your writes: what was answered is durable, and so it is seen.
    assert_eq!(replay(&data, &["state", "--used"]), used);
    replay(&data, &["verify"]);
    let dumped = replay(&data, &["dump"]);
    for line in dumped.lines() {
        assert_eq!(repeated_key(line), None, "{line}");
    }
    assert_eq!(
        repeated_key(r#"{"a":[{"b":1,"c":{"b":1}},{"d":1,"d":2}]}"#).as_deref(),
        Some("d")
    );
    let events = lines(&dumped);
    let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!(count("pool_created"), 7);
    assert_eq!(count("reserved") + count("released"), 6_000);

    // The pool's history leaves what the pool has.
    let history = lines(&replay(&data, &["history", "pool-3", "--json"]));
    let of_pool = lines(&replay(&data, &["dump", "--pool", "pool-3"]));
    assert_eq!(history.len(), of_pool.len());
    let last = &history.last().unwrap()["after"];
    assert!(used.contains(&format!("pool-3,{}\n", last["confirmed"]["rooms"])));
    for event in &history {
        assert_eq!(event["pool"], "pool-3");
        let after = event["after"]["confirmed"]["rooms"].as_i64().unwrap();
        assert!((0..=100_000).contains(&after), "{event}");
    }

    // One order, by its reference, from its reserve to its end.
    let released = events.iter().find(|event| event["kind"] == "released").unwrap();
    let id = released["reservation"].as_str().unwrap();
    let life = lines(&replay(&data, &["history", "--reservation", id, "--json"]));
    let kinds: Vec<_> = life.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reserved", "released"]);
    let reference = life[0]["reference"].as_str().unwrap();
    assert_eq!(life[1]["reference"], reference);
    let found = lines(&replay(&data, &["dump", "--reference", reference]));
    assert_eq!(found.len(), 2);
    let by_key = lines(&replay(&data, &["dump", "--key", life[0]["key"].as_str().unwrap()]));
    assert_eq!(by_key.len(), 2);

    // Two cores from now on; the past stays what it was.
    assert_eq!(server.terminate(), Some(0));
    let options = [&SMALL[..], &["--cores", "2"]].concat();
    let server = Server::start(&data, &options);
    drive(&server, &file, &directory.path().join("second"));
    let second = order_file(directory.path(), 3_000, &mut random);
    drive(&server, &second, &directory.path().join("third"));
    assert_eq!(replay(&data, &["state", "--used", "--at", &now]), used);
    assert_eq!(
        replay(&data, &["state", "pool-3", "--used", "--at", &now]),
        used.lines()
            .find(|line| line.starts_with("pool-3,"))
            .unwrap()
            .to_owned()
            + "\n"
    );
    replay(&data, &["verify"]);

    // What changed since is the difference between the two.
    let later = succeed(&server, &["pool", "list", "--used"]);
    let changes = lines(&replay(&data, &["diff", "--from", &now, "--json"]));
    let rooms = |text: &str, pool: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{pool},"))).unwrap();
        line.split(',').nth(1).unwrap().parse::<i64>().unwrap()
    };
    for change in &changes {
        let pool = change["pool"].as_str().unwrap();
        assert_eq!(change["before"]["confirmed"]["rooms"], rooms(&used, pool));
        assert_eq!(change["after"]["confirmed"]["rooms"], rooms(&later, pool));
        let grown = change["began"].as_i64().unwrap() - change["ended"].as_i64().unwrap();
        assert_eq!(grown, rooms(&later, pool) - rooms(&used, pool), "{change}");
    }

    // What was applied is not taken back.
    for to in ["lsn:0:100", "2026-01-01T00:00:00Z"] {
        let output = plimsoll()
            .args(["replay", "diff", "--from", "lsn:0:400", "--to", to, "--data"])
            .arg(&data)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("--from lies behind --to"), "{error}");
    }
    let unchanged = (0..7).filter(|pool| !changes.iter().any(|change| change["pool"] == format!("pool-{pool}")));
    for pool in unchanged {
        let pool = format!("pool-{pool}");
        assert_eq!(rooms(&used, &pool), rooms(&later, &pool));
    }
    assert_eq!(server.terminate(), Some(0));
    replay(&data, &["verify"]);
}

#[test]
fn damage_is_named_and_ends_with_1() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = [&SMALL[..], &["--dimensions", "rooms", "--cores", "1"]].concat();
    let server = Server::start(&data, &options);
    pools(&server, directory.path(), 7, 100_000);
    let file = order_file(directory.path(), 4_000, &mut random);
    drive(&server, &file, &directory.path().join("progress"));
    wait_for_history(&data, false, 1);
    assert_eq!(server.terminate(), Some(0));
    let journal = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-"))
        .unwrap();
    let archive = journal.join("archive/0000000001.archive");
    let mut bytes = std::fs::read(&archive).unwrap();
    let place = random.below(bytes.len() as u64) as usize;
    bytes[place] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let output = plimsoll()
        .args(["replay", "verify", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "byte {place}: {error}");
    assert!(
        error.contains("0000000001.archive is damaged at offset"),
        "byte {place}: {error}"
    );
}

#[test]
fn wrong_usage_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let output = plimsoll().arg("replay").args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    let nowhere = directory.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    check(
        &["verify", "--data", nowhere],
        1,
        "name a data directory of plimsoll with --data",
    );
    let data = directory.path().join("data");
    let server = Server::start(&data, &["--dimensions", "rooms", "--cores", "1"]);
    let data = data.to_str().unwrap();
    check(&["state", "--data", data, "--at", "yesterday"], 2, "RFC 3339");
    check(&["state", "--data", data, "--at", "lsn:9999"], 2, "has no LSN 9999");
    check(&["state", "--data", data, "--at", "lsn:7:1"], 2, "there is no core 7");
    check(
        &["history", "nobody", "--data", data],
        1,
        "there never was a pool \"nobody\"",
    );
    check(&["history", "--data", data], 2, "required");
    check(&["dump", "--data", data, "--kind", "sold"], 2, "pool_created");
    check(
        &[
            "diff",
            "--data",
            data,
            "--from",
            "2026-01-02T00:00:00Z",
            "--to",
            "2026-01-01T00:00:00Z",
        ],
        2,
        "--from lies behind --to",
    );
    drop(server);
}

/// The state in the middle of the real bookings is that of a fresh run of their first half.
#[test]
fn the_middle_of_the_real_bookings_is_a_run_of_their_first_half() {
    let Some(all) = bookings("resort-orders.csv.gz") else {
        return;
    };
    let Some(expected) = expected("first_night_rooms_guests") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let half = directory.path().join("half.csv");
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(std::fs::File::open(all).unwrap())).unwrap();
    let count = text.lines().count() / 2;
    let first: Vec<&str> = text.lines().take(count).collect();
    std::fs::write(&half, first.join("\n") + "\n").unwrap();
    let dimensions = "rooms,guests";
    let run_half = |data: &Path, progress: &Path| {
        let options = [&LARGER[..], &["--dimensions", dimensions, "--cores", "2"]].concat();
        let server = Server::start(data, &options);
        import(&server);
        let arguments = [
            "orders",
            half.to_str().unwrap(),
            "--dimensions",
            dimensions,
            "--progress",
        ];
        succeed(&server, &[&arguments[..], &[progress.to_str().unwrap()]].concat());
        server
    };
    let data = directory.path().join("data");
    let server = run_half(&data, &directory.path().join("first"));
    let middle = jiff::Timestamp::now().to_string();
    let fresh = run_half(&directory.path().join("fresh"), &directory.path().join("other"));
    let used_by_half = succeed(&fresh, &["pool", "list", "--used"]);
    // The whole file: its first half is driven again, on top of the first.
    let driven = figures(&mut orders(
        &server.engine(),
        dimensions,
        &directory.path().join("whole"),
        &[],
    ));
    assert_ne!(driven["accepted"], expected["accepted"]);
    assert_eq!(replay(&data, &["state", "--used", "--at", &middle]), used_by_half);
    assert_ne!(replay(&data, &["state", "--used"]), used_by_half);
    replay(&data, &["verify"]);
}

/// After the whole file its pools go back to the middle; the second half, driven again, ends with the expected figures.
#[test]
fn the_real_bookings_go_back_to_their_middle_and_end_as_expected() {
    let Some(all) = bookings("resort-orders.csv.gz") else {
        return;
    };
    let Some(expected) = expected("first_night_rooms_guests") else {
        return;
    };
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(std::fs::File::open(all).unwrap())).unwrap();
    let count = text.lines().count() / 2;
    let middle_line = text.lines().nth(count).unwrap();
    let half: String = middle_line.split(',').next().unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let progress = directory.path().join("progress");
    let dimensions = "rooms,guests";
    let options = [&LARGER[..], &["--dimensions", dimensions, "--cores", "2"]].concat();
    let server = Server::start(&data, &options);
    import(&server);
    let drive =
        |server: &Server, options: &[&str]| figures(&mut orders(&server.engine(), dimensions, &progress, options));
    drive(&server, &["--until", &half]);
    let used_then = succeed(&server, &["pool", "list", "--used"]);
    let then = jiff::Timestamp::now().to_string();
    let driven = drive(&server, &[]);
    check(&server, dimensions, &driven, &expected);
    assert_eq!(
        succeed(&server, &["pool", "list", "--used", "--as-of", &then]),
        used_then
    );

    let names: Vec<String> = used_then
        .lines()
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    let engine = server.engine();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = plimsoll()
        .args(["replay", "reset"])
        .args(&names)
        .args(["--to", &then, "--any-version", "--engine", &engine])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(succeed(&server, &["pool", "list", "--used"]), used_then);
    // Also after a crash.
    server.kill();
    let server = Server::start(&data, &options);
    assert_eq!(succeed(&server, &["pool", "list", "--used"]), used_then);
    let driven = drive(&server, &["--again-after", &half]);
    check(&server, dimensions, &driven, &expected);
    assert_eq!(server.terminate(), Some(0));
    replay(&data, &["verify"]);
}
