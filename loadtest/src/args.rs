//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limits::{
    CHANGES_MAX, COMMANDS_PER_FRAME_MAX, CONNECTIONS_MAX, IN_FLIGHT_MAX, LIVE_MAX, POOLS_MAX, SECONDS_MAX, TAIL_MAX,
    THREADS_MAX,
};
use crate::load::arguments::RunArguments;
use crate::peers::Peer;
use crate::preset::Preset;
use crate::setup::Setup;

const EXAMPLES: &str = "\
Examples:
  plimsoll-loadtest preset batched
  plimsoll-loadtest preset p16 --cores 1 --json p16.json
  plimsoll-loadtest preset p1 --seconds 30 --require p99=2ms,rate=75k
  plimsoll-loadtest preset single --data /var/lib
  plimsoll-loadtest preset p16 --hold --snapshot-after 64MiB
  plimsoll-loadtest preset availability --changes 1000
  plimsoll-loadtest preset open100k --html open100k.html
  plimsoll-loadtest preset overload --seconds 60
  plimsoll-loadtest preset p16 --against redis,postgres --data /var/lib
  plimsoll-loadtest preset recovery --live 1000000 --tail 500000,1000000,2000000

Exit codes: 0 done and right; 1 failed, or the sums are wrong, or a requirement was not met; 2 wrong usage.";

/// Drives a Plimsoll server with a stated load, measures it, and checks that the sums are right.
#[derive(Debug, Parser)]
#[command(name = "plimsoll-loadtest", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a load that has a name and a target
    Preset(Box<PresetArguments>),
    /// Run a load of any mixture, also with faults, in an open or a closed loop
    Run(Box<RunArguments>),
}

/// How one command in a frame of its own is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// Frames on the harness's own socket, read and written in place: the least cost beside the server
    Frames,
    /// `Client::reserve`: what a caller of the client library gets
    Client,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PresetArguments {
    /// Which load
    #[arg(value_enum)]
    pub(crate) preset: Preset,

    /// How long it is measured, after a second of warm-up [default: 10, of `overload` 60]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX as u64))]
    pub(crate) seconds: Option<u64>,

    /// Processors of the server [default: what the preset says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "engine")]
    pub(crate) cores: Option<u32>,

    /// Connections [default: what the preset says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: Option<u32>,

    /// Frames in flight on each connection [default: what the preset says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX))]
    pub(crate) in_flight: Option<u32>,

    /// Commands in a frame, at most half of them releases; `batched` only [default: 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=COMMANDS_PER_FRAME_MAX))]
    pub(crate) batch: Option<u32>,

    /// Pools, each of which never fills [default: 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=POOLS_MAX))]
    pub(crate) pools: Option<u32>,

    /// Reservations live when the clock starts; `batched` and `recovery` only [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=LIVE_MAX))]
    pub(crate) live: Option<u32>,

    /// Each reserve is a hold, which a second command confirms; not with `availability` and `recovery`
    #[arg(long)]
    pub(crate) hold: bool,

    /// Reserves a second beside the queries; `availability` only [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=CHANGES_MAX))]
    pub(crate) changes: Option<u32>,

    /// Events behind the snapshot, one start for each number, rising; `recovery` only [default: 500000,1000000,2000000]
    #[arg(long, value_name = "N[,..]", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=TAIL_MAX))]
    pub(crate) tail: Vec<u64>,

    /// Threads of the generator, each with its share of the connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: u32,

    /// How a single command is sent; `batched` always uses `Client::batch`
    #[arg(long, value_enum, default_value = "frames")]
    pub(crate) via: Via,

    /// Bytes of a core's journal from snapshot to snapshot, such as 64MiB [default: the server's]
    #[arg(long, value_name = "SIZE", conflicts_with = "engine")]
    pub(crate) snapshot_after: Option<String>,

    /// How much disk the journal of each core may take [default: the server's]
    #[arg(long, value_name = "SIZE", conflicts_with = "engine")]
    pub(crate) journal_space: Option<String>,

    /// Measure these systems beside it with the same work, each started by the harness in a directory of its own below --data
    #[arg(
        long,
        value_enum,
        value_name = "NAME[,..]",
        value_delimiter = ',',
        conflicts_with = "hold"
    )]
    pub(crate) against: Vec<Peer>,

    /// The program `redis-server` [default: the one in PATH]
    #[arg(long, value_name = "PATH", requires = "against")]
    pub(crate) redis_server: Option<PathBuf>,

    /// The directory of PostgreSQL's programs [default: that in PATH, or the newest of /usr/lib/postgresql]
    #[arg(long, value_name = "DIR", requires = "against")]
    pub(crate) postgres_bin: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) setup: Setup,
}

impl PresetArguments {
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            snapshot_after: self.snapshot_after.clone(),
            journal_space: self.journal_space.clone(),
            ..self.setup.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<PresetArguments, clap::Error> {
        match Arguments::try_parse_from(line.split(' '))?.command {
            Command::Preset(arguments) => Ok(*arguments),
            Command::Run(_) => panic!("{line} is no preset"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_and_values() {
        let plain = parse("plimsoll-loadtest preset p16").expect("a name is enough");
        assert_eq!(
            (plain.preset, plain.seconds, plain.threads, plain.cores),
            (Preset::P16, None, 1, None)
        );
        assert_eq!((plain.setup.key_retention.as_str(), plain.via), ("1s", Via::Frames));
        let full = parse(
            "plimsoll-loadtest preset batched --seconds 3 --cores 2 --connections 4 --in-flight 8 --batch 100 --pools 7 \
             --live 1000 --threads 2 --require p99=1ms,rate=100k --json out.json",
        )
        .expect("all options are known");
        assert_eq!(
            (full.cores, full.connections, full.in_flight),
            (Some(2), Some(4), Some(8))
        );
        assert_eq!((full.batch, full.pools, full.live), (Some(100), Some(7), Some(1000)));
        assert_eq!(full.setup.require.len(), 2);
        let recovery = parse("plimsoll-loadtest preset recovery --live 9 --tail 5,10 --journal-space 1GiB")
            .expect("all options are known");
        assert_eq!((recovery.tail.as_slice(), recovery.live), (&[5, 10][..], Some(9)));
        assert_eq!(recovery.journal_space.as_deref(), Some("1GiB"));
        let beside = parse("plimsoll-loadtest preset p16 --against redis,postgres --redis-server /opt/redis-server")
            .expect("all options are known");
        assert_eq!(beside.against, [Peer::Redis, Peer::Postgres]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "plimsoll-loadtest",
            "plimsoll-loadtest preset",
            "plimsoll-loadtest preset nothing",
            "plimsoll-loadtest preset p1 --seconds 0",
            "plimsoll-loadtest preset p1 --connections 5000",
            "plimsoll-loadtest preset p1 --batch 1",
            "plimsoll-loadtest preset p1 --engine 127.0.0.1:7440 --cores 2",
            "plimsoll-loadtest preset p1 --engine 127.0.0.1:7440 --snapshot-after 1GiB",
            "plimsoll-loadtest preset recovery --tail 0",
            "plimsoll-loadtest preset p1 --require p98=1ms",
            "plimsoll-loadtest preset p1 --against oracle",
            "plimsoll-loadtest preset p1 --against redis --hold",
            "plimsoll-loadtest preset p1 --redis-server redis-server",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
