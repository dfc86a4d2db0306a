//! What the shoppers were told: the other side of the pools' counters.
//!
//! Invariant: every acknowledged reservation is in exactly one place: held, confirmed, with a call on its way that may end
//! it, or counted as released or expired.

use std::collections::{HashMap, VecDeque};

use plimsoll_client::{Pool, ReservationId, State};

use super::format::grouped;
use super::pools::{DIMENSIONS, Units, at_share};

/// A reservation that a shopper has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: ReservationId,
    /// Which pool, by its place in the catalogue.
    pub(super) pool: usize,
    pub(super) units: Units,
}

struct Held {
    kept: Kept,
    /// Microseconds since 1970.
    expires_at: i64,
}

/// What the shoppers were told.
#[derive(Default)]
pub(super) struct Ledger {
    held: HashMap<ReservationId, Held>,
    confirmed: Vec<Kept>,
    /// Holds that nobody will confirm, with their deadlines, in the order in which they were given up.
    lapsing: VecDeque<(i64, ReservationId)>,
    pub(super) acknowledged: u64,
    pub(super) released: u64,
    pub(super) expired: u64,
    /// What must never happen, in words.
    pub(super) contradictions: Vec<String>,
}

impl Ledger {
    /// A reserve was acknowledged.
    pub(super) fn reserved(&mut self, kept: Kept, expires_at: Option<i64>) {
        self.acknowledged += 1;
        match expires_at {
            None => self.confirmed.push(kept),
            Some(expires_at) => {
                self.held.insert(kept.id, Held { kept, expires_at });
            }
        }
    }

    pub(super) fn confirmed(&mut self, id: ReservationId) {
        if let Some(held) = self.held.remove(&id) {
            self.confirmed.push(held.kept);
        }
    }

    /// The hold's deadline has passed, says the engine, at this time.
    pub(super) fn expired(&mut self, id: ReservationId, now: i64) {
        if let Some(held) = self.held.remove(&id) {
            self.expired += 1;
            if held.expires_at > now {
                self.contradictions
                    .push(format!("the hold {id} ended {} µs too early", held.expires_at - now));
            }
        }
    }

    /// Nobody will confirm it.
    pub(super) fn given_up(&mut self, id: ReservationId) {
        if let Some(held) = self.held.get(&id) {
            self.lapsing.push_back((held.expires_at, id));
        }
    }

    /// Some of the holds that were given up and must have ended by this time.
    pub(super) fn take_lapsed(&mut self, now: i64, count_max: usize) -> Vec<ReservationId> {
        let mut lapsed = Vec::new();
        while lapsed.len() < count_max
            && let Some((_, id)) = self.lapsing.pop_front_if(|(expires_at, _)| *expires_at < now)
        {
            lapsed.push(id);
        }
        lapsed
    }

    /// Takes out a confirmed reservation that is to be released; `share` from 0 to 1 says which.
    pub(super) fn take_confirmed(&mut self, share: f64) -> Option<Kept> {
        let index = at_share(self.confirmed.len(), share);
        (index < self.confirmed.len()).then(|| self.confirmed.swap_remove(index))
    }

    /// The release had no effect.
    pub(super) fn kept_after_all(&mut self, kept: Kept) {
        self.confirmed.push(kept);
    }

    pub(super) fn confirmed_count(&self) -> usize {
        self.confirmed.len()
    }

    pub(super) fn held_ids(&self) -> Vec<ReservationId> {
        self.held.keys().copied().collect()
    }

    /// Settles the holds by the states that the engine tells: those that have ended by now are counted as expired. One
    /// that the engine has forgotten ended long ago.
    pub(super) fn settle(&mut self, states: &HashMap<ReservationId, State>, now: i64) {
        for id in self.held_ids() {
            match states.get(&id) {
                Some(State::Held) => {}
                Some(State::Expired) | None => self.expired(id, now),
                Some(other) => self
                    .contradictions
                    .push(format!("{id} is {other}, which nobody asked for")),
            }
        }
    }

    /// The pools whose counters are not what the shoppers were told, in words; `names` and `pools` in any order.
    pub(super) fn differences(&self, names: &[&str], pools: &[Pool]) -> Vec<String> {
        let zeros = vec![[0_i64; DIMENSIONS.len()]; names.len()];
        let (mut held, mut confirmed) = (zeros.clone(), zeros);
        for entry in self.held.values() {
            add(&mut held[entry.kept.pool], entry.kept.units);
        }
        for kept in &self.confirmed {
            add(&mut confirmed[kept.pool], kept.units);
        }
        let by_name: HashMap<&str, &Pool> = pools.iter().map(|pool| (pool.definition.name.as_str(), pool)).collect();
        let mut differences = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let told = (held[index].as_slice(), confirmed[index].as_slice());
            let found = by_name
                .get(name)
                .map(|pool| (pool.held.as_slice(), pool.confirmed.as_slice()));
            if found != Some(told) {
                differences.push(format!(
                    "{name}: held and confirmed are {found:?}, the shoppers were told {told:?}"
                ));
            }
        }
        differences
    }

    /// `9,900 acknowledged = 6,000 confirmed + 240 held + 2,100 released + 660 expired`, and whether it adds up.
    pub(super) fn sum(&self) -> (String, bool) {
        let (confirmed, held) = (self.confirmed.len() as u64, self.held.len() as u64);
        let text = format!(
            "{} acknowledged = {} confirmed + {} held + {} released + {} expired",
            grouped(self.acknowledged),
            grouped(confirmed),
            grouped(held),
            grouped(self.released),
            grouped(self.expired),
        );
        let is_complete = self.acknowledged == confirmed + held + self.released + self.expired;
        (text, is_complete)
    }
}

fn add(amounts: &mut [i64; DIMENSIONS.len()], units: Units) {
    for (amount, unit) in amounts.iter_mut().zip(units) {
        *amount += i64::from(unit);
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    fn kept(id: u128, units: Units) -> Kept {
        Kept {
            id: ReservationId(id),
            pool: 0,
            units,
        }
    }

    fn pool(held: Vec<i64>, confirmed: Vec<i64>) -> Pool {
        Pool {
            id: PoolId(1),
            definition: PoolDefinition::new("a", vec![9, 9]),
            held,
            confirmed,
        }
    }

    #[test]
    fn a_unit_that_is_missing_is_noticed() {
        let mut ledger = Ledger::default();
        ledger.reserved(kept(1, [1, 4]), None);
        ledger.reserved(kept(2, [1, 2]), Some(50));
        let differences = |held, confirmed| ledger.differences(&["a"], &[pool(held, confirmed)]).len();
        assert_eq!(differences(vec![1, 2], vec![1, 4]), 0);
        assert_eq!(differences(vec![1, 2], vec![1, 3]), 1);
        // Held where it should be confirmed.
        assert_eq!(differences(vec![2, 6], vec![0, 0]), 1);
        assert_eq!(ledger.differences(&["a"], &[]).len(), 1);
    }

    #[test]
    fn every_reservation_ends_in_one_place() {
        let mut ledger = Ledger::default();
        for id in 1..=4 {
            ledger.reserved(kept(id, [1, 1]), Some(100));
        }
        ledger.confirmed(ReservationId(1));
        ledger.given_up(ReservationId(2));
        assert_eq!(ledger.take_lapsed(100, 9), []);
        assert_eq!(ledger.take_lapsed(101, 9), [ReservationId(2)]);
        ledger.expired(ReservationId(2), 101);
        assert!(ledger.take_confirmed(0.9).is_some());
        ledger.released += 1;
        let states = HashMap::from([(ReservationId(3), State::Held), (ReservationId(4), State::Expired)]);
        ledger.settle(&states, 101);
        let (text, is_complete) = ledger.sum();
        assert_eq!(text, "4 acknowledged = 0 confirmed + 1 held + 1 released + 2 expired");
        assert!(is_complete && ledger.contradictions.is_empty());
        ledger.acknowledged += 1;
        assert!(!ledger.sum().1);
    }

    #[test]
    fn a_hold_that_ends_early_is_a_contradiction() {
        let mut ledger = Ledger::default();
        ledger.reserved(kept(1, [1, 1]), Some(100));
        ledger.expired(ReservationId(1), 99);
        assert_eq!(ledger.contradictions.len(), 1);
    }
}
