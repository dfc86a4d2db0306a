//! The presets: loads that have a name, a target and defaults.

use clap::ValueEnum;

use crate::args::{PresetArguments, Via};
use crate::limits::{FILL_IN_FLIGHT, HOLD_SECONDS};

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
    /// Queries of one zone, 20 of 500 pools, many in flight, beside reserves that change the numbers.
    /// Target: above 500,000 answers a second
    Availability,
    /// How long a start takes after a kill: 1,000,000 live in a snapshot, and tails of several lengths behind it.
    /// Target: ready within 1 s with a tail of 2 million, above 10 million events a second and core
    Recovery,
}

/// What a preset is unless the command line says otherwise.
#[derive(Clone, Copy, Debug)]
struct Defaults {
    name: &'static str,
    target: &'static str,
    cores: u32,
    connections: u32,
    in_flight: u32,
    commands_per_frame: u32,
    live: u32,
}

const POOLS: u32 = 500;
const CHANGES: u32 = 1000;
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
                cores: 2,
                connections: 50,
                in_flight: 16,
                commands_per_frame: 1,
                live: 0,
            },
            Self::P1 => Defaults {
                name: "p1",
                target: "120,000/s with a raw ring, 75,000/s on the runtime's sockets",
                cores: 2,
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
}

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
            seconds: arguments.seconds,
            hold: arguments.hold,
            changes: arguments.changes.unwrap_or(CHANGES),
            tails: if arguments.tail.is_empty() {
                TAILS.to_vec()
            } else {
                arguments.tail.clone()
            },
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
    if arguments.hold && arguments.batch.is_some_and(|batch| batch < 3) {
        return Err("a frame of --hold has at least 3 commands: a release, a confirmation and a reserve");
    }
    if !is_recovery && !arguments.tail.is_empty() {
        return Err("--tail belongs to the preset recovery");
    }
    if !arguments.tail.is_sorted() {
        return Err("--tail: expected rising numbers");
    }
    if is_recovery && (arguments.engine.is_some() || arguments.snapshot_after.is_some()) {
        return Err("the preset recovery starts servers of its own, and says when they take snapshots");
    }
    if is_recovery && (arguments.connections.is_some() || arguments.in_flight.is_some()) {
        return Err("the preset recovery is no load: --connections and --in-flight have no meaning");
    }
    if is_recovery && !arguments.require.is_empty() {
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
        let Command::Preset(arguments) =
            Arguments::try_parse_from(format!("plimsoll-loadtest preset {line}").split(' '))
                .expect(line)
                .command;
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
