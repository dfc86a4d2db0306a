//! The client without async.

use plimsoll_client::blocking::{Client, Holding};
use plimsoll_client::protocol::wire;
use plimsoll_client::{Confirming, Error, ReservationId, Reserve, Reserving};
use std::time::Duration;

use crate::commands::one;
use crate::peer::{Peer, quick, soon};

#[tokio::test]
async fn calls_of_plain_threads_are_served() {
    let peer = Peer::bind().await;
    let address = peer.address();
    let threads = std::thread::spawn(move || {
        let client = Client::connect(address, quick()).expect("it is welcomed");
        let calls: Vec<_> = (1..=8)
            .map(|key| {
                let client = client.clone();
                std::thread::spawn(move || match client.reserve(&one(key)) {
                    Ok(Reserving::Reserved(found)) => assert_eq!(found.id, ReservationId(key)),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        for call in calls {
            call.join().expect("it is reserved");
        }
        let confirmed = client.confirm(ReservationId(1), None);
        assert!(matches!(confirmed, Ok(Confirming::Confirmed(_))), "{confirmed:?}");
    });
    let mut connection = peer.accept().await;
    while let Some(frame) = soon(connection.try_read()).await {
        connection.done(&frame).await;
    }
    threads.join().expect("every call is answered");
}

#[tokio::test]
async fn the_last_client_waits_for_the_releases_of_dropped_holds() {
    let peer = Peer::bind().await;
    let address = peer.address();
    let thread = std::thread::spawn(move || {
        let client = Client::connect(address, quick()).expect("it is welcomed");
        let cart = Reserve {
            hold: Some(Duration::from_secs(600)),
            ..one(1)
        };
        let Ok(Holding::Held(hold)) = client.hold(&cart) else {
            panic!("it is held")
        };
        drop(hold.release_on_drop());
        let Ok(Holding::Held(hold)) = client.hold(&cart) else {
            panic!("it is held")
        };
        drop(client);
        drop(hold.release_on_drop());
        // Here the thread is joined, so that whatever comes after finds the units free.
    });
    let mut connection = peer.accept().await;
    let mut releases = 0;
    while let Some(frame) = soon(connection.try_read()).await {
        // A release may share its frame with what was asked at the same time.
        let commands = frame.commands();
        releases += commands
            .iter()
            .filter(|arrived| arrived.command.action() == wire::Action::release)
            .count();
        if releases == 2 {
            assert!(!thread.is_finished(), "the release is not answered yet");
        }
        connection.done(&frame).await;
    }
    assert_eq!(releases, 2);
    thread.join().expect("no panic");
}

#[test]
fn no_server_is_an_error_and_no_hang() {
    let error = Client::connect("127.0.0.1:1", quick()).expect_err("nobody listens");
    assert!(
        matches!(&error, Error::NotConnected { .. }) && error.retryable(),
        "{error}"
    );
}
