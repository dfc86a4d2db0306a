//! One client's connection, on the core that accepted it.
//!
//! Invariants:
//! - Frames are taken in the order in which they arrive, and none while too much of this connection is unanswered or unsent.
//! - What is in `unsent` is whole frames, of which the first `sent` bytes are on their way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use plimsoll_protocol::frame::{self, Decoded, Head};
use plimsoll_protocol::limits::FRAME_HEADER_SIZE_BYTES;
use plimsoll_protocol::{Encoder, Status};

use crate::core::Core;
use crate::limits::{
    FRAME_SIZE_BEFORE_HELLO_MAX, RECEIVE_BUFFER_SIZE, SENT_KEPT_SIZE_MAX, UNSENT_SIZE_MAX, WINDOW_COMMANDS,
};
use crate::runtime::{Signal, Stream};

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    stream: Stream,
    /// Answers that are not sent yet.
    pub(crate) unsent: RefCell<Vec<u8>>,
    sent: Cell<usize>,
    /// Commands, and requests of rare operations, that are not answered yet.
    in_flight: Cell<usize>,
    is_dirty: Cell<bool>,
    /// The writing task waits for the socket: nobody else may write, since the runtime then forgets whom to wake.
    is_writing: Cell<bool>,
    pub(crate) is_welcome: Cell<bool>,
    /// No frame is read any more; what is in flight is still answered.
    is_closing: Cell<bool>,
    /// The socket failed; nothing is sent any more.
    is_broken: Cell<bool>,
    reader: Signal,
    writer: Signal,
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: SocketAddr) -> Connection {
        Connection {
            peer,
            stream,
            unsent: RefCell::new(Vec::new()),
            sent: Cell::new(0),
            in_flight: Cell::new(0),
            is_dirty: Cell::new(false),
            is_writing: Cell::new(false),
            is_welcome: Cell::new(false),
            is_closing: Cell::new(false),
            is_broken: Cell::new(false),
            reader: Signal::default(),
            writer: Signal::default(),
        }
    }

    pub(crate) fn add_in_flight(&self, count: usize) {
        self.in_flight.set(self.in_flight.get() + count);
    }

    pub(crate) fn answered(&self, count: usize) {
        let before = self.in_flight.get();
        self.in_flight.set(before - count);
        if before >= WINDOW_COMMANDS && before - count < WINDOW_COMMANDS {
            self.reader.notify();
        }
        if self.is_closing.get() && before == count {
            self.writer.notify();
        }
    }

    /// Marks that answers are waiting; true when it was not marked yet.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.is_dirty.replace(true)
    }

    fn is_past_window(&self) -> bool {
        self.in_flight.get() >= WINDOW_COMMANDS || self.unsent.borrow().len() - self.sent.get() >= UNSENT_SIZE_MAX
    }

    /// Reads no further frame; what is in flight is answered, then the socket is closed.
    pub(crate) fn close(&self) {
        self.is_closing.set(true);
        self.reader.notify();
        self.writer.notify();
    }

    /// Whether everything that was accepted from here is answered and sent, or can never be.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_broken.get() || (self.in_flight.get() == 0 && self.unsent.borrow().len() == self.sent.get())
    }

    /// Sends what the socket takes at once, and leaves the rest to the writing task.
    pub(crate) fn flush(&self) {
        self.is_dirty.set(false);
        if self.is_writing.get() {
            return;
        }
        let mut unsent = self.unsent.borrow_mut();
        let was_past_limit = unsent.len() - self.sent.get() >= UNSENT_SIZE_MAX;
        while self.sent.get() < unsent.len() && !self.is_broken.get() {
            match self.stream.write_now(&unsent[self.sent.get()..]) {
                Ok(0) => {
                    self.drop_sent(&mut unsent);
                    self.is_writing.set(true);
                    self.writer.notify();
                    return;
                }
                Ok(count) => self.sent.set(self.sent.get() + count),
                Err(_) => self.abandon(),
            }
        }
        self.drop_sent(&mut unsent);
        if was_past_limit {
            self.reader.notify();
        }
        if self.is_closing.get() {
            self.writer.notify();
        }
    }

    /// Frees what is sent: at once when that is everything, else when it is much.
    fn drop_sent(&self, unsent: &mut Vec<u8>) {
        let sent = self.sent.get();
        if sent == unsent.len() {
            unsent.clear();
            unsent.shrink_to(SENT_KEPT_SIZE_MAX);
        } else if sent >= SENT_KEPT_SIZE_MAX && sent >= unsent.len() / 2 {
            unsent.drain(..sent);
        } else {
            return;
        }
        self.sent.set(0);
    }

    /// The socket failed, or is given up: whatever is unsent stays so.
    pub(crate) fn abandon(&self) {
        self.is_broken.set(true);
        self.is_closing.set(true);
        self.reader.notify();
        self.writer.notify();
    }

    /// Sends what `flush` could not; ends when the connection is closed and settled.
    pub(crate) async fn write(self: Rc<Connection>) {
        loop {
            if self.is_broken.get() || (self.is_closing.get() && self.is_settled()) {
                return;
            }
            self.is_writing.set(true);
            let written = poll_fn(|context| {
                let unsent = self.unsent.borrow();
                match &unsent[self.sent.get()..] {
                    [] => Poll::Ready(None),
                    rest => self.stream.poll_write(context, rest).map(Some),
                }
            })
            .await;
            match written {
                None => {
                    self.is_writing.set(false);
                    self.writer.wait().await;
                }
                Some(Ok(count)) if count > 0 => {
                    self.sent.set(self.sent.get() + count);
                    self.drop_sent(&mut self.unsent.borrow_mut());
                    self.reader.notify();
                }
                Some(_) => self.abandon(),
            }
        }
    }

    /// Reads frames until the client or the server closes.
    pub(crate) async fn read(self: Rc<Connection>, core: Rc<Core>) {
        let mut buffer = ReceiveBuffer::new();
        while !self.is_closing.get() {
            if self.is_past_window() {
                self.reader.wait().await;
                continue;
            }
            match frame::decode(buffer.filled()) {
                Ok(Decoded::Frame(frame)) => {
                    let size = frame.header.size as usize;
                    core.take_frame(&self, &frame);
                    buffer.consume(size);
                }
                Ok(Decoded::NeedMore { size_min })
                    if !self.is_welcome.get() && size_min > FRAME_SIZE_BEFORE_HELLO_MAX as usize =>
                {
                    let detail = format!("at most {FRAME_SIZE_BEFORE_HELLO_MAX} bytes before hello, found {size_min}");
                    self.say_farewell(Status::FrameTooLarge, &detail);
                    core.wants_flush(&self);
                }
                Ok(Decoded::NeedMore { size_min }) => {
                    buffer.make_room(size_min);
                    match self.fill(&mut buffer).await {
                        Ok(count) if count > 0 => core.something_arrived(),
                        Ok(_) | Err(_) => break,
                    }
                }
                Err(error) => {
                    self.say_farewell(error.status(), &error.to_string());
                    core.wants_flush(&self);
                }
            }
        }
        self.close();
    }

    /// The last answer: a stream whose headers cannot be read cannot be followed any more.
    fn say_farewell(&self, status: Status, detail: &str) {
        Encoder::new().failure(&mut self.unsent.borrow_mut(), Head::farewell(), status, detail);
        tracing::debug!(peer = %self.peer, %status, detail, "connection closed");
        self.is_closing.set(true);
    }

    /// Reads once; 0 when the connection is closed.
    async fn fill(&self, buffer: &mut ReceiveBuffer) -> io::Result<usize> {
        poll_fn(|context| {
            if self.is_closing.get() {
                return Poll::Ready(Ok(0));
            }
            if let Poll::Ready(result) = self.stream.poll_read(context, buffer.free()) {
                return Poll::Ready(result.inspect(|count| buffer.filled += count));
            }
            // A notification only says that it is time to look at `is_closing` again.
            while self.reader.poll(context).is_ready() {
                if self.is_closing.get() {
                    return Poll::Ready(Ok(0));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What has arrived and is not taken yet.
struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
}

impl ReceiveBuffer {
    fn new() -> ReceiveBuffer {
        ReceiveBuffer {
            bytes: vec![0; RECEIVE_BUFFER_SIZE],
            start: 0,
            filled: 0,
        }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }

    fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    fn consume(&mut self, size: usize) {
        self.start += size;
        if self.start == self.filled {
            self.start = 0;
            self.filled = 0;
        }
    }

    /// Makes room for a frame of this size, and for a little more so that a read never gets an empty slice.
    fn make_room(&mut self, size: usize) {
        let wanted = size.max(FRAME_HEADER_SIZE_BYTES);
        if self.start > 0 && self.bytes.len() - self.start < wanted.max(RECEIVE_BUFFER_SIZE / 2) {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.start < wanted {
            self.bytes
                .resize((self.start + wanted).next_multiple_of(RECEIVE_BUFFER_SIZE), 0);
        }
    }
}
