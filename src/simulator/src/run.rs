//! One seed, one run: steps with faults, then steps without, then a clean stop, and everything checked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use plimsoll_domain::Timestamp;
use plimsoll_journal::{CrcFraming, Framing, Segment};

use crate::checkers::{Promise, Violation, hold};
use crate::faults::Faults;
use crate::plants::{LengthlessFraming, Plant, SeedlessFraming};
use crate::trace;
use crate::world::World;

/// Rounds without faults after which everything must be answered.
const ROUNDS_TO_SETTLE_MAX: u64 = 300;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Steps before faults stop.
    pub steps: u64,
    /// What may go wrong, if the seed chooses it.
    pub faults: Faults,
    /// A bug to plant.
    pub plant: Option<Plant>,
}

impl Options {
    /// Steps of a run when nothing else is said.
    pub const STEPS_DEFAULT: u64 = 2000;

    /// All faults, no bug.
    pub fn new(seed: u64) -> Options {
        Options {
            seed,
            steps: Options::STEPS_DEFAULT,
            faults: Faults::ALL,
            plant: None,
        }
    }

    /// What repeats the run.
    pub fn command_line(&self) -> String {
        let Options {
            seed,
            steps,
            faults,
            plant,
        } = self;
        let plant = plant
            .map(|plant| format!(" --plant {}", plant.name()))
            .unwrap_or_default();
        format!("plimsoll-simulator --seed {seed} --steps {steps} --faults {faults}{plant}")
    }
}

/// What a run without a violation amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Equal for two runs of one seed.
    pub digest: u64,
    /// Steps until the end, those without faults included.
    pub steps: u64,
    /// Processes started, probes included.
    pub starts: u64,
    /// Wishes of clients.
    pub wishes: u64,
    /// How often each sort of thing happened.
    pub happened: Vec<(&'static str, u64)>,
}

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which run.
    pub options: Options,
    /// At which step.
    pub step: u64,
    /// What was broken.
    pub violation: Violation,
    /// The last steps, the seed and the command line.
    pub report: String,
}

/// Runs one seed. A panic of production code comes back as a failure where panics unwind.
///
/// # Errors
/// The promise that was broken, with what is needed to repeat it.
pub fn run(options: &Options) -> Result<Outcome, Box<Failure>> {
    trace::begin(options.seed, options.command_line());
    let result = catch_unwind(AssertUnwindSafe(|| match options.plant {
        Some(Plant::ChecksumWithoutLength) => run_with::<LengthlessFraming>(options),
        Some(Plant::SeedWithoutIncarnation) => run_with::<SeedlessFraming>(options),
        _ => run_with::<CrcFraming>(options),
    }));
    let violation = match result {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(violation)) => violation,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a text");
            Violation {
                promise: Promise::Assertion,
                detail: text.to_owned(),
            }
        }
    };
    Err(Box::new(Failure {
        options: *options,
        step: trace::step(),
        violation,
        report: trace::report(),
    }))
}

fn run_with<F: Framing + 'static>(options: &Options) -> Result<Outcome, Violation> {
    let mut world = World::<F>::new(options);
    world.start_all()?;
    for pool in 0..world.ledger.pools.len() {
        world.plan(pool);
    }
    let mut step = 0;
    while step < options.steps {
        step += 1;
        trace::set_step(step, world.now);
        world.step()?;
    }
    step += settle(&mut world, step)?;
    end_of_life(&mut world)?;
    stop_cleanly(&mut world)?;
    Ok(Outcome {
        digest: trace::digest(),
        steps: step,
        starts: world.start_count,
        wishes: world.ledger.intents.len() as u64,
        happened: trace::counts(),
    })
}

/// Faults stop: everything gets its answer.
fn settle<F: Framing + 'static>(world: &mut World<F>, step: u64) -> Result<u64, Violation> {
    world.mix.stop();
    for core in &world.cores {
        core.disk.borrow_mut().is_full = false;
    }
    for round in 1..=ROUNDS_TO_SETTLE_MAX {
        world.pass(1_000);
        trace::set_step(step + round, world.now);
        for pool in 0..world.ledger.pools.len() {
            if world.ledger.pools[pool].pending.is_some() {
                world.plan(pool);
            }
        }
        for client in 0..world.clients.len() {
            world.send_open(client);
        }
        for owner in 0..world.cores.len() {
            world.prepare(owner);
            for sender in 0..world.cores.len() {
                world.submit(sender, owner)?;
                world.submit(sender, owner)?;
            }
            world.turn(owner)?;
            for _ in 0..3 {
                world.sync(owner)?;
            }
        }
        for client in 0..world.clients.len() {
            world.client_takes_answer(client)?;
        }
        if world.is_settled() {
            return Ok(round);
        }
    }
    let open: Vec<_> = world.clients.iter().map(|client| client.unfinished).collect();
    Err(Violation {
        promise: Promise::BadDisk,
        detail: format!("{ROUNDS_TO_SETTLE_MAX} rounds without faults, and clients still wait for {open:?} answers"),
    })
}

/// Much time passes, and turns are taken: nothing is held any more, and everything is told.
fn end_of_life<F: Framing + 'static>(world: &mut World<F>) -> Result<(), Violation> {
    let ahead = world.cores.iter().map(|core| core.clock - world.now).max().unwrap_or(0);
    for micros in [ahead.max(0), 61_000_000, 4 * 3_600_000_000] {
        world.pass(micros);
        for _ in 0..4 {
            for owner in 0..world.cores.len() {
                world.prepare(owner);
                world.turn(owner)?;
                while !world.cores[owner].tickets.is_empty() || world.cores[owner].sync.is_some() {
                    world.sync(owner)?;
                }
            }
        }
    }
    for core in &world.cores {
        let held_count = core.model.held_count();
        hold(held_count == 0, Promise::Time, || {
            format!("{held_count} holds never expire")
        })?;
        let untold = core.mirror.housekeeping.untold(world.now);
        hold(untold.is_none(), Promise::LostDemand, || {
            format!("what pool {untold:?} turned away is never told")
        })?;
    }
    Ok(())
}

/// A clean stop, and a start after a power loss that takes everything that was not synced.
fn stop_cleanly<F: Framing + 'static>(world: &mut World<F>) -> Result<(), Violation> {
    for index in 0..world.cores.len() {
        let now = world.now;
        let core = &mut world.cores[index];
        core.engine
            .as_ref()
            .expect("the process runs")
            .state()
            .assert_counters();
        let finished = core.engine().finish(Timestamp(now));
        hold(finished.ticket.is_none(), Promise::LostDemand, || {
            "something that was turned away more than a minute ago is told at the stop".to_owned()
        })?;
        let effects = core.engine().close(Timestamp(now));
        core.tickets.extend(effects.ticket);
        let (last_lsn, active) = {
            let journal = core.engine().journal();
            (journal.last_lsn().0, journal.segment().number().0)
        };
        let dimension_count = world.rules.dimension_count;
        let core = &mut world.cores[index];
        let events = core
            .log
            .read::<F>(&core.disk.borrow(), last_lsn, active, dimension_count)?;
        hold(events.is_empty(), Promise::Forgotten, || {
            format!("a clean stop writes events: {events:?}")
        })?;
        while !world.cores[index].tickets.is_empty() || world.cores[index].sync.is_some() {
            world.sync(index)?;
        }
        let core = &world.cores[index];
        let state = core.engine.as_ref().expect("the process runs").state();
        world.ledger.check(index, state)?;
        world.ledger.check_effects(&core.model, state)?;
    }
    let last: Vec<_> = world.cores.iter().map(|core| core.log.last_lsn()).collect();
    world.drop_process();
    world
        .cores
        .iter()
        .for_each(|core| core.disk.borrow_mut().lose_everything());
    world.start_all()?;
    let found: Vec<_> = world.cores.iter().map(|core| core.log.last_lsn()).collect();
    hold(found == last, Promise::Durable, || {
        format!("stopped cleanly at {last:?}, started at {found:?}")
    })
}

/// Looks for a smaller run that breaks a promise too: fewer sorts of faults, then fewer steps. `fails` runs one.
pub fn shrink(options: &Options, mut fails: impl FnMut(&Options) -> bool) -> Options {
    let mut best = *options;
    for kind in options.faults.kinds() {
        let smaller = Options {
            faults: best.faults.without(kind),
            ..best
        };
        if fails(&smaller) {
            best = smaller;
        }
    }
    let (mut passes, mut broken) = (0, best.steps);
    while broken - passes > 1 {
        let steps = passes.midpoint(broken);
        if fails(&Options { steps, ..best }) {
            broken = steps;
        } else {
            passes = steps;
        }
    }
    Options { steps: broken, ..best }
}
