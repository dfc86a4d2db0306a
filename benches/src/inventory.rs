//! A state with pools and live reservations, and requests for more.

use plimsoll_domain::limits::UNITS_MAX;
use plimsoll_domain::{
    Command, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, ReservationId, Reserve, State,
    StateOptions, Timestamp, Units,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::SEED;

const DIMENSION_COUNT: usize = 2;
const KEY_RETENTION_MICROS: i64 = 1_000_000;

/// How much an inventory holds.
#[derive(Clone, Copy, Debug)]
pub struct InventorySize {
    /// Pools; every request picks one with the same probability.
    pub pool_count: usize,
    /// Reservations that stay live throughout.
    pub live_count: usize,
}

/// What varies between reserves: 32 bytes, so that a long list of them does not drive the state from the cache.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pool: PoolId,
    key: Key,
}

/// Pools in two dimensions that never fill up, and their reservations.
pub struct Inventory {
    state: State,
    pools: Vec<PoolId>,
    random: Pcg64,
    now: Timestamp,
}

impl Inventory {
    /// The same for every call with one size.
    pub fn new(size: InventorySize) -> Inventory {
        let mut random = Pcg64::seed_from_u64(SEED);
        let mut state = State::new(StateOptions {
            key_retention_micros: KEY_RETENTION_MICROS,
            hash_seed: random.random(),
            ..StateOptions::new(DIMENSION_COUNT)
        });
        let pools = (0..size.pool_count)
            .map(|number| put_pool(&mut state, number))
            .collect();
        let now = Timestamp(1_700_000_000_000_000);
        let mut inventory = Inventory {
            state,
            pools,
            random,
            now,
        };
        for _ in 0..size.live_count {
            let request = inventory.request();
            inventory.reserve(&request);
        }
        inventory
    }

    fn request(&mut self) -> Request {
        let pool = self.random.random_range(0..self.pools.len());
        Request {
            pool: self.pools[pool],
            key: Key(self.random.random()),
        }
    }

    /// New requests, each with a key of its own.
    pub fn requests(&mut self, count: usize) -> Vec<Request> {
        (0..count).map(|_| self.request()).collect()
    }

    /// Decides and applies.
    #[inline]
    pub fn reserve(&mut self, request: &Request) -> ReservationId {
        let command = Command::Reserve(Reserve {
            pool: request.pool,
            key: request.key,
            units: Units::from_slice(&[1, request.key.0 as u32 & 7]),
            hold_seconds: 600,
            occurred_at: Timestamp::ABSENT,
            random: request.key.0 as u64 >> 8,
            reference: None,
        });
        match self.state.decide(&command, self.now) {
            Ok(Decision::Change(event)) => {
                self.state.apply(&event);
                match event {
                    Event::Reserved(event) => event.reservation,
                    other => panic!("a reserve led to {other:?}"),
                }
            }
            other => panic!("a reserve led to {other:?}"),
        }
    }

    /// Decides and applies.
    #[inline]
    pub fn release(&mut self, reservation: ReservationId) {
        let command = Command::Release(Release {
            reservation,
            occurred_at: Timestamp::ABSENT,
        });
        match self.state.decide(&command, self.now) {
            Ok(Decision::Change(event)) => self.state.apply(&event),
            other => panic!("a release led to {other:?}"),
        }
    }

    /// Lets so much time pass that what has ended is forgotten, and its slots are used again.
    pub fn forget_ended(&mut self) {
        self.now = self.now.plus_micros(KEY_RETENTION_MICROS + 1);
    }

    /// Brings the list into another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.random.random_range(0..=last));
        }
    }

    /// A digest of everything that the state shows.
    pub fn digest(&self) -> u64 {
        self.state.digest(self.now)
    }
}

fn put_pool(state: &mut State, number: usize) -> PoolId {
    let definition = PoolDefinition {
        name: format!("zone-{}:slot-{number}", number % 25).into(),
        zone: format!("zone-{}", number % 25).into(),
        kind: "delivery".into(),
        starts_at: Timestamp(1_700_000_000_000_000),
        ends_at: Timestamp(1_700_003_600_000_000),
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: vec!["10".into(), "11".into()],
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[UNITS_MAX; DIMENSION_COUNT]),
        overbook: Units::default(),
    };
    let put = PutPool {
        definition,
        expected_version: None,
    };
    match state.decide_put(&put, Timestamp(0)) {
        Ok(PutOutcome::Created(event)) => {
            let pool = event.pool;
            state.apply(&Event::PoolCreated(event));
            pool
        }
        other => panic!("a put led to {other:?}"),
    }
}
