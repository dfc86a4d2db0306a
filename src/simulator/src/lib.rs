//! Simulation of Plimsoll's core: the production engine and journal on a simulated disk, clock and network.
//!
//! One seed is one run. The world plays the server's role over the calls that the server makes, lets clients ask, lose connections and ask again,
//! crashes the process or the machine at any step, and holds everything against a naive model and against what clients were told. A broken promise
//! comes back as a [`Failure`] with the command line that repeats it.
//!
//! ```
//! use plimsoll_simulator::{Options, run};
//!
//! let options = Options { steps: 300, ..Options::new(1) };
//! let first = run(&options).map_err(|failure| failure.report)?;
//! let second = run(&options).map_err(|failure| failure.report)?;
//! assert_eq!(first.digest, second.digest);
//! # Ok::<(), String>(())
//! ```

mod checkers;
mod clients;
mod dice;
mod digest;
mod disk;
mod faults;
mod housekeeping;
mod log;
mod memory;
mod mirror;
mod model;
mod plants;
mod readers;
mod resets;
mod restart;
mod run;
mod service;
mod snapshots;
mod storage;
mod trace;
mod world;

pub use checkers::{Promise, Violation};
pub use faults::{FaultKind, Faults};
pub use plants::Plant;
pub use run::{Failure, Options, Outcome, run, shrink};
pub use storage::{SimSegment, SimStorage};
pub use trace::{command_line, report};
