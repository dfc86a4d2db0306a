//! Serving a connection: gathers requests into frames, writes them, and gives out the answers.
//!
//! - The window: commands in flight never exceed what the server announced, or it would stop reading.
//! - A frame is gathered only when everything before it has been written, so that it takes what has queued meanwhile, and
//!   after the tasks that were ready beside this one had their turn: the first of many callers wakes this task, and tokio
//!   runs a woken task next.
//! - Requests are sent in the order in which they were queued.
//! - `input[start..end]` is what was read and not used; it begins at a frame.

mod answers;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use plimsoll_protocol::frame::{self, Decoded};
use plimsoll_protocol::limits::{DIMENSIONS_COUNT_MAX, FRAME_HEADER_SIZE_BYTES};
use plimsoll_protocol::{Commands, CorrelationId, Encoder, FrameError, Header, Operation, StatusNumber, wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::connecting::Connected;
use super::{Driver, Queue};
use crate::directory::Epoch;
use crate::error::{AnswerError, UnknownCause};
use crate::limits::{IN_SIZE_BYTES, OUT_SIZE_BYTES_TARGET, ROUNDS_MAX, TAKE_MAX};
use crate::options::Gather;
use crate::request::{CommandRequest, Failed, FrameRequest, Request, Unsent};
use crate::waiters::{Call, Waiter, Waiters};

/// What a gathered frame takes besides its vectors: header, tables, vtables, lengths and padding.
const FRAME_BASE_SIZE_BYTES: usize = 128;

/// What a reference takes besides its text.
const REFERENCE_BASE_SIZE_BYTES: usize = 40;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The callers' end is gone.
    Closed,
    /// To be made again.
    Lost(Loss),
}

/// Why a connection was lost.
#[derive(Debug)]
pub(super) enum Loss {
    /// The server closed it.
    End,
    /// The operating system says so.
    Io(io::Error),
    /// What came is no frame.
    Frame(FrameError),
    /// An answer to nothing that was asked, or no answer at all.
    Unasked(CorrelationId),
    /// The server said why it closes.
    Refused {
        status: StatusNumber,
        detail: Option<String>,
    },
    /// Nothing came for as long as a call waits.
    Silent,
    /// Another connection has seen a newer data directory.
    Outdated,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("closed by the server"),
            Self::Io(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Unasked(correlation) => write!(f, "an answer to {correlation}, which was not asked"),
            Self::Refused {
                status,
                detail: Some(detail),
            } => write!(f, "{status}: {detail}"),
            Self::Refused { status, detail: None } => status.fmt(f),
            Self::Silent => f.write_str("no answer to anything within the deadline"),
            Self::Outdated => f.write_str("made to a former data directory"),
        }
    }
}

/// What was read and not used.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// Makes room for a frame of this size at `start`, and for at least one more byte.
    fn make_room(&mut self, size: usize) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.start + size > self.bytes.len() || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if size > self.bytes.len() {
                // At most the largest frame, which is a power of two.
                self.bytes.resize(size.next_power_of_two(), 0);
            }
        }
    }
}

/// The parts of the frame that is being gathered.
#[derive(Debug, Default)]
struct Gathered {
    commands: Vec<wire::Command>,
    units: Vec<u32>,
    references: Vec<(u32, Box<str>)>,
}

/// The server's limits, and the caller's.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    dimensions: usize,
    window: usize,
    commands_max: usize,
    frame_size_max: usize,
    gather: Gather,
}

/// A connection that is being served.
pub(super) struct Serving<'driver> {
    stream: TcpStream,
    epoch: Epoch,
    bounds: Bounds,
    receiver: &'driver mut mpsc::Receiver<Request>,
    queue: &'driver mut Queue,
    encoder: &'driver mut Encoder,
    waiters: Waiters,
    gathered: Gathered,
    input: Input,
    /// Bytes that the frame at the beginning of the input has, as far as is known.
    input_size_min: usize,
    output: Vec<u8>,
    written: usize,
    /// The others had their turn since something was there to be gathered.
    has_yielded: bool,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; `None` when it has fired.
    timer_at: Option<Instant>,
    /// No call in flight has a deadline before it.
    earliest: Option<Instant>,
    read_at: Instant,
    answered: bool,
}

impl<'driver> Serving<'driver> {
    pub(super) fn new(connected: Connected, epoch: Epoch, driver: &'driver mut Driver) -> Self {
        let welcome = &connected.welcome;
        let bounds = Bounds {
            dimensions: welcome.dimensions.len(),
            window: welcome.window_commands as usize,
            commands_max: usize::from(welcome.commands_max).min(welcome.window_commands as usize),
            frame_size_max: welcome.frame_size_bytes_max as usize,
            gather: driver.shared.options.gather,
        };
        let now = Instant::now();
        Self {
            stream: connected.stream,
            epoch,
            bounds,
            receiver: &mut driver.receiver,
            queue: &mut driver.queue,
            encoder: &mut driver.encoder,
            waiters: Waiters::default(),
            gathered: Gathered::default(),
            input: Input {
                bytes: vec![0; IN_SIZE_BYTES],
                start: 0,
                end: 0,
            },
            input_size_min: FRAME_HEADER_SIZE_BYTES,
            output: Vec::new(),
            written: 0,
            has_yielded: false,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            timer_at: None,
            earliest: None,
            read_at: now,
            answered: false,
        }
    }

    /// Does what can be done now. Ready when the connection has ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..ROUNDS_MAX {
            match self.round(context) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(ended) => return Poll::Ready(ended),
            }
        }
        // Others on this thread get their turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells what was in flight that there will be no answer. Says whether there had been any on this connection.
    pub(super) fn close(mut self, ended: &Ended) -> bool {
        let cause = match ended {
            Ended::Closed => UnknownCause::Closed,
            Ended::Lost(Loss::Frame(error)) => UnknownCause::Answer(AnswerError::Frame(*error)),
            Ended::Lost(_) => UnknownCause::ConnectionLost,
        };
        self.waiters.fail_all(&cause);
        self.answered
    }

    /// One round; false when there is nothing to do until the context is woken.
    fn round(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        let read = self.poll_read(context).map_err(Ended::Lost)?;
        let taken = self.poll_take(context)?;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            if self.queue.pending.is_empty() || std::mem::take(&mut self.has_yielded) {
                self.fill().map_err(Ended::Lost)?;
            } else {
                self.has_yielded = true;
                context.waker().wake_by_ref();
                return Ok(false);
            }
        }
        let written = self.poll_write(context).map_err(Ended::Lost)?;
        let fired = self.poll_timer(context).map_err(Ended::Lost)?;
        Ok(read || taken || written || fired)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool, Loss> {
        self.input.make_room(self.input_size_min);
        let mut target = ReadBuf::new(&mut self.input.bytes[self.input.end..]);
        match Pin::new(&mut self.stream).poll_read(context, &mut target) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(Loss::Io(error)),
            Poll::Ready(Ok(())) => {
                let size = target.filled().len();
                if size == 0 {
                    return Err(Loss::End);
                }
                self.input.end += size;
                self.read_at = Instant::now();
                self.give_out()?;
                Ok(true)
            }
        }
    }

    /// Gives out the answers that have arrived in whole.
    fn give_out(&mut self) -> Result<(), Loss> {
        loop {
            let arrived = &self.input.bytes[self.input.start..self.input.end];
            match frame::decode(arrived).map_err(Loss::Frame)? {
                Decoded::NeedMore { size_min } => {
                    self.input_size_min = size_min;
                    return Ok(());
                }
                Decoded::Frame(frame) => {
                    answers::give_out(&mut self.waiters, self.bounds.dimensions, frame)?;
                    self.answered = true;
                    self.input.start += frame.header.size as usize;
                }
            }
        }
    }

    fn poll_take(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        let room = self.queue.room().min(TAKE_MAX);
        if room == 0 {
            // An answer makes room, and wakes this task.
            return Ok(false);
        }
        match self.receiver.poll_recv_many(context, &mut self.queue.arriving, room) {
            Poll::Pending => Ok(false),
            Poll::Ready(0) => Err(Ended::Closed),
            Poll::Ready(_) => {
                self.queue.settle();
                Ok(true)
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<bool, Loss> {
        if self.written == self.output.len() {
            return Ok(false);
        }
        match Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(Loss::End),
            Poll::Ready(Ok(size)) => {
                self.written += size;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(Loss::Io(error)),
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Result<bool, Loss> {
        let next = match (self.queue.earliest, self.earliest) {
            (Some(queued), Some(in_flight)) => queued.min(in_flight),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(false),
        };
        if self.timer_at.is_none_or(|at| next < at) {
            self.timer.as_mut().reset(next.into());
            self.timer_at = Some(next);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Ok(false);
        }
        self.timer_at = None;
        let now = Instant::now();
        self.queue.expire(now);
        let expired = self.waiters.expire(now);
        self.earliest = expired.earliest;
        if expired.newest_sent_at.is_some_and(|sent_at| self.read_at < sent_at) {
            return Err(Loss::Silent);
        }
        Ok(true)
    }

    /// Puts frames into the output until nothing waits, the window is full or there is enough to write.
    fn fill(&mut self) -> Result<(), Loss> {
        let now = Instant::now();
        while self.output.len() < OUT_SIZE_BYTES_TARGET {
            let Some(front) = self.queue.pending.front() else {
                return Ok(());
            };
            let epoch = match front {
                Request::Command(request) => request.epoch,
                Request::Frame(request) => request.epoch,
            };
            if epoch > self.epoch {
                return Err(Loss::Outdated);
            }
            if epoch < self.epoch {
                if let Some(request) = self.queue.pending.pop_front() {
                    request.fail(Unsent::DirectoryChanged);
                }
                continue;
            }
            let room = self.bounds.window.saturating_sub(self.waiters.commands());
            match front {
                Request::Command(_) if room == 0 => return Ok(()),
                Request::Command(_) => self.gather(room, now),
                // A frame without commands takes no room on the server, and one here so that there is a bound.
                Request::Frame(request) if room < usize::from(request.header.count).max(1) => {
                    if !self.never_fits(request) {
                        return Ok(());
                    }
                    self.take_frame(now);
                }
                Request::Frame(_) => self.take_frame(now),
            }
        }
        Ok(())
    }

    fn never_fits(&self, request: &FrameRequest) -> bool {
        usize::from(request.header.count) > self.bounds.commands_max || request.frame.len() > self.bounds.frame_size_max
    }

    /// Gathers commands from the front of the queue into one frame.
    fn gather(&mut self, room: usize, now: Instant) {
        let bounds = self.bounds;
        let commands_max = bounds.gather.commands_max.min(bounds.commands_max).min(room);
        let size_max = bounds.gather.size_bytes_max.min(bounds.frame_size_max);
        let gathered = &mut self.gathered;
        gathered.commands.clear();
        gathered.units.clear();
        gathered.references.clear();
        let mut calls = self.waiters.calls();
        let mut size = FRAME_BASE_SIZE_BYTES;
        while gathered.commands.len() < commands_max {
            let Some(Request::Command(front)) = self.queue.pending.front() else {
                break;
            };
            size += size_on_wire(front, bounds.dimensions);
            let first = gathered.commands.is_empty();
            if front.epoch != self.epoch || (size > size_max && !first) {
                break;
            }
            let Some(Request::Command(request)) = self.queue.pending.pop_front() else {
                break;
            };
            if request.reply.is_closed() {
                // The caller has gone away before anything was sent.
                continue;
            }
            self.earliest = Some(
                self.earliest
                    .map_or(request.deadline, |earliest| earliest.min(request.deadline)),
            );
            if let Some(reference) = request.reference {
                gathered.references.push((gathered.commands.len() as u32, reference));
            }
            gathered.commands.push(request.command);
            if request.command.takes_units() {
                const { assert!(DIMENSIONS_COUNT_MAX == 8) };
                gathered.units.extend_from_slice(&request.units[..bounds.dimensions]);
            }
            calls.push(Call {
                reply: Some(request.reply),
                deadline: request.deadline,
            });
        }
        if calls.is_empty() {
            return self.waiters.give_back(calls);
        }
        let count = calls.len();
        let correlation = self
            .waiters
            .insert(Waiter::Calls(calls), count, Operation::Commands.number(), now);
        let references = gathered.references.iter().map(|(command, text)| (*command, &**text));
        let batch = Commands {
            commands: &gathered.commands,
            units: &gathered.units,
            traceparent: None,
        };
        if let Err(error) = self.encoder.commands(&mut self.output, correlation, batch, references) {
            // The sizes above are upper bounds, so that only a single command can be too large.
            tracing::error!(%error, "a gathered frame does not fit");
            let Some(Waiter::Calls(calls)) = self.waiters.take(correlation).map(|in_flight| in_flight.waiter) else {
                return;
            };
            for reply in calls.into_iter().filter_map(|call| call.reply) {
                let unsent = Unsent::TooLarge {
                    size,
                    size_max: bounds.frame_size_max,
                };
                // A caller that has gone away wants no answer.
                let _ = reply.send(Err(Failed::Unsent(unsent)));
            }
        }
    }

    /// Puts the whole frame at the front of the queue into the output.
    fn take_frame(&mut self, now: Instant) {
        let Some(Request::Frame(request)) = self.queue.pending.pop_front() else {
            return;
        };
        if request.reply.is_closed() {
            return;
        }
        if self.never_fits(&request) {
            let unsent = Unsent::TooLarge {
                size: request.frame.len(),
                size_max: self.bounds.frame_size_max,
            };
            return Request::Frame(request).fail(unsent);
        }
        let FrameRequest {
            frame: buffer,
            header,
            deadline,
            reply,
            permit,
            ..
        } = request;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        let commands = usize::from(header.count).max(1);
        let start = self.output.len();
        self.output.extend_from_slice(&buffer);
        let waiter = Waiter::Frame {
            reply,
            buffer,
            deadline,
            permit,
        };
        let correlation = self.waiters.insert(waiter, commands, header.operation, now);
        self.output[start..start + FRAME_HEADER_SIZE_BYTES].copy_from_slice(&Header { correlation, ..header }.encode());
    }
}

/// What a command takes of a frame, at most.
fn size_on_wire(request: &CommandRequest, dimensions: usize) -> usize {
    let units = if request.command.takes_units() {
        dimensions * size_of::<u32>()
    } else {
        0
    };
    let reference = request
        .reference
        .as_ref()
        .map_or(0, |text| REFERENCE_BASE_SIZE_BYTES + text.len());
    size_of::<wire::Command>() + units + reference
}
