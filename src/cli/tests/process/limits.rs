//! Clients that cost more than they should, all at once, beside one that behaves: what they may hold, for how long, and that nobody waits for them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_client::protocol::frame::{self, Decoded, Head, Header};
use plimsoll_client::protocol::{CorrelationId, Encoder, Operation, Status, VERSION, wire};
use plimsoll_client::{Client, Key, KeySource, Options, Releasing, Reserve, Reserving, Units};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bad_input::{connect, hello, reserves};
use crate::support::{Random, Server, seed, serve, succeed};

/// What the connections of the one core may hold.
const CONNECTION_MEMORY_KIB: u64 = 32 * 1024;
/// What else may grow while thousands of frames are on their way: messages that are kept for the next commands, answers on their way, the sockets' own.
const OTHER_MEMORY_KIB: u64 = 64 * 1024;
/// What may stay: the same messages, and what the allocator keeps for the next connections.
const REMAINING_MEMORY_KIB: u64 = 48 * 1024;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
const FRAME_TIMEOUT: Duration = Duration::from_secs(3);
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server may take to look at every connection, on a busy machine.
const LOOK_PATIENCE: Duration = Duration::from_secs(4);

/// Clients that never read, of each sort.
const DEAF_COUNT: usize = 12;

const OPTIONS: [&str; 12] = [
    "--dimensions",
    "rooms",
    "--cores",
    "1",
    "--connection-memory",
    "32MiB",
    "--handshake-timeout",
    "1s",
    "--frame-timeout",
    "3s",
    "--write-timeout",
    "3s",
];

/// 1,300 sockets are more than the usual limit of open files.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
}

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    // The journal's mapped pages are the page cache's.
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sockets that the server has open; journals and archives come and go beside them.
fn socket_count(server: &Server) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    files
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Waits until it holds.
fn wait_for(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "{what} within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn import_pools(server: &Server, directory: &Path, count: usize) {
    let file = directory.join("pools.csv");
    let mut text = String::from("name,zone,kind,starts_at,ends_at,coverage,rooms\n");
    for number in 0..count {
        let coverage = "prefix-of-a-location ".repeat(20);
        text.push_str(&format!("pool-{number},z,k,0,1,{coverage},1000000\n"));
    }
    std::fs::write(&file, text).unwrap();
    succeed(server, &["pool", "import", file.to_str().unwrap()]);
}

pub(crate) fn welcomed(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(&hello(VERSION)).unwrap();
    let header = read_frame(&mut stream).expect("a welcome").0;
    assert_eq!(header.status.known(), Some(Status::Ok));
    stream
}

/// The next frame; `None` when the server has closed.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<(Header, Vec<u8>)> {
    let mut bytes = vec![0; 32];
    stream.read_exact(&mut bytes).ok()?;
    let header = frame::header(&bytes).unwrap().unwrap();
    let mut payload = vec![0; header.payload_size()];
    stream.read_exact(&mut payload).ok()?;
    Some((header, payload))
}

fn header(operation: u16, correlation: u64, size: u32, count: u16) -> [u8; 32] {
    let mut header = frame::header(&reserves(1)).unwrap().unwrap();
    header.operation = operation;
    header.correlation = CorrelationId(correlation);
    header.size = size;
    header.count = count;
    // Nobody should find out: the payload is not looked at.
    header.payload_crc = 1;
    header.encode()
}

fn ping(correlation: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let head = Head::request(Operation::Ping, CorrelationId(correlation));
    Encoder::new().empty(&mut out, head);
    out
}

fn list_pools(correlation: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let head = Head::request(Operation::ListPools, CorrelationId(correlation));
    Encoder::new()
        .table(&mut out, head, |builder| {
            wire::ListPools::create(builder, &wire::ListPoolsArgs { after: None, limit: 0 })
        })
        .unwrap();
    out
}

/// Writes until the server takes nothing any more, and reads nothing.
fn write_without_reading(stream: &mut TcpStream, frame: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let mut at = 0;
    loop {
        match stream.write(&frame[at..]) {
            Ok(count) => at = (at + count) % frame.len(),
            // Not read any more, or closed already.
            Err(_) => return,
        }
        assert!(
            Instant::now() < until,
            "the server reads on, whatever is not read from it"
        );
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 65536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Waits until the server has closed them all, and returns how long that took for the last.
fn wait_until_closed(what: &str, streams: &mut Vec<TcpStream>, patience: Duration) {
    wait_for(what, patience, || {
        streams.retain_mut(|stream| !is_closed(stream));
        streams.is_empty()
    });
}

/// Reserves and releases, one after the other, until it is told to end.
struct WellBehaved {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl WellBehaved {
    fn start(server: &Server) -> WellBehaved {
        let is_over = Arc::new(AtomicBool::new(false));
        let (engine, over) = (server.engine(), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // What is refused is not hidden by a second try.
                let options = Options {
                    retry: false,
                    ..Options::default()
                };
                let client = Client::connect(&*engine, options).await.unwrap();
                let mut latencies = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let reserve = Reserve::new("pool-1", Units::InOrder(&[1]), Key::random().unwrap());
                    let reserving = client.reserve(&reserve).await.unwrap();
                    let Reserving::Reserved(reservation) = reserving else {
                        panic!("a reserve was not answered as it must be: {reserving:?}");
                    };
                    let released = client.release(reservation.id, None).await.unwrap();
                    assert!(matches!(released, Releasing::Released(_)), "{released:?}");
                    latencies.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                latencies
            })
        });
        WellBehaved { is_over, thread }
    }

    /// All its answers have arrived; how long each pair took, sorted.
    fn end(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut latencies = self.thread.join().unwrap();
        latencies.sort_unstable();
        latencies
    }
}

/// Looks how much memory the server has until it is told to end.
fn watch_memory(server: &Server, is_over: &AtomicBool) -> u64 {
    let mut highest = 0;
    while !is_over.load(Ordering::Relaxed) {
        highest = highest.max(resident_kib(server));
        std::thread::sleep(Duration::from_millis(10));
    }
    highest
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn bad_clients_hold_little_for_a_short_time_and_nobody_waits_for_them() {
    raise_open_files();
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &OPTIONS);
    import_pools(&server, directory.path(), 1000);
    let well_behaved = WellBehaved::start(&server);
    std::thread::sleep(Duration::from_millis(500));
    let sockets_before = socket_count(&server);
    let memory_before = resident_kib(&server);

    let is_over = AtomicBool::new(false);
    let highest = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(&server, &is_over));
        // Whatever fails, the watcher must end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            attack(&server, sockets_before, &mut random);
        }));
        is_over.store(true, Ordering::Relaxed);
        let highest = watcher.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        highest
    });

    wait_for("the descriptors are given back", LOOK_PATIENCE, || {
        socket_count(&server) <= sockets_before
    });
    let grown = highest.saturating_sub(memory_before);
    eprintln!("memory: {memory_before} KiB before, {highest} KiB at most");
    assert!(
        grown <= CONNECTION_MEMORY_KIB + OTHER_MEMORY_KIB,
        "the server grew by {grown} KiB"
    );
    let mut memory_after = 0;
    wait_for("the memory is given back", LOOK_PATIENCE, || {
        memory_after = resident_kib(&server);
        eprintln!("memory: {memory_after} KiB after");
        memory_after <= memory_before + REMAINING_MEMORY_KIB
    });

    let latencies = well_behaved.end();
    eprintln!(
        "the one that behaves: {} pairs, p50 {:?}, p99 {:?}, max {:?}",
        latencies.len(),
        percentile(&latencies, 50),
        percentile(&latencies, 99),
        percentile(&latencies, 100)
    );
    assert!(latencies.len() > 200, "only {} pairs were answered", latencies.len());
    assert!(percentile(&latencies, 99) < Duration::from_secs(1));
    assert!(succeed(&server, &["pool", "list", "--used"]).contains("pool-1,0\n"));
    assert_eq!(server.terminate(), Some(0));
}

fn attack(server: &Server, sockets_before: usize, random: &mut Random) {
    // Those that say nothing, and those that say half a header.
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..500).map(|_| connect(server)).collect();
    let mut half: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = connect(server);
            stream.write_all(&hello(VERSION)[..16]).unwrap();
            stream
        })
        .collect();
    assert!(silent.iter_mut().all(|stream| !is_closed(stream)) || begun.elapsed() > HANDSHAKE_TIMEOUT / 2);
    wait_until_closed("silent ones are closed", &mut silent, HANDSHAKE_TIMEOUT + LOOK_PATIENCE);
    wait_until_closed("half headers are closed", &mut half, HANDSHAKE_TIMEOUT + LOOK_PATIENCE);

    // Frames that claim the largest size, of which nothing comes, and of which half comes: more than the connections may hold.
    let begun = Instant::now();
    let mut claims: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = welcomed(server);
            stream.write_all(&header(16, 7, 1 << 20, 8192)).unwrap();
            stream
        })
        .collect();
    let payload = vec![0xA5; 768 << 10];
    let mut halves: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = welcomed(server);
            stream.write_all(&header(16, 7, 1 << 20, 8192)).unwrap();
            stream.write_all(&payload).unwrap();
            stream
        })
        .collect();
    check_refused_from_its_header(server);
    assert!(
        begun.elapsed() < FRAME_TIMEOUT,
        "this machine is too slow for the frames to be incomplete at once: {:?}",
        begun.elapsed()
    );
    wait_until_closed("claims are closed", &mut claims, FRAME_TIMEOUT + LOOK_PATIENCE);
    wait_until_closed("half payloads are closed", &mut halves, FRAME_TIMEOUT + LOOK_PATIENCE);

    // Those that never read an answer: to large frames of commands, to lists of pools, and to frames that are refused.
    let large = reserves(8192);
    let lists: Vec<u8> = (1..=64).flat_map(list_pools).collect();
    let unknown = header(999, 7, 32, 0).repeat(1000);
    for (name, frame) in [("outcomes", &large), ("lists", &lists), ("refusals", &unknown)] {
        let mut deaf: Vec<_> = std::thread::scope(|scope| {
            let write = || {
                let mut stream = welcomed(server);
                write_without_reading(&mut stream, frame);
                stream
            };
            let writers: Vec<_> = (0..DEAF_COUNT).map(|_| scope.spawn(write)).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        // They still do not read: that would count as taking their answers.
        wait_for(
            &format!("those that do not read {name} are closed"),
            WRITE_TIMEOUT + LOOK_PATIENCE,
            || socket_count(server) <= sockets_before,
        );
        wait_until_closed(name, &mut deaf, Duration::from_secs(1));
    }

    // Noise, at once and behind hello.
    for index in 0..200 {
        let noise: Vec<u8> = (0..random.below(10_000)).map(|_| random.next() as u8).collect();
        let mut stream = if index % 2 == 0 {
            connect(server)
        } else {
            welcomed(server)
        };
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// While others hold the memory, a large frame is refused before anything of it is checked, and skipped: what follows is answered. A small one is taken.
fn check_refused_from_its_header(server: &Server) {
    let mut stream = welcomed(server);
    let mut bytes = header(16, 8, 1 << 20, 8192).to_vec();
    bytes.resize(1 << 20, 0xA5);
    bytes.extend(ping(9));
    bytes.extend(reserves(10));
    stream.write_all(&bytes).unwrap();
    let answers: Vec<_> = (0..3)
        .map(|_| {
            let header = read_frame(&mut stream).expect("an answer").0;
            (header.correlation.0, header.status.known())
        })
        .collect();
    assert_eq!(
        answers,
        [
            (8, Some(Status::Overloaded)),
            (9, Some(Status::Ok)),
            (2, Some(Status::Ok))
        ]
    );
}

#[test]
fn a_connection_past_the_limit_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let options = ["--dimensions", "rooms", "--cores", "2", "--connections", "20"];
    let mut command = serve(&directory.path().join("data"), "127.0.0.1:0", &options);
    let server = Server::spawn(command.stderr(std::fs::File::create(&log).unwrap()));
    let mut streams: Vec<_> = (0..20).map(|_| welcomed(&server)).collect();
    let begun = Instant::now();
    for _ in 0..200 {
        let mut stream = connect(&server);
        let (header, _) = read_frame(&mut stream).expect("a refusal");
        assert_eq!(header.correlation, CorrelationId(0));
        assert_eq!(header.status.known(), Some(Status::Overloaded));
        assert!(header.is_answer());
        assert!(read_frame(&mut stream).is_none(), "the server must close");
    }
    let lines_max = 2 * (1 + begun.elapsed().as_secs() as usize);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| line.contains("connections refused")).count();
    assert!((1..=lines_max).contains(&lines), "{text}");
    // Those that were there go on, and a place that is given up can be taken.
    streams.pop();
    for stream in &mut streams {
        stream.write_all(&ping(5)).unwrap();
        assert_eq!(read_frame(stream).expect("an answer").0.correlation, CorrelationId(5));
    }
    wait_for("a place is free", LOOK_PATIENCE, || {
        let mut stream = connect(&server);
        stream.write_all(&hello(VERSION)).unwrap();
        read_frame(&mut stream).is_some_and(|(header, _)| header.status.known() == Some(Status::Ok))
    });
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn idle_connections_are_closed_only_when_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for idle_timeout in [None, Some("1s")] {
        let mut options = OPTIONS.to_vec();
        options.extend(idle_timeout.iter().flat_map(|time| ["--idle-timeout", time]));
        let server = Server::start(&data, &options);
        let (mut idle, mut busy) = (welcomed(&server), welcomed(&server));
        let until = Instant::now() + 2 * FRAME_TIMEOUT;
        while Instant::now() < until {
            busy.write_all(&ping(3)).unwrap();
            assert!(read_frame(&mut busy).is_some(), "a connection in use was closed");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(is_closed(&mut idle), idle_timeout.is_some(), "{idle_timeout:?}");
        assert_eq!(server.terminate(), Some(0));
    }
}

#[test]
fn rare_operations_in_flight_are_bounded_and_all_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &OPTIONS);
    import_pools(&server, directory.path(), 1000);
    let mut stream = welcomed(&server);
    let frames: Vec<u8> = (1..=200).flat_map(list_pools).collect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&frames).unwrap());
    let mut answered = vec![None; 201];
    for _ in 0..200 {
        let (header, _) = read_frame(&mut stream).expect("an answer");
        let place = &mut answered[header.correlation.0 as usize];
        assert_eq!(place.replace(header.status.known()), None);
    }
    sender.join().unwrap();
    let count = |status| answered.iter().filter(|answer| **answer == Some(Some(status))).count();
    let (ok, overloaded) = (count(Status::Ok), count(Status::Overloaded));
    eprintln!("{ok} lists were answered, {overloaded} refused");
    assert_eq!(ok + overloaded, 200);
    assert!(ok > 0 && overloaded > 0);
    assert_eq!(server.terminate(), Some(0));
}

/// How long single pings take, sorted.
fn ping_latencies(stream: &mut TcpStream, count: usize) -> Vec<Duration> {
    let mut latencies: Vec<_> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            stream.write_all(&ping(3)).unwrap();
            read_frame(stream).expect("an answer");
            begun.elapsed()
        })
        .collect();
    latencies.sort_unstable();
    latencies
}

/// Keeps so many frames in flight until it is told to end; how many were answered.
fn flood(server: &Server, frame: &[u8], in_flight: usize, is_over: &AtomicBool) -> usize {
    let mut stream = welcomed(server);
    let mut bytes = Vec::new();
    let mut part = vec![0; 1 << 16];
    let mut answered = 0;
    let mut missing = 0;
    while !is_over.load(Ordering::Relaxed) {
        let wanted = in_flight - missing;
        stream.write_all(&frame.repeat(wanted)).unwrap();
        missing += wanted;
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the server closed");
        bytes.extend_from_slice(&part[..count]);
        let mut taken = 0;
        while let Decoded::Frame(frame) = frame::decode(&bytes[taken..]).unwrap() {
            taken += frame.header.size as usize;
            missing -= 1;
            answered += 1;
        }
        bytes.drain(..taken);
    }
    answered
}

/// Sends without waiting for answers, and reads them all, until it is told to end; how many were answered.
fn torrent(server: &Server, frame: &[u8], is_over: &AtomicBool) -> usize {
    let mut stream = welcomed(server);
    let mut writer = stream.try_clone().unwrap();
    let frames = frame.repeat((1 << 20) / frame.len());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) && writer.write_all(&frames).is_ok() {}
            let _ = writer.shutdown(Shutdown::Write);
        });
        // All answers are of one size.
        let size = read_frame(&mut stream).expect("an answer").0.size as usize;
        let mut part = vec![0; 1 << 20];
        let mut bytes = size;
        loop {
            match stream.read(&mut part) {
                Ok(0) | Err(_) => return bytes / size,
                Ok(count) => bytes += count,
            }
        }
    })
}

#[test]
fn a_flood_on_one_connection_does_not_starve_another() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "rooms", "--cores", "1"],
    );
    let mut modest = welcomed(&server);
    let alone = ping_latencies(&mut modest, 2000);
    eprintln!(
        "alone: p50 {:?}, p99 {:?}",
        percentile(&alone, 50),
        percentile(&alone, 99)
    );
    let unknown = [&header(999, 7, 65536, 0)[..], &vec![0; 65536 - 32]].concat();
    // How many frames may be unanswered; none: as many as the server reads.
    let floods: [(&str, Vec<u8>, Option<usize>); 5] = [
        ("pings, 64 in flight", ping(7), Some(64)),
        ("commands, 64 in flight", reserves(1), Some(64)),
        ("frames of 1,000 commands, 32 in flight", reserves(1000), Some(32)),
        ("pings without end", ping(7), None),
        ("unknown operations of 64 KiB without end", unknown, None),
    ];
    for (name, frame, in_flight) in floods {
        let is_over = AtomicBool::new(false);
        let (latencies, answered) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| match in_flight {
                Some(in_flight) => flood(&server, &frame, in_flight, &is_over),
                None => torrent(&server, &frame, &is_over),
            });
            std::thread::sleep(Duration::from_millis(200));
            let latencies = ping_latencies(&mut modest, 500);
            is_over.store(true, Ordering::Relaxed);
            (latencies, flooding.join().unwrap())
        });
        let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
        eprintln!("{name} ({answered} answered): p50 {p50:?}, p99 {p99:?}");
        assert!(answered > 500, "{name}: only {answered} were answered");
        assert!(p50 < Duration::from_millis(5), "{name}: p50 {p50:?}");
        assert!(p99 < Duration::from_millis(100), "{name}: p99 {p99:?}");
    }
    assert_eq!(server.terminate(), Some(0));
}
