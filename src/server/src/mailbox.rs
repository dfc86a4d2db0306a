//! Messages between cores: for each ordered pair of cores one bounded lock-free queue of requests and one of replies.
//!
//! Invariant: a sender has at most as many messages on their way to one owner as a queue holds, so a reply always finds room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use plimsoll_engine::Message;

use crate::limits::MESSAGES_IN_FLIGHT_MAX;

/// What other threads leave for one core.
pub(crate) struct Mailbox {
    requests: Vec<ArrayQueue<Message>>,
    replies: Vec<ArrayQueue<Message>>,
    waker: AtomicWaker,
    is_notified: AtomicBool,
}

impl Mailbox {
    pub(crate) fn new(core_count: usize) -> Mailbox {
        let queues = || {
            (0..core_count)
                .map(|_| ArrayQueue::new(MESSAGES_IN_FLIGHT_MAX))
                .collect()
        };
        Mailbox {
            requests: queues(),
            replies: queues(),
            waker: AtomicWaker::new(),
            is_notified: AtomicBool::new(false),
        }
    }

    /// Leaves a request; the caller notifies when it has left all.
    ///
    /// # Errors
    /// The message itself when the queue is full.
    pub(crate) fn push_request(&self, from: usize, message: Message) -> Result<(), Message> {
        self.requests[from].push(message)
    }

    pub(crate) fn push_reply(&self, from: usize, message: Message) {
        let pushed = self.replies[from].push(message);
        assert!(
            pushed.is_ok(),
            "a reply finds room, since no more requests are on their way than a queue holds"
        );
    }

    pub(crate) fn pop_request(&self, from: usize) -> Option<Message> {
        self.requests[from].pop()
    }

    pub(crate) fn pop_reply(&self, from: usize) -> Option<Message> {
        self.replies[from].pop()
    }

    /// Wakes the core.
    pub(crate) fn notify(&self) {
        // Stored before the waker is taken: the core registers its waker before it looks at this.
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Forgets whom to wake: the runtime does not survive that a waker is dropped on another thread.
    pub(crate) fn leave(&self) {
        drop(self.waker.take());
    }

    /// Takes the notification, or remembers whom to wake.
    pub(crate) fn poll_notified(&self, context: &Context<'_>) -> bool {
        if self.is_notified.swap(false, Ordering::AcqRel) {
            return true;
        }
        self.waker.register(context.waker());
        self.is_notified.swap(false, Ordering::AcqRel)
    }
}
