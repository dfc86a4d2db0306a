//! SIGKILL at random moments under load, again and again on one directory, and an account of every command.

use std::collections::HashMap;
use std::time::Duration;

use plimsoll_client::{
    Client, Key, KeySource, Options, PoolDefinition, Releasing, ReservationId, Reserve, Reserving, State, Units,
};

use crate::support::{Random, Server, seed};

const ROUND_COUNT: u64 = 50;
const POOL_COUNT: u64 = 40;
const LIMITS: [u32; 2] = [60, 100];
const WORKER_COUNT: u64 = 8;

/// Small segments, so that they are rolled under load too.
const SERVE: [&str; 6] = [
    "--dimensions",
    "rooms,guests",
    "--cores",
    "2",
    "--segment-size",
    "262144",
];

#[derive(Clone, Debug)]
struct Order {
    key: Key,
    pool: String,
    units: [u32; 2],
}

/// Everything that the clients know for sure, and what they do not know.
#[derive(Default)]
struct Account {
    live: HashMap<ReservationId, Order>,
    released: Vec<ReservationId>,
    /// Reserves whose answer never came.
    unknown: Vec<Order>,
    /// Live reservations whose release was never answered.
    releasing: Vec<ReservationId>,
    acknowledged: u64,
}

fn pool(number: u64) -> PoolDefinition {
    PoolDefinition {
        zone: "z".into(),
        kind: "k".into(),
        ..PoolDefinition::new(format!("pool-{number}"), LIMITS.to_vec())
    }
}

fn options(retry: bool) -> Options {
    Options {
        retry,
        request_timeout: Duration::from_secs(20),
        connections: 2,
        ..Options::default()
    }
}

async fn reserve(client: &Client, order: &Order) -> Option<Reserving> {
    let reserve = Reserve::new(&*order.pool, Units::InOrder(&order.units), order.key);
    // An error says that the command was never sent.
    client.reserve(&reserve).await.ok()
}

/// Reserves and releases until the server is gone.
async fn work(client: Client, live: HashMap<ReservationId, Order>, mut random: Random) -> Account {
    let mut account = Account {
        live,
        ..Account::default()
    };
    loop {
        let mut mine: Vec<_> = account.live.keys().copied().collect();
        mine.sort_unstable();
        if !mine.is_empty() && random.below(5) < 2 {
            let id = mine[random.below(mine.len() as u64) as usize];
            match client.release(id, None).await {
                Ok(Releasing::Released(reservation)) => {
                    assert_eq!((reservation.id, reservation.state), (id, State::Released));
                    account.live.remove(&id);
                    account.released.push(id);
                    account.acknowledged += 1;
                }
                Ok(Releasing::Refused(refusal)) if refusal.retryable() => {}
                Ok(Releasing::Refused(refusal)) => panic!("the release of a live reservation was refused: {refusal}"),
                Ok(Releasing::Unknown(_)) => {
                    account.releasing.push(id);
                    return account;
                }
                Err(_) => return account,
            }
        } else {
            let order = Order {
                key: Key::random().unwrap(),
                pool: format!("pool-{}", random.below(POOL_COUNT)),
                units: [1 + random.below(2) as u32, random.below(4) as u32],
            };
            match reserve(&client, &order).await {
                Some(Reserving::Reserved(reservation)) => {
                    assert!(!reservation.repeated, "a fresh key was taken for a known one");
                    account.acknowledged += 1;
                    assert!(
                        account.live.insert(reservation.id, order).is_none(),
                        "an id was given twice"
                    );
                }
                Some(Reserving::Refused(_)) => {}
                Some(Reserving::Unknown(_)) => {
                    account.unknown.push(order);
                    return account;
                }
                None => return account,
            }
        }
    }
}

/// Finds out what became of the commands that were never answered: by their keys, and by state.
async fn settle(client: &Client, account: &mut Account) {
    for order in std::mem::take(&mut account.unknown) {
        let first = reserve(client, &order).await.unwrap();
        let second = reserve(client, &order).await.unwrap();
        match (first, second) {
            (Reserving::Reserved(first), Reserving::Reserved(second)) => {
                assert_eq!(first.id, second.id, "one key, two reservations");
                assert!(second.repeated);
                assert!(
                    account.live.insert(first.id, order).is_none(),
                    "one reservation, two keys"
                );
            }
            (Reserving::Refused(_), Reserving::Refused(_)) => {}
            other => panic!("one key, two answers: {other:?}"),
        }
    }
    for id in std::mem::take(&mut account.releasing) {
        match client.release(id, None).await.unwrap() {
            Releasing::Released(_) => {
                account.live.remove(&id);
                account.released.push(id);
            }
            other => panic!("a release that was sent twice: {other:?}"),
        }
    }
}

/// Holds the server against the account.
async fn check(client: &Client, account: &Account) {
    let ids: Vec<_> = account.live.keys().copied().collect();
    let found = client.reservations(&ids).await.unwrap();
    assert_eq!(found.len(), ids.len(), "acknowledged reservations are missing");
    let mut sums: HashMap<String, [i64; 2]> = HashMap::new();
    for reservation in &found {
        let order = &account.live[&reservation.id];
        assert_eq!(reservation.state, State::Confirmed, "{order:?}");
        assert_eq!(
            (&reservation.pool, &reservation.units[..]),
            (&order.pool, &order.units[..])
        );
        let sum = sums.entry(order.pool.clone()).or_default();
        sum[0] += i64::from(order.units[0]);
        sum[1] += i64::from(order.units[1]);
    }
    for released in client.reservations(&account.released).await.unwrap() {
        assert_eq!(released.state, State::Released, "{released:?}");
    }
    let pools = client.all_pools().collect().await.unwrap();
    assert_eq!(pools.len() as u64, POOL_COUNT);
    for pool in pools {
        let name = &pool.definition.name;
        let used = [pool.held[0] + pool.confirmed[0], pool.held[1] + pool.confirmed[1]];
        assert_eq!(
            used,
            sums.get(name).copied().unwrap_or_default(),
            "{name} counts what nobody has, or not what somebody has"
        );
        assert!(
            used[0] <= i64::from(LIMITS[0]) && used[1] <= i64::from(LIMITS[1]),
            "{name} is oversold: {used:?}"
        );
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let mut random = Random(seed());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data, &SERVE);
    let client = Client::connect(server.engine(), options(true)).await.unwrap();
    let pools: Vec<_> = (0..POOL_COUNT).map(pool).collect();
    client.put_pools(&pools, false).await.unwrap();
    server.kill();

    let mut account = Account::default();
    for round in 0..ROUND_COUNT {
        let server = Server::start(&data, &SERVE);
        let client = Client::connect(server.engine(), options(true)).await.unwrap();
        settle(&client, &mut account).await;
        check(&client, &account).await;

        // Each worker goes on with a share of what is live, so that reservations of earlier rounds are released too.
        let mut shares: Vec<HashMap<ReservationId, Order>> = vec![HashMap::new(); WORKER_COUNT as usize];
        for (place, (id, order)) in account.live.drain().enumerate() {
            shares[place % WORKER_COUNT as usize].insert(id, order);
        }
        let mut workers = Vec::new();
        for live in shares {
            let client = Client::connect(server.engine(), options(false)).await.unwrap();
            let random = Random(random.next());
            workers.push(tokio::spawn(work(client, live, random)));
        }
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
        server.kill();
        for worker in workers {
            let worked = worker.await.unwrap();
            for (id, order) in worked.live {
                assert!(
                    account.live.insert(id, order).is_none(),
                    "an id was given twice, in round {round}"
                );
            }
            account.released.extend(worked.released);
            account.unknown.extend(worked.unknown);
            account.releasing.extend(worked.releasing);
            account.acknowledged += worked.acknowledged;
        }
        // Keeps room in the pools, and releases what earlier rounds left.
        if round % 5 == 4 {
            account
                .releasing
                .extend(account.live.keys().copied().take(account.live.len() / 2));
        }
    }
    let server = Server::start(&data, &SERVE);
    let client = Client::connect(server.engine(), options(true)).await.unwrap();
    settle(&client, &mut account).await;
    check(&client, &account).await;
    eprintln!(
        "{ROUND_COUNT} kills, {} acknowledged commands, {} live",
        account.acknowledged,
        account.live.len()
    );
    assert!(
        account.acknowledged > 1000,
        "the load was too small to show anything: {}",
        account.acknowledged
    );
    assert_eq!(server.terminate(), Some(0));
}
