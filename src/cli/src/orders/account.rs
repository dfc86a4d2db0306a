//! What a file of orders comes to when every reserve is recorded: how full its pools were, and when that was past their limits.
//!
//! It follows from the file and the definitions of its pools alone; no engine, clock, file or socket. The rules by which a line
//! counts are those of [`Plan`](super::plan::Plan), for an engine that refuses nothing.

use plimsoll_client::{Pool, PoolDefinition};

use super::file::{Operation, OrderFile};
use super::plan::LineIndex;
use crate::values::format_time;

/// How full a pool was in one dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level {
    now: u64,
    highest: u64,
    /// How many reserves took it past the ceiling, or further past it.
    past_count: u64,
    /// The first of these: its `at`.
    past_first_at: i64,
}

/// A limit that was passed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Violation {
    pub(crate) pool: String,
    pub(crate) dimension: String,
    pub(crate) limit: u32,
    pub(crate) overbook: u32,
    /// The most units that were used.
    pub(crate) highest: u64,
    /// The business time of the first order past limit and allowance, RFC 3339.
    pub(crate) first_at: String,
    /// How many orders were recorded past them.
    pub(crate) orders: u64,
    /// The units used after the last line of the file.
    pub(crate) at_end: u64,
}

/// A pool that does not hold what the file says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Difference {
    pub(crate) pool: String,
    pub(crate) dimension: String,
    /// The units used according to the file.
    pub(crate) file: u64,
    /// The units used according to the engine.
    pub(crate) engine: i64,
}

/// A file, gone through in the order of time.
pub(crate) struct Account {
    dimension_count: usize,
    /// For each line, how many reservations its order had before it.
    turns: Vec<u32>,
    /// For each order, how many reservations it has had in all.
    counts: Vec<u32>,
    /// By pool and dimension.
    levels: Vec<Level>,
    /// Reserves that do not fit where they stand.
    pub(crate) would_refuse: u64,
    /// Reserves before their pool sold, or when it did no longer.
    pub(crate) outside_times: u64,
}

impl Account {
    /// `definitions` holds one for each pool that a reserve names, by its index.
    pub(crate) fn new(file: &OrderFile, dimension_count: usize, definitions: &[Option<PoolDefinition>]) -> Account {
        let mut account = Account {
            dimension_count,
            turns: Vec::with_capacity(file.lines.len()),
            counts: Vec::new(),
            levels: vec![Level::default(); definitions.len() * dimension_count],
            would_refuse: 0,
            outside_times: 0,
        };
        // The line whose reservation an order has, and how many it has had.
        let mut live: Vec<Option<usize>> = vec![None; file.orders.len()];
        let mut turns: Vec<u32> = vec![0; file.orders.len()];
        for (index, line) in file.lines.iter().enumerate() {
            let order = line.order.index();
            account.turns.push(turns[order]);
            match (line.operation, live[order]) {
                (Operation::Reserve, None) if !line.is_empty => {
                    live[order] = Some(index);
                    turns[order] += 1;
                    account.reserve(file, index, definitions[line.pool.index()].as_ref());
                }
                (Operation::Release, Some(reserve)) => {
                    live[order] = None;
                    let levels = account.levels_of(file.lines[reserve].pool.index());
                    for (level, units) in levels.iter_mut().zip(file.units(reserve)) {
                        level.now -= u64::from(*units);
                    }
                }
                _ => {}
            }
        }
        account.counts = turns;
        account
    }

    /// Without a definition there is no limit to hold it against.
    fn reserve(&mut self, file: &OrderFile, index: usize, definition: Option<&PoolDefinition>) {
        let line = &file.lines[index];
        let mut fits = true;
        let levels = self.levels_of(line.pool.index());
        for (dimension, (level, units)) in levels.iter_mut().zip(file.units(index)).enumerate() {
            level.now += u64::from(*units);
            level.highest = level.highest.max(level.now);
            let Some(definition) = definition else { continue };
            let (limit, overbook) = ceiling_of(definition, dimension);
            if *units > 0 && level.now > u64::from(limit) + u64::from(overbook) {
                if level.past_count == 0 {
                    level.past_first_at = line.at;
                }
                level.past_count += 1;
                fits = false;
            }
        }
        self.would_refuse += u64::from(!fits);
        let sells = definition.is_none_or(|pool| line.at >= pool.opens_at && line.at < pool.closes_at);
        self.outside_times += u64::from(!sells);
    }

    fn levels_of(&mut self, pool: usize) -> &mut [Level] {
        &mut self.levels[pool * self.dimension_count..][..self.dimension_count]
    }

    /// How many reservations each order has had, by its index.
    pub(crate) fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// How many reservations the order of a line had before it.
    pub(crate) fn turn(&self, index: LineIndex) -> u32 {
        self.turns[index.index()]
    }

    /// The limits that were passed, by the names of pools, then in the order of dimensions.
    pub(crate) fn violations(&self, dimensions: &[String], definitions: &[Option<PoolDefinition>]) -> Vec<Violation> {
        let mut found = Vec::new();
        for (pool, definition) in definitions.iter().enumerate() {
            let Some(definition) = definition else { continue };
            for (dimension, name) in dimensions.iter().enumerate() {
                let level = &self.levels[pool * self.dimension_count + dimension];
                if level.past_count == 0 {
                    continue;
                }
                let (limit, overbook) = ceiling_of(definition, dimension);
                found.push(Violation {
                    pool: definition.name.clone(),
                    dimension: name.clone(),
                    limit,
                    overbook,
                    highest: level.highest,
                    // Every time of a file lies in the range that can be shown.
                    first_at: format_time(level.past_first_at).unwrap_or_default(),
                    orders: level.past_count,
                    at_end: level.now,
                });
            }
        }
        found.sort_by(|one, other| one.pool.cmp(&other.pool));
        found
    }

    /// Where a pool, by its index, does not hold what the file says: nothing, of a pool that no reserve names.
    pub(crate) fn differences(&self, pool: Option<usize>, found: &Pool, dimensions: &[String]) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (dimension, name) in dimensions.iter().enumerate() {
            let file = pool.map_or(0, |pool| self.levels[pool * self.dimension_count + dimension].now);
            let engine = found.held[dimension] + found.confirmed[dimension];
            if i64::try_from(file) != Ok(engine) {
                differences.push(Difference {
                    pool: found.definition.name.clone(),
                    dimension: name.clone(),
                    file,
                    engine,
                });
            }
        }
        differences
    }
}

/// Limit and allowance; the wire leaves allowances out when all are 0.
fn ceiling_of(definition: &PoolDefinition, dimension: usize) -> (u32, u32) {
    let overbook = definition.overbook.get(dimension).copied().unwrap_or(0);
    (definition.limits[dimension], overbook)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use plimsoll_client::PoolId;

    use super::super::file::{self, Taken};
    use super::*;
    use plimsoll_form::FileForm;

    use crate::input::Input;

    fn dimensions() -> Vec<String> {
        vec!["rooms".to_owned(), "guests".to_owned()]
    }

    fn read(rows: &str) -> OrderFile {
        let text = format!("at,op,order,pool,rooms,guests\n{rows}");
        let input = Input::new(Path::new("orders"), FileForm::Csv, text.into_bytes());
        let dimensions = dimensions();
        let taken = Taken {
            engine: &dimensions,
            columns: &dimensions,
        };
        file::read(&input, &taken).unwrap()
    }

    /// The pools of a file, with these limits and an allowance of one room.
    fn definitions(file: &OrderFile, limits: [u32; 2]) -> Vec<Option<PoolDefinition>> {
        let define = |name: &str| {
            Some(PoolDefinition {
                overbook: vec![1],
                opens_at: 2_000_000,
                closes_at: 8_000_000,
                ..PoolDefinition::new(name, limits.to_vec())
            })
        };
        file.pools.iter().map(|name| define(name)).collect()
    }

    /// Each violation as `pool dimension highest first orders at_end`, then would_refuse and outside_times.
    fn check(rows: &str, limits: [u32; 2], expected: &[&str], counts: (u64, u64)) {
        let file = read(rows);
        let definitions = definitions(&file, limits);
        let account = Account::new(&file, 2, &definitions);
        let found: Vec<String> = account
            .violations(&dimensions(), &definitions)
            .iter()
            .map(|found| {
                let (at, end) = (&found.first_at[17..19], found.at_end);
                format!(
                    "{} {} {} {at} {} {end}",
                    found.pool, found.dimension, found.highest, found.orders
                )
            })
            .collect();
        assert_eq!(found, expected, "{rows}");
        assert_eq!((account.would_refuse, account.outside_times), counts, "{rows}");
    }

    #[test]
    fn levels_above_the_ceiling_are_violations() {
        let rows = "2,reserve,x,b,1,2\n3,reserve,y,b,1,2\n4,reserve,z,b,1,2\n5,release,x,b,,\n6,reserve,v,b,0,1\n7,reserve,w,a,3,0\n";
        // Limit and allowance together are 2 rooms.
        check(rows, [1, 9], &["a rooms 3 07 1 3", "b rooms 3 04 1 2"], (2, 0));
        check(
            rows,
            [1, 4],
            &["a rooms 3 07 1 3", "b rooms 3 04 1 2", "b guests 6 04 2 5"],
            (3, 0),
        );
        check(rows, [2, 6], &[], (0, 0));
        // What takes nothing of a dimension that is full already fits.
        check(
            "2,reserve,x,a,9,0\n3,reserve,y,a,0,1\n",
            [1, 9],
            &["a rooms 9 02 1 9"],
            (1, 0),
        );
    }

    #[test]
    fn the_time_of_an_order_is_held_against_the_times_of_its_pool() {
        check(
            "1,reserve,x,a,1,0\n2,reserve,y,a,1,0\n8,reserve,z,a,1,0\n",
            [9, 9],
            &[],
            (0, 2),
        );
    }

    #[test]
    fn lines_count_as_the_plan_counts_them() {
        // Twice reserved, of nothing, released without a reserve, in another pool than it was reserved in.
        let rows = "2,reserve,x,a,2,0\n2,reserve,x,a,2,0\n3,reserve,y,a,0,0\n3,release,y,a,,\n4,release,x,b,,\n5,release,x,a,,\n6,reserve,x,b,1,0\n";
        let file = read(rows);
        let definitions = definitions(&file, [9, 9]);
        let account = Account::new(&file, 2, &definitions);
        let turns: Vec<u32> = (0..7).map(|index| account.turn(LineIndex(index))).collect();
        assert_eq!(turns, [0, 1, 0, 0, 1, 1, 1]);
        let pool = |index: usize, rooms: i64| Pool {
            id: PoolId(1),
            definition: definitions[index].clone().unwrap(),
            held: vec![0, 0],
            confirmed: vec![rooms, 0],
        };
        assert_eq!(account.differences(Some(0), &pool(0, 0), &dimensions()), []);
        assert_eq!(account.differences(Some(1), &pool(1, 1), &dimensions()), []);
        let unnamed = account.differences(None, &pool(1, 1), &dimensions());
        assert_eq!((unnamed.len(), unnamed[0].file, unnamed[0].engine), (1, 0, 1));
        let found = account.differences(Some(1), &pool(1, 3), &dimensions());
        assert_eq!((found.len(), found[0].file, found[0].engine), (1, 1, 3));
    }
}
