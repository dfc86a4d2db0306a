//! What callers hand to a connection's task, and what they get back.

use std::sync::Arc;
use std::time::Instant;

use plimsoll_protocol::limits::DIMENSIONS_COUNT_MAX;
use plimsoll_protocol::{Header, StatusNumber, wire};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::directory::Epoch;
use crate::error::UnknownCause;

/// One entry of a connection's queue.
#[derive(Debug)]
pub(crate) enum Request {
    /// A command that may share a frame with others.
    Command(CommandRequest),
    /// A frame of its own.
    Frame(FrameRequest),
}

/// A command that may share a frame with others.
#[derive(Debug)]
pub(crate) struct CommandRequest {
    pub(crate) command: wire::Command,
    /// A value for each dimension, when the command takes units.
    pub(crate) units: [u32; DIMENSIONS_COUNT_MAX],
    pub(crate) reference: Option<Box<str>>,
    /// The directory that its ids belong to.
    pub(crate) epoch: Epoch,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<CommandReply>,
}

/// A frame whose header lacks nothing but the correlation id.
#[derive(Debug)]
pub(crate) struct FrameRequest {
    pub(crate) frame: Vec<u8>,
    pub(crate) header: Header,
    /// The directory that its ids belong to.
    pub(crate) epoch: Epoch,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<FrameReply>,
    /// Its share of the queue, given back with the reply.
    pub(crate) permit: OwnedSemaphorePermit,
}

pub(crate) type CommandReply = Result<CommandAnswer, Failed>;
pub(crate) type FrameReply = Result<FrameAnswer, Failed>;

/// What came back for one command.
#[derive(Debug)]
pub(crate) enum CommandAnswer {
    /// Its outcome; what remains in each dimension when it does not fit.
    Outcome {
        outcome: wire::Outcome,
        remaining: Option<Box<[i64]>>,
    },
    /// The frame as a whole was refused.
    FrameRefused {
        status: StatusNumber,
        detail: Option<Arc<str>>,
    },
}

/// What came back for one frame. Its checksum has not been checked.
#[derive(Debug)]
pub(crate) struct FrameAnswer {
    pub(crate) header: Header,
    /// The request's own buffer, used again.
    pub(crate) payload: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// It never left: no effect.
    Unsent(Unsent),
    /// It was sent, or may have been.
    Lost(UnknownCause),
}

/// Why something never left.
#[derive(Clone, Debug)]
pub(crate) enum Unsent {
    Deadline,
    DirectoryChanged,
    /// It does not fit into a frame, or into the window, of the server as it is now.
    TooLarge {
        size: usize,
        size_max: usize,
    },
}

impl Request {
    pub(crate) fn deadline(&self) -> Instant {
        match self {
            Self::Command(request) => request.deadline,
            Self::Frame(request) => request.deadline,
        }
    }

    /// Tells the caller that it never left.
    pub(crate) fn fail(self, unsent: Unsent) {
        // A caller that has gone away wants no answer.
        match self {
            Self::Command(request) => drop(request.reply.send(Err(Failed::Unsent(unsent)))),
            Self::Frame(request) => drop(request.reply.send(Err(Failed::Unsent(unsent)))),
        }
    }
}
