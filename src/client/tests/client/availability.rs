//! Availability: what is asked, what is read, and which names are remembered.

use plimsoll_client::protocol::{payload, wire};
use plimsoll_client::{AvailabilityQuery, Band, Client, Error, PoolId, Status, Units};

use crate::peer::{Connection, Peer, Received, quick, soon};

fn query(frame: &Received) -> wire::AvailabilityQuery<'_> {
    payload::table::<wire::AvailabilityQuery>("AvailabilityQuery", &frame.payload).expect("it is valid")
}

/// A pool by its id; versions and names follow from it.
fn pool(id: u64, version: u32) -> wire::AvailablePool {
    wire::AvailablePool::new(id, 10, 20, version, wire::Band::low, 1, 0)
}

/// Answers with these pools; with names when they are asked for. `name` is what each pool's name begins with.
async fn answer(connection: &mut Connection, to: &Received, pools: &[wire::AvailablePool], name: &str, exact: &[i64]) {
    let names = query(to).names();
    connection
        .table(to, |builder| {
            let mut texts = |text: &dyn Fn(u64) -> String| {
                let texts: Vec<_> = pools
                    .iter()
                    .map(|pool| builder.create_string(&text(pool.pool())))
                    .collect();
                names.then(|| builder.create_vector(&texts))
            };
            let names = texts(&|id| format!("{name}{id}"));
            let zones = texts(&|_| "north".to_owned());
            let kinds = texts(&|id| format!("kind-{}", id % 2));
            let pools = Some(builder.create_vector(pools));
            let remaining = (!exact.is_empty()).then(|| builder.create_vector(exact));
            let args = wire::AvailabilityArgs {
                as_of: 99,
                pools,
                remaining,
                names,
                zones,
                kinds,
                truncated: true,
            };
            wire::Availability::create(builder, &args)
        })
        .await;
}

async fn names(client: &Client) -> Vec<String> {
    let found = client.availability(&AvailabilityQuery::in_zone("north")).await;
    let pools = found.expect("it is answered").pools;
    pools.iter().map(|pool| pool.name.to_string()).collect()
}

#[tokio::test]
async fn a_query_arrives_as_it_was_given_and_the_answer_is_read() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        let found = query(&frame);
        assert_eq!(
            (found.zone(), found.location(), found.kind()),
            (Some("north"), Some("10115"), Some("delivery"))
        );
        assert_eq!((found.from(), found.to(), found.limit()), (5, 6, 50));
        assert_eq!(found.units().map(|units| units.iter().collect()), Some(vec![0, 12]));
        assert!(found.exact() && found.names());
        answer(
            &mut connection,
            &frame,
            &[pool(1, 1), pool(2, 1)],
            "pool-",
            &[3, 4, 5, -6],
        )
        .await;
        let frame = connection.read().await;
        let found = query(&frame);
        assert_eq!((found.zone(), found.location(), found.kind()), (None, Some("1"), None));
        assert_eq!((found.from(), found.to(), found.limit()), (i64::MIN, i64::MAX, 0));
        assert!(found.units().is_none() && !found.exact());
        answer(&mut connection, &frame, &[], "", &[]).await;
    };
    let call = async {
        let all = AvailabilityQuery::in_zone("north")
            .at_location("10115")
            .of_kind("delivery")
            .between(5, 6)
            .fitting(Units::Named(&[("kg", 12)]))
            .limit(50)
            .exact();
        let found = client.availability(&all).await.expect("it is answered");
        assert_eq!((found.as_of, found.truncated, found.pools.len()), (99, true, 2));
        let second = &found.pools[1];
        assert_eq!(
            (second.id, &*second.name, &*second.zone, &*second.kind),
            (PoolId(2), "pool-2", "north", "kind-0")
        );
        assert_eq!((second.starts_at, second.ends_at, second.version), (10, 20, 1));
        assert_eq!(
            (second.band, second.fits, second.remaining.as_deref()),
            (Band::Low, true, Some(&[5, -6][..]))
        );
        let found = client.availability(&AvailabilityQuery::of_location("1")).await;
        assert_eq!(found.expect("it is answered").pools, []);
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn names_are_asked_for_again_only_when_one_is_not_known() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let mut next = async |pools: &[wire::AvailablePool], name: &str, asked: bool| {
            let frame = connection.read().await;
            assert_eq!(query(&frame).names(), asked);
            answer(&mut connection, &frame, pools, name, &[]).await;
        };
        next(&[pool(1, 1), pool(2, 1)], "a", true).await;
        next(&[pool(2, 1)], "", false).await;
        // A pool of another version, and one that is new.
        next(&[pool(1, 2)], "", false).await;
        next(&[pool(1, 2)], "b", true).await;
        next(&[pool(1, 2), pool(3, 1)], "", false).await;
        next(&[pool(1, 2), pool(3, 1)], "b", true).await;
        next(&[pool(3, 1), pool(2, 1)], "", false).await;
    };
    let call = async {
        assert_eq!(names(&client).await, ["a1", "a2"]);
        assert_eq!(names(&client).await, ["a2"]);
        assert_eq!(names(&client).await, ["b1"]);
        assert_eq!(names(&client).await, ["b1", "b3"]);
        assert_eq!(names(&client).await, ["b3", "a2"]);
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn names_of_another_directory_are_not_remembered() {
    let mut peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        answer(&mut connection, &frame, &[pool(1, 1)], "a", &[]).await;
    };
    let (found, ()) = soon(async { tokio::join!(names(&client), serve) }).await;
    assert_eq!(found, ["a1"]);
    drop(connection);
    peer.limits.directory_id = "fedcba9876543210fedcba9876543210";
    let mut connection = peer.accept().await;
    let call = async {
        // The client has noticed when it has read the welcome.
        while client.welcome().directory_id != peer.limits.directory_id {
            tokio::task::yield_now().await;
        }
        names(&client).await
    };
    let serve = async {
        let frame = connection.read().await;
        assert!(query(&frame).names());
        answer(&mut connection, &frame, &[pool(1, 1)], "other-", &[]).await;
    };
    let (found, ()) = soon(async { tokio::join!(call, serve) }).await;
    assert_eq!(found, ["other-1"]);
}

#[tokio::test]
async fn answers_that_do_not_add_up_are_no_answers() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let frame = connection.read().await;
        answer(&mut connection, &frame, &[pool(1, 1)], "a", &[1]).await;
        let frame = connection.read().await;
        connection.fail(&frame, Status::Unsupported, "an older server").await;
    };
    let call = async {
        let query = AvailabilityQuery::in_zone("north").exact();
        let error = client.availability(&query).await.expect_err("a value is missing");
        assert!(matches!(&error, Error::Unknown(_)), "{error}");
        let error = client.availability(&query).await.expect_err("it is refused");
        assert!(
            matches!(&error, Error::Refused(refusal) if refusal.is(Status::Unsupported)),
            "{error}"
        );
    };
    soon(async { tokio::join!(serve, call) }).await;
}
