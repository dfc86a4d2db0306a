//! The task of a connection: connects, serves, and connects again.
//!
//! - `pending` holds at most `queue_commands_max` requests that have left the channel and were not sent.
//! - Nothing is sent in another epoch than its own.
//! - When a connection is lost, what was in flight is answered as lost; what was not sent stays for the next one.
//! - When the callers' end is gone, the task ends and the connection with it.

mod connecting;
mod serving;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use plimsoll_protocol::Encoder;
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

use crate::directory::{Epoch, Shared};
use crate::error::ConnectError;
use crate::link::LinkState;
use crate::request::{Request, Unsent};
use connecting::Connected;
use serving::{Ended, Serving};

/// The task of a connection.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    state: Arc<LinkState>,
    receiver: mpsc::Receiver<Request>,
    queue: Queue,
    encoder: Encoder,
}

/// What has left the channel and was not sent.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) pending: VecDeque<Request>,
    /// Where the channel puts requests, before they go to `pending`.
    arriving: Vec<Request>,
    /// No request in `pending` has a deadline before it.
    earliest: Option<Instant>,
    requests_max: usize,
}

impl Queue {
    pub(crate) fn room(&self) -> usize {
        self.requests_max.saturating_sub(self.pending.len())
    }

    /// Moves what the channel gave.
    fn settle(&mut self) {
        for request in self.arriving.drain(..) {
            let deadline = request.deadline();
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            self.pending.push_back(request);
        }
    }

    /// Answers those whose deadline passed before they were sent.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest = None;
        for _ in 0..self.pending.len() {
            let Some(request) = self.pending.pop_front() else { break };
            let deadline = request.deadline();
            if deadline <= now {
                request.fail(Unsent::Deadline);
            } else {
                self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
                self.pending.push_back(request);
            }
        }
    }
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, state: Arc<LinkState>, receiver: mpsc::Receiver<Request>) -> Self {
        let requests_max = shared.options.queue_commands_max;
        let queue = Queue {
            pending: VecDeque::new(),
            arriving: Vec::new(),
            earliest: None,
            requests_max,
        };
        Self {
            shared,
            state,
            receiver,
            queue,
            encoder: Encoder::new(),
        }
    }

    pub(crate) async fn run(mut self, mut first: Option<oneshot::Sender<Result<(), Arc<ConnectError>>>>) {
        let mut failures = 0;
        let mut lost = false;
        loop {
            let Some(connected) = self.connect(failures).await else {
                return;
            };
            let connected = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    tracing::debug!(address = %self.shared.address, %error, "no connection");
                    let error = Arc::new(error);
                    self.state.failed(Arc::clone(&error));
                    failures = failures.saturating_add(1);
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(error));
                    }
                    continue;
                }
            };
            // Before the caller is told: its first call must find the directory.
            let epoch = self.shared.welcomed(&connected.welcome);
            self.state.connected.store(true, Ordering::Relaxed);
            let server = &connected.welcome.server;
            if std::mem::take(&mut lost) {
                tracing::info!(address = %self.shared.address, %server, attempts = failures, "connected again");
            } else {
                tracing::debug!(address = %self.shared.address, %server, "connected");
            }
            if let Some(first) = first.take() {
                // The caller may have given up.
                let _ = first.send(Ok(()));
            }
            let (ended, answered) = self.serve(connected, epoch).await;
            self.state.connected.store(false, Ordering::Relaxed);
            match ended {
                Ended::Closed => return,
                Ended::Lost(reason) => {
                    tracing::warn!(address = %self.shared.address, %reason, "connection lost");
                    lost = true;
                    // A server that accepts and then closes at once is left in peace as well.
                    failures = if answered { 1 } else { failures.saturating_add(1) };
                }
            }
        }
    }

    /// Waits, connects once, and keeps the queue moving meanwhile. `None`: the callers' end is gone.
    async fn connect(&mut self, failures: u32) -> Option<Result<Connected, ConnectError>> {
        let shared = Arc::clone(&self.shared);
        let attempt = async {
            if failures > 0 {
                tokio::time::sleep(shared.options.backoff.pause(failures)).await;
            }
            connecting::connect(&shared)
                .instrument(tracing::debug_span!("connect", address = %shared.address, failures))
                .await
        };
        tokio::pin!(attempt);
        loop {
            let earliest = self.queue.earliest;
            let expiry = async {
                match earliest {
                    Some(earliest) => tokio::time::sleep_until(earliest.into()).await,
                    None => pending().await,
                }
            };
            let room = self.queue.room();
            tokio::select! {
                connected = &mut attempt => return Some(connected),
                count = self.receiver.recv_many(&mut self.queue.arriving, room.max(1)), if room > 0 => {
                    if count == 0 {
                        return None;
                    }
                    self.queue.settle();
                }
                () = expiry => self.queue.expire(Instant::now()),
            }
        }
    }

    /// Serves a connection until it ends. Also says whether anything was answered on it.
    async fn serve(&mut self, connected: Connected, epoch: Epoch) -> (Ended, bool) {
        self.encoder.set_size_max(connected.welcome.frame_size_bytes_max);
        let mut serving = Serving::new(connected, epoch, self);
        let ended = std::future::poll_fn(|context| serving.poll(context)).await;
        let answered = serving.close(&ended);
        (ended, answered)
    }
}
