//! Bytes, frames and files that the server and the command must not take, and must survive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use plimsoll_client::protocol::frame::{self, Decoded, Head, Header};
use plimsoll_client::protocol::{CorrelationId, Encoder, Operation, Reserve, Status, VERSION, wire};
use plimsoll_client::{Key, PoolId};

use crate::support::{Random, Server, run, seed, succeed};

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub(crate) fn hello(version: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let head = Head::request(Operation::Hello, CorrelationId(1));
    let build = |builder: &mut plimsoll_client::protocol::flatbuffers::FlatBufferBuilder<'static>| {
        let args = wire::HelloArgs {
            version_min: version,
            version_max: version,
            client: None,
            credentials: None,
        };
        wire::Hello::create(builder, &args)
    };
    Encoder::new().table(&mut out, head, build).unwrap();
    out
}

pub(crate) fn reserves(count: usize) -> Vec<u8> {
    let commands: Vec<_> = (0..count)
        .map(|index| {
            let key = Key(index as u128);
            wire::Command::reserve(Reserve {
                pool: PoolId(1 << 48),
                key,
                hold_seconds: 0,
                occurred_at: None,
            })
        })
        .collect();
    let commands = plimsoll_client::protocol::Commands {
        commands: &commands,
        units: &vec![1; count],
        traceparent: None,
    };
    let mut out = Vec::new();
    Encoder::new()
        .commands(&mut out, CorrelationId(2), commands, [].into_iter())
        .unwrap();
    out
}

/// Everything that the server sends until it closes, as headers.
fn answers(stream: &mut TcpStream) -> Vec<Header> {
    let mut bytes = Vec::new();
    // A reset is a close as well: the server left bytes unread.
    let _ = stream.read_to_end(&mut bytes);
    let mut headers = Vec::new();
    let mut rest = &bytes[..];
    while let Ok(Decoded::Frame(frame)) = frame::decode(rest) {
        headers.push(frame.header);
        rest = &rest[frame.header.size as usize..];
    }
    headers
}

fn statuses(server: &Server, bytes: &[u8]) -> Vec<Option<Status>> {
    let mut stream = connect(server);
    // The server may close while it is still being written to.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    answers(&mut stream)
        .iter()
        .map(|header| header.status.known())
        .collect()
}

fn with_header(bytes: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = frame::header(bytes).unwrap().unwrap();
    change(&mut header);
    [&header.encode()[..], &bytes[32..]].concat()
}

#[test]
fn bad_bytes_are_answered_or_dropped_and_the_server_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start(&data, &["--dimensions", "rooms", "--cores", "2"]);
    let mut random = Random(seed());
    let (ok, invalid) = (Some(Status::Ok), Some(Status::FrameInvalid));

    for size in [1, 3, 4, 31, 32, 33, 1000, 100_000] {
        let mut noise: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
        // The first byte of a frame, alone, is no mistake yet.
        if noise[0] == hello(VERSION)[0] {
            noise[0] ^= 1;
        }
        assert_eq!(statuses(&server, &noise), [invalid], "{size} random bytes");
        let noise = [hello(VERSION), noise].concat();
        assert_eq!(
            statuses(&server, &noise),
            [ok, invalid],
            "hello, then {size} random bytes"
        );
    }

    let whole = [hello(VERSION), reserves(3)].concat();
    assert_eq!(statuses(&server, &whole), [ok, ok]);
    let hello_size = hello(VERSION).len();
    for cut in 0..whole.len() {
        let expected = if cut < hello_size { &[][..] } else { &[ok][..] };
        assert_eq!(
            statuses(&server, &whole[..cut]),
            expected,
            "cut after {cut} of {} bytes",
            whole.len()
        );
    }

    // Sizes that no frame has, with headers that are right otherwise.
    for size in [0, 8, 31, 33, (1 << 20) + 8, u32::MAX - 7, u32::MAX] {
        let bytes = [hello(VERSION), with_header(&reserves(1), |header| header.size = size)].concat();
        assert_eq!(statuses(&server, &bytes), [ok, invalid], "size {size}");
    }
    // A frame that says more than comes.
    let bytes = [
        hello(VERSION),
        with_header(&reserves(1), |header| header.size = 1 << 20),
    ]
    .concat();
    assert_eq!(statuses(&server, &bytes), [ok]);

    assert_eq!(
        statuses(&server, &hello(VERSION + 1)),
        [Some(Status::VersionUnsupported)]
    );
    assert_eq!(
        statuses(&server, &reserves(1)),
        [Some(Status::Malformed)],
        "commands before hello"
    );
    for operation in [0, 3, 5, 39, 999] {
        let bytes = [
            hello(VERSION),
            with_header(&reserves(1), |header| header.operation = operation),
        ]
        .concat();
        assert_eq!(
            statuses(&server, &bytes),
            [ok, Some(Status::Unsupported)],
            "operation {operation}"
        );
    }
    let bytes = [
        hello(VERSION),
        with_header(&reserves(2), |header| header.count = 3),
        reserves(1),
    ]
    .concat();
    assert_eq!(
        statuses(&server, &bytes),
        [ok, Some(Status::Malformed), ok],
        "a wrong count"
    );
    let bytes = [hello(VERSION), with_header(&reserves(1), |header| header.count = 8193)].concat();
    assert_eq!(
        statuses(&server, &bytes),
        [ok, Some(Status::FrameTooLarge)],
        "too many commands"
    );
    let mut flipped = reserves(1);
    *flipped.last_mut().unwrap() ^= 1;
    let bytes = [hello(VERSION), flipped, reserves(1)].concat();
    assert_eq!(
        statuses(&server, &bytes),
        [ok, Some(Status::ChecksumMismatch), ok],
        "a payload that was damaged"
    );

    // Payloads of noise under a right checksum, for every operation.
    for _ in 0..300 {
        let payload: Vec<u8> = (0..8 * random.below(40)).map(|_| random.next() as u8).collect();
        let mut header = frame::header(&reserves(1)).unwrap().unwrap();
        header.operation = [1, 2, 16, 17, 18, 19, 20, 21][random.below(8) as usize];
        header.size = 32 + payload.len() as u32;
        header.payload_crc = crc32c::crc32c(&payload);
        let bytes = [hello(VERSION), header.encode().to_vec(), payload].concat();
        assert_eq!(statuses(&server, &bytes).len(), 2, "{:?}", header);
    }
    assert!(server.is_running());
    assert_eq!(succeed(&server, &["pool", "list", "--used"]), "");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_client_that_stops_half_way_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "rooms", "--cores", "1"],
    );
    let whole = [hello(VERSION), reserves(100)].concat();
    let stuck: Vec<_> = (0..50)
        .map(|index| {
            let mut stream = connect(&server);
            stream.write_all(&whole[..whole.len() - 1 - index]).unwrap();
            stream
        })
        .collect();
    assert_eq!(succeed(&server, &["pool", "list", "--used"]), "");
    // Open connections do not keep the server from stopping.
    assert_eq!(server.terminate(), Some(0));
    drop(stuck);
}

#[test]
fn a_pool_file_with_bad_lines_changes_nothing_and_names_them_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "rooms", "--cores", "2"],
    );
    let file = directory.path().join("pools.csv");
    let lines = [
        "name,zone,kind,starts_at,ends_at,rooms",
        "good,z,k,0,1,5",
        "bad name,z,k,0,1,5",
        "import,z,k,0,1,5",
        "late,z,k,2,1,5",
        "many,z,k,0,1,4294967296",
        "good,z,k,0,1,6",
        "short,z,k,0",
        "when,z,k,yesterday,1,5",
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let output = run(&server, &["pool", "import", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "line 3, name",
        "line 4, name",
        "line 5, ends_at",
        "line 6, rooms",
        "line 7, name",
        "line 8",
        "line 9, starts_at",
    ] {
        assert!(text.contains(line), "{text}\ndoes not name {line}");
    }
    assert_eq!(succeed(&server, &["pool", "list", "--used"]), "", "all or nothing");
    for header in [
        "name,zone,kind,starts_at,ends_at",
        "name,zone,kind,starts_at,ends_at,rooms,beds",
    ] {
        std::fs::write(&file, format!("{header}\n")).unwrap();
        assert_eq!(
            run(&server, &["pool", "import", file.to_str().unwrap()]).status.code(),
            Some(1),
            "{header}"
        );
    }
}
