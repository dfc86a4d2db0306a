//! Frames of commands that wait for outcomes.

use std::rc::Rc;
use std::time::Instant;

use plimsoll_protocol::{CorrelationId, wire};

use crate::connection::Connection;
use crate::limits::{SPARE_FRAME_COMMANDS_MAX, SPARE_FRAME_COUNT_MAX};

/// What remains in each dimension, beside the outcome with this index.
pub(crate) struct Remaining {
    index: u32,
    values: [i64; plimsoll_domain::limits::DIMENSION_COUNT_MAX],
}

/// A frame whose commands are with their owners.
pub(crate) struct PendingFrame {
    pub(crate) connection: Rc<Connection>,
    pub(crate) correlation: CorrelationId,
    pub(crate) outcomes: Vec<wire::Outcome>,
    remaining: Vec<Remaining>,
    missing: usize,
    /// Of one that is timed: its first command, and when it was taken.
    pub(crate) timed: Option<(wire::Action, Instant)>,
}

impl PendingFrame {
    /// What remains, in the order of the outcomes that say so.
    pub(crate) fn remaining_values(&mut self, dimension_count: usize, values: &mut Vec<i64>) {
        values.clear();
        self.remaining.sort_unstable_by_key(|remaining| remaining.index);
        for remaining in &self.remaining {
            values.extend_from_slice(&remaining.values[..dimension_count]);
        }
    }
}

/// Frames by a small number that is used again.
#[derive(Default)]
pub(crate) struct Frames {
    places: Vec<Option<PendingFrame>>,
    free: Vec<u32>,
    /// Emptied vectors for the next frames.
    spare: Vec<(Vec<wire::Outcome>, Vec<Remaining>)>,
}

impl Frames {
    /// Takes in a frame with this many commands.
    pub(crate) fn insert(
        &mut self,
        connection: Rc<Connection>,
        correlation: CorrelationId,
        count: usize,
        timed: Option<(wire::Action, Instant)>,
    ) -> u32 {
        let (mut outcomes, remaining) = self.spare.pop().unwrap_or_default();
        outcomes.resize(count, wire::Outcome::default());
        let frame = PendingFrame {
            connection,
            correlation,
            outcomes,
            remaining,
            missing: count,
            timed,
        };
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(frame);
                place
            }
            None => {
                self.places.push(Some(frame));
                (self.places.len() - 1) as u32
            }
        }
    }

    /// Takes an outcome in, and returns the frame when it was the last one that was missing.
    #[inline]
    pub(crate) fn complete(&mut self, frame: u32, index: u32, outcome: wire::Outcome) -> Option<PendingFrame> {
        let place = &mut self.places[frame as usize];
        let pending = place.as_mut().expect("outcomes come for frames that wait");
        pending.outcomes[index as usize] = outcome;
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        self.free.push(frame);
        place.take()
    }

    /// What remains beside an outcome that comes next.
    pub(crate) fn add_remaining(&mut self, frame: u32, index: u32, values: &[i64]) {
        let pending = self.places[frame as usize]
            .as_mut()
            .expect("outcomes come for frames that wait");
        let mut remaining = Remaining {
            index,
            values: Default::default(),
        };
        remaining.values[..values.len()].copy_from_slice(values);
        pending.remaining.push(remaining);
    }

    /// Keeps the memory of a frame that was answered.
    pub(crate) fn recycle(&mut self, frame: PendingFrame) {
        let PendingFrame {
            mut outcomes,
            mut remaining,
            ..
        } = frame;
        outcomes.clear();
        remaining.clear();
        if outcomes.capacity() <= SPARE_FRAME_COMMANDS_MAX && self.spare.len() < SPARE_FRAME_COUNT_MAX {
            self.spare.push((outcomes, remaining));
        }
    }
}
