//! What an operator chooses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which processors the executors are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as the data directory has journals; on a new directory as many as this process may run on.
    Auto,
    /// The first so many of the processors that this process may run on.
    Count(usize),
    /// These processors, by their numbers.
    List(Vec<usize>),
}

/// What an operator chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the binary protocol listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data directory; made if it does not exist.
    pub data: PathBuf,
    /// Which processors are used.
    pub cores: Cores,
    /// Names of the dimensions; required on a new directory, must be equal on an existing one.
    pub dimensions: Option<Vec<String>>,
    /// How long a stop may take to finish what was accepted.
    pub drain_timeout: Duration,
    /// How long an ended reservation and its key stay known.
    pub key_retention: Duration,
    /// Size of a new directory's segments in bytes.
    pub segment_size: u64,
    /// Whether an address other than loopback is accepted: there is no authentication yet.
    pub insecure_listen: bool,
}
