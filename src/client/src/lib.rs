//! The Rust client of Plimsoll.
//!
//! A [`Client`] keeps one or more connections to a server, gathers the calls of many tasks into frames, keeps many
//! frames in flight, connects again when a connection is lost, and sends again what can be sent again safely. It is
//! cheap to clone; dropping the last clone closes the connections. [`blocking::Client`] is the same for callers without
//! async.
//!
//! # Reserve
//!
//! A reserve takes units from one pool, under an idempotency key of the caller's: however often it is sent, it has one
//! effect. What happened to a command is never guessed: [`Reserving`], [`Confirming`], [`Resizing`] and [`Releasing`]
//! tell *done*, *refused* and *unknown* apart.
//!
//! ```no_run
//! use plimsoll_client::{Client, Key, KeySource, Options, Reserve, Reserving, Units};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7440", Options::default()).await?;
//! let order = Reserve {
//!     reference: Some("order 4711"),
//!     ..Reserve::new("resort:A:2026-07-01", Units::Named(&[("rooms", 1)]), Key::from_text("order-4711")?)
//! };
//! match client.reserve(&order).await? {
//!     Reserving::Reserved(reservation) => println!("reserved as {}", reservation.id),
//!     Reserving::Refused(refusal) => println!("refused: {refusal}"),
//!     Reserving::Unknown(unknown) => println!("send it again with the same key: {unknown}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Hold, then confirm
//!
//! With [`Reserve::hold`] the units are held until a deadline, and [`Client::confirm`] makes them the customer's for
//! good. A hold that nobody confirms ends by itself. [`Client::hold`] gives a [`Hold`], a value to confirm, extend,
//! release or leave, which can release itself when it is dropped.
//!
//! ```no_run
//! # async fn example(client: plimsoll_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use plimsoll_client::{Confirming, Holding, Key, KeySource, Reserve, Units};
//! use std::time::Duration;
//!
//! let cart = Reserve {
//!     hold: Some(Duration::from_secs(600)),
//!     ..Reserve::new("north:monday-08", Units::Named(&[("orders", 1), ("items", 12)]), Key::from_text("cart-17")?)
//! };
//! if let Holding::Held(hold) = client.hold(&cart).await? {
//!     let mut hold = hold.release_on_drop();
//!     hold.extend(Duration::from_secs(900)).await?;
//!     if let Confirming::Confirmed(reservation) = hold.confirm().await? {
//!         println!("{} is {}", reservation.id, reservation.state);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Availability
//!
//! [`Client::availability`] says which pools sell in a zone or at a location, and how much is left.
//!
//! ```no_run
//! # async fn example(client: plimsoll_client::Client) -> Result<(), plimsoll_client::Error> {
//! use plimsoll_client::{AvailabilityQuery, Units};
//!
//! let query = AvailabilityQuery::in_zone("north").fitting(Units::Named(&[("orders", 1)])).exact();
//! for pool in client.availability(&query).await?.pools.iter().filter(|pool| pool.fits) {
//!     println!("{}: {}, {:?} left", pool.name, pool.band, pool.remaining);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Many commands
//!
//! Calls of many tasks share frames by themselves. For millions of commands per second, [`Client::batch`] sends a frame
//! of reserves, confirmations, resizes and releases from a buffer that is used again, and gives an outcome for each.
//! [`Client::ordered`] keeps the order of commands on each pool, also when they are sent again.
//!
//! # Errors
//!
//! An [`Error`] from a call that sends one command means that it had no effect: [`Error::retryable`] says whether to
//! try again, [`Error::applied`] answers the question for every call. A command without an answer is no error but
//! *unknown*; each can be sent again safely: a reserve by its key, a confirmation and a release by state, a resize by
//! its absolute values and its version. With [`Options::retry`] the client does so itself, within the deadline of the
//! call.
//!
//! ```
//! use plimsoll_client::{Applied, Refusal, Status};
//!
//! let full = Refusal::new(Status::InsufficientCapacity);
//! assert!(!full.retryable());
//! let busy = Refusal::new(Status::Overloaded);
//! assert!(busy.retryable() && busy.applied() == Applied::No);
//! ```
//!
//! `examples/checkout.rs` is a whole program: hold, confirm, availability, retries.

mod attempts;
mod availability;
mod batch;
pub mod blocking;
mod changing;
mod checks;
mod client;
mod commands;
mod directory;
mod driver;
mod error;
mod events;
mod execution;
mod hold;
mod key;
pub mod limits;
mod link;
mod options;
mod ordered;
mod outcome;
mod past;
mod pools;
mod recent;
mod request;
mod reservations;
mod reserving;
mod stats;
mod waiters;

pub use availability::{Availability, AvailabilityQuery, AvailablePool, Band};
pub use batch::{Batch, BatchError, BatchFull, BatchOutcome};
pub use client::Client;
pub use commands::{Confirm, PoolRef, Release, Reserve, Resize, Units};
pub use directory::Welcome;
pub use error::{AnswerError, ConnectError, Error, Invalid, UnknownCause};
pub use events::{After, Cause, Event, EventKind, EventsPage, Feed, FeedPage, FeedQuery, TurnedAway};
pub use hold::{Hold, Holding};
pub use key::{KeyError, KeySource};
pub use options::{Backoff, Gather, Options};
pub use ordered::{Ordered, Ticket};
pub use outcome::{Confirming, Decided, Refusal, Releasing, Reservation, Reserving, Resizing, Short, State, Unknown};
pub use past::{FoundPage, PastQuery, Reset, ResetChange, ResetReport, SearchQuery};
pub use plimsoll_protocol as protocol;
pub use plimsoll_protocol::{Applied, Key, PoolId, ReservationId, Status, StatusNumber};
pub use pools::{AllPools, Change, Pool, PoolDefinition, PoolsPage, PutResult};
pub use reservations::ReservationDetails;
pub use stats::{CommandCount, CommandLatency, CoreStats, Distribution, Stats};
