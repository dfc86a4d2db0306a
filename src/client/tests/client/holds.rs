//! Confirming, and holds as values.

use std::time::Duration;

use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Applied, Client, Confirming, Error, Hold, Holding, Invalid, Options, ReservationId, Reserve, Resizing, State,
    Status,
};

use crate::commands::one;
use crate::peer::{Connection, Peer, done, quick, soon};

fn cart(key: u128) -> Reserve<'static> {
    Reserve {
        hold: Some(Duration::from_secs(600)),
        ..one(key)
    }
}

/// A hold with this key as its id.
async fn held(client: &Client, connection: &mut Connection, key: u128) -> Hold {
    let serve = async {
        let frame = connection.read().await;
        assert_eq!(frame.commands()[0].command.hold_seconds(), 600);
        connection.done(&frame).await;
    };
    let cart = cart(key);
    match soon(async { tokio::join!(client.hold(&cart), serve) }).await.0 {
        Ok(Holding::Held(hold)) => hold,
        other => panic!("expected a hold, found {other:?}"),
    }
}

/// The next command, a release of this reservation; it is answered.
async fn released(connection: &mut Connection, id: u128) {
    let frame = connection.read().await;
    let command = frame.commands()[0].command;
    assert_eq!(command.action(), wire::Action::release);
    assert_eq!(command.reservation_id(), ReservationId(id));
    connection.done(&frame).await;
}

#[tokio::test]
async fn a_confirmation_is_sent_again_after_a_lost_connection() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let lost = connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        let again = connection.read().await;
        assert_eq!(again.commands(), lost.commands());
        let command = again.commands()[0].command;
        assert_eq!(
            (command.action(), command.business_time()),
            (wire::Action::confirm, Some(8))
        );
        connection.done(&again).await;
        let frame = connection.read().await;
        connection.refuse(&frame, Status::HoldExpired).await;
    };
    let call = async {
        match client.confirm(ReservationId(3), Some(8)).await {
            Ok(Confirming::Confirmed(found)) => {
                assert_eq!((found.id, found.state), (ReservationId(3), State::Confirmed));
            }
            other => panic!("{other:?}"),
        }
        let late = client.confirm(ReservationId(4), None).await.expect("it is answered");
        assert_eq!((late.applied(), late.retryable()), (Applied::No, false));
        assert!(matches!(late, Confirming::Refused(refusal) if refusal.is(Status::HoldExpired)));
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn a_hold_is_extended_and_confirmed_and_then_never_released() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let mut hold = held(&client, &mut connection, 7).await.release_on_drop();
    assert_eq!((hold.id(), hold.expires_at()), (ReservationId(7), Some(605)));
    let serve = async {
        let frame = connection.read().await;
        let arrived = frame.commands().remove(0);
        assert_eq!(arrived.command.action(), wire::Action::resize);
        assert_eq!(
            (arrived.command.hold_seconds(), arrived.command.expected_version()),
            (900, None)
        );
        assert_eq!(arrived.units, [u32::MAX; 2]);
        let mut outcome = done(&arrived);
        outcome.set_expires_at(905);
        connection.answer(&frame, &[outcome], &[]).await;
        let frame = connection.read().await;
        connection.done(&frame).await;
    };
    let call = async {
        let extended = hold.extend(Duration::from_secs(900)).await;
        assert!(matches!(extended, Ok(Resizing::Resized(_))), "{extended:?}");
        assert_eq!(hold.expires_at(), Some(905));
        let confirmed = hold.confirm().await;
        assert!(matches!(confirmed, Ok(Confirming::Confirmed(_))), "{confirmed:?}");
    };
    soon(async { tokio::join!(serve, call) }).await;
    assert_eq!((hold.reservation().state, hold.expires_at()), (State::Confirmed, None));
    drop(hold);
    connection.quiet().await;
}

#[tokio::test]
async fn only_a_hold_that_was_asked_to_is_released_when_it_is_dropped() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    drop(held(&client, &mut connection, 1).await);
    let left = held(&client, &mut connection, 2).await.release_on_drop().leave();
    assert_eq!((left.id, left.state), (ReservationId(2), State::Held));
    connection.quiet().await;
    let hold = held(&client, &mut connection, 3).await.release_on_drop();
    // Also when it is the last that keeps the client.
    drop(client);
    drop(hold);
    released(&mut connection, 3).await;
    assert!(soon(connection.try_read()).await.is_none(), "the client is gone");
}

#[tokio::test]
async fn a_dropped_hold_is_released_by_the_next_connection() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let hold = held(&client, &mut connection, 3).await.release_on_drop();
    drop(connection);
    drop(hold);
    let mut connection = peer.accept().await;
    released(&mut connection, 3).await;
}

#[tokio::test]
async fn what_may_be_confirmed_is_not_released() {
    let peer = Peer::bind().await;
    let options = Options {
        retry: false,
        ..quick()
    };
    let (client, mut connection) = peer.connect(options).await;
    // A refusal that leaves it held: it is still released.
    let mut hold = held(&client, &mut connection, 1).await.release_on_drop();
    let serve = async {
        let frame = connection.read().await;
        connection.refuse(&frame, Status::StorageFull).await;
    };
    let confirming = soon(async { tokio::join!(hold.confirm(), serve) }).await.0;
    assert!(
        matches!(&confirming, Ok(confirming) if confirming.retryable()),
        "{confirming:?}"
    );
    drop(hold);
    released(&mut connection, 1).await;
    // A confirmation whose future is dropped may have taken effect.
    let mut hold = held(&client, &mut connection, 2).await.release_on_drop();
    tokio::select! {
        biased;
        found = hold.confirm() => panic!("it is not answered: {found:?}"),
        frame = connection.read() => connection.done(&frame).await,
    }
    drop(hold);
    connection.quiet().await;
    // And so may one whose connection is lost.
    let mut hold = held(&client, &mut connection, 3).await.release_on_drop();
    let serve = async {
        connection.read().await;
        drop(connection);
        peer.accept().await
    };
    let (confirming, mut connection) = soon(async { tokio::join!(hold.confirm(), serve) }).await;
    assert!(matches!(confirming, Ok(Confirming::Unknown(_))), "{confirming:?}");
    drop(hold);
    connection.quiet().await;
}

#[tokio::test]
async fn a_key_whose_hold_is_settled_gives_no_guard() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        let mut outcome = done(&frame.commands()[0]);
        outcome.set_state(wire::State::confirmed);
        connection.answer(&frame, &[outcome], &[]).await;
        let frame = connection.read().await;
        connection.refuse(&frame, Status::PoolClosed).await;
    };
    let call = async {
        let holding = client.hold(&cart(1)).await;
        assert!(matches!(holding, Ok(Holding::Settled(found)) if found.state == State::Confirmed));
        let holding = client.hold(&cart(2)).await;
        assert!(matches!(holding, Ok(Holding::Refused(refusal)) if refusal.is(Status::PoolClosed)));
        let error = client.hold(&one(3)).await.expect_err("it has no duration");
        assert!(matches!(error, Error::Invalid(Invalid::HoldMissing)), "{error}");
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn a_runtime_that_is_gone_leaves_the_hold_to_its_deadline() {
    let peer = Peer::bind().await;
    let address = peer.address();
    // A runtime of its own for the client, which ends before the hold does.
    let begin = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        let hold = runtime.block_on(async {
            let client = Client::connect(address, quick()).await.expect("it is welcomed");
            client.hold(&cart(1)).await.expect("it is answered")
        });
        let Holding::Held(hold) = hold else {
            panic!("it is held")
        };
        drop(runtime);
        drop(hold.release_on_drop());
    });
    let mut connection = peer.accept().await;
    let frame = connection.read().await;
    connection.done(&frame).await;
    assert!(soon(connection.try_read()).await.is_none(), "no release, and no hang");
    begin.join().expect("no panic");
}
