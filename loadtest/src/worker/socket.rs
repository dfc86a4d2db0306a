//! A socket of the harness's own: nothing is allocated, queued or woken for a frame.

use anyhow::{Context, Result, bail};
use plimsoll_client::protocol::frame::Frame;
use plimsoll_client::protocol::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::buffers::{Asked, Buffers, INPUT_SIZE_BYTES, check_welcome};

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffers: Buffers,
}

impl Socket {
    pub(super) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut socket = Self {
            stream,
            buffers: Buffers::new(INPUT_SIZE_BYTES),
        };
        socket
            .say_hello()
            .await
            .context("the server did not welcome the harness")?;
        Ok(socket)
    }

    async fn say_hello(&mut self) -> Result<()> {
        self.buffers.add_hello()?;
        self.write().await?;
        check_welcome(self.next_frame().await?)
    }

    /// Adds a frame of one command to what is written next.
    pub(super) fn add_command(&mut self, correlation: u64, command: wire::Command, units: &[u32]) -> Result<()> {
        let units = if command.takes_units() { units } else { &[] };
        self.buffers.add_commands(correlation, &[command], units)
    }

    /// A query of availability as the bytes of a frame.
    pub(super) fn encode_query(&mut self, correlation: u64, asked: Asked<'_>) -> Result<Vec<u8>> {
        let before = self.buffers.output.len();
        self.buffers.add_query(correlation, asked)?;
        Ok(self.buffers.output.split_off(before))
    }

    /// Adds a frame that was encoded before to what is written next.
    pub(super) fn add_frame(&mut self, bytes: &[u8]) {
        self.buffers.output.extend_from_slice(bytes);
    }

    pub(super) async fn write(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.buffers.output)
            .await
            .context("cannot write to the server")?;
        self.buffers.output.clear();
        Ok(())
    }

    /// Reads what has arrived, at least a byte.
    pub(super) async fn read(&mut self) -> Result<()> {
        let size = self
            .stream
            .read(self.buffers.room()?)
            .await
            .context("cannot read from the server")?;
        if size == 0 {
            bail!("the server closed the connection");
        }
        self.buffers.arrived(size);
        Ok(())
    }

    /// The next frame of what has been read, if all of it is there.
    pub(super) fn take_frame(&mut self) -> Result<Option<Frame<'_>>> {
        self.buffers.take_frame()
    }

    /// Waits for the next frame.
    pub(super) async fn next_frame(&mut self) -> Result<Frame<'_>> {
        while !self.buffers.has_frame()? {
            self.read().await?;
        }
        self.take_frame()?.context("the frame was there")
    }
}
