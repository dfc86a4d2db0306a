//! One command in a frame, on a socket of the harness's own.
//!
//! - `slots[correlation - 1]` is what a frame in flight was about; `free` names those that are not in flight.
//! - `held` are the holds that no frame in flight confirms; they are confirmed before anything else is reserved.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use plimsoll_client::ReservationId;
use plimsoll_client::protocol::frame::Frame;
use plimsoll_client::protocol::{OutcomesView, Reserve, wire};

use super::Plan;
use super::socket::Socket;
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger, Window};
use crate::threads::SharedLedger;

/// What a frame in flight asks for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Reserve { pool: u16 },
    Confirm(ReservationId),
}

/// What a frame in flight is about.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent_at: Instant,
    asked: Asked,
    in_flight: bool,
}

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Connection {
    plan: Arc<Plan>,
    socket: Socket,
    draws: Draws,
    units: Vec<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    held: Vec<ReservationId>,
}

impl Connection {
    pub(super) async fn open(plan: &Arc<Plan>, index: usize) -> Result<Self> {
        let in_flight = plan.settings.in_flight;
        let idle = Slot {
            sent_at: Instant::now(),
            asked: Asked::Reserve { pool: 0 },
            in_flight: false,
        };
        Ok(Self {
            plan: Arc::clone(plan),
            socket: Socket::open(&plan.address).await?,
            draws: Draws::new(plan.seed, index as u64, plan.pools.len()),
            units: plan.one_unit(),
            slots: vec![idle; in_flight],
            free: (0..in_flight as u32).collect(),
            held: Vec::new(),
        })
    }

    /// Keeps as many frames in flight as the plan says, until the window ends.
    pub(super) async fn run(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        let ended = self.drive(window, &ledger).await;
        // What was in flight when the connection was lost may have taken effect.
        let mut ledger = ledger.lock();
        for slot in self.slots.iter().filter(|slot| slot.in_flight) {
            count(&mut ledger, slot.asked, Fate::Unknown);
        }
        if let Err(error) = ended {
            ledger.note(|| format!("{error:#}"));
        }
        ledger.publish();
        Ok(())
    }

    async fn drive(&mut self, window: Window, ledger: &SharedLedger) -> Result<()> {
        let mut now = Instant::now();
        loop {
            if now < window.end {
                self.add_frames(now)?;
                self.socket.write().await?;
            } else if self.free.len() == self.slots.len() {
                return Ok(());
            }
            self.socket.read().await?;
            now = Instant::now();
            self.take_answers(now, &mut ledger.lock())?;
        }
    }

    /// Fills the window of frames in flight.
    fn add_frames(&mut self, now: Instant) -> Result<()> {
        while let Some(index) = self.free.pop() {
            let (asked, command) = match self.held.pop() {
                Some(id) => (Asked::Confirm(id), wire::Command::confirm(id, None)),
                None => self.reserve(),
            };
            self.socket.add_command(u64::from(index) + 1, command, &self.units)?;
            self.slots[index as usize] = Slot {
                sent_at: now,
                asked,
                in_flight: true,
            };
        }
        Ok(())
    }

    fn reserve(&mut self) -> (Asked, wire::Command) {
        let pool = self.draws.pool();
        let reserve = Reserve {
            pool: self.plan.pools[usize::from(pool)],
            key: self.draws.key(),
            hold_seconds: self.plan.settings.hold_seconds(),
            occurred_at: None,
        };
        (Asked::Reserve { pool }, wire::Command::reserve(reserve))
    }

    /// Takes the answers that have arrived in whole.
    fn take_answers(&mut self, now: Instant, ledger: &mut Ledger) -> Result<()> {
        ledger.arrived(now);
        while let Some(frame) = self.socket.take_frame()? {
            let correlation = frame.header.correlation.0;
            let index = correlation.wrapping_sub(1) as usize;
            let slot = self.slots.get_mut(index).filter(|slot| slot.in_flight).ok_or_else(|| {
                anyhow!(
                    "an answer to {correlation}, which was not asked: {}",
                    frame.header.status
                )
            })?;
            slot.in_flight = false;
            self.free.push(index as u32);
            ledger.latency(now - slot.sent_at, 1);
            let Answered { fate, id } = answered(frame, self.units.len(), ledger);
            count(ledger, slot.asked, fate);
            match slot.asked {
                Asked::Reserve { .. } if fate == Fate::Applied && self.plan.settings.hold => self.held.push(id),
                // It is held as before.
                Asked::Confirm(id) if fate == Fate::Refused => self.held.push(id),
                Asked::Reserve { .. } | Asked::Confirm(_) => {}
            }
        }
        ledger.publish();
        Ok(())
    }
}

fn count(ledger: &mut Ledger, asked: Asked, fate: Fate) {
    match asked {
        Asked::Reserve { pool } => ledger.reserve(pool, fate),
        Asked::Confirm(_) => ledger.confirm(fate),
    }
}

/// What an answer says of its one command.
pub(super) struct Answered {
    pub(super) fate: Fate,
    /// The reservation that it is about; 0 when there is none.
    pub(super) id: ReservationId,
}

/// Reads what an answer says of its one command, and notes what should not be.
pub(super) fn answered(frame: Frame<'_>, dimensions: usize, ledger: &mut Ledger) -> Answered {
    let nothing = |fate| Answered {
        fate,
        id: ReservationId(0),
    };
    let status = frame.header.status;
    if !status.is_ok() {
        ledger.note(|| format!("a frame was refused with {status}"));
        return nothing(Fate::of(status, false));
    }
    let outcome = frame.check_payload().map_err(anyhow::Error::from).and_then(|()| {
        let view = OutcomesView::new(frame.payload, frame.header.count, dimensions)?;
        let outcome = view.iter().next().context("an answer without an outcome")?.outcome;
        Ok((outcome.status_number(), outcome.is_repeated(), outcome.reservation_id()))
    });
    match outcome {
        Ok((status, repeated, id)) => {
            let fate = Fate::of(status, repeated);
            if fate == Fate::Error {
                ledger.note(|| format!("a command was answered with {status}, repeated: {repeated}"));
            }
            Answered { fate, id }
        }
        Err(error) => {
            ledger.note(|| format!("an answer cannot be read: {error:#}"));
            nothing(Fate::Unknown)
        }
    }
}
