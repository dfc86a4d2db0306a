//! One command in a frame, on a socket of the harness's own: nothing is allocated, queued or woken for a command.
//!
//! - `slots[correlation - 1]` is what a frame in flight was about; `free` names those that are not in flight.
//! - `input[start..end]` is what was read and not used; it begins at a frame.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_client::protocol::frame::{self, Decoded, Frame, Head};
use plimsoll_client::protocol::{
    Commands, CorrelationId, Encoder, Operation, OutcomesView, Reserve, VERSION, payload, wire,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Plan, SharedLedger};
use crate::keys::Draws;
use crate::ledger::{Fate, Ledger, Window};

/// Room for the answers of many frames; one answer of one command takes about 120 bytes.
const INPUT_SIZE_BYTES: usize = 64 * 1024;

/// What a frame in flight is about.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent_at: Instant,
    pool: u16,
    in_flight: bool,
}

/// A connection on which hello has been answered.
#[derive(Debug)]
pub(super) struct Connection {
    plan: Arc<Plan>,
    stream: TcpStream,
    draws: Draws,
    encoder: Encoder,
    units: Vec<u32>,
    output: Vec<u8>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Connection {
    pub(super) async fn open(plan: &Arc<Plan>, index: usize) -> Result<Self> {
        let stream = TcpStream::connect(plan.address.as_str())
            .await
            .context("cannot connect")?;
        stream.set_nodelay(true)?;
        let in_flight = plan.settings.in_flight;
        let mut units = vec![0; plan.dimensions];
        units[0] = 1;
        let idle = Slot {
            sent_at: Instant::now(),
            pool: 0,
            in_flight: false,
        };
        let mut connection = Self {
            plan: Arc::clone(plan),
            stream,
            draws: Draws::new(plan.seed, index as u64, plan.pools.len()),
            encoder: Encoder::new(),
            units,
            output: Vec::new(),
            input: vec![0; INPUT_SIZE_BYTES],
            start: 0,
            end: 0,
            slots: vec![idle; in_flight],
            free: (0..in_flight as u32).collect(),
        };
        connection
            .say_hello()
            .await
            .context("the server did not welcome the harness")?;
        Ok(connection)
    }

    async fn say_hello(&mut self) -> Result<()> {
        self.encoder.table(
            &mut self.output,
            Head::request(Operation::Hello, CorrelationId(1)),
            |builder| {
                let client = Some(builder.create_string(concat!("plimsoll-loadtest ", env!("CARGO_PKG_VERSION"))));
                let args = wire::HelloArgs {
                    version_min: VERSION,
                    version_max: VERSION,
                    client,
                    credentials: None,
                };
                wire::Hello::create(builder, &args)
            },
        )?;
        self.write().await?;
        loop {
            self.read().await?;
            if let Decoded::Frame(frame) = frame::decode(&self.input[self.start..self.end])? {
                if !frame.header.status.is_ok() {
                    bail!("refused with {}", frame.header.status);
                }
                payload::table::<wire::Welcome>("Welcome", frame.payload)?;
                self.start += frame.header.size as usize;
                return Ok(());
            }
        }
    }

    /// Keeps as many frames in flight as the plan says, until the window ends.
    pub(super) async fn run(mut self, window: Window, ledger: SharedLedger) -> Result<()> {
        let ended = self.drive(window, &ledger).await;
        // What was in flight when the connection was lost may have taken effect.
        let mut ledger = ledger.lock();
        for slot in self.slots.iter().filter(|slot| slot.in_flight) {
            ledger.reserve(slot.pool, Fate::Unknown);
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
                self.write().await?;
            } else if self.free.len() == self.slots.len() {
                return Ok(());
            }
            self.read().await?;
            now = Instant::now();
            self.take_answers(now, &mut ledger.lock())?;
        }
    }

    /// Fills the window of frames in flight.
    fn add_frames(&mut self, now: Instant) -> Result<()> {
        while let Some(index) = self.free.pop() {
            let pool = self.draws.pool();
            let key = self.draws.key();
            let reserve = Reserve {
                pool: self.plan.pools[usize::from(pool)],
                key,
                hold_seconds: 0,
                occurred_at: None,
            };
            let commands = [wire::Command::reserve(reserve)];
            let commands = Commands {
                commands: &commands,
                units: &self.units,
                traceparent: None,
            };
            let correlation = CorrelationId(u64::from(index) + 1);
            self.encoder
                .commands(&mut self.output, correlation, commands, std::iter::empty())?;
            self.slots[index as usize] = Slot {
                sent_at: now,
                pool,
                in_flight: true,
            };
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.output)
            .await
            .context("cannot write to the server")?;
        self.output.clear();
        Ok(())
    }

    /// Reads what has arrived, at least a byte.
    async fn read(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            bail!("a frame of more than {INPUT_SIZE_BYTES} bytes answers one command");
        }
        let size = self
            .stream
            .read(&mut self.input[self.end..])
            .await
            .context("cannot read from the server")?;
        if size == 0 {
            bail!("the server closed the connection");
        }
        self.end += size;
        Ok(())
    }

    /// Takes the answers that have arrived in whole.
    fn take_answers(&mut self, now: Instant, ledger: &mut Ledger) -> Result<()> {
        ledger.arrived(now);
        while let Decoded::Frame(frame) = frame::decode(&self.input[self.start..self.end])? {
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
            let fate = fate(frame, self.units.len(), ledger);
            ledger.reserve(slot.pool, fate);
            self.start += frame.header.size as usize;
        }
        ledger.publish();
        Ok(())
    }
}

/// What an answer says of its one command.
fn fate(frame: Frame<'_>, dimensions: usize, ledger: &mut Ledger) -> Fate {
    let status = frame.header.status;
    if !status.is_ok() {
        ledger.note(|| format!("a frame was refused with {status}"));
        return Fate::of(status, false);
    }
    let outcome = frame.check_payload().map_err(anyhow::Error::from).and_then(|()| {
        let view = OutcomesView::new(frame.payload, frame.header.count, dimensions)?;
        let outcome = view.iter().next().context("an answer without an outcome")?;
        Ok((outcome.outcome.status_number(), outcome.outcome.is_repeated()))
    });
    match outcome {
        Ok((status, repeated)) => {
            let fate = Fate::of(status, repeated);
            if fate == Fate::Error {
                ledger.note(|| format!("a reserve was answered with {status}, repeated: {repeated}"));
            }
            fate
        }
        Err(error) => {
            ledger.note(|| format!("an answer cannot be read: {error:#}"));
            Fate::Unknown
        }
    }
}
