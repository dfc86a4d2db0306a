//! The client.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_protocol::frame::Head;
use plimsoll_protocol::{CorrelationId, Encoder, Operation};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::attempts::Attempts;
use crate::directory::{Shared, Welcome};
use crate::error::{Error, Invalid};
use crate::limits::{CALLS_IN_A_ROW, CONNECTIONS_COUNT_MAX};
use crate::link::Link;
use crate::options::Options;
use crate::request::Unsent;

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
    /// While it is there, whoever runs the runtime for this client keeps it.
    _keeper: Option<Keeper>,
}

/// Says by being dropped that a client is gone.
pub(crate) type Keeper = mpsc::Sender<Infallible>;

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
        Self::connect_kept(address.into(), options, None).await
    }

    pub(crate) async fn connect_kept(address: String, options: Options, keeper: Option<Keeper>) -> Result<Self, Error> {
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
        let address: Arc<str> = address.into();
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
            _keeper: keeper,
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
