//! What is in flight on a connection, by correlation id.
//!
//! - A correlation id is the index of an entry plus, in the upper half, how often that entry has been used; the upper
//!   half is never 0. So an answer is found without a search, and a late or forged one is told apart.
//! - An entry is kept until its answer arrives, also when its callers have been told that the deadline passed: until then
//!   the server counts its commands against the window, and so does `commands`.

use std::time::Instant;

use plimsoll_protocol::CorrelationId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::UnknownCause;
use crate::limits::SPARE_CALLS_MAX;
use crate::request::{CommandReply, Failed, FrameReply};

/// One command of a gathered frame. `reply` is `None` when its caller has been answered.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) reply: Option<oneshot::Sender<CommandReply>>,
    pub(crate) deadline: Instant,
}

/// Who waits for a frame.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// The callers of a gathered frame, in the order of the commands.
    Calls(Vec<Call>),
    /// The caller of a whole frame.
    Frame {
        reply: oneshot::Sender<FrameReply>,
        buffer: Vec<u8>,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    },
    /// Nobody any more.
    Nobody,
}

/// A frame in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) waiter: Waiter,
    /// What it takes of the window.
    pub(crate) commands: usize,
    pub(crate) operation: u16,
    sent_at: Instant,
}

#[derive(Debug)]
struct Entry {
    uses: u32,
    in_flight: Option<InFlight>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// What all of them take of the window.
    commands: usize,
    spare_calls: Vec<Vec<Call>>,
}

/// What [`Waiters::expire`] found.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    /// The earliest deadline that has not passed.
    pub(crate) earliest: Option<Instant>,
    /// When the newest of the frames was sent that were not answered within their deadline.
    pub(crate) newest_sent_at: Option<Instant>,
}

impl Waiters {
    /// Commands in flight.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    pub(crate) fn insert(&mut self, waiter: Waiter, commands: usize, operation: u16, now: Instant) -> CorrelationId {
        self.commands += commands;
        let in_flight = InFlight {
            waiter,
            commands,
            operation,
            sent_at: now,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                // The window bounds how many there are, far below 2^32.
                self.entries.push(Entry {
                    uses: 0,
                    in_flight: None,
                });
                (self.entries.len() - 1) as u32
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.uses = entry.uses.checked_add(1).unwrap_or(1);
        entry.in_flight = Some(in_flight);
        CorrelationId(u64::from(entry.uses) << 32 | u64::from(index))
    }

    /// Takes out the frame that an answer belongs to.
    pub(crate) fn take(&mut self, correlation: CorrelationId) -> Option<InFlight> {
        let index = correlation.0 as u32;
        let entry = self.entries.get_mut(index as usize)?;
        if u64::from(entry.uses) != correlation.0 >> 32 {
            return None;
        }
        let in_flight = entry.in_flight.take()?;
        self.free.push(index);
        self.commands -= in_flight.commands;
        Some(in_flight)
    }

    /// Tells every caller that the connection is gone.
    pub(crate) fn fail_all(&mut self, cause: &UnknownCause) {
        for entry in &mut self.entries {
            match entry.in_flight.take().map(|in_flight| in_flight.waiter) {
                Some(Waiter::Calls(mut calls)) => {
                    for reply in calls.iter_mut().filter_map(|call| call.reply.take()) {
                        // A caller that has gone away wants no answer.
                        let _ = reply.send(Err(Failed::Lost(cause.clone())));
                    }
                }
                Some(Waiter::Frame { reply, permit, .. }) => {
                    drop(permit);
                    let _ = reply.send(Err(Failed::Lost(cause.clone())));
                }
                Some(Waiter::Nobody) | None => {}
            }
        }
        self.entries.clear();
        self.free.clear();
        self.commands = 0;
    }

    /// Tells those whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        for in_flight in self.entries.iter_mut().filter_map(|entry| entry.in_flight.as_mut()) {
            let mut late = false;
            let mut waits_until = |deadline: Instant| {
                expired.earliest = Some(expired.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            };
            match &mut in_flight.waiter {
                Waiter::Calls(calls) => {
                    for call in calls.iter_mut().filter(|call| call.reply.is_some()) {
                        if call.deadline > now {
                            waits_until(call.deadline);
                        } else if let Some(reply) = call.reply.take() {
                            late = true;
                            let _ = reply.send(Err(Failed::Lost(UnknownCause::Deadline)));
                        }
                    }
                }
                Waiter::Frame { deadline, .. } if *deadline > now => waits_until(*deadline),
                Waiter::Frame { .. } => {
                    late = true;
                    if let Waiter::Frame { reply, permit, .. } =
                        std::mem::replace(&mut in_flight.waiter, Waiter::Nobody)
                    {
                        drop(permit);
                        let _ = reply.send(Err(Failed::Lost(UnknownCause::Deadline)));
                    }
                }
                Waiter::Nobody => {}
            }
            if late {
                expired.newest_sent_at = expired.newest_sent_at.max(Some(in_flight.sent_at));
            }
        }
        expired
    }

    /// An empty list for the callers of a frame.
    pub(crate) fn calls(&mut self) -> Vec<Call> {
        self.spare_calls.pop().unwrap_or_default()
    }

    /// Takes a list back.
    pub(crate) fn give_back(&mut self, mut calls: Vec<Call>) {
        if self.spare_calls.len() < SPARE_CALLS_MAX {
            calls.clear();
            self.spare_calls.push(calls);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_frame_once() {
        let now = Instant::now();
        let mut waiters = Waiters::default();
        let first = waiters.insert(Waiter::Nobody, 3, 16, now);
        let second = waiters.insert(Waiter::Nobody, 4, 16, now);
        assert_ne!(first, second);
        assert_eq!(waiters.commands(), 7);
        assert_eq!(waiters.take(first).map(|found| found.commands), Some(3));
        assert!(waiters.take(first).is_none(), "an answer counts once");
        let third = waiters.insert(Waiter::Nobody, 5, 16, now);
        assert_eq!(third.0 as u32, first.0 as u32, "the entry is used again");
        assert!(
            waiters.take(first).is_none(),
            "an answer to its former use is told apart"
        );
        for forged in [0, 1, u64::MAX, 7 << 32] {
            assert!(waiters.take(CorrelationId(forged)).is_none());
        }
        waiters.fail_all(&UnknownCause::ConnectionLost);
        assert!(waiters.take(second).is_none());
        assert_eq!(waiters.commands(), 0);
    }

    #[test]
    fn expired_frames_still_take_their_share_of_the_window() {
        let now = Instant::now();
        let mut waiters = Waiters::default();
        let (reply, mut answer) = oneshot::channel();
        let calls = vec![Call {
            reply: Some(reply),
            deadline: now,
        }];
        let correlation = waiters.insert(Waiter::Calls(calls), 1, 16, now);
        let expired = waiters.expire(now);
        assert_eq!((expired.earliest, expired.newest_sent_at), (None, Some(now)));
        assert!(matches!(
            answer.try_recv(),
            Ok(Err(Failed::Lost(UnknownCause::Deadline)))
        ));
        assert_eq!(waiters.commands(), 1);
        assert!(waiters.take(correlation).is_some());
        assert_eq!(waiters.commands(), 0);
    }
}
