//! Pools over HTTP.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{definition, put, start};
use crate::http_client::{Reply, call, connect, get, reserve, send};

fn names(page: &Value) -> Vec<String> {
    let pools = page["pools"].as_array().unwrap().iter();
    pools.map(|pool| pool["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn definitions_have_entity_tags() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    let created = put(http, "a", &definition(2, 9));
    let etag = created.header("etag").unwrap().to_owned();
    assert_eq!((created.status, &created.json()["etag"]), (201, &json!(etag)));
    // One that changes nothing writes no event and keeps its tag.
    let same = put(http, "a", &definition(2, 9));
    assert_eq!((same.status, same.header("etag")), (200, Some(&*etag)));
    assert_eq!(
        get(http, "/v1/pools/a/events").json()["events"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // The tag is of the definition only.
    reserve(http, "k", r#"{"pool":"a","units":{"rooms":1}}"#);
    let pool = get(http, "/v1/pools/a");
    assert_eq!(
        (pool.header("etag"), pool.header("cache-control")),
        (Some(&*etag), Some("no-store"))
    );
    assert_eq!(
        (&pool.json()["confirmed"]["rooms"], &pool.json()["remaining"]["rooms"]),
        (&json!(1), &json!(1))
    );

    let patch = |if_match: &str, patch: &str| {
        let headers = [("content-type", "application/merge-patch+json"), ("if-match", if_match)];
        call(http, "PATCH", "/v1/pools/a", &headers, patch)
    };
    let changed = patch(
        &etag,
        r#"{"limits":{"rooms":5},"overbook":{"guests":1},"coverage":null}"#,
    );
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.json()["limits"], json!({"rooms": 5, "guests": 9}));
    assert_eq!(
        (&changed.json()["coverage"], &changed.json()["remaining"]["guests"]),
        (&json!([]), &json!(10))
    );
    let newer = changed.header("etag").unwrap().to_owned();
    assert_ne!(newer, etag);

    let stale = patch(&etag, r#"{"limits":{"rooms":7}}"#);
    assert_eq!(
        (stale.status, stale.problem().as_str(), stale.header("etag")),
        (412, "changed-meanwhile", Some(&*newer))
    );
    assert_eq!(
        (&stale.json()["etag"], &stale.json()["current"]["limits"]["rooms"]),
        (&json!(newer), &json!(5))
    );
    let with = |headers: &[(&str, &str)]| send(http, "PUT", "/v1/pools/a", headers, &definition(3, 9)).status;
    assert_eq!(with(&[("if-match", &etag)]), 412);
    assert_eq!(with(&[("if-none-match", "*")]), 412);
    assert_eq!(with(&[("if-match", "\"")]), 400);
    assert_eq!(with(&[("if-match", "*")]), 200);
    let new = |headers: &[(&str, &str)]| send(http, "PUT", "/v1/pools/b", headers, &definition(3, 9)).status;
    assert_eq!(new(&[("if-match", "*")]), 412);
    assert_eq!(new(&[("if-none-match", "*")]), 201);
    assert_eq!(get(http, "/v1/pools/a").json()["limits"]["rooms"], 3);
    assert_eq!(patch("*", r#"{"limits":{"rooms":1}}"#).json()["remaining"]["rooms"], 0);
}

#[test]
fn what_is_no_definition_is_named() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    let check = |reply: Reply, pointer: &str| {
        assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{reply:?}");
    };
    let put_with = |field: &str, value: Value| {
        let mut body: Value = serde_json::from_str(&definition(2, 9)).unwrap();
        body[field] = value;
        put(http, "b", &body.to_string())
    };
    check(put_with("limits", json!({"rooms": 1})), "/limits/guests");
    check(
        put_with("limits", json!({"rooms": 1, "guests": 1, "beds": 1})),
        "/limits/beds",
    );
    check(put_with("zone", json!("")), "/zone");
    check(put_with("ends_at", json!(5)), "/ends_at");
    check(put_with("starts_at", json!("tomorrow")), "/starts_at");
    check(put_with("coverage", json!([""])), "/coverage");
    check(put_with("state", json!("ajar")), "/state");
    check(put_with("colour", json!(1)), "/colour");
    check(send(http, "PATCH", "/v1/pools/a", &[], r#"{"kind":null}"#), "/kind");
    check(
        send(http, "PATCH", "/v1/pools/a", &[], r#"{"limits":{"rooms":1.5}}"#),
        "/limits/rooms",
    );
    assert_eq!(
        send(http, "PATCH", "/v1/pools/none", &[], "{}").problem(),
        "pool-not-found"
    );
    assert_eq!(get(http, "/v1/pools/none").problem(), "pool-not-found");
    for wrong in ["a%20b", ".a", "import"] {
        let reply = put(http, wrong, &definition(1, 1));
        assert!(matches!(reply.status, 400 | 405), "{reply:?}");
    }
    assert_eq!(get(http, "/v1/pools/a%20b").problem(), "bad-id");
    // Not even half of it.
    assert_eq!(get(http, "/v1/pools/b").status, 404);
}

#[test]
fn pages_filters_and_sheets() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    for (index, name) in ["b", "a:2", "a:1", "c"].iter().enumerate() {
        let day = format!("2030-01-0{}T", index + 1);
        put(http, name, &definition(2, 9).replace("2030-01-04T", &day));
    }
    send(
        http,
        "PATCH",
        "/v1/pools/c",
        &[],
        r#"{"state":"closed","zone":"south"}"#,
    );
    let first = get(http, "/v1/pools?limit=2").json();
    assert_eq!(names(&first), ["a:1", "a:2"]);
    let cursor = first["next"].as_str().unwrap();
    assert!(
        cursor
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte)),
        "{cursor}"
    );
    let second = get(http, &format!("/v1/pools?limit=2&cursor={cursor}")).json();
    assert_eq!(
        (names(&second), &second["next"]),
        (vec!["b".to_owned(), "c".to_owned()], &json!(null))
    );
    assert_eq!(names(&get(http, "/v1/pools?state=closed").json()), ["c"]);
    assert_eq!(names(&get(http, "/v1/pools?zone=north&limit=1").json()), ["a:1"]);
    let from = "/v1/pools?from=2030-01-02T09:00:00Z&to=2030-01-03T08:00:00Z";
    assert_eq!(names(&get(http, from).json()), ["a:2"]);
    for wrong in [
        "limit=0",
        "cursor=.x",
        "state=ajar",
        "from=x",
        "from=9&to=1",
        "format=xls",
        "as_of=2999-01-01T00:00:00Z",
    ] {
        let reply = get(http, &format!("/v1/pools?{wrong}"));
        assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
    }

    let sheet = get(http, "/v1/pools?format=csv");
    assert_eq!(sheet.header("content-type"), Some("text/csv; charset=utf-8"));
    let lines: Vec<&str> = sheet.body.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].starts_with("name,zone,kind,starts_at,"), "{}", lines[0]);
    // What was downloaded can be edited and imported.
    let edited = sheet.body.replace("c,south", "c,west");
    let csv = [("content-type", "text/csv")];
    let dry = call(http, "POST", "/v1/pools/import?dry_run=true", &csv, &edited).json();
    assert_eq!(
        (&dry["changed"], &dry["unchanged"], &dry["changes"][3]["change"]),
        (&json!(1), &json!(3), &json!("changed"))
    );
    assert_eq!(get(http, "/v1/pools/c").json()["zone"], "south");
    let done = call(http, "POST", "/v1/pools/import", &csv, &edited);
    assert_eq!((done.status, &done.json()["changed"]), (200, &json!(1)), "{done:?}");
    assert_eq!(get(http, "/v1/pools/c").json()["zone"], "west");

    let broken = format!("{edited}d,z,k,soon,2,,,,,,1,-1,,,,,,,,\n");
    let refused = call(http, "POST", "/v1/pools/import", &csv, &broken);
    assert_eq!((refused.status, refused.problem().as_str()), (422, "invalid"));
    let errors = refused.json()["errors"].clone();
    assert_eq!(
        (&errors[0]["line"], &errors[0]["column"]),
        (&json!(6), &json!("starts_at")),
        "{errors}"
    );
    assert_eq!(
        (&errors[1]["column"], &refused.json()["created"]),
        (&json!("guests"), &json!(0))
    );
    let ndjson = [("content-type", "application/x-ndjson")];
    let line = get(http, "/v1/pools/c")
        .body
        .replace("\"name\":\"c\"", "\"name\":\"e\"");
    let imported = call(http, "POST", "/v1/pools/import", &ndjson, &line);
    assert_eq!(
        (imported.status, &imported.json()["created"]),
        (200, &json!(1)),
        "{imported:?}"
    );
}

#[test]
fn the_past_and_who_changed_what() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    let reserved = reserve(http, "k", r#"{"pool":"a","units":{"rooms":1},"reference":"r"}"#).json();
    let then = reserved["created_at"].as_str().unwrap();
    // What is asked for is the end of that millisecond.
    std::thread::sleep(std::time::Duration::from_millis(5));
    send(http, "PATCH", "/v1/pools/a", &[], r#"{"limits":{"rooms":7}}"#);
    let past = get(http, &format!("/v1/pools?as_of={then}&zone=north")).json();
    assert_eq!(
        (
            &past["pools"][0]["limits"]["rooms"],
            &past["pools"][0]["confirmed"]["rooms"]
        ),
        (&json!(2), &json!(1))
    );

    let page = get(http, "/v1/pools/a/events?limit=2").json();
    let kinds: Vec<_> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["pool_changed", "reserved"]);
    let event = &page["events"][1];
    assert_eq!(
        (&event["reference"], &event["units"]["rooms"], &event["actor"]),
        (&json!("r"), &json!(1), &json!(null))
    );
    assert_eq!(event["after"]["confirmed"], json!({"rooms": 1, "guests": 0}));
    assert_eq!(page["events"][0]["definition"]["limits"]["rooms"], 7);
    let next = page["next"].as_str().unwrap();
    let rest = get(http, &format!("/v1/pools/a/events?cursor={next}")).json();
    assert_eq!(
        (&rest["events"][0]["kind"], &rest["next"]),
        (&json!("pool_created"), &json!(null))
    );
    assert_eq!(get(http, "/v1/pools/never/events").problem(), "pool-not-found");
    assert_eq!(get(http, "/v1/pools/a/events?cursor=abc").problem(), "invalid");
}

#[test]
fn several_pools_change_together_or_not_at_all() {
    let (_directory, server) = start(&[]);
    let http = server.http();
    for name in ["a", "b", "changes"] {
        assert_eq!(put(http, name, &definition(2, 9)).status, 201);
    }
    let etag = |name: &str| get(http, &format!("/v1/pools/{name}")).json()["etag"].clone();
    let change = |changes: Value| {
        send(
            http,
            "POST",
            "/v1/pools/changes",
            &[],
            &json!({ "changes": changes }).to_string(),
        )
    };
    let (a, b) = (etag("a"), etag("b"));
    let new: Value = serde_json::from_str(&definition(4, 4)).unwrap();
    let done = change(json!([
        {"pool": "b", "if_match": b, "patch": {"limits": {"rooms": 5}}},
        {"pool": "new", "if_none_match": "*", "definition": new},
        {"pool": "a", "if_match": a, "patch": {}},
    ]));
    assert_eq!(done.status, 200, "{done:?}");
    let done = done.json();
    assert_eq!(
        (&done["created"], &done["changed"], &done["unchanged"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(names(&done), ["b", "new", "a"]);
    assert_eq!(
        (&done["pools"][0]["etag"], &done["pools"][0]["limits"]["rooms"]),
        (&etag("b"), &json!(5))
    );

    // One is stale: none is changed, and what stands is told.
    let stale = change(json!([
        {"pool": "a", "if_match": a, "patch": {"limits": {"rooms": 9}}},
        {"pool": "b", "if_match": b, "patch": {"limits": {"rooms": 9}}},
        {"pool": "new", "if_none_match": "*", "definition": new},
    ]));
    assert_eq!((stale.status, stale.problem().as_str()), (412, "changed-meanwhile"));
    let conflicts = stale.json()["conflicts"].clone();
    let pools: Vec<_> = conflicts
        .as_array()
        .unwrap()
        .iter()
        .map(|conflict| conflict["pool"].as_str().unwrap())
        .collect();
    assert_eq!(pools, ["b", "new"]);
    assert_eq!(
        (&conflicts[0]["etag"], &conflicts[0]["current"]["limits"]["rooms"]),
        (&etag("b"), &json!(5))
    );
    assert_eq!(etag("a"), a);

    let wrong = change(json!([
        {"pool": "a", "patch": {"limits": {"rooms": 9}}},
        {"pool": "b", "patch": {"limits": {"beds": 9}}},
    ]));
    assert_eq!(
        (wrong.status, &wrong.json()["errors"][0]["pointer"]),
        (422, &json!("/changes/1/patch/limits/beds"))
    );
    assert_eq!(
        change(json!([{"pool": "a", "patch": {}}, {"pool": "none", "patch": {}}])).problem(),
        "pool-not-found"
    );
    assert_eq!(etag("a"), a);
    let dry = send(
        http,
        "POST",
        "/v1/pools/changes",
        &[],
        r#"{"changes":[{"pool":"a","patch":{"limits":{"rooms":9}}}],"dry_run":true}"#,
    );
    assert_eq!(
        (&dry.json()["changed"], &dry.json()["pools"][0]["limits"]["rooms"]),
        (&json!(1), &json!(9)),
        "{dry:?}"
    );
    assert_eq!(etag("a"), a);
    // A pool may have the name of this path.
    assert_eq!(get(http, "/v1/pools/changes").json()["name"], "changes");
    assert_eq!(
        send(http, "PATCH", "/v1/pools/changes", &[], r#"{"mode":"shadow"}"#).json()["mode"],
        "shadow"
    );
    let shadowed = reserve(http, "s", r#"{"pool":"changes","units":{"rooms":3}}"#);
    assert_eq!((shadowed.status, &shadowed.json()["would_refuse"]), (201, &json!(true)));
}

/// An import is all or nothing also when whoever sent it does not wait for the answer.
#[test]
fn an_import_is_done_to_its_end_when_its_sender_goes_away() {
    const POOLS: usize = 20_000;
    let (_directory, server) = start(&[]);
    let http = server.http();
    let mut file = String::from("name,zone,kind,starts_at,ends_at,rooms,guests\n");
    for pool in 0..POOLS {
        file.push_str(&format!("p{pool},north,stay,0,1,1,1\n"));
    }
    let head = format!(
        "POST /v1/pools/import HTTP/1.1\r\nhost: {http}\r\ncontent-type: text/csv\r\ncontent-length: {}\r\n\r\n",
        file.len()
    );
    let mut sender = connect(http);
    sender.write_all(format!("{head}{file}").as_bytes()).unwrap();
    wait_for(|| get(http, "/v1/pools/p0").status == 200);
    drop(sender);
    wait_for(|| get(http, &format!("/v1/pools/p{}", POOLS - 1)).status == 200);
}

/// Waits for what must happen, far longer than it takes.
fn wait_for(happened: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < until, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
