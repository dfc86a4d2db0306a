//! Resizing, and what can be told after a lost attempt.

use std::time::Duration;

use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Applied, Client, Error, Invalid, Options, ReservationId, Resize, Resizing, Status, StatusNumber, UnknownCause,
};

use crate::peer::{Peer, done, quick, soon};

const ID: ReservationId = ReservationId(7);

fn resize() -> Resize<'static> {
    Resize {
        units: &[("kg", 3)],
        version: Some(4),
        ..Resize::new(ID)
    }
}

#[tokio::test]
async fn a_resize_arrives_as_it_was_given() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        let arrived = frame.commands().remove(0);
        assert_eq!(
            (arrived.command.action(), arrived.command.reservation_id()),
            (wire::Action::resize, ID)
        );
        assert_eq!(
            (arrived.command.hold_seconds(), arrived.command.business_time()),
            (60, Some(9))
        );
        assert_eq!(arrived.command.expected_version(), Some(4));
        assert_eq!(arrived.units, [u32::MAX, 3]);
        let mut outcome = done(&arrived);
        outcome.set_version(5);
        connection.answer(&frame, &[outcome], &[]).await;
        let frame = connection.read().await;
        connection
            .answer(&frame, &[wire::Outcome::insufficient(0b10)], &[4, 2])
            .await;
    };
    let call = async {
        let both = Resize {
            hold: Some(Duration::from_secs(60)),
            occurred_at: Some(9),
            ..resize()
        };
        let resized = client.resize(&both).await;
        assert!(matches!(resized, Ok(Resizing::Resized(found)) if (found.id, found.version) == (ID, 5)));
        let resized = client.resize(&resize()).await;
        assert!(matches!(resized, Ok(Resizing::Refused(refusal)) if refusal.remaining == [4, 2]));
        for (wrong, expected) in [
            (Resize::new(ID), Invalid::ResizeOfNothing),
            (
                Resize {
                    units: &[("m3", 1)],
                    ..resize()
                },
                Invalid::Dimension { name: "m3".into() },
            ),
            (
                Resize {
                    hold: Some(Duration::ZERO),
                    ..resize()
                },
                Invalid::Hold { found: Duration::ZERO },
            ),
        ] {
            let error = client.resize(&wrong).await.expect_err("it is not sent");
            assert!(matches!(&error, Error::Invalid(found) if *found == expected), "{error}");
        }
    };
    soon(async { tokio::join!(serve, call) }).await;
}

/// Loses the first attempt and answers the second with `status`; then says what the reservation is, when that is asked.
async fn after_a_loss(
    resize: Resize<'static>,
    status: Status,
    reservation: Option<(Option<u16>, [u32; 2])>,
) -> Resizing {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let lost = connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        let again = connection.read().await;
        assert_eq!(again.commands(), lost.commands());
        connection.refuse(&again, status).await;
        if let Some((version, units)) = reservation {
            let read = connection.read().await;
            connection.reservation(&read, version, units).await;
        }
        connection.quiet().await;
    };
    let call = async { client.resize(&resize).await.expect("it is judged") };
    soon(async { tokio::join!(call, serve) }).await.0
}

#[tokio::test]
async fn a_resize_that_another_attempt_made_is_told_by_the_reservation() {
    // Exactly one resize since then, to just these units: ours.
    let found = after_a_loss(resize(), Status::ChangedMeanwhile, Some((Some(5), [1, 3]))).await;
    assert!(
        matches!(found, Resizing::Resized(found) if (found.id, found.version) == (ID, 5)),
        "{found:?}"
    );
    // Exactly one, to others: somebody else's.
    let found = after_a_loss(resize(), Status::ChangedMeanwhile, Some((Some(5), [1, 2]))).await;
    assert!(
        matches!(&found, Resizing::Refused(refusal) if refusal.is(Status::ChangedMeanwhile)),
        "{found:?}"
    );
    // More than one: nobody can tell.
    let found = after_a_loss(resize(), Status::ChangedMeanwhile, Some((Some(6), [1, 3]))).await;
    let Resizing::Unknown(unknown) = found else {
        panic!("{found:?}")
    };
    assert_eq!(
        unknown.cause,
        UnknownCause::Status(StatusNumber::from(Status::ChangedMeanwhile))
    );
    assert_eq!((unknown.attempts, unknown.applied()), (2, Applied::Unknown));
    // Nor when the reservation cannot be read any more.
    let found = after_a_loss(resize(), Status::ChangedMeanwhile, Some((None, [0, 0]))).await;
    assert!(matches!(found, Resizing::Unknown(_)), "{found:?}");
}

#[tokio::test]
async fn refusals_after_a_loss_that_say_enough() {
    for status in [
        Status::HoldExpired,
        Status::ReservationEnded,
        Status::ReservationNotFound,
    ] {
        let found = after_a_loss(resize(), status, None).await;
        assert!(
            matches!(&found, Resizing::Refused(refusal) if refusal.is(status)),
            "{found:?}"
        );
    }
    let any = Resize {
        version: None,
        ..resize()
    };
    let found = after_a_loss(any, Status::Invalid, Some((Some(9), [1, 2]))).await;
    assert!(
        matches!(&found, Resizing::Refused(refusal) if refusal.is(Status::Invalid)),
        "{found:?}"
    );
    let found = after_a_loss(any, Status::Invalid, Some((Some(9), [1, 3]))).await;
    assert!(matches!(found, Resizing::Resized(_)), "{found:?}");
}

#[tokio::test]
async fn without_a_loss_a_refusal_is_taken_at_its_word() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        connection.refuse(&frame, Status::ChangedMeanwhile).await;
        connection.quiet().await;
    };
    let resize = resize();
    let (found, ()) = soon(async { tokio::join!(client.resize(&resize), serve) }).await;
    assert!(matches!(found, Ok(Resizing::Refused(refusal)) if refusal.is(Status::ChangedMeanwhile)));
}

#[tokio::test]
async fn without_retry_a_lost_resize_is_unknown() {
    let peer = Peer::bind().await;
    let options = Options {
        retry: false,
        ..quick()
    };
    let (client, mut connection): (Client, _) = peer.connect(options).await;
    let serve = async {
        connection.read().await;
        drop(connection);
    };
    let resize = resize();
    let (found, ()) = soon(async { tokio::join!(client.resize(&resize), serve) }).await;
    assert!(matches!(found, Ok(Resizing::Unknown(unknown)) if unknown.cause == UnknownCause::ConnectionLost));
}
