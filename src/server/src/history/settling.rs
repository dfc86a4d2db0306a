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
    /// Those whose end has not been reached.
    open: usize,
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
            let is_done = settling.open == 0;
            for candidate in candidates.iter_mut().filter(|candidate| candidate.now.is_none()) {
                let view = settling.views.get(&candidate.made.reservation);
                candidate.now = view.filter(|view| is_done || view.state.is_ended()).copied();
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
            open: views.len(),
            views,
        })
    }
}

impl Settling {
    fn go_on(mut self, reader: &Reader, budget: &mut Budget) -> Result<Settling, Refused> {
        let history = reader.history_read()?;
        while self.open > 0 {
            match self.events.next(history, budget)? {
                Step::Next(recorded) => self.take(&recorded.event),
                Step::Paused => break,
                // Nothing ended them: they went with their pool as they were.
                Step::End => self.open = 0,
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
            Event::PoolRetired(event) if event.pool == self.pool => {
                self.open = 0;
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
            self.open -= usize::from(state.is_ended());
        }
    }
}
