//! Lost connections, late and damaged answers, overload, another directory.

use std::time::{Duration, Instant};

use plimsoll_client::protocol::frame::Head;
use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Applied, Backoff, Client, ConnectError, Error, Key, Options, PoolId, Releasing, ReservationId, Reserve, Reserving,
    Status, UnknownCause,
};

use crate::commands::one;
use crate::peer::{Peer, QUIET, Received, done, quick, soon};

async fn reserved(client: &Client, key: u128) {
    match client.reserve(&one(key)).await {
        Ok(Reserving::Reserved(found)) => assert_eq!(found.id, ReservationId(key)),
        other => panic!("expected a reservation, found {other:?}"),
    }
}

async fn unknown(client: &Client, key: u128) -> (UnknownCause, u32) {
    match client.reserve(&one(key)).await {
        Ok(Reserving::Unknown(unknown)) => {
            assert_eq!((unknown.applied(), unknown.retryable()), (Applied::Unknown, true));
            (unknown.cause, unknown.attempts)
        }
        other => panic!("expected an unknown outcome, found {other:?}"),
    }
}

#[tokio::test]
async fn a_reserve_whose_connection_is_lost_is_sent_again_with_its_key() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let lost = connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        let again = connection.read().await;
        assert_eq!(again.commands(), lost.commands());
        let mut outcome = done(&again.commands()[0]);
        outcome.set_flags(1);
        connection.answer(&again, &[outcome], &[]).await;
        // A release as well, without a key.
        let lost = connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        let again = connection.read().await;
        assert_eq!(again.commands(), lost.commands());
        connection.done(&again).await;
    };
    let call = async {
        let found = client.reserve(&one(5)).await;
        assert!(
            matches!(found, Ok(Reserving::Reserved(found)) if found.repeated),
            "it was done the first time"
        );
        assert!(matches!(
            client.release(ReservationId(5), None).await,
            Ok(Releasing::Released(_))
        ));
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn without_retry_a_lost_connection_leaves_the_outcome_unknown() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer
        .connect(Options {
            retry: false,
            ..quick()
        })
        .await;
    let serve = async {
        connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        connection.quiet().await;
    };
    let (_, found) = soon(async { tokio::join!(serve, unknown(&client, 1)) }).await;
    assert_eq!(found, (UnknownCause::ConnectionLost, 1));
}

#[tokio::test]
async fn no_answer_within_the_deadline_is_unknown_and_no_connection_is_not_sent() {
    let peer = Peer::bind().await;
    let timeout = Duration::from_millis(80);
    let (client, mut connection) = peer
        .connect(Options {
            request_timeout: timeout,
            ..quick()
        })
        .await;
    let began = Instant::now();
    let (frame, found) = soon(async { tokio::join!(connection.read(), unknown(&client, 1)) }).await;
    assert_eq!((frame.header.count, found), (1, (UnknownCause::Deadline, 1)));
    assert!(
        began.elapsed() >= timeout && began.elapsed() < timeout * 20,
        "{:?}",
        began.elapsed()
    );
    // Nothing came for a whole timeout: the client tries another connection. This one goes away, with the listener.
    assert!(soon(connection.try_read()).await.is_none());
    drop(peer);
    let error = soon(client.reserve(&one(2))).await.expect_err("it cannot be sent");
    assert!(matches!(error, Error::NotSent { .. }) && error.retryable(), "{error}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_connection_that_never_returns_leaves_the_outcome_unknown_not_unsent() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer
        .connect(Options {
            request_timeout: Duration::from_millis(80),
            ..quick()
        })
        .await;
    let serve = async {
        connection.read().await;
        drop(connection);
        drop(peer);
    };
    let ((), found) = soon(async { tokio::join!(serve, unknown(&client, 1)) }).await;
    assert_eq!(found, (UnknownCause::ConnectionLost, 1));
}

#[tokio::test]
async fn late_answers_are_ignored_and_still_count_for_the_window() {
    let mut peer = Peer::bind().await;
    peer.limits.window_commands = 1;
    let (client, mut connection) = peer
        .connect(Options {
            request_timeout: Duration::from_millis(1000),
            ..quick()
        })
        .await;
    let mut held: Option<Received> = None;
    let first = async {
        held = Some(connection.read().await);
        // A sign of life, so that the connection is kept: half of the answer's header.
        tokio::time::sleep(QUIET).await;
        let held = held.as_ref().expect("it was read");
        let outcomes = [done(&held.commands()[0])];
        let answer = connection.outcomes(held.header.correlation, &outcomes, &[]);
        connection.write(&answer[..16]).await;
        answer
    };
    let (answer, found) = soon(async { tokio::join!(first, unknown(&client, 1)) }).await;
    assert_eq!(found.0, UnknownCause::Deadline);
    // The server still counts the command: there is no room for the next until its answer is here.
    let serve = async {
        connection.quiet().await;
        connection.write(&answer[16..]).await;
        let frame = connection.read().await;
        assert_eq!(frame.commands()[0].command.key(), Key(2));
        connection.done(&frame).await;
    };
    soon(async { tokio::join!(serve, reserved(&client, 2)) }).await;
}

#[tokio::test]
async fn overload_is_waited_out() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        for status in [Status::Overloaded, Status::Unavailable, Status::ChecksumMismatch] {
            let frame = connection.read().await;
            connection.refuse(&frame, status).await;
            let frame = connection.read().await;
            connection.fail(&frame, status, "as a whole").await;
        }
        let frame = connection.read().await;
        connection.done(&frame).await;
    };
    soon(async { tokio::join!(serve, reserved(&client, 1)) }).await;
}

#[tokio::test]
async fn overload_for_longer_than_the_deadline_is_a_refusal() {
    let peer = Peer::bind().await;
    let pause = Duration::from_secs(600);
    let options = Options {
        backoff: Backoff { min: pause, max: pause },
        ..quick()
    };
    let (client, mut connection) = peer.connect(options).await;
    let serve = async {
        let frame = connection.read().await;
        connection.refuse(&frame, Status::Overloaded).await;
    };
    let reserve = one(1);
    let ((), refused) = soon(async { tokio::join!(serve, client.reserve(&reserve)) }).await;
    assert!(matches!(refused, Ok(Reserving::Refused(refusal)) if refusal.is(Status::Overloaded)));
}

#[tokio::test]
async fn overload_after_a_lost_attempt_leaves_the_outcome_unknown() {
    let peer = Peer::bind().await;
    let options = Options {
        request_timeout: Duration::from_millis(400),
        ..quick()
    };
    let (client, mut connection) = peer.connect(options).await;
    let serve = async {
        connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        while let Some(frame) = connection.try_read().await {
            connection.refuse(&frame, Status::Overloaded).await;
        }
    };
    // The first attempt may have taken effect; that a later one was refused as overloaded does not tell.
    soon(async {
        tokio::select! { found = unknown(&client, 1) => assert!(found.1 > 0), () = serve => {} }
    })
    .await;
}

#[tokio::test]
async fn answers_cut_at_each_length_are_lost_and_retried() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let size = connection
        .outcomes(
            plimsoll_client::protocol::CorrelationId(1),
            &[wire::Outcome::default()],
            &[],
        )
        .len();
    for cut in 0..size {
        let serve = async {
            let frame = connection.read().await;
            let answer = connection.outcomes(frame.header.correlation, &[done(&frame.commands()[0])], &[]);
            connection.write(&answer[..cut]).await;
            drop(connection);
            let mut connection = peer.accept().await;
            let frame = connection.read().await;
            connection.done(&frame).await;
            connection
        };
        (connection, ()) = soon(async { tokio::join!(serve, reserved(&client, 1 + cut as u128)) }).await;
    }
}

#[tokio::test]
async fn answers_that_come_byte_by_byte_are_read() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        let answer = connection.outcomes(frame.header.correlation, &[done(&frame.commands()[0])], &[]);
        for byte in answer {
            connection.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
    };
    soon(async { tokio::join!(serve, reserved(&client, 1)) }).await;
}

#[tokio::test]
async fn garbage_ends_the_connection_or_the_answer_and_is_retried() {
    type Garbage = fn(&mut crate::peer::Connection, &Received) -> Vec<u8>;
    let frame_ends_the_connection: [Garbage; 4] = [
        |_, _| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        |_, _| vec![0xFF; 4096],
        // An answer that nobody asked for.
        |connection, to| {
            let correlation = plimsoll_client::protocol::CorrelationId(to.header.correlation.0 ^ 1 << 40);
            connection.outcomes(correlation, &[wire::Outcome::refused(Status::PoolClosed)], &[])
        },
        // The last word of a server that could not read a header.
        |connection, _| {
            let mut bytes = Vec::new();
            connection
                .encoder
                .failure(&mut bytes, Head::farewell(), Status::FrameInvalid, "bad header");
            bytes
        },
    ];
    let only_the_answer: [Garbage; 6] = [
        // A damaged payload: a bit of the reservation's id, which only the checksum notices.
        |connection, to| {
            let mut bytes = connection.outcomes(to.header.correlation, &[done(&to.commands()[0])], &[]);
            bytes[72] ^= 1;
            bytes
        },
        // Another count.
        |connection, to| connection.outcomes(to.header.correlation, &[wire::Outcome::default(); 2], &[]),
        |connection, to| connection.outcomes(to.header.correlation, &[], &[]),
        // Nothing about what remains.
        |connection, to| connection.outcomes(to.header.correlation, &[wire::Outcome::insufficient(1)], &[]),
        // A status of a later version that says nothing.
        |connection, to| {
            let mut outcome = wire::Outcome::default();
            outcome.set_status(200);
            connection.outcomes(to.header.correlation, &[outcome], &[])
        },
        // The answer to something else.
        |connection, to| {
            let mut bytes = Vec::new();
            let head = Head::answer(plimsoll_client::protocol::Operation::Ping, to.header.correlation);
            connection.encoder.empty(&mut bytes, head);
            bytes
        },
    ];
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let all = frame_ends_the_connection.iter().map(|make| (make, true));
    for (index, (make, ends)) in all.chain(only_the_answer.iter().map(|make| (make, false))).enumerate() {
        let serve = async {
            let frame = connection.read().await;
            let garbage = make(&mut connection, &frame);
            connection.write(&garbage).await;
            if ends {
                assert!(
                    soon(connection.try_read()).await.is_none(),
                    "case {index} ends the connection"
                );
                connection = peer.accept().await;
            }
            let frame = connection.read().await;
            connection.done(&frame).await;
            connection
        };
        (connection, ()) = soon(async { tokio::join!(serve, reserved(&client, 1 + index as u128)) }).await;
    }
}

#[tokio::test]
async fn another_directory_voids_what_is_in_flight_and_what_is_remembered() {
    let mut peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let named = |key| Reserve {
        pool: "slot-1".into(),
        ..one(key)
    };
    let (reserve, in_flight) = (named(1), named(2));
    let before = async {
        let resolve = connection.read().await;
        connection.resolved(&resolve, &[70]).await;
        let frame = connection.read().await;
        connection.done(&frame).await;
    };
    let (_, found) = soon(async { tokio::join!(before, client.reserve(&reserve)) }).await;
    assert!(matches!(found, Ok(Reserving::Reserved(_))));
    peer.limits.directory_id = "ffffffffffffffffffffffffffffffff";
    let change = async {
        connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        connection.quiet().await;
        connection
    };
    let (mut connection, found) = soon(async { tokio::join!(change, client.reserve(&in_flight)) }).await;
    assert!(matches!(found, Ok(Reserving::Unknown(unknown)) if unknown.cause == UnknownCause::DirectoryChanged));
    assert_eq!(client.welcome().directory_id, "ffffffffffffffffffffffffffffffff");
    let after = async {
        let resolve = connection.read().await;
        assert_eq!(resolve.names(), ["slot-1"]);
        connection.resolved(&resolve, &[3]).await;
        let frame = connection.read().await;
        assert_eq!(frame.commands()[0].command.pool_id(), PoolId(3));
        connection.done(&frame).await;
    };
    let reserve = named(3);
    let (_, found) = soon(async { tokio::join!(after, client.reserve(&reserve)) }).await;
    assert!(matches!(found, Ok(Reserving::Reserved(_))));
}

#[tokio::test]
async fn connecting_says_why_it_failed() {
    let error = Client::connect("127.0.0.1:1", quick())
        .await
        .expect_err("nobody listens");
    let Error::NotConnected { source, .. } = error else {
        panic!("{error}")
    };
    assert!(matches!(*source, ConnectError::Io { .. }));

    let peer = Peer::bind().await;
    let refuse = async {
        let mut connection = peer.accept_bare().await;
        let hello = connection.read().await;
        connection
            .fail(&hello, Status::VersionUnsupported, "speaks 2 to 3")
            .await;
    };
    let (_, client) = soon(async { tokio::join!(refuse, Client::connect(peer.address(), quick())) }).await;
    let Err(Error::NotConnected { source, .. }) = client else {
        panic!("{client:?}")
    };
    assert_eq!(
        source.to_string(),
        "the server refused the connection as version_unsupported: speaks 2 to 3"
    );

    let options = Options {
        connect_timeout: Duration::from_millis(50),
        ..quick()
    };
    let silent = async {
        let mut connection = peer.accept_bare().await;
        connection.read().await;
        assert!(connection.try_read().await.is_none(), "the client gives up");
    };
    let (_, client) = soon(async { tokio::join!(silent, Client::connect(peer.address(), options)) }).await;
    let Err(Error::NotConnected { source, .. }) = client else {
        panic!("{client:?}")
    };
    assert!(matches!(*source, ConnectError::Timeout { .. }));
}
