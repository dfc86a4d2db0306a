//! Holds, confirmations, resizes and availability: by the commands, and by the client library.

use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_client::blocking::{Client, Holding};
use plimsoll_client::protocol::{self, UNITS_UNCHANGED};
use plimsoll_client::{
    AvailabilityQuery, Band, Confirming, Decided, Key, KeySource, Options, Reserve, Resize, Resizing, State, Status,
    Units,
};
use serde_json::Value;

use crate::support::{Server, fail, json, succeed};

/// A pool of two orders and ten items that may be overbooked by one order, and a large one.
const POOLS: &str = "\
name,zone,kind,starts_at,ends_at,coverage,orders,items,overbook_orders
north:08,north,slot,4102473600,4102480800,101 102,2,10,1
north:10,north,slot,4102480800,4102488000,101,100,1000,
south:08,south,slot,4102473600,4102480800,20,1,10,
";

fn start(directory: &Path) -> Server {
    let server = Server::start(
        &directory.join("data"),
        &["--dimensions", "orders,items", "--cores", "2"],
    );
    let pools = directory.join("pools.csv");
    std::fs::write(&pools, POOLS).unwrap();
    succeed(&server, &["pool", "import", pools.to_str().unwrap()]);
    server
}

fn reserve(server: &Server, options: &[&str]) -> (String, Value) {
    let reservation = json(server, &[&["reserve"], options].concat()).remove(0);
    (reservation["reservation"].as_str().unwrap().to_owned(), reservation)
}

/// What the pool has held and confirmed, in orders.
fn counters(server: &Server, pool: &str) -> (i64, i64) {
    let pool = json(server, &["pool", "get", pool]).remove(0);
    let orders = |figure: &str| pool[figure]["orders"].as_i64().unwrap();
    (orders("held"), orders("confirmed"))
}

/// Pool and band of each pool of the answer.
fn bands(server: &Server, options: &[&str]) -> Vec<(String, String)> {
    let answer = json(server, &[&["availability"], options].concat()).remove(0);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pools = answer["pools"].as_array().unwrap().iter();
    pools.map(|pool| (text(&pool["pool"]), text(&pool["band"]))).collect()
}

#[test]
fn a_hold_is_confirmed_and_released() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let (id, held) = reserve(&server, &["north:08", "--units", "orders=1,items=3", "--hold", "10m"]);
    assert_eq!((&held["state"], &held["version"]), (&"held".into(), &0.into()));
    assert!(held["expires_at"].is_string());
    assert_eq!(counters(&server, "north:08"), (1, 0));
    for _ in 0..2 {
        let confirmed = json(&server, &["confirm", &id]).remove(0);
        assert_eq!(
            (&confirmed["state"], &confirmed["expires_at"]),
            (&"confirmed".into(), &Value::Null)
        );
    }
    assert_eq!(counters(&server, "north:08"), (0, 1));
    fail(&server, &["resize", &id, "--hold", "1h"], 3, "error: not_held");
    succeed(&server, &["release", &id]);
    fail(&server, &["confirm", &id], 3, "error: reservation_ended");
    assert_eq!(counters(&server, "north:08"), (0, 0));
    fail(
        &server,
        &["confirm", "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        1,
        "error: reservation_not_found",
    );
    // A closed pool takes confirmations, and no reserves.
    let (id, _) = reserve(&server, &["north:08", "--units", "orders=1", "--hold", "10m"]);
    assert_eq!(succeed(&server, &["pool", "close", "north:08"]), "");
    fail(
        &server,
        &["reserve", "north:08", "--units", "orders=1"],
        3,
        "error: pool_closed",
    );
    succeed(&server, &["confirm", &id]);
    assert_eq!(
        bands(&server, &["--zone", "north"]),
        [("north:10".into(), "plenty".into())]
    );
    succeed(&server, &["pool", "open", "north:08"]);
    reserve(&server, &["north:08", "--units", "orders=1"]);
}

#[test]
fn a_hold_ends_at_its_deadline_and_is_shown_as_expired() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let began = Instant::now();
    let (id, _) = reserve(
        &server,
        &["south:08", "--units", "orders=1", "--hold", "1s", "--key", "cart-1"],
    );
    fail(
        &server,
        &["reserve", "south:08", "--units", "orders=1"],
        3,
        "orders has 0 left",
    );
    while json(&server, &["show", &id])[0]["state"] == "held" {
        // One second, and at most one more, by the contract; the rest is for a machine that is busy.
        assert!(began.elapsed() < Duration::from_secs(20), "it does not expire");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(json(&server, &["show", &id])[0]["state"], "expired");
    assert_eq!(counters(&server, "south:08"), (0, 0));
    fail(&server, &["confirm", &id], 3, "error: hold_expired");
    // The key still stands for that hold; the units are free for another.
    let (again, expired) = reserve(
        &server,
        &["south:08", "--units", "orders=1", "--hold", "1s", "--key", "cart-1"],
    );
    assert_eq!((again, &expired["state"]), (id, &"expired".into()));
    reserve(&server, &["south:08", "--units", "orders=1"]);
}

#[test]
fn of_two_resizes_from_one_version_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let (id, held) = reserve(&server, &["north:08", "--units", "orders=1,items=3", "--hold", "10m"]);
    let resized = json(&server, &["resize", &id, "--units", "items=5", "--version", "0"]).remove(0);
    assert_eq!(resized["units"], serde_json::json!({"orders": 1, "items": 5}));
    assert_eq!(
        (&resized["version"], &resized["expires_at"]),
        (&1.into(), &held["expires_at"])
    );
    fail(
        &server,
        &["resize", &id, "--units", "items=4", "--version", "0"],
        3,
        "error: changed_meanwhile",
    );
    let both = json(&server, &["resize", &id, "--units", "orders=2", "--hold", "1h"]).remove(0);
    assert_eq!(both["units"], serde_json::json!({"orders": 2, "items": 5}));
    assert_ne!(both["expires_at"], held["expires_at"]);
    fail(&server, &["resize", &id, "--units", "items=11"], 3, "items has 5 left");
    assert_eq!(json(&server, &["show", &id]).remove(0), both);
    fail(
        &server,
        &["resize", &id, "--units", "beds=1"],
        2,
        "no dimension \"beds\"",
    );
    fail(&server, &["resize", &id, "--units", "orders=0,items=0"], 2, "above 0");
}

#[test]
fn bands_follow_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let north = |orders: &str| bands(&server, &["--zone", "north", "--units", orders]);
    let band = |orders: &str| north(orders)[1].1.clone();
    assert_eq!(
        north("orders=1"),
        [
            ("north:08".into(), "plenty".into()),
            ("north:10".into(), "plenty".into())
        ]
    );
    for (taken, expected) in [("40", "plenty"), ("10", "some"), ("40", "low"), ("10", "none")] {
        reserve(
            &server,
            &["north:10", "--units", &format!("orders={taken}"), "--hold", "1h"],
        );
        assert_eq!(band("orders=1"), expected, "after {taken}");
    }
    // What does not fit is none, whatever is left.
    assert_eq!(north("orders=4")[0].1, "none");
    assert_eq!(
        bands(&server, &["--location", "10255"]),
        [("north:08".into(), "plenty".into())]
    );
    assert_eq!(bands(&server, &["--zone", "north", "--location", "20"]), []);
    assert_eq!(bands(&server, &["--zone", "north", "--kind", "seat"]), []);
    assert_eq!(bands(&server, &["--zone", "north", "--to", "4102480800"]).len(), 1);
    assert_eq!(
        bands(&server, &["--zone", "north", "--from", "2100-01-01T10:00:00Z"]).len(),
        1
    );
    let answer = json(&server, &["availability", "--zone", "north", "--exact", "--limit", "1"]).remove(0);
    assert_eq!(answer["truncated"], true);
    let pool = &answer["pools"][0];
    assert_eq!(
        (&pool["starts_at"], &pool["fits"]),
        (&"2100-01-01T08:00:00.000Z".into(), &true.into())
    );
    assert_eq!(pool["remaining"], serde_json::json!({"orders": 3, "items": 10}));
    let table = succeed(&server, &["availability", "--zone", "north", "--exact"]);
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn only_what_is_named_of_a_pool_changes() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let before = json(&server, &["pool", "get", "north:08"]).remove(0);
    let set = [
        "pool",
        "set",
        "north:08",
        "--limits",
        "items=20",
        "--closes-at",
        "4102473600",
        "--mode",
        "shadow",
    ];
    assert_eq!(succeed(&server, &set), "");
    let mut expected = before;
    // The ETag says which definition it is, by a number that counts them.
    let etag = expected["etag"].as_str().unwrap().trim_end_matches("1\"").to_owned();
    expected["etag"] = format!("{etag}2\"").into();
    expected["limits"]["items"] = 20.into();
    expected["remaining"]["items"] = 20.into();
    expected["closes_at"] = "2100-01-01T08:00:00.000Z".into();
    expected["mode"] = "shadow".into();
    assert_eq!(json(&server, &["pool", "get", "north:08"]).remove(0), expected);
    expected["etag"] = format!("{etag}3\"").into();
    expected["closes_at"] = Value::Null;
    expected["coverage"] = serde_json::json!([]);
    expected["overbook"]["orders"] = 0.into();
    expected["remaining"]["orders"] = 2.into();
    let set = [
        "pool",
        "set",
        "north:08",
        "--closes-at",
        "never",
        "--coverage",
        "",
        "--overbook",
        "orders=0",
    ];
    assert_eq!(json(&server, &set).remove(0), expected);
    assert_eq!(json(&server, &["pool", "get", "north:08"]).remove(0), expected);
    fail(
        &server,
        &["pool", "set", "nowhere", "--limits", "items=1"],
        1,
        "error: pool_not_found",
    );
    fail(
        &server,
        &["pool", "set", "north:08", "--limits", "beds=1"],
        2,
        "no dimension \"beds\"",
    );
    fail(
        &server,
        &["pool", "set", "north:08", "--ends-at", "0"],
        1,
        "error: invalid",
    );
}

fn connect(server: &Server) -> Client {
    Client::connect(server.engine(), Options::default()).unwrap()
}

fn cart(key: &str, hold_seconds: u64) -> Reserve<'static> {
    Reserve {
        hold: Some(Duration::from_secs(hold_seconds)),
        ..Reserve::new("south:08", Units::Named(&[("orders", 1)]), Key::from_text(key).unwrap())
    }
}

#[test]
fn a_dropped_hold_is_free_for_the_next_customer() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let client = connect(&server);
    let Ok(Holding::Held(hold)) = client.hold(&cart("a", 600)) else {
        panic!("it is held")
    };
    assert!(matches!(client.hold(&cart("b", 600)), Ok(Holding::Refused(_))));
    drop(hold.release_on_drop());
    // The last client of a thread waits for the release.
    drop(client);
    let client = connect(&server);
    let Ok(Holding::Held(hold)) = client.hold(&cart("b", 600)) else {
        panic!("it is free")
    };
    let mut hold = hold.release_on_drop();
    assert!(matches!(
        hold.extend(Duration::from_secs(900)),
        Ok(Resizing::Resized(_))
    ));
    assert!(matches!(hold.confirm(), Ok(Confirming::Confirmed(_))));
    let id = hold.id();
    drop(hold);
    drop(client);
    assert_eq!(connect(&server).reservations(&[id]).unwrap()[0].state, State::Confirmed);
}

#[test]
fn commands_of_all_kinds_share_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let client = connect(&server);
    let pool = client.resolve(&["north:10"]).unwrap()[0].unwrap();
    let reserve = |key, hold_seconds| protocol::Reserve {
        pool,
        key: Key(key),
        hold_seconds,
        occurred_at: None,
    };
    let mut batch = client.new_batch();
    batch.push_reserve(reserve(1, 600), &[1, 2], Some("one")).unwrap();
    batch.push_reserve(reserve(2, 600), &[1, 2], None).unwrap();
    batch.push_reserve(reserve(3, 0), &[101, 0], None).unwrap();
    let outcome = client.batch(batch).unwrap();
    let decided: Vec<Decided> = outcome.decided().collect();
    let [
        Decided::Applied(first),
        Decided::Applied(second),
        Decided::Refused(third),
    ] = &decided[..]
    else {
        panic!("{decided:?}")
    };
    assert!(
        third.is(Status::InsufficientCapacity) && third.remaining == [98, 996],
        "{third:?}"
    );
    let resize = protocol::Resize {
        reservation: first.id,
        version: Some(0),
        hold_seconds: 0,
        occurred_at: None,
    };
    let mut batch = outcome.into_batch();
    batch.clear();
    batch.push_resize(resize, &[UNITS_UNCHANGED, 5]).unwrap();
    batch.push_resize(resize, &[UNITS_UNCHANGED, 6]).unwrap();
    batch.push_confirm(first.id, None).unwrap();
    batch.push_release(second.id, None).unwrap();
    batch.push_confirm(second.id, None).unwrap();
    batch
        .set_traceparent(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
        .unwrap();
    let decided: Vec<Decided> = client.batch(batch).unwrap().decided().collect();
    let states: Vec<Result<State, Status>> = decided
        .iter()
        .map(|decided| match decided {
            Decided::Applied(reservation) => Ok(reservation.state),
            Decided::Refused(refusal) => Err(refusal.status.known().unwrap()),
            Decided::Unknown(unknown) => panic!("{unknown}"),
        })
        .collect();
    let expected = [
        Ok(State::Held),
        Err(Status::ChangedMeanwhile),
        Ok(State::Confirmed),
        Ok(State::Released),
        Err(Status::ReservationEnded),
    ];
    assert_eq!(states, expected);
    assert_eq!(client.reservations(&[first.id]).unwrap()[0].units, [1, 5]);
}

#[test]
fn names_that_are_remembered_follow_the_definitions() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let client = connect(&server);
    let zones = || {
        let query = AvailabilityQuery::of_location("10").fitting(Units::Named(&[("orders", 1)]));
        assert!(
            client.availability(&query).unwrap().pools.is_empty(),
            "no prefix is a prefix of it"
        );
        let found = client
            .availability(&AvailabilityQuery::of_location("101").exact())
            .unwrap();
        found
            .pools
            .iter()
            .map(|pool| {
                assert_eq!(
                    (pool.band, pool.fits, pool.remaining.is_some()),
                    (Band::Plenty, true, true)
                );
                format!("{} in {}, {}", pool.name, pool.zone, pool.kind)
            })
            .collect::<Vec<_>>()
    };
    let first = "north:08 in north, slot".to_owned();
    assert_eq!(zones(), [first.clone(), "north:10 in north, slot".to_owned()]);
    succeed(
        &server,
        &["pool", "set", "north:10", "--zone", "centre", "--kind", "van"],
    );
    for _ in 0..3 {
        assert_eq!(zones(), [first.clone(), "north:10 in centre, van".to_owned()]);
    }
}

#[test]
fn a_resize_by_version_has_one_effect_however_often_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let client = connect(&server);
    let Ok(Holding::Held(hold)) = client.hold(&Reserve {
        pool: "north:10".into(),
        ..cart("a", 600)
    }) else {
        panic!("it is held")
    };
    let resize = Resize {
        units: &[("orders", 7)],
        version: Some(0),
        ..Resize::new(hold.leave().id)
    };
    assert!(matches!(client.resize(&resize), Ok(Resizing::Resized(found)) if found.version == 1));
    let again = client.resize(&resize);
    assert!(
        matches!(&again, Ok(Resizing::Refused(refusal)) if refusal.is(Status::ChangedMeanwhile)),
        "{again:?}"
    );
    assert_eq!(counters(&server, "north:10"), (7, 0));
}
