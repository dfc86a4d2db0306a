//! HTTP in front of a Plimsoll engine: a JSON interface, server-sent events, metrics, and the planner's page.
//!
//! It speaks to the engine through [`plimsoll_client`] alone, so it runs beside the engine in one process or on another host. It keeps no state that
//! matters: whatever it answers is the engine's.
//!
//! ```no_run
//! use plimsoll_sidecar::{Bound, Options};
//!
//! let bound = Bound::new(Options::new("127.0.0.1:7440"))?;
//! let sidecar = bound.start("127.0.0.1:7440")?;
//! println!("http://{}", sidecar.address());
//! sidecar.wait();
//! # Ok::<(), plimsoll_sidecar::StartError>(())
//! ```

mod app;
mod availability;
mod batch;
mod changes;
mod conditions;
mod definition;
mod document;
mod engine;
mod engine_metrics;
mod event_page;
mod event_stream;
mod events;
mod follower;
mod import;
mod json_body;
mod limits;
mod lookup;
mod metrics;
mod observe;
mod options;
mod page;
mod path;
mod pointer;
mod pool_changes;
mod pool_edits;
mod pool_events;
mod pools;
mod probes;
mod problem;
mod problem_kind;
mod problem_pages;
mod problem_responses;
mod putting;
mod query;
mod reservations;
mod router;
mod samples;
mod serving;
mod settings;
mod sheet;
mod sidecar;
mod strict_json;
mod trace;
mod values;

pub use options::{AccessLog, Options};
pub use sidecar::{Bound, Handle, Sidecar, StartError};
