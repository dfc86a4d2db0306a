//! Appending whole frames to a buffer.

mod plain;

use std::fmt;

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use crate::frame::{CorrelationId, Head, Header};
use crate::limits::{
    COMMANDS_COUNT_MAX, FAILURE_DETAIL_SIZE_BYTES_MAX, FRAME_ALIGNMENT_BYTES, FRAME_HEADER_SIZE_BYTES,
    FRAME_SIZE_BYTES_MAX,
};
use crate::wire;
use crate::{Operation, Status};

/// Why a frame was not written. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// More bytes than a frame may have.
    #[error("a frame holds at most {size_max} bytes, this one needs {size}")]
    Size {
        /// What the frame needs, at least.
        size: usize,
        /// What the encoder was told a frame may have.
        size_max: u32,
    },
    /// More commands or outcomes than a header can count.
    #[error("a frame holds at most 65535 commands, found {count}")]
    Count {
        /// How many there are.
        count: usize,
    },
}

/// The commands of a frame. References come as an iterator beside them.
#[derive(Clone, Copy, Debug)]
pub struct Commands<'batch> {
    /// The commands.
    pub commands: &'batch [wire::Command],
    /// A value for each dimension for each command that takes units, in the order of the commands.
    pub units: &'batch [u32],
    /// W3C trace context, for the server's log.
    pub traceparent: Option<&'batch str>,
}

/// The outcomes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Outcomes<'batch> {
    /// The outcomes, in the order of the commands.
    pub outcomes: &'batch [wire::Outcome],
    /// A value for each dimension for each outcome that is `insufficient_capacity`, in order.
    pub remaining: &'batch [i64],
}

/// Builds payloads and appends them, with their headers, to a buffer.
///
/// It keeps its scratch memory from frame to frame, so that the steady state allocates nothing. The scratch memory is
/// bounded by the size of a frame.
pub struct Encoder {
    builder: FlatBufferBuilder<'static>,
    references: Vec<WIPOffset<wire::Reference<'static>>>,
    size_max: u32,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("size_max", &self.size_max)
            .finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder of frames up to [`FRAME_SIZE_BYTES_MAX`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            builder: FlatBufferBuilder::new(),
            references: Vec::new(),
            size_max: FRAME_SIZE_BYTES_MAX,
        }
    }

    /// Bounds the frames that follow, in bytes: what `Welcome` says. Never above [`FRAME_SIZE_BYTES_MAX`].
    pub fn set_size_max(&mut self, size_max: u32) {
        self.size_max = size_max.min(FRAME_SIZE_BYTES_MAX);
    }

    /// Appends a request of commands. `references` are pairs of a command's index, ascending, and its reference.
    ///
    /// That units and references fit the commands is the caller's business; the peer checks it.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when it does not fit into a frame; nothing is appended.
    pub fn commands<'text>(
        &mut self,
        out: &mut Vec<u8>,
        correlation: CorrelationId,
        batch: Commands<'_>,
        references: impl ExactSizeIterator<Item = (u32, &'text str)>,
    ) -> Result<(), EncodeError> {
        let count = self.count(batch.commands.len())?;
        self.check_size(size_of_val(batch.commands) + size_of_val(batch.units))?;
        if references.len() == 0 && batch.traceparent.is_none() {
            let head = Head {
                count,
                ..Head::request(Operation::Commands, correlation)
            };
            return plain::commands(out, head, &batch, self.size_max);
        }
        let builder = &mut self.builder;
        builder.reset();
        self.references.clear();
        let mut text_size = 0;
        for (command, text) in references {
            // Checked as they come, so that a builder never grows far past a frame.
            text_size += text.len();
            if text_size > self.size_max as usize {
                return Err(EncodeError::Size {
                    size: text_size,
                    size_max: self.size_max,
                });
            }
            let text = Some(builder.create_string(text));
            self.references
                .push(wire::Reference::create(builder, &wire::ReferenceArgs { command, text }));
        }
        let traceparent = batch.traceparent.map(|text| builder.create_string(text));
        let references = (!self.references.is_empty()).then(|| builder.create_vector(&self.references));
        let units = (!batch.units.is_empty()).then(|| builder.create_vector(batch.units));
        let commands = Some(builder.create_vector(batch.commands));
        let root = wire::Commands::create(
            builder,
            &wire::CommandsArgs {
                commands,
                units,
                references,
                traceparent,
            },
        );
        builder.finish_minimal(root);
        self.append(
            out,
            Head {
                count,
                ..Head::request(Operation::Commands, correlation)
            },
        )
    }

    /// Appends an answer of outcomes.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when it does not fit into a frame; nothing is appended.
    pub fn outcomes(
        &mut self,
        out: &mut Vec<u8>,
        correlation: CorrelationId,
        batch: Outcomes<'_>,
    ) -> Result<(), EncodeError> {
        let count = self.count(batch.outcomes.len())?;
        self.check_size(size_of_val(batch.outcomes) + size_of_val(batch.remaining))?;
        let head = Head {
            count,
            ..Head::answer(Operation::Commands, correlation)
        };
        plain::outcomes(out, head, &batch, self.size_max)
    }

    /// Appends an answer that refuses a frame as a whole. `detail` says what was wrong and where, for people; it is cut
    /// to [`FAILURE_DETAIL_SIZE_BYTES_MAX`]. The status is put into header and payload alike.
    pub fn failure(&mut self, out: &mut Vec<u8>, head: Head, status: Status, detail: &str) {
        let end = detail.floor_char_boundary(FAILURE_DETAIL_SIZE_BYTES_MAX);
        let builder = &mut self.builder;
        builder.reset();
        let detail = Some(builder.create_string(&detail[..end]));
        let root = wire::Failure::create(
            builder,
            &wire::FailureArgs {
                status: status.number(),
                detail,
            },
        );
        builder.finish_minimal(root);
        // A refusal fits into any frame; the bound that a peer asked for does not hold it back.
        self.append_finished(
            out,
            Head {
                status: status.into(),
                ..head
            },
        );
    }

    /// Appends a frame without a payload.
    pub fn empty(&mut self, out: &mut Vec<u8>, head: Head) {
        out.extend_from_slice(&frame_header(head, FRAME_HEADER_SIZE_BYTES as u32, &[]).encode());
    }

    /// Appends a frame whose payload's root table `build` makes.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Size`] when it does not fit into a frame; nothing is appended. The scratch memory has grown to what
    /// `build` put into it, so that a caller bounds its input first.
    ///
    /// ```
    /// use plimsoll_protocol::{CorrelationId, Encoder, Operation, frame::Head, wire};
    ///
    /// let mut bytes = Vec::new();
    /// Encoder::new().table(&mut bytes, Head::request(Operation::Hello, CorrelationId(1)), |builder| {
    ///     let client = Some(builder.create_string("example 1.0"));
    ///     let hello = wire::HelloArgs { version_min: 1, version_max: 1, client, credentials: None };
    ///     wire::Hello::create(builder, &hello)
    /// })?;
    /// assert_eq!(bytes.len() % 8, 0);
    /// # Ok::<(), plimsoll_protocol::EncodeError>(())
    /// ```
    pub fn table<T>(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        build: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<T>,
    ) -> Result<(), EncodeError> {
        self.builder.reset();
        let root = build(&mut self.builder);
        self.builder.finish_minimal(root);
        self.append(out, head)
    }

    fn count(&self, count: usize) -> Result<u16, EncodeError> {
        const { assert!(COMMANDS_COUNT_MAX == u16::MAX as usize) };
        u16::try_from(count).map_err(|_| EncodeError::Count { count })
    }

    /// Refuses what cannot fit before anything is copied.
    fn check_size(&self, vectors_size: usize) -> Result<(), EncodeError> {
        let size = FRAME_HEADER_SIZE_BYTES + vectors_size;
        if size > self.size_max as usize {
            return Err(EncodeError::Size {
                size,
                size_max: self.size_max,
            });
        }
        Ok(())
    }

    fn append(&mut self, out: &mut Vec<u8>, head: Head) -> Result<(), EncodeError> {
        let size = frame_size(self.builder.finished_data().len());
        if size > self.size_max as usize {
            return Err(EncodeError::Size {
                size,
                size_max: self.size_max,
            });
        }
        self.append_finished(out, head);
        Ok(())
    }

    fn append_finished(&mut self, out: &mut Vec<u8>, head: Head) {
        let payload = self.builder.finished_data();
        let size = frame_size(payload.len());
        let start = out.len();
        out.reserve(size);
        out.extend_from_slice(&[0; FRAME_HEADER_SIZE_BYTES]);
        out.extend_from_slice(payload);
        out.resize(start + size, 0);
        let frame = &mut out[start..];
        let (header, payload) = frame.split_at_mut(FRAME_HEADER_SIZE_BYTES);
        header.copy_from_slice(&frame_header(head, size as u32, payload).encode());
    }
}

/// Size of a frame around a payload that has not been padded.
pub(crate) fn frame_size(payload_size: usize) -> usize {
    FRAME_HEADER_SIZE_BYTES + payload_size.next_multiple_of(FRAME_ALIGNMENT_BYTES)
}

pub(crate) fn frame_header(head: Head, size: u32, payload: &[u8]) -> Header {
    Header {
        size,
        correlation: head.correlation,
        operation: head.operation,
        flags: head.flags,
        status: head.status,
        count: head.count,
        payload_crc: crc32c::crc32c(payload),
    }
}
