//! Events as a stream.

use std::collections::BTreeSet;

use serde_json::json;

use crate::http::{definition, put, start};
use crate::http_client::{EventStream, call, get, reserve, send};
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
    assert_eq!((unknown.status, unknown.problem().as_str()), (422, "invalid"));

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

fn place(event: &serde_json::Value) -> (u64, String) {
    let (_, sequence) = event["id"].as_str().unwrap().split_once('-').unwrap();
    (
        sequence.parse().unwrap(),
        event["reservation"].as_str().unwrap().to_owned(),
    )
}
