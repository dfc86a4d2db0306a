//! The published read side: which pools still have room, as of when, for readers of any core.
//!
//! A [`Table`] has one *part* for each core. A part has one [`Writer`], which belongs to the core that owns the pools, and any
//! number of [`Reader`]s on any thread. Readers send no message, take no lock and wait for nobody.
//!
//! There are two layers. The *index* leads from zone, kind, window and location to pools; it changes only when definitions
//! do, and is replaced as a whole by one swap, although it shares with its successor all but what changed. The *numbers* of
//! a pool lie in a slot that its writer rewrites in place, with a version that tells a reader of a torn read.
//!
//! What a writer does becomes visible like this: numbers at once, definitions with [`Writer::publish`]. Both must be durable
//! before they are handed to the writer. A reader takes the times of publication before it looks at anything, so an answer
//! never claims to be later than what it was read from.
//!
//! ```
//! use plimsoll_availability::{Query, Table};
//! use plimsoll_domain::{Counters, PoolDefinition, PoolId, Timestamp, Units};
//!
//! let (table, mut writers) = Table::new(1, 1);
//! let definition = PoolDefinition {
//!     name: "north:monday".into(),
//!     zone: "north".into(),
//!     kind: "delivery".into(),
//!     starts_at: Timestamp(100),
//!     ends_at: Timestamp(200),
//!     opens_at: Timestamp(0),
//!     closes_at: Timestamp(90),
//!     coverage: vec!["101".into()],
//!     closed: false,
//!     shadow: false,
//!     limits: Units::from_slice(&[10]),
//!     overbook: Units::default(),
//! };
//! let pool = PoolId(1 << 24 | 1);
//! writers[0].put(pool, 1, &definition);
//! writers[0].set_reserved(pool, &Counters([4, 0, 0, 0, 0, 0, 0, 0]));
//! writers[0].publish(Timestamp(50));
//!
//! let mut reader = table.reader();
//! let query = Query {
//!     zone: None,
//!     location: Some("10115"),
//!     kind: None,
//!     from: Timestamp(50),
//!     to: Timestamp(1_000),
//!     units: Units::default(),
//!     limit: 200,
//! };
//! let mut found = Vec::new();
//! let summary = reader.query(&query, Timestamp(60), |pool| found.push((pool.name.to_owned(), pool.remaining.0[0])));
//! assert_eq!(found, [("north:monday".to_owned(), 6)]);
//! assert_eq!(summary.as_of, Timestamp(50));
//! ```

mod band;
mod entry;
mod index;
pub mod limits;
mod merge;
mod query;
mod slot;
mod table;
mod tree;
mod writer;

pub use band::Band;
pub use query::{Match, Query, QuerySummary, Reader};
pub use table::Table;
pub use writer::Writer;
