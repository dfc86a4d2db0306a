//! Threads beside the executors.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::server::panics_are_fatal;

/// Low enough that an executor which wakes up goes first, high enough that the work keeps up with a busy machine: about a tenth of a processor that
/// is wanted by an executor too.
const PRIORITY: i32 = 10;

/// Starts a thread of low priority. When it panics the process ends: without it the journals would fill up, days later.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(move || {
        panics_are_fatal();
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
            tracing::warn!(%error, "a background thread keeps its priority");
        }
        run();
    })
}
