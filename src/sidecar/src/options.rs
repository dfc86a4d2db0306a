//! What an operator chooses.

use std::net::SocketAddr;
use std::time::Duration;

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that were answered with a status from 400 on.
    Errors,
    /// All.
    All,
}

/// What an operator chooses. [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the engine is, `host:port`.
    pub engine: String,
    /// Where HTTP is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the page, pools, exact numbers, events and metrics are served. `None`: at `listen`, with everything else.
    pub admin: Option<SocketAddr>,
    /// Whether an address other than loopback is accepted: there is no authentication yet.
    pub insecure_listen: bool,
    /// The time zone of the installation, an IANA name; in which the page shows times.
    pub time_zone: String,
    /// How long the engine may take to answer, with everything that is tried again meanwhile.
    pub request_timeout: Duration,
    /// How long a stop may take to finish what was accepted.
    pub drain_timeout: Duration,
    /// Threads that serve HTTP, at least 1.
    pub threads: usize,
    /// Connections to the engine, at least 1.
    pub engine_connections: usize,
    /// Which requests are logged.
    pub access_log: AccessLog,
}

impl Options {
    /// How often a feed without events is told, in milliseconds: it waits for half of the time that a request may take, at most five seconds.
    pub(crate) fn feed_interval_ms(&self) -> u64 {
        let wait = (self.request_timeout / 2).min(Duration::from_secs(5));
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// The defaults, with this engine.
    pub fn new(engine: impl Into<String>) -> Options {
        Options {
            engine: engine.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7480)),
            admin: None,
            insecure_listen: false,
            time_zone: "UTC".to_owned(),
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            threads: 2,
            engine_connections: 2,
            access_log: AccessLog::Errors,
        }
    }
}
