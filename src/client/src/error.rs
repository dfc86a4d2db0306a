//! What goes wrong, apart from refusals.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_protocol::{Applied, FrameError, PayloadError, PoolId, StatusNumber};

use crate::outcome::{Refusal, Unknown};

/// Why a call has no result.
///
/// From the calls that send one command ([`Client::reserve`](crate::Client::reserve),
/// [`confirm`](crate::Client::confirm), [`resize`](crate::Client::resize), [`release`](crate::Client::release)) an
/// error means that it had no effect. [`Error::applied`] says it for every call.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that no server takes. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// As many commands as the queue of a connection takes are waiting. Nothing was sent; try again after a pause.
    #[error("{commands_max} commands are waiting on the connection already")]
    QueueFull {
        /// [`Options::queue_commands_max`](crate::Options::queue_commands_max).
        commands_max: usize,
    },
    /// The deadline passed before there was a connection, or room in the server's window, to send it. Nothing was sent.
    #[error("not sent to {address} before the deadline")]
    NotSent {
        /// Where the client connects to.
        address: Arc<str>,
        /// Why the last attempt to connect failed, when there is no connection.
        #[source]
        source: Option<Arc<ConnectError>>,
    },
    /// The first connection could not be made.
    #[error("no connection to {address}")]
    NotConnected {
        /// Where the client connects to.
        address: Arc<str>,
        /// Why.
        #[source]
        source: Arc<ConnectError>,
    },
    /// The server now runs on another data directory: ids and keys of the one before mean nothing to it. Nothing was
    /// sent.
    #[error("the server runs on another data directory than before; ids and keys of that one are void")]
    DirectoryChanged,
    /// The outcome of an earlier command on the pool is unknown, so that the order cannot be kept. Nothing was sent.
    /// Only from [`Ordered`](crate::Ordered).
    #[error("the outcome of an earlier command on pool {pool} is unknown")]
    Blocked {
        /// The pool.
        pool: PoolId,
    },
    /// The server refused a call that is no command on a reservation.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// No answer, or none that can be read. A read can simply be made again; a change may have been made.
    #[error("outcome unknown: {0}")]
    Unknown(Unknown),
    /// The thread of a [blocking client](crate::blocking::Client) cannot be started. Nothing was sent.
    #[error("the client's thread cannot be started")]
    Runtime {
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The client's tasks have ended, because its runtime is shutting down.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Whether the same call, made again unchanged, may succeed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::NotSent { .. } | Self::NotConnected { .. } | Self::Unknown(_) => true,
            Self::Refused(refusal) => refusal.retryable(),
            Self::Invalid(_) | Self::Blocked { .. } | Self::DirectoryChanged => false,
            Self::Runtime { .. } | Self::Closed => false,
        }
    }

    /// Did the call take effect?
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Unknown(_) => Applied::Unknown,
            _ => Applied::No,
        }
    }
}

/// What no server takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Not `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
    #[error("{name:?} is no pool name")]
    PoolName {
        /// The name, cut to 128 characters.
        name: String,
    },
    /// The directory has no such dimension.
    #[error("no dimension {name:?}")]
    Dimension {
        /// The name.
        name: String,
    },
    /// A dimension is named twice.
    #[error("dimension {name:?} stands twice")]
    DimensionTwice {
        /// The name.
        name: String,
    },
    /// Not a value for each dimension.
    #[error("expected {expected} units, one for each dimension, found {found}")]
    UnitsCount {
        /// How many dimensions the directory has.
        expected: usize,
        /// How many values there are.
        found: usize,
    },
    /// Units above 2^31-1.
    #[error("units are at most 2147483647, found {found}")]
    UnitsRange {
        /// The value.
        found: u32,
    },
    /// A reserve of nothing.
    #[error("a reserve needs units above 0 in at least one dimension")]
    UnitsZero,
    /// A resize that changes neither units nor deadline.
    #[error("a resize needs units or a hold to change")]
    ResizeOfNothing,
    /// A guard of a hold was asked for a reserve that is confirmed at once.
    #[error("a hold needs its duration")]
    HoldMissing,
    /// Not whole seconds from 1 to 86,400.
    #[error("a hold lasts whole seconds from 1 to 86400, found {found:?}")]
    Hold {
        /// The hold.
        found: Duration,
    },
    /// More than 64 bytes.
    #[error("a reference has at most 64 bytes, found {found}")]
    Reference {
        /// How many bytes it has.
        found: usize,
    },
    /// A reset that expects version 0, which is that of no pool.
    #[error("no pool has the version 0")]
    VersionZero,
    /// An option out of its range.
    #[error("{option} must be at least {min}, and at most {max}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its least value.
        min: usize,
        /// Its greatest value.
        max: usize,
    },
    /// A batch without a command.
    #[error("a batch without a command")]
    BatchEmpty,
    /// One item that does not fit into a frame.
    #[error("a frame holds at most {size_max} bytes, one item of the call needs {size}")]
    Size {
        /// What it needs.
        size: usize,
        /// What a frame may have.
        size_max: usize,
    },
}

/// Why the outcome of a call is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownCause {
    /// No answer within the deadline.
    Deadline,
    /// The connection was lost while it was in flight, and nothing more was tried.
    ConnectionLost,
    /// The answer was damaged, or not what the call asks for.
    Answer(AnswerError),
    /// The server came back on another data directory while it was in flight.
    DirectoryChanged,
    /// An answer whose status does not say.
    Status(StatusNumber),
    /// The client's tasks ended while it was in flight.
    Closed,
}

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("no answer within the deadline"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Answer(error) => write!(f, "the answer cannot be read: {error}"),
            Self::DirectoryChanged => f.write_str("the server came back on another data directory"),
            Self::Status(status) => write!(f, "answered with {status}"),
            Self::Closed => f.write_str("the client was closed"),
        }
    }
}

/// Why an answer cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The payload is not what the operation answers with.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Not as many results as were asked for.
    #[error("expected {expected} {what}, found {found}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many were asked for.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// The answer to another operation.
    #[error("expected an answer to operation {expected}, found {found}")]
    Operation {
        /// The operation's number.
        expected: u16,
        /// What came.
        found: u16,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The operating system could not connect, or not read or write.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Not done within [`Options::connect_timeout`](crate::Options::connect_timeout).
    #[error("no connection within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// What answers is no Plimsoll server, or the answer was damaged.
    #[error("the answer to hello is no frame")]
    Frame(#[from] FrameError),
    /// The answer is no `Welcome`.
    #[error("the answer to hello cannot be read")]
    Payload(#[from] PayloadError),
    /// The answer to hello is not one.
    #[error("expected the answer to hello, found operation {operation}")]
    Operation {
        /// The number of the operation that came.
        operation: u16,
    },
    /// The server refused the connection.
    #[error("the server refused the connection as {status}: {detail}")]
    Refused {
        /// Why.
        status: StatusNumber,
        /// What the server says of it.
        detail: String,
    },
    /// The server announces a value that no connection can work with.
    #[error("the server's welcome says {field} {found}")]
    Welcome {
        /// The field of `Welcome`.
        field: &'static str,
        /// Its value.
        found: u64,
    },
}
