//! Where the commands of one thread come from: a mixture, or a file of orders.
//!
//! - What this run has made and not ended stands in `held` or `live`, unless a command in flight is about it.
//! - A record, when the run accounts for what it did, is made with the answer that makes a reservation, and never removed.

use std::collections::VecDeque;
use std::sync::Arc;

use plimsoll_client::{Key, ReservationId};
use rand::Rng;
use rand_pcg::Pcg64Mcg;

use super::account::{Record, Standing};
use super::choice::Chooser;
use super::mix::Operation;
use super::orders::ReplayPart;
use super::work::Work;
use crate::keys::Draws;
use crate::ledger::Fate;
use crate::limits::OWNED_MAX;
use crate::schedule::Schedule;

/// A command, from when it is due to its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Nanoseconds since the load began.
    pub(super) due: u64,
    pub(super) operation: Operation,
    pub(super) pool: u16,
    /// What it takes or gives back of the first dimension.
    pub(super) units: u32,
    /// Of a reserve.
    pub(super) key: Key,
    /// What a confirmation or a release is about.
    pub(super) id: ReservationId,
    /// The record of the reservation, or the line of a file.
    pub(super) tag: u32,
}

/// A reservation of this run.
#[derive(Clone, Copy, Debug)]
struct Owned {
    id: ReservationId,
    pool: u16,
    record: u32,
}

/// Where the commands of one thread come from.
#[derive(Debug)]
pub(super) enum Source {
    Mixture(Box<Mixture>),
    Replay(Box<ReplayPart>),
}

impl Source {
    /// When the next command is due, if that can be told; a closed loop has always one.
    pub(super) fn due(&self, now: u64) -> Option<u64> {
        match self {
            Self::Mixture(mixture) => Some(mixture.schedule.as_ref().map_or(now, Schedule::due)),
            Self::Replay(replay) => replay.due(),
        }
    }

    /// The next command that is due.
    pub(super) fn next(&mut self, now: u64) -> Option<Entry> {
        match self {
            Self::Mixture(mixture) => mixture.next(now),
            Self::Replay(replay) => replay.next(now),
        }
    }

    /// Gives up what was due before a time, and says how many commands these were.
    pub(super) fn give_up_until(&mut self, time: u64) -> u64 {
        match self {
            Self::Mixture(mixture) => mixture
                .schedule
                .as_mut()
                .map_or(0, |schedule| schedule.skip_until(time)),
            Self::Replay(replay) => replay.give_up_until(time),
        }
    }

    /// Takes an answer; `id` is the reservation that it names.
    #[inline]
    pub(super) fn answered(&mut self, entry: &Entry, fate: Fate, id: ReservationId) {
        match self {
            Self::Mixture(mixture) => mixture.answered(entry, fate, id),
            Self::Replay(replay) => replay.answered(entry, fate, id),
        }
    }

    /// Lines of a file that asked for nothing, and what was acknowledged.
    pub(super) fn finish(self) -> (u64, Vec<Record>) {
        match self {
            Self::Mixture(mixture) => (0, mixture.records),
            Self::Replay(replay) => (replay.skipped(), Vec::new()),
        }
    }
}

/// A mixture of operations.
#[derive(Debug)]
pub(super) struct Mixture {
    work: Arc<Work>,
    schedule: Option<Schedule>,
    chooser: Chooser,
    generator: Pcg64Mcg,
    draws: Draws,
    held: VecDeque<Owned>,
    live: VecDeque<Owned>,
    records: Vec<Record>,
}

impl Mixture {
    /// `stream` tells the threads of a run apart.
    pub(super) fn new(work: Arc<Work>, schedule: Option<Schedule>, pools: usize, seed: u64, stream: u64) -> Self {
        // An odd state that neither keys nor schedules have.
        let mut generator = Pcg64Mcg::new(u128::from(!seed) << 64 | u128::from(stream) << 1 | 1);
        for _ in 0..16 {
            generator.next_u64();
        }
        Self {
            chooser: Chooser::new(work.choice, pools),
            work,
            schedule,
            generator,
            draws: Draws::new(seed, stream, pools),
            held: VecDeque::new(),
            live: VecDeque::new(),
            records: Vec::new(),
        }
    }

    #[inline]
    fn next(&mut self, now: u64) -> Option<Entry> {
        let due = match &mut self.schedule {
            None => now,
            Some(schedule) => {
                let due = schedule.due();
                if due > now {
                    return None;
                }
                schedule.advance();
                due
            }
        };
        let mut operation = self.work.mix.of(self.generator.next_u32());
        let owned = match operation {
            Operation::Confirm => self.held.pop_front(),
            Operation::Release => self.live.pop_front().or_else(|| self.held.pop_front()),
            Operation::Reserve | Operation::Hold | Operation::Availability => None,
        };
        if let Some(owned) = owned {
            return Some(Entry {
                due,
                operation,
                pool: owned.pool,
                units: self.work.units,
                key: Key(0),
                id: owned.id,
                tag: owned.record,
            });
        }
        if matches!(operation, Operation::Confirm | Operation::Release) {
            operation = self.work.mix.instead();
        }
        Some(Entry {
            due,
            operation,
            pool: self.chooser.draw(&mut self.generator),
            units: self.work.units,
            key: self.draws.key(),
            id: ReservationId(0),
            tag: 0,
        })
    }

    fn answered(&mut self, entry: &Entry, fate: Fate, id: ReservationId) {
        let mut owned = Owned {
            id: entry.id,
            pool: entry.pool,
            record: entry.tag,
        };
        match (entry.operation, fate) {
            (Operation::Availability, _) => {}
            (Operation::Reserve | Operation::Hold, Fate::Applied | Fate::Unknown) => {
                let held = entry.operation == Operation::Hold;
                if self.work.account {
                    owned.record = self.records.len() as u32;
                    self.records.push(Record {
                        key: entry.key,
                        id,
                        pool: entry.pool,
                        hold_seconds: if held { self.work.hold_seconds } else { 0 },
                        standing: match fate {
                            Fate::Unknown => Standing::UnknownReserve,
                            _ if held => Standing::Held,
                            _ => Standing::Confirmed,
                        },
                    });
                }
                if fate == Fate::Applied {
                    owned.id = id;
                    self.keep(owned, held);
                }
            }
            (Operation::Confirm, Fate::Applied) => {
                self.stand(owned, Standing::Confirmed);
                self.keep(owned, false);
            }
            (Operation::Confirm, Fate::Unknown) => self.stand(owned, Standing::UnknownConfirm),
            (Operation::Release, Fate::Applied) => self.stand(owned, Standing::Released),
            (Operation::Release, Fate::Unknown) => self.stand(owned, Standing::UnknownRelease),
            // It is as before.
            (Operation::Confirm, Fate::Refused) => self.held.push_back(owned),
            (Operation::Release, Fate::Refused) => self.live.push_back(owned),
            (_, Fate::Refused | Fate::Error) => {}
        }
    }

    /// Remembers what a later command may be about.
    fn keep(&mut self, owned: Owned, held: bool) {
        let mix = &self.work.mix;
        let queue = if held && mix.has(Operation::Confirm) {
            &mut self.held
        } else if mix.has(Operation::Release) {
            &mut self.live
        } else {
            return;
        };
        if queue.len() < OWNED_MAX {
            queue.push_back(owned);
        }
    }

    fn stand(&mut self, owned: Owned, standing: Standing) {
        if self.work.account {
            self.records[owned.record as usize].standing = standing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrivals;

    fn mixture(mix: &str) -> Mixture {
        let work = Work {
            mix: mix.parse().expect(mix),
            account: true,
            ..Work::reserves(Arrivals::Closed, 1.0)
        };
        Mixture::new(Arc::new(work), None, 10, 1, 0)
    }

    #[test]
    fn what_is_made_is_confirmed_and_released_once() {
        let mut mixture = mixture("hold=1,confirm=1,release=1");
        let mut live = std::collections::HashSet::new();
        let mut counts = [0; 5];
        for step in 0..3000_u128 {
            let entry = mixture.next(0).expect("a closed loop has always one");
            counts[entry.operation.index()] += 1;
            let id = ReservationId(step + 1);
            match entry.operation {
                Operation::Hold => assert!(live.insert(id)),
                Operation::Confirm => assert!(live.contains(&entry.id)),
                Operation::Release => assert!(live.remove(&entry.id), "{step}"),
                other => panic!("{other:?} is not in the mixture"),
            }
            mixture.answered(&entry, Fate::Applied, id);
        }
        assert!(counts[1] > 900 && counts[2] > 500 && counts[3] > 900, "{counts:?}");
        let standing = mixture
            .records
            .iter()
            .filter(|record| matches!(record.standing, Standing::Held | Standing::Confirmed))
            .count();
        assert_eq!(standing, live.len());
    }

    #[test]
    fn with_nothing_to_confirm_it_holds() {
        let mut mixture = mixture("hold=1,confirm=1000000");
        let entry = mixture.next(0).expect("a closed loop has always one");
        assert_eq!(entry.operation, Operation::Hold);
        mixture.answered(&entry, Fate::Refused, ReservationId(0));
        assert!(mixture.records.is_empty() && mixture.held.is_empty());
    }
}
