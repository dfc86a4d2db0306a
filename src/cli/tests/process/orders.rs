//! The real bookings, driven through the real binary, with and without kills.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Random, Server, bookings, plimsoll, seed, succeed, wait};

/// What a sequential run over the orders ends with.
pub(crate) fn expected(name: &str) -> Option<Value> {
    let text = std::fs::read(bookings("resort-expected.json")?).unwrap();
    Some(serde_json::from_slice::<Value>(&text).unwrap()[name].clone())
}

pub(crate) fn import(server: &Server) {
    let pools = bookings("resort-pools.csv").unwrap();
    succeed(server, &["pool", "import", pools.to_str().unwrap()]);
}

fn used_digest(server: &Server, dimensions: &str) -> String {
    let used = succeed(server, &["pool", "list", "--used", "--dimensions", dimensions]);
    Sha256::digest(used.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn orders(engine: &str, dimensions: &str, progress: &Path, options: &[&str]) -> Child {
    let file = bookings("resort-orders.csv.gz").unwrap();
    plimsoll()
        .arg("orders")
        .arg(file)
        .args(["--dimensions", dimensions, "--engine", engine, "--json", "--progress"])
        .arg(progress)
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn figures(child: &mut Child) -> Value {
    let status = wait(child);
    assert!(
        status.success(),
        "ended with {:?}; why stands on standard error",
        status.code()
    );
    let text = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

pub(crate) fn check(server: &Server, dimensions: &str, figures: &Value, expected: &Value) {
    for figure in ["accepted", "rejected", "released", "release_of_rejected", "live"] {
        assert_eq!(figures[figure], expected[figure], "{figure}");
    }
    assert_eq!(
        used_digest(server, dimensions),
        expected["used_sha256"].as_str().unwrap()
    );
}

fn every_order_gets_its_outcome(cores: &str, dimensions: &str, name: &str, held: &[&str]) {
    let Some(expected) = expected(name) else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = ["--dimensions", "rooms,guests", "--cores", cores];
    let server = Server::start(&data, &options);
    import(&server);
    let progress = directory.path().join("progress");
    let figures = figures(&mut orders(&server.engine(), dimensions, &progress, held));
    check(&server, dimensions, &figures, &expected);
    // After a clean stop the same stands there.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(&data, &options);
    check(&server, dimensions, &figures, &expected);
}

#[test]
fn rooms_on_one_core() {
    every_order_gets_its_outcome("1", "rooms", "first_night_rooms", &[]);
}

#[test]
fn rooms_on_two_cores() {
    every_order_gets_its_outcome("2", "rooms", "first_night_rooms", &[]);
}

#[test]
fn rooms_and_guests_on_one_core() {
    every_order_gets_its_outcome("1", "rooms,guests", "first_night_rooms_guests", &[]);
}

#[test]
fn rooms_and_guests_on_two_cores() {
    every_order_gets_its_outcome("2", "rooms,guests", "first_night_rooms_guests", &[]);
}

#[test]
fn rooms_held_and_confirmed_on_one_core() {
    every_order_gets_its_outcome("1", "rooms", "first_night_rooms", &["--hold"]);
}

#[test]
fn rooms_and_guests_held_and_confirmed_on_two_cores() {
    every_order_gets_its_outcome("2", "rooms,guests", "first_night_rooms_guests", &["--hold=10m"]);
}

/// Kills the engine under a running client, and the client too; both are started again until every order has its outcome.
fn orders_survive_kills_of_the_engine_and_of_the_client(held: &[&str]) {
    let Some(expected) = expected("first_night_rooms_guests") else {
        return;
    };
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let progress = directory.path().join("progress");
    let dimensions = "rooms,guests";
    let options = [
        "--dimensions",
        dimensions,
        "--cores",
        "2",
        "--segment-size",
        "1048576",
        "--hold-grace",
        "1s",
    ];
    let mut server = Server::start(&data, &options);
    import(&server);
    let listen = server.engine();
    let mut client = orders(&listen, dimensions, &progress, held);
    let (mut engine_kills, mut client_kills) = (0, 0);
    while engine_kills + client_kills < 24 {
        match client.try_wait().unwrap() {
            Some(status) if status.success() => break,
            // The engine was killed before the client had its first connection, which ends the command.
            Some(_) => client = orders(&listen, dimensions, &progress, held),
            None => {}
        }
        // The first two soon, one of each kind: a quick machine is done within a second.
        let (pause, is_engine) = match engine_kills + client_kills {
            0 => (50, true),
            1 => (50, false),
            _ => (50 + random.below(150), random.below(3) < 2),
        };
        std::thread::sleep(Duration::from_millis(pause));
        if is_engine {
            server.kill();
            server = Server::start_on(&data, &listen, &options);
            engine_kills += 1;
        } else {
            client.kill().unwrap();
            client.wait().unwrap();
            client = orders(&listen, dimensions, &progress, held);
            client_kills += 1;
        }
    }
    if !wait(&mut client).success() {
        client = orders(&listen, dimensions, &progress, held);
    }
    let figures = figures(&mut client);
    eprintln!("{engine_kills} kills of the engine, {client_kills} of the client");
    assert!(
        engine_kills > 0 && client_kills > 0,
        "the run was over before anything was killed"
    );
    check(&server, dimensions, &figures, &expected);
    // Once more: everything is known, nothing happens again.
    let again = crate::orders::figures(&mut orders(&listen, dimensions, &progress, held));
    check(&server, dimensions, &again, &expected);
}

#[test]
fn orders_survive_kills() {
    orders_survive_kills_of_the_engine_and_of_the_client(&[]);
}

/// With holds that expire while the client or the engine is down, so that some orders need another key.
#[test]
fn held_orders_survive_kills() {
    orders_survive_kills_of_the_engine_and_of_the_client(&["--hold=1s"]);
}
