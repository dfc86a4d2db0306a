//! How reservations ended that no engine knows any more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use plimsoll_domain::{Event, PoolId, ReservationId, ReservationState, ReservationView};
use plimsoll_journal::Lsn;
use plimsoll_protocol::Status;
use plimsoll_replay::{Budget, Forward, History, Positions, Selection, Step, keys_of_pool};

use super::Refused;
use super::reader::Reader;
use super::search::{Candidate, view_when_made};
use crate::limits::SETTLINGS_MAX;

/// What has not been read to its end is not given up for another one within this time.
const IN_USE_FOR: Duration = Duration::from_secs(10);

/// Reservations of one pool, followed from where the first of them was made. It is kept from one request to the next, so that a long life is read once.
pub(super) struct Settling {
    pool: PoolId,
    events: Forward,
    /// What was durable when `events` was opened.
    upto: Positions,
    views: HashMap<ReservationId, ReservationView>,
    /// All of `events` was read.
    is_read: bool,
    /// The pool has left memory: nothing more happens to them.
    is_over: bool,
    pub(super) used_at: Instant,
}

impl Reader {
    /// Finds out how candidates ended, those of one pool at a time. What stays unknown has not been reached within the budget.
    pub(super) fn settle(&mut self, candidates: &mut [Candidate], budget: &mut Budget) -> Result<(), Refused> {
        while let Some(first) = candidates.iter().position(|candidate| candidate.now.is_none()) {
            let id = candidates[first].made.reservation;
            let kept = self.settlings.iter().position(|kept| kept.views.contains_key(&id));
            let mut settling = match kept {
                Some(kept) => self.settlings.swap_remove(kept),
                None => {
                    make_room(&mut self.settlings)?;
                    self.begin_settling(candidates[first].made.pool, candidates)?
                }
            };
            let is_known = settling.go_on(self.history_read()?, budget)?;
            if is_known {
                for candidate in candidates.iter_mut().filter(|candidate| candidate.now.is_none()) {
                    candidate.now = settling.views.get(&candidate.made.reservation).copied();
                }
            }
            self.settlings.push(settling);
            if !is_known {
                break;
            }
        }
        Ok(())
    }

    fn begin_settling(&self, pool: PoolId, candidates: &[Candidate]) -> Result<Settling, Refused> {
        let history = self.history_read()?;
        let upto = history.end()?;
        let of_pool = candidates
            .iter()
            .filter(|candidate| candidate.now.is_none() && candidate.made.pool == pool);
        let mut positions = upto.clone();
        // Journals from the earliest one on, since later ones hold what came later.
        let first = of_pool
            .clone()
            .map(|candidate| (candidate.journal, candidate.lsn))
            .min();
        for journal in 0..positions.0.len() {
            positions.0[journal] = match first {
                Some((earliest, lsn)) if journal == earliest => lsn,
                Some((earliest, _)) if journal < earliest => Positions::ALL_READ,
                _ => Lsn(1),
            };
        }
        let views: HashMap<_, _> = of_pool
            .map(|candidate| (candidate.made.reservation, view_when_made(&candidate.made)))
            .collect();
        Ok(Settling {
            pool,
            events: Forward::open(history, &positions, None, selection(pool))?,
            upto,
            is_read: false,
            is_over: false,
            views,
            used_at: Instant::now(),
        })
    }
}

/// The one that was used longest ago goes, unless others are in the midst of all of them.
fn make_room(settlings: &mut Vec<Settling>) -> Result<(), Refused> {
    if settlings.len() < SETTLINGS_MAX {
        return Ok(());
    }
    let now = Instant::now();
    let is_free = |settling: &Settling| {
        settling.is_read || settling.is_over || now.duration_since(settling.used_at) >= IN_USE_FOR
    };
    let places = settlings.iter().enumerate().filter(|(_, settling)| is_free(settling));
    let Some((place, _)) = places.min_by_key(|(_, settling)| settling.used_at) else {
        let detail = format!("{SETTLINGS_MAX} searches for reservations that ended long ago are going on already");
        return Err(Refused(Status::Overloaded, detail));
    };
    settlings.swap_remove(place);
    Ok(())
}

fn selection(pool: PoolId) -> Selection {
    Selection {
        partition: Some(pool.partition()),
        keys: Some(keys_of_pool(pool)),
        ..Selection::ALL
    }
}

impl Settling {
    /// Reads on. True when all that is durable now was read: a reset can let one live again that had ended, so an end holds only as long as nothing more
    /// happened.
    fn go_on(&mut self, history: &History, budget: &mut Budget) -> Result<bool, Refused> {
        self.used_at = Instant::now();
        let end = history.end()?;
        while !self.is_over {
            if self.is_read {
                let is_behind = (0..end.0.len()).any(|journal| self.upto.of(journal) < end.of(journal));
                if !is_behind {
                    return Ok(true);
                }
                self.events = Forward::open(history, &self.events.positions(), None, selection(self.pool))?;
                self.upto = end.clone();
                self.is_read = false;
            }
            match self.events.next(history, budget)? {
                Step::Next(recorded) => self.take(&recorded.event),
                Step::Paused => return Ok(false),
                Step::End => self.is_read = true,
            }
        }
        Ok(true)
    }

    fn take(&mut self, event: &Event) {
        let (id, state) = match event {
            Event::Confirmed(event) => (event.reservation, ReservationState::Confirmed),
            Event::Released(event) => (event.reservation, ReservationState::Released),
            Event::Expired(event) => (event.reservation, ReservationState::Expired),
            Event::Resized(event) => {
                if let Some(view) = self.views.get_mut(&event.reservation) {
                    view.units = event.units;
                    view.expires_at = event.expires_at;
                    view.version = event.version;
                    view.would_refuse |= event.would_refuse;
                }
                return;
            }
            Event::Restored(event) => {
                if let Some(view) = self.views.get_mut(&event.reservation) {
                    *view = ReservationView {
                        units: event.units,
                        state: match event.expires_at {
                            Some(_) => ReservationState::Held,
                            None => ReservationState::Confirmed,
                        },
                        expires_at: event.expires_at,
                        version: event.version,
                        would_refuse: event.would_refuse,
                        ..*view
                    };
                }
                return;
            }
            // What still lived went with its pool as it was.
            Event::PoolRetired(event) if event.pool == self.pool => {
                self.is_over = true;
                return;
            }
            _ => return,
        };
        if let Some(view) = self.views.get_mut(&id)
            && !view.state.is_ended()
        {
            view.state = state;
            // As for one that is known: what was confirmed or released has no deadline.
            if state != ReservationState::Expired {
                view.expires_at = None;
            }
        }
    }
}
