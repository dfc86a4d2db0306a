//! History on a running server: events, feed, search and past state, answered by a plain thread from archives, segments and the durable tail.
//!
//! Invariants:
//! - At most [`HISTORY_REQUESTS_MAX`] requests are in flight in all, those of waiting feeds included, so every queue here finds room.
//! - The thread reads files, and asks an engine only about reservations by id, like a core. A core does nothing for it but take finished answers.
//! - Each request does a bounded piece of work, and then answers what it has with a cursor to go on.

mod asking;
mod cursor;
mod encode;
mod events;
mod feed;
mod labels;
mod lookup;
mod past;
mod reader;
mod reset;
mod search;
mod settling;

pub(crate) use asking::Asked;
pub(crate) use reader::start;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use plimsoll_engine::Message;
use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{Status, wire};

use crate::limits::{HISTORY_LOOKUPS_MAX, HISTORY_REQUESTS_MAX};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refused(Status, String);

/// What a client asks of history.
#[derive(Debug)]
pub(crate) enum Question {
    Events(EventsQuestion),
    Feed(FeedQuestion),
    Search(SearchQuestion),
    Past(PastQuestion),
    Reset(ResetQuestion),
}

/// The events of a pool, the newest first.
#[derive(Debug)]
pub(crate) struct EventsQuestion {
    pub(crate) pool: Box<str>,
    pub(crate) cursor: Option<Box<str>>,
    pub(crate) limit: usize,
}

/// Events as they happen.
#[derive(Debug)]
pub(crate) struct FeedQuestion {
    pub(crate) cursor: Option<Box<str>>,
    pub(crate) since: Option<i64>,
    pub(crate) pool: Option<Box<str>>,
    pub(crate) zone: Option<Box<str>>,
    pub(crate) kinds: Vec<wire::EventKind>,
    pub(crate) limit: usize,
    pub(crate) wait: Duration,
}

/// Reservations by reference or pool.
#[derive(Debug)]
pub(crate) struct SearchQuestion {
    pub(crate) reference: Option<Box<str>>,
    pub(crate) pool: Option<Box<str>>,
    pub(crate) state: wire::State,
    pub(crate) cursor: Option<Box<str>>,
    pub(crate) limit: usize,
}

/// Pools as they were.
#[derive(Debug)]
pub(crate) struct PastQuestion {
    pub(crate) at: i64,
    pub(crate) pool: Option<Box<str>>,
    pub(crate) after: Box<str>,
    pub(crate) zone: Option<Box<str>>,
    pub(crate) kind: Option<Box<str>>,
    pub(crate) limit: usize,
}

/// A pool is taken back to an earlier moment.
#[derive(Debug)]
pub(crate) struct ResetQuestion {
    pub(crate) pool: Box<str>,
    pub(crate) to: i64,
    pub(crate) attributes: bool,
    pub(crate) expected_version: Option<u64>,
    pub(crate) dry_run: bool,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

/// A request on its way to the thread.
pub(crate) struct HistoryRequest {
    /// The core that accepted it, and its own name for it.
    core: usize,
    place: u32,
    head: Head,
    /// Its client has gone away, or the connection closes.
    is_gone: Arc<AtomicBool>,
    question: Question,
}

/// An answer on its way back: a whole frame.
pub(crate) struct HistoryAnswer {
    place: u32,
    frame: Vec<u8>,
}

/// Between the cores and the thread. Nothing here is locked.
pub(crate) struct HistoryQueue {
    requests: ArrayQueue<HistoryRequest>,
    in_flight: AtomicUsize,
    /// By core.
    answers: Vec<ArrayQueue<HistoryAnswer>>,
    /// By core: what the thread asks its engine; and what comes back, of all.
    lookups: Vec<ArrayQueue<Message>>,
    replies: ArrayQueue<Message>,
    thread: OnceLock<Thread>,
}

impl HistoryQueue {
    pub(crate) fn new(core_count: usize) -> HistoryQueue {
        HistoryQueue {
            requests: ArrayQueue::new(HISTORY_REQUESTS_MAX),
            in_flight: AtomicUsize::new(0),
            answers: (0..core_count).map(|_| ArrayQueue::new(HISTORY_REQUESTS_MAX)).collect(),
            lookups: (0..core_count).map(|_| ArrayQueue::new(HISTORY_LOOKUPS_MAX)).collect(),
            replies: ArrayQueue::new(HISTORY_LOOKUPS_MAX * core_count),
            thread: OnceLock::new(),
        }
    }

    /// Takes a request in, unless there are as many as there may be.
    ///
    /// # Errors
    /// The request itself.
    fn push_request(&self, request: HistoryRequest) -> Result<(), Box<HistoryRequest>> {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= HISTORY_REQUESTS_MAX {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            return Err(Box::new(request));
        }
        let pushed = self.requests.push(request);
        assert!(pushed.is_ok(), "no more requests are in flight than the queue holds");
        self.wake();
        Ok(())
    }

    fn pop_answer(&self, core: usize) -> Option<HistoryAnswer> {
        let answer = self.answers[core].pop()?;
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        Some(answer)
    }

    /// What the thread wants to know of the core's engine.
    pub(crate) fn pop_lookup(&self, core: usize) -> Option<Message> {
        self.lookups[core].pop()
    }

    /// What it wanted to know.
    pub(crate) fn push_reply(&self, message: Message) {
        let pushed = self.replies.push(message);
        assert!(pushed.is_ok(), "no more lookups are on their way than the queue holds");
        self.wake();
    }

    /// Lets the thread look at once.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_protocol::{CorrelationId, Operation};

    use super::*;

    fn request(core: usize) -> HistoryRequest {
        HistoryRequest {
            core,
            place: 0,
            head: Head::request(Operation::PoolEvents, CorrelationId(1)),
            is_gone: Arc::default(),
            question: Question::Events(EventsQuestion {
                pool: "a".into(),
                cursor: None,
                limit: 1,
            }),
        }
    }

    #[test]
    fn the_server_takes_so_many_and_no_more() {
        let queue = HistoryQueue::new(2);
        for number in 0..HISTORY_REQUESTS_MAX {
            assert!(queue.push_request(request(number % 2)).is_ok(), "{number}");
        }
        for _ in 0..1000 {
            assert!(queue.push_request(request(0)).is_err());
        }
        // What the thread has taken is in flight until its answer is on its way to the client.
        let taken = queue.requests.pop().unwrap();
        assert!(queue.push_request(request(0)).is_err());
        let answer = HistoryAnswer {
            place: taken.place,
            frame: Vec::new(),
        };
        assert!(queue.answers[taken.core].push(answer).is_ok());
        assert!(queue.push_request(request(0)).is_err());
        assert!(queue.pop_answer(taken.core).is_some());
        assert!(queue.push_request(request(0)).is_ok());
        assert!(queue.push_request(request(0)).is_err());
    }
}
