//! Pools go back to an earlier moment, through a running server and on a stopped directory.

use std::path::Path;

use serde_json::Value;

use crate::support::{Server, fail, json, plimsoll, succeed};

const SMALL: [&str; 6] = [
    "--segment-size",
    "256KiB",
    "--snapshot-after",
    "512KiB",
    "--journal-space",
    "8MiB",
];

fn start(data: &Path, cores: &str) -> Server {
    Server::start(
        data,
        &[&SMALL[..], &["--dimensions", "rooms", "--cores", cores]].concat(),
    )
}

fn pool(server: &Server, directory: &Path, name: &str, limit: u32) {
    let path = directory.join("pool.csv");
    std::fs::write(
        &path,
        format!("name,zone,kind,starts_at,ends_at,rooms\n{name},north,rooms,0,1,{limit}\n"),
    )
    .unwrap();
    succeed(server, &["pool", "import", path.to_str().unwrap()]);
}

fn reserve(server: &Server, pool: &str, rooms: &str, options: &[&str]) -> String {
    let arguments = [&["reserve", pool, "--units", rooms][..], options].concat();
    json(server, &arguments)[0]["reservation"].as_str().unwrap().to_owned()
}

fn state_of(server: &Server, id: &str) -> String {
    json(server, &["show", id])[0]["state"].as_str().unwrap().to_owned()
}

fn now() -> String {
    // Times of events are the owner's, microseconds; what was answered before lies before.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let now = jiff::Timestamp::now().to_string();
    std::thread::sleep(std::time::Duration::from_millis(5));
    now
}

/// Runs `replay reset` through the server, or on a directory.
fn reset(place: &[&str], arguments: &[&str]) -> std::process::Output {
    plimsoll()
        .args(["replay", "reset"])
        .args(arguments)
        .args(place)
        .output()
        .unwrap()
}

fn done(output: &std::process::Output) -> Vec<Value> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_is_again_through_a_running_server_and_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start(&data, "2");
    pool(&server, directory.path(), "slot", 10);
    let stays = reserve(
        &server,
        "slot",
        "rooms=1",
        &["--key", "stays", "--reference", "the first"],
    );
    let ends = reserve(
        &server,
        "slot",
        "rooms=2",
        &["--key", "ends", "--reference", "the second"],
    );
    let held = reserve(&server, "slot", "rooms=1", &["--hold", "10m"]);
    let then = now();
    succeed(&server, &["release", &ends]);
    succeed(&server, &["confirm", &held]);
    let made = reserve(&server, "slot", "rooms=4", &["--key", "made"]);
    succeed(&server, &["pool", "set", "slot", "--limits", "rooms=3"]);

    let engine = server.engine();
    let place = ["--engine", &engine, "--json"];
    let listed = done(&reset(&place, &["slot", "--to", &then, "--dry-run"]));
    let changes = listed[0]["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 3, "{changes:?}");
    let of = |id: &str| changes.iter().find(|change| change["reservation"] == id).unwrap();
    assert_eq!(of(&made)["kind"], "released");
    assert_eq!(of(&ends)["kind"], "restored");
    assert_eq!(of(&ends)["reference"], "the second");
    assert_eq!(
        (&of(&held)["before"]["state"], &of(&held)["after"]["state"]),
        (&"confirmed".into(), &"held".into())
    );
    assert_eq!(state_of(&server, &made), "confirmed", "a dry run changes nothing");

    // Without a version, and with one that does not stand any more, nothing happens.
    let version = listed[0]["version"].as_str().unwrap().to_owned();
    assert_eq!(reset(&place, &["slot", "--to", &then]).status.code(), Some(2));
    let real = reset(&place, &["slot", "--to", &then, "--version", &version]);
    assert_eq!(done(&real)[0]["change_count"], 3);

    let check = |server: &Server| {
        let pool = &json(server, &["pool", "get", "slot"])[0];
        assert_eq!(pool["confirmed"]["rooms"], 3);
        assert_eq!(pool["held"]["rooms"], 1);
        // Its definition stays; so it stands above its limit, and sells nothing.
        assert_eq!(pool["limits"]["rooms"], 3);
        assert_eq!(state_of(server, &stays), "confirmed");
        assert_eq!(state_of(server, &ends), "confirmed");
        assert_eq!(state_of(server, &held), "held");
        assert_eq!(state_of(server, &made), "released");
        fail(
            server,
            &["reserve", "slot", "--units", "rooms=1"],
            3,
            "insufficient_capacity",
        );
        // Keys lead where they led: to what lives again, and to what ended.
        assert_eq!(
            reserve(
                server,
                "slot",
                "rooms=2",
                &["--key", "ends", "--reference", "the second"]
            ),
            ends
        );
        assert_eq!(reserve(server, "slot", "rooms=4", &["--key", "made"]), made);
    };
    check(&server);
    server.kill();
    let server = start(&data, "2");
    check(&server);
    // Another number of cores takes ids and keys along.
    assert_eq!(server.terminate(), Some(0));
    let server = start(&data, "1");
    check(&server);
    succeed(&server, &["confirm", &held]);
    succeed(&server, &["release", &ends]);
    assert_eq!(state_of(&server, &ends), "released");
    let events = json(&server, &["pool", "events", "slot"]);
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"pool_reset") && kinds.contains(&"restored"),
        "{kinds:?}"
    );
    let by_reset = events
        .iter()
        .find(|event| event["reservation"] == *made && event["kind"] == "released");
    assert_eq!(by_reset.unwrap()["cause"], "reset");
    assert_eq!(server.terminate(), Some(0));
    let verified = plimsoll()
        .args(["replay", "verify", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}

#[test]
fn a_stopped_directory_is_reset_with_its_attributes() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start(&data, "1");
    pool(&server, directory.path(), "slot", 10);
    let first = reserve(&server, "slot", "rooms=2", &[]);
    let then = now();
    succeed(&server, &["release", &first]);
    succeed(&server, &["pool", "set", "slot", "--limits", "rooms=5"]);
    succeed(&server, &["pool", "close", "slot"]);
    let place = ["--data", data.to_str().unwrap(), "--json"];
    let busy = reset(&place, &["slot", "--to", &then, "--any-version"]);
    assert!(
        String::from_utf8_lossy(&busy.stderr).contains("--engine"),
        "{}",
        String::from_utf8_lossy(&busy.stderr)
    );
    assert_eq!(server.terminate(), Some(0));
    let listed = done(&reset(&place, &["slot", "--to", &then, "--attributes", "--dry-run"]));
    let version = listed[0]["version"].as_str().unwrap();
    assert_eq!(listed[0]["change_count"], 2);
    let real = reset(&place, &["slot", "--to", &then, "--attributes", "--version", version]);
    assert_eq!(done(&real)[0]["after"]["limits"]["rooms"], 10);
    let server = start(&data, "1");
    let pool = &json(&server, &["pool", "get", "slot"])[0];
    assert_eq!((&pool["state"], &pool["limits"]["rooms"]), (&"open".into(), &10.into()));
    assert_eq!(state_of(&server, &first), "confirmed");
}

#[test]
fn a_pool_that_changed_since_is_not_reset() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start(&data, "1");
    pool(&server, directory.path(), "slot", 10);
    pool(&server, directory.path(), "other", 10);
    let then = now();
    let made = reserve(&server, "slot", "rooms=1", &[]);
    let engine = server.engine();
    let place = ["--engine", &engine, "--json"];
    let listed = done(&reset(&place, &["slot", "other", "--to", &then, "--dry-run"]));
    let versions = format!(
        "{},{}",
        listed[0]["version"].as_str().unwrap(),
        listed[1]["version"].as_str().unwrap()
    );
    reserve(&server, "other", "rooms=1", &[]);
    let refused = reset(&place, &["slot", "other", "--to", &then, "--version", &versions]);
    assert_eq!(
        refused.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.starts_with("error: other: changed_meanwhile"), "{error}");
    assert!(error.contains("no pool was reset"), "{error}");
    assert_eq!(error.matches("is not current").count(), 1, "{error}");
    // Neither of the two.
    assert_eq!(state_of(&server, &made), "confirmed");
    // No version is any version but by its own word.
    for version in ["0", "0000000000000000", "+1f0c3a27be4d508"] {
        let usage = reset(&place, &["slot", "--to", &then, "--version", version]);
        assert_eq!(usage.status.code(), Some(2), "{version}");
    }
    assert_eq!(state_of(&server, &made), "confirmed");
    let future = reset(&place, &["slot", "--to", "2100-01-01T00:00:00Z", "--any-version"]);
    assert!(String::from_utf8_lossy(&future.stderr).contains("has not come"));
    let before = reset(&place, &["slot", "--to", "2020-01-01T00:00:00Z", "--any-version"]);
    assert!(String::from_utf8_lossy(&before.stderr).contains("did not exist then"));
}

/// A hold's deadline passes while the directory lies still: a dry run changes nothing, and the version stands.
#[test]
fn a_dry_run_on_a_stopped_directory_records_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start(&data, "1");
    pool(&server, directory.path(), "slot", 10);
    reserve(&server, "slot", "rooms=1", &["--hold", "1s"]);
    let then = now();
    let made = reserve(&server, "slot", "rooms=2", &[]);
    assert_eq!(server.terminate(), Some(0));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let place = ["--data", data.to_str().unwrap(), "--json"];
    let events = || {
        let output = plimsoll()
            .args(["replay", "dump", "--data"])
            .arg(&data)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = events();
    let listed = done(&reset(&place, &["slot", "--to", &then, "--dry-run"]));
    assert_eq!(events(), before);
    let again = done(&reset(&place, &["slot", "--to", &then, "--dry-run"]));
    assert_eq!(events(), before);
    assert_eq!(listed, again);
    let version = listed[0]["version"].as_str().unwrap();
    done(&reset(&place, &["slot", "--to", &then, "--version", version]));
    let server = start(&data, "1");
    assert_eq!(state_of(&server, &made), "released");
}

/// More is printed than a buffer holds, and nobody reads it.
#[test]
fn all_pools_are_reset_when_the_reader_goes_away() {
    const POOL_COUNT: usize = 250;
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), "1");
    let long = "x".repeat(100);
    let names: Vec<String> = (0..POOL_COUNT).map(|number| format!("{long}-{number}")).collect();
    let mut pools = "name,zone,kind,starts_at,ends_at,rooms\n".to_owned();
    let mut orders = "at,op,order,pool,rooms\n".to_owned();
    for name in &names {
        pools.push_str(&format!("{name},z,k,0,1,9\n"));
        orders.push_str(&format!("1,reserve,{},{name},1\n", &name[101..]));
    }
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    succeed(&server, &["pool", "import", &write("pools.csv", &pools)]);
    let then = now();
    let progress = write("progress", "");
    let figures = json(
        &server,
        &["orders", &write("orders.csv", &orders), "--progress", &progress],
    );
    assert_eq!(figures[0]["accepted"], POOL_COUNT);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = plimsoll()
        .args(["replay", "reset"])
        .args(&names)
        .args(["--to", &then, "--any-version", "--json", "--engine", &server.engine()])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let used = succeed(&server, &["pool", "list", "--used"]);
    assert_eq!(used.lines().filter(|line| line.ends_with(",0")).count(), POOL_COUNT);
}
