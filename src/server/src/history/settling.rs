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
    used_at: Instant,
}

/// Those that are kept: several searches may need more than one turn each, and must not throw away what the others have read.
#[derive(Default)]
pub(super) struct Settlings(Vec<Settling>);

impl Reader {
    /// Finds out how candidates ended, those of one pool at a time. What stays unknown has not been reached within the budget.
    pub(super) fn settle(&mut self, candidates: &mut [Candidate], budget: &mut Budget) -> Result<(), Refused> {
        self.history()?;
        match &self.history {
            Some(history) => self.settlings.settle(history, candidates, budget),
            None => Ok(()),
        }
    }
}

impl Settlings {
    fn settle(&mut self, history: &History, candidates: &mut [Candidate], budget: &mut Budget) -> Result<(), Refused> {
        while let Some(first) = candidates.iter().position(|candidate| candidate.now.is_none()) {
            let id = candidates[first].made.reservation;
            let kept = self.0.iter().position(|kept| kept.views.contains_key(&id));
            let mut settling = match kept {
                Some(kept) => self.0.swap_remove(kept),
                None => {
                    self.make_room()?;
                    Settling::begin(history, candidates[first].made.pool, candidates)?
                }
            };
            let is_known = settling.go_on(history, budget)?;
            if is_known {
                for candidate in candidates.iter_mut().filter(|candidate| candidate.now.is_none()) {
                    candidate.now = settling.views.get(&candidate.made.reservation).copied();
                }
            }
            self.0.push(settling);
            if !is_known {
                break;
            }
        }
        Ok(())
    }

    /// The one that was used longest ago goes, unless others are in the midst of all of them.
    fn make_room(&mut self) -> Result<(), Refused> {
        if self.0.len() < SETTLINGS_MAX {
            return Ok(());
        }
        let now = Instant::now();
        let is_free = |settling: &Settling| {
            settling.is_read || settling.is_over || now.duration_since(settling.used_at) >= IN_USE_FOR
        };
        let places = self.0.iter().enumerate().filter(|(_, settling)| is_free(settling));
        let Some((place, _)) = places.min_by_key(|(_, settling)| settling.used_at) else {
            let detail = format!("{SETTLINGS_MAX} searches for reservations that ended long ago are going on already");
            return Err(Refused(Status::Overloaded, detail));
        };
        self.0.swap_remove(place);
        Ok(())
    }

    /// Gives up what was not used lately.
    pub(super) fn rest(&mut self, is_used: impl Fn(Instant) -> bool) {
        self.0.retain(|settling| is_used(settling.used_at));
    }
}

fn selection(pool: PoolId) -> Selection {
    Selection {
        partition: Some(pool.partition()),
        keys: Some(keys_of_pool(pool)),
        ..Selection::ALL
    }
}

impl Settling {
    fn begin(history: &History, pool: PoolId, candidates: &[Candidate]) -> Result<Settling, Refused> {
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
            match self.events.next_within(history, budget)? {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use plimsoll_domain::ReservationState::{Confirmed, Held};

    use super::*;

    /// Unpacks the data directory that the readers of history are tested with.
    fn unpack(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                fs::create_dir(to.join(name)).unwrap();
                unpack(&path, &to.join(name));
            } else {
                let bytes = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
                fs::write(to.join(name.strip_suffix(".zst").unwrap()), bytes).unwrap();
            }
        }
    }

    fn hour() -> Budget {
        Budget::new(Duration::from_secs(3600), u64::MAX)
    }

    /// The first reservations of each pool.
    fn candidates(history: &History) -> Vec<Candidate> {
        let mut events = Forward::open(history, &history.beginning(), None, Selection::ALL).unwrap();
        let mut found: Vec<Candidate> = Vec::new();
        while let Some(recorded) = events.next(history).unwrap() {
            if let Event::Reserved(made) = recorded.event
                && found
                    .iter()
                    .filter(|candidate| candidate.made.pool == made.pool)
                    .count()
                    < 2
            {
                found.push(Candidate {
                    made,
                    journal: recorded.journal,
                    lsn: recorded.lsn,
                    ahead: events.positions(),
                    now: None,
                });
            }
        }
        found
    }

    #[test]
    fn searches_that_take_turns_all_get_to_their_ends() {
        let directory = tempfile::tempdir().unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../replay/tests/fixtures/format-1/data");
        unpack(fixture.as_ref(), directory.path());
        let history = History::read(directory.path()).unwrap();
        let mut found = candidates(&history);
        assert!(found.len() > SETTLINGS_MAX, "only {}", found.len());
        let (turns, others) = found.split_at_mut(SETTLINGS_MAX);

        // A turn reads one record.
        let turn = || Budget::new(Duration::from_secs(3600), 1);
        let mut settlings = Settlings::default();
        for candidate in &mut *turns {
            settlings
                .settle(&history, std::slice::from_mut(candidate), &mut turn())
                .unwrap();
            assert!(candidate.now.is_none());
        }
        // One more would throw away what another one has read.
        let refused = settlings.settle(&history, std::slice::from_mut(&mut others[0]), &mut turn());
        assert!(matches!(refused, Err(Refused(Status::Overloaded, _))), "{refused:?}");
        assert_eq!(settlings.0.len(), SETTLINGS_MAX);
        for _ in 0..1_000_000 {
            for candidate in turns.iter_mut().filter(|candidate| candidate.now.is_none()) {
                settlings
                    .settle(&history, std::slice::from_mut(candidate), &mut turn())
                    .unwrap();
            }
            if turns.iter().all(|candidate| candidate.now.is_some()) {
                break;
            }
        }
        for candidate in &mut *turns {
            let found = candidate.now.take().expect("it was read to its end");
            Settlings::default()
                .settle(&history, std::slice::from_mut(candidate), &mut hour())
                .unwrap();
            assert_eq!(candidate.now, Some(found));
        }
        // What was read to its end makes room.
        settlings
            .settle(&history, std::slice::from_mut(&mut others[0]), &mut hour())
            .unwrap();
        assert!(others[0].now.is_some());
        assert_eq!(settlings.0.len(), SETTLINGS_MAX);
        let is_ended = |candidate: &Candidate| {
            candidate
                .now
                .is_some_and(|view| !matches!(view.state, Held | Confirmed))
        };
        assert!(found.iter().any(is_ended), "none of them has ended");
    }
}
