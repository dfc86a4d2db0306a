//! The frame around every payload: a header of 32 bytes, a payload, nothing else.
//!
//! A server reads the header first, so that it can refuse a frame for its size, count or operation before it has
//! computed a checksum over the payload or decoded it. Hence the checks come apart: [`header`] covers the header only,
//! [`Header::check_payload`] the payload's checksum, and [`payload`](crate::payload) and the views what is in it.

use std::fmt;

use crate::limits::{FRAME_ALIGNMENT_BYTES, FRAME_HEADER_SIZE_BYTES, FRAME_SIZE_BYTES_MAX};
use crate::{Operation, Status, StatusNumber};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"PLM1";

/// Bit 0 of a header's flags: the frame is an answer.
const FLAG_ANSWER: u16 = 1;

/// The status of requests, and of answers that do not refuse the frame.
const OK: StatusNumber = StatusNumber(0);

/// Offsets in the header, as ARCHITECTURE.md lists them.
mod at {
    pub(super) const SIZE: usize = 4;
    pub(super) const CORRELATION: usize = 8;
    pub(super) const OPERATION: usize = 16;
    pub(super) const FLAGS: usize = 18;
    pub(super) const STATUS: usize = 20;
    pub(super) const COUNT: usize = 22;
    pub(super) const PAYLOAD_CRC: usize = 24;
    pub(super) const HEADER_CRC: usize = 28;
}

/// Chosen by the client for a request, not 0; the answer carries it back. 0 stands in the answer to a frame whose header
/// could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct CorrelationId(pub u64);

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A frame's header, after its checksum, magic and size have been checked.
///
/// Operation, flags and status are numbers as they came: a later version may use more of them, and a frame that carries
/// one which is not known can still be skipped or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the frame in bytes, header and padding included; a multiple of 8, from 32 to 1,048,576.
    pub size: u32,
    /// The client's number for the exchange.
    pub correlation: CorrelationId,
    /// Number of the operation.
    pub operation: u16,
    /// Bit 0: answer.
    pub flags: u16,
    /// 0 in requests; in an answer, why the frame as a whole was refused.
    pub status: StatusNumber,
    /// How many commands (or their outcomes) the payload holds; 0 for operations without commands.
    pub count: u16,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
}

/// Why bytes are no frame: what was expected, what was found, at which offset of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first bytes are not [`MAGIC`]: the peer speaks something else, or the stream is out of step.
    #[error("expected \"PLM1\" at offset 0, found \"{}\"", .found.escape_ascii())]
    Magic {
        /// What stands there; zeros for bytes that have not arrived.
        found: [u8; 4],
    },
    /// The header was damaged on its way.
    #[error("expected the header's CRC {expected:08x} at offset 28, found {found:08x}")]
    HeaderChecksum {
        /// The CRC of bytes 0 to 28.
        expected: u32,
        /// What the header says.
        found: u32,
    },
    /// A size that no frame has.
    #[error("expected a size from 32 to 1048576 in multiples of 8 at offset 4, found {found}")]
    Size {
        /// What the header says.
        found: u32,
    },
    /// The payload was damaged on its way.
    #[error("expected the payload's CRC {expected:08x} at offset 24, found {found:08x}")]
    PayloadChecksum {
        /// The CRC of the payload.
        expected: u32,
        /// What the header says.
        found: u32,
    },
}

impl FrameError {
    /// The offset in the frame of the field that is wrong.
    #[must_use]
    pub fn offset(&self) -> usize {
        match self {
            Self::Magic { .. } => 0,
            Self::HeaderChecksum { .. } => at::HEADER_CRC,
            Self::Size { .. } => at::SIZE,
            Self::PayloadChecksum { .. } => at::PAYLOAD_CRC,
        }
    }

    /// The status that such a frame is answered with. After [`Status::FrameInvalid`] the connection is closed, because
    /// nobody can tell where the next frame begins.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Magic { .. } | Self::HeaderChecksum { .. } | Self::Size { .. } => Status::FrameInvalid,
            Self::PayloadChecksum { .. } => Status::ChecksumMismatch,
        }
    }
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// Magic first, so that a peer with another protocol is told so; then the checksum; then the size.
    pub fn decode(bytes: &[u8; FRAME_HEADER_SIZE_BYTES]) -> Result<Self, FrameError> {
        let found = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if found != MAGIC {
            return Err(FrameError::Magic { found });
        }
        let expected = crc32c::crc32c(&bytes[..at::HEADER_CRC]);
        let found = u32_at(bytes, at::HEADER_CRC);
        if found != expected {
            return Err(FrameError::HeaderChecksum { expected, found });
        }
        let size = u32_at(bytes, at::SIZE);
        let in_range = (FRAME_HEADER_SIZE_BYTES as u32..=FRAME_SIZE_BYTES_MAX).contains(&size);
        if !in_range || !size.is_multiple_of(FRAME_ALIGNMENT_BYTES as u32) {
            return Err(FrameError::Size { found: size });
        }
        Ok(Self {
            size,
            correlation: CorrelationId(
                u64::from(u32_at(bytes, at::CORRELATION)) | u64::from(u32_at(bytes, at::CORRELATION + 4)) << 32,
            ),
            operation: u16_at(bytes, at::OPERATION),
            flags: u16_at(bytes, at::FLAGS),
            status: StatusNumber(u16_at(bytes, at::STATUS)),
            count: u16_at(bytes, at::COUNT),
            payload_crc: u32_at(bytes, at::PAYLOAD_CRC),
        })
    }

    /// Writes the header. `size` is written as it is: an encoder sees to its range.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_SIZE_BYTES] {
        let mut bytes = [0; FRAME_HEADER_SIZE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[at::SIZE..][..4].copy_from_slice(&self.size.to_le_bytes());
        bytes[at::CORRELATION..][..8].copy_from_slice(&self.correlation.0.to_le_bytes());
        bytes[at::OPERATION..][..2].copy_from_slice(&self.operation.to_le_bytes());
        bytes[at::FLAGS..][..2].copy_from_slice(&self.flags.to_le_bytes());
        bytes[at::STATUS..][..2].copy_from_slice(&self.status.0.to_le_bytes());
        bytes[at::COUNT..][..2].copy_from_slice(&self.count.to_le_bytes());
        bytes[at::PAYLOAD_CRC..][..4].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..at::HEADER_CRC]);
        bytes[at::HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Size of the payload in bytes.
    #[must_use]
    pub fn payload_size(&self) -> usize {
        (self.size as usize).saturating_sub(FRAME_HEADER_SIZE_BYTES)
    }

    /// Whether the frame is an answer.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.flags & FLAG_ANSWER != 0
    }

    /// The operation, when it is one that this version knows.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        Operation::from_number(self.operation)
    }

    /// What a server can tell from the header of a request alone: the operation, or the status to refuse it with.
    ///
    /// # Errors
    ///
    /// [`Status::Malformed`] for an answer, and for a request with a status or without a correlation id; [`Status::Unsupported`] for flags or an operation
    /// that this version does not know or has only reserved. The frame can be skipped in either case.
    pub fn request(&self) -> Result<Operation, Status> {
        if self.is_answer() || !self.status.is_ok() || self.correlation.0 == 0 {
            return Err(Status::Malformed);
        }
        match self.operation() {
            Some(operation) if self.flags == 0 && !operation.is_reserved() => Ok(operation),
            _ => Err(Status::Unsupported),
        }
    }

    /// Checks the payload against the header's checksum.
    ///
    /// # Errors
    ///
    /// [`FrameError::PayloadChecksum`]. The frame can be skipped, and sent again.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameError> {
        let expected = crc32c::crc32c(payload);
        if expected == self.payload_crc {
            Ok(())
        } else {
            Err(FrameError::PayloadChecksum {
                expected,
                found: self.payload_crc,
            })
        }
    }
}

/// What an encoder is told about a frame; size and checksums follow from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The client's number for the exchange.
    pub correlation: CorrelationId,
    /// Number of the operation.
    pub operation: u16,
    /// Bit 0: answer.
    pub flags: u16,
    /// Why the frame as a whole was refused.
    pub status: StatusNumber,
    /// How many commands or outcomes the payload holds.
    pub count: u16,
}

impl Head {
    /// The head of a request.
    #[must_use]
    pub const fn request(operation: Operation, correlation: CorrelationId) -> Self {
        Self {
            correlation,
            operation: operation.number(),
            flags: 0,
            status: OK,
            count: 0,
        }
    }

    /// The head of an answer.
    #[must_use]
    pub const fn answer(operation: Operation, correlation: CorrelationId) -> Self {
        Self {
            correlation,
            operation: operation.number(),
            flags: FLAG_ANSWER,
            status: OK,
            count: 0,
        }
    }

    /// The head of the answer to a request, whatever operation that names.
    #[must_use]
    pub const fn answer_to(request: &Header) -> Self {
        let Header {
            correlation, operation, ..
        } = *request;
        Self {
            correlation,
            operation,
            flags: FLAG_ANSWER,
            status: OK,
            count: 0,
        }
    }

    /// The head of the last answer before the connection is closed, for a frame whose header is not valid.
    #[must_use]
    pub const fn farewell() -> Self {
        Self {
            correlation: CorrelationId(0),
            operation: 0,
            flags: FLAG_ANSWER,
            status: OK,
            count: 0,
        }
    }
}

/// A frame that has arrived in whole. Its payload's checksum has not been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'bytes> {
    /// The header.
    pub header: Header,
    /// The payload with its padding.
    pub payload: &'bytes [u8],
}

impl Frame<'_> {
    /// Checks the payload against the header's checksum.
    ///
    /// # Errors
    ///
    /// [`FrameError::PayloadChecksum`]. The frame can be skipped, and sent again.
    pub fn check_payload(&self) -> Result<(), FrameError> {
        self.header.check_payload(self.payload)
    }
}

/// What the bytes of a stream begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'bytes> {
    /// The beginning of a frame. It cannot be told, or is not whole, before this many bytes have arrived in all.
    NeedMore {
        /// Bytes from the beginning of the frame; always more than there are.
        size_min: usize,
    },
    /// A whole frame; the next one begins `header.size` bytes further on.
    Frame(Frame<'bytes>),
}

/// Reads the header at the beginning of `bytes`, without waiting for the payload. `None`: it has not arrived in whole.
///
/// # Errors
///
/// A [`FrameError`] other than [`FrameError::PayloadChecksum`], as soon as it can be told.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    match bytes.first_chunk() {
        Some(header) => Header::decode(header).map(Some),
        None => {
            let start = &bytes[..bytes.len().min(MAGIC.len())];
            if MAGIC.starts_with(start) {
                return Ok(None);
            }
            // A peer that speaks another protocol may wait for an answer after a few bytes.
            let mut found = [0; 4];
            found[..start.len()].copy_from_slice(start);
            Err(FrameError::Magic { found })
        }
    }
}

/// Reads the frame at the beginning of `bytes`.
///
/// # Errors
///
/// A [`FrameError`] other than [`FrameError::PayloadChecksum`]; nothing behind it in the stream can be read.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FrameError> {
    let Some(header) = header(bytes)? else {
        return Ok(Decoded::NeedMore {
            size_min: FRAME_HEADER_SIZE_BYTES,
        });
    };
    let size = header.size as usize;
    match bytes.get(FRAME_HEADER_SIZE_BYTES..size) {
        Some(payload) => Ok(Decoded::Frame(Frame { header, payload })),
        None => Ok(Decoded::NeedMore { size_min: size }),
    }
}

/// Little-endian, of four bytes that exist because the array is a header.
fn u32_at(bytes: &[u8; FRAME_HEADER_SIZE_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// Little-endian, of two bytes that exist because the array is a header.
fn u16_at(bytes: &[u8; FRAME_HEADER_SIZE_BYTES], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Header = Header {
        size: 32,
        correlation: CorrelationId(0x0102_0304_0506_0708),
        operation: 2,
        flags: 0,
        status: OK,
        count: 0,
        payload_crc: 0,
    };

    fn with(size: u32) -> [u8; 32] {
        Header { size, ..PING }.encode()
    }

    #[test]
    fn bytes_are_those_of_the_architecture_page() {
        let bytes = Header {
            flags: 1,
            status: StatusNumber(80),
            count: 0x0908,
            payload_crc: 0x0D0C_0B0A,
            ..PING
        }
        .encode();
        let expected = [
            b'P', b'L', b'M', b'1', 32, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 2, 0, 1, 0, 80, 0, 8, 9, 0x0A, 0x0B, 0x0C,
            0x0D,
        ];
        assert_eq!(bytes[..28], expected);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(bytes[28..], crc32c::crc32c(&expected).to_le_bytes());
    }

    #[test]
    fn sizes() {
        for size in [32, 40, FRAME_SIZE_BYTES_MAX] {
            assert_eq!(Header::decode(&with(size)).map(|header| header.size), Ok(size));
        }
        for found in [0, 8, 24, 31, 33, 36, FRAME_SIZE_BYTES_MAX + 8, u32::MAX] {
            assert_eq!(Header::decode(&with(found)), Err(FrameError::Size { found }));
        }
    }

    #[test]
    fn another_protocol_is_told_apart_from_its_first_byte() {
        for length in 1..32 {
            assert!(matches!(
                header(&b"GET / HTTP/1.1\r\nHost: plimsoll.invalid\r\n"[..length]),
                Err(FrameError::Magic { .. })
            ));
        }
        let error = header(b"PLM2").unwrap_err();
        assert_eq!(error.to_string(), "expected \"PLM1\" at offset 0, found \"PLM2\"");
        assert_eq!(error.offset(), 0);
        assert_eq!(error.status(), Status::FrameInvalid);
    }

    #[test]
    fn requests_are_judged_from_the_header() {
        let check = |header: Header, expected| assert_eq!(header.request(), expected, "{header:?}");
        check(PING, Ok(Operation::Ping));
        check(Header { flags: 1, ..PING }, Err(Status::Malformed));
        check(
            Header {
                status: StatusNumber(80),
                ..PING
            },
            Err(Status::Malformed),
        );
        check(
            Header {
                correlation: CorrelationId(0),
                ..PING
            },
            Err(Status::Malformed),
        );
        check(Header { flags: 2, ..PING }, Err(Status::Unsupported));
        check(Header { operation: 3, ..PING }, Err(Status::Unsupported));
        check(Header { operation: 39, ..PING }, Err(Status::Unsupported));
        check(Header { operation: 33, ..PING }, Ok(Operation::PoolEvents));
    }
}
