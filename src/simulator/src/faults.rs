//! What may go wrong in a run, and how often in this one.

use std::fmt;

use crate::dice::Dice;
use crate::disk::Stale;

/// A sort of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FaultKind {
    /// Power is lost: any part of what was not synced survives.
    PowerLoss,
    /// SIGKILL: what was stored stays in the page cache.
    Kill,
    /// The process stops in the middle of a turn.
    TurnCrash,
    /// The process stops in the middle of a recovery, several times in a row.
    RecoveryCrash,
    /// A sync fails; its pages count as clean and are not on the disk.
    SyncFailure,
    /// No room for another segment, for a while.
    DiskFull,
    /// Segments are prepared late.
    RingShort,
    /// A bit of the disk flips.
    BitFlip,
    /// The clock jumps.
    ClockJump,
    /// Connections are lost, with answers and requests.
    ConnectionLoss,
    /// More arrives than the queues take.
    Flood,
    /// Prepared segments hold old bytes.
    StaleBytes,
    /// The kernel writes dirty pages when it likes to.
    WriteBack,
    /// The newest snapshot is damaged or gone when it is needed.
    SnapshotLoss,
    /// The machine is down for a while, or the process stands still.
    Pause,
}

impl FaultKind {
    /// All sorts.
    pub const ALL: [FaultKind; 15] = [
        FaultKind::PowerLoss,
        FaultKind::Kill,
        FaultKind::TurnCrash,
        FaultKind::RecoveryCrash,
        FaultKind::SyncFailure,
        FaultKind::DiskFull,
        FaultKind::RingShort,
        FaultKind::BitFlip,
        FaultKind::ClockJump,
        FaultKind::ConnectionLoss,
        FaultKind::Flood,
        FaultKind::StaleBytes,
        FaultKind::WriteBack,
        FaultKind::SnapshotLoss,
        FaultKind::Pause,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::PowerLoss => "power-loss",
            FaultKind::Kill => "kill",
            FaultKind::TurnCrash => "turn-crash",
            FaultKind::RecoveryCrash => "recovery-crash",
            FaultKind::SyncFailure => "sync-failure",
            FaultKind::DiskFull => "disk-full",
            FaultKind::RingShort => "ring-short",
            FaultKind::BitFlip => "bit-flip",
            FaultKind::ClockJump => "clock-jump",
            FaultKind::ConnectionLoss => "connection-loss",
            FaultKind::Flood => "flood",
            FaultKind::StaleBytes => "stale-bytes",
            FaultKind::WriteBack => "write-back",
            FaultKind::SnapshotLoss => "snapshot-loss",
            FaultKind::Pause => "pause",
        }
    }

    fn from_name(name: &str) -> Option<FaultKind> {
        FaultKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A set of sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults(0);
    /// Whatever the seed chooses.
    pub const ALL: Faults = Faults((1 << FaultKind::ALL.len()) - 1);

    /// Whether the sort is in the set.
    pub fn contains(self, kind: FaultKind) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// The set without the sort.
    #[must_use]
    pub fn without(self, kind: FaultKind) -> Faults {
        Faults(self.0 & !(1 << kind as u32))
    }

    /// The sorts in the set.
    pub fn kinds(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Faults::ALL => formatter.write_str("all"),
            Faults::NONE => formatter.write_str("none"),
            faults => {
                let names: Vec<_> = faults.kinds().map(FaultKind::name).collect();
                formatter.write_str(&names.join(","))
            }
        }
    }
}

impl std::str::FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::ALL),
            "none" => return Ok(Faults::NONE),
            _ => {}
        }
        text.split(',').try_fold(Faults::NONE, |faults, name| {
            let known = || FaultKind::ALL.map(FaultKind::name).join(", ");
            let kind = FaultKind::from_name(name)
                .ok_or_else(|| format!("no fault {name:?}; there are all, none, {}", known()))?;
            Ok(Faults(faults.0 | 1 << kind as u32))
        })
    }
}

/// How often in a thousand steps, or in a thousand occasions, each fault strikes in this run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultMix {
    pub(crate) power_loss: u64,
    pub(crate) kill: u64,
    pub(crate) turn_crash: u64,
    pub(crate) recovery_crash: u64,
    pub(crate) sync_failure: u64,
    pub(crate) disk_full: u64,
    pub(crate) ring_short: u64,
    pub(crate) bit_flip: u64,
    pub(crate) clock_jump: u64,
    pub(crate) connection_loss: u64,
    pub(crate) flood: bool,
    pub(crate) write_back: u64,
    pub(crate) snapshot_loss: u64,
    pub(crate) pause: u64,
    pub(crate) stale: Stale,
}

impl FaultMix {
    pub(crate) fn draw(faults: Faults, dice: &mut Dice) -> FaultMix {
        // Every draw is made whether the fault is wanted or not, so that leaving one out changes as little as possible.
        let mut rate = |kind, shares_of_runs: u64, rates: &[u64]| {
            let is_chosen = dice.permille(shares_of_runs);
            let rate = dice.pick(rates);
            if is_chosen && faults.contains(kind) { rate } else { 0 }
        };
        let power_loss = rate(FaultKind::PowerLoss, 700, &[1, 1, 3, 8]);
        let kill = rate(FaultKind::Kill, 400, &[1, 3, 10]);
        let turn_crash = rate(FaultKind::TurnCrash, 400, &[5, 20, 60]);
        let recovery_crash = rate(FaultKind::RecoveryCrash, 500, &[200, 500, 800]);
        let sync_failure = rate(FaultKind::SyncFailure, 400, &[5, 20, 60]);
        let disk_full = rate(FaultKind::DiskFull, 350, &[5, 20, 60]);
        let ring_short = rate(FaultKind::RingShort, 400, &[700, 950, 1000]);
        let bit_flip = rate(FaultKind::BitFlip, 500, &[300, 1000]);
        let clock_jump = rate(FaultKind::ClockJump, 300, &[2, 10]);
        let connection_loss = rate(FaultKind::ConnectionLoss, 600, &[2, 10, 30]);
        let flood = rate(FaultKind::Flood, 20, &[1]) > 0;
        let write_back = rate(FaultKind::WriteBack, 600, &[5, 30, 100]);
        let snapshot_loss = rate(FaultKind::SnapshotLoss, 500, &[200, 500]);
        let pause = rate(FaultKind::Pause, 600, &[2, 5, 20]);
        let stale = if rate(FaultKind::StaleBytes, 800, &[1]) == 0 {
            Stale::Zeros
        } else if dice.permille(750) {
            Stale::Recycled
        } else {
            Stale::Garbage
        };
        FaultMix {
            power_loss,
            kill,
            turn_crash,
            recovery_crash,
            sync_failure,
            disk_full,
            ring_short,
            bit_flip,
            clock_jump,
            connection_loss,
            flood,
            write_back,
            snapshot_loss,
            pause,
            stale,
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn stop(&mut self) {
        *self = FaultMix {
            stale: self.stale,
            ..FaultMix::draw(Faults::NONE, &mut Dice::new(0, 0))
        };
    }
}
