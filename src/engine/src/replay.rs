//! From the records of a journal to a state.

use std::hint::black_box;

use plimsoll_domain::{Replaying, State, Timestamp};
use plimsoll_journal::{NotTaken, Record, Records};
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

    /// Takes the records of a batch.
    pub(crate) fn take(&mut self, mut records: Records<'_>) -> Result<(), NotTaken<RecordError>> {
        while !records.is_empty() {
            self.touch(records.clone().take(REPLAYED_TOGETHER));
            for record in records.by_ref().take(REPLAYED_TOGETHER) {
                self.take_record(&record).map_err(|source| NotTaken {
                    lsn: record.lsn,
                    source,
                })?;
            }
        }
        Ok(())
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
