//! HTTP as a service: probes, figures, addresses, stopping, running apart from the engine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http::{definition, put, start};
use crate::http_client::{EventStream, Reply, call, connect, get, reserve, send};
use crate::support::{Server, plimsoll, refused, wait};

#[test]
fn probes_figures_and_the_document() {
    let (_directory, server) = start(&["--time-zone", "Europe/Vienna"]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    reserve(http, "k", r#"{"pool":"a","units":{"rooms":1}}"#);
    assert_eq!(get(http, "/livez").status, 200);
    let ready = get(http, "/readyz?verbose");
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    let checks: Vec<_> = ready.json()["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].clone())
        .collect();
    assert_eq!(checks, ["running", "engine", "lag", "journals", "disk", "history"]);
    assert_eq!(get(http, "/readyz").json(), json!({"ready": true}));

    let settings = get(http, "/v1/settings").json();
    assert_eq!(
        (&settings["time_zone"], &settings["dimensions"]),
        (&json!("Europe/Vienna"), &json!(["rooms", "guests"]))
    );

    let metrics = get(http, "/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        "plimsoll_engine_up 1\n",
        "operation=\"reserve\",outcome=\"applied\"} 1\n",
        "plimsoll_http_request_duration_seconds_count{method=\"PUT\",path=\"/v1/pools/{name}\",status=\"201\"} 1\n",
        "# TYPE plimsoll_journal_sync_duration_seconds histogram\n",
        "plimsoll_build_info{version=",
        "plimsoll_availability_lag_seconds ",
    ] {
        assert!(metrics.body.contains(line), "{line:?} is not in {}", metrics.body);
    }
    // No label says what callers call their things.
    assert!(!metrics.body.contains("\"a\"") && !metrics.body.contains("=\"k\""));
    // The first sample after a start may have nothing before it to tell a rate from.
    let sample = loop {
        std::thread::sleep(Duration::from_millis(100));
        let health = get(http, "/v1/health").json();
        assert_eq!(health["interval_ms"], 1000);
        let sample = health["samples"].as_array().unwrap().last().cloned();
        if let Some(sample) = sample.filter(|sample| sample["syncs_per_second"].is_number()) {
            break sample;
        }
    };
    assert!(sample["pools"].is_number(), "{sample}");

    let document = get(http, "/openapi.json").json();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
    assert!(document["paths"]["/v1/reservations"]["post"]["responses"]["409"].is_object());
    let help = get(http, "/problems/insufficient-capacity");
    assert!(
        help.status == 200 && help.body.contains("<code>dimensions</code>"),
        "{help:?}"
    );
    assert_eq!(get(http, "/problems/none").problem(), "not-found");
}

#[test]
fn an_address_for_administration_takes_what_is_not_for_everybody() {
    let (_directory, server) = start(&["--admin", "127.0.0.1:0"]);
    let (http, admin) = (server.http(), server.admin());
    put(admin, "a", &definition(1, 9));
    for path in [
        "/v1/pools",
        "/v1/pools/a",
        "/v1/pools/a/events",
        "/v1/events",
        "/metrics",
        "/v1/health",
        "/",
        "/page/main.js",
    ] {
        assert_eq!(get(http, path).problem(), "not-found", "{path}");
        if path != "/v1/events" {
            assert_eq!(get(admin, path).status, 200, "{path}");
        }
    }
    let page = get(admin, "/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(get(admin, "/v1/settings").json()["exact"], true);
    assert_eq!(get(http, "/v1/settings").json()["exact"], false);
    EventStream::open(admin, "", None);
    assert_eq!(put(http, "a", &definition(5, 9)).problem(), "not-found");
    let exact = get(http, "/v1/availability?zone=north&detail=exact");
    assert_eq!((exact.status, exact.problem().as_str()), (403, "admin-only"));
    assert_eq!(get(admin, "/v1/availability?zone=north&detail=exact").status, 200);
    assert_eq!(get(http, "/v1/availability?zone=north").status, 200);
    let short = |address| reserve(address, "k", r#"{"pool":"a","units":{"rooms":2}}"#).json();
    assert!(short(http).get("remaining").is_none() && short(http)["dimensions"] == json!(["rooms"]));
    assert_eq!(short(admin)["remaining"]["rooms"], 1);
    assert_eq!(reserve(http, "k", r#"{"pool":"a","units":{"rooms":1}}"#).status, 201);
    assert_eq!(get(admin, "/v1/pools/a").json()["confirmed"]["rooms"], 1);
    assert_eq!((get(http, "/readyz").status, get(admin, "/readyz").status), (200, 200));
}

#[test]
fn addresses_that_cannot_be_had() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let check = |options: &[&str], code: i32, expected: &str| {
        let options = [&["--dimensions", "rooms"], options].concat();
        let (exit, text) = refused(&data, "127.0.0.1:0", &options);
        assert_eq!(exit, Some(code), "{text}");
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    };
    check(&["--http", "0.0.0.0:0"], 19, "--insecure-listen");
    check(&["--http", "127.0.0.1:0", "--admin", "0.0.0.0:0"], 19, "0.0.0.0:0");
    check(
        &["--http", "127.0.0.1:0", "--time-zone", "Mars/Olympus"],
        2,
        "Mars/Olympus",
    );
    let (_other, server) = start(&[]);
    check(&["--http", &server.http().to_string()], 18, "--http");
    // Also when that is the engine of another one.
    check(&["--http", &server.engine()], 18, &server.engine());
    assert!(!data.exists(), "nothing was made before the addresses were had");
}

#[test]
fn a_stop_finishes_what_was_accepted() {
    let (_directory, server) = start(&["--drain-timeout", "20s"]);
    let http = server.http();
    put(http, "a", &definition(2, 9));
    // Half of a request has arrived when the stop comes: the server says so when it asks for the body.
    let body = r#"{"pool":"a","units":{"rooms":1}}"#;
    let mut begun = connect(http);
    let head = format!(
        "POST /v1/reservations HTTP/1.1\r\nhost: {http}\r\ncontent-type: application/json\r\nidempotency-key: k\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    begun.write_all(head.as_bytes()).unwrap();
    let mut answers = BufReader::new(begun.try_clone().unwrap());
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    answers.read_line(&mut line).unwrap();
    begun.write_all(&body.as_bytes()[..10]).unwrap();
    let mut idle = connect(http);
    idle.write_all(format!("GET /livez HTTP/1.1\r\nhost: {http}\r\n\r\n").as_bytes())
        .unwrap();
    let mut idle = BufReader::new(idle);
    let mut alive = String::new();
    while !alive.ends_with("{\"alive\":true}") {
        let mut byte = [0];
        idle.read_exact(&mut byte).unwrap();
        alive.push(char::from(byte[0]));
    }
    server.ask_to_stop();
    // From now on it is not ready, and says so to whoever comes.
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 503") {
        // A connection on which nothing has arrived when the stop comes is closed without an answer, as an idle one is.
        let mut asking = connect(http);
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\n\r\n");
        let _ = asking.write_all(request.as_bytes());
        answer.clear();
        let _ = asking.read_to_string(&mut answer);
    }
    let late = send(http, "POST", "/v1/availability", &[], r#"{"zone":"north"}"#);
    assert_eq!((late.status, late.problem().as_str()), (503, "unavailable"));
    assert_eq!(get(http, "/livez").status, 200);
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "an idle connection is closed");

    begun.write_all(&body.as_bytes()[10..]).unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 201"), "{line}");
    assert_eq!(server.wait(), Some(0));
}

/// A running `plimsoll http`.
pub(crate) struct Apart {
    child: std::process::Child,
    pub(crate) http: SocketAddr,
}

impl Apart {
    /// Starts it, and reads its ready line, which comes once the engine has answered.
    pub(crate) fn start(engine: &str) -> Apart {
        let mut child = plimsoll()
            .args([
                "http",
                "--engine",
                engine,
                "--listen",
                "127.0.0.1:0",
                "--request-timeout",
                "2s",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let http = line.trim().split_once(" http=").unwrap().1.parse().unwrap();
        Apart { child, http }
    }

    fn terminate(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait(&mut self.child).code()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often the thread that wakes the cores has gone to sleep.
fn beats(server: &Server) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let heartbeat = statuses
        .filter(|status| status.starts_with("Name:\theartbeat\n"))
        .collect::<String>();
    let (_, rest) = heartbeat.split_once("\nvoluntary_ctxt_switches:\t").unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

#[test]
fn a_server_that_is_only_watched_rests() {
    let (_directory, server) = start(&[]);
    // The sidecar asks for statistics each second. A core that is quick beats 1,000 times a second, one that rests 20 times; what came with the
    // start counts for a second.
    std::thread::sleep(Duration::from_millis(2_500));
    let before = beats(&server);
    std::thread::sleep(Duration::from_secs(3));
    let found = beats(&server) - before;
    assert!((1..=200).contains(&found), "{found} beats in three seconds");
    for _ in 0..20 {
        get(server.http(), "/v1/pools");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(beats(&server) - before - found > 200, "asked, it is quick again");
}

#[test]
fn it_runs_apart_from_the_engine_and_outlives_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &["--dimensions", "rooms,guests"]);
    let address = server.engine();
    let apart = Apart::start(&address);
    let http = apart.http;
    put(http, "a", &definition(9, 9));
    let body = r#"{"pool":"a","units":{"rooms":1}}"#;
    assert_eq!(reserve(http, "k1", body).status, 201);
    server.kill();
    let is_unavailable = |reply: Reply| {
        assert!(matches!(reply.status, 503 | 504), "{reply:?}");
        let document: Value = reply.json();
        assert_eq!(document["retryable"], true);
        assert_eq!(document["applied"].is_null(), reply.status == 504);
    };
    is_unavailable(reserve(http, "k2", body));
    is_unavailable(get(http, "/v1/pools/a"));
    let ready = get(http, "/readyz");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(get(http, "/livez").status, 200);
    assert!(get(http, "/metrics").body.contains("plimsoll_engine_up 0\n"));
    // Whatever became of it: under its key it takes effect once.
    let server = Server::start_on(&data, &address, &["--dimensions", "rooms,guests"]);
    while get(http, "/readyz").status != 200 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let again = reserve(http, "k2", body);
    assert!(matches!(again.status, 200 | 201), "{again:?}");
    assert_eq!(get(http, "/v1/pools/a").json()["confirmed"]["rooms"], 2);
    assert_eq!(
        call(http, "POST", "/v1/reservations", &[("expect", "nothing")], "").status,
        415
    );
    assert_eq!(apart.terminate(), Some(0));
    assert_eq!(server.terminate(), Some(0));
}
