//! The progress file: what became of each line, appended as it becomes known.
//!
//! What always holds:
//! - The first line names the input (SHA-256 of its decompressed content), the engine's data directory and the dimensions taken. A
//!   file of another run is never appended to.
//! - Each further line is one outcome: the line's number in the input, then `A` and the reservation, `R` and the status, or `L`;
//!   or it says under which key a line is sent from now on, since its hold has expired or its pool was reset: the line's number, `E`, and
//!   the how manieth key after the first. What was known of the line before does not hold any more.
//! - `again`, a time in microseconds and a number say that the lines after the time have been taken back, each by a line `E` of the same
//!   batch before it, after their pools were reset to that time for the how manieth time. So a run that is repeated does not take back
//!   what it has sent again.
//! - A rebuild also keeps what it takes from pools for its duration: `P`, the pool, its mode, its state, opens_at and closes_at as
//!   they were. It stands here before the pool is changed. `restored` says that all of them have been given back.
//! - It is only appended to, a batch of lines at a time, each batch synced before the next is written. So only its last batch can be
//!   torn: what follows the last line feed, or the first zero byte, is cut off when it is opened again.
//! - One process at a time writes to it; the lock goes with the process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use plimsoll_form::{mode_of, state_of};

use super::plan::Outcome;
use super::selling::Selling;

/// The first word of the file and the version of its form.
const MAGIC: &str = "plimsoll-orders 1";

/// Which run a progress file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// SHA-256 of the input, hexadecimal.
    pub(crate) input: String,
    /// The engine's data directory, hexadecimal.
    pub(crate) directory: String,
    /// The dimensions taken, separated by commas.
    pub(crate) dimensions: String,
    /// How many seconds each order is held before it is confirmed; 0 when it is not held.
    pub(crate) hold_seconds: u64,
    /// Whether it rebuilds: then no line can be refused.
    pub(crate) is_rebuild: bool,
}

/// The last word of the header of a rebuild.
const REBUILD: &str = "rebuild";

impl Run {
    fn header(&self) -> String {
        let mut header = format!(
            "{MAGIC} input={} directory={} dimensions={}",
            self.input, self.directory, self.dimensions
        );
        if self.hold_seconds > 0 {
            header.push_str(&format!(" hold={}", self.hold_seconds));
        }
        if self.is_rebuild {
            header.push(' ');
            header.push_str(REBUILD);
        }
        header
    }

    fn parse(header: &str) -> Option<Run> {
        let mut words = header.strip_prefix(MAGIC)?.strip_prefix(' ')?.split(' ');
        let value = |word: &str, key: &str| word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        let mut word = |key: &str| value(words.next()?, key);
        let (input, directory, dimensions) = (word("input")?, word("directory")?, word("dimensions")?);
        let (hold_seconds, is_rebuild) = match words.next() {
            Some(REBUILD) => (0, true),
            Some(word) => (value(word, "hold")?.parse().ok()?, false),
            None => (0, false),
        };
        let run = Run {
            input,
            directory,
            dimensions,
            hold_seconds,
            is_rebuild,
        };
        words.next().is_none().then_some(run)
    }
}

/// Why a progress file cannot be used. Whoever reports it names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgressError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("another run uses it")]
    InUse,
    #[error("it is no progress file")]
    Foreign,
    #[error("it belongs to another {what}: {theirs}, not {ours}")]
    OtherRun {
        what: &'static str,
        theirs: String,
        ours: String,
    },
    #[error("line {line} is damaged")]
    Damaged { line: usize },
}

/// A progress file that is open for appending.
#[derive(Debug)]
pub(crate) struct Progress {
    path: PathBuf,
    file: File,
    batch: String,
}

/// The lines after a time have been taken back, to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// Microseconds since 1970.
    pub(crate) after: i64,
    /// After which reset to that time, from 1.
    pub(crate) round: u32,
}

/// What a progress file holds, by the line's number in the input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) outcomes: HashMap<u64, Outcome>,
    /// How many keys of a line are used up: their holds have expired before they were confirmed, or their pools were reset.
    pub(crate) expired: HashMap<u64, u32>,
    /// The last time that lines were taken back.
    pub(crate) again: Option<Again>,
    /// What pools had before a rebuild changed them, and have not been given back, by their names.
    pub(crate) earlier: HashMap<String, Selling>,
}

impl Progress {
    /// Opens the progress file of a run, or makes it, and gives back what it holds.
    pub(crate) fn open(path: &Path, run: &Run) -> Result<(Progress, Known), ProgressError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // A device would be read without end.
        if !file.metadata()?.is_file() {
            return Err(ProgressError::Foreign);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ProgressError::InUse),
            Err(TryLockError::Error(source)) => return Err(source.into()),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let kept = kept_size(&content);
        let known = match parse(&content[..kept], run)? {
            Some(known) => known,
            // Nothing but a torn header, or nothing at all. Whatever else stands there is somebody's.
            None if is_torn_header(&content, &run.header()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(format!("{}\n", run.header()).as_bytes())?;
                file.sync_all()?;
                sync_directory_of(path)?;
                return Ok((
                    Progress {
                        path: path.to_owned(),
                        file,
                        batch: String::new(),
                    },
                    Known::default(),
                ));
            }
            None => return Err(ProgressError::Foreign),
        };
        file.set_len(kept as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((
            Progress {
                path: path.to_owned(),
                file,
                batch: String::new(),
            },
            known,
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an outcome to the batch.
    pub(crate) fn add(&mut self, line: u64, outcome: Outcome) {
        let written = match outcome {
            Outcome::Accepted(reservation) => writeln!(self.batch, "{line} A {reservation}"),
            Outcome::Rejected(status) => writeln!(self.batch, "{line} R {status}"),
            Outcome::Released => writeln!(self.batch, "{line} L"),
        };
        assert!(written.is_ok(), "a String takes what is written to it");
    }

    /// Adds to the batch that so many holds of a line have expired.
    pub(crate) fn add_expired(&mut self, line: u64, count: u32) {
        let written = writeln!(self.batch, "{line} E {count}");
        assert!(written.is_ok(), "a String takes what is written to it");
    }

    /// Adds to the batch that the lines after a time have been taken back: behind the keys that they have from now on, so that a batch that is torn
    /// is made anew.
    pub(crate) fn add_again(&mut self, Again { after, round }: Again) {
        let written = writeln!(self.batch, "{AGAIN} {after} {round}");
        assert!(written.is_ok(), "a String takes what is written to it");
    }

    /// Adds to the batch what a pool had before it is changed.
    pub(crate) fn add_earlier(&mut self, pool: &str, earlier: Selling) {
        let Selling {
            shadow,
            closed,
            opens_at,
            closes_at,
        } = earlier;
        let (mode, state) = (mode_of(shadow), state_of(closed));
        let written = writeln!(self.batch, "P {pool} {mode} {state} {opens_at} {closes_at}");
        assert!(written.is_ok(), "a String takes what is written to it");
    }

    /// Adds to the batch that all pools have been given back what they had.
    pub(crate) fn add_restored(&mut self) {
        self.batch.push_str(RESTORED);
        self.batch.push('\n');
    }

    /// Writes the batch, and waits until it is on the disk.
    pub(crate) fn write(&mut self) -> Result<(), ProgressError> {
        self.file.write_all(self.batch.as_bytes())?;
        self.file.sync_data()?;
        self.batch.clear();
        Ok(())
    }
}

/// A new file is only sure to be found again when its directory is synced.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// How much stands before the first zero byte, which a power failure leaves where a batch was not written.
fn zero_free_size(content: &[u8]) -> usize {
    content.iter().position(|byte| *byte == 0).unwrap_or(content.len())
}

/// Whether a content without a whole line is the beginning of our header, as a crash while it was written leaves it, and not
/// somebody's file.
fn is_torn_header(content: &[u8], header: &str) -> bool {
    /// A crash leaves at most a page of zeros.
    const ZEROS_SIZE_MAX: usize = 4096;
    let (text, zeros) = content.split_at(zero_free_size(content));
    header.as_bytes().starts_with(text) && zeros.len() <= ZEROS_SIZE_MAX && zeros.iter().all(|byte| *byte == 0)
}

/// How much of the content is whole lines.
fn kept_size(content: &[u8]) -> usize {
    let whole = &content[..zero_free_size(content)];
    whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

/// The outcomes in whole lines; `None` when there is not even a header.
fn parse(content: &[u8], run: &Run) -> Result<Option<Known>, ProgressError> {
    if content.is_empty() {
        return Ok(None);
    }
    let foreign = || ProgressError::Foreign;
    let text = std::str::from_utf8(content).map_err(|_| foreign())?;
    let mut lines = text.lines();
    let found = lines.next().and_then(Run::parse).ok_or_else(foreign)?;
    for (what, theirs, ours) in [
        ("input", &found.input, &run.input),
        ("engine", &found.directory, &run.directory),
        ("choice of dimensions", &found.dimensions, &run.dimensions),
        ("--hold", &hold_text(found.hold_seconds), &hold_text(run.hold_seconds)),
        (
            "choice of --rebuild",
            &rebuild_text(found.is_rebuild),
            &rebuild_text(run.is_rebuild),
        ),
    ] {
        if theirs != ours {
            let (theirs, ours) = (theirs.clone(), ours.clone());
            return Err(ProgressError::OtherRun { what, theirs, ours });
        }
    }
    let mut known = Known::default();
    for (index, line) in lines.enumerate() {
        let damaged = || ProgressError::Damaged { line: index + 2 };
        if let Some((number, count)) = parse_expired(line) {
            // Later lines count further.
            if known
                .expired
                .insert(number, count)
                .is_some_and(|before| before >= count)
            {
                return Err(damaged());
            }
            // Written behind an outcome, it takes that back: the line is sent anew, under another key.
            known.outcomes.remove(&number);
            continue;
        }
        if let Some(again) = parse_again(line) {
            known.again = Some(again);
            continue;
        }
        if line == RESTORED {
            known.earlier.clear();
            continue;
        }
        if let Some((pool, earlier)) = parse_earlier(line) {
            known.earlier.insert(pool, earlier);
            continue;
        }
        let (number, outcome) = parse_outcome(line).ok_or_else(damaged)?;
        if known.outcomes.insert(number, outcome).is_some() {
            return Err(damaged());
        }
    }
    Ok(Some(known))
}

fn hold_text(seconds: u64) -> String {
    if seconds == 0 {
        "none".to_owned()
    } else {
        format!("{seconds}s")
    }
}

fn rebuild_text(is_rebuild: bool) -> String {
    if is_rebuild { "with it" } else { "without it" }.to_owned()
}

/// The line that says that pools have been given back what they had.
const RESTORED: &str = "restored";

/// The first word of a line that says that lines have been taken back.
const AGAIN: &str = "again";

fn parse_again(line: &str) -> Option<Again> {
    let (after, round) = line.strip_prefix(AGAIN)?.strip_prefix(' ')?.split_once(' ')?;
    Some(Again {
        after: after.parse().ok()?,
        round: round.parse().ok()?,
    })
}

fn parse_earlier(line: &str) -> Option<(String, Selling)> {
    let mut words = line.strip_prefix("P ")?.split(' ');
    let pool = words.next()?.to_owned();
    let mut one_of = |names: [&str; 2]| {
        let word = words.next()?;
        names.iter().position(|name| *name == word).map(|place| place == 1)
    };
    let shadow = one_of([false, true].map(mode_of))?;
    let closed = one_of([false, true].map(state_of))?;
    let earlier = Selling {
        shadow,
        closed,
        opens_at: words.next()?.parse().ok()?,
        closes_at: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some((pool, earlier))
}

fn parse_expired(line: &str) -> Option<(u64, u32)> {
    let (number, count) = line.split_once(" E ")?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

fn parse_outcome(line: &str) -> Option<(u64, Outcome)> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let outcome = match words.next()? {
        "A" => Outcome::Accepted(words.next()?.parse().ok()?),
        "R" => Outcome::Rejected(words.next()?.parse().ok()?),
        "L" => Outcome::Released,
        _ => return None,
    };
    words.next().is_none().then_some((number, outcome))
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
