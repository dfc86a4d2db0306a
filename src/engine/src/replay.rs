//! From the records of a journal to a state.

use std::hint::black_box;

use plimsoll_domain::{Event, Replaying};
use plimsoll_journal::{Lsn, NotTaken, Records};

use crate::engine::{RecordError, event_of};
use crate::limits::REPLAYED_TOGETHER;

/// Takes records into a state, a few at a time: what all of them will read is read ahead.
pub(crate) struct Replay {
    state: Replaying,
    dimension_count: usize,
    events: Vec<(Lsn, Event)>,
}

impl Replay {
    pub(crate) fn new(state: Replaying, dimension_count: usize) -> Replay {
        Replay {
            state,
            dimension_count,
            events: Vec::with_capacity(REPLAYED_TOGETHER),
        }
    }

    /// Takes the records of a batch.
    pub(crate) fn take(&mut self, mut records: Records<'_>) -> Result<(), NotTaken<RecordError>> {
        loop {
            let undecoded = self.decode(&mut records);
            if self.events.is_empty() && undecoded.is_ok() {
                return Ok(());
            }
            self.apply()?;
            undecoded?;
        }
    }

    /// Decodes the next few, up to one that is no event.
    #[inline]
    fn decode(&mut self, records: &mut Records<'_>) -> Result<(), NotTaken<RecordError>> {
        self.events.clear();
        for record in records.take(REPLAYED_TOGETHER) {
            let lsn = record.lsn;
            match event_of(&record, self.dimension_count) {
                Ok(event) => self.events.push((lsn, event)),
                Err(source) => return Err(NotTaken { lsn, source: source.into() }),
            }
        }
        Ok(())
    }

    #[inline]
    fn apply(&mut self) -> Result<(), NotTaken<RecordError>> {
        let Replay { state, events, .. } = self;
        black_box(events.iter().fold(0, |read, (_, event)| read ^ state.touch(event)));
        for (lsn, event) in events {
            state.take(event).map_err(|reason| NotTaken {
                lsn: *lsn,
                source: RecordError::Misfit { reason },
            })?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> plimsoll_domain::State {
        self.state.finish()
    }
}
