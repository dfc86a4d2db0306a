//! The command line of a free load.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::choice::Choice;
use super::mix::{Mix, Operation};
use super::orders::{Orders, Replay};
use super::work::Work;
use crate::args::Via;
use crate::faults::Fault;
use crate::limits::{
    COMMANDS_IN_FLIGHT_MAX, COMMANDS_PER_FRAME_MAX, CONNECTIONS_MAX, HOLD_SECONDS, IN_FLIGHT_MAX, POOLS_MAX,
    SECONDS_MAX, THREADS_MAX,
};
use crate::preset::{Preset, Settings};
use crate::requirement::parse_rate;
use crate::schedule::{Arrivals, Rate};
use crate::setup::Setup;

const EXAMPLES: &str = "\
Examples:
  plimsoll-loadtest run --arrivals poisson --rate 50k
  plimsoll-loadtest run --arrivals burst --rate 20k --choice zipf --limit 1000 --seconds 20
  plimsoll-loadtest run --arrivals ramp --rate 10k..200k --html ramp.html
  plimsoll-loadtest run --mix hold=3,confirm=2,release=2,availability=10 --arrivals poisson --rate 30k
  plimsoll-loadtest run --arrivals poisson --rate 20k --fault kill@5s --fault stop@7s..8s
  plimsoll-loadtest run --orders orders.csv.gz --dimensions rooms,guests --speed 10000000 --limit 20";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArguments {
    /// How commands arrive; with --orders the file says it
    #[arg(long, value_enum, default_value = "closed", conflicts_with = "orders")]
    pub(crate) arrivals: Arrivals,

    /// Commands a second, with k or M; for a ramp FROM..TO
    #[arg(long, value_name = "RATE[..RATE]", value_parser = Rate::from_str, conflicts_with = "orders")]
    pub(crate) rate: Option<Rate>,

    /// How long it is measured, after a second of warm-up [default: 10, with --orders as long as the file takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX as u64))]
    pub(crate) seconds: Option<u64>,

    /// Connections
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: u32,

    /// Frames in flight on each connection, at most [default: 16, in an open loop 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX))]
    pub(crate) in_flight: Option<u32>,

    /// Commands in a frame, at most; in an open loop as many as are due
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=COMMANDS_PER_FRAME_MAX))]
    pub(crate) batch: u32,

    /// Weights of reserve, hold, confirm, release, availability; what is confirmed and released is of this run
    #[arg(long, value_name = "NAME=N[,..]", default_value = "reserve=1", value_parser = Mix::from_str, conflicts_with = "orders")]
    pub(crate) mix: Mix,

    /// Pools
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u32).range(1..=POOLS_MAX), conflicts_with = "orders")]
    pub(crate) pools: u32,

    /// Which pool: uniform, zipf, zipf=EXPONENT, one
    #[arg(long, value_name = "HOW", default_value = "uniform", value_parser = Choice::from_str, conflicts_with = "orders")]
    pub(crate) choice: Choice,

    /// Units of the first dimension for each reserve
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "orders")]
    pub(crate) units: u32,

    /// Units that each pool has, so that pools do fill [default: more than a run can take]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub(crate) limit: Option<u32>,

    /// Send the orders of this file, .csv or .ndjson, also .gz, as `plimsoll orders` reads it. A server of its own gets its pools;
    /// on a running one they exist
    #[arg(long, value_name = "FILE")]
    pub(crate) orders: Option<PathBuf>,

    /// How many times as fast as the orders came
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_speed, requires = "orders")]
    pub(crate) speed: f64,

    /// Dimensions of a server of its own; --orders takes the columns of these names
    #[arg(long, value_name = "NAMES", default_value = "units", value_delimiter = ',')]
    pub(crate) dimensions: Vec<String>,

    /// Kill the server and start it again, kill@5s, or stop it for a while, stop@3s..4s; may be given several times. At the end each
    /// acknowledged command is accounted for
    #[arg(long, value_name = "FAULT", value_parser = Fault::from_str, conflicts_with_all = ["engine", "orders"])]
    pub(crate) fault: Vec<Fault>,

    /// Processors of the server
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cores: u32,

    /// Threads of the generator, each with its share of the connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: u32,

    #[command(flatten)]
    pub(crate) setup: Setup,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("expected a number above 0".to_owned()),
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `50k` and `10k..200k`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("..") {
            Some((from, to)) => Ok(Self {
                from: parse_rate(from)?,
                to: parse_rate(to)?,
            }),
            None => parse_rate(text).map(Self::constant),
        }
    }
}

impl RunArguments {
    /// What does not fit together.
    fn check(&self) -> Result<(), String> {
        let is_open = self.arrivals != Arrivals::Closed;
        match self.rate {
            None if is_open => return Err("an open loop needs --rate".to_owned()),
            Some(_) if !is_open => return Err("--rate needs --arrivals other than closed".to_owned()),
            Some(rate) if rate.from != rate.to && self.arrivals != Arrivals::Ramp => {
                return Err("FROM..TO belongs to --arrivals ramp".to_owned());
            }
            _ => {}
        }
        if let Some(fault) = self.fault.iter().find(|fault| fault.end() >= self.window()) {
            return Err(format!("{fault} is not over before the run ends"));
        }
        let in_flight = self.connections as usize * self.in_flight() as usize * self.batch as usize;
        if in_flight > COMMANDS_IN_FLIGHT_MAX {
            return Err(format!(
                "{in_flight} commands in flight are more than {COMMANDS_IN_FLIGHT_MAX}"
            ));
        }
        if self.limit.is_some_and(|limit| limit < self.units) {
            return Err("--units above --limit fit into no pool".to_owned());
        }
        Ok(())
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(10))
    }

    fn in_flight(&self) -> u32 {
        let is_open = self.arrivals != Arrivals::Closed || self.orders.is_some();
        self.in_flight.unwrap_or(if is_open { 256 } else { 16 })
    }

    /// What the load consists of. `Err(Ok(..))` says what does not fit together.
    pub(crate) fn settings(&self) -> Result<Settings, Result<String, anyhow::Error>> {
        self.check().map_err(Ok)?;
        let replay = match &self.orders {
            Some(path) => {
                let orders = Orders::read(path, &self.dimensions).map_err(Err)?;
                let speed = self.speed;
                Some(Arc::new(Replay { orders, speed }))
            }
            None => None,
        };
        let seconds = match &replay {
            Some(replay) if self.seconds.is_none() => (replay.seconds().ceil().max(1.0) as u64).min(SECONDS_MAX as u64),
            _ => self.window().as_secs(),
        };
        let work = Work {
            arrivals: self.arrivals,
            rate: match (&replay, self.rate) {
                (Some(replay), _) => Rate::constant(replay.rate()),
                (None, rate) => rate.unwrap_or(Rate::constant(1.0)),
            },
            mix: self.mix,
            choice: self.choice,
            units: self.units,
            limit: self.limit,
            patience: None,
            accepted_only: false,
            // Longer than the run, so that no hold expires within it.
            hold_seconds: u32::try_from(seconds)
                .map_or(u32::MAX, |seconds| seconds + HOLD_SECONDS)
                .min(86_400),
            account: !self.fault.is_empty(),
            replay,
        };
        let pools = work
            .replay
            .as_ref()
            .map_or(self.pools as usize, |replay| replay.orders.pools.len());
        Ok(Settings {
            preset: Preset::Run,
            name: "run",
            target: "",
            cores: self.cores,
            connections: self.connections as usize,
            in_flight: self.in_flight() as usize,
            commands_per_frame: self.batch as usize,
            pools,
            live: 0,
            threads: self.threads.min(self.connections) as usize,
            via: Via::Frames,
            seconds,
            hold: self.mix.has(Operation::Hold),
            changes: 0,
            tails: Vec::new(),
            work: Some(Arc::new(work)),
            dimensions: self.dimensions.join(","),
            faults: self.fault.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn settings(line: &str) -> Result<Settings, String> {
        let line = format!("plimsoll-loadtest run {line}");
        let parsed = Arguments::try_parse_from(line.split_ascii_whitespace()).map_err(|error| error.to_string())?;
        let Command::Run(arguments) = parsed.command else {
            panic!("{line} is a run");
        };
        arguments
            .settings()
            .map_err(|wrong| wrong.unwrap_or_else(|error| error.to_string()))
    }

    #[test]
    fn defaults_and_values() {
        let plain = settings("").expect("nothing is needed");
        let work = plain.work.as_ref().expect("a run has one");
        assert_eq!(
            (work.arrivals, work.mix, plain.in_flight),
            (Arrivals::Closed, Mix::RESERVES, 16)
        );
        let ramp = settings("--arrivals ramp --rate 1k..2M --seconds 30 --connections 4 --batch 8").expect("it fits");
        let work = ramp.work.as_ref().expect("a run has one");
        assert_eq!((work.rate.from, work.rate.to), (1e3, 2e6));
        assert_eq!((ramp.seconds, ramp.in_flight, ramp.commands_per_frame), (30, 256, 8));
        let faults = settings("--fault kill@5s --fault stop@6s..7s").expect("it fits");
        assert_eq!(faults.faults.len(), 2);
        assert!(faults.work.expect("a run has one").account);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for line in [
            "--arrivals poisson",
            "--rate 1k",
            "--arrivals poisson --rate 1k..2k",
            "--arrivals poisson --rate 0",
            "--arrivals poisson --rate 1k..",
            "--fault kill@10s",
            "--fault kill@1s --engine 127.0.0.1:7440",
            "--connections 1024 --in-flight 4096 --batch 2",
            "--units 5 --limit 4",
            "--speed 2",
            "--orders /nonexistent.csv",
            "--orders x.csv --mix reserve",
            "--mix confirm=1",
            "--choice two",
        ] {
            assert!(settings(line).is_err(), "{line}");
        }
    }
}
