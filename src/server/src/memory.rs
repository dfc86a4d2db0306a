//! The memory that the connections of one core hold, and its bound.
//!
//! Invariants:
//! - `used` is the sum over the core's connections of what each one holds: its buffers and the answers that are still to come for what was accepted, at
//!   least its own part.
//! - Every connection has a small part of its own, whatever the others do. What it holds above that comes from the rest: it may hold a fixed part of what is
//!   free there, so the more is held, the less each one may take. The last quarter goes to the own parts of new connections only.

use std::cell::Cell;
use std::rc::Rc;

use crate::limits::{CONNECTION_SIZE, OWN_SIZE, REQUEST_ANSWER_SIZE, SHARE_DIVISOR};

/// The memory that the connections of one core hold.
pub(crate) struct Memory {
    size_max: usize,
    used: Cell<usize>,
    /// Requests of rare operations that are not answered.
    request_count: Cell<usize>,
}

impl Memory {
    pub(crate) fn new(size_max: usize) -> Memory {
        Memory {
            size_max,
            used: Cell::new(0),
            request_count: Cell::new(0),
        }
    }

    fn free(&self) -> usize {
        self.size_max.saturating_sub(self.used.get())
    }

    /// The most that one connection may hold now.
    pub(crate) fn share(&self) -> usize {
        (self.free().saturating_sub(self.size_max / 4) / SHARE_DIVISOR).max(OWN_SIZE)
    }

    /// More than half is held: nothing is kept for later.
    pub(crate) fn is_tight(&self) -> bool {
        self.used.get() > self.size_max / 2
    }

    /// Whether another connection may be taken.
    pub(crate) fn has_room_for_connection(&self) -> bool {
        self.free() >= CONNECTION_SIZE + OWN_SIZE
    }

    pub(crate) fn request_count(&self) -> usize {
        self.request_count.get()
    }
}

/// What one connection holds, beside itself.
pub(crate) struct Holding {
    memory: Rc<Memory>,
    size: Cell<usize>,
}

impl Holding {
    pub(crate) fn new(memory: Rc<Memory>) -> Holding {
        memory.used.set(memory.used.get() + CONNECTION_SIZE + OWN_SIZE);
        Holding {
            memory,
            size: Cell::new(0),
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the connection may hold so much more.
    pub(crate) fn fits(&self, size: usize) -> bool {
        size == 0 || self.size.get() + size <= self.memory.share()
    }

    pub(crate) fn take(&self, size: usize) {
        self.set(self.size.get() + size);
    }

    pub(crate) fn give_back(&self, size: usize) {
        self.set(self.size.get() - size);
    }

    /// A buffer has changed its size.
    pub(crate) fn resize(&self, before: usize, now: usize) {
        if before != now {
            self.set(self.size.get() - before + now);
        }
    }

    fn set(&self, size: usize) {
        let before = self.size.replace(size).max(OWN_SIZE);
        self.memory
            .used
            .set(self.memory.used.get() - before + size.max(OWN_SIZE));
    }

    /// A request of a rare operation was accepted: what it asks for is copied.
    pub(crate) fn take_request(&self) {
        self.memory.request_count.set(self.memory.request_count.get() + 1);
        self.take(REQUEST_ANSWER_SIZE);
    }

    pub(crate) fn give_back_request(&self) {
        self.memory.request_count.set(self.memory.request_count.get() - 1);
        self.give_back(REQUEST_ANSWER_SIZE);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let held = self.size.get().max(OWN_SIZE) + CONNECTION_SIZE;
        self.memory.used.set(self.memory.used.get() - held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_MAX: usize = 64 << 20;

    fn holding(memory: &Rc<Memory>) -> Holding {
        Holding::new(Rc::clone(memory))
    }

    #[test]
    fn greedy_connections_leave_something_for_modest_and_for_new_ones() {
        let memory = Rc::new(Memory::new(SIZE_MAX));
        let mut greedy = Vec::new();
        for _ in 0..1000 {
            let holding = holding(&memory);
            while holding.fits(4096) {
                holding.take(4096);
            }
            greedy.push(holding);
        }
        assert!(memory.used.get() <= SIZE_MAX, "{} bytes are held", memory.used.get());
        assert!(memory.has_room_for_connection());
        let modest = holding(&memory);
        assert!(modest.fits(OWN_SIZE));
        assert!(!modest.fits(OWN_SIZE + 1));
        drop((greedy, modest));
        assert_eq!(memory.used.get(), 0);
    }

    #[test]
    fn what_a_connection_held_is_free_when_it_is_gone() {
        let memory = Rc::new(Memory::new(SIZE_MAX));
        let one = holding(&memory);
        one.take(1000);
        one.resize(1000, 3000);
        assert_eq!(memory.used.get(), CONNECTION_SIZE + OWN_SIZE);
        one.take_request();
        assert_eq!(memory.used.get(), CONNECTION_SIZE + 3000 + REQUEST_ANSWER_SIZE);
        assert_eq!(memory.request_count(), 1);
        one.give_back_request();
        assert_eq!(
            (memory.used.get(), memory.request_count()),
            (CONNECTION_SIZE + OWN_SIZE, 0)
        );
        drop(one);
        assert_eq!(memory.used.get(), 0);
    }
}
