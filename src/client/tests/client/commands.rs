//! Reserve and release: gathering, pipelining, the window, refusals, names.

use std::time::Duration;

use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Client, Error, Gather, Invalid, Key, Options, PoolId, Refusal, Releasing, ReservationId, Reserve, Reserving, Short,
    State, Status, Units,
};
use tokio::task::JoinSet;

use crate::peer::{Peer, done, quick, soon};

pub(crate) fn one(key: u128) -> Reserve<'static> {
    Reserve::new(PoolId(7), Units::InOrder(&[1, 2]), Key(key))
}

/// Reserves with the keys 1 to `count`, each in a task of its own.
fn many(client: &Client, count: u128) -> JoinSet<u128> {
    let mut calls = JoinSet::new();
    for key in 1..=count {
        let client = client.clone();
        calls.spawn(async move {
            match client.reserve(&one(key)).await {
                Ok(Reserving::Reserved(reservation)) => assert_eq!(reservation.id, ReservationId(key)),
                other => panic!("{other:?}"),
            }
            key
        });
    }
    calls
}

#[tokio::test]
async fn calls_of_many_tasks_share_frames() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let calls = many(&client, 300);
    let (mut commands, mut frames) = (0, 0);
    while commands < 300 {
        let frame = connection.read().await;
        commands += frame.commands().len();
        frames += 1;
        connection.done(&frame).await;
    }
    assert_eq!(soon(calls.join_all()).await.len(), 300);
    assert!(frames <= 3, "{frames} frames for 300 calls at once");
}

#[tokio::test]
async fn frames_are_in_flight_together_and_answered_in_any_order() {
    let peer = Peer::bind().await;
    let options = Options {
        gather: Gather {
            commands_max: 1,
            ..Gather::default()
        },
        ..quick()
    };
    let (client, mut connection) = peer.connect(options).await;
    let calls = many(&client, 64);
    let mut frames = Vec::new();
    for _ in 0..64 {
        frames.push(connection.read().await);
        assert_eq!(frames.last().map(|frame| frame.header.count), Some(1));
    }
    for frame in frames.iter().rev() {
        connection.done(frame).await;
    }
    assert_eq!(soon(calls.join_all()).await.len(), 64);
}

#[tokio::test]
async fn limits_of_frames_and_of_the_window_are_kept() {
    let mut peer = Peer::bind().await;
    peer.limits.commands_max = 3;
    peer.limits.window_commands = 8;
    let (client, mut connection) = peer.connect(quick()).await;
    let calls = many(&client, 40);
    let mut answered = 0;
    let mut in_flight = Vec::new();
    while answered < 40 {
        let mut commands = 0;
        while commands < 8.min(40 - answered) {
            let frame = connection.read().await;
            assert!(frame.header.count <= 3, "{} commands in a frame", frame.header.count);
            commands += frame.commands().len();
            in_flight.push(frame);
        }
        assert!(commands <= 8, "{commands} commands in flight");
        connection.quiet().await;
        for frame in in_flight.drain(..) {
            answered += frame.commands().len();
            connection.done(&frame).await;
        }
    }
    assert_eq!(soon(calls.join_all()).await.len(), 40);
}

#[tokio::test]
async fn a_command_arrives_as_it_was_given() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let reserve = Reserve {
        hold: Some(Duration::from_secs(600)),
        reference: Some("order 4711"),
        occurred_at: Some(-5),
        ..Reserve::new(PoolId(9), Units::Named(&[("kg", 12)]), Key(3))
    };
    let serve = async {
        let frame = connection.read().await;
        let arrived = frame.commands().remove(0);
        assert_eq!((arrived.command.pool_id(), arrived.command.key()), (PoolId(9), Key(3)));
        assert_eq!(
            (arrived.command.hold_seconds(), arrived.command.business_time()),
            (600, Some(-5))
        );
        assert_eq!(
            (arrived.units.as_slice(), arrived.reference.as_deref()),
            (&[0, 12][..], Some("order 4711"))
        );
        let mut outcome = done(&arrived);
        outcome.set_state(wire::State::held);
        outcome.set_expires_at(605);
        outcome.set_flags(0b11);
        connection.answer(&frame, &[outcome], &[]).await;
        let frame = connection.read().await;
        assert_eq!(frame.commands()[0].command.action(), wire::Action::release);
        assert_eq!(frame.commands()[0].command.business_time(), Some(8));
        connection.done(&frame).await;
    };
    let call = async {
        let Ok(Reserving::Reserved(reservation)) = client.reserve(&reserve).await else {
            panic!("it is reserved")
        };
        assert_eq!((reservation.state, reservation.expires_at), (State::Held, Some(605)));
        assert!(reservation.repeated && reservation.would_refuse);
        let released = client.release(reservation.id, Some(8)).await;
        assert!(matches!(released, Ok(Releasing::Released(found)) if found.state == State::Released));
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn refusals_say_what_is_short() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        connection
            .answer(&frame, &[wire::Outcome::insufficient(0b10)], &[4, -1])
            .await;
        let frame = connection.read().await;
        connection.refuse(&frame, Status::PoolClosed).await;
        let frame = connection.read().await;
        connection.refuse(&frame, Status::StorageFull).await;
        let frame = connection.read().await;
        connection.fail(&frame, Status::Malformed, "no reason").await;
    };
    let call = async {
        let refusal = refused(&client, 1).await;
        assert_eq!(
            refusal.short,
            [Short {
                dimension: "kg".into(),
                remaining: -1
            }]
        );
        assert_eq!(
            (refusal.remaining.as_slice(), refusal.retryable()),
            (&[4, -1][..], false)
        );
        assert_eq!(refusal.to_string(), "insufficient_capacity: kg (-1 left)");
        let refusal = refused(&client, 2).await;
        assert!(refusal.is(Status::PoolClosed) && !refusal.retryable());
        // Retryable, but for the caller to decide: a full disk does not pass within a deadline.
        assert!(refused(&client, 3).await.retryable());
        let refusal = refused(&client, 4).await;
        assert_eq!(
            (refusal.status, refusal.detail.as_deref()),
            (Status::Malformed.into(), Some("no reason"))
        );
    };
    soon(async { tokio::join!(serve, call) }).await;
}

async fn refused(client: &Client, key: u128) -> Refusal {
    match client.reserve(&one(key)).await {
        Ok(Reserving::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn what_no_server_takes_is_not_sent() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let valid = one(1);
    let cases = [
        Reserve {
            units: Units::InOrder(&[1]),
            ..valid
        },
        Reserve {
            units: Units::Named(&[("m3", 1)]),
            ..valid
        },
        Reserve {
            units: Units::InOrder(&[0, 0]),
            ..valid
        },
        Reserve {
            hold: Some(Duration::ZERO),
            ..valid
        },
        Reserve {
            reference: Some(&"x".repeat(65)),
            ..valid
        },
        Reserve {
            pool: "no name".into(),
            ..valid
        },
    ];
    for reserve in cases {
        let error = client.reserve(&reserve).await.expect_err("it is refused");
        assert!(matches!(error, Error::Invalid(_)) && !error.retryable(), "{error}");
    }
    connection.quiet().await;
}

#[tokio::test]
async fn names_are_resolved_once_and_anew_when_void() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let resolve = connection.read().await;
        assert_eq!(resolve.names(), ["slot-1"]);
        connection.resolved(&resolve, &[70]).await;
        for key in 1..=2 {
            let frame = connection.read().await;
            let command = frame.commands()[0].command;
            assert_eq!((command.pool_id(), command.key()), (PoolId(70), Key(key)));
            connection.done(&frame).await;
        }
        // The pool was retired and made again.
        let frame = connection.read().await;
        connection.refuse(&frame, Status::PoolNotFound).await;
        let resolve = connection.read().await;
        connection.resolved(&resolve, &[71]).await;
        let frame = connection.read().await;
        assert_eq!(
            (frame.commands()[0].command.pool_id(), frame.commands()[0].command.key()),
            (PoolId(71), Key(3))
        );
        connection.done(&frame).await;
        // And retired for good.
        let frame = connection.read().await;
        connection.refuse(&frame, Status::PoolNotFound).await;
        let resolve = connection.read().await;
        connection.resolved(&resolve, &[0]).await;
    };
    let call = async {
        for key in 1..=3 {
            let reserve = Reserve {
                pool: "slot-1".into(),
                ..one(key)
            };
            assert!(matches!(client.reserve(&reserve).await, Ok(Reserving::Reserved(_))));
        }
        let reserve = Reserve {
            pool: "slot-1".into(),
            ..one(4)
        };
        let refused = client.reserve(&reserve).await;
        assert!(matches!(refused, Ok(Reserving::Refused(refusal)) if refusal.is(Status::PoolNotFound)));
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn a_full_queue_is_refused() {
    let mut peer = Peer::bind().await;
    peer.limits.window_commands = 1;
    let options = Options {
        queue_commands_max: 4,
        request_timeout: Duration::from_secs(30),
        ..quick()
    };
    let (client, mut connection) = peer.connect(options).await;
    let mut calls = JoinSet::new();
    for key in 1..=100 {
        let client = client.clone();
        calls.spawn(async move { client.reserve(&one(key)).await });
    }
    let (mut full, mut reserved) = (0, 0);
    let serve = async {
        loop {
            let frame = connection.read().await;
            connection.done(&frame).await;
        }
    };
    let collect = async {
        while let Some(result) = calls.join_next().await {
            match result.expect("no panic") {
                Ok(Reserving::Reserved(_)) => reserved += 1,
                Err(error @ Error::QueueFull { commands_max: 4 }) => {
                    assert!(error.retryable());
                    full += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    soon(async {
        tokio::select! { () = serve => {}, () = collect => {} }
    })
    .await;
    assert!(full >= 80 && reserved >= 4, "{full} refused, {reserved} reserved");
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    for options in [
        Options {
            connections: 0,
            ..quick()
        },
        Options {
            queue_commands_max: 0,
            ..quick()
        },
        Options {
            gather: Gather {
                commands_max: 0,
                ..Gather::default()
            },
            ..quick()
        },
    ] {
        let error = Client::connect("127.0.0.1:1", options)
            .await
            .expect_err("it is refused");
        assert!(matches!(error, Error::Invalid(Invalid::Option { .. })), "{error}");
    }
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let peer = Peer::bind().await;
    let options = Options {
        connections: 2,
        ..quick()
    };
    let (client, mut first) = peer.connect(options).await;
    let mut second = peer.accept().await;
    let clone = client.clone();
    drop(client);
    first.quiet().await;
    drop(clone);
    assert!(soon(first.try_read()).await.is_none());
    assert!(soon(second.try_read()).await.is_none());
}

#[tokio::test]
async fn calls_take_turns_between_connections() {
    let peer = Peer::bind().await;
    let (client, mut first) = peer
        .connect(Options {
            connections: 2,
            ..quick()
        })
        .await;
    let mut second = peer.accept().await;
    // The second connection stands once the client has read its welcome.
    let ping = async {
        loop {
            let frame = second.try_read().await.expect("it stays open");
            let mut answer = Vec::new();
            let head = plimsoll_client::protocol::frame::Head::answer_to(&frame.header);
            second.encoder.empty(&mut answer, head);
            second.write(&answer).await;
            if frame.header.operation == 2 {
                break;
            }
        }
    };
    let pong = async {
        loop {
            let frame = first.try_read().await.expect("it stays open");
            let mut answer = Vec::new();
            first.encoder.empty(
                &mut answer,
                plimsoll_client::protocol::frame::Head::answer_to(&frame.header),
            );
            first.write(&answer).await;
        }
    };
    let calls = async {
        loop {
            client.ping().await.expect("it is answered");
        }
    };
    soon(async {
        tokio::select! { () = ping => {}, () = pong => {}, () = calls => {} }
    })
    .await;
}
