//! Reservations and availability over HTTP.

use std::net::SocketAddr;

use serde_json::json;

use crate::http_client::{Reply, call, get, raw, reserve, send};
use crate::support::Server;

/// A definition as `PUT` takes it, with two dimensions.
pub(crate) fn definition(rooms: u32, guests: u32) -> String {
    json!({
        "zone": "north", "kind": "stay", "starts_at": "2030-01-04T08:00:00Z", "ends_at": "2030-01-04T10:00:00Z",
        "limits": {"rooms": rooms, "guests": guests}, "coverage": ["10", "2"],
    })
    .to_string()
}

pub(crate) fn put(http: SocketAddr, name: &str, definition: &str) -> Reply {
    send(http, "PUT", &format!("/v1/pools/{name}"), &[], definition)
}

/// A server with HTTP, and its directory.
pub(crate) fn start(options: &[&str]) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let options = [&["--dimensions", "rooms,guests", "--http", "127.0.0.1:0"], options].concat();
    let server = Server::start(&directory.path().join("data"), &options);
    (directory, server)
}

#[test]
fn the_life_of_a_reservation() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    assert_eq!(put(http, "a:1", &definition(2, 9)).status, 201);

    let body = r#"{"pool":"a:1","units":{"rooms":1,"guests":2},"hold_seconds":600,"reference":"order 7"}"#;
    let first = reserve(http, "key-1", body);
    assert_eq!(first.status, 201, "{first:?}");
    let held = first.json();
    let id = held["reservation"].as_str().unwrap().to_owned();
    assert_eq!(first.header("location"), Some(&*format!("/v1/reservations/{id}")));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(
        (&held["pool"], &held["state"], &held["reference"], &held["units"]),
        (
            &json!("a:1"),
            &json!("held"),
            &json!("order 7"),
            &json!({"rooms": 1, "guests": 2})
        )
    );
    assert!(held["expires_at"].is_string() && held["created_at"].is_string());

    // Again: the same, as it is now.
    let path = format!("/v1/reservations/{id}");
    let resized = send(
        http,
        "PATCH",
        &path,
        &[],
        r#"{"units":{"guests":3},"hold_seconds":900}"#,
    );
    assert_eq!(
        (resized.status, &resized.json()["units"]["guests"]),
        (200, &json!(3)),
        "{resized:?}"
    );
    let again = reserve(http, "\"key-1\"", body);
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, Some("true")),
        "{again:?}"
    );
    assert_eq!(
        (&again.json()["units"]["guests"], &again.json()["reservation"]),
        (&json!(3), &json!(id))
    );
    let other = reserve(http, "key-1", r#"{"pool":"a:1","units":{"rooms":2}}"#);
    assert_eq!((other.status, other.problem().as_str()), (422, "key-reused"));

    let confirmed = call(http, "POST", &format!("{path}/confirm"), &[], "");
    assert_eq!(
        (confirmed.status, &confirmed.json()["state"]),
        (200, &json!("confirmed"))
    );
    assert_eq!(
        (&confirmed.json()["expires_at"], &confirmed.json()["reference"]),
        (&json!(null), &json!("order 7"))
    );
    assert_eq!(call(http, "POST", &format!("{path}/confirm"), &[], "").status, 200);
    let not_held = send(http, "PATCH", &path, &[], r#"{"hold_seconds":60}"#);
    assert_eq!((not_held.status, not_held.problem().as_str()), (409, "not-held"));
    let too_many = send(http, "PATCH", &path, &[], r#"{"units":{"rooms":3}}"#);
    assert_eq!(
        (too_many.status, too_many.problem().as_str()),
        (409, "insufficient-capacity")
    );
    assert_eq!(get(http, &path.to_lowercase()).json()["units"]["rooms"], 1);

    let full = reserve(http, "key-2", r#"{"pool":"a:1","units":{"rooms":2}}"#);
    assert_eq!((full.status, full.problem().as_str()), (409, "insufficient-capacity"));
    let full = full.json();
    assert_eq!(full["requested"], json!({"rooms": 2, "guests": 0}));
    assert_eq!(full["dimensions"], json!(["rooms"]));
    assert_eq!(full["remaining"], json!({"rooms": 1, "guests": 6}));
    // A refusal leaves no trace of its key.
    assert_eq!(
        reserve(http, "key-2", r#"{"pool":"a:1","units":{"rooms":1}}"#).status,
        201
    );

    let released = call(http, "DELETE", &path, &[], "");
    assert_eq!((released.status, &released.json()["state"]), (200, &json!("released")));
    let again = call(http, "POST", &format!("{path}/release"), &[], "");
    assert_eq!((again.status, &again.json()["state"]), (200, &json!("released")));
    let ended = call(http, "POST", &format!("{path}/confirm"), &[], "");
    assert_eq!((ended.status, ended.problem().as_str()), (409, "reservation-ended"));

    let found = get(http, "/v1/reservations?reference=order%207").json();
    assert_eq!(
        (&found["reservations"][0]["reservation"], &found["next"]),
        (&json!(id), &json!(null))
    );
    let found = get(http, "/v1/reservations?pool=a:1&state=confirmed&limit=1").json();
    assert_eq!(found["reservations"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_done_has_its_status() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    let check = |reply: Reply, status: u16, slug: &str| {
        assert_eq!((reply.status, reply.problem().as_str()), (status, slug), "{reply:?}");
        reply
    };
    let reserve_with = |body: &str| reserve(http, "k", body);
    check(
        send(
            http,
            "POST",
            "/v1/reservations",
            &[],
            r#"{"pool":"a","units":{"rooms":1}}"#,
        ),
        400,
        "key-missing",
    );
    check(
        reserve(http, "a b", r#"{"pool":"a","units":{"rooms":1}}"#),
        400,
        "bad-header",
    );
    check(
        reserve(http, &"x".repeat(256), r#"{"pool":"a","units":{"rooms":1}}"#),
        400,
        "bad-header",
    );
    check(reserve_with("{\"pool\": \"a\",\n\"units\": "), 400, "not-json");
    check(
        reserve_with(r#"{"pool":"none","units":{"rooms":1}}"#),
        404,
        "pool-not-found",
    );
    check(
        reserve_with(r#"{"pools":["a"],"units":{"rooms":1}}"#),
        422,
        "unsupported",
    );
    check(
        reserve_with(r#"{"any_of":["a"],"units":{"rooms":1}}"#),
        422,
        "unsupported",
    );
    for (body, pointer) in [
        (r#"{"units":{"rooms":1}}"#, "/pool"),
        (r#"{"pool":"a"}"#, "/units"),
        (r#"{"pool":"a b","units":{"rooms":1}}"#, "/pool"),
        (r#"{"pool":"a","units":{"rooms":0}}"#, "/units"),
        (r#"{"pool":"a","units":{"beds":1}}"#, "/units/beds"),
        (r#"{"pool":"a","units":{"rooms":-1}}"#, "/units/rooms"),
        (r#"{"pool":"a","units":{"rooms":2147483648}}"#, "/units/rooms"),
        (r#"{"pool":"a","units":{"rooms":1,"rooms":1}}"#, "/units/rooms"),
        (
            r#"{"pool":"a","units":{"rooms":1},"hold_seconds":86401}"#,
            "/hold_seconds",
        ),
        (r#"{"pool":"a","units":{"rooms":1},"hold_seconds":0}"#, "/hold_seconds"),
        (r#"{"pool":"a","units":{"rooms":1},"colour":1}"#, "/colour"),
        (r#"{"pool":"a","pool":"a","units":{"rooms":1}}"#, "/pool"),
    ] {
        let reply = check(reserve_with(body), 422, "invalid");
        let error = &reply.json()["errors"][0];
        assert_eq!(error["pointer"], pointer, "{body}: {reply:?}");
    }
    let long = format!(
        r#"{{"pool":"a","units":{{"rooms":1}},"reference":"{}"}}"#,
        "x".repeat(65)
    );
    check(reserve_with(&long), 422, "invalid");

    check(get(http, "/v1/reservations/nonsense"), 400, "bad-id");
    // What is no text is a problem like any other.
    for path in [
        "/v1/reservations/%ff",
        "/v1/pools/%ff",
        "/v1/pools/%ff/events",
        "/problems/%ff",
        "/page/%ff",
    ] {
        check(get(http, path), 400, "bad-id");
    }
    check(
        get(http, "/v1/reservations/00000000000400000000000002"),
        404,
        "reservation-not-found",
    );
    check(
        call(
            http,
            "POST",
            "/v1/reservations/00000000000400000000000002/confirm",
            &[],
            "",
        ),
        404,
        "reservation-not-found",
    );
    check(
        call(http, "DELETE", "/v1/reservations/00000000000400000000000002", &[], ""),
        404,
        "reservation-not-found",
    );
    check(
        send(http, "PATCH", "/v1/reservations/00000000000400000000000002", &[], "{}"),
        422,
        "invalid",
    );
    check(get(http, "/v1/reservations"), 422, "invalid");
    check(get(http, "/v1/reservations?pool=a&cursor=a%20b"), 422, "invalid");
    check(get(http, "/v1/reservations?pool=a&cursor=abc"), 422, "invalid");
    check(get(http, "/v1/reservations?pool=a&limit=0"), 422, "invalid");
    check(get(http, "/v1/reservations?pool=a&limit=1001"), 422, "invalid");
    check(get(http, "/v1/reservations?pool=a&colour=red"), 422, "invalid");
    let pointer = |reply: Reply| check(reply, 422, "invalid").json()["errors"][0]["pointer"].clone();
    for reference in ["", &"x".repeat(65)] {
        let found = pointer(get(http, &format!("/v1/reservations?reference={reference}")));
        assert_eq!(found, "/reference");
    }
    let reserved = reserve(http, "resized", r#"{"pool":"a","units":{"rooms":1}}"#).json();
    let path = format!("/v1/reservations/{}", reserved["reservation"].as_str().unwrap());
    for nothing in [r#"{"units":{"rooms":0}}"#, r#"{"units":{"rooms":0,"guests":0}}"#] {
        assert_eq!(pointer(send(http, "PATCH", &path, &[], nothing)), "/units");
    }

    for (patch, reason) in [
        (r#"{"state":"closed"}"#, "closed"),
        (r#"{"state":"open","opens_at":"2030-01-01T00:00:00Z"}"#, "not_open_yet"),
        (r#"{"opens_at":0,"closes_at":1}"#, "past_closing"),
    ] {
        assert_eq!(send(http, "PATCH", "/v1/pools/a", &[], patch).status, 200);
        let reply = check(reserve_with(r#"{"pool":"a","units":{"rooms":1}}"#), 409, "pool-closed");
        assert_eq!(reply.json()["reason"], reason);
    }
}

#[test]
fn a_hold_expires_and_is_gone() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    let held = reserve(http, "k", r#"{"pool":"a","units":{"rooms":1},"hold_seconds":1}"#).json();
    let path = format!("/v1/reservations/{}", held["reservation"].as_str().unwrap());
    // It expires within a second of its deadline; whoever waits for that has waited long enough.
    while get(http, &path).json()["state"] == "held" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let gone = call(http, "POST", &format!("{path}/confirm"), &[], "");
    assert_eq!((gone.status, gone.problem().as_str()), (410, "hold-expired"));
    let released = call(http, "POST", &format!("{path}/release"), &[], "");
    assert_eq!((released.status, &released.json()["state"]), (200, &json!("expired")));
}

#[test]
fn many_commands_in_one_call() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    let batch = |commands: serde_json::Value| {
        send(
            http,
            "POST",
            "/v1/reservations/batch",
            &[],
            &json!({ "commands": commands }).to_string(),
        )
    };
    let reply = batch(json!([
        {"op": "reserve", "pool": "a", "units": {"rooms": 1}, "key": "k1", "hold_seconds": 60, "reference": "r"},
        {"op": "reserve", "pool": "a", "units": {"rooms": 2}, "key": "k2"},
        {"op": "reserve", "pool": "none", "units": {"rooms": 1}, "key": "k3"},
        {"op": "reserve", "pool": "a", "units": {"rooms": 1}, "key": "k1", "hold_seconds": 60, "reference": "r"},
        {"op": "confirm", "reservation": "00000000000400000000000002"},
    ]));
    assert_eq!(reply.status, 200, "{reply:?}");
    let results = reply.json()["results"].clone();
    let statuses: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [201, 409, 404, 200, 404]);
    assert_eq!(results[1]["problem"]["dimensions"], json!(["rooms"]));
    assert_eq!(
        (&results[3]["replayed"], &results[3]["reservation"]["reference"]),
        (&json!(true), &json!("r"))
    );
    let id = results[0]["reservation"]["reservation"].clone();
    let reply = batch(json!([{"op": "confirm", "reservation": id}, {"op": "release", "reservation": id}]));
    let results = reply.json()["results"].clone();
    assert_eq!(results[1]["reservation"]["state"], "released");
    assert_eq!(
        (&results[0]["reservation"]["pool"], &results[0]["status"]),
        (&json!("a"), &json!(200))
    );

    for (commands, pointer) in [
        (json!([]), "/commands"),
        (
            json!([{"op": "reserve", "pool": "a", "units": {"rooms": 1}}]),
            "/commands/0/key",
        ),
        (
            json!([{"op": "reserve", "pool": "a", "units": {"beds": 1}, "key": "k"}]),
            "/commands/0/units/beds",
        ),
        (
            json!([{"op": "confirm", "reservation": "x"}]),
            "/commands/0/reservation",
        ),
        (
            json!([{"op": "confirm", "pool": "a", "reservation": "x"}]),
            "/commands/0/pool",
        ),
        (json!([{"op": "buy"}]), "/commands/0/op"),
        (
            json!(vec![json!({"op": "release", "reservation": id}); 1001]),
            "/commands",
        ),
    ] {
        let reply = batch(commands);
        assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{reply:?}");
    }
}

#[test]
fn availability_tells_bands_and_numbers_only_when_asked() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    put(
        http,
        "b",
        &definition(1, 9).replace("\"10\"", "\"3\"").replace("T08", "T07"),
    );
    reserve(http, "k", r#"{"pool":"b","units":{"rooms":1}}"#);
    let post = |body: &str| send(http, "POST", "/v1/availability", &[], body);
    let found = post(r#"{"zone":"north","units":{"rooms":1}}"#);
    assert_eq!(
        (found.status, found.header("cache-control")),
        (200, Some("no-store")),
        "{found:?}"
    );
    let pools = found.json()["pools"].clone();
    let names: Vec<_> = pools
        .as_array()
        .unwrap()
        .iter()
        .map(|pool| pool["pool"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!((&pools[0]["band"], &pools[0]["fits"]), (&json!("none"), &json!(false)));
    assert_eq!((&pools[1]["band"], &pools[1]["fits"]), (&json!("plenty"), &json!(true)));
    assert!(pools[1].get("remaining").is_none());

    let exact = post(r#"{"location":"10115","detail":"exact"}"#).json();
    assert_eq!(exact["pools"][0]["remaining"], json!({"rooms": 2, "guests": 9}));
    assert_eq!(exact["pools"].as_array().unwrap().len(), 1);
    let limited = post(r#"{"zone":"north","limit":1}"#).json();
    assert_eq!(
        (limited["pools"].as_array().unwrap().len(), &limited["truncated"]),
        (1, &json!(true))
    );
    assert_eq!(post(r#"{"zone":"north","from":0,"to":5}"#).json()["pools"], json!([]));

    let cached = get(http, "/v1/availability?zone=north&units=rooms=1,guests=2&kind=stay");
    assert_eq!(
        (cached.status, cached.header("cache-control")),
        (200, Some("public, max-age=1")),
        "{cached:?}"
    );
    let exact = get(http, "/v1/availability?zone=north&detail=exact");
    assert_eq!(exact.header("cache-control"), Some("no-store"));

    for (body, pointer) in [
        ("{}", ""),
        (r#"{"zone":"north","units":{"beds":1}}"#, "/units/beds"),
        (r#"{"zone":"north","limit":1001}"#, "/limit"),
        (r#"{"zone":"north","from":9,"to":5}"#, "/to"),
        (r#"{"zone":"north","from":"soon"}"#, "/from"),
        (r#"{"zone":"north","detail":"all"}"#, "/detail"),
    ] {
        let reply = post(body);
        assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{reply:?}");
    }
}

#[test]
fn requests_that_are_none_do_no_harm() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    let check = |reply: Reply, status: u16| assert_eq!(reply.status, status, "{reply:?}");
    let text = [("content-type", "text/plain")];
    check(call(http, "POST", "/v1/availability", &text, "{}"), 415);
    check(call(http, "POST", "/v1/availability", &[], "{}"), 415);
    check(call(http, "POST", "/v1/pools/import", &text, "a"), 415);
    let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    check(call(http, "POST", "/v1/availability", &packed, "{}"), 415);
    let json = [("content-type", "Application/JSON; charset=utf-8")];
    check(
        call(http, "POST", "/v1/availability", &json, r#"{"zone":"north"}"#),
        200,
    );
    // Parameters where none belong are not passed over: they might have been meant to matter.
    let id = "00000000000400000000000002";
    for (method, path) in [
        ("GET", "/v1/pools/a"),
        ("PUT", "/v1/pools/a"),
        ("POST", "/v1/pools/changes"),
        ("POST", "/v1/reservations"),
        ("POST", &*format!("/v1/reservations/{id}/confirm")),
        ("DELETE", &*format!("/v1/reservations/{id}")),
    ] {
        let reply = send(http, method, &format!("{path}?dry_run=true"), &[], "");
        assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
        assert_eq!(reply.json()["errors"][0]["pointer"], "/dry_run", "{method} {path}");
    }
    check(call(http, "PUT", "/v1/availability", &[], "{}"), 405);
    let allowed = call(http, "PUT", "/v1/availability", &[], "{}");
    let mut allowed: Vec<&str> = allowed.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    check(get(http, "/v1/nothing"), 404);
    check(
        get(http, &format!("/v1/reservations?reference={}", "x".repeat(9000))),
        413,
    );
    // Refused from its head, before it arrives.
    let announced = format!(
        "POST /v1/availability HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n"
    );
    check(raw(http, &announced), 413);
    let head = |rest: &str| format!("GET /livez HTTP/1.1\r\nhost: {http}\r\n{rest}connection: close\r\n\r\n");
    check(raw(http, &head("")), 200);
    check(raw(http, &head(&"x: y\r\n".repeat(100))), 431);
    check(raw(http, &head(&format!("x: {}\r\n", "y".repeat(300_000)))), 431);
    check(raw(http, "nonsense\r\n\r\n"), 400);
    let deep = format!("{{\"zone\": {}", "[".repeat(100_000));
    check(send(http, "POST", "/v1/availability", &[], &deep), 400);
    check(get(http, "/livez"), 200);
}
