//! The presets: loads that have a name, a target and defaults.

use clap::ValueEnum;

use crate::args::{PresetArguments, Via};

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
        if arguments.preset != Preset::Batched && (arguments.batch.is_some() || arguments.live.is_some()) {
            return Err("--batch and --live belong to the preset batched");
        }
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
        })
    }

    /// Whether the floors of the machine are measured beside it.
    pub(crate) fn has_floors(&self) -> bool {
        self.preset == Preset::Single
    }
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
        assert!(settings("p1 --batch 2").is_err());
    }
}
