//! The Rust client of Plimsoll.
//!
//! A [`Client`] keeps one or more connections to a server, gathers the calls of many tasks into frames, keeps many frames
//! in flight, connects again when a connection is lost, and sends again what can be sent again safely. It is cheap to
//! clone; dropping the last clone closes the connections.
//!
//! What happened to a command is never guessed: [`Reserving`] and [`Releasing`] tell *done*, *refused* and *unknown*
//! apart. An [`Error`] from [`Client::reserve`] or [`Client::release`] means that the command had no effect.
//!
//! * [`Client::reserve`], [`Client::release`]: one command each, many tasks at once.
//! * [`Client::batch`]: one frame of commands from a reusable buffer, for millions of commands per second.
//! * [`Client::ordered`]: commands whose order on each pool is kept, also when they are sent again.
//! * [`Client::put_pools`], [`Client::pools`], [`Client::reservations`]: the rest.
//!
//! ```no_run
//! use plimsoll_client::{Client, Key, KeySource, Options, Reserve, Reserving, Units};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7440", Options::default()).await?;
//! let order = Reserve {
//!     reference: Some("order 4711"),
//!     ..Reserve::new("resort:A:2026-07-01", Units::Named(&[("rooms", 1)]), Key::random()?)
//! };
//! match client.reserve(&order).await? {
//!     Reserving::Reserved(reservation) => println!("reserved as {}", reservation.id),
//!     Reserving::Refused(refusal) => println!("refused: {refusal}"),
//!     Reserving::Unknown(unknown) => println!("send it again with the same key: {unknown}"),
//! }
//! # Ok(())
//! # }
//! ```

mod attempts;
mod batch;
mod checks;
mod client;
mod commands;
mod directory;
mod driver;
mod error;
mod key;
pub mod limits;
mod link;
mod names;
mod options;
mod ordered;
mod outcome;
mod pools;
mod request;
mod reservations;
mod waiters;

pub use batch::{Batch, BatchError, BatchFull, BatchOutcome};
pub use client::Client;
pub use commands::{PoolRef, Release, Reserve, Units};
pub use directory::Welcome;
pub use error::{AnswerError, ConnectError, Error, Invalid, UnknownCause};
pub use key::{KeyError, KeySource};
pub use options::{Backoff, Gather, Options};
pub use ordered::{Ordered, Ticket};
pub use outcome::{Refusal, Releasing, Reservation, Reserving, Short, State, Unknown};
pub use plimsoll_protocol as protocol;
pub use plimsoll_protocol::{Applied, Key, PoolId, ReservationId, Status, StatusNumber};
pub use pools::{AllPools, Change, Pool, PoolDefinition, PoolsPage, PutResult};
pub use reservations::ReservationDetails;
