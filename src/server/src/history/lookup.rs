//! The thread asks engines about reservations, as a core does.

use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use plimsoll_domain::ReservationId;
use plimsoll_engine::{Answer, Call, Message, Request, ReservationReport};
use plimsoll_protocol::Status;

use super::Refused;
use super::reader::Reader;

/// How long an engine may take to read something; it answers with its next sync. A change is waited for: whoever asked must learn what came of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A wake-up that was lost delays an answer by no more than this.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Which questions are on their way to engines: at most one to each, so that the queues of replies find room.
pub(super) struct Lookups {
    count: u32,
    /// By core.
    is_unanswered: Vec<bool>,
}

impl Lookups {
    pub(super) fn new(core_count: usize) -> Lookups {
        Lookups {
            count: 0,
            is_unanswered: vec![false; core_count],
        }
    }

    /// The number of the next question to this core; nothing while one that was given up is still on its way.
    fn begin(&mut self, core: usize, replies: &ArrayQueue<Message>) -> Option<u32> {
        // A reply that came too late for whoever asked lies there still, and frees its core.
        while self.take(replies, None).is_some() {}
        if self.is_unanswered[core] {
            return None;
        }
        self.is_unanswered[core] = true;
        self.count = self.count.wrapping_add(1);
        Some(self.count)
    }

    /// It was not sent.
    fn cancel(&mut self, core: usize) {
        self.is_unanswered[core] = false;
    }

    /// Takes what came back, up to the reply to this question.
    fn take(&mut self, replies: &ArrayQueue<Message>, origin: Option<u32>) -> Option<Answer> {
        while let Some(message) = replies.pop() {
            let Message::Request(reply) = message else { continue };
            self.is_unanswered[reply.part as usize] = false;
            if Some(reply.origin) == origin {
                return Some(reply.answer);
            }
        }
        None
    }
}

impl Reader {
    /// What the owner of these reservations knows of them, in their order: one partition's, at most as many as an answer takes.
    pub(super) fn look_up(
        &mut self,
        owner: usize,
        reservations: Vec<ReservationId>,
    ) -> Result<Vec<Option<ReservationReport>>, Refused> {
        match self.ask_engine(owner, Call::GetReservations(reservations))? {
            Answer::Reservations(found) => Ok(found),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Asks an engine, and waits for its answer, which comes when it is durable.
    pub(super) fn ask_engine(&mut self, owner: usize, call: Call) -> Result<Answer, Refused> {
        let is_change = matches!(&call, Call::ResetPool { dry_run: false, .. });
        let overloaded = || Refused(Status::Overloaded, "an engine does not answer".to_owned());
        let queue = &self.shared.history;
        let origin = self.lookups.begin(owner, &queue.replies).ok_or_else(overloaded)?;
        let request = Request {
            // Behind the last core.
            sender: self.shared.core_count(),
            origin,
            part: owner as u32,
            call,
            answer: Answer::Pending,
        };
        if queue.lookups[owner].push(Message::Request(Box::new(request))).is_err() {
            self.lookups.cancel(owner);
            return Err(overloaded());
        }
        self.shared.mailboxes[owner].notify();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lookups.take(&queue.replies, Some(origin)) {
                Some(Answer::Refused(status)) => return Err(Refused(status, status.meaning().to_owned())),
                Some(answer) => return Ok(answer),
                None => {}
            }
            if self.shared.is_finished() || Instant::now() >= until && !is_change {
                return Err(overloaded());
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }
}

/// An engine answers what it was asked.
pub(super) fn unexpected(answer: &Answer) -> Refused {
    tracing::error!(?answer, "an engine gave an answer of another sort");
    Refused(
        Status::Unavailable,
        "an engine gave an answer of another sort".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(core: u32, origin: u32) -> Message {
        Message::Request(Box::new(Request {
            sender: 2,
            origin,
            part: core,
            call: Call::GetReservations(Vec::new()),
            answer: Answer::Reservations(Vec::new()),
        }))
    }

    #[test]
    fn a_reply_that_came_too_late_frees_its_core() {
        let replies = ArrayQueue::new(4);
        let mut lookups = Lookups::new(2);
        let late = lookups.begin(1, &replies).unwrap();
        assert!(lookups.take(&replies, Some(late)).is_none());
        // It is given up: nothing more is asked of this core until its reply is there.
        assert_eq!(lookups.begin(1, &replies), None);
        assert!(lookups.begin(0, &replies).is_some());
        assert!(replies.push(reply(1, late)).is_ok());
        let next = lookups.begin(1, &replies).expect("the late reply was taken");
        // Nobody takes the late one for the next one's.
        assert!(replies.push(reply(1, next)).is_ok());
        assert!(lookups.take(&replies, Some(next)).is_some());
        assert_eq!(lookups.count, 3);
    }
}
