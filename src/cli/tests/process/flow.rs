//! More than a connection may have in flight, and a client that reads late.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use plimsoll_client::protocol::frame::{self, Decoded};
use plimsoll_client::protocol::{Operation, Status};

use crate::bad_input::{connect, hello, reserves};
use crate::support::{Server, succeed};

const FRAME_COUNT: usize = 300;
const COMMAND_COUNT: usize = 1000;

/// Reads answers until so many commands are answered.
fn read_outcomes(stream: &mut TcpStream, mut missing: usize) {
    let mut bytes = Vec::new();
    let mut part = vec![0; 1 << 16];
    while missing > 0 {
        let count = stream
            .read(&mut part)
            .unwrap_or_else(|error| panic!("{missing} answers are missing: {error}"));
        assert!(count > 0, "the server closed, {missing} answers are missing");
        bytes.extend_from_slice(&part[..count]);
        let mut taken = 0;
        while let Decoded::Frame(frame) = frame::decode(&bytes[taken..]).unwrap() {
            if frame.header.operation() == Some(Operation::Commands) {
                assert_eq!(frame.header.status.known(), Some(Status::Ok));
                missing -= usize::from(frame.header.count);
            }
            taken += frame.header.size as usize;
        }
        bytes.drain(..taken);
    }
}

#[test]
fn every_frame_is_answered_however_many_are_sent_and_however_late_answers_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        &directory.path().join("data"),
        &["--dimensions", "rooms", "--cores", "2"],
    );
    for pause in [Duration::ZERO, Duration::from_millis(500)] {
        let mut stream = connect(&server);
        let mut writer = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            writer.write_all(&hello(plimsoll_client::protocol::VERSION)).unwrap();
            for _ in 0..FRAME_COUNT {
                writer.write_all(&reserves(COMMAND_COUNT)).unwrap();
            }
        });
        std::thread::sleep(pause);
        // The others are served meanwhile.
        assert_eq!(succeed(&server, &["pool", "list", "--used"]), "");
        read_outcomes(&mut stream, FRAME_COUNT * COMMAND_COUNT);
        sender.join().unwrap();
    }
    assert_eq!(server.terminate(), Some(0));
}
