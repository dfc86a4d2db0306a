//! Messages between cores: for each ordered pair of cores one bounded lock-free queue of requests and one of replies.
//!
//! Invariants:
//!
//! - A sender has at most as many messages on their way to one owner as a queue holds, so a reply always finds room.
//! - One core fills a queue and one empties it, so the messages of one sender stay in order.
//! - Whoever leaves a message notifies after it. A core sleeps only when it has said whom to wake, then has looked whether it was notified, and
//!   was not: so it never sleeps with a message that nobody will wake it for.
//! - Once a core has left, no other thread has its waker in hand, and none gets it.
//!
//! The tests try every order of the threads and every value that a load may see (`mailbox/model.rs`).

#[cfg(test)]
mod model;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use plimsoll_engine::Message;

use crate::limits::{MESSAGES_IN_FLIGHT_MAX, MESSAGES_PER_PASS_MAX};

/// What threads share. A trait, so that the model checker runs the same protocol on its own parts.
pub(crate) trait Parts {
    type Message;
    type Queue: Queue<Self::Message>;
    type Flag: Flag;
    type Count: Count;
    type WakerCell: WakerCell;
    /// How many messages a queue holds.
    const IN_FLIGHT_MAX: usize;
    /// The most messages that one look at a queue takes.
    const PER_PASS_MAX: usize;
}

/// A bounded queue. What was pushed before, as the order of memory goes, a pop finds; and the room of what was popped before, a push.
pub(crate) trait Queue<T> {
    fn with_capacity(capacity: usize) -> Self;
    fn push(&self, value: T) -> Result<(), T>;
    fn pop(&self) -> Option<T>;
}

pub(crate) trait Flag: Default {
    fn swap(&self, value: bool, ordering: Ordering) -> bool;
}

pub(crate) trait Count: Default {
    fn add(&self, ordering: Ordering);
    fn subtract(&self, ordering: Ordering);
    fn load(&self, ordering: Ordering) -> usize;
}

pub(crate) trait WakerCell: Default {
    fn register(&self, waker: &Waker);
    fn take(&self) -> Option<Waker>;
}

/// What the cores of a server share.
pub(crate) struct CoreParts;

impl Parts for CoreParts {
    type Message = Message;
    type Queue = ArrayQueue<Message>;
    type Flag = AtomicBool;
    type Count = AtomicUsize;
    type WakerCell = AtomicWaker;
    const IN_FLIGHT_MAX: usize = MESSAGES_IN_FLIGHT_MAX;
    const PER_PASS_MAX: usize = MESSAGES_PER_PASS_MAX;
}

impl<T> Queue<T> for ArrayQueue<T> {
    fn with_capacity(capacity: usize) -> ArrayQueue<T> {
        ArrayQueue::new(capacity)
    }

    #[inline]
    fn push(&self, value: T) -> Result<(), T> {
        self.push(value)
    }

    #[inline]
    fn pop(&self) -> Option<T> {
        self.pop()
    }
}

impl Flag for AtomicBool {
    #[inline]
    fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.swap(value, ordering)
    }
}

impl Count for AtomicUsize {
    #[inline]
    fn add(&self, ordering: Ordering) {
        self.fetch_add(1, ordering);
    }

    #[inline]
    fn subtract(&self, ordering: Ordering) {
        self.fetch_sub(1, ordering);
    }

    #[inline]
    fn load(&self, ordering: Ordering) -> usize {
        self.load(ordering)
    }
}

impl WakerCell for AtomicWaker {
    #[inline]
    fn register(&self, waker: &Waker) {
        self.register(waker);
    }

    #[inline]
    fn take(&self) -> Option<Waker> {
        self.take()
    }
}

/// What other threads leave for one core.
pub(crate) struct Mailbox<P: Parts = CoreParts> {
    requests: Vec<P::Queue>,
    replies: Vec<P::Queue>,
    waker: P::WakerCell,
    is_notified: P::Flag,
    /// Threads that may have the waker in hand.
    waking: P::Count,
}

impl<P: Parts> Mailbox<P> {
    pub(crate) fn new(core_count: usize) -> Mailbox<P> {
        let queues = || {
            (0..core_count)
                .map(|_| Queue::with_capacity(P::IN_FLIGHT_MAX))
                .collect()
        };
        Mailbox {
            requests: queues(),
            replies: queues(),
            waker: P::WakerCell::default(),
            is_notified: P::Flag::default(),
            waking: P::Count::default(),
        }
    }

    /// Leaves a request and counts it; the caller takes one off for each reply, and notifies when it has left all.
    ///
    /// # Errors
    /// The message itself, when as many are unanswered as a queue holds.
    pub(crate) fn push_request(
        &self,
        from: usize,
        message: P::Message,
        unanswered: &mut usize,
    ) -> Result<(), P::Message> {
        if *unanswered == P::IN_FLIGHT_MAX {
            return Err(message);
        }
        self.requests[from].push(message)?;
        *unanswered += 1;
        Ok(())
    }

    /// Leaves a reply; the caller notifies.
    pub(crate) fn push_reply(&self, from: usize, message: P::Message) {
        let pushed = self.replies[from].push(message);
        assert!(
            pushed.is_ok(),
            "a reply finds room, since no more requests are on their way than a queue holds"
        );
    }

    /// Takes requests, in their order; true when it has taken as many as it may, so that there may be more.
    pub(crate) fn take_requests(&self, from: usize, each: impl FnMut(P::Message)) -> bool {
        Self::take_from(&self.requests[from], each)
    }

    /// Takes replies, in their order; true when it has taken as many as it may, so that there may be more.
    pub(crate) fn take_replies(&self, from: usize, each: impl FnMut(P::Message)) -> bool {
        Self::take_from(&self.replies[from], each)
    }

    fn take_from(queue: &P::Queue, mut each: impl FnMut(P::Message)) -> bool {
        for _ in 0..P::PER_PASS_MAX {
            let Some(message) = queue.pop() else { return false };
            each(message);
        }
        true
    }

    /// Wakes the core.
    pub(crate) fn notify(&self) {
        // Set before the waker is taken: the core registers its waker before it looks at this.
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            // Counted before the waker is taken, and until it is gone: `leave` takes the waker before it looks at this.
            self.waking.add(Ordering::AcqRel);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
            self.waking.subtract(Ordering::AcqRel);
        }
    }

    /// Forgets whom to wake. True when no other thread has the waker in hand any more; until then the caller tries again, and must not end: the
    /// runtime does not survive that the waker of a task which has ended is dropped on another thread.
    pub(crate) fn leave(&self) -> bool {
        drop(self.waker.take());
        self.waking.load(Ordering::Acquire) == 0
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
