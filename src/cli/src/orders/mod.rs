//! `plimsoll orders`: drives a file of orders through a running engine, so that it can be killed and begun again.

mod account;
mod drive;
mod file;
mod keeper;
mod meter;
mod plan;
mod progress;
mod rebuild;
mod selling;
mod send;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_client::{Client, KeySource, PoolId};
use sha2::{Digest, Sha256};

use crate::args::OrdersArguments;
use crate::connection;
use crate::failure::Failure;
use crate::input::{Input, failure_of_file};
use crate::output::{Output, notice};
use drive::{Drive, Ending, Keys};
use file::{Operation, OrderFile, Taken};
use plan::{Figures, LineIndex, Plan, Skip, Step};
use progress::{Again, Known, Progress, ProgressError, Run};

pub(crate) fn run(arguments: &OrdersArguments) -> Result<(), Failure> {
    let input = Input::read(&arguments.file)?;
    connection::block_on(run_with(arguments, input))
}

async fn run_with(arguments: &OrdersArguments, input: Input) -> Result<(), Failure> {
    let client = connection::connect(&arguments.client).await?;
    let welcome = client.welcome();
    let dimensions = welcome.dimensions.clone();
    let columns = match &arguments.dimensions {
        Some(names) => {
            let places = names
                .places(&dimensions)
                .map_err(|error| Failure::usage(format!("--dimensions: {error}")))?;
            places.into_iter().map(|place| dimensions[place].clone()).collect()
        }
        None => dimensions.clone(),
    };

    let mut file = file::read(
        &input,
        &Taken {
            engine: &dimensions,
            columns: &columns,
        },
    )
    .map_err(|errors| failure_of_file(errors, &input.path))?;
    if !file.was_in_order {
        notice("note: the lines are not in the order of time; they are taken in that order");
    }
    if file.several_nights > 0 {
        notice(format_args!(
            "note: {} orders are for several nights; each takes its first night's pool only",
            file.several_nights
        ));
    }

    if let Some(until) = arguments.until {
        file.take_until(until);
    }

    let job = Job {
        arguments,
        client,
        dimensions,
        directory: welcome.directory_id.clone(),
        file: Arc::new(file),
        progress_path: progress_path(arguments)?,
    };
    let run = Run {
        input: hexadecimal(&input.digest),
        directory: job.directory.clone(),
        dimensions: columns.join(","),
        hold_seconds: arguments.hold.map_or(0, |hold| hold.as_secs()),
        is_rebuild: arguments.rebuild,
    };
    let path = &job.progress_path;
    // Without what was kept of the lines before, nobody knows what they came to.
    let goes_on = arguments.restore_only || arguments.again_after.is_some();
    if goes_on && !path.exists() {
        return Err(Failure::failed(format!("there is no progress file {}", path.display()))
            .help("say with --progress where the earlier run kept it"));
    }
    let (mut progress, mut known) = Progress::open(path, &run).map_err(|error| cannot_use(error, path))?;
    let earlier = std::mem::take(&mut known.earlier);
    let mut is_begun_again = false;
    if let Some(after) = arguments.again_after {
        let round = arguments.round;
        is_begun_again = is_taken_back(&known, Again { after, round });
        if !is_begun_again {
            take_back(&job.file, Again { after, round }, &mut known, &mut progress)
                .map_err(|error| drive::cannot_keep(error, path))?;
        }
    }
    if arguments.restore_only {
        return rebuild::restore(&job, &mut progress, earlier).await;
    }
    let (mut plan, left) = job.plan(known)?;
    if arguments.rebuild {
        return rebuild::run(&job, &mut progress, plan, left, earlier).await;
    }
    if is_begun_again {
        let round = arguments.round + 1;
        notice(match plan.is_finished() {
            true => format!(
                "note: these lines were sent again already, nothing is sent; after another reset say --round {round}"
            ),
            false => {
                format!("note: going on with the lines that are sent again; after another reset say --round {round}")
            }
        });
    }
    if !plan.is_finished() {
        let pools = resolve_pools(&job.client, &job.file, arguments).await?;
        job.drive(&mut plan, &mut progress, left, &pools, Keys::OfLines(input.digest))
            .await?;
    }
    say_skipped(&plan, &job.file);
    print(plan.figures(), arguments.client.json)
}

/// Whether an earlier run has taken the lines back already, and this one goes on with it.
fn is_taken_back(known: &Known, asked: Again) -> bool {
    known
        .again
        .is_some_and(|again| again.after == asked.after && again.round >= asked.round)
}

/// Takes the outcomes of the lines after a time back, durably, so that they are sent anew under other keys. A line whose outcome is not known gets
/// another key too: it may have taken effect before the reset, and its first key leads to what the reset has ended.
fn take_back(file: &OrderFile, again: Again, known: &mut Known, progress: &mut Progress) -> Result<(), ProgressError> {
    let mut count = 0u64;
    for line in file.lines.iter().filter(|line| line.at > again.after) {
        known.outcomes.remove(&line.number);
        let key = known.expired.entry(line.number).or_default();
        *key += 1;
        progress.add_expired(line.number, *key);
        count += 1;
    }
    progress.add_again(again);
    progress.write()?;
    notice(format_args!("{count} lines are sent again"));
    Ok(())
}

/// A file that was read, and the engine that it is for.
struct Job<'a> {
    arguments: &'a OrdersArguments,
    client: Client,
    /// All dimensions of the engine, in its order.
    dimensions: Vec<String>,
    /// The engine's data directory when the run began.
    directory: String,
    file: Arc<OrderFile>,
    progress_path: PathBuf,
}

/// What an earlier run has left to be done.
struct Left {
    /// The lines that are ready to be sent, in the order of time.
    ready: Vec<(LineIndex, Step)>,
    /// How many keys of a line are used up.
    expired: HashMap<LineIndex, u32>,
}

impl Job<'_> {
    /// Goes on from what the progress file holds.
    fn plan(&self, known: Known) -> Result<(Plan<'_>, Left), Failure> {
        let (file, path) = (&self.file, &self.progress_path);
        let by_number: HashMap<u64, LineIndex> = (0..)
            .map(LineIndex)
            .zip(&file.lines)
            .map(|(index, line)| (line.number, index))
            .collect();
        let damaged = |number: u64| {
            Failure::failed(format!(
                "{}: what it says of line {number} does not fit the file",
                path.display()
            ))
            .help("it is damaged; what the engine holds can no longer be told from it")
        };
        let index_of = |number: u64| by_number.get(&number).copied().ok_or_else(|| damaged(number));
        let behind = known.outcomes.keys().filter(|number| file.left_out.contains(number));
        if let Some(number) = behind.min() {
            return Err(Failure::failed(format!(
                "line {number} lies behind --until, and an earlier run has sent it"
            ))
            .help("name the time of that run, or a later one; without --until the whole file is taken"));
        }
        let mut outcomes = HashMap::with_capacity(known.outcomes.len());
        for (number, outcome) in known.outcomes {
            outcomes.insert(index_of(number)?, outcome);
        }
        let mut expired = HashMap::with_capacity(known.expired.len());
        for (number, count) in known.expired {
            if !file.left_out.contains(&number) {
                expired.insert(index_of(number)?, count);
            }
        }
        let is_fresh = outcomes.is_empty();
        let mut plan = Plan::new(&file.lines);
        let ready = plan
            .resume(outcomes)
            .map_err(|misfit| damaged(file.lines[misfit.0.index()].number))?;
        if !is_fresh {
            notice(format_args!(
                "going on from {}: {} of {} lines are done",
                path.display(),
                plan.settled(),
                file.lines.len()
            ));
        }
        Ok((plan, Left { ready, expired }))
    }

    /// Sends what is left.
    async fn drive(
        &self,
        plan: &mut Plan<'_>,
        progress: &mut Progress,
        left: Left,
        pools: &[Option<PoolId>],
        keys: Keys<'_>,
    ) -> Result<(), Failure> {
        let drive = Drive {
            client: &self.client,
            file: &self.file,
            pools,
            keys,
            directory: &self.directory,
            window: self.arguments.window as usize,
            patience: self.arguments.patience,
            hold: self.arguments.hold,
        };
        match drive.run(plan, progress, left.ready, left.expired).await? {
            Ending::Finished => Ok(()),
            Ending::Interrupted => Err(Failure::failed(format!(
                "stopped; {} of {} lines are done",
                plan.settled(),
                self.file.lines.len()
            ))
            .help(format!(
                "run the same command again to go on; {} knows where it was",
                self.progress_path.display()
            ))),
        }
    }
}

/// The name of the input, in the current directory: where an input lies is often no place to write to.
fn progress_path(arguments: &OrdersArguments) -> Result<PathBuf, Failure> {
    if let Some(path) = &arguments.progress {
        return Ok(path.clone());
    }
    let name = arguments
        .file
        .file_name()
        .ok_or_else(|| Failure::usage("FILE has no name"))?;
    let mut name = name.to_owned();
    name.push(".progress");
    Ok(PathBuf::from(name))
}

fn cannot_use(error: ProgressError, path: &Path) -> Failure {
    let help = match &error {
        ProgressError::OtherRun { .. } => "name another file with --progress; this one is left as it is",
        ProgressError::Foreign => "name another file with --progress",
        ProgressError::InUse => "wait for the other run, or end it",
        ProgressError::Damaged { .. } => "what the engine holds can no longer be told from it",
        ProgressError::Io(_) => "name a file that can be written with --progress",
    };
    Failure::failed(format!("cannot use the progress file {}", path.display()))
        .because(error)
        .help(help)
}

/// The pools that a reserve names, by their indices.
fn pools_named(file: &OrderFile) -> Vec<usize> {
    let reserves = file.lines.iter().filter(|line| line.operation == Operation::Reserve);
    let mut named: Vec<usize> = reserves.map(|line| line.pool.index()).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// The id of each pool that a reserve names. A name without a pool is often a forgotten import; a file of which no pool exists
/// certainly is.
async fn resolve_pools(
    client: &Client,
    file: &OrderFile,
    arguments: &OrdersArguments,
) -> Result<Vec<Option<PoolId>>, Failure> {
    let named = pools_named(file);
    let names: Vec<&str> = named.iter().map(|pool| &*file.pools[*pool]).collect();
    let found = client
        .resolve(&names)
        .await
        .map_err(|error| connection::read_failure(error, &arguments.client.engine))?;
    let missing: Vec<&str> = names
        .iter()
        .zip(&found)
        .filter(|(_, id)| id.is_none())
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        if missing.len() == names.len() {
            return Err(Failure::failed(format!(
                "the engine has none of the {} pools that the file names",
                names.len()
            ))
            .help("import them first: plimsoll pool import FILE"));
        }
        notice(format_args!(
            "note: orders for pools that do not exist ({}) are rejected: {}",
            missing.len(),
            keeper::shortened(&missing)
        ));
    }
    let mut ids = vec![None; file.pools.len()];
    for (pool, id) in named.into_iter().zip(found) {
        ids[pool] = id;
    }
    Ok(ids)
}

fn say_skipped(plan: &Plan<'_>, file: &OrderFile) {
    for (index, why) in plan.skipped() {
        let line = &file.lines[index.index()];
        let why = match why {
            Skip::AlreadyReserved => "has its reservation already",
            Skip::UnknownOrder => "is released without a reserve before it",
            Skip::AsksForNothing => "asks for nothing",
        };
        notice(format_args!(
            "note: line {} is skipped: order {} {why}",
            line.number,
            file.orders[line.order.index()]
        ));
    }
    let more = plan.figures().skipped - plan.skipped().len() as u64;
    if more > 0 {
        notice(format_args!("note: {more} more lines are skipped"));
    }
}

fn print(figures: Figures, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    if json {
        output.json(&figures)?;
    } else {
        print_figures(&mut output, &figure_lines(figures))?;
    }
    output.finish()
}

/// The figures with their names.
fn figure_lines(figures: Figures) -> Vec<(&'static str, u64)> {
    let mut lines = vec![
        ("accepted", figures.accepted),
        ("rejected", figures.rejected),
        ("released", figures.released),
        ("release_of_rejected", figures.release_of_rejected),
        ("live", figures.live),
    ];
    if figures.skipped > 0 {
        lines.push(("skipped", figures.skipped));
    }
    lines
}

fn print_figures(output: &mut Output, lines: &[(&str, u64)]) -> Result<(), Failure> {
    for (name, number) in lines {
        output.line(format_args!("{name:<19} {number:>10}"))?;
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The idempotency key of a line: the first 16 bytes of the SHA-256 of the input's SHA-256 (32 bytes) and the line's number (8 bytes,
/// least significant first). So it is the same in every run over the same content, and in no other. A line of which so many holds
/// have expired goes on with another key: their number follows (4 bytes, least significant first) when it is not 0.
fn key_of(input: &[u8; 32], number: u64, expired: u32) -> plimsoll_client::Key {
    let mut hash = Sha256::new().chain_update(input).chain_update(number.to_le_bytes());
    if expired > 0 {
        hash.update(expired.to_le_bytes());
    }
    key_of_hash(&hash.finalize().into())
}

fn key_of_hash(hash: &[u8; 32]) -> plimsoll_client::Key {
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    plimsoll_client::Key::from_bytes(first)
}

/// The idempotency key of an order in a rebuild: its name as a key, as a caller would give it with `--key`; `NAME#2` for its second
/// reservation, and so on. A name that is no key is hashed as it is.
fn key_of_order(name: &str, earlier_count: u32) -> plimsoll_client::Key {
    let text = match earlier_count {
        0 => name.to_owned(),
        count => format!("{name}#{}", u64::from(count) + 1),
    };
    plimsoll_client::Key::from_text(&text).unwrap_or_else(|_| key_of_hash(&Sha256::digest(text.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_line_is_fixed() {
        // As Python says: sha256(bytes(32) + (1).to_bytes(8, "little")).hexdigest()[:32]
        assert_eq!(key_of(&[0; 32], 1, 0).0, 0x19ea_44be_89ee_ce0f_d4ec_7482_049f_472a);
        let key = key_of(&[0; 32], 1, 0);
        for other in [
            key_of(&[0; 32], 2, 0),
            key_of(&[1; 32], 1, 0),
            key_of(&[0; 32], 1, 1),
            key_of(&[0; 32], 1, 2),
        ] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn the_key_of_an_order_is_its_name() {
        let check = |name: &str, count: u32, text: &str| {
            assert_eq!(
                Ok(key_of_order(name, count)),
                plimsoll_client::Key::from_text(text),
                "{name}"
            );
        };
        check("order-4711", 0, "order-4711");
        check("order-4711", 1, "order-4711#2");
        check("order-4711", 2, "order-4711#3");
        check(
            "123e4567-e89b-12d3-a456-426614174000",
            0,
            "123e4567-e89b-12d3-a456-426614174000",
        );
        assert_ne!(key_of_order("two words", 0), key_of_order("two words", 1));
    }
}
