//! Pools that come and go, each with reservations of every fate.

use plimsoll_domain::{
    Command, Confirm, Decision, Event, Key, PoolDefinition, PoolId, PutOutcome, PutPool, Release, ReservationId,
    Reserve, Resize, State, StateOptions, Timestamp, Units, partition_of,
};

const HOUR_MICROS: i64 = 3_600_000_000;
const START: i64 = 1_700_000_000_000_000;

/// Rounds of an hour each; a pool is retired three rounds after its own.
pub(crate) struct Churn {
    state: State,
    now: i64,
    round: u64,
    pools_per_round: u64,
    /// Pools there have been.
    pub(crate) pool_count: u64,
    /// The most that existed at one time.
    pub(crate) alive_max: usize,
    /// By partition, slots for pools that have been seen.
    pool_slots: Vec<u32>,
}

/// A pool that sells always, with a window that ends when it begins.
pub(crate) fn definition(name: &str, starts_at: Timestamp) -> PoolDefinition {
    PoolDefinition {
        name: name.into(),
        zone: "north".into(),
        kind: "delivery".into(),
        starts_at,
        ends_at: starts_at,
        opens_at: Timestamp(0),
        closes_at: Timestamp::NEVER,
        coverage: Vec::new(),
        closed: false,
        shadow: false,
        limits: Units::from_slice(&[10, 10]),
        overbook: Units::default(),
    }
}

impl Churn {
    pub(crate) fn new(pools_per_round: u64) -> Churn {
        Churn {
            state: State::new(StateOptions {
                key_retention_micros: HOUR_MICROS,
                retire_after_micros: 2 * HOUR_MICROS,
                ..StateOptions::new(2)
            }),
            now: START,
            round: 0,
            pools_per_round,
            pool_count: 0,
            alive_max: 0,
            pool_slots: vec![0; 1_024],
        }
    }

    /// Slots for pools, used or not.
    pub(crate) fn pool_slot_count(&self) -> u64 {
        self.pool_slots.iter().map(|count| u64::from(*count)).sum()
    }

    /// Slots for reservations, used or not.
    pub(crate) fn reservation_slot_count(&self) -> usize {
        self.state.reservation_slot_count()
    }

    /// Pools that exist.
    pub(crate) fn alive_count(&self) -> usize {
        self.state.pool_count()
    }

    /// Checks all counters.
    pub(crate) fn assert_counters(&self) {
        self.state.assert_counters();
    }

    pub(crate) fn round(&mut self) {
        for number in 0..self.pools_per_round {
            let pool = self.create(&format!("zone-{number}:{}", self.round));
            self.fill(pool);
        }
        self.pool_count += self.pools_per_round;
        self.alive_max = self.alive_max.max(self.state.pool_count());
        self.round += 1;
        self.now += HOUR_MICROS;
        let now = Timestamp(self.now);
        while let Some(event) = self.state.next_expiry(now) {
            self.state.apply(&event);
        }
        let mut idle = 0;
        // Looking for a pool to retire gives up after a few that may not.
        while idle < 100 {
            match self.state.next_retirement(now) {
                Some(event) => (idle, _) = (0, self.state.apply(&event)),
                None => idle += 1,
            }
        }
        while let Some(event) = self.state.next_sweep(now) {
            self.state.apply(&event);
        }
        self.state.take_touched(&mut Vec::new());
    }

    fn create(&mut self, name: &str) -> PoolId {
        let put = PutPool {
            definition: definition(name, Timestamp(self.now)),
            expected_version: None,
        };
        let Ok(PutOutcome::Created(event)) = self.state.decide_put(&put, Timestamp(self.now)) else {
            panic!("the pool is new")
        };
        let id = event.pool;
        self.state.apply(&Event::PoolCreated(event));
        let slots = &mut self.pool_slots[partition_of(name).index()];
        *slots = (*slots).max(id.slot() + 1);
        id
    }

    /// One reservation that is confirmed, one that was resized and is confirmed, one that is released and two that
    /// expire, one of them with a name of its own.
    fn fill(&mut self, pool: PoolId) {
        let confirmed = self.reserve(pool, 1, 600, None);
        self.change(&Command::Confirm(Confirm {
            reservation: confirmed,
            occurred_at: Timestamp::ABSENT,
        }));
        let resized = self.reserve(pool, 2, 0, Some("order"));
        self.change(&Command::Resize(Resize {
            reservation: resized,
            expected_version: None,
            units: Units::from_slice(&[3, 2]),
            hold_seconds: 0,
            occurred_at: Timestamp::ABSENT,
        }));
        let released = self.reserve(pool, 3, 0, None);
        self.change(&Command::Release(Release {
            reservation: released,
            occurred_at: Timestamp::ABSENT,
        }));
        self.reserve(pool, 4, 60, None);
        self.reserve(pool, 5, 1_800, Some("basket"));
    }

    fn reserve(&mut self, pool: PoolId, number: u64, hold_seconds: u32, reference: Option<&str>) -> ReservationId {
        let event = self.change(&Command::Reserve(Reserve {
            pool,
            key: Key(u128::from(pool.0) << 64 | u128::from(self.round) << 8 | u128::from(number)),
            units: Units::from_slice(&[1, 1]),
            hold_seconds,
            occurred_at: Timestamp::ABSENT,
            random: number,
            reference: reference.map(Into::into),
        }));
        let Event::Reserved(event) = event else {
            panic!("{event:?}")
        };
        event.reservation
    }

    fn change(&mut self, command: &Command) -> Event {
        self.now += 1;
        let decision = self.state.decide(command, Timestamp(self.now));
        let Ok(Decision::Change(event)) = decision else {
            panic!("{decision:?}")
        };
        self.state.apply(&event);
        event
    }
}
