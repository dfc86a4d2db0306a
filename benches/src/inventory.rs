//! A state with pools and live reservations, and requests for more.

use std::error::Error;

use plimsoll_domain::limits::UNITS_MAX;
use plimsoll_domain::{
    Command, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, ReservationId, Reserve,
    Restoring, State, StateOptions, Timestamp, Units,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::SEED;

pub(crate) const DIMENSION_COUNT: usize = 2;
pub(crate) const KEY_RETENTION_MICROS: i64 = 1_000_000;
/// Pieces of a snapshot are gathered up to this, as a server does.
const CHUNK_SIZE: usize = 128 << 10;

/// How much an inventory holds.
#[derive(Clone, Copy, Debug)]
pub struct InventorySize {
    /// Pools; every request picks one with the same probability.
    pub pool_count: usize,
    /// Reservations that stay live throughout.
    pub live_count: usize,
}

/// How long a reserve of an inventory holds its units, in seconds; 0 confirms at once.
pub const HOLD_SECONDS: u32 = 600;

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
    options: StateOptions,
    hold_seconds: u32,
}

impl Inventory {
    /// The same for every call with one size. Reserves hold for [`HOLD_SECONDS`].
    pub fn new(size: InventorySize) -> Inventory {
        Inventory::with_hold(size, HOLD_SECONDS)
    }

    /// The same, with reserves that hold for so long; 0 confirms at once.
    pub fn with_hold(size: InventorySize, hold_seconds: u32) -> Inventory {
        let mut random = Pcg64::seed_from_u64(SEED);
        let options = StateOptions {
            key_retention_micros: KEY_RETENTION_MICROS,
            hash_seed: random.random(),
            ..StateOptions::new(DIMENSION_COUNT)
        };
        let mut state = State::new(options);
        let pools = (0..size.pool_count)
            .map(|number| put_pool(&mut state, number))
            .collect();
        let now = Timestamp(1_700_000_000_000_000);
        let mut inventory = Inventory {
            state,
            pools,
            random,
            now,
            options,
            hold_seconds,
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
            hold_seconds: self.hold_seconds,
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

    /// A snapshot of the state, in chunks as they stand in a file.
    pub fn snapshot(&mut self) -> Snapshot {
        self.state.begin_snapshot();
        let (mut pieces, mut chunks, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_all = false;
        while !is_all {
            is_all = self.state.copy_snapshot(CHUNK_SIZE, &mut pieces);
            for piece in pieces.drain(..) {
                plimsoll_record::encode_piece(&piece, DIMENSION_COUNT, &mut chunk);
                if chunk.len() >= CHUNK_SIZE {
                    chunks.push(std::mem::take(&mut chunk));
                }
            }
        }
        chunks.push(chunk);
        Snapshot {
            chunks,
            options: self.options,
            now: self.now,
        }
    }
}

/// A snapshot in memory.
pub struct Snapshot {
    chunks: Vec<Vec<u8>>,
    options: StateOptions,
    now: Timestamp,
}

/// A state that a snapshot gave.
pub struct Restored {
    state: State,
    now: Timestamp,
}

impl Snapshot {
    /// Its size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Decodes every piece and makes a state of them, with all checks.
    pub fn restore(&self) -> Restored {
        let mut restoring = Restoring::new(self.options);
        for chunk in &self.chunks {
            let taken = plimsoll_record::decode_pieces::<Box<dyn Error>>(chunk, DIMENSION_COUNT, |piece| {
                Ok(restoring.take(&piece)?)
            });
            taken.expect("it was encoded from a state");
        }
        Restored {
            state: restoring.finish().expect("all pieces were taken"),
            now: self.now,
        }
    }
}

impl Restored {
    /// A digest of everything that the state shows.
    pub fn digest(&self) -> u64 {
        self.state.digest(self.now)
    }
}

/// A pool that never fills up, by its number.
pub fn definition(number: usize) -> PoolDefinition {
    PoolDefinition {
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
    }
}

fn put_pool(state: &mut State, number: usize) -> PoolId {
    let put = PutPool {
        definition: definition(number),
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
