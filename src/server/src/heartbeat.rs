//! One plain thread that wakes every executor from outside, since the runtime can put one to sleep with work to do (`runtime.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::shared::Shared;

/// The longest that a lost wake-up delays anything while requests come.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// The same when nothing was asked for a while: a beat costs each core 130 µs (8 system calls of the runtime), and an idle server shall take less than 1 % of a processor.
/// It never stops: the first request after a rest could meet the lost wake-up too.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);
/// How long after the last request the short interval is kept.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Starts the thread; it ends when every executor has.
pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
        let mut busy_until = Instant::now();
        let mut seen = 0;
        while !shared.is_finished() {
            for pulse in &shared.pulses {
                pulse.beat();
            }
            let asked = shared.asked.load(Ordering::Relaxed);
            if asked != seen {
                seen = asked;
                busy_until = Instant::now() + BUSY_FOR;
            }
            std::thread::sleep(if Instant::now() < busy_until {
                BUSY_INTERVAL
            } else {
                IDLE_INTERVAL
            });
        }
    })
}
