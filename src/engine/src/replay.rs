//! From the records of a journal to a state.

use std::hint::black_box;

use plimsoll_domain::{Replaying, State, Timestamp};
use plimsoll_journal::{NotTaken, Record};
use plimsoll_record::{Place, RecordTag};

use crate::engine::RecordError;
use crate::limits::REPLAYED_TOGETHER;

/// Takes records into a state, a few at a time: what all of them will read is read ahead.
pub(crate) struct Replay {
    state: Replaying,
    dimension_count: usize,
    places: Vec<Place>,
}

impl Replay {
    pub(crate) fn new(state: Replaying, dimension_count: usize) -> Replay {
        Replay {
            state,
            dimension_count,
            places: Vec::with_capacity(REPLAYED_TOGETHER),
        }
    }

    /// Takes the records of a batch, up to the first one that is no event, or one that does not fit.
    pub(crate) fn take<'journal>(
        &mut self,
        mut records: impl Iterator<Item = Record<'journal>> + Clone,
    ) -> Result<(), NotTaken<RecordError>> {
        loop {
            self.touch(records.clone().take(REPLAYED_TOGETHER));
            let mut count = 0;
            for record in records.by_ref().take(REPLAYED_TOGETHER) {
                self.take_record(&record).map_err(|source| NotTaken {
                    lsn: record.lsn,
                    source,
                })?;
                count += 1;
            }
            if count < REPLAYED_TOGETHER {
                return Ok(());
            }
        }
    }

    /// Reads ahead what these records will read. Each loop does little, so that as many of its reads as possible are on
    /// their way at once.
    #[inline]
    fn touch<'journal>(&mut self, records: impl Iterator<Item = Record<'journal>>) {
        let Replay { state, places, .. } = self;
        places.clear();
        places.extend(records.filter_map(|record| plimsoll_record::place(tag_of(&record), record.body)));
        let reservations = places.iter().map(|place| state.touch_reservation(place.reservation));
        black_box(reservations.fold(0, |read, random| read ^ random));
        let pools = places.iter().map(|place| state.touch_pool(place.pool));
        black_box(pools.fold(0, |read, units| read ^ units));
    }

    #[inline]
    fn take_record(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        // What was decoded stays where it is: it is large, and copying it would show.
        match &plimsoll_record::decode(
            tag_of(record),
            Timestamp(record.time),
            record.body,
            self.dimension_count,
        ) {
            Ok(event) => self.state.take(event).map_err(|reason| RecordError::Misfit { reason }),
            Err(error) => Err(error.clone().into()),
        }
    }

    pub(crate) fn finish(self) -> State {
        self.state.finish()
    }
}

/// What the record's header says of its body.
#[inline]
pub(crate) fn tag_of(record: &Record<'_>) -> RecordTag {
    RecordTag {
        kind: record.tag.kind,
        partition: record.tag.partition,
        detail: record.tag.detail,
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::{
        Command, Decision, Event, Key, PoolDefinition, PutOutcome, PutPool, Reserve, StateOptions, Units,
    };
    use plimsoll_journal::{Lsn, Tag};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const EVENT_COUNT: usize = 3 * REPLAYED_TOGETHER + 5;

    fn options() -> StateOptions {
        StateOptions::new(1)
    }

    fn pool_definition() -> PoolDefinition {
        PoolDefinition {
            name: "slot-1".into(),
            zone: "north".into(),
            kind: "delivery".into(),
            starts_at: Timestamp(0),
            ends_at: NOW,
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::from_slice(&[1_000]),
            overbook: Units::default(),
        }
    }

    /// A state, and the tags and bodies of the events that led to it: a pool and reservations of it.
    fn history() -> (State, Vec<(Tag, Vec<u8>)>) {
        let (mut state, mut bodies) = (State::new(options()), Vec::new());
        let put = PutPool {
            definition: pool_definition(),
            expected_version: None,
        };
        let Ok(PutOutcome::Created(created)) = state.decide_put(&put, NOW) else {
            panic!("there is no such pool")
        };
        let pool = created.pool;
        let mut next = Event::PoolCreated(created);
        for number in 0..EVENT_COUNT {
            let mut body = Vec::new();
            let tag = plimsoll_record::encode(&next, 1, &mut body);
            let (kind, partition, detail) = (tag.kind, tag.partition, tag.detail);
            let tag = Tag {
                kind,
                partition,
                detail,
            };
            bodies.push((tag, body));
            state.apply(&next);
            let reserve = Command::Reserve(Reserve {
                pool,
                key: Key(number as u128),
                units: Units::from_slice(&[1]),
                hold_seconds: number as u32 % 2,
                occurred_at: Timestamp::ABSENT,
                random: number as u64,
                reference: None,
            });
            let Ok(Decision::Change(event)) = state.decide(&reserve, NOW) else {
                panic!("there is room")
            };
            next = event;
        }
        (state, bodies)
    }

    /// Replays these, the first of which has LSN 10, and returns the digest and how many are held, or the LSN of the one that
    /// was not taken and why.
    fn replay(bodies: &[(Tag, Vec<u8>)]) -> Result<(u64, usize), (Lsn, String)> {
        let mut replay = Replay::new(Replaying::new(options()), 1);
        let records = bodies.iter().enumerate().map(|(number, (tag, body))| Record {
            lsn: Lsn(10 + number as u64),
            time: NOW.0,
            tag: *tag,
            body,
        });
        replay
            .take(records)
            .map_err(|NotTaken { lsn, source }| (lsn, source.to_string()))?;
        let state = replay.finish();
        Ok((state.digest(NOW), state.held_count()))
    }

    #[test]
    fn any_number_of_records_leads_to_the_state_that_ran() {
        let (state, bodies) = history();
        assert_eq!(replay(&bodies), Ok((state.digest(NOW), state.held_count())));
        for count in [0, 1, REPLAYED_TOGETHER - 1, REPLAYED_TOGETHER, REPLAYED_TOGETHER + 1] {
            assert!(replay(&bodies[..count]).is_ok(), "{count} records");
        }
    }

    #[test]
    fn the_first_record_that_cannot_be_taken_is_named() {
        let (_, bodies) = history();
        for place in 1..EVENT_COUNT {
            let mut repeated = bodies.clone();
            repeated[place] = bodies[place - 1].clone();
            let mut unknown = bodies.clone();
            unknown[place].0.kind = 9;
            if let Some(later) = repeated.get_mut(place + 1) {
                later.0.kind = 9;
            }
            if let Some(later) = unknown.get_mut(place + 1) {
                *later = bodies[place].clone();
            }
            let lsn = Lsn(10 + place as u64);
            let misfit = "the event does not fit the state before it: its sequence does not follow the last one of its partition";
            assert_eq!(replay(&repeated), Err((lsn, misfit.into())));
            assert_eq!(replay(&unknown), Err((lsn, "unknown kind 9".into())));
        }
    }
}
