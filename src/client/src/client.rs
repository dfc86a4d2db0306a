//! The client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Encoder, Operation, PoolId, ReservationId, Status, StatusNumber, wire};
use tokio::sync::{Semaphore, oneshot};

use crate::attempts::{Attempts, retried};
use crate::checks;
use crate::commands::{PoolRef, Reserve};
use crate::directory::{Directory, Epoch, Shared, Welcome};
use crate::error::{AnswerError, Error, Invalid, UnknownCause};
use crate::limits::{CALLS_IN_A_ROW, CONNECTIONS_COUNT_MAX};
use crate::link::Link;
use crate::options::Options;
use crate::outcome::{Refusal, Releasing, Reservation, Reserving, Short, Unknown};
use crate::request::{CommandAnswer, CommandRequest, Failed, FrameAnswer, Unsent};

/// A client of one server. Cheap to clone; dropping the last clone closes the connections.
///
/// Any number of tasks may call at once: what they ask for is gathered into frames, without waiting for company. A call
/// ends by the deadline of [`Options::request_timeout`]. A call whose future is dropped may still take effect.
///
/// Commands of different calls have no order among each other, not even from one task, unless the first has been
/// awaited; see [`Client::ordered`].
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    links: Box<[Link]>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// Runs the tasks, so that they can also be started from outside it.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// A command that is ready to be sent, as often as needed.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) command: wire::Command,
    pub(crate) units: checks::UnitsArray,
    pub(crate) reference: Option<Box<str>>,
    pub(crate) epoch: Epoch,
}

/// What became of a command. Never a guess.
#[derive(Clone, Debug)]
pub(crate) enum Decided {
    Applied(Reservation),
    Refused(Refusal),
    Unknown(Unknown),
}

impl Client {
    /// Connects to a server, `host:port`.
    ///
    /// The first connection is made before this returns; others follow on their own. Must be called within a Tokio
    /// runtime, which then runs a task for each connection.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for options out of their range; [`Error::NotConnected`], retryable, when the first connection
    /// could not be made: later ones are made again and again.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), plimsoll_client::Error> {
    /// use plimsoll_client::{Client, Options};
    ///
    /// let client = Client::connect("127.0.0.1:7440", Options::default()).await?;
    /// println!("{} limits {:?}", client.welcome().server, client.dimensions());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(address: impl Into<String>, options: Options) -> Result<Self, Error> {
        let range = |option, value: usize, max| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(Invalid::Option { option, min: 1, max })
            }
        };
        range("connections", options.connections, CONNECTIONS_COUNT_MAX)?;
        range("gather.commands_max", options.gather.commands_max, usize::MAX)?;
        range(
            "queue_commands_max",
            options.queue_commands_max,
            Semaphore::MAX_PERMITS.min(u32::MAX as usize),
        )?;
        let connections = options.connections;
        let address: Arc<str> = address.into().into();
        let shared = Arc::new(Shared::new(options, Arc::clone(&address)));
        let (first, connected) = oneshot::channel();
        let mut links = Vec::with_capacity(connections);
        links.push(Link::spawn(&shared, Some(first)));
        match connected.await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(Error::NotConnected { address, source }),
            Err(_) => return Err(Error::Closed),
        }
        links.extend((1..connections).map(|_| Link::spawn(&shared, None)));
        let inner = Inner {
            shared,
            links: links.into(),
            turn: AtomicUsize::new(0),
            runtime: tokio::runtime::Handle::current(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the server said of itself when the newest connection was made.
    #[must_use]
    pub fn welcome(&self) -> Arc<Welcome> {
        self.inner.shared.directory().welcome
    }

    /// The names of the dimensions, in their order.
    #[must_use]
    pub fn dimensions(&self) -> Vec<String> {
        self.welcome().dimensions.clone()
    }

    /// The options that the client was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.shared.options
    }

    /// Takes units from a pool.
    ///
    /// With [`Options::retry`] it is sent again by its key, within the deadline, after a lost connection and when the
    /// server is overloaded or unavailable. When the remembered id of a pool's name turns out to be void, the name is
    /// resolved once anew.
    ///
    /// # Errors
    ///
    /// The command had no effect. [`Error::Invalid`] is for the caller to correct; [`Error::QueueFull`] and
    /// [`Error::NotSent`] can be tried again. That the outcome is not known is no error but [`Reserving::Unknown`].
    ///
    /// ```no_run
    /// # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use plimsoll_client::{Key, KeySource, Reserve, Reserving, Units};
    /// use std::time::Duration;
    ///
    /// let cart = Reserve {
    ///     hold: Some(Duration::from_secs(600)),
    ///     ..Reserve::new("zone.7:2026-12-24T08:00", Units::Named(&[("orders", 1)]), Key::from_text("cart-17")?)
    /// };
    /// if let Reserving::Refused(refusal) = client.reserve(&cart).await? {
    ///     println!("{refusal}; worth another try: {}", refusal.retryable());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Reserving, Error> {
        let mut attempts = Attempts::new(self.options());
        let mut anew = false;
        loop {
            let directory = self.inner.shared.directory();
            let Some((prepared, remembered)) = self
                .prepare_reserve(reserve, &directory, anew, attempts.deadline)
                .await?
            else {
                return Ok(Reserving::Refused(Refusal::new(Status::PoolNotFound)));
            };
            let named = matches!(reserve.pool, PoolRef::Name(_));
            let pool = prepared.command.pool_id();
            match self.execute(prepared, &directory, &mut attempts).await {
                Ok(Decided::Refused(refusal)) if named && remembered && !anew && refusal.is(Status::PoolNotFound) => {
                    if let PoolRef::Name(name) = reserve.pool {
                        self.inner.shared.forget(name, pool);
                    }
                    anew = true;
                }
                // It was not sent, and its pool may have another id in the new directory.
                Err(Error::DirectoryChanged) if named && !anew => anew = true,
                Ok(Decided::Applied(reservation)) => return Ok(Reserving::Reserved(reservation)),
                Ok(Decided::Refused(refusal)) => return Ok(Reserving::Refused(refusal)),
                Ok(Decided::Unknown(unknown)) => return Ok(Reserving::Unknown(unknown)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives a reservation's units back. Releasing it again is the same as releasing it once.
    ///
    /// `occurred_at` is the caller's business time, microseconds since 1970; it decides nothing. Sent again as
    /// [`Client::reserve`] is.
    ///
    /// # Errors
    ///
    /// The command had no effect; see [`Client::reserve`].
    pub async fn release(&self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<Releasing, Error> {
        let mut attempts = Attempts::new(self.options());
        let directory = self.inner.shared.directory();
        let command = wire::Command::release(reservation, occurred_at);
        let prepared = Prepared {
            command,
            units: Default::default(),
            reference: None,
            epoch: directory.epoch,
        };
        Ok(match self.execute(prepared, &directory, &mut attempts).await? {
            Decided::Applied(reservation) => Releasing::Released(reservation),
            Decided::Refused(refusal) => Releasing::Refused(refusal),
            Decided::Unknown(unknown) => Releasing::Unknown(unknown),
        })
    }

    /// Asks whether the server is there, on one connection.
    ///
    /// # Errors
    ///
    /// [`Error::NotSent`], [`Error::Unknown`]: no answer within the deadline.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut frame = Vec::new();
        Encoder::new().empty(&mut frame, Head::request(Operation::Ping, CorrelationId(0)));
        let epoch = self.inner.shared.epoch();
        self.call(frame, epoch, &mut Attempts::new(self.options()))
            .await
            .map(drop)
    }

    /// Checks a reserve and finds its pool. `None`: there is no such pool. Also says whether the id was a remembered one.
    pub(crate) async fn prepare_reserve(
        &self,
        reserve: &Reserve<'_>,
        directory: &Directory,
        anew: bool,
        deadline: Instant,
    ) -> Result<Option<(Prepared, bool)>, Error> {
        let units = checks::units(&directory.welcome.dimensions, reserve.units)?;
        let hold_seconds = checks::hold_seconds(reserve.hold)?;
        checks::reference(reserve.reference)?;
        let Some((pool, remembered)) = self.pool_id(reserve.pool, directory, anew, deadline).await? else {
            return Ok(None);
        };
        let Reserve {
            key,
            occurred_at,
            reference,
            ..
        } = *reserve;
        let command = wire::Command::reserve(plimsoll_protocol::Reserve {
            pool,
            key,
            hold_seconds,
            occurred_at,
        });
        let prepared = Prepared {
            command,
            units,
            reference: reference.map(Into::into),
            epoch: directory.epoch,
        };
        Ok(Some((prepared, remembered)))
    }

    /// The id of a pool, and whether it was remembered.
    pub(crate) async fn pool_id(
        &self,
        pool: PoolRef<'_>,
        directory: &Directory,
        anew: bool,
        deadline: Instant,
    ) -> Result<Option<(PoolId, bool)>, Error> {
        let name = match pool {
            PoolRef::Id(id) => return Ok(Some((id, false))),
            PoolRef::Name(name) => name,
        };
        checks::pool_name(name)?;
        if !anew && let Some(id) = self.inner.shared.name(directory.epoch, name) {
            return Ok(Some((id, true)));
        }
        let found = self.resolve_in(directory, &[name], deadline).await?;
        Ok(found.first().copied().flatten().map(|id| (id, false)))
    }

    /// Sends a command until its outcome is known or the deadline has passed. An error means that it had no effect.
    async fn execute(
        &self,
        prepared: Prepared,
        directory: &Directory,
        attempts: &mut Attempts,
    ) -> Result<Decided, Error> {
        // Always the same connection: an attempt that is late on a former one is then behind it, not beside it.
        let link = self.link();
        let deadline = attempts.deadline;
        loop {
            let sent = link.command(|reply| {
                let Prepared {
                    command,
                    units,
                    reference,
                    epoch,
                } = prepared.clone();
                CommandRequest {
                    command,
                    units,
                    reference,
                    epoch,
                    deadline,
                    reply,
                }
            });
            let reply = match sent {
                Ok(reply) => reply.await,
                Err(error) => {
                    let Some(unknown) = attempts.unknown() else {
                        return Err(error);
                    };
                    if matches!(error, Error::QueueFull { .. }) && attempts.pause().await {
                        continue;
                    }
                    return Ok(Decided::Unknown(unknown));
                }
            };
            let refusal = match reply.unwrap_or(Err(Failed::Lost(UnknownCause::Closed))) {
                Err(Failed::Unsent(unsent)) => {
                    let Some(mut unknown) = attempts.unknown() else {
                        return Err(self.unsent(&unsent, link));
                    };
                    if matches!(unsent, Unsent::DirectoryChanged) {
                        unknown.cause = UnknownCause::DirectoryChanged;
                    }
                    return Ok(Decided::Unknown(unknown));
                }
                Err(Failed::Lost(cause)) => {
                    let at_once = cause == UnknownCause::ConnectionLost;
                    let last = matches!(cause, UnknownCause::Deadline | UnknownCause::Closed);
                    attempts.lose(cause);
                    let again = !last
                        && if at_once {
                            attempts.again()
                        } else {
                            attempts.pause().await
                        };
                    match attempts.unknown() {
                        Some(unknown) if !again => return Ok(Decided::Unknown(unknown)),
                        _ => continue,
                    }
                }
                Ok(CommandAnswer::FrameRefused { status, detail }) => {
                    attempts.answered();
                    Refusal {
                        detail: detail.map(|text| text.to_string()),
                        ..Refusal::new(status)
                    }
                }
                Ok(CommandAnswer::Outcome { outcome, remaining }) => {
                    match decide(&outcome, remaining.as_deref(), &directory.welcome.dimensions) {
                        Decided::Refused(refusal) => {
                            attempts.answered();
                            refusal
                        }
                        Decided::Unknown(unknown) => {
                            attempts.lose(unknown.cause);
                            match attempts.unknown() {
                                Some(unknown) if !attempts.pause().await => return Ok(Decided::Unknown(unknown)),
                                _ => continue,
                            }
                        }
                        applied @ Decided::Applied(_) => return Ok(applied),
                    }
                }
            };
            if retried(refusal.status) {
                if attempts.pause().await {
                    continue;
                }
                // The refusal is of the last attempt only, and says nothing of an earlier one that was lost.
                return Ok(attempts.unknown().map_or(Decided::Refused(refusal), Decided::Unknown));
            }
            attempts.resolve();
            return Ok(Decided::Refused(refusal));
        }
    }

    /// Sends a frame of a rare operation until it is answered or the deadline has passed, and checks the answer's checksum.
    pub(crate) async fn call(
        &self,
        frame: Vec<u8>,
        epoch: Epoch,
        attempts: &mut Attempts,
    ) -> Result<FrameAnswer, Error> {
        let link = self.link();
        loop {
            let reply = match link.frame(frame.clone(), epoch, attempts.deadline) {
                Ok(reply) => reply.await,
                Err(error) => return Err(attempts.unknown().map_or(error, Error::Unknown)),
            };
            match reply.unwrap_or(Err(Failed::Lost(UnknownCause::Closed))) {
                Err(Failed::Unsent(unsent)) => {
                    return Err(attempts
                        .unknown()
                        .map_or_else(|| self.unsent(&unsent, link), Error::Unknown));
                }
                Err(Failed::Lost(cause)) => {
                    let last = matches!(cause, UnknownCause::Deadline | UnknownCause::Closed);
                    attempts.lose(cause);
                    if last || !attempts.again() {
                        return Err(attempts.unknown().map_or(Error::Closed, Error::Unknown));
                    }
                }
                Ok(answer) => match check_answer(&answer) {
                    Ok(()) => return Ok(answer),
                    Err(Error::Unknown(Unknown { cause, .. })) => {
                        attempts.lose(cause);
                        if !attempts.pause().await {
                            return Err(attempts.unknown().map_or(Error::Closed, Error::Unknown));
                        }
                    }
                    Err(Error::Refused(refusal)) if retried(refusal.status) => {
                        attempts.answered();
                        if !attempts.pause().await {
                            return Err(attempts.unknown().map_or(Error::Refused(refusal), Error::Unknown));
                        }
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// The next connection, one that stands if there is one.
    pub(crate) fn link(&self) -> &Link {
        let links = &self.inner.links;
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed) / CALLS_IN_A_ROW;
        let mut in_turn = (0..links.len()).map(|offset| &links[turn.wrapping_add(offset) % links.len()]);
        in_turn
            .find(|link| link.state.connected.load(Ordering::Relaxed))
            .unwrap_or(&links[turn % links.len()])
    }

    pub(crate) fn unsent(&self, unsent: &Unsent, link: &Link) -> Error {
        match *unsent {
            Unsent::Deadline => {
                let address = Arc::clone(&self.inner.shared.address);
                Error::NotSent {
                    address,
                    source: link.state.last_error(),
                }
            }
            Unsent::DirectoryChanged => Error::DirectoryChanged,
            Unsent::TooLarge { size, size_max } => Error::Invalid(Invalid::Size { size, size_max }),
        }
    }
}

/// Reads an outcome.
pub(crate) fn decide(outcome: &wire::Outcome, remaining: Option<&[i64]>, dimensions: &[String]) -> Decided {
    let status: StatusNumber = outcome.status_number();
    match status.applied() {
        plimsoll_protocol::Applied::Yes => Decided::Applied(outcome.into()),
        plimsoll_protocol::Applied::Unknown => Decided::Unknown(Unknown {
            cause: UnknownCause::Status(status),
            attempts: 1,
        }),
        plimsoll_protocol::Applied::No => {
            let remaining = remaining.unwrap_or_default();
            let is_short = |index: usize| u32::from(outcome.short_dimensions()) >> index & 1 == 1;
            let short = remaining
                .iter()
                .zip(dimensions)
                .enumerate()
                .filter(|(index, _)| is_short(*index))
                .map(|(_, (&remaining, dimension))| Short {
                    dimension: dimension.clone(),
                    remaining,
                })
                .collect();
            Decided::Refused(Refusal {
                status,
                short,
                remaining: remaining.to_vec(),
                detail: None,
            })
        }
    }
}

/// Checks an answer's checksum, and whether the frame was refused.
pub(crate) fn check_answer(answer: &FrameAnswer) -> Result<(), Error> {
    let unknown = |cause| Error::Unknown(Unknown { cause, attempts: 1 });
    let status = answer.header.status;
    match status.applied() {
        plimsoll_protocol::Applied::Yes => {
            let checked = answer.header.check_payload(&answer.payload);
            checked.map_err(|error| unknown(UnknownCause::Answer(AnswerError::Frame(error))))
        }
        plimsoll_protocol::Applied::Unknown => Err(unknown(UnknownCause::Status(status))),
        plimsoll_protocol::Applied::No => {
            let whole = answer.header.check_payload(&answer.payload).is_ok();
            let failure = plimsoll_protocol::payload::table::<wire::Failure>("Failure", &answer.payload);
            let detail = failure
                .ok()
                .filter(|_| whole)
                .and_then(|failure| failure.detail())
                .map(str::to_owned);
            Err(Error::Refused(Refusal {
                detail,
                ..Refusal::new(status)
            }))
        }
    }
}
