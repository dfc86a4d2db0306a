//! What the benches share: inputs from a fixed seed, in a full and in a tiny size.
//!
//! ```text
//! cargo bench -p plimsoll-benches --bench domain     measure
//! cargo bench -p plimsoll-benches -- --test          run each once on tiny inputs, not for time
//! ```
//!
//! A bench states its question, its input size and whether that fits the cache in the comment of its function, and prints a
//! digest. The digest depends on the seed and the size alone, never on how many rounds the clock allowed, so that two
//! machines, or two commits, can be seen to have done the same work.

mod counting;
mod inventory;
mod sim_core;
mod sim_storage;

pub use counting::{Bytes, Counting};
pub use inventory::{HOLD_SECONDS, Inventory, InventorySize, Request, Restored, Snapshot, definition};
pub use sim_core::{Batches, Change, SimCore, SimJournal};
pub use sim_storage::{FullSegments, SimDisk, SimSegment, SimStorage};

/// The seed of every input.
pub const SEED: u64 = 0x504C_494D_534F_4C4C;

/// Whether this process only has to show that the benches run: inputs are tiny then.
pub fn is_test_run() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The size of an input, by the kind of run.
pub fn sized<T>(full: T, tiny: T) -> T {
    if is_test_run() { tiny } else { full }
}
