//! One client's connection, on the core that accepted it.
//!
//! Invariants:
//! - Frames are taken in the order in which they arrive, and none while too much of this connection is unanswered or unsent.
//! - What is in `unsent` is whole frames, of which the first `sent` bytes are on their way.
//! - `holding` counts the buffers, and the answers that are still to come.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plimsoll_protocol::frame::{self, Frame, Header};
use plimsoll_protocol::limits::FRAME_HEADER_SIZE_BYTES;
use plimsoll_protocol::{Operation, Status};

use crate::connections::{Connections, Overdue, Place};
use crate::core::Core;
use crate::limits::{
    BYTES_PER_TURN_MAX, FRAME_SIZE_BEFORE_HELLO_MAX, FRAMES_PER_TURN_MAX, RARE_FRAME_WEIGHT, REQUEST_WEIGHT,
    SENT_KEPT_SIZE_MAX, UNSENT_SIZE_MAX,
};
use crate::memory::Holding;
use crate::options::ConnectionOptions;
use crate::receive::Received;
use crate::runtime::{Signal, Stream};

/// A connection on which nothing arrived for so long gives its buffers up.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    stream: Stream,
    /// Answers that are not sent yet.
    pub(crate) unsent: RefCell<Vec<u8>>,
    sent: Cell<usize>,
    /// The size of `unsent` that `holding` counts.
    unsent_counted: Cell<usize>,
    received: RefCell<Received>,
    holding: Holding,
    connections: Rc<Connections>,
    _place: Place,
    accepted_at: Instant,
    /// When something arrived last.
    active_at: Cell<Instant>,
    /// When the frame began that has arrived in part.
    frame_since: Cell<Option<Instant>>,
    /// When the socket last took something of what waits for it.
    blocked_since: Cell<Option<Instant>>,
    turn: Turn,
    is_in_line: Cell<bool>,
    /// The reader waits for the window or its turn.
    is_held_back: Cell<bool>,
    /// Commands, and requests of rare operations, that are not answered yet.
    in_flight: Cell<usize>,
    /// Those of them that ask for history.
    pub(crate) history_in_flight: Cell<usize>,
    is_dirty: Cell<bool>,
    /// The writing task waits for the socket: nobody else may write, since the runtime then forgets whom to wake.
    is_writing: Cell<bool>,
    pub(crate) is_welcome: Cell<bool>,
    /// What arrived last were questions for statistics and nothing else.
    has_only_watched: Cell<bool>,
    /// No frame is read any more; what is in flight is still answered.
    is_closing: Cell<bool>,
    /// The same, for other threads; made when the first one wants to know.
    closing_flag: OnceCell<Arc<AtomicBool>>,
    /// The socket failed; nothing is sent any more.
    is_broken: Cell<bool>,
    reader: Signal,
    writer: Signal,
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: SocketAddr, place: Place, connections: &Rc<Connections>) -> Connection {
        let now = Instant::now();
        Connection {
            peer,
            stream,
            unsent: RefCell::new(Vec::new()),
            sent: Cell::new(0),
            unsent_counted: Cell::new(0),
            received: RefCell::default(),
            holding: Holding::new(Rc::clone(&connections.memory)),
            connections: Rc::clone(connections),
            _place: place,
            accepted_at: now,
            active_at: Cell::new(now),
            frame_since: Cell::new(None),
            blocked_since: Cell::new(None),
            turn: Turn::default(),
            is_in_line: Cell::new(false),
            is_held_back: Cell::new(false),
            in_flight: Cell::new(0),
            history_in_flight: Cell::new(0),
            is_dirty: Cell::new(false),
            is_writing: Cell::new(false),
            is_welcome: Cell::new(false),
            has_only_watched: Cell::new(false),
            is_closing: Cell::new(false),
            closing_flag: OnceCell::new(),
            is_broken: Cell::new(false),
            reader: Signal::default(),
            writer: Signal::default(),
        }
    }

    /// Whether the connection may hold so much more.
    pub(crate) fn may_hold(&self, size: usize) -> bool {
        self.holding.fits(size)
    }

    /// A request of a rare operation was accepted; `weight` is what it takes of the window.
    pub(crate) fn add_in_flight(&self, weight: usize) {
        debug_assert_eq!(weight, REQUEST_WEIGHT);
        self.holding.take_request();
        self.in_flight.set(self.in_flight.get() + weight);
    }

    pub(crate) fn answered(&self, weight: usize) {
        self.holding.give_back_request();
        self.take_from_window(weight);
    }

    /// Commands were accepted, whose outcomes will take so many bytes.
    pub(crate) fn add_commands(&self, count: usize, answer_size: usize) {
        self.holding.take(answer_size);
        let accepted = &self.connections.accepted_commands;
        accepted.set(accepted.get() + count);
        self.in_flight.set(self.in_flight.get() + count);
    }

    pub(crate) fn commands_answered(&self, count: usize, answer_size: usize) {
        self.holding.give_back(answer_size);
        let accepted = &self.connections.accepted_commands;
        accepted.set(accepted.get() - count);
        self.take_from_window(count);
    }

    fn take_from_window(&self, count: usize) {
        let before = self.in_flight.get();
        self.in_flight.set(before - count);
        if self.is_held_back.get() {
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
        let unsent = self.unsent.borrow().len() - self.sent.get();
        let unsent_max = self.connections.memory.share().min(UNSENT_SIZE_MAX);
        self.in_flight.get() >= self.connections.window() || unsent >= unsent_max
    }

    fn set_closing(&self) {
        self.is_closing.set(true);
        if let Some(flag) = self.closing_flag.get() {
            flag.store(true, Ordering::Release);
        }
    }

    /// Says to another thread when the client has gone away, or the connection closes.
    pub(crate) fn closing_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(
            self.closing_flag
                .get_or_init(|| Arc::new(AtomicBool::new(self.is_closing.get()))),
        )
    }

    /// Reads no further frame; what is in flight is answered, then the socket is closed.
    pub(crate) fn close(&self) {
        self.set_closing();
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
        while self.sent.get() < unsent.len() && !self.is_broken.get() {
            match self.stream.write_now(&unsent[self.sent.get()..]) {
                Ok(0) => {
                    self.drop_sent(&mut unsent);
                    self.blocked_since.set(Some(self.connections.now.get()));
                    self.is_writing.set(true);
                    self.writer.notify();
                    return;
                }
                Ok(count) => self.sent.set(self.sent.get() + count),
                Err(_) => self.abandon(),
            }
        }
        self.drop_sent(&mut unsent);
        if self.is_held_back.get() {
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
            let is_tight = self.holding.memory().is_tight();
            unsent.clear();
            unsent.shrink_to(if is_tight { 0 } else { SENT_KEPT_SIZE_MAX });
            self.sent.set(0);
        } else if sent >= SENT_KEPT_SIZE_MAX && sent >= unsent.len() / 2 {
            unsent.drain(..sent);
            self.sent.set(0);
        }
        self.count_unsent(unsent);
    }

    fn count_unsent(&self, unsent: &Vec<u8>) {
        let counted = self.unsent_counted.replace(unsent.capacity());
        self.holding.resize(counted, unsent.capacity());
    }

    /// The socket failed, or is given up: whatever is unsent stays so.
    pub(crate) fn abandon(&self) {
        self.is_broken.set(true);
        self.set_closing();
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
                let polled = match &unsent[self.sent.get()..] {
                    [] => return Poll::Ready(None),
                    rest => self.stream.poll_write(context, rest).map(Some),
                };
                // A socket that never takes anything must not keep an abandoned connection.
                while polled.is_pending() && self.writer.poll(context).is_ready() {
                    if self.is_broken.get() {
                        return Poll::Ready(None);
                    }
                }
                polled
            })
            .await;
            match written {
                None if self.is_broken.get() => return,
                None => {
                    self.is_writing.set(false);
                    self.blocked_since.set(None);
                    self.writer.wait().await;
                }
                Some(Ok(count)) if count > 0 => {
                    self.sent.set(self.sent.get() + count);
                    self.blocked_since.set(Some(self.connections.now.get()));
                    self.drop_sent(&mut self.unsent.borrow_mut());
                    self.reader.notify();
                }
                Some(_) => self.abandon(),
            }
        }
    }

    /// Reads frames until the client or the server closes.
    pub(crate) async fn read(self: Rc<Connection>, core: Rc<Core>) {
        while !self.is_closing.get() {
            if self.is_past_window() {
                self.is_held_back.set(true);
                self.reader.wait().await;
                self.resume();
            } else if self.turn.is_over() {
                self.wait_for_turn().await;
            } else if self.received.borrow().is_unseen() {
                let received = &mut *self.received.borrow_mut();
                let taken = self.take_arrived(&core, received.filled(), received.skip, received.capacity());
                received.skip = taken.skip;
                received.wanted = taken.wanted;
                received.consume(taken.size, &self.holding);
            } else {
                match self.fill(&core).await {
                    // Whoever watches a server that rests does not keep it awake.
                    Ok(count) if count > 0 => {
                        if !self.has_only_watched.take() {
                            core.something_arrived();
                        }
                    }
                    Ok(_) | Err(_) => break,
                }
            }
        }
        self.close();
        self.received.borrow_mut().discard(&self.holding);
    }

    /// Frames are not read for a while: the time does not count as the client's.
    fn resume(&self) {
        self.is_held_back.set(false);
        self.turn.begin();
        if self.frame_since.get().is_some() {
            self.frame_since.set(Some(self.connections.now.get()));
        }
    }

    /// Lets the core's other connections go first.
    async fn wait_for_turn(self: &Rc<Connection>) {
        self.is_held_back.set(true);
        if !self.is_in_line.replace(true) {
            self.connections.line_up(self);
        }
        while self.is_in_line.get() && !self.is_closing.get() {
            self.reader.wait().await;
        }
        self.resume();
    }

    /// Its turn has come.
    pub(crate) fn begin_turn(&self) {
        self.is_in_line.set(false);
        self.reader.notify();
    }

    /// Takes the frames at the beginning of what has arrived, and refuses from its header one that does not fit. `kept_size` is what the connection's own
    /// buffer can hold already.
    fn take_arrived(self: &Rc<Connection>, core: &Core, bytes: &[u8], skip: usize, kept_size: usize) -> Taken {
        let mut taken = Taken {
            size: 0,
            skip,
            wanted: 0,
        };
        let mut has_taken = false;
        let mut is_watching = true;
        loop {
            let rest = &bytes[taken.size..];
            if taken.skip > 0 && !rest.is_empty() {
                let skipped = taken.skip.min(rest.len());
                taken.skip -= skipped;
                taken.size += skipped;
                self.turn.count(0, skipped);
                continue;
            }
            if self.is_closing.get() || self.is_past_window() || self.turn.is_over() {
                break;
            }
            let header = match frame::header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => {
                    taken.wanted = FRAME_HEADER_SIZE_BYTES;
                    break;
                }
                Err(error) => {
                    self.say_farewell(core, error.status(), &error.to_string());
                    break;
                }
            };
            let size = header.size as usize;
            if !self.is_welcome.get() && header.size > FRAME_SIZE_BEFORE_HELLO_MAX {
                let detail = format!("at most {FRAME_SIZE_BEFORE_HELLO_MAX} bytes before hello, found {size}");
                self.say_farewell(core, Status::FrameTooLarge, &detail);
                break;
            }
            if let Some(payload) = rest.get(FRAME_HEADER_SIZE_BYTES..size) {
                core.take_frame(self, &Frame { header, payload });
                taken.size += size;
                self.turn.count(turn_weight(&header), size);
            } else if let Err(refused) = core.admit(self, &header, size.saturating_sub(kept_size)) {
                core.refuse(self, &header, refused);
                taken.skip = size;
                self.turn.count(1, 0);
            } else {
                taken.wanted = size;
                break;
            }
            has_taken = true;
            is_watching &= header.operation == Operation::Stats.number();
        }
        let is_partial = taken.skip > 0 || taken.size < bytes.len();
        self.has_only_watched.set(has_taken && is_watching && !is_partial);
        if !is_partial {
            self.frame_since.set(None);
        } else if has_taken || self.frame_since.get().is_none() {
            self.frame_since.set(Some(self.connections.now.get()));
        }
        taken
    }

    /// The last answer: a stream whose headers cannot be read cannot be followed any more.
    fn say_farewell(self: &Rc<Connection>, core: &Core, status: Status, detail: &str) {
        core.say_farewell(self, status, detail);
        tracing::debug!(peer = %self.peer, %status, detail, "connection closed");
        self.set_closing();
    }

    /// Reads once; 0 when the connection is closed.
    async fn fill(self: &Rc<Connection>, core: &Core) -> io::Result<usize> {
        poll_fn(|context| {
            if self.is_closing.get() {
                return Poll::Ready(Ok(0));
            }
            if let Poll::Ready(result) = self.poll_fill(context, core) {
                return Poll::Ready(result.inspect(|_| self.active_at.set(self.connections.now.get())));
            }
            self.turn.begin();
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

    fn poll_fill(self: &Rc<Connection>, context: &mut Context<'_>, core: &Core) -> Poll<io::Result<usize>> {
        let received = &mut *self.received.borrow_mut();
        if received.is_large() {
            let polled = self.stream.poll_read(context, received.free(&self.holding));
            return polled.map_ok(|count| {
                received.arrived(count);
                count
            });
        }
        let shared = &mut *self.connections.shared_buffer.borrow_mut();
        let kept = received.copy_to(shared);
        // What cannot be taken at once is kept: no more than the connection may hold.
        let size_max = self.connections.memory.share();
        let end = shared.len().min(kept + size_max);
        let polled = self.stream.poll_read(context, &mut shared[kept..end]);
        polled.map_ok(|count| {
            let arrived = &shared[..kept + count];
            let taken = self.take_arrived(core, arrived, received.skip, received.capacity());
            received.skip = taken.skip;
            received.wanted = taken.wanted;
            received.keep(&arrived[taken.size..], &self.holding);
            count
        })
    }

    /// What this connection has taken too long for.
    pub(crate) fn overdue(&self, options: &ConnectionOptions, now: Instant) -> Option<Overdue> {
        if self.is_broken.get() {
            return None;
        }
        let has_passed = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        if self
            .blocked_since
            .get()
            .is_some_and(|since| has_passed(since, options.write_timeout))
        {
            return Some(Overdue::Answers);
        }
        if self.is_closing.get() || self.is_held_back.get() {
            return None;
        }
        if !self.is_welcome.get() && has_passed(self.accepted_at, options.handshake_timeout) {
            return Some(Overdue::Hello);
        }
        match self.frame_since.get() {
            Some(since) => has_passed(since, options.frame_timeout).then_some(Overdue::Frame),
            None => {
                let is_idle = options
                    .idle_timeout
                    .is_some_and(|limit| has_passed(self.active_at.get(), limit) && self.is_settled());
                is_idle.then_some(Overdue::Request)
            }
        }
    }

    /// Frees the buffers of a connection that rests.
    pub(crate) fn release_unused(&self, now: Instant) {
        if now.saturating_duration_since(self.active_at.get()) < RESTS_AFTER {
            return;
        }
        self.received.borrow_mut().release(&self.holding);
        let mut unsent = self.unsent.borrow_mut();
        if unsent.is_empty() {
            unsent.shrink_to(0);
            self.count_unsent(&unsent);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.removed();
    }
}

/// What a frame counts as in its connection's turn: what is not a command or a ping is decoded, and often answered, at length.
fn turn_weight(header: &Header) -> usize {
    match header.operation() {
        None | Some(Operation::Commands | Operation::Ping | Operation::Hello) => 1,
        Some(_) => RARE_FRAME_WEIGHT,
    }
}

/// What was taken of what has arrived.
struct Taken {
    size: usize,
    skip: usize,
    wanted: usize,
}

/// What a connection has taken since it last waited.
#[derive(Default)]
struct Turn {
    frames: Cell<usize>,
    bytes: Cell<usize>,
}

impl Turn {
    fn begin(&self) {
        self.frames.set(0);
        self.bytes.set(0);
    }

    fn count(&self, frames: usize, bytes: usize) {
        self.frames.set(self.frames.get() + frames);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn is_over(&self) -> bool {
        self.frames.get() >= FRAMES_PER_TURN_MAX || self.bytes.get() >= BYTES_PER_TURN_MAX
    }
}
