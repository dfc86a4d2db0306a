//! Batches: one frame each, read in place, given back on an error.

use plimsoll_client::protocol::{CommandsView, Reserve, Resize, UNITS_UNCHANGED, wire};
use plimsoll_client::{Applied, BatchFull, Decided, Error, Invalid, Key, PoolId, ReservationId, Status, UnknownCause};

use crate::peer::{Peer, done, quick, soon};

fn reserve(key: u128) -> Reserve {
    Reserve {
        pool: PoolId(7),
        key: Key(key),
        hold_seconds: 0,
        occurred_at: None,
    }
}

#[tokio::test]
async fn a_full_batch_is_one_frame_and_its_memory_is_used_again() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        for _ in 0..3 {
            let frame = connection.read().await;
            assert_eq!(frame.header.count, 8192);
            let mut outcomes: Vec<wire::Outcome> = frame.commands().iter().map(done).collect();
            outcomes[17] = wire::Outcome::insufficient(1);
            outcomes[8191] = wire::Outcome::insufficient(3);
            connection.answer(&frame, &outcomes, &[1, 2, 3, 4]).await;
        }
    };
    let call = async {
        let mut batch = client.new_batch();
        for round in 0..3_u128 {
            batch.clear();
            let mut key = round << 64;
            while batch.len() < batch.commands_max() {
                key += 1;
                let pushed = match key % 5 {
                    0 => batch.push_release(ReservationId(key), Some(3)),
                    1 => batch.push_reserve(reserve(key), &[1, 2], Some("a reference")),
                    _ => batch.push_reserve(reserve(key), &[1, 2], None),
                };
                pushed.expect("it fits");
            }
            assert_eq!(
                batch.push_release(ReservationId(1), None),
                Err(BatchFull::Commands { commands_max: 8192 })
            );
            let outcome = client.batch(batch).await.expect("it is answered");
            for (found, command) in outcome.outcomes().iter().zip(outcome.commands()) {
                match found.index {
                    17 => assert_eq!(found.remaining.iter().collect::<Vec<_>>(), [1, 2]),
                    8191 => assert_eq!(found.remaining.iter().collect::<Vec<_>>(), [3, 4]),
                    _ => assert_eq!(found.outcome.reservation_id(), command.reservation_id()),
                }
            }
            batch = outcome.into_batch();
        }
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_the_batch_as_it_was() {
    let mut peer = Peer::bind().await;
    peer.limits.frame_size_max = 1024;
    let (client, _connection) = peer.connect(quick()).await;
    let mut batch = client.new_batch();
    assert_eq!(
        batch.push_reserve(reserve(1), &[1], None),
        Err(BatchFull::Units { expected: 2, found: 1 })
    );
    let long = "x".repeat(65);
    assert_eq!(
        batch.push_reserve(reserve(1), &[1, 2], Some(&long)),
        Err(BatchFull::Reference { found: 65 })
    );
    assert!(batch.is_empty());
    let error = client.batch(batch).await.expect_err("it is empty");
    assert!(matches!(error.error, Error::Invalid(Invalid::BatchEmpty)));
    let mut batch = error.batch;
    while batch.push_reserve(reserve(1), &[1, 2], None).is_ok() {}
    assert_eq!(
        batch.push_release(ReservationId(1), None),
        Err(BatchFull::Size { size_bytes_max: 1024 })
    );
    assert!(batch.len() > 10 && batch.len() < 22, "{}", batch.len());
}

#[tokio::test]
async fn a_batch_without_an_answer_comes_back_to_be_sent_again() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let mut batch = client.new_batch();
    for key in 1..=3 {
        batch.push_reserve(reserve(key), &[1, 2], Some("r")).expect("it fits");
    }
    let lose = async {
        let frame = connection.read().await;
        drop(connection);
        (frame, peer.accept().await)
    };
    let ((lost, mut connection), result) = soon(async { tokio::join!(lose, client.batch(batch)) }).await;
    let failed = result.expect_err("the connection was lost");
    let Error::Unknown(ref unknown) = failed.error else {
        panic!("{failed}")
    };
    assert_eq!(
        (&unknown.cause, failed.error.applied()),
        (&UnknownCause::ConnectionLost, Applied::Unknown)
    );

    let refuse = async {
        let frame = connection.read().await;
        assert_eq!(frame.payload, lost.payload, "the same commands with the same keys");
        connection.fail(&frame, Status::Overloaded, "full").await;
    };
    let ((), result) = soon(async { tokio::join!(refuse, client.batch(failed.batch)) }).await;
    let failed = result.expect_err("it is refused");
    assert!(
        failed.error.retryable() && failed.error.applied() == Applied::No,
        "{failed}"
    );

    let garbage = async {
        let frame = connection.read().await;
        connection.answer(&frame, &[wire::Outcome::default()], &[]).await;
    };
    let ((), result) = soon(async { tokio::join!(garbage, client.batch(failed.batch)) }).await;
    let failed = result.expect_err("one outcome for three commands");
    assert_eq!(failed.error.applied(), Applied::Unknown);

    let damaged = async {
        let frame = connection.read().await;
        let outcomes: Vec<wire::Outcome> = frame.commands().iter().map(done).collect();
        let mut answer = connection.outcomes(frame.header.correlation, &outcomes, &[]);
        answer[72] ^= 1;
        connection.write(&answer).await;
    };
    let ((), result) = soon(async { tokio::join!(damaged, client.batch(failed.batch)) }).await;
    let failed = result.expect_err("a bit of an id was flipped");
    assert_eq!(failed.error.applied(), Applied::Unknown);

    let serve = async {
        let frame = connection.read().await;
        connection.done(&frame).await;
    };
    let ((), result) = soon(async { tokio::join!(serve, client.batch(failed.batch)) }).await;
    assert_eq!(result.expect("it is answered").outcomes().len(), 3);
}

#[tokio::test]
async fn commands_of_all_kinds_share_a_frame_and_each_has_its_outcome() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let serve = async {
        let frame = connection.read().await;
        let view = CommandsView::new(&frame.payload, frame.header.count, 2).expect("it is valid");
        assert_eq!(view.traceparent(), Some(context));
        let commands = frame.commands();
        let actions: Vec<wire::Action> = commands.iter().map(|arrived| arrived.command.action()).collect();
        use wire::Action;
        assert_eq!(
            actions,
            [Action::reserve, Action::confirm, Action::resize, Action::release]
        );
        assert_eq!(commands[2].units, [UNITS_UNCHANGED, 3]);
        assert_eq!(commands[2].command.expected_version(), Some(4));
        let outcomes = [
            done(&commands[0]),
            wire::Outcome::refused(Status::HoldExpired),
            wire::Outcome::insufficient(0b10),
            wire::Outcome::refused(Status::OutcomeUnknown),
        ];
        connection.answer(&frame, &outcomes, &[5, 2]).await;
        let frame = connection.read().await;
        let view = CommandsView::new(&frame.payload, frame.header.count, 2).expect("it is valid");
        assert_eq!(view.traceparent(), None);
        connection.done(&frame).await;
    };
    let call = async {
        let mut batch = client.new_batch();
        let resize = Resize {
            reservation: ReservationId(3),
            version: Some(4),
            hold_seconds: 0,
            occurred_at: None,
        };
        batch.push_reserve(reserve(1), &[1, 2], Some("cart")).expect("it fits");
        batch.push_confirm(ReservationId(2), None).expect("it fits");
        batch.push_resize(resize, &[UNITS_UNCHANGED, 3]).expect("it fits");
        batch.push_release(ReservationId(4), None).expect("it fits");
        assert_eq!(
            batch.push_resize(resize, &[3]),
            Err(BatchFull::Units { expected: 2, found: 1 })
        );
        for wrong in ["", "a b", &"x".repeat(129)] {
            assert_eq!(batch.set_traceparent(Some(wrong)), Err(BatchFull::Traceparent));
        }
        batch.set_traceparent(Some(context)).expect("it fits");
        let outcome = client.batch(batch).await.expect("it is answered");
        let decided: Vec<Decided> = outcome.decided().collect();
        assert!(matches!(&decided[0], Decided::Applied(found) if found.id == ReservationId(1)));
        assert!(matches!(&decided[1], Decided::Refused(refusal) if refusal.is(Status::HoldExpired)));
        assert!(matches!(&decided[2], Decided::Refused(refusal) if refusal.short[0].dimension == "kg"));
        assert!(matches!(&decided[3], Decided::Unknown(_)) && decided[3].retryable());
        let mut batch = outcome.into_batch();
        batch.clear();
        batch.push_confirm(ReservationId(2), None).expect("it fits");
        client.batch(batch).await.expect("it is answered");
    };
    soon(async { tokio::join!(serve, call) }).await;
}
