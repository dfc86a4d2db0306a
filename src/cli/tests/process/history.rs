//! What happened, asked of a running server: across archives, segments and the tail, restarts, kills and other numbers of cores.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use plimsoll_client::blocking::Client;
use plimsoll_client::{
    Confirming, Event, EventKind, Key, KeySource, Options, PastQuery, PoolDefinition, Releasing, ReservationId,
    Reserve, Reserving, Resize, Resizing, SearchQuery, State, Status, Units,
};

use crate::support::{Random, Server, fail, json, plimsoll, seed, succeed, wait};

/// Small segments and snapshots, so that history crosses archives, sealed segments and the tail within a few seconds; what has ended is forgotten soon.
const SMALL: [&str; 12] = [
    "--dimensions",
    "orders",
    "--segment-size",
    "64KiB",
    "--snapshot-after",
    "96KiB",
    "--journal-space",
    "768KiB",
    "--key-retention",
    "1s",
    "--hold-grace",
    "1s",
];

pub(crate) fn options(cores: &'static str) -> Vec<&'static str> {
    [&SMALL[..], &["--cores", cores]].concat()
}

pub(crate) fn connect(server: &Server) -> Client {
    let options = Options {
        request_timeout: Duration::from_secs(20),
        ..Options::default()
    };
    Client::connect(server.engine(), options).unwrap()
}

fn archives(data: &Path) -> usize {
    let journals = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    journals
        .filter_map(|journal| std::fs::read_dir(journal.join("archive")).ok())
        .map(Iterator::count)
        .sum()
}

pub(crate) fn definition(name: &str, limit: u32) -> PoolDefinition {
    PoolDefinition {
        zone: if name.ends_with('0') { "north" } else { "south" }.into(),
        kind: "slot".into(),
        ..PoolDefinition::new(name, vec![limit])
    }
}

/// What must have happened to a pool, as its client knows it.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    kind: EventKind,
    reservation: Option<ReservationId>,
    units: Option<u32>,
    reference: Option<String>,
    /// Limit, held, confirmed.
    after: (u32, i64, i64),
}

impl From<&Event> for Expected {
    fn from(event: &Event) -> Expected {
        let after = event.after.as_ref().expect("the counters are known");
        Expected {
            kind: event.kind,
            reservation: event.reservation,
            units: event.units.as_ref().map(|units| units[0]),
            reference: event.reference.clone(),
            after: (after.limits[0], after.held[0], after.confirmed[0]),
        }
    }
}

/// One pool and everything that was done to it.
struct Ledger {
    name: String,
    limit: u32,
    held: BTreeMap<ReservationId, u32>,
    confirmed: BTreeMap<ReservationId, u32>,
    events: Vec<Expected>,
    references: u32,
}

impl Ledger {
    fn create(client: &Client, name: String) -> Ledger {
        client.put_pools(&[definition(&name, 100_000)], false).unwrap();
        let mut ledger = Ledger {
            name,
            limit: 100_000,
            held: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            events: Vec::new(),
            references: 0,
        };
        ledger.push(EventKind::PoolCreated, None, None, None);
        ledger
    }

    fn push(
        &mut self,
        kind: EventKind,
        reservation: Option<ReservationId>,
        units: Option<u32>,
        reference: Option<String>,
    ) {
        let sum = |units: &BTreeMap<_, u32>| units.values().map(|units| i64::from(*units)).sum();
        self.events.push(Expected {
            kind,
            reservation,
            units,
            reference,
            after: (self.limit, sum(&self.held), sum(&self.confirmed)),
        });
    }

    /// One step at random; it must succeed.
    fn step(&mut self, client: &Client, random: &mut Random) {
        let held = self.held.keys().next().copied();
        let confirmed = self.confirmed.keys().next().copied();
        match (random.below(12), held, confirmed) {
            (0..3, Some(id), _) => {
                let units = self.held.remove(&id).unwrap();
                assert!(matches!(client.confirm(id, None), Ok(Confirming::Confirmed(_))));
                self.confirmed.insert(id, units);
                self.push(EventKind::Confirmed, Some(id), Some(units), None);
            }
            (3, Some(id), _) => {
                let units = self.held.remove(&id).unwrap();
                assert!(matches!(client.release(id, None), Ok(Releasing::Released(_))));
                self.push(EventKind::Released, Some(id), Some(units), None);
            }
            (4..7, _, Some(id)) => {
                let units = self.confirmed.remove(&id).unwrap();
                assert!(matches!(client.release(id, None), Ok(Releasing::Released(_))));
                self.push(EventKind::Released, Some(id), Some(units), None);
            }
            (7, _, Some(id)) => {
                let units = self.confirmed[&id] % 3 + 1;
                self.confirmed.insert(id, units);
                let resize = Resize {
                    units: &[("orders", units)],
                    ..Resize::new(id)
                };
                assert!(matches!(client.resize(&resize), Ok(Resizing::Resized(_))));
                self.push(EventKind::Resized, Some(id), Some(units), None);
            }
            (8, ..) if random.below(8) == 0 => {
                // Another one: a definition that changes nothing is no event.
                self.limit = 100_000 + (self.limit - 100_000 + 1 + random.below(999) as u32) % 1000;
                client.put_pools(&[definition(&self.name, self.limit)], false).unwrap();
                self.push(EventKind::PoolChanged, None, None, None);
            }
            _ => {
                let units = 1 + random.below(3) as u32;
                let reference = (random.below(3) == 0).then(|| {
                    self.references += 1;
                    format!("{}/{}", self.name, self.references / 2)
                });
                let key = Key::random().unwrap();
                let is_held = random.below(2) == 0;
                let reserve = Reserve {
                    reference: reference.as_deref(),
                    hold: is_held.then_some(Duration::from_secs(3600)),
                    ..Reserve::new(&*self.name, Units::InOrder(std::slice::from_ref(&units)), key)
                };
                let Ok(Reserving::Reserved(reservation)) = client.reserve(&reserve) else {
                    panic!("a pool of {} refused", self.limit);
                };
                let side = if is_held { &mut self.held } else { &mut self.confirmed };
                side.insert(reservation.id, units);
                self.push(EventKind::Reserved, Some(reservation.id), Some(units), reference);
            }
        }
    }

    /// All of its events, the oldest first, in pages of this size.
    fn listed(&self, client: &Client, limit: u32) -> Vec<Event> {
        all_events(client, &self.name, limit)
    }

    fn check(&self, client: &Client, limit: u32) -> Vec<Event> {
        let listed = self.listed(client, limit);
        let found: Vec<Expected> = listed.iter().map(Expected::from).collect();
        if let Some(place) =
            (0..found.len().max(self.events.len())).find(|place| found.get(*place) != self.events.get(*place))
        {
            panic!(
                "{}: event {place} of {} is {:?}, expected {:?}",
                self.name,
                self.events.len(),
                found.get(place),
                self.events.get(place)
            );
        }
        let sequences: Vec<u64> = listed.iter().map(sequence).collect();
        assert!(sequences.is_sorted_by(|one, next| one < next));
        listed
    }

    /// Every reservation that it ever had, as it is now: by pool, and by reference.
    fn check_search(&self, client: &Client) {
        let made = self.events.iter().filter(|event| event.kind == EventKind::Reserved);
        let mut expected: Vec<_> = made.clone().filter_map(|event| event.reservation).collect();
        expected.reverse();
        let query = SearchQuery {
            pool: Some(&self.name),
            limit: 37,
            ..SearchQuery::default()
        };
        let found = search(client, query);
        assert_eq!(
            found.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            expected,
            "{}",
            self.name
        );
        for (id, state) in &found {
            assert_eq!(*state, self.state(*id), "{id}");
        }
        let released = SearchQuery {
            state: Some(State::Released),
            ..query
        };
        let ended = |id: &ReservationId| !self.held.contains_key(id) && !self.confirmed.contains_key(id);
        assert_eq!(
            search(client, released).len(),
            expected.iter().filter(|id| ended(id)).count()
        );
        let mut by_reference: HashMap<&str, Vec<ReservationId>> = HashMap::new();
        for event in made {
            if let (Some(reference), Some(id)) = (event.reference.as_deref(), event.reservation) {
                by_reference.entry(reference).or_default().insert(0, id);
            }
        }
        for (reference, ids) in by_reference.iter().take(20) {
            let query = SearchQuery {
                reference: Some(reference),
                ..SearchQuery::default()
            };
            let found = search(client, query);
            assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), *ids, "{reference}");
            assert!(found.iter().all(|(id, state)| *state == self.state(*id)));
        }
    }

    fn state(&self, id: ReservationId) -> State {
        match (self.held.contains_key(&id), self.confirmed.contains_key(&id)) {
            (true, _) => State::Held,
            (_, true) => State::Confirmed,
            _ => State::Released,
        }
    }
}

fn search(client: &Client, query: SearchQuery<'_>) -> Vec<(ReservationId, State)> {
    let mut found = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let query = SearchQuery {
            cursor: cursor.as_deref(),
            ..query
        };
        let page = client.search_reservations(&query).unwrap();
        found.extend(page.reservations.iter().map(|found| (found.id, found.state)));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

pub(crate) fn all_events(client: &Client, pool: &str, limit: u32) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let page = client.pool_events(pool, cursor.as_deref(), limit).unwrap();
        assert!(page.events.len() <= limit as usize);
        events.extend(page.events);
        match page.next {
            Some(next) => {
                assert!(
                    next.bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
                );
                cursor = Some(next);
            }
            None => break,
        }
    }
    events.reverse();
    events
}

fn sequence(event: &Event) -> u64 {
    event.id.split_once('-').unwrap().1.parse().unwrap()
}

/// Pools at moments of the past, against the counters after the last event that was not later.
fn check_past(client: &Client, ledgers: &[Ledger], events: &[Vec<Event>], random: &mut Random) {
    for _ in 0..6 {
        let of = random.below(events.len() as u64) as usize;
        let place = random.below(events[of].len() as u64) as usize;
        let at = events[of][place].at + random.below(2) as i64;
        let query = PastQuery {
            at,
            limit: 2,
            ..PastQuery::default()
        };
        let mut found = BTreeMap::new();
        let mut after = None::<String>;
        loop {
            let page = client
                .past_pools(&PastQuery {
                    after: after.as_deref(),
                    ..query
                })
                .unwrap();
            assert!(page.pools.len() <= 2);
            after = page.pools.last().map(|pool| pool.definition.name.clone());
            for pool in page.pools {
                let counters = (pool.definition.limits[0], pool.held[0], pool.confirmed[0]);
                found.insert(pool.definition.name, counters);
            }
            if !page.more {
                break;
            }
        }
        let mut expected = BTreeMap::new();
        for (ledger, events) in ledgers.iter().zip(events) {
            let count = events.partition_point(|event| event.at <= at);
            if let Some(last) = count.checked_sub(1) {
                expected.insert(ledger.name.clone(), ledger.events[last].after);
            }
        }
        assert_eq!(found, expected, "as of {at}");
    }
}

#[test]
fn events_search_and_past_are_the_same_wherever_the_records_lie() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &options("2"));
    let mut client = connect(&server);
    fail(&server, &["pool", "events", "nobody"], 1, "error: pool_not_found");
    let mut ledgers: Vec<_> = (0..3)
        .map(|number| Ledger::create(&client, format!("pool-{number}")))
        .collect();
    for (round, cores) in ["2", "1", "2"].into_iter().enumerate() {
        for step in 0..2000 {
            let of = random.below(3) as usize;
            ledgers[of].step(&client, &mut random);
            // Read your writes, also in the midst of it.
            if step % 250 == 249 {
                ledgers[of].check(&client, 1000);
            }
        }
        let until = Instant::now() + Duration::from_secs(30);
        while archives(&data) <= 3 * round {
            assert!(Instant::now() < until, "nothing is archived");
            std::thread::sleep(Duration::from_millis(20));
        }
        let events: Vec<_> = ledgers
            .iter()
            .map(|ledger| ledger.check(&client, 7 + 50 * round as u32))
            .collect();
        check_past(&client, &ledgers, &events, &mut random);
        for ledger in &ledgers {
            ledger.check_search(&client);
        }
        // A cursor outlives the server, and another number of cores.
        let first = client.pool_events("pool-1", None, 10).unwrap();
        drop(client);
        if round == 1 {
            server.kill();
        } else {
            assert_eq!(server.terminate(), Some(0));
        }
        server = Server::start(&data, &options(cores));
        client = connect(&server);
        for ledger in &ledgers {
            ledger.check(&client, 1000);
        }
        let second = client.pool_events("pool-1", first.next.as_deref(), 10).unwrap();
        let all = all_events(&client, "pool-1", 1000);
        let newest: Vec<_> = all.iter().rev().take(20).cloned().collect();
        assert_eq!([first.events, second.events].concat(), newest);
    }
    let printed = json(&server, &["pool", "events", "pool-0", "--limit", "5"]);
    let newest = client.pool_events("pool-0", None, 5).unwrap().events;
    assert_eq!(printed.len(), 5);
    for (printed, event) in printed.iter().zip(&newest) {
        assert_eq!(printed["id"], event.id);
        assert_eq!(
            printed["after"]["held"]["orders"],
            event.after.as_ref().unwrap().held[0]
        );
    }
    assert_eq!(
        succeed(&server, &["pool", "events", "pool-0", "--limit", "5"])
            .lines()
            .count(),
        6
    );
    let then = all_events(&client, "pool-2", 1000)[200].at;
    let listed = json(
        &server,
        &["pool", "list", "--as-of", &(then / 1_000_000 + 1).to_string()],
    );
    assert_eq!(listed.len(), 3);
    let found = json(&server, &["find", "--reference", "pool-0/1"]);
    assert!(!found.is_empty() && found.iter().all(|found| found["reference"] == "pool-0/1"));
    fail(&server, &["find", "--pool", "nobody"], 1, "error: pool_not_found");
}

#[test]
fn an_answer_is_seen_by_whoever_asks_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &options("2"));
    let client = connect(&server);
    let other = connect(&server);
    client.put_pools(&[definition("a", 1_000_000)], false).unwrap();
    for round in 0..300 {
        let reference = format!("order-{round}");
        let key = Key::random().unwrap();
        let reserve = Reserve {
            reference: Some(&reference),
            ..Reserve::new("a", Units::InOrder(&[1]), key)
        };
        let Ok(Reserving::Reserved(reservation)) = client.reserve(&reserve) else {
            panic!("it fits");
        };
        let page = other.pool_events("a", None, 1).unwrap();
        assert_eq!(page.events[0].reservation, Some(reservation.id), "round {round}");
        let query = SearchQuery {
            reference: Some(&reference),
            ..SearchQuery::default()
        };
        assert_eq!(
            search(&other, query),
            [(reservation.id, State::Confirmed)],
            "round {round}"
        );
    }
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &options("1"));
    let client = connect(&server);
    client.put_pools(&[definition("a", 10)], false).unwrap();
    let refused = |error: plimsoll_client::Error| match error {
        plimsoll_client::Error::Refused(refusal) => refusal.status.known(),
        other => panic!("{other}"),
    };
    let page = client.pool_events("a", None, 10).unwrap();
    assert_eq!((page.events.len(), page.next), (1, None));
    for cursor in ["x", "AAAA", "a.b~c"] {
        let error = client.pool_events("a", Some(cursor), 10).unwrap_err();
        assert_eq!(refused(error), Some(Status::Invalid), "{cursor}");
    }
    // A cursor belongs to what was asked first.
    client
        .put_pools(&[definition("a", 11), definition("b", 10)], false)
        .unwrap();
    let cursor = client.pool_events("a", None, 1).unwrap().next.unwrap();
    assert_eq!(client.pool_events("a", Some(&cursor), 1).unwrap().events.len(), 1);
    let error = client.pool_events("b", Some(&cursor), 1).unwrap_err();
    assert_eq!(refused(error), Some(Status::Invalid));
    for _ in 0..2 {
        let reserve = Reserve::new("a", Units::InOrder(&[1]), Key::random().unwrap());
        assert!(matches!(client.reserve(&reserve), Ok(Reserving::Reserved(_))));
    }
    let query = SearchQuery {
        pool: Some("a"),
        limit: 1,
        ..SearchQuery::default()
    };
    let cursor = client.search_reservations(&query).unwrap().next.unwrap();
    let next = SearchQuery {
        cursor: Some(&cursor),
        ..query
    };
    assert_eq!(client.search_reservations(&next).unwrap().reservations.len(), 1);
    let other = SearchQuery {
        state: Some(State::Released),
        ..next
    };
    let error = client.search_reservations(&other).unwrap_err();
    assert_eq!(refused(error), Some(Status::Invalid));
    let nothing = client.search_reservations(&SearchQuery::default()).unwrap_err();
    assert_eq!(refused(nothing), Some(Status::Invalid));
    let future = PastQuery {
        at: 253_402_300_799_000_000,
        ..PastQuery::default()
    };
    assert_eq!(refused(client.past_pools(&future).unwrap_err()), Some(Status::Invalid));
    let before = PastQuery {
        at: 1_000_000,
        ..PastQuery::default()
    };
    let page = client.past_pools(&before).unwrap();
    assert!(page.pools.is_empty() && !page.more);
    let reset = plimsoll_client::Reset {
        pool: "a",
        to: 0,
        attributes: false,
        expected_version: None,
        dry_run: true,
        offset: 0,
        limit: 0,
    };
    // The pool did not exist then.
    assert_eq!(refused(client.reset_pool(&reset).unwrap_err()), Some(Status::Invalid));
}

/// Runs `replay dump` through the server; how it ended, and what it printed.
fn dump(server: &Server, arguments: &[&str]) -> (std::process::ExitStatus, String, String) {
    let mut child = plimsoll()
        .args(["replay", "dump", "--engine", &server.engine()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let printed = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let status = wait(&mut child);
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    (status, printed.join().unwrap().unwrap(), error)
}

#[test]
fn a_dump_ends_where_history_does() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "orders", "--cores", "1"],
    );
    let client = connect(&server);
    let small = |number| definition(&format!("small-{number}"), 10);
    let pools: Vec<_> = (0..1000).map(small).collect();
    client.put_pools(&pools, false).unwrap();
    let (status, printed, error) = dump(&server, &[]);
    assert!(status.success(), "{error}");
    assert_eq!(printed.lines().count(), 1000);
    // The last millisecond of the time is cut.
    let last = all_events(&client, "small-999", 1)[0].at / 1000 * 1000 + 1000;
    let until = format!(
        "{}.{:06}Z",
        jiff::Timestamp::from_microsecond(last)
            .unwrap()
            .strftime("%Y-%m-%dT%H:%M:%S"),
        last % 1_000_000
    );
    client.put_pools(&[definition("later", 10)], false).unwrap();
    let (status, printed, error) = dump(&server, &["--until", &until]);
    assert!(status.success(), "{error}");
    assert_eq!(printed.lines().count(), 1000);
}

#[test]
fn a_dump_takes_large_definitions() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "orders", "--cores", "1"],
    );
    let client = connect(&server);
    // All of them are three frames.
    for numbers in (0..60).collect::<Vec<_>>().chunks(10) {
        let large = |number: &i32| PoolDefinition {
            coverage: (0..1024).map(|prefix| format!("{number:016}{prefix:016}")).collect(),
            ..definition(&format!("large-{number}"), 10)
        };
        let pools: Vec<_> = numbers.iter().map(large).collect();
        client.put_pools(&pools, false).unwrap();
    }
    let (status, printed, error) = dump(&server, &["--kind", "pool_created"]);
    assert!(status.success(), "{error}");
    assert_eq!(printed.lines().count(), 60);
}

#[test]
fn damage_ends_what_reads_it_and_is_named() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &options("1"));
    let client = connect(&server);
    let mut ledger = Ledger::create(&client, "a".into());
    let archive = loop {
        for _ in 0..200 {
            ledger.step(&client, &mut random);
        }
        let mut journals = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let first = journals.find_map(|journal| {
            let path = journal.join("archive/0000000001.archive");
            path.exists().then_some(path)
        });
        if let Some(path) = first {
            break path;
        }
    };
    let mut bytes = std::fs::read(&archive).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let (status, _, error) = dump(&server, &[]);
    assert_eq!(status.code(), Some(1), "{error}");
    for part in [
        "history_damaged",
        "0000000001.archive",
        "replay verify",
        "replay repair",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // What is served now does not rest on it.
    ledger.step(&client, &mut random);
}
