//! Faults that strike, crashes, and recoveries with everything that is checked after them.

use std::cell::RefCell;
use std::rc::Rc;

use plimsoll_domain::{State, Timestamp};
use plimsoll_engine::{Engine, RecordError, Recovered, RecoveryBase};
use plimsoll_journal::{ControlField, Framing, Journal, RecoveryError, RecoveryStart, Segment, Summary};

use crate::checkers::{Promise, Violation, hold, violation};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::log::{self, Happened};
use crate::model::Model;
use crate::plants::Plant;
use crate::storage::SimStorage;
use crate::trace::note;
use crate::world::{TENSE_STEPS, World};

/// Crashes in one restart, one recovery after the other.
const CRASHES_IN_A_ROW_MAX: u32 = 6;

/// For how long nothing happens, in microseconds.
const PAUSES: [i64; 6] = [10_000, 200_000, 1_000_000, 10_000_000, 120_000_000, 3_600_000_000];

/// What a recovery that changes nothing has found.
struct Probe {
    /// LSN and hash of each record.
    records: Vec<(u64, u64)>,
    events: Vec<Happened>,
    summary: Summary,
}

impl<F: Framing + 'static> World<F> {
    /// Whatever goes wrong before the next step.
    pub(crate) fn strike(&mut self) -> Result<(), Violation> {
        let mix = self.mix;
        let dice = &mut self.fault_dice;
        if dice.permille(mix.clock_jump) {
            let seconds = dice.pick(&[-3_600, -5, 5, 3_600, 100_000]);
            self.jump(seconds);
        }
        if self.fault_dice.permille(mix.pause) {
            let micros = self.fault_dice.pick(&PAUSES);
            note("pause", [micros as u64, 0, 0, 0]);
            self.pass(micros);
        }
        let dice = &mut self.fault_dice;
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

    /// The clock is set, and the engines are told when it is set ahead.
    fn jump(&mut self, seconds: i64) {
        note("clock jumps", [seconds as u64, 0, 0, 0]);
        self.pass(seconds * 1_000_000);
        let now = Timestamp(self.now);
        for core in self.cores.iter_mut().filter(|_| seconds > 0) {
            if self.plant != Some(Plant::JumpNotTold) {
                core.engine().clock_was_set_ahead(now);
            }
            core.mirror.housekeeping.is_extending = self.rules.grace_micros > 0;
        }
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
        if self.mix.pause > 0 && self.fault_dice.coin() {
            let micros = self.fault_dice.pick(&PAUSES);
            self.pass(micros);
        }
        while index < self.cores.len() {
            let crashes = crashes_left > 0 && self.fault_dice.permille(self.mix.recovery_crash);
            let fuse = crashes.then(|| 1 + self.fault_dice.below(40));
            let probe = self.probe(index)?;
            let disk = Rc::clone(&self.cores[index].disk);
            disk.borrow().fuse.set(fuse);
            let base = self.base(index)?;
            let result = self.recover(&disk, base);
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

    /// The newest snapshot that can be used.
    fn base(&mut self, index: usize) -> Result<Option<RecoveryBase>, Violation> {
        let options = self.options().state;
        let files = &mut self.cores[index].snapshots.files;
        if !files.is_empty() && self.fault_dice.permille(self.mix.snapshot_loss) {
            note("snapshot lost", [index as u64, files.len() as u64, 0, 0]);
            files.pop_front();
        }
        let Some(file) = files.front() else { return Ok(None) };
        note("snapshot used", [index as u64, file.moment.lsn.0, 0, 0]);
        let mut base = file.base(options)?;
        if self.plant == Some(Plant::SnapshotTailSkipped) {
            base.start.lsn.0 += 1;
        }
        Ok(Some(base))
    }

    fn recover(
        &mut self,
        disk: &Rc<RefCell<SimDisk>>,
        base: Option<RecoveryBase>,
    ) -> Result<Recovered<SimStorage, F>, RecoveryError<RecordError>> {
        let incarnations = self.incarnations();
        let options = self.options();
        Engine::recover(SimStorage::new(disk), options, base, Timestamp(self.now), incarnations)
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
        let dimension_count = self.rules.dimension_count;
        let disk = Rc::new(RefCell::new(disk));
        let (mut records, mut events) = (Vec::new(), Vec::new());
        let incarnations = self.incarnations();
        let start = RecoveryStart::FIRST;
        let recovered = Journal::<_, F>::recover(SimStorage::new(&disk), start, self.now, incarnations, |record| {
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
        let is_equal = (summary.last_lsn, summary.cut) == (probe.summary.last_lsn, probe.summary.cut);
        hold(is_equal, Promise::Forgotten, || {
            format!(
                "two recoveries from the same bytes differ: {summary:?} and {:?}",
                probe.summary
            )
        })?;
        let clock = engine.journal().last_time();
        let model = self.replay(index, probe)?;
        engine.state().assert_counters();
        model.compare(engine.state(), clock)?;
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
        core.moments.retain(|moment| moment.lsn <= last_lsn);
        core.log
            .restart(last_lsn, probe.summary.last_time, engine.journal().segment().number().0);
        if probe.summary.batches == 0 {
            core.log.last_time = i64::MIN;
        }
        core.model = model;
        core.start(engine, self.now);
        if self.fault_dice.permille(100) {
            self.examine(index, probe, digest)?;
        }
        self.tension = TENSE_STEPS / 2;
        // Everything that was handed out is durable, and a recovery more changes nothing.
        if self.fault_dice.permille(200) {
            let mut copy = self.cores[index].disk.borrow().copy();
            if self.fault_dice.coin() {
                copy.lose_everything();
            }
            // From another snapshot, or none, and without what it covers.
            let files = &self.cores[index].snapshots.files;
            let file = files.get(self.fault_dice.index(files.len() + 1));
            let base = match file {
                Some(file) => {
                    copy.remove_before(file.moment.segment.0);
                    Some(file.base(self.options().state)?)
                }
                None => None,
            };
            match self.recover(&Rc::new(RefCell::new(copy)), base) {
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

    /// What the journal's events make; where readers were last told something, it is what they were told.
    fn replay(&self, index: usize, probe: &Probe) -> Result<Model, Violation> {
        let readers = &self.cores[index].readers;
        let mut model = Model::new(self.rules);
        let (told, new): (Vec<_>, Vec<_>) = probe
            .events
            .iter()
            .partition(|happened| happened.lsn <= readers.published_upto);
        told.iter()
            .try_for_each(|happened| model.apply(&happened.event, happened.at))?;
        readers.compare(&model)?;
        new.iter()
            .try_for_each(|happened| model.apply(&happened.event, happened.at))?;
        Ok(model)
    }

    /// What every snapshot and the events behind it make is the state, with everything that belongs to it.
    fn examine(&self, index: usize, probe: &Probe, digest: u64) -> Result<(), Violation> {
        let options = self.options().state;
        let core = &self.cores[index];
        let files = core.snapshots.files.iter();
        let starts = files.map(|file| Ok((file.moment.lsn.0, file.restore(options)?)));
        for start in starts.chain([Ok((0, State::new(options)))]) {
            let (lsn, mut state) = start?;
            for happened in probe.events.iter().filter(|happened| happened.lsn > lsn) {
                state.apply(&happened.event);
            }
            hold(state.digest(Timestamp::ABSENT) == digest, Promise::Snapshot, || {
                format!("core {index} is another one from its snapshot of LSN {lsn}")
            })?;
            core.model.examine(state, core.clock)?;
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
