//! The events of a pool, the newest first, with the counters after each.
//!
//! The counters of a living pool are known at the end. Events say what they changed, so walking back undoes one after the other. Limits follow from
//! definitions: before one, the definition before it is looked for. Where a pool's life begins, an earlier pool of the same name is.

use plimsoll_domain::limits::PARTITION_COUNT;
use plimsoll_domain::{Event, PoolDefined, PoolId, partition_of};
use plimsoll_journal::Lsn;
use plimsoll_protocol::Status;
use plimsoll_record::{KIND_POOL_CHANGED, KIND_POOL_CREATED};
use plimsoll_replay::{After, Budget, Effect, Newest, Positions, Selection, Step, keys_of_name, keys_of_pool};

use super::cursor::{self, Sort, Writer};
use super::encode::{Told, event_size};
use super::reader::{Page, Reader};
use super::{EventsQuestion, Refused};
use crate::limits::HISTORY_ANSWER_SIZE_MAX;

/// Where the listing goes on.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// The counters must be followed up to here first, in the journal of the owner.
    Begin { journal: usize, target: Lsn },
    /// Back from `walk`.
    Walk(Walk),
    /// The definition before `search` is looked for; the walk goes on then.
    Search { walk: Walk, search: Positions },
}

#[derive(Clone, Debug, PartialEq)]
struct Walk {
    /// Whose events; 0 when none was found yet.
    pool: PoolId,
    /// The pool's life was followed back to its beginning.
    is_over: bool,
    before: Positions,
    /// What holds behind the next event, as far as it is known.
    counters: Option<After>,
    has_limits: bool,
}

impl Reader {
    pub(super) fn pool_events(&mut self, question: &EventsQuestion, budget: &mut Budget) -> Result<Page, Refused> {
        let history = self.history()?;
        let end = history.end()?;
        let owner = usize::from(history.view().owners()[partition_of(&question.pool).index()]);
        let begin = Place::Begin {
            journal: owner,
            target: end.of(owner),
        };
        let place = match question.cursor.as_deref() {
            None => begin,
            Some(text) => match self.read_place(question, text, &end)? {
                // The partition has moved: the counters are followed elsewhere.
                Place::Begin { journal, .. } if journal != owner => begin,
                place => place,
            },
        };
        let place = match place {
            Place::Begin { journal, target } => {
                match self.begin_events(&question.pool, journal, target, end, budget)? {
                    Some(place) => place,
                    None => {
                        return Ok(Page::Events {
                            events: Vec::new(),
                            next: Some(self.write_place(question, &Place::Begin { journal, target })),
                        });
                    }
                }
            }
            place => place,
        };
        let mut events = Vec::new();
        let next = self.list(question, place, &mut events, budget)?;
        Ok(Page::Events {
            next: next.map(|place| self.write_place(question, &place)),
            events,
        })
    }

    /// Where the listing begins; nothing while the counters are being followed.
    fn begin_events(
        &mut self,
        name: &str,
        journal: usize,
        target: Lsn,
        end: Positions,
        budget: &mut Budget,
    ) -> Result<Option<Place>, Refused> {
        self.follow(None, budget)?;
        let followed = self.followed()?;
        let reached = followed.positions().of(journal);
        if reached < target {
            return Ok(None);
        }
        let mut before = end;
        before.set(journal, reached);
        let found = followed.id_of(name).and_then(|pool| Some((pool, followed.get(pool)?)));
        Ok(Some(match found {
            Some((pool, state)) => Place::Walk(Walk {
                pool,
                is_over: false,
                before,
                counters: Some(state.after),
                has_limits: true,
            }),
            None => Place::Search {
                search: before.clone(),
                walk: Walk {
                    pool: PoolId(0),
                    is_over: true,
                    before,
                    counters: None,
                    has_limits: false,
                },
            },
        }))
    }

    /// Lists until the page is full, the budget is spent, or there is nothing left; returns where to go on.
    fn list(
        &self,
        question: &EventsQuestion,
        mut place: Place,
        told: &mut Vec<Told>,
        budget: &mut Budget,
    ) -> Result<Option<Place>, Refused> {
        let mut size = 0;
        loop {
            place = match place {
                Place::Begin { .. } => return Ok(Some(place)),
                Place::Search { mut walk, search } => match self.search_definition(&question.pool, &search, budget)? {
                    Searched::Found(defined) => Place::Walk(found_definition(walk, &defined)),
                    Searched::Paused(search) => return Ok(Some(Place::Search { walk, search })),
                    Searched::Nothing if walk.pool.0 == 0 => {
                        return Err(Refused(Status::PoolNotFound, Status::PoolNotFound.meaning().into()));
                    }
                    Searched::Nothing if walk.is_over => return Ok(None),
                    // A definition is missing: what is left is told without counters.
                    Searched::Nothing => {
                        walk.counters = None;
                        Place::Walk(walk)
                    }
                },
                Place::Walk(walk) => {
                    let (walk, step) = self.walk(question, walk, told, &mut size, budget)?;
                    match step {
                        Step::Paused => return Ok(Some(Place::Walk(walk))),
                        Step::End => return Ok(None),
                        Step::Next(()) => Place::Search {
                            search: walk.before.clone(),
                            walk,
                        },
                    }
                }
            };
        }
    }

    /// Walks back until the page is full or the budget spent (`Paused`), a definition has to be found (`Next`), or nothing is left.
    fn walk(
        &self,
        question: &EventsQuestion,
        mut walk: Walk,
        told: &mut Vec<Told>,
        size: &mut usize,
        budget: &mut Budget,
    ) -> Result<(Walk, Step<()>), Refused> {
        let history = self.history_read()?;
        let selection = Selection {
            partition: Some(walk.pool.partition()),
            keys: Some(keys_of_pool(walk.pool)),
            ..Selection::ALL
        };
        let mut newest = Newest::open(history, &walk.before, selection)?;
        let pool = walk.pool;
        let step = loop {
            if told.len() >= question.limit || *size >= HISTORY_ANSWER_SIZE_MAX {
                break Step::Paused;
            }
            let recorded = match newest.next(history, &|event| event.pool() == Some(pool), budget)? {
                Step::Next(recorded) => recorded,
                Step::Paused => break Step::Paused,
                Step::End => break Step::End,
            };
            let event = Told {
                pool: question.pool.clone(),
                zone: None,
                after: after(&walk, &recorded.event),
                cursor: None,
                time: recorded.time,
                event: recorded.event,
            };
            *size += event_size(&event.event);
            let turn = match &event.event {
                Event::PoolCreated(_) => {
                    walk.is_over = true;
                    walk.counters = None;
                    walk.has_limits = false;
                    true
                }
                Event::PoolChanged(_) => {
                    walk.has_limits = false;
                    true
                }
                // What was still confirmed went with the pool, and its last event does not say how much that was.
                Event::PoolRetired(_) => {
                    walk.counters = None;
                    false
                }
                other => {
                    if let Some(counters) = &mut walk.counters {
                        counters.undo(&Effect::of(other));
                    }
                    false
                }
            };
            told.push(event);
            if turn {
                break Step::Next(());
            }
        };
        walk.before = newest.positions();
        Ok((walk, step))
    }

    /// Looks back for the definition of a pool of this name.
    pub(super) fn search_definition(
        &self,
        name: &str,
        search: &Positions,
        budget: &mut Budget,
    ) -> Result<Searched, Refused> {
        let history = self.history_read()?;
        let selection = Selection {
            partition: Some(partition_of(name)),
            keys: Some(keys_of_name(Some(name))),
            kinds: KIND_POOL_CREATED..=KIND_POOL_CHANGED,
            ..Selection::ALL
        };
        let mut newest = Newest::open(history, search, selection)?;
        let is_of_name = |event: &Event| match event {
            Event::PoolCreated(defined) | Event::PoolChanged(defined) => *defined.definition.name == *name,
            _ => false,
        };
        Ok(match newest.next(history, &is_of_name, budget)? {
            Step::Next(recorded) => match recorded.event {
                Event::PoolCreated(defined) | Event::PoolChanged(defined) => Searched::Found(defined),
                _ => Searched::Nothing,
            },
            Step::Paused => Searched::Paused(newest.positions()),
            Step::End => Searched::Nothing,
        })
    }

    fn write_place(&self, question: &EventsQuestion, place: &Place) -> String {
        let dimension_count = self.dimension_count();
        let mut writer = Writer::new(Sort::Events, self.directory_id(), question.fingerprint());
        let walk = match place {
            Place::Begin { journal, target } => {
                writer.number(0);
                writer.number(*journal as u64);
                writer.number(target.0);
                return writer.finish();
            }
            Place::Walk(walk) => {
                writer.number(1);
                walk
            }
            Place::Search { walk, search } => {
                writer.number(2);
                writer.positions(search);
                walk
            }
        };
        writer.number(walk.pool.0);
        writer.number(u64::from(walk.is_over) | u64::from(walk.has_limits) << 1);
        writer.positions(&walk.before);
        writer.number(u64::from(walk.counters.is_some()));
        if let Some(after) = &walk.counters {
            writer.units(&after.limits, dimension_count);
            writer.counters(&after.held, dimension_count);
            writer.counters(&after.confirmed, dimension_count);
        }
        writer.finish()
    }

    fn read_place(&self, question: &EventsQuestion, text: &str, end: &Positions) -> Result<Place, Refused> {
        let dimension_count = self.dimension_count();
        let mut reader = cursor::Reader::new(text, Sort::Events, self.directory_id(), question.fingerprint())?;
        let which = reader.number()?;
        if which == 0 {
            let journal = reader.number()? as usize;
            let target = Lsn(reader.number()?);
            return if journal < end.0.len() && target <= end.of(journal) {
                Ok(Place::Begin { journal, target })
            } else {
                Err(cursor::not_valid())
            };
        }
        let search = match which {
            1 => None,
            2 => Some(reader.positions(end)?),
            _ => return Err(cursor::not_valid()),
        };
        let pool = PoolId(reader.number()?);
        let flags = reader.number()?;
        let before = reader.positions(end)?;
        let counters = match reader.number()? {
            0 => None,
            _ => Some(After {
                limits: reader.units(dimension_count)?,
                held: reader.counters(dimension_count)?,
                confirmed: reader.counters(dimension_count)?,
            }),
        };
        if pool.partition().index() >= PARTITION_COUNT {
            return Err(cursor::not_valid());
        }
        let walk = Walk {
            pool,
            is_over: flags & 1 == 1,
            has_limits: flags & 2 == 2,
            before,
            counters,
        };
        Ok(match search {
            None => Place::Walk(walk),
            Some(search) => Place::Search { walk, search },
        })
    }
}

impl EventsQuestion {
    /// Of what its cursors belong to.
    fn fingerprint(&self) -> u16 {
        cursor::fingerprint(&[self.pool.as_bytes()])
    }
}

/// What holds after an event, as far as it is known.
fn after(walk: &Walk, event: &Event) -> Option<After> {
    match event {
        // Nothing is left of a retired pool but its name.
        Event::PoolRetired(_) => None,
        _ => walk.counters.filter(|_| walk.has_limits),
    }
}

/// What a search for a definition has come to.
pub(super) enum Searched {
    Found(PoolDefined),
    Paused(Positions),
    Nothing,
}

/// A definition was found: that of the same pool before, or the last one of an earlier pool of the name.
fn found_definition(mut walk: Walk, defined: &PoolDefined) -> Walk {
    if defined.pool != walk.pool {
        walk.pool = defined.pool;
        walk.is_over = false;
        walk.counters = None;
    }
    if let Some(counters) = &mut walk.counters {
        counters.limits = defined.definition.limits;
    }
    walk.has_limits = true;
    walk
}
