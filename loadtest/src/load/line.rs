//! A connection that never blocks: what the kernel does not take at once is written later.
//!
//! - `output[written..]` of the buffers has not been taken by the kernel.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::worker::buffers::{Buffers, INPUT_SIZE_BYTES, check_welcome};

/// How long the answer to hello may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How large an answer may be: the largest frame of the protocol, when frames have many commands.
const LARGE_INPUT_SIZE_BYTES: usize = plimsoll_client::protocol::limits::FRAME_SIZE_BYTES_MAX as usize * 2;

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: TcpStream,
    pub(super) buffers: Buffers,
    written: usize,
}

impl Line {
    /// Connects and says hello, which blocks.
    pub(super) fn open(address: &str, commands_per_frame: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let size = if commands_per_frame > 1 {
            LARGE_INPUT_SIZE_BYTES
        } else {
            INPUT_SIZE_BYTES
        };
        let mut line = Self {
            stream,
            buffers: Buffers::new(size),
            written: 0,
        };
        line.say_hello().context("the server did not welcome the harness")?;
        line.stream.set_nonblocking(true)?;
        Ok(line)
    }

    fn say_hello(&mut self) -> Result<()> {
        self.buffers.add_hello()?;
        self.stream.write_all(&self.buffers.output)?;
        self.buffers.output.clear();
        while !self.buffers.has_frame()? {
            let size = self.stream.read(self.buffers.room()?)?;
            if size == 0 {
                bail!("the server closed the connection");
            }
            self.buffers.arrived(size);
        }
        check_welcome(self.buffers.take_frame()?.context("the frame was there")?)
    }

    /// Whether something waits to be written.
    pub(super) fn has_output(&self) -> bool {
        !self.buffers.output.is_empty()
    }

    /// Writes as much as the kernel takes.
    pub(super) fn write(&mut self) -> Result<()> {
        while self.written < self.buffers.output.len() {
            match self.stream.write(&self.buffers.output[self.written..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(size) => self.written += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write to the server"),
            }
        }
        self.buffers.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has arrived; false when there is nothing.
    pub(super) fn read(&mut self) -> Result<bool> {
        loop {
            match self.stream.read(self.buffers.room()?) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(size) => {
                    self.buffers.arrived(size);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read from the server"),
            }
        }
    }
}
