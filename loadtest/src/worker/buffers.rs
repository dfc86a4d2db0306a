//! What is written to a connection and what was read from it: nothing is allocated for a frame.
//!
//! - `input[start..end]` is what was read and not used; it begins at a frame.

use anyhow::{Result, bail};
use plimsoll_client::protocol::frame::{self, Decoded, Frame, Head};
use plimsoll_client::protocol::{Commands, CorrelationId, Encoder, Operation, VERSION, payload, wire};

/// Room for the answers of many frames; one answer of one command takes about 120 bytes, one of a query below 1 KiB.
pub(crate) const INPUT_SIZE_BYTES: usize = 64 * 1024;

/// What a query asks for, beside the units that have to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'query> {
    pub(crate) zone: &'query str,
    /// Windows that overlap it, microseconds since 1970.
    pub(crate) window: (i64, i64),
    pub(crate) units: &'query [u32],
    /// The numbers, not only bands.
    pub(crate) exact: bool,
}

/// The bytes of one connection.
#[derive(Debug)]
pub(crate) struct Buffers {
    encoder: Encoder,
    /// What is to be written.
    pub(crate) output: Vec<u8>,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffers {
    /// `input_size_bytes` is room for the largest answer.
    pub(crate) fn new(input_size_bytes: usize) -> Self {
        Self {
            encoder: Encoder::new(),
            output: Vec::new(),
            input: vec![0; input_size_bytes],
            start: 0,
            end: 0,
        }
    }

    /// Adds the first frame of a connection.
    pub(crate) fn add_hello(&mut self) -> Result<()> {
        self.encoder.table(
            &mut self.output,
            Head::request(Operation::Hello, CorrelationId(1)),
            |builder| {
                let client = Some(builder.create_string(concat!("plimsoll-loadtest ", env!("CARGO_PKG_VERSION"))));
                let args = wire::HelloArgs {
                    version_min: VERSION,
                    version_max: VERSION,
                    client,
                    credentials: None,
                };
                wire::Hello::create(builder, &args)
            },
        )?;
        Ok(())
    }

    /// Adds a frame of commands; `units` are those of the commands that take some.
    pub(crate) fn add_commands(&mut self, correlation: u64, commands: &[wire::Command], units: &[u32]) -> Result<()> {
        let commands = Commands {
            commands,
            units,
            traceparent: None,
        };
        self.encoder.commands(
            &mut self.output,
            CorrelationId(correlation),
            commands,
            std::iter::empty(),
        )?;
        Ok(())
    }

    /// Adds a query of availability.
    pub(crate) fn add_query(&mut self, correlation: u64, asked: Asked<'_>) -> Result<()> {
        let head = Head::request(Operation::Availability, CorrelationId(correlation));
        self.encoder.table(&mut self.output, head, |builder| {
            let args = wire::AvailabilityQueryArgs {
                zone: Some(builder.create_string(asked.zone)),
                from: asked.window.0,
                to: asked.window.1,
                units: Some(builder.create_vector(asked.units)),
                exact: asked.exact,
                ..wire::AvailabilityQueryArgs::default()
            };
            wire::AvailabilityQuery::create(builder, &args)
        })?;
        Ok(())
    }

    /// Where the next bytes that arrive belong.
    pub(crate) fn room(&mut self) -> Result<&mut [u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            bail!("a frame of more than {} bytes answers one request", self.input.len());
        }
        Ok(&mut self.input[self.end..])
    }

    /// So many bytes have arrived.
    pub(crate) fn arrived(&mut self, size: usize) {
        self.end += size;
    }

    /// The next frame of what has been read, if all of it is there.
    pub(crate) fn take_frame(&mut self) -> Result<Option<Frame<'_>>> {
        match frame::decode(&self.input[self.start..self.end])? {
            Decoded::Frame(frame) => {
                self.start += frame.header.size as usize;
                Ok(Some(frame))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn has_frame(&self) -> Result<bool> {
        let decoded = frame::decode(&self.input[self.start..self.end])?;
        Ok(matches!(decoded, Decoded::Frame(_)))
    }
}

/// Checks the answer to hello.
pub(crate) fn check_welcome(frame: Frame<'_>) -> Result<()> {
    if !frame.header.status.is_ok() {
        bail!("refused with {}", frame.header.status);
    }
    payload::table::<wire::Welcome>("Welcome", frame.payload)?;
    Ok(())
}
