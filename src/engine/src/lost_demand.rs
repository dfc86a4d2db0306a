//! What was turned away: refusals for want of capacity, counted by pool and minute.
//!
//! They become events once their minute is over, so that a crash loses the last minute at most. When very many pools refuse, their counts become
//! events earlier. Nothing grows without a bound: what finds no room on the disk for too long is dropped.

use std::collections::{BTreeMap, VecDeque};

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{PoolId, Timestamp, Units};

use crate::limits::{LOST_DEMAND_BACKLOG_MAX, LOST_DEMAND_MICROS, LOST_DEMAND_POOL_COUNT_MAX};

/// The refusals of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) pool: PoolId,
    pub(crate) since: Timestamp,
    pub(crate) refusals: u64,
    pub(crate) units: [u64; DIMENSION_COUNT_MAX],
}

#[derive(Default)]
pub(crate) struct LostDemand {
    /// What is being counted.
    current: BTreeMap<PoolId, Lost>,
    /// Since 1970.
    current_minute: i64,
    /// What is to be recorded.
    over: VecDeque<Lost>,
}

impl LostDemand {
    /// Counts a refusal.
    pub(crate) fn count(&mut self, pool: PoolId, units: &Units, now: Timestamp) {
        self.end_minute(now);
        let lost = self.current.entry(pool).or_insert(Lost {
            pool,
            since: now,
            refusals: 0,
            units: [0; DIMENSION_COUNT_MAX],
        });
        lost.refusals += 1;
        for (sum, unit) in lost.units.iter_mut().zip(units.0) {
            *sum = sum.saturating_add(u64::from(unit));
        }
    }

    fn end_minute(&mut self, now: Timestamp) {
        let minute = now.0 / LOST_DEMAND_MICROS;
        if minute != self.current_minute || self.current.len() >= LOST_DEMAND_POOL_COUNT_MAX {
            self.current_minute = minute;
            self.end();
        }
    }

    /// What has been counted so far is to be recorded, though its minute is not over.
    pub(crate) fn end(&mut self) {
        let room = LOST_DEMAND_BACKLOG_MAX - self.over.len();
        self.over
            .extend(std::mem::take(&mut self.current).into_values().take(room));
    }

    /// The next pool whose refusals are to be recorded.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<Lost> {
        if self.over.is_empty() && self.current.is_empty() {
            return None;
        }
        self.end_minute(now);
        self.over.pop_front()
    }

    /// Takes back what could not be recorded.
    pub(crate) fn put_back(&mut self, lost: Lost) {
        self.over.push_front(lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = LOST_DEMAND_MICROS;

    #[test]
    fn refusals_are_told_by_pool_once_their_minute_is_over() {
        let mut lost_demand = LostDemand::default();
        for (pool, units, at) in [(2, 3, 0), (1, 1, 1), (2, 4, MINUTE - 1)] {
            lost_demand.count(PoolId(pool), &Units::from_slice(&[units]), Timestamp(at));
        }
        assert_eq!(lost_demand.next(Timestamp(MINUTE - 1)), None);
        lost_demand.count(PoolId(2), &Units::from_slice(&[5]), Timestamp(MINUTE));
        let mut found = |now| {
            let lost = lost_demand.next(Timestamp(now))?;
            Some((lost.pool.0, lost.since.0, lost.refusals, lost.units[0]))
        };
        assert_eq!(found(MINUTE), Some((1, 1, 1, 1)));
        assert_eq!(found(MINUTE), Some((2, 0, 2, 7)));
        assert_eq!(found(MINUTE), None);
        assert_eq!(found(3 * MINUTE), Some((2, MINUTE, 1, 5)));
        assert_eq!(found(3 * MINUTE), None);
    }

    #[test]
    fn very_many_pools_and_a_full_disk_take_bounded_memory() {
        let mut lost_demand = LostDemand::default();
        for pool in 0..1_000_000 {
            lost_demand.count(PoolId(pool), &Units::from_slice(&[1]), Timestamp(5));
        }
        assert!(lost_demand.over.len() <= LOST_DEMAND_BACKLOG_MAX);
        assert!(lost_demand.current.len() <= LOST_DEMAND_POOL_COUNT_MAX);
        let first = lost_demand
            .next(Timestamp(5))
            .expect("they are told before the minute is over");
        lost_demand.put_back(first);
        assert_eq!(lost_demand.next(Timestamp(5)), Some(first));
    }
}
