//! Many commands in one frame, from a buffer that is used again.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use plimsoll_protocol::limits::{FRAME_HEADER_SIZE_BYTES, REFERENCE_SIZE_BYTES_MAX};
use plimsoll_protocol::{Commands, CorrelationId, Encoder, OutcomesView, ReservationId, Reserve, Resize, wire};

use crate::attempts::deadline_after;
use crate::client::Client;
use crate::directory::{Epoch, Welcome};
use crate::error::{AnswerError, Error, Invalid, UnknownCause};
use crate::execution::{check_answer, decide};
use crate::limits::TRACEPARENT_SIZE_BYTES_MAX;
use crate::outcome::{Decided, Unknown};
use crate::request::{Failed, FrameAnswer};

/// What a frame takes besides its commands, units and references.
const BASE_SIZE_BYTES: usize = FRAME_HEADER_SIZE_BYTES + 128;

/// What a reference takes besides its text.
const REFERENCE_BASE_SIZE_BYTES: usize = 40;

/// What a text takes besides its bytes.
const TEXT_BASE_SIZE_BYTES: usize = 8;

/// Commands for one frame, reserves, confirmations, resizes and releases in any mixture. Made by [`Client::new_batch`];
/// its memory is used again after [`BatchOutcome::into_batch`].
///
/// Nothing is allocated for a command once the buffer has grown to its size.
#[derive(Debug)]
pub struct Batch(Box<Content>);

struct Content {
    epoch: Epoch,
    welcome: Arc<Welcome>,
    dimensions: usize,
    commands_max: usize,
    size_bytes_max: usize,
    commands: Vec<wire::Command>,
    units: Vec<u32>,
    /// For each reference its command, and where its text ends.
    references: Vec<(u32, usize)>,
    text: String,
    traceparent: Option<String>,
    /// The frame, and the memory of the answer after it.
    frame: Vec<u8>,
    encoder: Encoder,
}

impl Content {
    /// What the frame takes, at most.
    fn size(&self) -> usize {
        BASE_SIZE_BYTES
            + size_of_val(&*self.commands)
            + size_of_val(&*self.units)
            + self.references.len() * REFERENCE_BASE_SIZE_BYTES
            + self.text.len()
            + self
                .traceparent
                .as_ref()
                .map_or(0, |text| TEXT_BASE_SIZE_BYTES + text.len())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("commands", &self.commands.len())
            .finish_non_exhaustive()
    }
}

/// Why a command was not put into a batch. The batch is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchFull {
    /// As many commands as the server takes in one frame. Send what there is.
    #[error("a frame holds at most {commands_max} commands")]
    Commands {
        /// How many that is.
        commands_max: usize,
    },
    /// As many bytes as the server takes in one frame. Send what there is.
    #[error("a frame holds at most {size_bytes_max} bytes")]
    Size {
        /// How many that is.
        size_bytes_max: usize,
    },
    /// Not a value for each dimension.
    #[error("expected {expected} units, one for each dimension, found {found}")]
    Units {
        /// How many dimensions the directory has.
        expected: usize,
        /// How many values there are.
        found: usize,
    },
    /// More than 64 bytes of reference.
    #[error("a reference has at most 64 bytes, found {found}")]
    Reference {
        /// How many bytes it has.
        found: usize,
    },
    /// A trace context that is empty, too long, or not visible ASCII.
    #[error("a trace context has 1 to 128 visible ASCII characters")]
    Traceparent,
}

impl Batch {
    /// How many commands it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.commands.len()
    }

    /// Whether it holds no command.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.commands.is_empty()
    }

    /// Most commands that it can hold: what the server takes in one frame.
    #[must_use]
    pub fn commands_max(&self) -> usize {
        self.0.commands_max
    }

    /// The commands, in their order.
    #[must_use]
    pub fn commands(&self) -> &[wire::Command] {
        &self.0.commands
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.0.dimensions
    }

    /// Takes all commands out, and the trace context. The memory stays.
    pub fn clear(&mut self) {
        let content = &mut *self.0;
        content.commands.clear();
        content.units.clear();
        content.references.clear();
        content.text.clear();
        content.traceparent = None;
    }

    /// Appends a reserve. `units` is a value for each dimension; their range, and that of the hold, is checked by the
    /// server.
    ///
    /// # Errors
    ///
    /// [`BatchFull`]; the batch is as before.
    pub fn push_reserve(&mut self, reserve: Reserve, units: &[u32], reference: Option<&str>) -> Result<(), BatchFull> {
        self.check_units(units)?;
        self.push(wire::Command::reserve(reserve), units, reference)
    }

    /// Appends a release. `occurred_at` is the caller's business time, microseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BatchFull`]; the batch is as before.
    pub fn push_release(&mut self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<(), BatchFull> {
        self.push(wire::Command::release(reservation, occurred_at), &[], None)
    }

    /// Appends a confirmation. `occurred_at` is the caller's business time, microseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BatchFull`]; the batch is as before.
    pub fn push_confirm(&mut self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<(), BatchFull> {
        self.push(wire::Command::confirm(reservation, occurred_at), &[], None)
    }

    /// Appends a resize. `units` is a value for each dimension; [`UNITS_UNCHANGED`](crate::protocol::UNITS_UNCHANGED)
    /// leaves one as it is. Their range, and that of the hold, is checked by the server.
    ///
    /// # Errors
    ///
    /// [`BatchFull`]; the batch is as before.
    pub fn push_resize(&mut self, resize: Resize, units: &[u32]) -> Result<(), BatchFull> {
        self.check_units(units)?;
        self.push(wire::Command::resize(resize), units, None)
    }

    /// Sets the W3C trace context that the frame carries for the server's log; `None` takes it away. A frame has one,
    /// so that only batches carry it, not the calls that share frames.
    ///
    /// # Errors
    ///
    /// [`BatchFull::Traceparent`] for a text that is none, [`BatchFull::Size`]; the batch is as before.
    pub fn set_traceparent(&mut self, traceparent: Option<&str>) -> Result<(), BatchFull> {
        let content = &mut *self.0;
        if let Some(text) = traceparent {
            let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
            if text.is_empty() || text.len() > TRACEPARENT_SIZE_BYTES_MAX || !visible {
                return Err(BatchFull::Traceparent);
            }
        }
        let before = std::mem::replace(&mut content.traceparent, traceparent.map(str::to_owned));
        let size_bytes_max = content.size_bytes_max;
        if content.size() > size_bytes_max {
            content.traceparent = before;
            return Err(BatchFull::Size { size_bytes_max });
        }
        Ok(())
    }

    fn check_units(&self, units: &[u32]) -> Result<(), BatchFull> {
        let (expected, found) = (self.0.dimensions, units.len());
        if expected == found {
            Ok(())
        } else {
            Err(BatchFull::Units { expected, found })
        }
    }

    pub(crate) fn push(
        &mut self,
        command: wire::Command,
        units: &[u32],
        reference: Option<&str>,
    ) -> Result<(), BatchFull> {
        let content = &mut *self.0;
        let index = content.commands.len();
        if index >= content.commands_max {
            return Err(BatchFull::Commands {
                commands_max: content.commands_max,
            });
        }
        let reference_size = reference.map_or(0, |text| REFERENCE_BASE_SIZE_BYTES + text.len());
        let size = content.size() + size_of::<wire::Command>() + size_of_val(units) + reference_size;
        if size > content.size_bytes_max {
            return Err(BatchFull::Size {
                size_bytes_max: content.size_bytes_max,
            });
        }
        if let Some(text) = reference {
            if text.len() > REFERENCE_SIZE_BYTES_MAX {
                return Err(BatchFull::Reference { found: text.len() });
            }
            content.text.push_str(text);
            content.references.push((index as u32, content.text.len()));
        }
        content.commands.push(command);
        content.units.extend_from_slice(units);
        Ok(())
    }

    /// Encodes the frame into its buffer, and takes that.
    fn encode(&mut self) -> Result<Vec<u8>, Error> {
        let content = &mut *self.0;
        if content.commands.is_empty() {
            return Err(Invalid::BatchEmpty.into());
        }
        let mut frame = std::mem::take(&mut content.frame);
        frame.clear();
        let mut start = 0;
        let references = content.references.iter().map(|&(command, end)| {
            let text = &content.text[start..end];
            start = end;
            (command, text)
        });
        let commands = Commands {
            commands: &content.commands,
            units: &content.units,
            traceparent: content.traceparent.as_deref(),
        };
        let size_max = content.size_bytes_max;
        match content
            .encoder
            .commands(&mut frame, CorrelationId(0), commands, references)
        {
            Ok(()) => Ok(frame),
            // What was pushed was measured, so that this does not happen.
            Err(_) => Err(Invalid::Size {
                size: size_max + 1,
                size_max,
            }
            .into()),
        }
    }
}

/// What became of the commands of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    batch: Batch,
    payload: Vec<u8>,
    count: u16,
}

impl BatchOutcome {
    /// The outcomes, in the order of the commands, read in place.
    ///
    /// An outcome's [`status_number`](wire::Outcome::status_number) says what became of its command, and whether it may
    /// be sent again.
    #[must_use]
    pub fn outcomes(&self) -> OutcomesView<'_> {
        OutcomesView::new(&self.payload, self.count, self.batch.0.dimensions).expect("it was checked when it arrived")
    }

    /// What became of each command, in their order. What is not known, and what was refused as overloaded or
    /// unavailable, can be sent again.
    ///
    /// ```no_run
    /// # use plimsoll_client::{Client, ReservationId};
    /// # async fn example(client: Client, held: ReservationId) -> Result<(), Box<dyn std::error::Error>> {
    /// use plimsoll_client::{Decided, Key, KeySource, protocol::Reserve};
    ///
    /// let pool = client.resolve(&["slot-1"]).await?[0].ok_or("no such pool")?;
    /// let mut batch = client.new_batch();
    /// batch.push_confirm(held, None)?;
    /// let cart = Reserve { pool, key: Key::random()?, hold_seconds: 600, occurred_at: None };
    /// batch.push_reserve(cart, &[1, 0], Some("cart 17"))?;
    /// for decided in client.batch(batch).await?.decided() {
    ///     match decided {
    ///         Decided::Applied(reservation) => println!("{} is {}", reservation.id, reservation.state),
    ///         Decided::Refused(refusal) => println!("{refusal}"),
    ///         Decided::Unknown(unknown) => println!("{unknown}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn decided(&self) -> impl Iterator<Item = Decided> + '_ {
        let dimensions = &self.batch.0.welcome.dimensions;
        self.outcomes().iter().map(move |found| {
            let remaining: Vec<i64> = found.remaining.iter().collect();
            decide(found.outcome, Some(&remaining), dimensions)
        })
    }

    /// The commands, in their order.
    #[must_use]
    pub fn commands(&self) -> &[wire::Command] {
        self.batch.commands()
    }

    /// The batch, with its commands still in it, and with the memory of the answer.
    #[must_use]
    pub fn into_batch(mut self) -> Batch {
        self.batch.0.frame = self.payload;
        self.batch
    }
}

/// Why a batch has no outcomes. The batch comes back as it was, to be sent again: every reserve has its key.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BatchError {
    /// The batch.
    pub batch: Batch,
    /// Why. [`Error::applied`] holds for all of its commands.
    #[source]
    pub error: Error,
}

impl Client {
    /// An empty batch, for the directory and the limits of the server as it is now.
    #[must_use]
    pub fn new_batch(&self) -> Batch {
        let directory = self.inner.shared.directory();
        let welcome = &directory.welcome;
        let mut encoder = Encoder::new();
        encoder.set_size_max(welcome.frame_size_bytes_max);
        Batch(Box::new(Content {
            epoch: directory.epoch,
            welcome: Arc::clone(welcome),
            dimensions: welcome.dimensions.len(),
            commands_max: usize::from(welcome.commands_max).min(welcome.window_commands as usize),
            size_bytes_max: welcome.frame_size_bytes_max as usize,
            commands: Vec::new(),
            units: Vec::new(),
            references: Vec::new(),
            text: String::new(),
            traceparent: None,
            frame: Vec::new(),
            encoder,
        }))
    }

    /// Sends a batch as one frame and waits for its outcomes. It is sent once; nothing is retried.
    ///
    /// Several batches may be under way at once, up to the server's window; that is what makes it fast. The commands of
    /// a batch on one pool take effect in their order.
    ///
    /// # Errors
    ///
    /// [`BatchError`] has the batch, so that it can be sent again. Its [`Error::applied`] says whether the commands may
    /// have taken effect: [`Error::Unknown`] is not an error that says they did not.
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use plimsoll_client::{Key, KeySource, protocol::Reserve};
    ///
    /// let pool = client.resolve(&["slot-1"]).await?[0].ok_or("no such pool")?;
    /// let mut batch = client.new_batch();
    /// loop {
    ///     batch.clear();
    ///     while batch.len() < 1000 {
    ///         let reserve = Reserve { pool, key: Key::random()?, hold_seconds: 0, occurred_at: None };
    ///         batch.push_reserve(reserve, &[1, 0], None)?;
    ///     }
    ///     let outcome = client.batch(batch).await?;
    ///     let done = outcome.outcomes().iter().filter(|found| found.outcome.status_number().is_ok()).count();
    ///     if done < 1000 {
    ///         break;
    ///     }
    ///     batch = outcome.into_batch();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch(&self, batch: Batch) -> Result<BatchOutcome, BatchError> {
        self.batch_until(batch, deadline_after(self.options().request_timeout))
            .await
    }

    pub(crate) async fn batch_until(&self, mut batch: Batch, deadline: Instant) -> Result<BatchOutcome, BatchError> {
        match self.send_batch(&mut batch, deadline).await {
            Ok((payload, count)) => Ok(BatchOutcome { batch, payload, count }),
            Err(error) => Err(BatchError { batch, error }),
        }
    }

    async fn send_batch(&self, batch: &mut Batch, deadline: Instant) -> Result<(Vec<u8>, u16), Error> {
        let unknown = |cause| Error::Unknown(Unknown { cause, attempts: 1 });
        let link = self.link();
        let frame = batch.encode()?;
        let reply = link.frame(frame, batch.0.epoch, deadline)?.await;
        let answer = match reply.unwrap_or(Err(Failed::Lost(UnknownCause::Closed))) {
            Ok(answer) => answer,
            Err(Failed::Unsent(unsent)) => return Err(self.unsent(&unsent, link)),
            Err(Failed::Lost(cause)) => return Err(unknown(cause)),
        };
        check_answer(&answer)?;
        let FrameAnswer { header, payload } = answer;
        let found = match OutcomesView::new(&payload, header.count, batch.0.dimensions) {
            Ok(view) => view.len(),
            Err(error) => return Err(unknown(UnknownCause::Answer(AnswerError::Payload(error)))),
        };
        if found != batch.len() {
            let error = AnswerError::Count {
                what: "outcomes",
                expected: batch.len(),
                found,
            };
            return Err(unknown(UnknownCause::Answer(error)));
        }
        Ok((payload, header.count))
    }
}
