//! Real orders from a file, at their own distances or faster: the format that `plimsoll orders` reads.
//!
//! - All lines of an order belong to one thread, so that its release meets its reservation.
//! - A release that is due before its reserve was answered is sent with that answer, and counts from when it was due.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use plimsoll_client::{Key, ReservationId};

use super::mix::Operation;
use super::source::Entry;
use crate::keys::Draws;
use crate::ledger::Fate;
use crate::limits::{ORDER_LINES_MAX, POOLS_MAX};
use crate::schedule::Part;

/// One line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderLine {
    /// Microseconds since 1970.
    at: i64,
    is_release: bool,
    order: u32,
    pool: u16,
}

/// The lines of a file in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    lines: Vec<OrderLine>,
    /// For each line a value for each dimension.
    units: Vec<u32>,
    dimensions: usize,
    /// The names of the pools, by the index that lines have.
    pub(crate) pools: Vec<String>,
    order_count: usize,
}

/// The fields of a line as texts.
type Fields = HashMap<String, String>;

impl Orders {
    /// Reads a file whose name ends in `.csv` or `.ndjson`, and in `.gz` behind it when it is compressed. It has a column for
    /// each of the dimensions.
    pub(crate) fn read(path: &Path, dimensions: &[String]) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.to_string_lossy().to_ascii_lowercase();
        let (name, reader): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
            Some(inner) => (inner, Box::new(MultiGzDecoder::new(file))),
            None => (&name, Box::new(file)),
        };
        let orders = if name.ends_with(".csv") {
            Self::read_csv(reader, dimensions)
        } else if name.ends_with(".ndjson") {
            Self::read_ndjson(reader, dimensions)
        } else {
            bail!(
                "{}: expected a name that ends in .csv or .ndjson, or in .gz behind it",
                path.display()
            )
        };
        orders.with_context(|| format!("{} cannot be used", path.display()))
    }

    fn read_csv(reader: impl Read, dimensions: &[String]) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(reader);
        Self::collect(reader.deserialize::<Fields>().map(|row| Ok(row?)), dimensions)
    }

    fn read_ndjson(reader: impl Read, dimensions: &[String]) -> Result<Self> {
        let lines = BufReader::new(reader).lines();
        let rows = lines.filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
        let rows = rows.map(|line| {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line?)?;
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            Ok(object.into_iter().map(|(name, value)| (name, text(value))).collect())
        });
        Self::collect(rows, dimensions)
    }

    fn collect(rows: impl Iterator<Item = Result<Fields>>, dimensions: &[String]) -> Result<Self> {
        let mut orders = Self {
            dimensions: dimensions.len(),
            ..Self::default()
        };
        let mut order_numbers = HashMap::new();
        let mut pool_numbers = HashMap::new();
        let mut lines = Vec::new();
        for (index, row) in rows.enumerate() {
            if index == ORDER_LINES_MAX {
                bail!("more than {ORDER_LINES_MAX} lines");
            }
            let line = row
                .and_then(|fields| orders.line(&fields, dimensions, &mut order_numbers, &mut pool_numbers))
                .with_context(|| format!("line {} behind the header", index + 1))?;
            lines.push(line);
        }
        if lines.is_empty() {
            bail!("there are no orders");
        }
        lines.sort_by_key(|(line, _)| line.at);
        orders.units = lines.iter().flat_map(|(_, units)| units).copied().collect();
        orders.lines = lines.into_iter().map(|(line, _)| line).collect();
        orders.order_count = order_numbers.len();
        Ok(orders)
    }

    fn line(
        &mut self,
        fields: &Fields,
        dimensions: &[String],
        orders: &mut HashMap<String, u32>,
        pools: &mut HashMap<String, u16>,
    ) -> Result<(OrderLine, Vec<u32>)> {
        let field = |name: &str| {
            let value = fields.get(name).map(String::as_str);
            value.with_context(|| format!("there is no {name}"))
        };
        let is_release = match field("op")? {
            "reserve" => false,
            "release" => true,
            other => bail!("op: expected reserve or release, found {other:?}"),
        };
        let next = orders.len() as u32;
        let order = *orders.entry(field("order")?.to_owned()).or_insert(next);
        let name = field("pool")?;
        let pool = match pools.get(name) {
            Some(pool) => *pool,
            None if self.pools.len() as i64 == POOLS_MAX => bail!("more than {POOLS_MAX} pools"),
            None => {
                let pool = self.pools.len() as u16;
                self.pools.push(name.to_owned());
                pools.insert(name.to_owned(), pool);
                pool
            }
        };
        let units = dimensions.iter().map(|name| match field(name) {
            Ok("") | Err(_) if is_release => Ok(0),
            Ok(text) => text
                .parse::<u32>()
                .with_context(|| format!("{name}: {text:?} is no amount")),
            Err(missing) => Err(missing),
        });
        let line = OrderLine {
            at: micros(field("at")?)?,
            is_release,
            order,
            pool,
        };
        Ok((line, units.collect::<Result<_>>()?))
    }

    /// What a line takes, for each dimension.
    pub(super) fn units(&self, line: u32) -> &[u32] {
        &self.units[line as usize * self.dimensions..][..self.dimensions]
    }
}

/// A file's name for a time: Unix seconds, or RFC 3339.
fn micros(text: &str) -> Result<i64> {
    let seconds = text.parse::<i64>().ok();
    match seconds.map(|seconds| seconds.checked_mul(1_000_000)) {
        Some(micros) => micros.with_context(|| format!("at: {text:?} is too late")),
        None => {
            let time: jiff::Timestamp = text
                .parse()
                .with_context(|| format!("at: expected Unix seconds or RFC 3339, found {text:?}"))?;
            Ok(time.as_microsecond())
        }
    }
}

/// A file that is sent at a multiple of its own speed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) orders: Orders,
    pub(crate) speed: f64,
}

impl Replay {
    /// From the first line to the last.
    pub(crate) fn seconds(&self) -> f64 {
        let lines = &self.orders.lines;
        match (lines.first(), lines.last()) {
            (Some(first), Some(last)) => (last.at - first.at) as f64 / 1e6 / self.speed,
            _ => 0.0,
        }
    }

    /// Lines a second, on average.
    pub(crate) fn rate(&self) -> f64 {
        self.orders.lines.len() as f64 / self.seconds().max(f64::MIN_POSITIVE)
    }

    /// When a line is due, nanoseconds since the first.
    fn due(&self, line: u32) -> u64 {
        let lines = &self.orders.lines;
        ((lines[line as usize].at - lines[0].at) as f64 * 1e3 / self.speed) as u64
    }
}

/// How an order stands.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It has no reservation.
    Without,
    /// Its reserve is on its way; when its release was due, if it was.
    Reserving { release_due: Option<u64> },
    /// The line of its reserve, and its reservation.
    Live { line: u32, id: ReservationId },
}

/// The lines of a file that one thread sends.
#[derive(Debug)]
pub(super) struct ReplayPart {
    replay: Arc<Replay>,
    /// From the beginning of the load to the first line.
    begins: u64,
    mine: Vec<u32>,
    next: usize,
    states: Vec<State>,
    /// Releases whose reserve has been answered.
    ready: VecDeque<(u32, u64)>,
    draws: Draws,
    skipped: u64,
}

impl ReplayPart {
    pub(super) fn new(replay: &Arc<Replay>, part: Part, begins: u64, seed: u64) -> Self {
        let lines = replay.orders.lines.iter().enumerate();
        let mine = lines
            .filter(|(_, line)| line.order as usize % part.count == part.index)
            .map(|(index, _)| index as u32);
        Self {
            begins,
            mine: mine.collect(),
            next: 0,
            states: vec![State::Without; replay.orders.order_count],
            ready: VecDeque::new(),
            draws: Draws::new(seed, part.index as u64, replay.orders.pools.len()),
            skipped: 0,
            replay: Arc::clone(replay),
        }
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    pub(super) fn due(&self) -> Option<u64> {
        match self.ready.front() {
            Some((_, due)) => Some(*due),
            None => self
                .mine
                .get(self.next)
                .map(|line| self.begins + self.replay.due(*line)),
        }
    }

    /// The next line that is due and asks for something.
    pub(super) fn next(&mut self, now: u64) -> Option<Entry> {
        loop {
            if let Some((order, due)) = self.ready.pop_front() {
                if let Some(entry) = self.release(order, due) {
                    return Some(entry);
                }
                continue;
            }
            let due = self.due().filter(|due| *due <= now)?;
            let index = self.mine[self.next];
            self.next += 1;
            let line = self.replay.orders.lines[index as usize];
            if line.is_release {
                if let Some(entry) = self.release(line.order, due) {
                    return Some(entry);
                }
                continue;
            }
            let units = self.replay.orders.units(index);
            let state = &mut self.states[line.order as usize];
            if !matches!(state, State::Without) || units.iter().all(|units| *units == 0) {
                self.skipped += 1;
                continue;
            }
            *state = State::Reserving { release_due: None };
            return Some(Entry {
                due,
                operation: Operation::Reserve,
                pool: line.pool,
                units: units[0],
                key: self.draws.key(),
                id: ReservationId(0),
                tag: index,
            });
        }
    }

    /// Releases an order now, or when its reserve is answered, or not at all.
    fn release(&mut self, order: u32, due: u64) -> Option<Entry> {
        let state = &mut self.states[order as usize];
        match *state {
            State::Live { line, id } => {
                *state = State::Without;
                Some(Entry {
                    due,
                    operation: Operation::Release,
                    pool: self.replay.orders.lines[line as usize].pool,
                    units: self.replay.orders.units(line)[0],
                    key: Key(0),
                    id,
                    tag: line,
                })
            }
            State::Reserving { release_due: None } => {
                *state = State::Reserving { release_due: Some(due) };
                None
            }
            State::Reserving { .. } | State::Without => {
                self.skipped += 1;
                None
            }
        }
    }

    pub(super) fn answered(&mut self, entry: &Entry, fate: Fate, id: ReservationId) {
        let order = self.replay.orders.lines[entry.tag as usize].order;
        let state = &mut self.states[order as usize];
        match (entry.operation, fate) {
            (Operation::Reserve, Fate::Applied) => {
                if let State::Reserving { release_due: Some(due) } = *state {
                    self.ready.push_back((order, due));
                }
                *state = State::Live { line: entry.tag, id };
            }
            (Operation::Reserve, _) => {
                self.skipped += u64::from(matches!(*state, State::Reserving { release_due: Some(_) }));
                *state = State::Without;
            }
            // Nothing was released; a later line may do it.
            (_, Fate::Refused) => {
                *state = State::Live {
                    line: entry.tag,
                    id: entry.id,
                }
            }
            (_, _) => {}
        }
    }

    /// Leaves out what was due before a time.
    pub(super) fn give_up_until(&mut self, time: u64) -> u64 {
        let mut count = 0;
        while self.due().is_some_and(|due| due < time) {
            if self.ready.pop_front().is_none() {
                self.next += 1;
            }
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "at,op,order,pool,rooms\n\
        20,release,x,a,\n10,reserve,x,a,2\n11,reserve,y,b,1\n11,reserve,x,a,1\n1970-01-01T00:00:13Z,reserve,z,a,0\n";

    fn orders(text: &str) -> Result<Orders> {
        Orders::read_csv(text.as_bytes(), &["rooms".to_owned()])
    }

    fn part(part: Part) -> ReplayPart {
        let orders = orders(CSV).expect("it is sound");
        ReplayPart::new(&Arc::new(Replay { orders, speed: 10.0 }), part, 500, 1)
    }

    #[test]
    fn lines_stand_in_the_order_of_time() {
        let orders = orders(CSV).expect("it is sound");
        let found: Vec<_> = orders
            .lines
            .iter()
            .enumerate()
            .map(|(index, line)| {
                (
                    line.at / 1_000_000,
                    line.is_release,
                    line.order,
                    line.pool,
                    orders.units(index as u32)[0],
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (10, false, 0, 0, 2),
                (11, false, 1, 1, 1),
                (11, false, 0, 0, 1),
                (13, false, 2, 0, 0),
                (20, true, 0, 0, 0)
            ]
        );
        assert_eq!(orders.pools, ["a", "b"]);
        let ndjson = "{\"at\":10,\"op\":\"reserve\",\"order\":\"x\",\"pool\":\"a\",\"rooms\":2}\n\n{\"at\":20,\"op\":\"release\",\"order\":\"x\",\"pool\":\"a\"}\n";
        let other = Orders::read_ndjson(ndjson.as_bytes(), &["rooms".to_owned()]).expect("it is sound");
        assert_eq!(other.lines, [orders.lines[0], orders.lines[4]]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("at,op,order,pool,rooms\n", "no orders"),
            ("at,op,order,pool\n1,reserve,x,a\n", "there is no rooms"),
            ("at,op,order,pool,rooms\n1,buy,x,a,1\n", "expected reserve or release"),
            (
                "at,op,order,pool,rooms\nsoon,reserve,x,a,1\n",
                "Unix seconds or RFC 3339",
            ),
            ("at,op,order,pool,rooms\n1,reserve,x,a,-1\n", "is no amount"),
        ] {
            let error = orders(text).map(|_| ()).expect_err(text);
            assert!(format!("{error:#}").contains(expected), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_release_waits_for_its_reserve() {
        let mut part = part(Part { index: 0, count: 1 });
        assert_eq!(part.due(), Some(500));
        assert!(part.next(499).is_none());
        let x = part.next(500).expect("it is due");
        assert_eq!((x.operation, x.units, x.due), (Operation::Reserve, 2, 500));
        let second = 1_000_000_000;
        let y = part.next(10 * second).expect("it is due");
        assert_eq!((y.pool, y.due), (1, 500 + second / 10));
        // The order that is there twice and the one of nothing are left out, the release is parked.
        assert!(part.next(10 * second).is_none());
        assert_eq!((part.skipped(), part.due()), (2, None));
        part.answered(&y, Fate::Refused, ReservationId(0));
        part.answered(&x, Fate::Applied, ReservationId(9));
        let release = part.next(10 * second).expect("its reserve was answered");
        assert_eq!(
            (release.operation, release.id, release.units, release.due),
            (Operation::Release, ReservationId(9), 2, 500 + second)
        );
        part.answered(&release, Fate::Applied, ReservationId(9));
        assert!(part.next(u64::MAX).is_none());
    }

    #[test]
    fn the_orders_of_two_threads_are_all() {
        let counts: Vec<u64> = (0..2)
            .map(|index| part(Part { index, count: 2 }).give_up_until(u64::MAX))
            .collect();
        assert_eq!(counts, [4, 1]);
    }
}
