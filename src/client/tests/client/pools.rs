//! Pools and reservations: several frames where one is too small, pages, what may be sent again.

use plimsoll_client::protocol::{VERSION_ABSENT, payload, wire};
use plimsoll_client::{
    Applied, Change, Error, Pool, PoolDefinition, PoolId, ReservationId, State, Status, UnknownCause,
};

use crate::peer::{Connection, Peer, Received, quick, soon};

fn definition(name: &str) -> PoolDefinition {
    PoolDefinition {
        zone: "north".into(),
        kind: "logistics".into(),
        coverage: vec!["10".into(), "11".into()],
        overbook: vec![1, 0],
        ..PoolDefinition::new(name, vec![5, 6])
    }
}

/// The definitions of a request.
fn definitions(frame: &Received) -> Vec<PoolDefinition> {
    let table = payload::table::<wire::PutPools>("PutPools", &frame.payload).expect("it is valid");
    table.definitions().iter().map(PoolDefinition::from).collect()
}

async fn put(connection: &mut Connection, frame: &Received) {
    let results: Vec<wire::PutResult> = definitions(frame)
        .iter()
        .map(|definition| match definition.name.as_str() {
            "bad" => wire::PutResult::new(Status::Invalid.number(), wire::Change::none, 0, 0, 0, 0),
            _ => wire::PutResult::new(0, wire::Change::created, 0, 0, 9, 1),
        })
        .collect();
    connection
        .table(frame, |builder| {
            let results = Some(builder.create_vector(&results));
            wire::PutPoolsResult::create(builder, &wire::PutPoolsResultArgs { results })
        })
        .await;
}

async fn list(connection: &mut Connection, frame: &Received, names: &[&str], more: bool) {
    connection
        .table(frame, |builder| {
            let pools: Vec<_> = names
                .iter()
                .map(|name| {
                    let name = Some(builder.create_string(name));
                    let empty = Some(builder.create_string(""));
                    let limits = Some(builder.create_vector(&[5_u32, 6]));
                    let args = wire::PoolDefinitionArgs {
                        name,
                        zone: empty,
                        kind: empty,
                        limits,
                        ..Default::default()
                    };
                    let definition = Some(wire::PoolDefinition::create(builder, &args));
                    let held = Some(builder.create_vector(&[1_i64, 2]));
                    let confirmed = Some(builder.create_vector(&[4_i64, 5]));
                    wire::Pool::create(
                        builder,
                        &wire::PoolArgs {
                            pool: 7,
                            definition,
                            held,
                            confirmed,
                        },
                    )
                })
                .collect();
            let pools = Some(builder.create_vector(&pools));
            wire::Pools::create(builder, &wire::PoolsArgs { pools, more })
        })
        .await;
}

#[tokio::test]
async fn definitions_are_put_in_as_many_frames_as_they_need() {
    let mut peer = Peer::bind().await;
    peer.limits.items_max = 40;
    let (client, mut connection) = peer.connect(quick()).await;
    let mut all: Vec<PoolDefinition> = (0..100).map(|number| definition(&format!("pool-{number}"))).collect();
    all[50].name = "bad".into();
    let serve = async {
        let mut arrived = Vec::new();
        for expected in [40, 40, 20] {
            let frame = connection.read().await;
            assert_eq!(definitions(&frame).len(), expected);
            arrived.extend(definitions(&frame));
            put(&mut connection, &frame).await;
        }
        arrived
    };
    let (arrived, results) = soon(async { tokio::join!(serve, client.put_pools(&all, false)) }).await;
    assert_eq!(arrived, all);
    let results = results.expect("it is answered");
    assert_eq!(results.len(), 100);
    assert_eq!((results[50].status, results[50].pool), (Status::Invalid.into(), None));
    assert_eq!(
        (results[51].change, results[51].pool, results[51].version),
        (Change::Created, Some(PoolId(9)), 1)
    );
}

#[tokio::test]
async fn when_a_later_frame_fails_each_definition_has_a_result() {
    let mut peer = Peer::bind().await;
    peer.limits.items_max = 40;
    let (client, mut connection) = peer.connect(quick()).await;
    let all: Vec<PoolDefinition> = (0..100)
        .map(|number| PoolDefinition {
            version: VERSION_ABSENT,
            ..definition(&format!("pool-{number}"))
        })
        .collect();
    let serve = async {
        let frame = connection.read().await;
        put(&mut connection, &frame).await;
        connection.read().await;
        drop(connection);
        peer.accept().await
    };
    let (mut connection, results) = soon(async { tokio::join!(serve, client.put_pools(&all, false)) }).await;
    let results = results.expect("the first frame is answered");
    let count = |status: Status| results.iter().filter(|result| result.status == status.into()).count();
    assert_eq!(count(Status::Ok), 40);
    assert_eq!(count(Status::OutcomeUnknown), 40);
    assert_eq!(count(Status::Unavailable), 20);

    // Of a dry run nothing is done that would have to be told apart.
    let serve = async {
        let frame = connection.read().await;
        put(&mut connection, &frame).await;
        let frame = connection.read().await;
        connection.fail(&frame, Status::Unsupported, "").await;
    };
    let ((), results) = soon(async { tokio::join!(serve, client.put_pools(&all, true)) }).await;
    assert!(matches!(results, Err(Error::Refused(_))), "{results:?}");
}

#[tokio::test]
async fn frames_of_definitions_stay_below_the_size_that_the_server_takes() {
    let mut peer = Peer::bind().await;
    peer.limits.frame_size_max = 2048;
    let (client, mut connection) = peer.connect(quick()).await;
    let all: Vec<PoolDefinition> = (0..40).map(|number| definition(&format!("pool-{number}"))).collect();
    let serve = async {
        let mut count = 0;
        while count < 40 {
            let frame = connection.read().await;
            assert!(frame.header.size <= 2048);
            count += definitions(&frame).len();
            put(&mut connection, &frame).await;
        }
    };
    let ((), results) = soon(async { tokio::join!(serve, client.put_pools(&all, true)) }).await;
    assert_eq!(results.map(|results| results.len()).ok(), Some(40));
    let large = PoolDefinition {
        zone: "x".repeat(3000),
        ..definition("large")
    };
    let error = client.put_pools(&[large], true).await.expect_err("it does not fit");
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

#[tokio::test]
async fn only_definitions_without_a_version_are_sent_again_after_a_lost_connection() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let plain = [definition("plain")];
    let serve = async {
        connection.read().await;
        drop(connection);
        let mut connection = peer.accept().await;
        let frame = connection.read().await;
        put(&mut connection, &frame).await;
        connection
    };
    let (mut connection, results) = soon(async { tokio::join!(serve, client.put_pools(&plain, false)) }).await;
    assert!(results.is_ok(), "{results:?}");

    let versioned = [PoolDefinition {
        version: VERSION_ABSENT,
        ..definition("new")
    }];
    let lose = async {
        // Overload is waited out in any case: it was not applied.
        let frame = connection.read().await;
        connection.fail(&frame, Status::Overloaded, "").await;
        connection.read().await;
        drop(connection);
        peer.accept().await.quiet().await;
    };
    let ((), results) = soon(async { tokio::join!(lose, client.put_pools(&versioned, false)) }).await;
    let error = results.expect_err("nobody can tell");
    assert!(
        matches!(&error, Error::Unknown(unknown) if unknown.cause == UnknownCause::ConnectionLost),
        "{error}"
    );
    assert_eq!(error.applied(), Applied::Unknown);
}

#[tokio::test]
async fn all_pools_come_page_by_page() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        let pages: [(&[&str], bool, Option<&str>); 3] = [
            (&["a", "b"], true, None),
            (&["c"], true, Some("b")),
            (&["d"], false, Some("c")),
        ];
        for (names, more, after) in pages {
            let frame = connection.read().await;
            let table = payload::table::<wire::ListPools>("ListPools", &frame.payload).expect("it is valid");
            assert_eq!(table.after(), after);
            list(&mut connection, &frame, names, more).await;
        }
        let frame = connection.read().await;
        assert_eq!(frame.names(), ["e"]);
        list(&mut connection, &frame, &["e"], false).await;
        let frame = connection.read().await;
        list(&mut connection, &frame, &[], false).await;
    };
    let call = async {
        let all: Vec<Pool> = client.all_pools().collect().await.expect("it is answered");
        let names: Vec<&str> = all.iter().map(|pool| pool.definition.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(all[0].remaining(), [0, -1]);
        let pool = client.pool("e").await.expect("it is answered");
        assert_eq!(pool.map(|pool| pool.id), Some(PoolId(7)));
        assert_eq!(client.pool("f").await.expect("it is answered"), None);
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn names_are_resolved_in_their_order_and_only_those_that_are_not_remembered() {
    let mut peer = Peer::bind().await;
    peer.limits.items_max = 2;
    let (client, mut connection) = peer.connect(quick()).await;
    let serve = async {
        for (names, ids) in [
            (vec!["a", "b"], vec![1, 0]),
            (vec!["c"], vec![3]),
            (vec!["b", "d"], vec![0, 4]),
        ] {
            let frame = connection.read().await;
            assert_eq!(frame.names(), names);
            connection.resolved(&frame, &ids).await;
        }
    };
    let call = async {
        let ids = client.resolve(&["a", "b", "c"]).await.expect("it is answered");
        assert_eq!(ids, [Some(PoolId(1)), None, Some(PoolId(3))]);
        let ids = client.resolve(&["c", "b", "a", "d"]).await.expect("it is answered");
        assert_eq!(ids, [Some(PoolId(3)), None, Some(PoolId(1)), Some(PoolId(4))]);
        assert!(client.resolve(&[]).await.expect("nothing to ask").is_empty());
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test]
async fn reservations_by_id() {
    let peer = Peer::bind().await;
    let (client, mut connection) = peer.connect(quick()).await;
    let ids = [ReservationId(1 << 100), ReservationId(2)];
    let serve = async {
        let frame = connection.read().await;
        let table = payload::table::<wire::GetReservations>("GetReservations", &frame.payload).expect("it is valid");
        let asked: Vec<ReservationId> = table.reservations().iter().map(ReservationId::from).collect();
        assert_eq!(asked, ids);
        connection
            .table(&frame, |builder| {
                let pool = Some(builder.create_string("slot-1"));
                let reference = Some(builder.create_string("order"));
                let units = Some(builder.create_vector(&[1_u32, 2]));
                let args = wire::ReservationArgs {
                    reservation_high: 1 << 36,
                    state: wire::State::expired,
                    pool,
                    units,
                    reference,
                    created_at: 3,
                    expires_at: 4,
                    version: 1,
                    ..Default::default()
                };
                let reservation = wire::Reservation::create(builder, &args);
                let reservations = Some(builder.create_vector(&[reservation]));
                wire::Reservations::create(builder, &wire::ReservationsArgs { reservations })
            })
            .await;
    };
    let ((), found) = soon(async { tokio::join!(serve, client.reservations(&ids)) }).await;
    let found = found.expect("it is answered");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].id, found[0].state, found[0].pool.as_str()),
        (ids[0], State::Expired, "slot-1")
    );
    assert_eq!(
        (found[0].reference.as_deref(), found[0].expires_at),
        (Some("order"), Some(4))
    );
}
