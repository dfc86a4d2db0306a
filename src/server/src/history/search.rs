//! Reservations by reference or pool, the newest first.
//!
//! The index leads to the events that made them. How they are now is asked of the engines that own them. What those have forgotten has ended; how is read
//! from where it was made on (`settling.rs`).

use plimsoll_domain::{
    Event, PoolId, ReservationId, ReservationState, ReservationView, Reserved, Timestamp, partition_of,
};
use plimsoll_journal::Lsn;
use plimsoll_protocol::{Status, wire};
use plimsoll_record::KIND_RESERVED;
use plimsoll_replay::{Budget, Newest, Positions, Selection, Step, keys_of_pool, keys_of_reference};

use super::cursor::{self, Sort, Writer};
use super::events::Searched;
use super::reader::{Page, Reader, work};
use super::{Refused, SearchQuestion};

/// A reservation that is told.
pub(super) struct Found {
    pub(super) view: ReservationView,
    pub(super) pool: Box<str>,
    pub(super) reference: Option<Box<str>>,
}

/// Where a search goes on.
#[derive(Clone)]
struct Place {
    before: Positions,
    /// The pool that is searched; 0 when it is not known yet, or all are.
    pool: PoolId,
    /// Where looking for that pool goes on.
    defined_before: Positions,
}

/// A reservation that was made.
pub(super) struct Candidate {
    pub(super) made: Reserved,
    pub(super) journal: usize,
    pub(super) lsn: Lsn,
    /// Where to go on to find it again.
    pub(super) ahead: Positions,
    /// How it is, where that is known.
    pub(super) now: Option<ReservationView>,
}

impl Reader {
    pub(super) fn search(&mut self, question: &SearchQuestion, budget: &mut Budget) -> Result<Page, Refused> {
        let mut place = self.search_place(question)?;
        // The names of what is found; as of where the search began, so that following does not go on for ever.
        if !self.follow(Some(&place.before), budget)? {
            return Ok(self.found(question, Vec::new(), Some(&place)));
        }
        if let Some(name) = question.pool.as_deref()
            && place.pool.0 == 0
        {
            match self.pool_of(name, &mut place, budget)? {
                Some(pool) => place.pool = pool,
                None => return Ok(self.found(question, Vec::new(), Some(&place))),
            }
        }
        let (mut candidates, behind) = self.candidates(question, &place, budget)?;
        self.ask_owners(&mut candidates)?;
        // A budget of its own, so that what is found anew each time cannot keep it from going on.
        self.settle(&mut candidates, &mut work())?;
        let budget = &mut work();
        let mut found = Vec::new();
        for candidate in candidates {
            let name = match (&question.pool, &candidate.now) {
                (_, None) => None,
                (Some(name), Some(_)) => Some(name.clone()),
                (None, Some(view)) => match self.pool_label(view.pool, budget)? {
                    Step::Next(label) => Some(label.name),
                    Step::Paused => None,
                    // Its pool has left no trace of its name.
                    Step::End => Some("".into()),
                },
            };
            let (Some(view), Some(pool)) = (candidate.now, name) else {
                place.before = candidate.ahead;
                return Ok(self.found(question, found, Some(&place)));
            };
            if question.state == wire::State::none || plimsoll_engine::wire_state(view.state) == question.state {
                found.push(Found {
                    view,
                    pool,
                    reference: candidate.made.reference,
                });
            }
        }
        Ok(match behind {
            Some(behind) => {
                place.before = behind;
                self.found(question, found, Some(&place))
            }
            None => self.found(question, found, None),
        })
    }

    /// The pool that has this name, or had it last; nothing while it is being looked for.
    fn pool_of(&self, name: &str, place: &mut Place, budget: &mut Budget) -> Result<Option<PoolId>, Refused> {
        if let Some(pool) = self.followed()?.id_of(name) {
            return Ok(Some(pool));
        }
        match self.search_definition(name, &place.defined_before, budget)? {
            Searched::Found(defined) => Ok(Some(defined.pool)),
            Searched::Paused(before) => {
                place.defined_before = before;
                Ok(None)
            }
            Searched::Nothing => Err(Refused(Status::PoolNotFound, Status::PoolNotFound.meaning().into())),
        }
    }

    /// The next reservations that may be meant, and where to go on behind them; nothing when there are no more.
    fn candidates(
        &self,
        question: &SearchQuestion,
        place: &Place,
        budget: &mut Budget,
    ) -> Result<(Vec<Candidate>, Option<Positions>), Refused> {
        let history = self.history_read()?;
        let pool = Some(place.pool).filter(|pool| pool.0 != 0);
        let reference = question.reference.as_deref();
        let selection = Selection {
            partition: pool.map(PoolId::partition),
            keys: match (reference, pool) {
                (Some(reference), _) => Some(keys_of_reference(reference)),
                (None, pool) => pool.map(keys_of_pool),
            },
            kinds: KIND_RESERVED..=KIND_RESERVED,
            ..Selection::ALL
        };
        let is_meant = |event: &Event| match event {
            Event::Reserved(made) => {
                pool.is_none_or(|pool| pool == made.pool)
                    && reference.is_none_or(|reference| made.reference.as_deref() == Some(reference))
            }
            _ => false,
        };
        let mut newest = Newest::open(history, &place.before, selection)?;
        let mut candidates = Vec::new();
        while candidates.len() < question.limit {
            let ahead = newest.positions();
            match newest.next(history, &is_meant, budget)? {
                Step::Next(recorded) => {
                    if let Event::Reserved(made) = recorded.event {
                        candidates.push(Candidate {
                            made,
                            journal: recorded.journal,
                            lsn: recorded.lsn,
                            ahead,
                            now: None,
                        });
                    }
                }
                Step::Paused => break,
                Step::End => return Ok((candidates, None)),
            }
        }
        Ok((candidates, Some(newest.positions())))
    }

    /// Asks each owner how its reservations are.
    fn ask_owners(&mut self, candidates: &mut [Candidate]) -> Result<(), Refused> {
        for owner in 0..self.shared.core_count() {
            let of_owner = |candidate: &&mut Candidate| {
                let partition = candidate.made.reservation.parts().partition;
                usize::from(self.shared.owners[partition.index()]) == owner
            };
            let mut asked: Vec<&mut Candidate> = candidates.iter_mut().filter(of_owner).collect();
            if asked.is_empty() {
                continue;
            }
            let ids: Vec<ReservationId> = asked.iter().map(|candidate| candidate.made.reservation).collect();
            for (candidate, report) in asked.iter_mut().zip(self.look_up(owner, ids)?) {
                candidate.now = report.map(|report| report.view);
            }
        }
        Ok(())
    }

    fn search_place(&mut self, question: &SearchQuestion) -> Result<Place, Refused> {
        let end = self.history()?.end()?;
        let Some(text) = question.cursor.as_deref() else {
            return Ok(Place {
                before: end.clone(),
                pool: PoolId(0),
                defined_before: end,
            });
        };
        let mut reader = cursor::Reader::new(text, Sort::Search, self.directory_id(), question.fingerprint())?;
        let (before, pool) = (reader.positions(&end)?, PoolId(reader.number()?));
        let is_of_name = match &question.pool {
            Some(name) => pool.0 == 0 || pool.partition() == partition_of(name),
            None => pool.0 == 0,
        };
        if !is_of_name {
            return Err(cursor::not_valid());
        }
        Ok(Place {
            before,
            pool,
            defined_before: reader.positions(&end)?,
        })
    }

    fn found(&self, question: &SearchQuestion, reservations: Vec<Found>, next: Option<&Place>) -> Page {
        let next = next.map(|place| {
            let mut writer = Writer::new(Sort::Search, self.directory_id(), question.fingerprint());
            writer.positions(&place.before);
            writer.number(place.pool.0);
            writer.positions(&place.defined_before);
            writer.finish()
        });
        Page::Found { reservations, next }
    }
}

impl SearchQuestion {
    /// Of what its cursors belong to.
    fn fingerprint(&self) -> u16 {
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().as_bytes().to_owned();
        cursor::fingerprint(&[&text(&self.reference), &text(&self.pool), &[self.state.0]])
    }
}

/// How a reservation was when it was made.
pub(super) fn view_when_made(made: &Reserved) -> ReservationView {
    let is_held = made.hold_seconds > 0;
    ReservationView {
        id: made.reservation,
        pool: made.pool,
        units: made.units,
        state: if is_held {
            ReservationState::Held
        } else {
            ReservationState::Confirmed
        },
        created_at: made.at,
        expires_at: is_held.then(|| Timestamp::plus_seconds(made.at, made.hold_seconds)),
        version: 0,
        would_refuse: made.would_refuse,
    }
}
