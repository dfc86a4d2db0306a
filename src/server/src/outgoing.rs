//! Messages that one pass over the connections gathers for each owner.

use std::collections::VecDeque;

use plimsoll_domain::Command;
use plimsoll_engine::{Batch, Entry, Message, Request};

use crate::limits::{MESSAGE_COMMANDS_MAX, SPARE_MESSAGE_COUNT_MAX};

/// Messages for the owners, in the order in which their commands arrived.
pub(crate) struct Outgoing {
    core: usize,
    queues: Vec<VecDeque<Message>>,
    /// Emptied messages for the next commands. Boxed once: it is the box that travels.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Batch>>,
}

impl Outgoing {
    pub(crate) fn new(core: usize, core_count: usize) -> Outgoing {
        Outgoing {
            core,
            queues: (0..core_count).map(|_| VecDeque::new()).collect(),
            spare: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn push_command(&mut self, owner: usize, frame: u32, index: u32, command: Command) {
        let queue = &mut self.queues[owner];
        let mut continues = false;
        if let Some(Message::Commands(batch)) = queue.back_mut() {
            if batch.entries.len() < MESSAGE_COMMANDS_MAX {
                batch.entries.push(Entry { frame, index, command });
                return;
            }
            continues = batch.entries.last().is_some_and(|entry| entry.frame == frame);
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.sender = self.core;
        batch.continues = continues;
        batch.entries.push(Entry { frame, index, command });
        queue.push_back(Message::Commands(batch));
    }

    pub(crate) fn push_request(&mut self, owner: usize, request: Box<Request>) {
        self.queues[owner].push_back(Message::Request(request));
    }

    pub(crate) fn pop(&mut self, owner: usize) -> Option<Message> {
        self.queues[owner].pop_front()
    }

    /// Keeps the memory of a message that came back.
    pub(crate) fn recycle(&mut self, mut batch: Box<Batch>) {
        if self.spare.len() < SPARE_MESSAGE_COUNT_MAX {
            batch.clear();
            self.spare.push(batch);
        }
    }
}
