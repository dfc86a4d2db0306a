//! The same client for callers without an async runtime.
//!
//! A [`Client`] runs its tasks on a thread of its own. Its calls block the calling thread until they are done, at most
//! for [`Options::request_timeout`]; they take the same arguments and give the same outcomes and errors as those of the
//! [async client](crate::Client), where they are described. Any number of threads may call at once, and what they ask
//! for shares frames.
//!
//! Calls panic within an async runtime, which they would block: use the async client there.
//!
//! ```no_run
//! use plimsoll_client::blocking::Client;
//! use plimsoll_client::{Key, KeySource, Options, Reserve, Reserving, Units};
//!
//! let client = Client::connect("127.0.0.1:7440", Options::default())?;
//! let order = Reserve::new("north:monday-08", Units::Named(&[("orders", 1)]), Key::from_text("order-4711")?);
//! match client.reserve(&order)? {
//!     Reserving::Reserved(reservation) => println!("reserved as {}", reservation.id),
//!     Reserving::Refused(refusal) => println!("refused: {refusal}"),
//!     Reserving::Unknown(unknown) => println!("send it again with the same key: {unknown}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::availability::{Availability, AvailabilityQuery};
use crate::batch::{Batch, BatchError, BatchOutcome};
use crate::client::Keeper;
use crate::commands::{Reserve, Resize};
use crate::directory::Welcome;
use crate::error::Error;
use crate::events::{EventsPage, FeedPage, FeedQuery};
use crate::hold;
use crate::options::Options;
use crate::outcome::{Confirming, Refusal, Releasing, Reservation, Reserving, Resizing, Unknown};
use crate::past::{FoundPage, PastQuery, Reset, ResetReport, SearchQuery};
use crate::pools::{Pool, PoolDefinition, PoolsPage, PutResult};
use crate::reservations::ReservationDetails;
use crate::{PoolId, ReservationId};

/// A client of one server whose calls block. Cheap to clone.
///
/// Dropping the last clone closes the connections. It waits for the releases that dropped [`Hold`]s have handed over,
/// at most for [`Options::request_timeout`].
///
/// # Panics
///
/// Its calls, when they are made within an async runtime.
#[derive(Clone, Debug)]
pub struct Client {
    // Before the thread: it ends when the last client is gone.
    client: crate::Client,
    thread: Arc<RuntimeThread>,
}

/// The thread that runs the client's tasks. It ends when every keeper is gone.
#[derive(Debug)]
struct RuntimeThread {
    handle: Handle,
    joined: Option<JoinHandle<()>>,
}

impl RuntimeThread {
    fn start() -> Result<(Self, Keeper), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::Runtime {
            source: Arc::new(source),
        })?;
        let handle = runtime.handle().clone();
        let (keeper, mut kept) = mpsc::channel(1);
        let joined = std::thread::Builder::new()
            .name("plimsoll-client".to_owned())
            .spawn(move || {
                // Nothing is ever sent: it ends when the last keeper is dropped.
                let None = runtime.block_on(kept.recv());
            })
            .map_err(|source| Error::Runtime {
                source: Arc::new(source),
            })?;
        let joined = Some(joined);
        Ok((Self { handle, joined }, keeper))
    }
}

impl Drop for RuntimeThread {
    fn drop(&mut self) {
        if let Some(joined) = self.joined.take() {
            // It does not panic unless a task of the runtime itself does; there is nobody to tell.
            let _ = joined.join();
        }
    }
}

impl Client {
    /// Connects to a server, `host:port`; see [`crate::Client::connect`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::connect`]; also [`Error::Runtime`] when the thread cannot be started.
    pub fn connect(address: impl Into<String>, options: Options) -> Result<Self, Error> {
        let (thread, keeper) = RuntimeThread::start()?;
        let connecting = crate::Client::connect_kept(address.into(), options, Some(keeper));
        let client = thread.handle.block_on(connecting)?;
        let thread = Arc::new(thread);
        Ok(Self { client, thread })
    }

    fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.thread.handle.block_on(call)
    }

    /// What the server said of itself; see [`crate::Client::welcome`].
    #[must_use]
    pub fn welcome(&self) -> Arc<Welcome> {
        self.client.welcome()
    }

    /// The names of the dimensions, in their order.
    #[must_use]
    pub fn dimensions(&self) -> Vec<String> {
        self.client.dimensions()
    }

    /// The options that the client was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        self.client.options()
    }

    /// Takes units from a pool; see [`crate::Client::reserve`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::reserve`].
    pub fn reserve(&self, reserve: &Reserve<'_>) -> Result<Reserving, Error> {
        self.wait(self.client.reserve(reserve))
    }

    /// Takes units from a pool and holds them; see [`crate::Client::hold`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::hold`].
    pub fn hold(&self, reserve: &Reserve<'_>) -> Result<Holding, Error> {
        Ok(match self.wait(self.client.hold(reserve))? {
            hold::Holding::Held(hold) => Holding::Held(Hold {
                hold,
                client: self.clone(),
            }),
            hold::Holding::Settled(reservation) => Holding::Settled(reservation),
            hold::Holding::Refused(refusal) => Holding::Refused(refusal),
            hold::Holding::Unknown(unknown) => Holding::Unknown(unknown),
        })
    }

    /// Confirms a hold; see [`crate::Client::confirm`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::confirm`].
    pub fn confirm(&self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<Confirming, Error> {
        self.wait(self.client.confirm(reservation, occurred_at))
    }

    /// Changes a reservation's units or deadline; see [`crate::Client::resize`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::resize`].
    pub fn resize(&self, resize: &Resize<'_>) -> Result<Resizing, Error> {
        self.wait(self.client.resize(resize))
    }

    /// Gives a reservation's units back; see [`crate::Client::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::release`].
    pub fn release(&self, reservation: ReservationId, occurred_at: Option<i64>) -> Result<Releasing, Error> {
        self.wait(self.client.release(reservation, occurred_at))
    }

    /// Which pools sell in a window; see [`crate::Client::availability`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::availability`].
    pub fn availability(&self, query: &AvailabilityQuery<'_>) -> Result<Availability, Error> {
        self.wait(self.client.availability(query))
    }

    /// An empty batch; see [`crate::Client::new_batch`].
    #[must_use]
    pub fn new_batch(&self) -> Batch {
        self.client.new_batch()
    }

    /// Sends a batch as one frame; see [`crate::Client::batch`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::batch`].
    pub fn batch(&self, batch: Batch) -> Result<BatchOutcome, BatchError> {
        self.wait(self.client.batch(batch))
    }

    /// The ids of pools; see [`crate::Client::resolve`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::resolve`].
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<Option<PoolId>>, Error> {
        self.wait(self.client.resolve(names))
    }

    /// Creates and changes pools; see [`crate::Client::put_pools`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::put_pools`].
    pub fn put_pools(&self, definitions: &[PoolDefinition], dry_run: bool) -> Result<Vec<PutResult>, Error> {
        self.wait(self.client.put_pools(definitions, dry_run))
    }

    /// The pool of this name, if there is one; see [`crate::Client::pool`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::pool`].
    pub fn pool(&self, name: &str) -> Result<Option<Pool>, Error> {
        self.wait(self.client.pool(name))
    }

    /// Some pools in the byte order of their names; see [`crate::Client::pools`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::pools`].
    pub fn pools(&self, after: Option<&str>, limit: u32) -> Result<PoolsPage, Error> {
        self.wait(self.client.pools(after, limit))
    }

    /// All pools at once; see [`crate::Client::all_pools`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::pools`].
    pub fn all_pools(&self) -> Result<Vec<Pool>, Error> {
        self.wait(self.client.all_pools().collect())
    }

    /// Reservations by id; see [`crate::Client::reservations`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::reservations`].
    pub fn reservations(&self, ids: &[ReservationId]) -> Result<Vec<ReservationDetails>, Error> {
        self.wait(self.client.reservations(ids))
    }

    /// The events of a pool, the newest first; see [`crate::Client::pool_events`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::pool_events`].
    pub fn pool_events(&self, name: &str, cursor: Option<&str>, limit: u32) -> Result<EventsPage, Error> {
        self.wait(self.client.pool_events(name, cursor, limit))
    }

    /// Events as they happen; see [`crate::Client::feed`].
    #[must_use]
    pub fn feed(&self, query: FeedQuery) -> Feed {
        Feed {
            feed: self.client.feed(query),
            client: self.clone(),
        }
    }

    /// Reservations by reference or pool; see [`crate::Client::search_reservations`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::search_reservations`].
    pub fn search_reservations(&self, query: &SearchQuery<'_>) -> Result<FoundPage, Error> {
        self.wait(self.client.search_reservations(query))
    }

    /// Pools as they were; see [`crate::Client::past_pools`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::past_pools`].
    pub fn past_pools(&self, query: &PastQuery<'_>) -> Result<PoolsPage, Error> {
        self.wait(self.client.past_pools(query))
    }

    /// Brings a pool back to an earlier moment; see [`crate::Client::reset_pool`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::reset_pool`].
    pub fn reset_pool(&self, reset: &Reset<'_>) -> Result<ResetReport, Error> {
        self.wait(self.client.reset_pool(reset))
    }

    /// Asks whether the server is there; see [`crate::Client::ping`].
    ///
    /// # Errors
    ///
    /// As [`crate::Client::ping`].
    pub fn ping(&self) -> Result<(), Error> {
        self.wait(self.client.ping())
    }
}

/// Events as they happen; see [`crate::Feed`].
#[derive(Debug)]
pub struct Feed {
    feed: crate::Feed,
    client: Client,
}

impl Feed {
    /// Waits for events, at most a few seconds; see [`crate::Feed::next`].
    ///
    /// # Errors
    ///
    /// As [`crate::Feed::next`].
    #[expect(
        clippy::should_implement_trait,
        reason = "a page may be empty, and there is always another one"
    )]
    pub fn next(&mut self) -> Result<FeedPage, Error> {
        self.client.wait(self.feed.next())
    }

    /// Goes on behind everything that was told.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.feed.cursor()
    }
}

/// What became of a hold that was asked for; see [`crate::Holding`].
#[derive(Debug)]
pub enum Holding {
    /// It is held, durably: now, or by an earlier attempt with the same key.
    Held(Hold),
    /// An earlier attempt with the same key took effect, and since then the hold was confirmed, released, or has
    /// expired.
    Settled(Reservation),
    /// It had no effect.
    Refused(Refusal),
    /// Nobody can tell. Ask again with the same key.
    Unknown(Unknown),
}

/// Units that are held for the caller; see [`crate::Hold`]. A drop hands its release to the client's thread and does
/// not wait for it; the drop of the last [`Client`] does. A process that ends before leaves the hold to its deadline.
#[derive(Debug)]
#[must_use = "a hold that is neither confirmed nor released takes its units until its deadline"]
pub struct Hold {
    // Before the client: its release must be handed over while the thread runs.
    hold: hold::Hold,
    client: Client,
}

impl Hold {
    /// The reservation's id.
    #[must_use]
    pub fn id(&self) -> ReservationId {
        self.hold.id()
    }

    /// The reservation, as the last answer told of it.
    #[must_use]
    pub fn reservation(&self) -> &Reservation {
        self.hold.reservation()
    }

    /// When the hold ends, by the server's clock, microseconds since 1970. `None` when it was confirmed.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.hold.expires_at()
    }

    /// From now on a drop gives the units back; see [`crate::Hold::release_on_drop`].
    pub fn release_on_drop(self) -> Self {
        Self {
            hold: self.hold.release_on_drop(),
            ..self
        }
    }

    /// Confirms it; see [`crate::Hold::confirm`].
    ///
    /// # Errors
    ///
    /// As [`crate::Hold::confirm`].
    pub fn confirm(&mut self) -> Result<Confirming, Error> {
        self.client.wait(self.hold.confirm())
    }

    /// Holds it for another while; see [`crate::Hold::extend`].
    ///
    /// # Errors
    ///
    /// As [`crate::Hold::extend`].
    pub fn extend(&mut self, hold: Duration) -> Result<Resizing, Error> {
        self.client.wait(self.hold.extend(hold))
    }

    /// Gives the units back; see [`crate::Hold::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Hold::release`].
    pub fn release(&mut self) -> Result<Releasing, Error> {
        self.client.wait(self.hold.release())
    }

    /// Leaves the hold to its deadline; see [`crate::Hold::leave`].
    #[must_use = "the id is the only way back to the reservation"]
    pub fn leave(self) -> Reservation {
        self.hold.leave()
    }
}
