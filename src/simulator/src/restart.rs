//! Faults that strike, crashes, and recoveries with everything that is checked after them.

use std::cell::RefCell;
use std::rc::Rc;

use plimsoll_domain::{Event, Timestamp};
use plimsoll_engine::{Engine, EngineOptions, Recovered};
use plimsoll_journal::{ControlField, Framing, Journal, RecoveryError, Segment, Summary};
use plimsoll_record::DecodeError;

use crate::checkers::{Promise, Violation, hold, violation};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::log;
use crate::model::Model;
use crate::plants::Plant;
use crate::storage::SimStorage;
use crate::trace::note;
use crate::world::{TENSE_STEPS, World};

/// Crashes in one restart, one recovery after the other.
const CRASHES_IN_A_ROW_MAX: u32 = 6;

/// What a recovery that changes nothing has found.
struct Probe {
    /// LSN and hash of each record.
    records: Vec<(u64, u64)>,
    events: Vec<Event>,
    summary: Summary,
}

impl<F: Framing + 'static> World<F> {
    /// Whatever goes wrong before the next step.
    pub(crate) fn strike(&mut self) -> Result<(), Violation> {
        let mix = self.mix;
        let dice = &mut self.fault_dice;
        if dice.permille(mix.clock_jump) {
            self.now += dice.pick(&[-3_600, -5, 5, 3_600, 100_000]) * 1_000_000;
        }
        if mix.disk_full > 0
            && dice.permille(if self.cores[0].disk.borrow().is_full {
                4
            } else {
                mix.disk_full
            })
        {
            let is_full = !self.cores[0].disk.borrow().is_full;
            note("disk full", [u64::from(is_full), 0, 0, 0]);
            self.cores
                .iter()
                .for_each(|core| core.disk.borrow_mut().is_full = is_full);
        }
        let dice = &mut self.fault_dice;
        if dice.permille(mix.write_back) {
            self.cores[dice.index(self.cores.len())].disk.borrow_mut().write_back();
        }
        if dice.permille(mix.connection_loss) {
            let client = dice.index(self.clients.len());
            note(
                "connection lost",
                [client as u64, self.clients[client].frames_in_flight as u64, 0, 0],
            );
            self.lose_connection(client);
        }
        if mix.flood && self.fault_dice.permille(2) {
            self.mix.flood = false;
            let core = self.fault_dice.index(self.cores.len());
            self.flood(core)?;
        }
        let tense = if self.tension > 0 && mix.power_loss > 0 { 30 } else { 0 };
        self.tension = self.tension.saturating_sub(1);
        if self.fault_dice.permille(mix.power_loss + tense) {
            return self.lose_power();
        }
        if self.fault_dice.permille(mix.kill) {
            return self.kill();
        }
        Ok(())
    }

    /// The process is gone, and perhaps the machine too.
    pub(crate) fn crash(&mut self) -> Result<(), Violation> {
        if self.mix.power_loss > 0 && self.fault_dice.coin() {
            self.lose_power()
        } else {
            self.kill()
        }
    }

    pub(crate) fn kill(&mut self) -> Result<(), Violation> {
        note("kill", [0; 4]);
        self.drop_process();
        self.cores.iter().for_each(|core| core.disk.borrow_mut().kill());
        // A machine that loses power a little later finds what the kernel has not written by then.
        if self.mix.power_loss > 0 && self.fault_dice.permille(100) {
            return self.lose_power();
        }
        self.start_all()
    }

    pub(crate) fn lose_power(&mut self) -> Result<(), Violation> {
        note("power loss", [0; 4]);
        self.drop_process();
        self.cores.iter().for_each(|core| core.disk.borrow_mut().lose_power());
        if self.fault_dice.permille(self.mix.bit_flip) {
            self.flip()?;
        }
        self.start_all()
    }

    /// Starts the process, as often as it takes.
    pub(crate) fn start_all(&mut self) -> Result<(), Violation> {
        let mut crashes_left = CRASHES_IN_A_ROW_MAX;
        let mut index = 0;
        while index < self.cores.len() {
            let crashes = crashes_left > 0 && self.fault_dice.permille(self.mix.recovery_crash);
            let fuse = crashes.then(|| 1 + self.fault_dice.below(40));
            let probe = self.probe(index)?;
            let disk = Rc::clone(&self.cores[index].disk);
            disk.borrow().fuse.set(fuse);
            let result = self.recover(&disk);
            if disk.borrow().fuse.is_blown() {
                crashes_left -= 1;
                note("crash in recovery", [index as u64, self.start_count, 0, 0]);
                drop(result);
                self.drop_process();
                let is_power_lost = self.mix.power_loss > 0 && self.fault_dice.coin();
                for core in &self.cores {
                    let disk = &mut core.disk.borrow_mut();
                    if is_power_lost { disk.lose_power() } else { disk.kill() }
                }
                index = 0;
                continue;
            }
            disk.borrow().fuse.set(None);
            match result {
                Ok(recovered) => self.started(index, recovered, &probe)?,
                Err(RecoveryError::Storage(error)) if error.is_out_of_space() => {
                    note("no room to start", [index as u64, 0, 0, 0]);
                    let stays_full = self.fault_dice.coin();
                    self.cores
                        .iter()
                        .for_each(|core| core.disk.borrow_mut().is_full &= stays_full);
                    continue;
                }
                Err(error) => {
                    return violation(Promise::BadDisk, || {
                        format!("a good disk does not recover: {error}: {error:?}")
                    });
                }
            }
            index += 1;
        }
        Ok(())
    }

    fn recover(&mut self, disk: &Rc<RefCell<SimDisk>>) -> Result<Recovered<SimStorage, F>, RecoveryError<DecodeError>> {
        let incarnations = self.incarnations();
        let options = EngineOptions {
            state: self.state_options,
        };
        Engine::recover(SimStorage::new(disk), options, Timestamp(self.now), incarnations)
    }

    fn incarnations(&mut self) -> impl FnMut() -> u64 + use<F> {
        self.start_count += 1;
        let mut dice = Dice::new(self.seed, 1_000 + self.start_count);
        let is_reused = self.plant == Some(Plant::IncarnationReused);
        move || if is_reused { 7 } else { dice.bits() }
    }

    /// Reads a copy of the disk back; what it holds must be what was written.
    fn probe(&mut self, index: usize) -> Result<Probe, Violation> {
        let copy = self.cores[index].disk.borrow().copy();
        match self.read_back(copy) {
            Ok(probe) => {
                let floor = self.cores[index].floor;
                note(
                    "recovered",
                    [index as u64, probe.summary.last_lsn.0, probe.summary.segments, floor],
                );
                self.hold_against_log(index, &probe, floor)?;
                Ok(probe)
            }
            Err(RecoveryError::Record { source, .. }) => Err(source),
            Err(error) => violation(Promise::BadDisk, || {
                format!("a good disk of core {index} is not read: {}", describe(&error))
            }),
        }
    }

    fn read_back(&mut self, disk: SimDisk) -> Result<Probe, RecoveryError<Violation>> {
        let dimension_count = self.state_options.dimension_count;
        let disk = Rc::new(RefCell::new(disk));
        let (mut records, mut events) = (Vec::new(), Vec::new());
        let incarnations = self.incarnations();
        let recovered = Journal::<_, F>::recover(SimStorage::new(&disk), self.now, incarnations, |record| {
            records.push((record.lsn.0, log::hash(&record)));
            events.push(log::decode(&record, dimension_count)?);
            Ok::<(), Violation>(())
        })?;
        let summary = recovered.summary;
        Ok(Probe {
            records,
            events,
            summary,
        })
    }

    fn hold_against_log(&self, index: usize, probe: &Probe, floor: u64) -> Result<(), Violation> {
        let core = &self.cores[index];
        let summary = probe.summary;
        let last_lsn = summary.last_lsn.0;
        hold(last_lsn >= floor, Promise::Durable, || {
            format!("core {index} recovers up to LSN {last_lsn}; acknowledged was up to {floor}: {summary:?}")
        })?;
        hold(last_lsn <= core.log.last_lsn(), Promise::Forgotten, || {
            format!(
                "core {index} recovers up to LSN {last_lsn}, and wrote up to {}",
                core.log.last_lsn()
            )
        })?;
        let written = &core.log.records[..last_lsn as usize];
        hold(
            written.last().is_none_or(|last| last.is_commit),
            Promise::Forgotten,
            || format!("core {index} recovers up to LSN {last_lsn}, in the middle of a batch"),
        )?;
        let written = (1..)
            .zip(written)
            .filter(|(_, record)| !record.is_commit)
            .map(|(lsn, record)| (lsn, record.hash));
        hold(written.eq(probe.records.iter().copied()), Promise::Forgotten, || {
            format!("core {index} recovers other records than it wrote, up to LSN {last_lsn}")
        })
    }

    /// A core is back: everything is held against what was promised.
    fn started(&mut self, index: usize, recovered: Recovered<SimStorage, F>, probe: &Probe) -> Result<(), Violation> {
        let Recovered { engine, summary } = recovered;
        let last_lsn = summary.last_lsn.0;
        note(
            "started",
            [
                index as u64,
                last_lsn,
                probe.records.len() as u64,
                engine.journal().segment().number().0,
            ],
        );
        hold(summary == probe.summary, Promise::Forgotten, || {
            format!(
                "two recoveries from the same bytes differ: {summary:?} and {:?}",
                probe.summary
            )
        })?;
        let mut model = Model::new(self.state_options.key_retention_micros);
        probe.events.iter().try_for_each(|event| model.apply(event))?;
        engine.state().assert_counters();
        model.compare(engine.state())?;
        self.ledger.check(index, engine.state())?;
        let digest = engine.state().digest(Timestamp::ABSENT);
        let core = &mut self.cores[index];
        if let Some((lsn, live)) = core.last_state.take()
            && lsn == last_lsn
        {
            hold(live == digest, Promise::Forgotten, || {
                format!("the state at LSN {lsn} differs after recovery")
            })?;
        }
        core.floor = core.floor.max(last_lsn);
        core.log
            .restart(last_lsn, summary.last_time, engine.journal().segment().number().0);
        if summary.batches == 0 {
            core.log.last_time = i64::MIN;
        }
        core.model = model;
        core.start(engine);
        self.tension = TENSE_STEPS / 2;
        // Everything that was handed out is durable, and a recovery more changes nothing.
        if self.fault_dice.permille(400) {
            let mut copy = self.cores[index].disk.borrow().copy();
            if self.fault_dice.coin() {
                copy.lose_everything();
            }
            match self.recover(&Rc::new(RefCell::new(copy))) {
                Ok(again) => {
                    let is_equal = again.engine.state().digest(Timestamp::ABSENT) == digest;
                    hold(
                        is_equal && again.summary.last_lsn.0 == last_lsn,
                        Promise::Durable,
                        || {
                            format!(
                                "a recovery after the recovery of core {index} differs: {:?} after {summary:?}",
                                again.summary
                            )
                        },
                    )?;
                }
                Err(error) => {
                    return violation(Promise::BadDisk, || {
                        format!("what was recovered does not recover: {error}: {error:?}")
                    });
                }
            }
        }
        Ok(())
    }

    /// Flips a bit on a copy of a disk, and judges what recovery says of it.
    fn flip(&mut self) -> Result<(), Violation> {
        let index = self.fault_dice.index(self.cores.len());
        let flip = self.choose_flip(index);
        note(
            "bit flips",
            [index as u64, flip.file, flip.offset as u64, u64::from(flip.bit)],
        );
        let mut copy = self.cores[index].disk.borrow().copy();
        copy.flip(flip.file, flip.offset, flip.bit);
        match self.read_back(copy) {
            Err(RecoveryError::Damage(damage)) => {
                let is_named = !flip.is_proven
                    || damage.position.segment.0 == flip.file && damage.position.offset == flip.named_at as u64;
                hold(is_named, Promise::BadDisk, || {
                    format!("the damage at {flip:?} is reported as {damage:?}")
                })
            }
            Err(RecoveryError::Record { source, .. }) => violation(Promise::BadDisk, || {
                format!("the damage at {flip:?} is taken for a record: {source}")
            }),
            Err(error) => violation(Promise::BadDisk, || {
                format!("the damage at {flip:?} is reported as {}", describe(&error))
            }),
            Ok(probe) => {
                hold(!flip.is_proven, Promise::BadDisk, || {
                    format!("the damage at {flip:?} goes unnoticed: {:?}", probe.summary)
                })?;
                let floor = if flip.loses_at_most_unproven {
                    0
                } else {
                    self.cores[index].floor
                };
                self.hold_against_log(index, &probe, floor)
            }
        }
    }

    fn choose_flip(&mut self, index: usize) -> Flip {
        let core = &self.cores[index];
        let disk = core.disk.borrow();
        let dice = &mut self.fault_dice;
        let durable = disk.control_field(ControlField::DurableLsn).min(core.log.last_lsn());
        let newest = disk.control_field(ControlField::NewestDurableSegment);
        let mut bit = dice.below(8) as u32;
        let what = dice.below(10);
        if what < 5 && durable > 0 {
            let record = core.log.records[dice.below(durable) as usize];
            let within = if what < 3 {
                dice.pick(&[4, 4, 4, 5])
            } else {
                dice.index(record.size)
            };
            if within == 4 {
                // A length that rounds up to the same number of words is the hardest to see.
                bit &= 3;
            }
            return Flip {
                file: record.segment,
                offset: record.offset + within,
                bit,
                is_proven: true,
                named_at: record.offset,
                loses_at_most_unproven: false,
            };
        }
        let numbers: Vec<_> = disk.numbers().collect();
        match what {
            5 => Flip {
                file: 0,
                offset: dice.index(64),
                bit,
                is_proven: true,
                named_at: 0,
                loses_at_most_unproven: false,
            },
            6..9 if !numbers.is_empty() => {
                let last = core.log.records[..core.floor as usize]
                    .last()
                    .map(|record| record.segment);
                let file = last.filter(|_| dice.coin()).unwrap_or_else(|| dice.pick(&numbers));
                let is_proven = file <= newest;
                Flip {
                    file,
                    offset: dice.index(128),
                    bit,
                    is_proven,
                    named_at: 0,
                    loses_at_most_unproven: false,
                }
            }
            _ => {
                let file = if numbers.is_empty() { 0 } else { dice.pick(&numbers) };
                let offset = if file == 0 {
                    64 + dice.index(4_032)
                } else {
                    128 + dice.index(crate::disk::SEGMENT_SIZE - 128)
                };
                // The disk itself proves what is durable only up to some record; one behind it may be taken for torn.
                let hit = core.log.records.iter().position(|record| {
                    record.segment == file && (record.offset..record.offset + record.size + 8).contains(&offset)
                });
                let loses_at_most_unproven = hit.is_some_and(|position| position as u64 + 1 > durable);
                Flip {
                    file,
                    offset,
                    bit,
                    is_proven: false,
                    named_at: 0,
                    loses_at_most_unproven,
                }
            }
        }
    }
}

#[derive(Debug)]
struct Flip {
    /// 0 is the control page.
    file: u64,
    offset: usize,
    bit: u32,
    /// The disk proves that what is hit was durable: it must be reported.
    is_proven: bool,
    /// The offset that the report names.
    named_at: usize,
    /// What is hit may be lost: nothing on the disk says that it was durable.
    loses_at_most_unproven: bool,
}

fn describe(error: &RecoveryError<Violation>) -> String {
    match error {
        RecoveryError::Damage(damage) => format!("{damage}: {damage:?}"),
        RecoveryError::Refused(refusal) => format!("{refusal}: {refusal:?}"),
        RecoveryError::Storage(error) => format!("{error}: {error:?}"),
        _ => "a record was not taken".to_owned(),
    }
}
