//! The state at a past moment.

use plimsoll_domain::{State, StateOptions, Timestamp};
use plimsoll_journal::{HistoryRange, Lsn};

use crate::budget::Budget;
use crate::cursor::JournalCursor;
use crate::error::{RecordFault, ReplayError};
use crate::history::{History, RecordedEvent, Selection};
use crate::snapshots::newest_common_base;

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After the last event that is not later than this.
    Time(Timestamp),
    /// After a record of one core's journal; the other cores as of the same time.
    Lsn {
        /// The core.
        core: u16,
        /// The record.
        lsn: Lsn,
    },
}

/// Applies the events of a data directory to a state, forwards only.
pub struct Replayer<'history> {
    history: &'history History,
    state: State,
    journals: Vec<Following>,
}

/// A journal that is applied.
struct Following {
    events: JournalCursor,
    /// The last one that was applied.
    reached: Reached,
}

/// How far a journal is applied.
#[derive(Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) lsn: Lsn,
    pub(crate) time: Timestamp,
}

impl Reached {
    const NOTHING: Reached = Reached {
        lsn: Lsn(0),
        time: Timestamp(i64::MIN),
    };
}

/// Up to where a journal is to be applied.
#[derive(Clone, Copy)]
struct Until {
    time: Timestamp,
    lsn: Lsn,
}

impl<'history> Replayer<'history> {
    /// Begins with nothing, before the first event.
    ///
    /// # Errors
    /// When a control page or the first file of a journal is damaged or cannot be read.
    pub fn new(history: &'history History) -> Result<Replayer<'history>, ReplayError> {
        let state = State::new(StateOptions::new(history.dimension_count()));
        Replayer::from(history, state, |_| Some(Reached::NOTHING))
    }

    /// Begins with the newest snapshots from which this moment can still be reached, so that little is left to apply; with nothing if there are none.
    /// Then what was before that moment is in the state, but never was given to anybody as an event.
    ///
    /// # Errors
    /// As for [`Replayer::new`].
    pub fn near(history: &'history History, moment: Moment) -> Result<Replayer<'history>, ReplayError> {
        let latest = match moment {
            Moment::Time(time) => time,
            Moment::Lsn { core, lsn } => time_of(history, core, lsn)?,
        };
        match newest_common_base(history, latest, moment) {
            Some(base) => Replayer::from(history, base.state, |journal| base.reached[journal]),
            None => Replayer::new(history),
        }
    }

    /// `reached` says for each journal how far it is in the state; nothing says that all of it is.
    fn from(
        history: &'history History,
        state: State,
        reached: impl Fn(usize) -> Option<Reached>,
    ) -> Result<Replayer<'history>, ReplayError> {
        let mut journals = Vec::new();
        for journal in 0..history.view().journals().len() {
            if let Some(reached) = reached(journal) {
                let from = Lsn(reached.lsn.0 + 1);
                journals.push(Following {
                    events: JournalCursor::open(history, journal, from, Lsn(u64::MAX))?,
                    reached,
                });
            }
        }
        Ok(Replayer {
            history,
            state,
            journals,
        })
    }

    /// Applies what happened up to the moment. Each event is given to `each` before it is applied, with the state that it meets.
    ///
    /// Partition by partition the events come in their order; those of different partitions come journal by journal.
    ///
    /// # Errors
    /// [`ReplayError::Backwards`] when something was applied that is behind the moment; then nothing is done. Damage, and records that do not fit the state, with file, offset and LSN; then the state is that before the record.
    pub fn advance(&mut self, moment: Moment, mut each: impl FnMut(&State, &RecordedEvent)) -> Result<(), ReplayError> {
        let (time, of_core) = match moment {
            Moment::Time(time) => (time, None),
            Moment::Lsn { core, lsn } => (time_of(self.history, core, lsn)?, Some((core, lsn))),
        };
        let journals = self.history.view().journals();
        let until_of = |following: &Following| {
            let core = journals[following.events.journal()].core;
            let of_this = of_core.filter(|(of, _)| Some(*of) == core);
            Until {
                time,
                lsn: of_this.map_or(Lsn(u64::MAX), |(_, lsn)| lsn),
            }
        };
        let is_behind = |following: &Following| {
            let until = until_of(following);
            following.reached.time > until.time || following.reached.lsn > until.lsn
        };
        if self.journals.iter().any(is_behind) {
            return Err(ReplayError::Backwards);
        }
        for following in &mut self.journals {
            let journal = following.events.journal();
            let until = until_of(following);
            while let Some(recorded) = following.next(self.history, until)? {
                self.state.check_fits(&recorded.event).map_err(|why| {
                    let fault = RecordFault::DoesNotFit(why);
                    self.history.fault(journal, recorded.lsn, recorded.place, fault)
                })?;
                each(&self.state, &recorded);
                self.state.apply(&recorded.event);
                following.reached = Reached {
                    lsn: recorded.lsn,
                    time: recorded.time,
                };
            }
        }
        Ok(())
    }

    /// The state as it is now.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl Following {
    /// The next event, if it is not beyond.
    fn next(&mut self, history: &History, until: Until) -> Result<Option<RecordedEvent>, ReplayError> {
        self.events.fill(history, &Selection::ALL, &mut Budget::unlimited())?;
        let is_beyond = |recorded: &RecordedEvent| recorded.time > until.time || recorded.lsn > until.lsn;
        if self.events.peek().is_none_or(is_beyond) {
            return Ok(None);
        }
        Ok(self.events.take())
    }
}

/// The time of a record, or of the one before it if it is a commit record.
pub(crate) fn time_of(history: &History, core: u16, lsn: Lsn) -> Result<Timestamp, ReplayError> {
    let journals = history.view().journals();
    let Some(journal) = journals.iter().position(|journal| journal.core == Some(core)) else {
        let count = journals.iter().filter(|journal| journal.core.is_some()).count();
        return Err(ReplayError::NoSuchCore { core, count });
    };
    let (last, _) = history.view().durable(journal)?;
    if lsn > last || lsn.0 == 0 {
        return Err(ReplayError::NoSuchLsn { core, lsn, last });
    }
    // Commit records are not given out; the last record before has the same time or an earlier one.
    let mut from = lsn;
    loop {
        let range = HistoryRange {
            from,
            upto: lsn,
            ..HistoryRange::ALL
        };
        let mut records = history.reader(journal, range)?;
        let mut time = None;
        while let Some(next) = records.next(|record, _| Timestamp(record.time))? {
            time = Some(next);
        }
        match time {
            Some(time) => return Ok(time),
            None if from.0 <= 1 => return Ok(Timestamp(i64::MIN)),
            None => from = Lsn(from.0.saturating_sub(lsn.0 - from.0 + 1).max(1)),
        }
    }
}
