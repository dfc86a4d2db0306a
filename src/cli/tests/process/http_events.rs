//! Events as a stream.

use std::collections::BTreeSet;

use serde_json::json;

use crate::http::{definition, put, start};
use crate::http_client::{EventStream, call, get, reserve, send};
use crate::http_service::Apart;
use crate::support::Server;

#[test]
fn events_come_as_they_happen() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(9, 9));
    put(http, "b", &definition(9, 9).replace("north", "south"));
    let mut all = EventStream::open(http, "", None);
    // At once it says how far it is behind, and from where it can be resumed.
    let first = all.next().unwrap();
    assert!(first.comment.unwrap().starts_with("lag_ms=") && first.id.is_some());
    let mut of_south = EventStream::open(http, "?zone=south", None);
    let mut of_kind = EventStream::open(http, "?pool=a&kind=released,expired", None);
    let reserved = reserve(http, "1", r#"{"pool":"a","units":{"rooms":1},"reference":"r"}"#).json();
    reserve(http, "2", r#"{"pool":"b","units":{"rooms":2}}"#);
    call(
        http,
        "DELETE",
        &format!("/v1/reservations/{}", reserved["reservation"].as_str().unwrap()),
        &[],
        "",
    );

    let mut told = BTreeSet::new();
    for _ in 0..3 {
        let event = all.event().unwrap();
        let data = event.data.unwrap();
        assert_eq!(data["kind"], event.event.unwrap());
        told.insert(format!(
            "{} {}",
            data["pool"].as_str().unwrap(),
            data["kind"].as_str().unwrap()
        ));
    }
    assert_eq!(
        told,
        ["a released", "a reserved", "b reserved"].map(str::to_owned).into()
    );
    assert_eq!(of_south.event().unwrap().data.unwrap()["units"]["rooms"], 2);
    let released = of_kind.event().unwrap();
    assert_eq!(
        (released.event.as_deref(), &released.data.unwrap()["pool"]),
        (Some("released"), &json!("a"))
    );

    for wrong in ["?kind=nonsense", "?pool=a%20b", "?since=soon", "?colour=red"] {
        assert_eq!(get(http, &format!("/v1/events{wrong}")).problem(), "invalid", "{wrong}");
    }
    let bad = call(http, "GET", "/v1/events", &[("last-event-id", "a b")], "");
    assert_eq!((bad.status, bad.problem().as_str()), (400, "bad-header"));
    let unknown = call(http, "GET", "/v1/events", &[("last-event-id", "abc")], "");
    assert_eq!((unknown.status, unknown.problem().as_str()), (400, "bad-header"));

    // A stop ends the streams, and is not held up by them.
    server.ask_to_stop();
    while all.next().is_some() {}
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_past_comes_first_when_it_is_asked_for() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(9, 9));
    for index in 0..5 {
        reserve(http, &index.to_string(), r#"{"pool":"a","units":{"rooms":1}}"#);
    }
    send(http, "PATCH", "/v1/pools/a", &[], r#"{"limits":{"rooms":20}}"#);
    let mut stream = EventStream::open(http, "?since=0&kind=pool_created&kind=pool_changed", None);
    let created = stream.event().unwrap();
    assert_eq!(created.data.unwrap()["definition"]["limits"]["rooms"], 9);
    let changed = stream.event().unwrap();
    assert_eq!(changed.data.unwrap()["definition"]["limits"]["rooms"], 20);
    let caught_up = stream.event().unwrap();
    assert_eq!(caught_up.event.as_deref(), Some("caught_up"));
    send(http, "PATCH", "/v1/pools/a", &[], r#"{"state":"closed"}"#);
    assert_eq!(stream.event().unwrap().data.unwrap()["definition"]["state"], "closed");
}

/// Reserves are made without a pause while the server is killed again and again. A reader that resumes where it was cut off is told each of them, those of the pool
/// in their order.
#[test]
fn a_stream_is_resumed_over_kills_without_a_loss() {
    const ROUNDS: usize = 3;
    const RESERVES: usize = 40;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = ["--dimensions", "rooms,guests", "--http", "127.0.0.1:0"];
    let mut server = Server::start(&data, &options);
    put(server.http(), "a", &definition(10_000, 10_000));
    let mut told: Vec<(u64, String)> = Vec::new();
    let mut made = BTreeSet::new();
    let mut last_id = None;
    for round in 0..ROUNDS {
        let http = server.http();
        let mut stream = EventStream::open(http, "?kind=reserved", last_id.as_deref());
        if last_id.is_none() {
            last_id = stream.next().unwrap().id;
        }
        for index in 0..RESERVES {
            let made_now = reserve(http, &format!("{round}-{index}"), r#"{"pool":"a","units":{"rooms":1}}"#);
            assert_eq!(made_now.status, 201);
            made.insert(made_now.json()["reservation"].as_str().unwrap().to_owned());
            // The reader keeps up with a part of them only.
            if index % 3 == 0
                && let Some(event) = stream
                    .event()
                    .filter(|event| event.event.as_deref() == Some("reserved"))
            {
                last_id = event.id.clone().or(last_id);
                told.push(place(&event.data.unwrap()));
            }
        }
        server.kill();
        server = Server::start(&data, &options);
    }
    let mut stream = EventStream::open(server.http(), "?kind=reserved", last_id.as_deref());
    loop {
        let event = stream.event().unwrap();
        match event.event.as_deref() {
            Some("reserved") => told.push(place(&event.data.unwrap())),
            _ => break,
        }
    }
    let found: BTreeSet<String> = told.iter().map(|(_, reservation)| reservation.clone()).collect();
    assert_eq!(found, made);
    assert!(told.is_sorted_by_key(|(sequence, _)| *sequence), "{told:?}");
}

/// Readers that take nothing: one of what happens is cut off, those of the past keep nobody else from it, and each is told everything when it resumes.
#[test]
fn a_slow_reader_is_cut_off_and_resumes_without_a_loss() {
    // More than what is kept for a reader, and more bytes than sockets take.
    const CHANGES: u32 = 500;
    const CATCHING_UP: usize = 4;
    let (_directory, server) = start(&[]);
    let http = server.http();
    let large = |rooms: u32| {
        let coverage: Vec<String> = (0..1024).map(|prefix| format!("{prefix:032}")).collect();
        let mut body: serde_json::Value = serde_json::from_str(&definition(rooms, 9)).unwrap();
        body["coverage"] = json!(coverage);
        body.to_string()
    };
    put(http, "a", &large(0));
    let mut slow = EventStream::open(http, "?kind=pool_changed", None);
    let mut fast = EventStream::open(http, "?kind=pool_changed", None);
    for rooms in 1..=CHANGES {
        assert_eq!(put(http, "a", &large(rooms)).status, 200);
        // What is told already is a page of its own.
        assert_eq!(rooms_of(&fast.event().unwrap().data.unwrap()), rooms);
    }

    let _stalled: Vec<_> = (0..CATCHING_UP)
        .map(|_| EventStream::open(http, "?since=0", None))
        .collect();
    let mut other = EventStream::open(http, "?since=0&kind=pool_created", None);
    // It does not say that it waits.
    let first = other.next().unwrap();
    assert!(first.comment.as_ref().unwrap().starts_with("lag_ms="), "{first:?}");
    assert_eq!(other.event().unwrap().data.unwrap()["pool"], "a");

    let mut told = Vec::new();
    let mut last_id = None;
    while let Some(next) = slow.next() {
        last_id = next.id.or(last_id);
        told.extend(next.data.map(|data| rooms_of(&data)));
        assert!(told.len() < CHANGES as usize, "it was not cut off");
    }
    let mut resumed = EventStream::open(http, "?kind=pool_changed", last_id.as_deref());
    while told.last() != Some(&CHANGES) {
        told.push(rooms_of(&resumed.event().unwrap().data.unwrap()));
    }
    assert_eq!(told, (1..=CHANGES).collect::<Vec<_>>());
}

fn rooms_of(event: &serde_json::Value) -> u32 {
    event["definition"]["limits"]["rooms"].as_u64().unwrap() as u32
}

/// Whoever resumes while the engine is away is told that it waits, and then what he asked for.
#[test]
fn a_stream_of_the_past_waits_for_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &["--dimensions", "rooms,guests"]);
    let address = server.engine();
    let apart = Apart::start(&address);
    put(apart.http, "a", &definition(9, 9));
    server.kill();
    let mut stream = EventStream::open(apart.http, "?since=0", None);
    assert_eq!(stream.next().unwrap().comment.as_deref(), Some("waiting"));
    let _server = Server::start_on(&data, &address, &["--dimensions", "rooms,guests"]);
    assert_eq!(stream.event().unwrap().event.as_deref(), Some("pool_created"));
}

fn place(event: &serde_json::Value) -> (u64, String) {
    let (_, sequence) = event["id"].as_str().unwrap().split_once('-').unwrap();
    (
        sequence.parse().unwrap(),
        event["reservation"].as_str().unwrap().to_owned(),
    )
}
