//! The live reservations of one connection, in the order in which they are to be released.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use plimsoll_client::ReservationId;

/// Reservations that came with one answer.
#[derive(Debug)]
struct Generation {
    due: Instant,
    ids: Vec<ReservationId>,
    pools: Vec<u16>,
    /// The first that has not been taken out.
    next: usize,
}

/// The live reservations of one connection.
#[derive(Debug, Default)]
pub(crate) struct Live {
    generations: VecDeque<Generation>,
    /// Memory of generations that are used up.
    spare: Vec<Generation>,
}

impl Live {
    /// Begins the reservations of one answer; they are to be released from `due` on.
    pub(crate) fn begin(&mut self, due: Instant) {
        let generation = match self.spare.pop() {
            Some(spare) => Generation { due, ..spare },
            None => Generation {
                due,
                ids: Vec::new(),
                pools: Vec::new(),
                next: 0,
            },
        };
        self.generations.push_back(generation);
    }

    /// Adds a reservation to those of the newest answer.
    #[inline]
    pub(crate) fn push(&mut self, id: ReservationId, pool: u16) {
        if let Some(newest) = self.generations.back_mut() {
            newest.ids.push(id);
            newest.pools.push(pool);
        }
    }

    /// Takes out up to `count` reservations that are due, oldest first.
    pub(crate) fn take_due(&mut self, now: Instant, mut count: usize, mut take: impl FnMut(ReservationId, u16)) {
        while count > 0
            && let Some(oldest) = self.generations.front_mut()
            && oldest.due <= now
        {
            let end = oldest.ids.len().min(oldest.next + count);
            count -= end - oldest.next;
            for (id, pool) in oldest.ids[oldest.next..end].iter().zip(&oldest.pools[oldest.next..end]) {
                take(*id, *pool);
            }
            oldest.next = end;
            if end == oldest.ids.len()
                && let Some(mut used_up) = self.generations.pop_front()
            {
                used_up.ids.clear();
                used_up.pools.clear();
                used_up.next = 0;
                self.spare.push(used_up);
            }
        }
    }

    /// Spreads when the generations are due evenly over `life` from `start` on.
    pub(crate) fn spread(&mut self, start: Instant, life: Duration) {
        let count = self.generations.len().max(1) as u32;
        for (index, generation) in self.generations.iter_mut().enumerate() {
            generation.due = start + life * index as u32 / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_ones_come_out_in_order_and_once() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut live = Live::default();
        for generation in 0..3_u32 {
            live.begin(start + generation * second);
            for index in 0..4 {
                live.push(ReservationId(u128::from(generation * 4 + index)), index as u16);
            }
        }
        let mut taken = Vec::new();
        live.take_due(start, 3, |id, _| taken.push(id.0));
        live.take_due(start, 3, |id, _| taken.push(id.0));
        assert_eq!(taken, [0, 1, 2, 3], "the second answer is not due");
        live.take_due(start + 5 * second, 100, |id, pool| {
            assert_eq!(u128::from(pool), id.0 % 4);
            taken.push(id.0);
        });
        assert_eq!(taken, (0..12).collect::<Vec<_>>());
        live.begin(start);
        live.push(ReservationId(99), 0);
        live.take_due(start, 2, |id, _| taken.push(id.0));
        assert_eq!(taken.last(), Some(&99), "memory that is used again begins empty");
    }
}
