//! The limits of the harness.

use std::time::Duration;

/// Most connections.
pub(crate) const CONNECTIONS_MAX: i64 = 1024;
/// Most frames in flight on one connection.
pub(crate) const IN_FLIGHT_MAX: i64 = 4096;
/// Most commands in one frame; the server announces its own limit too.
pub(crate) const COMMANDS_PER_FRAME_MAX: i64 = 8192;
/// Most pools.
pub(crate) const POOLS_MAX: i64 = 60_000;
/// Most reservations live at the start.
pub(crate) const LIVE_MAX: i64 = 50_000_000;
/// Most threads of the generator.
pub(crate) const THREADS_MAX: i64 = 64;
/// Most reserves a second beside the queries of `availability`.
pub(crate) const CHANGES_MAX: i64 = 100_000;
/// Most events of a tail that is replayed.
pub(crate) const TAIL_MAX: u64 = 100_000_000;
/// Most points of a series over time.
pub(crate) const SERIES_POINTS_MAX: u32 = 600;
/// Most commands in flight of a free load, all connections together.
pub(crate) const COMMANDS_IN_FLIGHT_MAX: usize = 4 << 20;
/// Most reservations that one thread keeps in mind to confirm or to release them.
pub(crate) const OWNED_MAX: usize = 4 << 20;
/// Most lines of a file of orders.
pub(crate) const ORDER_LINES_MAX: usize = 50_000_000;
/// A command that is sent so long after it was due is late: less than what the server takes, more than a wake-up.
pub(crate) const LATE: Duration = Duration::from_millis(1);
/// How long what is due is gathered, at least.
pub(crate) const TICK: Duration = Duration::from_micros(50);
/// Between two attempts to connect to a server that failed.
pub(crate) const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Longest run.
pub(crate) const SECONDS_MAX: i64 = 24 * 3600;

/// Load before the clock starts.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// How long a reservation of the preset `batched` lives, at least.
pub(crate) const RESERVATION_LIFE: Duration = Duration::from_secs(1);
/// How long a reservation of `--hold` is held: longer than any answer takes, so that none expires unconfirmed.
pub(crate) const HOLD_SECONDS: u32 = 600;
/// How long the probe of `availability` rests between two rounds.
pub(crate) const PROBE_REST: Duration = Duration::from_millis(2);
/// How long a change may stay out of sight before it counts as an error.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the reserves beside the queries are sent.
pub(crate) const CHANGES_INTERVAL: Duration = Duration::from_millis(1);
/// How long snapshots, and what the server's log has to say, are waited for.
pub(crate) const LOG_TIMEOUT: Duration = Duration::from_secs(60);
/// Frames in flight while a directory is filled.
pub(crate) const FILL_IN_FLIGHT: usize = 4;
/// How long the server may take to say that it is ready.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to stop.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers are waited for after the last frame.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Latencies are told apart from 100 ns on, to three digits, up to a minute.
pub(crate) const LATENCY_NS_MIN: u64 = 100;
/// See [`LATENCY_NS_MIN`].
pub(crate) const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Round trips for a floor, each before and after the load.
pub(crate) const FLOOR_ROUND_TRIPS: usize = 10_000;
/// Syncs for a floor, each before and after the load.
pub(crate) const FLOOR_SYNCS: usize = 3000;
/// Size of the file that the syncs of a floor go to.
pub(crate) const FLOOR_FILE_SIZE_BYTES: usize = 16 << 20;

/// How long a peer's server is waited for between two looks.
pub(crate) const PEER_POLL: Duration = Duration::from_millis(20);
/// How long a peer's server may take to end when the run is given up.
pub(crate) const PEER_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Reservations that are made together before the clock starts.
pub(crate) const PEER_COMMANDS_PER_FILL: usize = 4096;
/// Connections to Redis for many commands at once, and how many commands are in a pipeline.
pub(crate) const REDIS_BATCH_CONNECTIONS: usize = 50;
/// See [`REDIS_BATCH_CONNECTIONS`].
pub(crate) const REDIS_PIPELINE: usize = 64;
/// Most connections to PostgreSQL: each is a process, and more of them on two processors are slower.
pub(crate) const POSTGRES_CONNECTIONS: usize = 32;
