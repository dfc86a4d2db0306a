//! Waiting for what a killed process leaves: its lock, its sockets and its locked memory go a little later than the process itself, which may have
//! gigabytes to unmap first, and rings that the kernel tears down by the way.

use std::time::{Duration, Instant};

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

/// Tries again for a while as long as the error is one that passes with the process that is dying.
pub(crate) fn try_patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if may_pass(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}
