//! Runs seeds of the simulation, or hunts a planted bug.

// What a program says to whoever runs it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use plimsoll_simulator::{Faults, Options, Plant, command_line, report, run, shrink};

/// Exit code of a run that broke a promise, told from errors of the command line.
const EXIT_VIOLATION: u8 = 1;
/// Runs for shrinking one failure at most.
const SHRINK_RUN_COUNT_MAX: u32 = 60;

#[derive(Clone, Copy, Debug)]
struct Seeds {
    first: u64,
    end: u64,
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let (first, end) = text.split_once("..").ok_or("expected FIRST..END, END not included")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let seeds = Seeds {
        first: number(first)?,
        end: number(end)?,
    };
    if seeds.first < seeds.end {
        Ok(seeds)
    } else {
        Err("no seed in this range".to_owned())
    }
}

fn parse_plant(text: &str) -> Result<Plant, String> {
    Plant::from_name(text).ok_or_else(|| format!("no bug {text:?}; --list-plants names them"))
}

/// Runs Plimsoll's engine and journal on a simulated disk, clock and network, and holds every promise against what happens.
///
/// One seed is one run: it decides what clients ask for, which faults strike and when, and which bytes survive. A run that breaks a promise is told with
/// its seed, the last steps, and a command line that repeats it; it is then made smaller.
///
/// Exit code: 0 when every promise held, or when the planted bug was caught; 1 otherwise.
#[derive(Debug, Parser)]
#[command(name = "plimsoll-simulator", version, max_term_width = 110)]
struct Arguments {
    /// One seed.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "random", "minutes"])]
    seed: Option<u64>,
    /// A range of seeds, the last one not included.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, conflicts_with_all = ["random", "minutes"])]
    seeds: Option<Seeds>,
    /// That many seeds from the clock.
    #[arg(long, value_name = "N")]
    random: Option<u64>,
    /// Seeds from the clock, for so long.
    #[arg(long, value_name = "M", conflicts_with = "random")]
    minutes: Option<u64>,
    /// Steps of a run before faults stop.
    #[arg(long, value_name = "N", default_value_t = Options::STEPS_DEFAULT)]
    steps: u64,
    /// What may go wrong: all, none, or names with commas between them.
    #[arg(long, value_name = "KINDS", default_value_t = Faults::ALL)]
    faults: Faults,
    /// Plants a bug and expects it to be caught; --list-plants names them.
    #[arg(long, value_name = "BUG", value_parser = parse_plant)]
    plant: Option<Plant>,
    /// Names the bugs that can be planted.
    #[arg(long)]
    list_plants: bool,
    /// Threads; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Does not look for a smaller run when one fails.
    #[arg(long)]
    no_shrink: bool,
    /// Says nothing but what went wrong.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_plants {
        for plant in Plant::ALL {
            println!(
                "{:<26} {}; caught within {} seeds",
                plant.name(),
                plant.description(),
                plant.seed_count_max()
            );
        }
        return ExitCode::SUCCESS;
    }
    // A panic of production code ends the process where panics abort: what is known is told before that.
    let (hunts, shrinks) = (arguments.plant.is_some(), !arguments.no_shrink);
    std::panic::set_hook(Box::new(move |info| {
        let violation = format!("assertion of production code: {info}");
        std::process::exit(i32::from(tell(&violation, &report(), &command_line(), hunts, shrinks)));
    }));
    let seeds = seeds(&arguments);
    if !arguments.quiet {
        match arguments.seed {
            Some(seed) => println!("seed {seed}"),
            None => println!("seeds from {}", seeds.first),
        }
    }
    ExitCode::from(run_all(&arguments, seeds))
}

fn seeds(arguments: &Arguments) -> Seeds {
    let clock = || {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        since.as_nanos() as u64 >> 8 & 0xFFFF_FFFF_FFFF
    };
    if let Some(seed) = arguments.seed {
        return Seeds {
            first: seed,
            end: seed.saturating_add(1),
        };
    }
    if let Some(seeds) = arguments.seeds {
        return seeds;
    }
    let from_clock = |count: u64| {
        let first = clock();
        Seeds {
            first,
            end: first.saturating_add(count),
        }
    };
    match (arguments.random, arguments.minutes, arguments.plant) {
        (Some(count), _, _) => from_clock(count),
        (_, Some(_), _) => from_clock(u64::MAX),
        (_, _, Some(plant)) => Seeds {
            first: 1,
            end: 1 + plant.seed_count_max(),
        },
        _ => from_clock(100),
    }
}

fn run_all(arguments: &Arguments, seeds: Seeds) -> u8 {
    let begin = Instant::now();
    let end = arguments
        .minutes
        .map(|minutes| begin + Duration::from_secs(minutes * 60));
    // A hunt goes seed by seed, so that it names the first seed that catches the bug.
    let default_jobs = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if arguments.plant.is_some() {
        1
    } else {
        arguments.jobs.unwrap_or_else(default_jobs)
    };
    let (next, count, steps, starts, wishes) = (
        AtomicU64::new(seeds.first),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let (failure, happened) = (Mutex::new(None), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_late = end.is_some_and(|end| Instant::now() >= end);
                    if seed >= seeds.end || is_late || failure.lock().is_ok_and(|failure| failure.is_some()) {
                        return;
                    }
                    let options = Options {
                        seed,
                        steps: arguments.steps,
                        faults: arguments.faults,
                        plant: arguments.plant,
                    };
                    match run(&options) {
                        Ok(outcome) => {
                            count.fetch_add(1, Ordering::Relaxed);
                            steps.fetch_add(outcome.steps, Ordering::Relaxed);
                            starts.fetch_add(outcome.starts, Ordering::Relaxed);
                            wishes.fetch_add(outcome.wishes, Ordering::Relaxed);
                            if let Ok(mut happened) = happened.lock() {
                                for (what, times) in outcome.happened {
                                    *happened.entry(what).or_insert(0) += times;
                                }
                            }
                            if arguments.seed.is_some() && !arguments.quiet {
                                println!("digest {:016x}", outcome.digest);
                            }
                        }
                        Err(found) => {
                            if let Ok(mut failure) = failure.lock() {
                                failure.get_or_insert(found);
                            }
                        }
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().ok().flatten();
    if !arguments.quiet {
        let seconds = begin.elapsed().as_secs_f64();
        let [count, steps, starts, wishes] =
            [&count, &steps, &starts, &wishes].map(|number| number.load(Ordering::Relaxed));
        let each_second = count as f64 / seconds;
        let happened = happened.into_inner().unwrap_or_default();
        for (what, times) in happened.iter().filter(|_| arguments.plant.is_none()) {
            println!("  {times:>12} {what}");
        }
        println!("{count} seeds, {steps} steps, {starts} recoveries, {wishes} wishes; {each_second:.0} seeds/s");
    }
    match (failure, arguments.plant) {
        (Some(failure), plant) => tell(
            &failure.violation.to_string(),
            &failure.report,
            &failure.options.command_line(),
            plant.is_some(),
            !arguments.no_shrink,
        ),
        (None, Some(plant)) => {
            println!("{} was not caught", plant.name());
            EXIT_VIOLATION
        }
        (None, None) => 0,
    }
}

/// Tells what was found; the exit code.
fn tell(violation: &str, report: &str, command_line: &str, hunts: bool, shrinks: bool) -> u8 {
    let mut out = std::io::stdout().lock();
    if hunts {
        // The bug is known: the seed and the checker are what counts.
        let one_line = violation.replace('\n', " ");
        let _ = writeln!(out, "caught by {one_line:.300}\n  {command_line}");
        return 0;
    }
    let _ = writeln!(out, "{report}broken: {violation}");
    if shrinks {
        let smaller = smallest(command_line);
        let _ = writeln!(out, "smallest:\n  {smaller}");
    }
    EXIT_VIOLATION
}

/// A panic may have ended more than the run, so smaller runs are tried in processes of their own.
fn smallest(command_line: &str) -> String {
    let Ok(arguments) = Arguments::try_parse_from(command_line.split_whitespace()) else {
        return command_line.to_owned();
    };
    let (Some(seed), Ok(program)) = (arguments.seed, std::env::current_exe()) else {
        return command_line.to_owned();
    };
    let options = Options {
        seed,
        steps: arguments.steps,
        faults: arguments.faults,
        plant: arguments.plant,
    };
    let mut run_count = 0;
    let smallest = shrink(&options, |options| {
        run_count += 1;
        if run_count > SHRINK_RUN_COUNT_MAX {
            return false;
        }
        let text = options.command_line();
        let mut command = Command::new(&program);
        command
            .args(text.split_whitespace().skip(1))
            .args(["--no-shrink", "--quiet"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.code() == Some(i32::from(EXIT_VIOLATION)))
    });
    smallest.command_line()
}
