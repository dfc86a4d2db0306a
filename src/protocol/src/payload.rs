//! Checking a payload before anything in it is read.

use flatbuffers::{Follow, InvalidFlatbuffer, Verifiable, VerifierOptions};

use crate::Status;
use crate::limits::{APPARENT_SIZE_FACTOR, TABLE_DEPTH_MAX, TABLE_SIZE_BYTES_MIN};

/// Why a payload is not what the operation asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The bytes are no such FlatBuffers table, or one past the limits of [`limits`](crate::limits).
    #[error("expected a FlatBuffers table {table}, found: {}", .source.to_string().trim_end())]
    Table {
        /// The table that was expected.
        table: &'static str,
        /// What is wrong, and at which position of the payload.
        source: Box<InvalidFlatbuffer>,
    },
    /// A frame of commands without one.
    #[error("expected at least 1 command, found 0 in the frame's header at offset 22")]
    NoCommands,
    /// The vector's length is not that of the frame's header.
    #[error("expected {expected} {what}, as the frame's header says at offset 22, found {found}")]
    Count {
        /// Commands or outcomes.
        what: &'static str,
        /// The count in the header.
        expected: usize,
        /// The length of the vector.
        found: usize,
    },
    /// Not one value for each dimension for each command (outcome) that has them.
    #[error("expected {expected} {what}, one for each of {dimensions} dimensions for each of {owners}, found {found}")]
    Values {
        /// Units or remaining units.
        what: &'static str,
        /// How many there have to be.
        expected: usize,
        /// How many dimensions the directory has.
        dimensions: usize,
        /// How many commands take units, or outcomes carry what remains.
        owners: usize,
        /// The length of the vector.
        found: usize,
    },
    /// A reference names a command that is not in the frame.
    #[error("expected reference {index} to name a command below {commands}, found {found}")]
    ReferenceRange {
        /// Which reference.
        index: usize,
        /// How many commands there are.
        commands: usize,
        /// The command that it names.
        found: u32,
    },
    /// References do not stand in the order of their commands, or two name the same command.
    #[error("expected reference {index} to name a command above {previous}, found {found}")]
    ReferenceOrder {
        /// Which reference.
        index: usize,
        /// The command that the reference before it names.
        previous: u32,
        /// The command that it names.
        found: u32,
    },
    /// A reference names a command that is no reserve.
    #[error("expected reference {index} to name a reserve, found command {found} with another action")]
    ReferenceAction {
        /// Which reference.
        index: usize,
        /// The command that it names.
        found: u32,
    },
}

impl PayloadError {
    /// The status that a frame with such a payload is answered with.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::Malformed
    }
}

/// Checks that `payload` holds a table `T` and gives access to it.
///
/// `table` is the name in the schema, for the error. Depth, number of tables and the size when shared parts are counted
/// again and again are bounded, so that the time stays proportional to the payload's size. Any alignment of `payload` in
/// memory will do. Zeros behind the table are ignored.
///
/// # Errors
///
/// [`PayloadError::Table`]: not retryable, the same bytes give the same error.
///
/// ```
/// use plimsoll_protocol::{payload, wire};
///
/// assert!(payload::table::<wire::Hello>("Hello", b"no table").is_err());
/// ```
pub fn table<'payload, T>(table: &'static str, payload: &'payload [u8]) -> Result<T::Inner, PayloadError>
where
    T: Follow<'payload> + Verifiable + 'payload,
{
    let options = VerifierOptions {
        max_depth: TABLE_DEPTH_MAX,
        max_tables: payload.len() / TABLE_SIZE_BYTES_MIN,
        max_apparent_size: payload.len() * APPARENT_SIZE_FACTOR,
        ignore_missing_null_terminator: false,
    };
    flatbuffers::root_with_opts::<T>(&options, payload).map_err(|source| PayloadError::Table {
        table,
        source: Box::new(source),
    })
}
