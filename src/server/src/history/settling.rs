//! How reservations ended that no engine knows any more.

use std::collections::HashMap;

use plimsoll_domain::{Event, PoolId, ReservationId, ReservationState, ReservationView};
use plimsoll_journal::Lsn;
use plimsoll_replay::{Budget, Forward, Positions, Selection, Step, keys_of_pool};

use super::Refused;
use super::reader::Reader;
use super::search::{Candidate, view_when_made};

/// Reservations of one pool, followed from where the first of them was made. It is kept from one request to the next, so that a long life is read once.
pub(super) struct Settling {
    pool: PoolId,
    events: Forward,
    views: HashMap<ReservationId, ReservationView>,
    /// All that happened to them was read. A reset can let one live again that had ended, so no end is the last before that.
    is_done: bool,
}

impl Reader {
    /// Finds out how candidates ended, those of one pool at a time. What stays unknown has not been reached within the budget.
    pub(super) fn settle(&mut self, candidates: &mut [Candidate], budget: &mut Budget) -> Result<(), Refused> {
        while let Some(first) = candidates.iter().position(|candidate| candidate.now.is_none()) {
            let id = candidates[first].made.reservation;
            let settling = match self.settling.take() {
                Some(kept) if kept.views.contains_key(&id) => kept,
                _ => self.begin_settling(candidates[first].made.pool, candidates)?,
            };
            let settling = settling.go_on(self, budget)?;
            for candidate in candidates.iter_mut().filter(|candidate| candidate.now.is_none()) {
                let view = settling.views.get(&candidate.made.reservation);
                candidate.now = view.filter(|_| settling.is_done).copied();
            }
            let is_known = candidates[first].now.is_some();
            self.settling = Some(settling);
            if !is_known {
                break;
            }
        }
        Ok(())
    }

    fn begin_settling(&self, pool: PoolId, candidates: &[Candidate]) -> Result<Settling, Refused> {
        let history = self.history_read()?;
        let of_pool = candidates
            .iter()
            .filter(|candidate| candidate.now.is_none() && candidate.made.pool == pool);
        let mut positions = history.end()?;
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
        let selection = Selection {
            partition: Some(pool.partition()),
            keys: Some(keys_of_pool(pool)),
            ..Selection::ALL
        };
        Ok(Settling {
            pool,
            events: Forward::open(history, &positions, None, selection)?,
            is_done: false,
            views,
        })
    }
}

impl Settling {
    fn go_on(mut self, reader: &Reader, budget: &mut Budget) -> Result<Settling, Refused> {
        let history = reader.history_read()?;
        while !self.is_done {
            match self.events.next(history, budget)? {
                Step::Next(recorded) => self.take(&recorded.event),
                Step::Paused => break,
                Step::End => self.is_done = true,
            }
        }
        Ok(self)
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
                self.is_done = true;
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
