//! Which line of a file may be sent when. No clock, file or socket.
//!
//! A refused reserve leaves no trace on the engine: sent again after a later release of its pool, it would be decided anew, and
//! perhaps otherwise. And a release needs to know what its order's reserve came to. What always holds:
//!
//! - A line is handed out only when every earlier line of its pool, and of its order, is settled.
//! - A line counts as settled once its outcome is known *and kept*; the caller settles it only then. So a line that is sent a second
//!   time, because its outcome was lost, finds its pool as the first time.
//! - A release belongs to the pools that its order's reserves named since its last release, whatever pool the line itself names.
//! - What a line comes to without the engine (a release of a rejected order, a line that is skipped) follows from the outcomes
//!   before it, and is not kept: the same outcomes give the same figures.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use plimsoll_client::ReservationId;

use super::file::{Operation, OrderLine};

/// A line by its place in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LineIndex(pub(crate) u32);

impl LineIndex {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the engine made of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A reserve got this reservation.
    Accepted(ReservationId),
    /// A reserve was refused, with this status.
    Rejected(u16),
    /// A release gave its order's units back.
    Released,
}

/// What to send for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Reserve,
    Release(ReservationId),
}

/// Why a line is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// A reserve of an order that has its reservation.
    AlreadyReserved,
    /// A release of an order that no earlier line reserved, or that was released already.
    UnknownOrder,
    /// A reserve of nothing in any dimension that is taken.
    AsksForNothing,
}

/// What the lines came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Figures {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) released: u64,
    pub(crate) release_of_rejected: u64,
    pub(crate) live: u64,
    /// Lines that make no sense where they stand; see [`Skip`].
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) skipped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is known of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrderState {
    /// No reserve since the last release.
    Unknown,
    Rejected,
    Live(ReservationId),
}

/// An outcome that does not fit the line that it is said to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) LineIndex);

/// The lines of a file, and how far they are.
pub(crate) struct Plan<'a> {
    lines: &'a [OrderLine],
    /// How many of the lines before it a line still waits for.
    waits: Vec<u32>,
    /// The lines that wait for each line: those of line `i` are `followers[follower_starts[i]..follower_starts[i + 1]]`.
    followers: Vec<u32>,
    follower_starts: Vec<usize>,
    /// Lines that wait for nothing, the earliest first.
    ready: BinaryHeap<Reverse<u32>>,
    orders: Vec<OrderState>,
    figures: Figures,
    settled: usize,
    skipped: Vec<(LineIndex, Skip)>,
}

/// The most skipped lines that are kept to be shown.
const SKIP_COUNT_SHOWN_MAX: usize = 10;

impl<'a> Plan<'a> {
    pub(crate) fn new(lines: &'a [OrderLine]) -> Plan<'a> {
        let predecessors = predecessors_of(lines);
        let mut follower_starts = vec![0_usize; lines.len() + 1];
        for before in predecessors.iter().flatten() {
            follower_starts[*before as usize + 1] += 1;
        }
        for index in 0..lines.len() {
            follower_starts[index + 1] += follower_starts[index];
        }
        let mut followers = vec![0; follower_starts[lines.len()]];
        let mut free = follower_starts.clone();
        for (line, before) in predecessors
            .iter()
            .enumerate()
            .flat_map(|(line, list)| list.iter().map(move |before| (line, *before)))
        {
            let place = &mut free[before as usize];
            followers[*place] = line as u32;
            *place += 1;
        }
        let waits: Vec<u32> = predecessors.iter().map(|list| list.len() as u32).collect();
        let ready = waits
            .iter()
            .enumerate()
            .filter(|(_, waits)| **waits == 0)
            .map(|(line, _)| Reverse(line as u32))
            .collect();
        let order_count = lines.iter().map(|line| line.order.index() + 1).max().unwrap_or(0);
        Plan {
            lines,
            waits,
            followers,
            follower_starts,
            ready,
            orders: vec![OrderState::Unknown; order_count],
            figures: Figures::default(),
            settled: 0,
            skipped: Vec::new(),
        }
    }

    /// The earliest line that may be sent now. It is handed out once, and then waits for [`Plan::settle`]. Lines that come to
    /// something without the engine are settled on the way.
    pub(crate) fn next(&mut self) -> Option<(LineIndex, Step)> {
        while let Some(Reverse(index)) = self.ready.pop() {
            let line = &self.lines[index as usize];
            let order = self.orders[line.order.index()];
            match (line.operation, order) {
                (Operation::Reserve, OrderState::Live(_)) => self.skip(LineIndex(index), Skip::AlreadyReserved),
                (Operation::Reserve, _) if line.is_empty => self.skip(LineIndex(index), Skip::AsksForNothing),
                (Operation::Reserve, _) => return Some((LineIndex(index), Step::Reserve)),
                (Operation::Release, OrderState::Live(reservation)) => {
                    return Some((LineIndex(index), Step::Release(reservation)));
                }
                (Operation::Release, OrderState::Rejected) => {
                    self.figures.release_of_rejected += 1;
                    self.orders[line.order.index()] = OrderState::Unknown;
                    self.finish(LineIndex(index));
                }
                (Operation::Release, OrderState::Unknown) => self.skip(LineIndex(index), Skip::UnknownOrder),
            }
        }
        None
    }

    /// Takes the outcome of a line that was handed out. To be called when the outcome is kept, not before.
    ///
    /// # Errors
    /// The outcome is none that the line can have; nothing is changed.
    pub(crate) fn settle(&mut self, index: LineIndex, outcome: Outcome) -> Result<(), Misfit> {
        let line = &self.lines[index.index()];
        let order = &mut self.orders[line.order.index()];
        match (line.operation, outcome, *order) {
            (Operation::Reserve, Outcome::Accepted(reservation), _) => {
                *order = OrderState::Live(reservation);
                self.figures.accepted += 1;
                self.figures.live += 1;
            }
            (Operation::Reserve, Outcome::Rejected(_), _) => {
                *order = OrderState::Rejected;
                self.figures.rejected += 1;
            }
            (Operation::Release, Outcome::Released, OrderState::Live(_)) => {
                *order = OrderState::Unknown;
                self.figures.released += 1;
                self.figures.live -= 1;
            }
            _ => return Err(Misfit(index)),
        }
        self.finish(index);
        Ok(())
    }

    /// Goes on from what an earlier run has kept: takes each known outcome when the line's turn comes. Returns the lines that are
    /// ready to be sent, in the order of time.
    ///
    /// # Errors
    /// An outcome that does not fit its line, or of a line whose turn cannot have come.
    pub(crate) fn resume(&mut self, mut known: HashMap<LineIndex, Outcome>) -> Result<Vec<(LineIndex, Step)>, Misfit> {
        let mut open = Vec::new();
        while let Some((index, step)) = self.next() {
            match known.remove(&index) {
                Some(outcome) => self.settle(index, outcome)?,
                None => open.push((index, step)),
            }
        }
        match known.into_keys().min() {
            Some(index) => Err(Misfit(index)),
            None => Ok(open),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures
    }

    /// How many lines have come to something.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.settled == self.lines.len()
    }

    /// The first lines that were skipped.
    pub(crate) fn skipped(&self) -> &[(LineIndex, Skip)] {
        &self.skipped
    }

    fn skip(&mut self, index: LineIndex, why: Skip) {
        self.figures.skipped += 1;
        if self.skipped.len() < SKIP_COUNT_SHOWN_MAX {
            self.skipped.push((index, why));
        }
        self.finish(index);
    }

    fn finish(&mut self, index: LineIndex) {
        self.settled += 1;
        assert!(self.settled <= self.lines.len(), "line {} is settled twice", index.0);
        for place in self.follower_starts[index.index()]..self.follower_starts[index.index() + 1] {
            let follower = self.followers[place];
            let waits = &mut self.waits[follower as usize];
            assert!(
                *waits > 0,
                "line {follower} waits for nothing, yet line {} lets it go",
                index.0
            );
            *waits -= 1;
            if *waits == 0 {
                self.ready.push(Reverse(follower));
            }
        }
    }
}

/// The latest earlier line of each pool and of the order that a line belongs to; all earlier ones follow from these.
fn predecessors_of(lines: &[OrderLine]) -> Vec<Vec<u32>> {
    let mut last_of_order: HashMap<_, u32> = HashMap::new();
    let mut last_of_pool: HashMap<_, u32> = HashMap::new();
    // The pools that the order's reserves named since its last release.
    let mut pools_of_order: HashMap<_, Vec<_>> = HashMap::new();
    let mut predecessors = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let pools = match line.operation {
            Operation::Reserve => {
                let named: &mut Vec<_> = pools_of_order.entry(line.order).or_default();
                if !named.contains(&line.pool) {
                    named.push(line.pool);
                }
                vec![line.pool]
            }
            Operation::Release => pools_of_order.remove(&line.order).unwrap_or_default(),
        };
        let mut before: Vec<u32> = last_of_order.insert(line.order, index as u32).into_iter().collect();
        before.extend(
            pools
                .into_iter()
                .filter_map(|pool| last_of_pool.insert(pool, index as u32)),
        );
        before.sort_unstable();
        before.dedup();
        predecessors.push(before);
    }
    predecessors
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
