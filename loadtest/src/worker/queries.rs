//! Queries of availability: each asks for all windows of one zone.
//!
//! - `slots[correlation - 1]` is a frame that is sent again and again, so that it is encoded once. The slots of all connections share out the zones
//!   evenly.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail};
use plimsoll_client::protocol::frame::Frame;
use plimsoll_client::protocol::{payload, wire};

use super::Plan;
use super::buffers::Asked;
use super::socket::Socket;
use crate::ledger::{Fate, Ledger, Window};
use crate::pools::{ALL_WINDOWS, POOLS_PER_ZONE, zone_name};
use crate::threads::SharedLedger;

/// A frame, and whether it is on its way.
#[derive(Debug)]
struct Slot {
    frame: Vec<u8>,
    /// How many pools its zone has.
    pool_count: usize,
    sent_at: Instant,
    in_flight: bool,
}

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Connection {
    pub(super) async fn open(plan: &Arc<Plan>, index: usize) -> Result<Self> {
        let mut socket = Socket::open(&plan.address).await?;
        let in_flight = plan.settings.in_flight;
        let zone_count = plan.pools.len().div_ceil(POOLS_PER_ZONE);
        let mut slots = Vec::with_capacity(in_flight);
        for slot in 0..in_flight {
            let zone = (index * in_flight + slot) % zone_count;
            let asked = Asked {
                zone: &zone_name(zone),
                window: ALL_WINDOWS,
                units: &plan.one_unit(),
                exact: false,
            };
            slots.push(Slot {
                frame: socket.encode_query(slot as u64 + 1, asked)?,
                pool_count: POOLS_PER_ZONE.min(plan.pools.len() - zone * POOLS_PER_ZONE),
                sent_at: Instant::now(),
                in_flight: false,
            });
        }
        Ok(Self {
            socket,
            slots,
            free: (0..in_flight as u32).collect(),
        })
    }

    /// Keeps as many frames in flight as the plan says, until the window ends.
    pub(super) async fn run(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        let ended = self.drive(window, &ledger).await;
        let mut ledger = ledger.lock();
        for _ in self.slots.iter().filter(|slot| slot.in_flight) {
            ledger.failed_answer(Fate::Unknown);
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
                self.add_frames(now);
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
    fn add_frames(&mut self, now: Instant) {
        while let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            self.socket.add_frame(&slot.frame);
            slot.sent_at = now;
            slot.in_flight = true;
        }
    }

    /// Takes the answers that have arrived in whole.
    fn take_answers(&mut self, now: Instant, ledger: &mut Ledger) -> Result<()> {
        let wall_clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
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
            let status = frame.header.status;
            match as_of(frame, slot.pool_count) {
                Ok(as_of) => ledger.answer(wall_clock.saturating_sub(as_of)),
                Err(error) => {
                    ledger.failed_answer(if status.is_ok() {
                        Fate::Error
                    } else {
                        Fate::of(status, false)
                    });
                    ledger.note(|| format!("a query: {error:#}"));
                }
            }
        }
        ledger.publish();
        Ok(())
    }
}

/// Checks an answer and reads as of when it is true, from 1970 on.
fn as_of(frame: Frame<'_>, pool_count: usize) -> Result<Duration> {
    let answer = read_answer(frame)?;
    let found = answer.pools().len();
    if found != pool_count {
        bail!("expected {pool_count} pools, found {found}");
    }
    Ok(Duration::from_micros(answer.as_of().unsigned_abs()))
}

/// Checks an answer.
pub(crate) fn read_answer(frame: Frame<'_>) -> Result<wire::Availability<'_>> {
    if !frame.header.status.is_ok() {
        bail!("refused with {}", frame.header.status);
    }
    frame.check_payload()?;
    Ok(payload::table::<wire::Availability>("Availability", frame.payload)?)
}
