//! The presets: loads that have a name, a target and defaults.

use std::sync::Arc;

use clap::ValueEnum;

use crate::args::{PresetArguments, Via};
use crate::faults::Fault;
use crate::limits::{FILL_IN_FLIGHT, HOLD_SECONDS};
use crate::load::work::Work;
use crate::schedule::Arrivals;

/// A load that has a name and a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Few connections, frames of many commands, 1,000,000 reservations live, each released a second later.
    /// Target: 5 million commands a second
    Batched,
    /// 50 connections, 16 frames in flight on each, one reserve in a frame.
    /// Target: 1,000,000 a second with a raw ring, 745,000 on the runtime's sockets
    P16,
    /// 50 connections, one frame in flight on each, one reserve in a frame.
    /// Target: 120,000 a second with a raw ring, 75,000 on the runtime's sockets
    P1,
    /// One connection, one frame in flight, one reserve in a frame.
    /// Target: p50 within 1.3 times of (loopback round trip + store and sync of one page), both measured in the same run
    Single,
    /// One pool, against 500 pools owned by one core: each as `p16` on a server of one core.
    /// Target: at least 0.9 of the rate
    Hot,
    /// 100,000 reserves a second in an open loop, independent of one another, on 50 connections.
    /// Target: p99 below 1 ms, p99.9 below 3 ms, from when they were due
    Open100k,
    /// Queries of one zone, 20 of 500 pools, many in flight, beside reserves that change the numbers.
    /// Target: above 500,000 answers a second
    Availability,
    /// Ten times the rate of `p16` offered for a minute, generator and server on processors of their own.
    /// Target: at least 0.9 of the peak, and normal within a second afterwards
    Overload,
    /// How long a start takes after a kill: 1,000,000 live in a snapshot, and tails of several lengths behind it.
    /// Target: ready within 1 s with a tail of 2 million, above 10 million events a second and core
    Recovery,
    /// No preset: a load that the command line describes.
    #[value(skip)]
    Run,
}

/// What a preset is unless the command line says otherwise.
#[derive(Clone, Copy, Debug)]
struct Defaults {
    name: &'static str,
    target: &'static str,
    /// One where the generator is the other half of the work: on two processors two cores and the generator wait for each other.
    cores: u32,
    connections: u32,
    in_flight: u32,
    commands_per_frame: u32,
    live: u32,
}

const POOLS: u32 = 500;
const SECONDS: u64 = 10;
const CHANGES: u32 = 1000;
/// Reserves a second of `open100k`.
const OPEN_RATE: f64 = 100_000.0;
const TAILS: [u64; 3] = [500_000, 1_000_000, 2_000_000];

impl Preset {
    const fn defaults(self) -> Defaults {
        match self {
            Self::Batched => Defaults {
                name: "batched",
                target: "5,000,000/s",
                cores: 2,
                connections: 2,
                in_flight: 4,
                commands_per_frame: 4096,
                live: 1_000_000,
            },
            Self::P16 => Defaults {
                name: "p16",
                target: "1,000,000/s with a raw ring, 745,000/s on the runtime's sockets",
                cores: 1,
                connections: 50,
                in_flight: 16,
                commands_per_frame: 1,
                live: 0,
            },
            Self::P1 => Defaults {
                name: "p1",
                target: "120,000/s with a raw ring, 75,000/s on the runtime's sockets",
                cores: 1,
                connections: 50,
                in_flight: 1,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Single => Defaults {
                name: "single",
                target: "p50 at most 1.3 times round trip + sync",
                cores: 1,
                connections: 1,
                in_flight: 1,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Hot => Defaults {
                name: "hot",
                target: "at least 0.9 of the rate of 500 pools",
                cores: 1,
                connections: 50,
                in_flight: 16,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Open100k => Defaults {
                name: "open100k",
                target: "p99 below 1 ms, p99.9 below 3 ms",
                cores: 1,
                connections: 50,
                in_flight: 256,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Overload => Defaults {
                name: "overload",
                target: "at least 0.9 of the peak, p99 and memory bounded, normal within 1 s afterwards",
                cores: 1,
                connections: 50,
                in_flight: 4096,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Run => Defaults {
                name: "run",
                target: "",
                cores: 2,
                connections: 50,
                in_flight: 16,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Availability => Defaults {
                name: "availability",
                target: "above 500,000 answers/s",
                cores: 2,
                connections: 8,
                in_flight: 64,
                commands_per_frame: 1,
                live: 0,
            },
            Self::Recovery => Defaults {
                name: "recovery",
                target: "ready within 1 s with 1,000,000 live and a tail of 2,000,000; 10,000,000 events/s and core",
                cores: 2,
                connections: 1,
                in_flight: FILL_IN_FLIGHT as u32,
                commands_per_frame: 4096,
                live: 1_000_000,
            },
        }
    }
}

/// A preset with the command line's changes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) preset: Preset,
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    pub(crate) cores: u32,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) commands_per_frame: usize,
    pub(crate) pools: usize,
    pub(crate) live: usize,
    pub(crate) threads: usize,
    pub(crate) via: Via,
    pub(crate) seconds: u64,
    /// Each reserve is a hold, confirmed by a second command.
    pub(crate) hold: bool,
    /// Reserves a second beside the queries.
    pub(crate) changes: u32,
    /// Events behind the snapshot, rising.
    pub(crate) tails: Vec<u64>,
    /// What a load of the open driver consists of; `None`: the preset has a driver of its own.
    pub(crate) work: Option<Arc<Work>>,
    /// Dimensions of the harness's own server, separated by commas.
    pub(crate) dimensions: String,
    /// What happens to the server within the window.
    pub(crate) faults: Vec<Fault>,
}

/// The dimension of the harness's own server.
const DIMENSIONS: &str = "units";

/// How long `overload` is measured unless the command line says otherwise.
const OVERLOAD_SECONDS: u64 = 60;

impl Settings {
    pub(crate) fn new(arguments: &PresetArguments) -> Result<Self, &'static str> {
        let Defaults {
            name,
            target,
            cores,
            connections,
            in_flight,
            commands_per_frame,
            live,
        } = arguments.preset.defaults();
        check(arguments)?;
        let connections = arguments.connections.unwrap_or(connections) as usize;
        Ok(Self {
            preset: arguments.preset,
            name,
            target,
            cores: arguments.cores.unwrap_or(cores),
            connections,
            in_flight: arguments.in_flight.unwrap_or(in_flight) as usize,
            commands_per_frame: arguments.batch.unwrap_or(commands_per_frame) as usize,
            pools: arguments.pools.unwrap_or(POOLS) as usize,
            live: arguments.live.unwrap_or(live) as usize,
            threads: (arguments.threads as usize).min(connections),
            via: arguments.via,
            seconds: arguments.seconds.unwrap_or(if arguments.preset == Preset::Overload {
                OVERLOAD_SECONDS
            } else {
                SECONDS
            }),
            hold: arguments.hold,
            changes: arguments.changes.unwrap_or(CHANGES),
            tails: if arguments.tail.is_empty() {
                TAILS.to_vec()
            } else {
                arguments.tail.clone()
            },
            work: (arguments.preset == Preset::Open100k)
                .then(|| Arc::new(Work::reserves(Arrivals::Poisson, OPEN_RATE))),
            dimensions: DIMENSIONS.to_owned(),
            faults: Vec::new(),
        })
    }

    /// For how long a reserve is held; 0 confirms it at once.
    pub(crate) fn hold_seconds(&self) -> u32 {
        if self.hold { HOLD_SECONDS } else { 0 }
    }

    /// Whether the floors of the machine are measured beside it.
    pub(crate) fn has_floors(&self) -> bool {
        self.preset == Preset::Single
    }
}

/// Refuses options that the preset would pass over.
fn check(arguments: &PresetArguments) -> Result<(), &'static str> {
    let preset = arguments.preset;
    let is_recovery = preset == Preset::Recovery;
    if preset != Preset::Batched && arguments.batch.is_some() {
        return Err("--batch belongs to the preset batched");
    }
    if !matches!(preset, Preset::Batched | Preset::Recovery) && arguments.live.is_some() {
        return Err("--live belongs to the presets batched and recovery");
    }
    if preset != Preset::Availability && arguments.changes.is_some() {
        return Err("--changes belongs to the preset availability");
    }
    if preset == Preset::Availability && arguments.pools.is_some_and(|pools| pools < 2) {
        return Err("the preset availability needs at least 2 pools: one is the probe's");
    }
    if matches!(preset, Preset::Availability | Preset::Recovery) && arguments.hold {
        return Err("--hold belongs to the presets that reserve");
    }
    let is_driven = matches!(preset, Preset::Open100k | Preset::Overload);
    if is_driven && (arguments.hold || arguments.via == Via::Client) {
        return Err("an open loop sends reserves in frames: --hold and --via client have no meaning");
    }
    if matches!(preset, Preset::Hot | Preset::Overload) && arguments.setup.engine.is_some() {
        return Err("the presets hot and overload start servers of their own");
    }
    if preset == Preset::Hot && arguments.pools.is_some_and(|pools| pools < 2) {
        return Err("the preset hot compares one pool with several");
    }
    if arguments.hold && arguments.batch.is_some_and(|batch| batch < 3) {
        return Err("a frame of --hold has at least 3 commands: a release, a confirmation and a reserve");
    }
    if !is_recovery && !arguments.tail.is_empty() {
        return Err("--tail belongs to the preset recovery");
    }
    if !arguments.tail.is_sorted() {
        return Err("--tail: expected rising numbers");
    }
    if is_recovery && (arguments.setup.engine.is_some() || arguments.snapshot_after.is_some()) {
        return Err("the preset recovery starts servers of its own, and says when they take snapshots");
    }
    if is_recovery && (arguments.connections.is_some() || arguments.in_flight.is_some()) {
        return Err("the preset recovery is no load: --connections and --in-flight have no meaning");
    }
    if is_recovery && !arguments.setup.require.is_empty() {
        return Err("--require has no meaning for the preset recovery");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn settings(line: &str) -> Result<Settings, &'static str> {
        let parsed = Arguments::try_parse_from(format!("plimsoll-loadtest preset {line}").split(' ')).expect(line);
        let Command::Preset(arguments) = parsed.command else {
            panic!("{line} is a preset");
        };
        Settings::new(&arguments)
    }

    #[test]
    fn the_command_line_goes_before_the_preset() {
        let plain = settings("p16").expect("the defaults are sound");
        assert_eq!(
            (
                plain.connections,
                plain.in_flight,
                plain.commands_per_frame,
                plain.pools
            ),
            (50, 16, 1, 500)
        );
        let changed =
            settings("p16 --connections 3 --in-flight 2 --pools 9 --cores 4 --threads 8").expect("it is allowed");
        assert_eq!(
            (changed.connections, changed.in_flight, changed.pools, changed.cores),
            (3, 2, 9, 4)
        );
        assert_eq!(changed.threads, 3, "a thread without a connection has nothing to do");
        assert_eq!(settings("batched").map(|settings| settings.live), Ok(1_000_000));
        assert_eq!(settings("overload").map(|settings| settings.seconds), Ok(60));
        assert_eq!(settings("overload --seconds 5").map(|settings| settings.seconds), Ok(5));
        assert!(settings("open100k").is_ok_and(|settings| settings.work.is_some()));
    }

    #[test]
    fn options_of_other_presets_are_refused() {
        for line in [
            "p1 --batch 2",
            "p1 --live 2",
            "p1 --changes 2",
            "p1 --tail 2",
            "availability --hold",
            "batched --hold --batch 2",
            "availability --pools 1",
            "recovery --tail 2,1",
            "recovery --engine 127.0.0.1:7440",
            "recovery --snapshot-after 1MiB",
            "recovery --connections 2",
            "recovery --require rate=1",
            "open100k --hold",
            "overload --via client",
            "overload --engine 127.0.0.1:7440",
            "hot --engine 127.0.0.1:7440",
            "hot --pools 1",
        ] {
            assert!(settings(line).is_err(), "{line}");
        }
        assert_eq!(
            settings("recovery --live 7").map(|settings| settings.tails),
            Ok(TAILS.to_vec())
        );
        assert_eq!(settings("batched --hold").map(|settings| settings.hold), Ok(true));
    }
}
