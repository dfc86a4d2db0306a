//! The connections of one core: their number, their memory, their time limits, and whose turn it is.
//!
//! Invariants:
//! - No connection has a timer. A slice of all is looked at every few milliseconds, so that each one is looked at within about a second.
//! - `now` is at most a beat of the heartbeat old, so that taking a frame asks no clock.
//! - A connection that has used up its turn stands in line once, and everybody in line gets a turn before anybody gets two.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::limits::{ACCEPTED_COMMANDS_MAX, LOOKS_PER_SLICE_MAX, OWN_COMMANDS, READ_SIZE_MAX, WINDOW_COMMANDS};
use crate::memory::Memory;
use crate::options::ConnectionOptions;
use crate::runtime::ListenerCloser;
use crate::seldom::Seldom;

/// How often a slice of the connections is looked at.
const SLICE_INTERVAL: Duration = Duration::from_millis(20);
/// A core that did not come round for so long has been held up: what has arrived meanwhile is read before anybody counts as late.
const HELD_UP_AFTER: Duration = Duration::from_millis(500);

/// The connections of one core.
pub(crate) struct Connections {
    pub(crate) options: ConnectionOptions,
    pub(crate) memory: Rc<Memory>,
    /// What arrives on any of them is read into this.
    pub(crate) shared_buffer: RefCell<Box<[u8]>>,
    pub(crate) now: Cell<Instant>,
    /// Commands that were accepted on this core and are not answered yet.
    pub(crate) accepted_commands: Cell<usize>,
    list: RefCell<Vec<Weak<Connection>>>,
    alive_count: Cell<usize>,
    /// Where the next slice begins.
    cursor: Cell<usize>,
    next_slice_at: Cell<Instant>,
    line: RefCell<Vec<Rc<Connection>>>,
    overdue: Seldom,
    /// Connections that were refused.
    pub(crate) refused: Seldom,
    pub(crate) accept_failed: Seldom,
    listening: RefCell<Option<ListenerCloser>>,
}

impl Connections {
    pub(crate) fn new(options: ConnectionOptions, listening: ListenerCloser) -> Connections {
        let now = Instant::now();
        Connections {
            memory: Rc::new(Memory::new(options.memory_per_core)),
            options,
            shared_buffer: RefCell::new(vec![0; READ_SIZE_MAX].into()),
            now: Cell::new(now),
            accepted_commands: Cell::new(0),
            list: RefCell::default(),
            alive_count: Cell::new(0),
            cursor: Cell::new(0),
            next_slice_at: Cell::new(now),
            line: RefCell::default(),
            overdue: Seldom::default(),
            refused: Seldom::default(),
            accept_failed: Seldom::default(),
            listening: RefCell::new(Some(listening)),
        }
    }

    /// No further connection is accepted.
    pub(crate) fn stop_listening(&self) {
        drop(self.listening.take());
    }

    pub(crate) fn add(&self, connection: &Rc<Connection>) {
        let mut list = self.list.borrow_mut();
        self.alive_count.set(self.alive_count.get() + 1);
        // Connections may come and go faster than they are looked at.
        if list.len() >= 2 * self.alive_count.get() {
            list.retain(|connection| connection.strong_count() > 0);
        }
        list.push(Rc::downgrade(connection));
    }

    pub(crate) fn removed(&self) {
        self.alive_count.set(self.alive_count.get() - 1);
    }

    /// The most commands that one connection may have in flight now: what is free of three quarters of what the core accepts. The more the others have in
    /// flight, the earlier a connection is not read; the last quarter is for those that have few.
    pub(crate) fn window(&self) -> usize {
        (ACCEPTED_COMMANDS_MAX / 4 * 3)
            .saturating_sub(self.accepted_commands.get())
            .clamp(OWN_COMMANDS, WINDOW_COMMANDS)
    }

    pub(crate) fn alive(&self) -> Vec<Rc<Connection>> {
        self.list.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// The connection has used up its turn: it goes on when everybody had one.
    pub(crate) fn line_up(&self, connection: &Rc<Connection>) {
        self.line.borrow_mut().push(Rc::clone(connection));
    }

    pub(crate) fn has_line(&self) -> bool {
        !self.line.borrow().is_empty()
    }

    /// A new turn for everybody in line.
    pub(crate) fn next_turns(&self) {
        for connection in self.line.borrow_mut().drain(..) {
            connection.begin_turn();
        }
    }

    /// Looks at a slice of the connections when it is time.
    pub(crate) fn look(&self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.now.replace(now)) > HELD_UP_AFTER {
            self.next_slice_at.set(now + HELD_UP_AFTER);
        }
        if now < self.next_slice_at.get() {
            return;
        }
        self.next_slice_at.set(now + SLICE_INTERVAL);
        let mut list = self.list.borrow_mut();
        let mut cursor = self.cursor.get();
        for _ in 0..list.len().min(LOOKS_PER_SLICE_MAX) {
            if cursor >= list.len() {
                cursor = 0;
            }
            match list.get(cursor).map(Weak::upgrade) {
                Some(Some(connection)) => {
                    self.look_at(&connection);
                    cursor += 1;
                }
                Some(None) => drop(list.swap_remove(cursor)),
                None => break,
            }
        }
        self.cursor.set(cursor);
    }

    fn look_at(&self, connection: &Connection) {
        let Some(overdue) = connection.overdue(&self.options, self.now.get()) else {
            connection.release_unused(self.now.get());
            return;
        };
        tracing::debug!(peer = %connection.peer, %overdue, "connection closed");
        if overdue != Overdue::Request
            && let Some(count) = self.overdue.tell(self.now.get())
        {
            tracing::warn!(peer = %connection.peer, %overdue, count, "connections closed: a time limit has passed");
        }
        connection.abandon();
    }
}

/// What a connection took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Hello,
    Frame,
    Answers,
    Request,
}

impl std::fmt::Display for Overdue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Overdue::Hello => "it has not said hello",
            Overdue::Frame => "a frame has not arrived in whole",
            Overdue::Answers => "its client does not take its answers",
            Overdue::Request => "nothing was asked",
        })
    }
}

/// One of the connections that a server may have, given back when it is dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place when fewer than `count_max` are taken, by all cores together.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, count_max: usize) -> Option<Place> {
        let place = Place(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < count_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_up_to_the_limit_and_given_back() {
        let taken = Arc::default();
        let one = Place::take(&taken, 2).unwrap();
        let two = Place::take(&taken, 2).unwrap();
        assert!(Place::take(&taken, 2).is_none());
        drop(one);
        drop(Place::take(&taken, 2).unwrap());
        drop(two);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }
}
