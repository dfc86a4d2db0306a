//! A socket of the harness's own: nothing is allocated, queued or woken for a frame.
//!
//! - `input[start..end]` is what was read and not used; it begins at a frame.

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::frame::{self, Decoded, Frame, Head};
use plimsoll_client::protocol::{Commands, CorrelationId, Encoder, Operation, VERSION, payload, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for the answers of many frames; one answer of one command takes about 120 bytes, one of a query below 1 KiB.
const INPUT_SIZE_BYTES: usize = 64 * 1024;

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    encoder: Encoder,
    output: Vec<u8>,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a query asks for, beside the units that have to fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'query> {
    pub(super) zone: &'query str,
    /// Windows that overlap it, microseconds since 1970.
    pub(super) window: (i64, i64),
    pub(super) units: &'query [u32],
    /// The numbers, not only bands.
    pub(super) exact: bool,
}

impl Socket {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut socket = Self {
            stream,
            encoder: Encoder::new(),
            output: Vec::new(),
            input: vec![0; INPUT_SIZE_BYTES],
            start: 0,
            end: 0,
        };
        socket
            .say_hello()
            .await
            .context("the server did not welcome the harness")?;
        Ok(socket)
    }

    async fn say_hello(&mut self) -> Result<()> {
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
        self.write().await?;
        let frame = self.next_frame().await?;
        if !frame.header.status.is_ok() {
            bail!("refused with {}", frame.header.status);
        }
        payload::table::<wire::Welcome>("Welcome", frame.payload)?;
        Ok(())
    }

    /// Adds a frame of one command to what is written next.
    pub(super) fn add_command(&mut self, correlation: u64, command: wire::Command, units: &[u32]) -> Result<()> {
        let commands = Commands {
            commands: &[command],
            units: if command.takes_units() { units } else { &[] },
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

    /// A query of availability as the bytes of a frame.
    pub(super) fn encode_query(&mut self, correlation: u64, asked: Asked<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let head = Head::request(Operation::Availability, CorrelationId(correlation));
        self.encoder.table(&mut bytes, head, |builder| {
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
        Ok(bytes)
    }

    /// Adds a frame that was encoded before to what is written next.
    pub(super) fn add_frame(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    pub(super) async fn write(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.output)
            .await
            .context("cannot write to the server")?;
        self.output.clear();
        Ok(())
    }

    /// Reads what has arrived, at least a byte.
    pub(super) async fn read(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            bail!("a frame of more than {INPUT_SIZE_BYTES} bytes answers one request");
        }
        let size = self
            .stream
            .read(&mut self.input[self.end..])
            .await
            .context("cannot read from the server")?;
        if size == 0 {
            bail!("the server closed the connection");
        }
        self.end += size;
        Ok(())
    }

    /// The next frame of what has been read, if all of it is there.
    pub(super) fn take_frame(&mut self) -> Result<Option<Frame<'_>>> {
        match frame::decode(&self.input[self.start..self.end])? {
            Decoded::Frame(frame) => {
                self.start += frame.header.size as usize;
                Ok(Some(frame))
            }
            _ => Ok(None),
        }
    }

    /// Waits for the next frame.
    pub(super) async fn next_frame(&mut self) -> Result<Frame<'_>> {
        while !self.has_frame()? {
            self.read().await?;
        }
        self.take_frame()?.context("the frame was there")
    }

    fn has_frame(&self) -> Result<bool> {
        let decoded = frame::decode(&self.input[self.start..self.end])?;
        Ok(matches!(decoded, Decoded::Frame(_)))
    }
}
