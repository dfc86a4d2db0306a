//! The command line. The name of an option's environment variable, `PLIMSOLL_<TABLE>_<KEY>`, also says under which table and
//! key it stands in a settings file; see `config.rs`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use plimsoll_server::Cores;

use crate::availability::AvailabilityArguments;
use crate::backup::BackupArguments;
use crate::completions::pool_names;
use crate::demo::DemoArguments;
use crate::find::FindArguments;
use crate::http::{HttpArguments, HttpListen, HttpOptions, parse_http_listen};
use crate::pool_events::EventsArguments;
use crate::pool_export::ExportArguments;
use crate::pool_set::{NameArguments, SetArguments};
use crate::replay::ReplayCommand;
use crate::resize::ResizeArguments;
use crate::serve::{parse_connection_memory, parse_timeout};
use crate::tune::TuneArguments;
use crate::values::{
    DimensionNames, UnitsByName, parse_cores, parse_dimensions, parse_duration, parse_hold, parse_size, parse_time,
    parse_time_end, parse_units,
};

const EXAMPLES: &str = "\
Examples:
  plimsoll demo --seconds 10                              see it work, nothing is kept
  plimsoll serve --data ./slots --dimensions orders,items
  plimsoll pool import slots.csv
  plimsoll availability --zone north --units orders=1
  plimsoll reserve zone-7:monday --units orders=1,items=12 --hold 10m
  plimsoll confirm 01ARZ3NDEKTSV4RRFFQ69G5FAV

Exit codes:
  0 done, 1 failed, 2 wrong usage, 3 refused (full, closed), 4 outcome unknown, 10-29 fatal (see 'plimsoll serve --help')

Each option shown with [env: ..] can also stand in the file of --config: PLIMSOLL_SERVE_DRAIN_TIMEOUT=5s is
  [serve]
  drain_timeout = \"5s\"
The command line goes before the environment, the environment before the file.";

/// Keeps pools of capacity from being booked past their limits.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Read settings from this TOML file, with the tables serve, http and client
    #[arg(long, global = true, value_name = "FILE", env = "PLIMSOLL_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Say more on standard error; twice for everything. RUST_LOG, when set, decides instead
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine on a data directory
    Serve(ServeArguments),
    /// Serve HTTP in front of an engine that runs elsewhere
    Http(HttpArguments),
    /// Try it: an engine on a temporary directory, with example pools and live traffic
    Demo(DemoArguments),
    /// Import, export, change and show pools
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Pool {
        #[command(subcommand)]
        command: PoolCommand,
    },
    /// Show which pools sell in a window, and how much is left
    Availability(AvailabilityArguments),
    /// Take units from a pool, for good or for a while
    Reserve(ReserveArguments),
    /// Make a hold permanent; again does no harm
    Confirm(ReservationArguments),
    /// Change a reservation's units, or how long it is held
    Resize(ResizeArguments),
    /// Give a reservation's units back; again does no harm
    Release(ReservationArguments),
    /// Show a reservation
    Show(ReservationArguments),
    /// Find reservations by reference or pool, also those that ended long ago
    Find(FindArguments),
    /// Drive a file of orders through a running engine, in the order of time
    Orders(OrdersArguments),
    /// What a data directory remembers: verify, dump, history, past state, diff; reset pools, repair damage
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Replay {
        #[command(subcommand)]
        command: ReplayCommand,
    },
    /// Copy a data directory, also under a running server
    Backup(BackupArguments),
    /// Say what of this host is off for a server, and the command that mends it
    Tune(TuneArguments),
    /// Print a completion script for a shell
    Completions(CompletionsArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create and change pools from a file, all or nothing
    Import(ImportArguments),
    /// Write all pools to a file that can be edited and imported
    Export(ExportArguments),
    /// List all pools by name
    List(ListArguments),
    /// Show one pool
    Get(GetArguments),
    /// Change some of a pool's definition
    Set(SetArguments),
    /// Show what happened to a pool, the newest first
    Events(EventsArguments),
    /// Stop selling; nothing is cancelled
    Close(NameArguments),
    /// Sell again
    Open(NameArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "\
On standard output stands one line, once every listener accepts:
  ready engine=127.0.0.1:7440 http=127.0.0.1:7480
Logs go to standard error. SIGTERM or Ctrl-C finishes what was accepted and ends with 0.

Every queue is bounded. A connection past its window is not read; a frame that does not fit is refused from its header, as
overloaded, and its payload dropped as it comes; a connection past the limit is told so and closed. Each connection has
8 KiB of --connection-memory for itself; above that it may hold an eighth of what is free, so that greedy ones leave
something for the others. Whoever takes too long is closed within about a second more. ARCHITECTURE.md (Limits and shedding)
names every bound.

Examples:
  plimsoll serve --dimensions orders,items          a new directory ./plimsoll-data
  plimsoll serve --data /var/lib/plimsoll           an existing one
  plimsoll serve --cores 2-5 --listen 127.0.0.1:0   four processors, any free port")]
pub(crate) struct ServeArguments {
    /// Where clients connect; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7440",
        env = "PLIMSOLL_SERVE_LISTEN"
    )]
    pub(crate) listen: SocketAddr,

    /// Where HTTP and the planner's page are served, or off; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDR|off",
        default_value = "127.0.0.1:7480",
        value_parser = parse_http_listen,
        env = "PLIMSOLL_SERVE_HTTP"
    )]
    pub(crate) http: HttpListen,

    /// The data directory; made if it does not exist
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./plimsoll-data",
        env = "PLIMSOLL_SERVE_DATA"
    )]
    pub(crate) data: PathBuf,

    /// Processors to use: auto, the first N, or a list such as 0,2 or 4-7
    #[arg(long, value_name = "N|LIST", default_value = "auto", value_parser = parse_cores, env = "PLIMSOLL_SERVE_CORES")]
    pub(crate) cores: Cores,

    /// What pools limit, such as orders,items; required on a new directory, must be equal afterwards
    #[arg(long, value_name = "NAMES", value_parser = parse_dimensions, env = "PLIMSOLL_SERVE_DIMENSIONS")]
    pub(crate) dimensions: Option<DimensionNames>,

    /// How long a stop may take to finish what was accepted
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, env = "PLIMSOLL_SERVE_DRAIN_TIMEOUT")]
    pub(crate) drain_timeout: Duration,

    /// How long an ended reservation and its key stay known
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration, env = "PLIMSOLL_SERVE_KEY_RETENTION")]
    pub(crate) key_retention: Duration,

    /// How long a pool stays after its end and its last event; then it leaves memory, and only history knows it
    #[arg(long, value_name = "TIME", default_value = "35d", value_parser = parse_duration, env = "PLIMSOLL_SERVE_RETIRE_AFTER")]
    pub(crate) retire_after: Duration,

    /// How long a hold still lasts, from the start on, whose deadline passed while the server was down
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, env = "PLIMSOLL_SERVE_HOLD_GRACE")]
    pub(crate) hold_grace: Duration,

    /// Size of the journal's segments, on a new directory
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, env = "PLIMSOLL_SERVE_SEGMENT_SIZE")]
    pub(crate) segment_size: u64,

    /// A snapshot of a core is taken after so many bytes of its journal: more makes a start slower, less costs more beside the traffic
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size, env = "PLIMSOLL_SERVE_SNAPSHOT_AFTER")]
    pub(crate) snapshot_after: u64,

    /// How much disk the segments of each core may take; they are used again once they are archived
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_size, env = "PLIMSOLL_SERVE_JOURNAL_SPACE")]
    pub(crate) journal_space: u64,

    /// The most connections [default: what the limit of open files allows, at most 16384 for each core]
    #[arg(long, value_name = "N", env = "PLIMSOLL_SERVE_CONNECTIONS")]
    pub(crate) connections: Option<NonZeroUsize>,

    /// What the connections of one core may hold in buffers; above it frames are refused as overloaded. At least 32MiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_connection_memory, env = "PLIMSOLL_SERVE_CONNECTION_MEMORY")]
    pub(crate) connection_memory: usize,

    /// Close a connection that has not said hello after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_timeout, env = "PLIMSOLL_SERVE_HANDSHAKE_TIMEOUT")]
    pub(crate) handshake_timeout: Duration,

    /// Close a connection whose frame has not arrived in whole after this time from its first byte
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout, env = "PLIMSOLL_SERVE_FRAME_TIMEOUT")]
    pub(crate) frame_timeout: Duration,

    /// Close a connection whose client takes no byte of its answers for this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout, env = "PLIMSOLL_SERVE_WRITE_TIMEOUT")]
    pub(crate) write_timeout: Duration,

    /// Close a connection on which nothing is asked for this time [default: never, since pools keep idle connections]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, env = "PLIMSOLL_SERVE_IDLE_TIMEOUT")]
    pub(crate) idle_timeout: Option<Duration>,

    /// Accept an address other than loopback: whoever reaches it may do everything
    #[arg(long, env = "PLIMSOLL_SERVE_INSECURE_LISTEN")]
    pub(crate) insecure_listen: bool,

    #[command(flatten)]
    pub(crate) http_options: HttpOptions,
}

/// Where the engine is, unless it is said otherwise.
pub(crate) const ENGINE: &str = "127.0.0.1:7440";

/// What every command takes that talks to an engine.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of client commands")]
pub(crate) struct ClientArguments {
    /// The engine to talk to
    #[arg(
        long,
        value_name = "ADDR",
        default_value = ENGINE,
        env = "PLIMSOLL_CLIENT_ENGINE"
    )]
    pub(crate) engine: String,

    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, env = "PLIMSOLL_CLIENT_TIMEOUT")]
    pub(crate) timeout: Duration,

    /// Print JSON, one object on a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file is CSV with a header (.csv; separated by , or ;) or one JSON object on a line (.ndjson), each also compressed (.gz).
CSV columns: name, zone, kind, starts_at, ends_at and one for each dimension with the limit; optional opens_at, closes_at,
coverage (prefixes separated by spaces), state (open, closed), mode (enforce, shadow), and overbook_D, the overbooking
allowance in dimension D. held_D, confirmed_D and remaining_D are ignored, so that an export can be edited and imported; any
other column is an error. Times are Unix seconds or RFC 3339 with an offset.

Everything is checked first; with any error nothing is changed.

Examples:
  plimsoll pool import slots.csv
  plimsoll pool export pools.csv && plimsoll pool import pools.csv --dry-run")]
pub(crate) struct ImportArguments {
    /// The file of pools: .csv, .ndjson, .csv.gz or .ndjson.gz
    pub(crate) file: PathBuf,

    /// Check everything, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll pool list
  plimsoll pool list --used | sha256sum      name,used[,used..] of each pool, without a header
  plimsoll pool list --json | jq 'select(.remaining.rooms < 1)'
  plimsoll pool list --as-of 2026-12-24T18:00:00Z   as it was then, from the history")]
pub(crate) struct ListArguments {
    /// Print only name,used[,used..] (held + confirmed), in the order of dimensions
    #[arg(long, conflicts_with = "json")]
    pub(crate) used: bool,

    /// With --used: only these dimensions, in the order of dimensions
    #[arg(long, value_name = "NAMES", value_parser = parse_dimensions, requires = "used")]
    pub(crate) dimensions: Option<DimensionNames>,

    /// As it was at this time: Unix seconds or RFC 3339 with an offset; with milliseconds, at the end of that millisecond
    #[arg(long, value_name = "TIME", value_parser = parse_time_end)]
    pub(crate) as_of: Option<i64>,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// The pool's name
    #[arg(add = ArgValueCompleter::new(pool_names))]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With --key the command can be repeated safely: at most one reservation comes of it, and a repeat shows that one as it is now.
Without, a fresh key is drawn; it is named when the outcome stays unknown.

With --hold the units are only held: 'plimsoll confirm ID' makes them permanent, otherwise they are free again at the deadline.

Examples:
  plimsoll reserve zone-7:monday --units orders=1,items=12
  plimsoll reserve zone-7:monday --units orders=1 --hold 10m
  plimsoll reserve zone-7:monday --units orders=1 --key order-4711 --reference 4711")]
pub(crate) struct ReserveArguments {
    /// The pool's name
    #[arg(add = ArgValueCompleter::new(pool_names))]
    pub(crate) pool: String,

    /// How much to take in each dimension; what is not named is 0
    #[arg(long, value_name = "NAME=N[,NAME=N..]", value_parser = parse_units)]
    pub(crate) units: UnitsByName,

    /// Hold it for so long, 1s to 24h in whole seconds, instead of taking it for good
    #[arg(long, value_name = "TIME", value_parser = parse_hold)]
    pub(crate) hold: Option<Duration>,

    /// Idempotency key: a UUID or any text of 1 to 255 visible ASCII characters
    #[arg(long)]
    pub(crate) key: Option<String>,

    /// Your own name for what is reserved, such as an order number; at most 64 bytes
    #[arg(long)]
    pub(crate) reference: Option<String>,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ReservationArguments {
    /// The reservation's id, as reserve printed it
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file is CSV or NDJSON, also compressed (.gz), with at, op (reserve or release), order, pool and a column for each dimension;
other columns are ignored. Lines are taken in the order of `at`, which is kept with each event as occurred_at. A release names
the order. A reserve of an order that still has its reservation, a release of an order that no earlier line reserved, and a
reserve of nothing are skipped, counted and reported.

What became of each line is kept in the progress file. When the command or the engine is killed, run the command again: it
goes on where it was, with no second effect and the same figures. A finished file can be run again: nothing is sent, the
figures are printed.

It ends with 0 when the whole file was processed, whatever was refused; with 1 when it was stopped; with 4 when the engine did
not come back within --patience.

With --hold each order is held first and confirmed by a second command, before the next line of its pool. A hold that expires
before it is confirmed, since something was down for longer, is tried again; the figures are the same.

With --rebuild every order is recorded, also those that enforcement would have refused, and every limit that was passed is
reported: pool, dimension, limit and allowance, the most units used, the time of the first order past them, how many orders
were, and the units used at the end. All pools must exist. For the time of the rebuild those of the file are in shadow mode
and open, without opens_at and closes_at; then they are given back what they had, after an error and Ctrl-C too. Whoever
sells them meanwhile sells without a limit: rebuild while nobody sells, or in an installation that runs dark.
  - The key of an order is its name (NAME#2 for its second reservation, and so on): what an earlier rebuild or a caller with
    the name as key and reference has reserved is found, not taken again. So a file must hold the whole history.
  - Rebuild one file at a time. When the command is killed, its pools stay as they are: run it again, it goes on and gives
    back what they had; --restore-only does just that.
  - Figures besides: would_refuse, the orders past a limit; outside_times, those whose `at` lies outside opens_at and
    closes_at of their pool. Both are accepted. Levels are those of the file; pools in which the engine holds something else
    are listed as differences. Neither changes the exit code: it is 0 when the file was rebuilt.
MIGRATION.md leads from a legacy system to this one.

Examples:
  plimsoll orders orders.csv.gz
  plimsoll orders orders.csv.gz --hold
  plimsoll orders orders.csv.gz --dimensions rooms --progress /var/tmp/orders.progress --json
  plimsoll orders history.csv.gz --rebuild
  plimsoll orders history.csv.gz --rebuild --json | jq -r '.violations[].pool' | uniq")]
pub(crate) struct OrdersArguments {
    /// The file of orders: .csv, .ndjson, .csv.gz or .ndjson.gz
    pub(crate) file: PathBuf,

    /// The columns to take; other dimensions are 0. Without it, a column for each dimension of the engine
    #[arg(long, value_name = "NAMES", value_parser = parse_dimensions)]
    pub(crate) dimensions: Option<DimensionNames>,

    /// Hold each order first, then confirm it; holds last for TIME, 1s to 24h in whole seconds
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = parse_hold)]
    pub(crate) hold: Option<Duration>,

    /// Record every order, whatever its pool's limit, and report the limits that were passed
    #[arg(long, conflicts_with = "hold")]
    pub(crate) rebuild: bool,

    /// With --rebuild: only give pools back what a run that was killed has left changed
    #[arg(long, requires = "rebuild")]
    pub(crate) restore_only: bool,

    /// Take only the lines up to this time; the rest waits for another run
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "rebuild")]
    pub(crate) until: Option<i64>,

    /// Send the lines after this time anew, under new keys, after their pools were reset to when the lines up to it were done;
    /// repeated, it goes on where it was
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with_all = ["rebuild", "until"])]
    pub(crate) again_after: Option<i64>,

    /// With --again-after: after the how manieth reset to that time this is; a greater number sends the lines once more
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..), requires = "again_after")]
    pub(crate) round: u32,

    /// Where to keep what became of each line [default: the name of FILE with .progress, in the current directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) progress: Option<PathBuf>,

    /// The most lines in flight
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..=65_536), env = "PLIMSOLL_CLIENT_WINDOW")]
    pub(crate) window: u32,

    /// How long to keep trying while the engine gives no answer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration, env = "PLIMSOLL_CLIENT_PATIENCE")]
    pub(crate) patience: Duration,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The script asks plimsoll itself how a command line goes on, the names of pools included: those of the engine that
PLIMSOLL_CLIENT_ENGINE names, or of the one on this machine.

Examples:
  source <(plimsoll completions bash)
  plimsoll completions zsh > ~/.zfunc/_plimsoll
  plimsoll completions fish > ~/.config/fish/completions/plimsoll.fish")]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
