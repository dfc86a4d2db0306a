//! What a data directory remembers: its events in their order, its state at any past moment, and whether all of it is whole.
//!
//! Everything here reads only, takes no lock, and goes no further than what is durable; so a server may run on the directory. Memory is in proportion
//! to what lives at a time, never to the length of the history.
//!
//! - [`History`] gives the events, of all journals that there ever were: [`Forward`] from any [`Positions`] on, [`Newest`] from there back, one at a time or
//!   in bounded pieces.
//! - [`Replayer`] applies them to a state of the domain, up to a moment and then further.
//! - [`PoolLedger`] follows a single pool, which an index leads to.
//! - [`Catalog`] knows the names of pools; [`FollowedPools`] keeps their counters as well.
//! - [`verify`] checks everything that can be checked.
//!
//! ```no_run
//! use plimsoll_replay::{History, Moment, Replayer};
//!
//! let history = History::read("./plimsoll-data".as_ref())?;
//! let noon = Moment::Time(plimsoll_domain::Timestamp(1_782_000_000_000_000));
//! let mut replayer = Replayer::new(&history)?;
//! replayer.advance(noon, |_, _| ())?;
//! println!("{} pools", replayer.state().pool_count());
//! # Ok::<(), plimsoll_replay::ReplayError>(())
//! ```

mod budget;
mod catalog;
mod cursor;
mod effect;
mod error;
mod forward;
mod history;
mod keys;
mod kind;
mod ledger;
mod newest;
mod pools;
mod positions;
mod replayer;
mod snapshots;
mod verify;

pub use budget::{Budget, Step};
pub use catalog::Catalog;
pub use effect::{After, Effect};
pub use error::{RecordFault, ReplayError, SnapshotFault};
pub use forward::Forward;
pub use history::{History, RecordedEvent, Selection};
pub use keys::{keys_of_name, keys_of_pool, keys_of_reference, put_keys};
pub use kind::{KINDS, kind_of, reservation_of};
pub use ledger::PoolLedger;
pub use newest::Newest;
pub use pools::{FollowedPool, FollowedPools};
pub use positions::Positions;
pub use replayer::{Moment, Replayer};
pub use snapshots::restore_snapshot;
pub use verify::{CoreReport, VerifyProgress, VerifyReport, verify};
