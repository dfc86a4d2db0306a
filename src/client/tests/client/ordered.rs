//! The order of commands on a pool.

use std::time::Duration;

use plimsoll_client::protocol::wire;
use plimsoll_client::{
    Applied, Client, Confirm, Confirming, Error, Key, Options, Ordered, PoolId, Release, Releasing, ReservationId,
    Reserve, Reserving, Status, Ticket, Units,
};

use crate::peer::{Arrived, Connection, Peer, done, quick, soon};

async fn give(ordered: &Ordered, pool: u64, key: u128) -> Ticket<Reserving> {
    let reserve = Reserve::new(PoolId(pool), Units::InOrder(&[1, 0]), Key(key));
    ordered.reserve(&reserve).await.expect("there is room")
}

async fn reserved(ticket: Ticket<Reserving>) {
    let reserving = soon(ticket).await;
    assert!(matches!(reserving, Ok(Reserving::Reserved(_))), "{reserving:?}");
}

/// Pool and key of each command.
fn listed(commands: &[Arrived]) -> Vec<(u64, u128)> {
    commands
        .iter()
        .map(|arrived| (arrived.command.pool(), arrived.command.key().0))
        .collect()
}

#[tokio::test]
async fn a_pool_waits_for_its_frame_and_others_go_on() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ordered = client.ordered();
    let first = give(&ordered, 1, 1).await;
    let frame_1 = connection.read().await;
    assert_eq!(listed(&frame_1.commands()), [(1, 1)]);
    // Pool 1 is under way: 2 and 3 wait for it, together; pool 2 does not.
    let second = give(&ordered, 1, 2).await;
    let third = give(&ordered, 1, 3).await;
    let other = give(&ordered, 2, 4).await;
    let frame_2 = connection.read().await;
    assert_eq!(listed(&frame_2.commands()), [(2, 4)]);
    connection.quiet().await;
    connection.done(&frame_2).await;
    reserved(other).await;
    connection.done(&frame_1).await;
    reserved(first).await;
    let frame_3 = connection.read().await;
    assert_eq!(listed(&frame_3.commands()), [(1, 2), (1, 3)]);
    connection.done(&frame_3).await;
    reserved(second).await;
    reserved(third).await;
}

#[tokio::test]
async fn what_is_sent_again_keeps_its_place() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ordered = client.ordered();
    let mut tickets = Vec::new();
    for key in 1..=2 {
        tickets.push(give(&ordered, 1, key).await);
    }
    let frame = connection.read().await;
    assert_eq!(listed(&frame.commands()), [(1, 1), (1, 2)]);
    for key in 3..=4 {
        tickets.push(give(&ordered, 1, key).await);
    }
    // The first is done, the second is not: it stays ahead of the third.
    let outcomes = [done(&frame.commands()[0]), wire::Outcome::refused(Status::Overloaded)];
    connection.answer(&frame, &outcomes, &[]).await;
    let frame = connection.read().await;
    assert_eq!(listed(&frame.commands()), [(1, 2), (1, 3), (1, 4)]);
    // Lost with the connection: all of them again, before anything that comes later.
    drop(connection);
    tickets.push(give(&ordered, 1, 5).await);
    let mut connection = peer.accept().await;
    let frame = connection.read().await;
    assert_eq!(listed(&frame.commands())[..3], [(1, 2), (1, 3), (1, 4)]);
    connection.fail(&frame, Status::Unavailable, "starting").await;
    let mut rest = Vec::new();
    while rest.len() < 4 {
        let frame = connection.read().await;
        rest.extend(listed(&frame.commands()));
        connection.done(&frame).await;
    }
    assert_eq!(rest, [(1, 2), (1, 3), (1, 4), (1, 5)]);
    for ticket in tickets {
        reserved(ticket).await;
    }
}

#[tokio::test]
async fn an_unknown_outcome_blocks_its_pool_until_it_is_resumed() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer
        .connect(Options {
            request_timeout: Duration::from_millis(500),
            ..quick()
        })
        .await;
    let ordered = client.ordered();
    let lost = give(&ordered, 1, 1).await;
    connection.read().await;
    let behind = give(&ordered, 1, 2).await;
    let found = soon(lost).await;
    assert!(
        matches!(&found, Ok(found) if found.applied() == Applied::Unknown),
        "{found:?}"
    );
    let found = soon(behind).await;
    assert!(
        matches!(&found, Err(error) if error.applied() == Applied::No),
        "{found:?}"
    );
    let later = soon(give(&ordered, 1, 3).await).await;
    assert!(matches!(later, Err(Error::Blocked { pool: PoolId(1) })), "{later:?}");
    let mut connection = peer.accept().await;
    let other = give(&ordered, 2, 4).await;
    let frame = connection.read().await;
    assert_eq!(listed(&frame.commands()), [(2, 4)]);
    connection.done(&frame).await;
    reserved(other).await;
    ordered.resume(PoolId(1)).await.expect("it is taken");
    let resumed = give(&ordered, 1, 5).await;
    let frame = connection.read().await;
    assert_eq!(listed(&frame.commands()), [(1, 5)]);
    connection.done(&frame).await;
    reserved(resumed).await;
}

#[tokio::test]
async fn releases_stand_in_the_order_of_the_pool_that_they_name() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ordered = client.ordered();
    let first = give(&ordered, 1, 1).await;
    let frame = connection.read().await;
    let release = Release {
        pool: PoolId(1).into(),
        reservation: ReservationId(9),
        occurred_at: None,
    };
    let released = ordered.release(&release).await.expect("there is room");
    connection.quiet().await;
    connection.done(&frame).await;
    reserved(first).await;
    let frame = connection.read().await;
    assert_eq!(frame.commands()[0].command.reservation_id(), ReservationId(9));
    connection.done(&frame).await;
    soon(released).await.expect("it is released");
}

/// Answers a thousand commands on pools 1 to 10 as a server does that is overloaded now and then: the rest of a frame is
/// refused, or the whole of it. Gives the keys of each pool in the order in which they took effect.
async fn serve_with_overload(connection: &mut Connection) -> Vec<Vec<u128>> {
    let mut done_keys = vec![Vec::new(); 10];
    let mut number = 0_u32;
    while done_keys.iter().map(Vec::len).sum::<usize>() < 1000 {
        let frame = connection.read().await;
        let commands = frame.commands();
        number += 1;
        let refused_from = match number % 5 {
            0 => 0,
            1 => commands.len() / 2,
            _ => commands.len(),
        };
        let mut outcomes = Vec::new();
        for (index, arrived) in commands.iter().enumerate() {
            if index < refused_from {
                done_keys[arrived.command.pool() as usize - 1].push(arrived.command.key().0);
                outcomes.push(done(arrived));
            } else {
                outcomes.push(wire::Outcome::refused(Status::Overloaded));
            }
        }
        connection.answer(&frame, &outcomes, &[]).await;
    }
    done_keys
}

async fn narrow_peer() -> Peer {
    let mut peer = Peer::bind().await;
    peer.limits.commands_max = 7;
    peer.limits.window_commands = 21;
    peer
}

#[tokio::test]
async fn a_thousand_commands_on_ten_pools_arrive_in_order_whatever_the_answers() {
    let (client, mut connection) = narrow_peer().await.connect(quick()).await;
    let call = async {
        let ordered = client.ordered();
        let mut tickets = Vec::new();
        for key in 0..1000_u128 {
            tickets.push(give(&ordered, 1 + key as u64 % 10, key).await);
        }
        for ticket in tickets {
            reserved(ticket).await;
        }
    };
    let (done_keys, ()) = soon(async { tokio::join!(serve_with_overload(&mut connection), call) }).await;
    for keys in done_keys {
        assert_eq!(keys.len(), 100);
        assert!(keys.is_sorted(), "{keys:?}");
    }
}

/// The canary of the test above: without an order of its own, the same calls do get out of order, and the check sees it.
#[tokio::test]
async fn without_an_order_retries_overtake() {
    let (client, mut connection) = narrow_peer().await.connect(quick()).await;
    let call = async {
        let mut calls = tokio::task::JoinSet::new();
        for key in 0..1000_u128 {
            let client = client.clone();
            calls.spawn(async move {
                let reserve = Reserve::new(PoolId(1 + key as u64 % 10), Units::InOrder(&[1, 0]), Key(key));
                assert!(matches!(client.reserve(&reserve).await, Ok(Reserving::Reserved(_))));
            });
        }
        calls.join_all().await;
    };
    let (done_keys, ()) = soon(async { tokio::join!(serve_with_overload(&mut connection), call) }).await;
    assert!(done_keys.iter().any(|keys| !keys.is_sorted()));
}

#[tokio::test]
async fn commands_given_before_the_last_handle_is_dropped_are_still_answered() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ordered = Client::ordered(&client);
    let ticket = give(&ordered, 1, 1).await;
    drop((ordered, client));
    let frame = connection.read().await;
    connection.done(&frame).await;
    reserved(ticket).await;
    assert!(
        soon(connection.try_read()).await.is_none(),
        "then the connection is closed"
    );
}

#[tokio::test]
async fn a_confirmation_keeps_its_place_between_a_reserve_and_a_release() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ordered = client.ordered();
    let first = give(&ordered, 1, 1).await;
    let frame = connection.read().await;
    let confirm = Confirm {
        pool: PoolId(1).into(),
        reservation: ReservationId(8),
        occurred_at: Some(3),
    };
    let confirmed = ordered.confirm(&confirm).await.expect("there is room");
    let release = Release {
        pool: PoolId(1).into(),
        reservation: ReservationId(8),
        occurred_at: None,
    };
    let released = ordered.release(&release).await.expect("there is room");
    connection.quiet().await;
    connection.done(&frame).await;
    reserved(first).await;
    let frame = connection.read().await;
    let actions: Vec<wire::Action> = frame
        .commands()
        .iter()
        .map(|arrived| arrived.command.action())
        .collect();
    assert_eq!(actions, [wire::Action::confirm, wire::Action::release]);
    connection.done(&frame).await;
    assert!(matches!(soon(confirmed).await, Ok(Confirming::Confirmed(found)) if found.id == ReservationId(8)));
    assert!(matches!(soon(released).await, Ok(Releasing::Released(_))));
}
