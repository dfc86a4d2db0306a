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

/// What clients may cost. [`ConnectionOptions::default`] is meant for production.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// The most connections of the whole server. `None`: as many as the limit of open files allows, at most 16,384 for each core; more than that is
    /// never taken.
    pub count_max: Option<usize>,
    /// Bytes that the connections of one core may hold in buffers, received and not sent; at least 32 MiB are taken.
    pub memory_per_core: usize,
    /// From accepting to hello.
    pub handshake_timeout: Duration,
    /// From the first byte of a frame to its last.
    pub frame_timeout: Duration,
    /// How long a client may take no byte of its answers.
    pub write_timeout: Duration,
    /// How long a connection may ask nothing. `None`: for ever. Pools of connections keep idle ones on purpose, a request that meets the close has an
    /// unknown outcome, an idle connection costs little, and a peer that has vanished is noticed by probes of the kernel.
    pub idle_timeout: Option<Duration>,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            count_max: None,
            memory_per_core: 256 << 20,
            handshake_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: None,
        }
    }
}

/// What an operator chooses. [`Options::new`] has the defaults.
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
    /// How long a pool stays after its end and its last event; at least as long as the key retention.
    pub retire_after: Duration,
    /// How long a hold still lasts, from the start on, whose deadline passed while the server was down.
    pub hold_grace: Duration,
    /// Nothing happens by itself: no deadline is moved, no hold expires, no pool retires, and nothing is swept. For whoever looks at a stopped directory
    /// as it is.
    pub stands_still: bool,
    /// Size of a new directory's segments in bytes.
    pub segment_size: u64,
    /// A snapshot of a core is taken after so many bytes of its journal.
    pub snapshot_after: u64,
    /// How many bytes of segments each core may have on the disk; at the end of it the journal is full until some can be used again.
    pub journal_space: u64,
    /// What clients may cost.
    pub connections: ConnectionOptions,
    /// Whether an address other than loopback is accepted: there is no authentication yet.
    pub insecure_listen: bool,
}

impl Options {
    /// How much room for its segments a core needs on a directory with segments of this size, in bytes: two snapshots and what comes while a third is
    /// written must fit, with the segments that are prepared.
    #[must_use]
    pub fn journal_space_min(&self, segment_size: u64) -> u64 {
        let snapshots = self.snapshot_after.saturating_mul(3);
        snapshots.saturating_add(segment_size.saturating_mul(6))
    }

    /// The defaults, with this data directory.
    pub fn new(data: PathBuf) -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 7440)),
            data,
            cores: Cores::Auto,
            dimensions: None,
            drain_timeout: Duration::from_secs(10),
            key_retention: Duration::from_hours(24),
            retire_after: Duration::from_hours(35 * 24),
            hold_grace: Duration::from_secs(30),
            stands_still: false,
            segment_size: 64 << 20,
            snapshot_after: 256 << 20,
            journal_space: 4 << 30,
            connections: ConnectionOptions::default(),
            insecure_listen: false,
        }
    }
}
