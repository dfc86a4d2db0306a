//! A feed of a server that is killed, started again, and run on other numbers of cores.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll_client::protocol::{CorrelationId, Encoder, Operation, Status, frame::Head, wire};
use plimsoll_client::{Event, EventKind, FeedQuery, Key, KeySource, Options, Reserve, Reserving, Units};

use crate::history::{all_events, connect, definition, options};
use crate::limits::{read_frame, welcomed};
use crate::past::{drive, order_file, pools};
use crate::support::{Random, Server, seed};

/// Reserves and releases on all pools until told to stop; whatever happens to the server.
async fn load(client: plimsoll_client::Client, stop: Arc<AtomicBool>, mut random: Random) {
    let mut live = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if live.len() > 50 {
            let _ = client.release(live.remove(0), None).await;
            continue;
        }
        let pool = format!("pool-{}", random.below(4));
        let reserve = Reserve::new(&*pool, Units::InOrder(&[1]), Key::random().unwrap());
        if let Ok(Reserving::Reserved(reservation)) = client.reserve(&reserve).await {
            live.push(reservation.id);
        }
    }
}

#[tokio::test]
async fn a_feed_misses_nothing_over_kills_and_other_numbers_of_cores() {
    const ROUND_COUNT: usize = 6;
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &options("2"));
    let listen = server.engine();
    let client = plimsoll_client::Client::connect(listen.clone(), Options::default())
        .await
        .unwrap();
    let pools: Vec<_> = (0..4)
        .map(|number| definition(&format!("pool-{number}"), 1_000_000))
        .collect();
    // From the very beginning, all pools; and from now on, those in the north alone.
    let all = client.feed(FeedQuery {
        since: Some(0),
        limit: 50,
        ..FeedQuery::default()
    });
    let mut north = client.feed(FeedQuery {
        zone: Some("north".into()),
        kinds: vec![EventKind::Reserved],
        ..FeedQuery::default()
    });
    assert!(north.next().await.unwrap().events.is_empty());
    client.put_pools(&pools, false).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(load(client.clone(), Arc::clone(&stop), Random(random.next()))))
        .collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let follow = |mut feed: plimsoll_client::Feed| {
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            let mut events = Vec::new();
            let mut as_of = i64::MIN;
            loop {
                let was_over = is_over.load(Ordering::Acquire);
                let page = feed.next().await.unwrap();
                let is_at_end = page.events.is_empty() && !page.more;
                assert!(page.as_of >= as_of, "{} behind {as_of}", page.as_of);
                as_of = page.as_of;
                events.extend(page.events);
                if was_over && is_at_end {
                    return events;
                }
            }
        })
    };
    let (all, north) = (follow(all), follow(north));
    for round in 0..ROUND_COUNT {
        tokio::time::sleep(Duration::from_millis(300 + random.below(500))).await;
        server.kill();
        server = Server::start_on(&data, &listen, &options(if round % 2 == 0 { "1" } else { "2" }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    is_over.store(true, Ordering::Release);
    let (all, north) = (all.await.unwrap(), north.await.unwrap());
    drop(client);
    let (known, live_count) = tokio::task::spawn_blocking(move || {
        let client = connect(&server);
        let known: Vec<Vec<Event>> = (0..4)
            .map(|number| all_events(&client, &format!("pool-{number}"), 1000))
            .collect();
        let live: i64 = client.all_pools().unwrap().iter().map(|pool| pool.confirmed[0]).sum();
        (known, live)
    })
    .await
    .unwrap();
    let mut with_after = 0;
    for (number, known) in known.iter().enumerate() {
        let name = format!("pool-{number}");
        // What was told is what is still there: none was taken back by a kill, none is missing, and they came in their order.
        check_order(&name, &all, known, |_| true, &mut with_after);
        if name.ends_with('0') {
            check_order(
                &name,
                &north,
                known,
                |event| event.kind == EventKind::Reserved,
                &mut with_after,
            );
        } else {
            assert!(north.iter().all(|event| event.pool != name));
        }
    }
    assert!(with_after > 0, "no event was told with its counters");
    let last: i64 = known
        .iter()
        .map(|events| events.last().unwrap().after.as_ref().unwrap().confirmed[0])
        .sum();
    assert_eq!(last, live_count);
    eprintln!("{} events, {with_after} of them with counters", all.len());
    assert!(all.len() > 1000, "only {} events", all.len());
}

/// Holds what a feed told of a pool against the pool's events.
fn check_order(
    name: &str,
    told: &[Event],
    known: &[Event],
    is_wanted: impl Fn(&Event) -> bool,
    with_after: &mut usize,
) {
    let known: Vec<&Event> = known.iter().filter(|event| is_wanted(event)).collect();
    let mut seen = HashSet::new();
    let mut next = 0;
    for event in told.iter().filter(|event| event.pool == name) {
        if !seen.insert(event.id.clone()) {
            continue;
        }
        let expected = known
            .get(next)
            .unwrap_or_else(|| panic!("{name}: {} was told and is not there", event.id));
        assert_eq!(event.id, expected.id, "{name}: event {next}");
        assert_eq!(
            (event.kind, event.at, event.reservation),
            (expected.kind, expected.at, expected.reservation)
        );
        if event.after.is_some() {
            *with_after += 1;
            assert_eq!(event.after, expected.after, "{name}: event {next}");
        }
        next += 1;
    }
    assert_eq!(next, known.len(), "{name}: events are missing");
}

#[tokio::test]
async fn what_passes_a_filter_by_is_bounded_and_as_of_is_no_later_than_what_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &["--dimensions", "rooms", "--cores", "1"]);
    pools(&server, directory.path(), 7, 1_000_000);
    let file = order_file(directory.path(), 40_000, &mut Random(seed()));
    drive(&server, &file, &directory.path().join("progress"));
    let client = plimsoll_client::Client::connect(server.engine(), Options::default())
        .await
        .unwrap();
    let mut feed = client.feed(FeedQuery {
        since: Some(0),
        kinds: vec![EventKind::PoolCreated],
        ..FeedQuery::default()
    });
    let before = jiff::Timestamp::now().as_microsecond();
    let first = feed.next().await.unwrap();
    assert_eq!(first.events.len(), 7);
    assert!(first.more);
    // More than half of the orders was not looked at.
    let last = client.pool_events("pool-0", None, 1).await.unwrap().events[0].at;
    assert!(first.as_of < last && last < before, "{} {last}", first.as_of);
    loop {
        let page = feed.next().await.unwrap();
        assert!(page.events.is_empty());
        if !page.more {
            assert!(page.as_of >= before);
            return;
        }
    }
}

/// Asks for what happens from now on, for ten seconds.
fn ask_feed(stream: &mut TcpStream, correlation: u64) {
    let mut out = Vec::new();
    let head = Head::request(Operation::Feed, CorrelationId(correlation));
    let args = wire::GetFeedArgs {
        wait_ms: 10_000,
        ..wire::GetFeedArgs::default()
    };
    Encoder::new()
        .table(&mut out, head, |builder| wire::GetFeed::create(builder, &args))
        .unwrap();
    stream.write_all(&out).unwrap();
}

#[test]
fn so_many_feeds_wait_and_the_others_are_refused() {
    const CONNECTION_COUNT: u64 = 8;
    const PER_CONNECTION: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &options("1"));
    let client = connect(&server);
    let next = |stream: &mut TcpStream| {
        let header = read_frame(stream).expect("an answer").0;
        (header.correlation.0, header.status.known().unwrap())
    };
    let mut waiting: Vec<_> = (0..CONNECTION_COUNT).map(|_| welcomed(&server)).collect();
    for stream in &mut waiting {
        for correlation in 1..=PER_CONNECTION {
            ask_feed(stream, correlation);
        }
        // A connection may ask for no more.
        for correlation in PER_CONNECTION + 1..100 {
            ask_feed(stream, correlation);
            assert_eq!(next(stream), (correlation, Status::Overloaded));
        }
    }
    // No other feed waits, but other questions are answered.
    let mut other = welcomed(&server);
    for correlation in 1..1000 {
        ask_feed(&mut other, correlation);
        assert_eq!(next(&mut other), (correlation, Status::Overloaded));
    }
    client.put_pools(&[definition("a", 10)], false).unwrap();
    assert_eq!(client.pool_events("a", None, 10).unwrap().events.len(), 1);
    for stream in &mut waiting {
        let mut answered: Vec<_> = (0..PER_CONNECTION).map(|_| next(stream)).collect();
        answered.sort_unstable();
        let expected: Vec<_> = (1..=PER_CONNECTION)
            .map(|correlation| (correlation, Status::Ok))
            .collect();
        assert_eq!(answered, expected);
    }
    ask_feed(&mut other, 1);
    client.put_pools(&[definition("b", 10)], false).unwrap();
    assert_eq!(next(&mut other), (1, Status::Ok));
}
