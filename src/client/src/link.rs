//! The callers' end of a connection: its queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use plimsoll_protocol::Header;
use plimsoll_protocol::limits::FRAME_HEADER_SIZE_BYTES;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::directory::{Epoch, Shared};
use crate::driver::Driver;
use crate::error::{ConnectError, Error};
use crate::limits::QUEUE_SLOT_SIZE_BYTES;
use crate::request::{CommandReply, CommandRequest, FrameReply, FrameRequest, Request};

/// What a connection's task lets its callers see.
#[derive(Debug, Default)]
pub(crate) struct LinkState {
    pub(crate) connected: AtomicBool,
    last_error: Mutex<Option<Arc<ConnectError>>>,
}

impl LinkState {
    pub(crate) fn failed(&self, error: Arc<ConnectError>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn last_error(&self) -> Option<Arc<ConnectError>> {
        if self.connected.load(Ordering::Relaxed) {
            return None;
        }
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The callers' end of a connection. Dropping it ends the connection's task.
#[derive(Debug)]
pub(crate) struct Link {
    queue: mpsc::Sender<Request>,
    /// What whole frames may take of the queue; commands are bounded by the channel itself.
    permits: Arc<Semaphore>,
    commands_max: usize,
    pub(crate) state: Arc<LinkState>,
}

impl Link {
    /// Starts the connection's task. `first` is told how the first attempt to connect went.
    pub(crate) fn spawn(shared: &Arc<Shared>, first: Option<oneshot::Sender<Result<(), Arc<ConnectError>>>>) -> Self {
        let commands_max = shared.options.queue_commands_max;
        let (queue, receiver) = mpsc::channel(commands_max);
        let state = Arc::new(LinkState::default());
        let driver = Driver::new(Arc::clone(shared), Arc::clone(&state), receiver);
        tokio::spawn(driver.run(first));
        Self {
            queue,
            permits: Arc::new(Semaphore::new(commands_max)),
            commands_max,
            state,
        }
    }

    /// Puts a command into the queue.
    pub(crate) fn command(
        &self,
        request: impl FnOnce(oneshot::Sender<CommandReply>) -> CommandRequest,
    ) -> Result<oneshot::Receiver<CommandReply>, Error> {
        let (reply, answer) = oneshot::channel();
        self.push(Request::Command(request(reply)))?;
        Ok(answer)
    }

    /// Puts a whole frame into the queue. Its correlation id is filled in when it is sent.
    pub(crate) fn frame(
        &self,
        frame: Vec<u8>,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<FrameReply>, Error> {
        let Some(Ok(header)) = frame.first_chunk::<FRAME_HEADER_SIZE_BYTES>().map(Header::decode) else {
            // Frames come from the encoder.
            return Err(Error::Closed);
        };
        let slots = (frame.len() / QUEUE_SLOT_SIZE_BYTES + 1).min(self.commands_max) as u32;
        let permit = Arc::clone(&self.permits)
            .try_acquire_many_owned(slots)
            .map_err(|_| self.full())?;
        let (reply, answer) = oneshot::channel();
        self.push(Request::Frame(FrameRequest {
            frame,
            header,
            epoch,
            deadline,
            reply,
            permit,
        }))?;
        Ok(answer)
    }

    fn push(&self, request: Request) -> Result<(), Error> {
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => self.full(),
            TrySendError::Closed(_) => Error::Closed,
        })
    }

    fn full(&self) -> Error {
        Error::QueueFull {
            commands_max: self.commands_max,
        }
    }
}
