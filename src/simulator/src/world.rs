//! One run's world: cores with their engines, messages on their way, clients, and the step that happens next.
//!
//! It plays the server's role over the calls that the server makes. Everything is chosen by the seed; nothing reads a clock, and no order comes
//! from a hash table.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use plimsoll_domain::{ReservationId, StateOptions, Timestamp};
use plimsoll_engine::{Answer, Batch, Call, Engine, EngineOptions, Entry, Message, Request};
use plimsoll_journal::{Framing, JournalId, Ticket};
use plimsoll_protocol::wire;

use crate::checkers::Violation;
use crate::clients::{Client, Ledger, Progress};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::faults::FaultMix;
use crate::housekeeping::Housekeeping;
use crate::log::Log;
use crate::mirror::Mirror;
use crate::model::{Model, Moment, Rules};
use crate::plants::Plant;
use crate::readers::Readers;
use crate::run::Options;
use crate::snapshots::Snapshots;
use crate::storage::SimStorage;
use crate::trace::note;

/// Steps for which a crash is likelier after something interesting.
pub(crate) const TENSE_STEPS: u64 = 12;
/// Commands in one message between cores, so that frames are split now and then.
const MESSAGE_COMMANDS_MAX: usize = 4;
/// What can happen in a step.
const ACTION_COUNT: usize = 11;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Segments,
    Control,
}

pub(crate) struct Sync {
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) stage: Stage,
    /// Planted: told to be durable before they are.
    pub(crate) is_told: bool,
}

pub(crate) struct Core<F: Framing> {
    pub(crate) disk: Rc<RefCell<SimDisk>>,
    pub(crate) engine: Option<Engine<SimStorage, F>>,
    pub(crate) log: Log,
    pub(crate) model: Model,
    pub(crate) mirror: Mirror,
    pub(crate) readers: Readers,
    pub(crate) snapshots: Snapshots,
    /// Everything up to here was acknowledged, or handed out by a recovery.
    pub(crate) floor: u64,
    pub(crate) tickets: VecDeque<Ticket>,
    pub(crate) sync: Option<Sync>,
    pub(crate) clock: i64,
    pub(crate) turn_count: u64,
    /// By sender, the frame and index that were answered last.
    pub(crate) last_reply: BTreeMap<usize, (u32, u32)>,
    /// What the planner remembers of the past.
    pub(crate) moments: Vec<Moment>,
    /// The LSN and the digest of the state when the process went.
    pub(crate) last_state: Option<(u64, u64)>,
}

impl<F: Framing> Core<F> {
    pub(crate) fn engine(&mut self) -> &mut Engine<SimStorage, F> {
        self.engine.as_mut().expect("the process runs")
    }

    pub(crate) fn tickets_in_flight(&self) -> usize {
        self.tickets.len()
            + self
                .sync
                .as_ref()
                .filter(|sync| !sync.is_told)
                .map_or(0, |sync| sync.tickets.len())
    }

    /// The process is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(engine) = self.engine.take().filter(|_| !self.disk.borrow().fuse.is_blown()) {
            self.last_state = Some((engine.journal().last_lsn().0, engine.state().digest(Timestamp::ABSENT)));
        }
        self.tickets.clear();
        self.sync = None;
        self.mirror = Mirror::default();
        self.snapshots.stop();
        self.last_reply.clear();
    }

    pub(crate) fn start(&mut self, engine: Engine<SimStorage, F>, now: i64) {
        self.clock = engine.journal().last_time();
        self.mirror.housekeeping = Housekeeping::start(&self.model);
        self.readers.start(&self.model, engine.journal().last_lsn().0, now);
        self.engine = Some(engine);
    }
}

pub(crate) struct Frame {
    pub(crate) client: usize,
    /// Wish and owner of each command.
    pub(crate) entries: Vec<(usize, usize)>,
    pub(crate) outcomes: Vec<Option<wire::Outcome>>,
    pub(crate) left: usize,
}

pub(crate) enum Asked {
    Put(usize),
    Read,
}

pub(crate) struct World<F: Framing> {
    pub(crate) plant: Option<Plant>,
    pub(crate) mix: FaultMix,
    /// What clients do, and in which order things happen.
    pub(crate) dice: Dice,
    pub(crate) fault_dice: Dice,
    pub(crate) now: i64,
    pub(crate) rules: Rules,
    hash_seed: u64,
    /// How often time passes without anything happening, in a thousand steps.
    leaps: u64,
    pub(crate) cores: Vec<Core<F>>,
    /// By sender and owner.
    pub(crate) channels: Vec<Vec<VecDeque<Message>>>,
    pub(crate) frames: BTreeMap<u32, Frame>,
    pub(crate) asked: BTreeMap<u32, Asked>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    pub(crate) handle_count: u32,
    pub(crate) start_count: u64,
    weights: [u64; ACTION_COUNT],
    pub(crate) step_micros: u64,
    pub(crate) seed: u64,
    /// Steps during which a crash is likelier: something has just happened that it may undo.
    pub(crate) tension: u64,
}

impl<F: Framing + 'static> World<F> {
    pub(crate) fn new(options: &Options) -> World<F> {
        let mut dice = Dice::new(options.seed, 1);
        let mut fault_dice = Dice::new(options.seed, 2);
        let mix = FaultMix::draw(options.faults, &mut fault_dice);
        let core_count = 1 + dice.index(3);
        let dimension_count = dice.pick(&[1, 1, 2, 2, 3, 8]);
        let core_pools_max = dice.pick(&[1, 2, 8, 8, 8]);
        let rules = Rules {
            dimension_count,
            retention_micros: dice.pick(&[200_000, 2_000_000, 60_000_000, 86_400_000_000]),
            retire_after_micros: dice.pick(&[100_000, 1_000_000, 60_000_000, 35 * 86_400_000_000]),
            grace_micros: dice.pick(&[0, 1_000_000, 30_000_000, 30_000_000]),
            reservation_count_max: dice.pick(&[usize::MAX, usize::MAX, usize::MAX, 30, 120]),
            pool_count_max: if core_pools_max < 8 { core_pools_max } else { usize::MAX },
        };
        let hash_seed = dice.bits();
        let mut ledger = Ledger::new(rules, core_count, 1 + dice.index(7));
        ledger.pools_end = dice.coin();
        ledger.prefix_count_max = dice.pick(&[4, 4, 300, 1_000]);
        ledger.key_changes_on_retry = options.plant == Some(Plant::ReplyLostKeyChanged);
        let cores = (0..core_count)
            .map(|core| {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&dice.bits().to_le_bytes());
                let disk_dice = Dice::new(options.seed, 100 + core as u64);
                let mut disk = SimDisk::new(JournalId(id), mix.stale, Plant::disk(options.plant), disk_dice);
                disk.ring_segment_count = dice.pick(&[2, 3, 3, 4]);
                Core {
                    disk: Rc::new(RefCell::new(disk)),
                    engine: None,
                    log: Log::new(options.plant == Some(Plant::ResetSplit)),
                    model: Model::new(rules),
                    mirror: Mirror::default(),
                    readers: Readers::default(),
                    snapshots: Snapshots::default(),
                    floor: 0,
                    tickets: VecDeque::new(),
                    sync: None,
                    clock: 0,
                    turn_count: 0,
                    last_reply: BTreeMap::new(),
                    moments: Vec::new(),
                    last_state: None,
                }
            })
            .collect();
        let clients = (0..2 + dice.index(14))
            .map(|_| Client {
                core: dice.index(core_count),
                ..Client::default()
            })
            .collect();
        // Which of the parts is slow differs from run to run.
        let weights = [0; ACTION_COUNT].map(|_| dice.pick(&[5, 10, 10, 20]));
        let mut world = World {
            plant: options.plant,
            mix,
            fault_dice,
            now: 1_700_000_000_000_000,
            rules,
            hash_seed,
            leaps: dice.pick(&[0, 0, 2, 10]),
            cores,
            channels: (0..core_count)
                .map(|_| (0..core_count).map(|_| VecDeque::new()).collect())
                .collect(),
            frames: BTreeMap::new(),
            asked: BTreeMap::new(),
            clients,
            ledger,
            handle_count: 0,
            start_count: 0,
            weights,
            step_micros: dice.pick(&[20, 500, 3_000]),
            seed: options.seed,
            tension: 0,
            dice,
        };
        world.weights[7] = 1 + world.weights[7] / 5;
        world.weights[8] = 1 + world.weights[8] / 8;
        world.weights[9] = world.dice.pick(&[0, 1, 5, 20]);
        world.ledger.resets = world.dice.coin();
        if world.ledger.resets {
            world.weights[7] *= 2;
            // Groups that are large beside a segment: they begin near the end of one, or do not fit any.
            world.ledger.prefix_count_max = world.dice.pick(&[4, 300, 1_000, 1_000]);
        }
        world
    }

    /// What the engines are told.
    pub(crate) fn options(&self) -> EngineOptions {
        let rules = self.rules;
        let mut options = EngineOptions {
            state: StateOptions {
                dimension_count: rules.dimension_count,
                key_retention_micros: rules.retention_micros,
                retire_after_micros: rules.retire_after_micros,
                reservation_count_max: rules.reservation_count_max,
                pool_count_max: rules.pool_count_max,
                hash_seed: self.hash_seed,
            },
            hold_grace_micros: rules.grace_micros,
        };
        if let Some(plant) = self.plant {
            plant.options(&mut options);
        }
        options
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, micros: i64) {
        self.now += micros;
        self.ledger.latest = self.ledger.latest.max(self.now);
    }

    /// Something happens.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let micros = 1 + self.dice.below(self.step_micros) as i64;
        self.pass(micros);
        if self.dice.permille(self.leaps) {
            let micros = self
                .dice
                .pick(&[300_000, 1_000_000, 1_500_000, 61_000_000, 600_000_000, 3_600_000_000]);
            note("time passes", [micros as u64, 0, 0, 0]);
            self.pass(micros);
        }
        self.strike()?;
        let mut ticket = self.dice.below(self.weights.iter().sum());
        let action = self
            .weights
            .iter()
            .position(|weight| match ticket.checked_sub(*weight) {
                Some(left) => {
                    ticket = left;
                    false
                }
                None => true,
            });
        let core = self.dice.index(self.cores.len());
        match action.expect("the ticket is below the sum") {
            0 => self.client_sends(),
            1 => {
                let sender = self.dice.index(self.cores.len());
                self.submit(sender, core)
            }
            2 => self.turn(core),
            3 => self.sync(core),
            4 => {
                let client = self.dice.index(self.clients.len());
                self.client_takes_answer(client)
            }
            5 => {
                self.prepare(core);
                Ok(())
            }
            6 => {
                // Where it hurts most: the whole way, at once.
                for sender in 0..self.cores.len() {
                    self.submit(sender, core)?;
                }
                self.turn(core)
            }
            7 => {
                self.planner_sends();
                Ok(())
            }
            8 => {
                self.reader_sends();
                if self.dice.permille(200) {
                    self.pass(1_500_000);
                }
                Ok(())
            }
            9 => {
                self.snapshot(core);
                Ok(())
            }
            // Turns come also where nobody asks.
            _ => {
                self.turn(core)?;
                self.sync(core)
            }
        }
    }

    pub(crate) fn prepare(&mut self, core: usize) {
        if !self.fault_dice.permille(self.mix.ring_short) {
            self.cores[core].disk.borrow_mut().prepare_ahead();
        }
    }

    fn snapshot(&mut self, core: usize) {
        let core = &mut self.cores[core];
        let engine = core.engine.as_mut().expect("the process runs");
        core.snapshots
            .step(engine, self.rules.dimension_count, self.plant, &mut self.dice);
    }

    pub(crate) fn next_handle(&mut self) -> u32 {
        self.handle_count += 1;
        self.handle_count
    }

    /// A client sends a frame: what is open, and something new.
    fn client_sends(&mut self) -> Result<(), Violation> {
        let index = self.dice.index(self.clients.len());
        for _ in 0..self.dice.below(4) {
            self.ledger.wish(&mut self.clients[index], &mut self.dice);
        }
        self.send_open(index);
        Ok(())
    }

    pub(crate) fn send_open(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.open.is_empty() || client.frames_in_flight >= 4 {
            return;
        }
        let count = (1 + self.dice.index(12)).min(client.open.len());
        let wishes: Vec<_> = client.open.drain(..count).collect();
        client.frames_in_flight += 1;
        let sender = client.core;
        let handle = self.next_handle();
        note(
            "client sends",
            [index as u64, u64::from(handle), wishes.len() as u64, wishes[0] as u64],
        );
        let mut entries = Vec::with_capacity(wishes.len());
        for (place, wish) in wishes.into_iter().enumerate() {
            let random = self.dice.bits();
            let (owner, command) = self.ledger.command(wish, random);
            let owner = owner.unwrap_or(sender);
            entries.push((wish, owner));
            self.push_command(
                sender,
                owner,
                Entry {
                    frame: handle,
                    index: place as u32,
                    command,
                },
            );
        }
        let outcomes = entries.iter().map(|_| None).collect();
        self.frames.insert(
            handle,
            Frame {
                client: index,
                left: entries.len(),
                entries,
                outcomes,
            },
        );
    }

    /// As the server gathers commands for their owners.
    fn push_command(&mut self, sender: usize, owner: usize, entry: Entry) {
        let channel = &mut self.channels[sender][owner];
        let mut continues = false;
        if let Some(Message::Commands(batch)) = channel.back_mut() {
            if batch.entries.len() < MESSAGE_COMMANDS_MAX {
                batch.entries.push(entry);
                return;
            }
            continues = batch.entries.last().is_some_and(|last| last.frame == entry.frame);
        }
        continues &= self.plant != Some(Plant::FrameForgotten);
        let batch = Batch {
            sender,
            continues,
            entries: vec![entry],
            ..Batch::default()
        };
        channel.push_back(Message::Commands(Box::new(batch)));
    }

    pub(crate) fn planner_sends(&mut self) {
        let pool = self.dice.index(self.ledger.pools.len());
        if self.ledger.resets && self.dice.permille(700) {
            self.reset(pool);
        } else {
            self.plan(pool);
        }
    }

    pub(crate) fn plan(&mut self, pool: usize) {
        if !self.ledger.plan(pool, self.now, &mut self.dice) {
            return;
        }
        let definition = self.ledger.pools[pool]
            .pending
            .as_ref()
            .expect("planned right now")
            .0
            .clone();
        let handle = self.next_handle();
        note(
            "planner sends",
            [pool as u64, u64::from(handle), definition.coverage.len() as u64, 0],
        );
        let put = plimsoll_domain::PutPool {
            definition,
            expected_version: None,
        };
        self.ask(
            handle,
            self.ledger.pools[pool].core,
            Call::PutPools {
                puts: vec![put],
                dry_run: false,
            },
        );
        self.asked.insert(handle, Asked::Put(pool));
    }

    fn reader_sends(&mut self) {
        let names = || self.ledger.pools.iter().map(|pool| pool.name.as_str().into());
        let call = match self.dice.below(4) {
            0 => Call::GetPools(names().collect()),
            1 => Call::ResolvePools(names().collect()),
            2 => Call::ListPools {
                after: "slot-1".into(),
                limit: self.dice.index(6),
            },
            _ => {
                let done = self.ledger.intents.iter().filter_map(|intent| match intent.progress {
                    Progress::Done(id) => Some(ReservationId(id)),
                    _ => None,
                });
                Call::GetReservations(done.step_by(7).take(20).collect())
            }
        };
        let handle = self.next_handle();
        let core = self.dice.index(self.cores.len());
        note("reader sends", [core as u64, u64::from(handle), 0, 0]);
        self.ask(handle, core, call);
        self.asked.insert(handle, Asked::Read);
    }

    pub(crate) fn ask(&mut self, handle: u32, owner: usize, call: Call) {
        let sender = self.dice.index(self.cores.len());
        let request = Request {
            sender,
            origin: handle,
            part: 0,
            call,
            answer: Answer::Pending,
        };
        self.channels[sender][owner].push_back(Message::Request(Box::new(request)));
    }

    /// A connection is lost: what was on its way to the client is, and the client sends again what has no answer.
    pub(crate) fn lose_connection(&mut self, index: usize) {
        let mut wishes = Vec::new();
        self.frames.retain(|_, frame| {
            if frame.client != index {
                return true;
            }
            wishes.extend(frame.entries.iter().map(|(wish, _)| *wish));
            false
        });
        let client = &mut self.clients[index];
        client.answers.clear();
        client.frames_in_flight = 0;
        client.connection += 1;
        wishes.extend(client.open.drain(..));
        client.open.extend(wishes);
    }

    /// Everything that the process had is gone: messages, frames, engines.
    pub(crate) fn drop_process(&mut self) {
        for core in &mut self.cores {
            core.stop();
        }
        for channel in self.channels.iter_mut().flatten() {
            channel.clear();
        }
        self.asked.clear();
        for index in 0..self.clients.len() {
            self.lose_connection(index);
        }
        for pool in 0..self.ledger.pools.len() {
            self.ledger.put_is_lost(pool);
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.clients.iter().all(|client| client.unfinished == 0)
            && self.asked.is_empty()
            && self.ledger.pools.iter().all(|pool| pool.pending.is_none())
            && self
                .cores
                .iter()
                .all(|core| core.engine.as_ref().is_some_and(Engine::is_idle))
    }
}
