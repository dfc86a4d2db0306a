//! Files of orders: CSV and NDJSON to lines in the order of time, with everything that is wrong in them.

use std::collections::{HashMap, HashSet};

use plimsoll_domain::limits::REFERENCE_SIZE_MAX;
use plimsoll_form::json::{self, Json};
use plimsoll_form::{CsvRows, FileErrors, FileForm, broken_name_rule};

use crate::input::Input;
use crate::values::{parse_amount, parse_time};

/// The most lines of one file: they are numbered in 32 bits.
const LINE_COUNT_MAX: usize = u32::MAX as usize;

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Reserve,
    Release,
}

/// An order by the sequence of its first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OrderIndex(pub(crate) u32);

impl OrderIndex {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A pool by the sequence of its first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolIndex(pub(crate) u32);

impl PoolIndex {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderLine {
    /// Its number in the file, from 1.
    pub(crate) number: u64,
    /// The caller's business time, microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) operation: Operation,
    pub(crate) order: OrderIndex,
    pub(crate) pool: PoolIndex,
    /// Whether it asks for nothing in any dimension that is taken.
    pub(crate) is_empty: bool,
}

/// The lines of a file in the order of time; lines of one time stay in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct OrderFile {
    pub(crate) lines: Vec<OrderLine>,
    /// For each line a value for each dimension of the engine.
    units: Vec<u32>,
    dimension_count: usize,
    pub(crate) orders: Vec<Box<str>>,
    pub(crate) pools: Vec<Box<str>>,
    /// Whether the file itself was in the order of time.
    pub(crate) was_in_order: bool,
    /// How many lines ask for more than one night.
    pub(crate) several_nights: u64,
    /// The numbers of the lines that this run does not take.
    pub(crate) left_out: HashSet<u64>,
}

impl OrderFile {
    /// The units of the line at this index of `lines`, a value for each dimension of the engine.
    pub(crate) fn units(&self, index: usize) -> &[u32] {
        &self.units[index * self.dimension_count..][..self.dimension_count]
    }
}

/// Which dimensions are taken from a file.
pub(crate) struct Taken<'a> {
    /// All dimensions of the engine, in its order.
    pub(crate) engine: &'a [String],
    /// Those that the file has columns for.
    pub(crate) columns: &'a [String],
}

/// The lines of a file.
pub(crate) fn read(input: &Input, taken: &Taken<'_>) -> Result<OrderFile, FileErrors> {
    let mut reader = Reader {
        taken,
        errors: FileErrors::default(),
        file: OrderFile {
            dimension_count: taken.engine.len(),
            ..OrderFile::default()
        },
        orders: HashMap::new(),
        pools: HashMap::new(),
    };
    match input.form {
        FileForm::Csv => reader.read_csv(&input.content),
        FileForm::Ndjson => reader.read_ndjson(&input.content),
    }
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    Ok(in_order(reader.file))
}

impl OrderFile {
    /// Leaves the lines after a time out.
    pub(super) fn take_until(&mut self, until: i64) {
        let count = self.lines.partition_point(|line| line.at <= until);
        self.left_out = self.lines.drain(count..).map(|line| line.number).collect();
        self.units.truncate(count * self.dimension_count);
    }
}

/// Sorts the lines by time, those of one time in the order of the file.
fn in_order(mut file: OrderFile) -> OrderFile {
    file.was_in_order = file.lines.is_sorted_by_key(|line| line.at);
    if !file.was_in_order {
        let mut sequence: Vec<usize> = (0..file.lines.len()).collect();
        sequence.sort_by_key(|index| file.lines[*index].at);
        file.units = sequence.iter().flat_map(|index| file.units(*index).to_vec()).collect();
        file.lines = sequence.iter().map(|index| file.lines[*index]).collect();
    }
    file
}

/// The columns that every file has.
const REQUIRED: [&str; 4] = ["at", "op", "order", "pool"];

/// The cells of one line that are taken.
#[derive(Default)]
struct Cells {
    at: String,
    operation: String,
    order: String,
    pool: String,
    nights: Option<String>,
    /// In the order of the columns that are taken.
    amounts: Vec<String>,
}

struct Reader<'a> {
    taken: &'a Taken<'a>,
    errors: FileErrors,
    file: OrderFile,
    orders: HashMap<Box<str>, u32>,
    pools: HashMap<Box<str>, u32>,
}

impl Reader<'_> {
    fn read_csv(&mut self, content: &[u8]) {
        let Some(mut rows) = CsvRows::new(content, &mut self.errors) else {
            return;
        };
        let column_of = |name: &str| rows.header.iter().position(|column| column == name);
        let required = REQUIRED.map(column_of);
        let nights = column_of("nights");
        let amounts: Vec<Option<usize>> = self.taken.columns.iter().map(|name| column_of(name)).collect();
        let names = REQUIRED
            .iter()
            .copied()
            .chain(self.taken.columns.iter().map(String::as_str));
        for (name, column) in names.zip(required.iter().chain(&amounts)) {
            if column.is_none() {
                self.errors.add(1, name, "the column is missing");
            }
        }
        let ([Some(at), Some(operation), Some(order), Some(pool)], true) = (required, self.errors.is_empty()) else {
            return;
        };
        let amounts: Vec<usize> = amounts.into_iter().flatten().collect();
        while let Some(row) = rows.next(&mut self.errors) {
            let cells = Cells {
                at: row.cell(at).to_owned(),
                operation: row.cell(operation).to_owned(),
                order: row.cell(order).to_owned(),
                pool: row.cell(pool).to_owned(),
                nights: nights.map(|column| row.cell(column).to_owned()),
                amounts: amounts.iter().map(|column| row.cell(*column).to_owned()).collect(),
            };
            self.take(row.line, &cells);
        }
    }

    fn read_ndjson(&mut self, content: &[u8]) {
        for (number, text) in json::lines(content) {
            match json::object_of(text) {
                Ok(fields) => self.take_object(number, &fields),
                Err(detail) => self.errors.add(number, "", detail),
            }
        }
    }

    fn take_object(&mut self, number: u64, fields: &[(String, Json)]) {
        let before = self.errors.count();
        let mut cell_of = |name: &str, required: bool| {
            let value = fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
            match value.map(|value| (value.cell(), value)) {
                Some((Some(cell), _)) => Some(cell),
                Some((None, value)) => {
                    self.errors.add(
                        number,
                        name,
                        format!("expected a text or a number, found {}", value.kind()),
                    );
                    None
                }
                None => {
                    if required {
                        self.errors.add(number, name, "the field is missing");
                    }
                    None
                }
            }
        };
        let mut required = REQUIRED.map(|name| cell_of(name, true).unwrap_or_default());
        let nights = cell_of("nights", false);
        // A release takes nothing, so it need not say how much.
        let reserves = required[1] == "reserve";
        let amounts = self
            .taken
            .columns
            .iter()
            .map(|name| cell_of(name, reserves).unwrap_or_default())
            .collect();
        if self.errors.count() == before {
            let [at, operation, order, pool] = required.each_mut().map(std::mem::take);
            self.take(
                number,
                &Cells {
                    at,
                    operation,
                    order,
                    pool,
                    nights,
                    amounts,
                },
            );
        }
    }

    fn take(&mut self, number: u64, cells: &Cells) {
        let before = self.errors.count();
        let at = parse_time(&cells.at).unwrap_or_else(|error| {
            self.errors.add(number, "at", error.to_string());
            0
        });
        let operation = match cells.operation.as_str() {
            "reserve" => Operation::Reserve,
            "release" => Operation::Release,
            other => {
                self.errors
                    .add(number, "op", format!("expected reserve or release, found {other:?}"));
                Operation::Release
            }
        };
        if cells.order.is_empty() || cells.order.len() > REFERENCE_SIZE_MAX {
            let detail = format!("expected 1 to {REFERENCE_SIZE_MAX} bytes, found {}", cells.order.len());
            self.errors.add(number, "order", detail);
        }
        // A release names its order; which pool it names does not count.
        if operation == Operation::Reserve
            && !self.pools.contains_key(cells.pool.as_str())
            && let Some(rule) = broken_name_rule(&cells.pool)
        {
            self.errors.add(number, "pool", rule);
        }
        match cells.nights.as_deref().unwrap_or_default() {
            "" => {}
            nights => match nights.parse::<u32>() {
                Ok(nights) => self.file.several_nights += u64::from(nights > 1 && operation == Operation::Reserve),
                Err(_) => self
                    .errors
                    .add(number, "nights", format!("expected a whole number, found {nights:?}")),
            },
        }
        if self.file.lines.len() == LINE_COUNT_MAX {
            self.errors
                .add(number, "", format!("more than {LINE_COUNT_MAX} lines; split the file"));
        }

        let start = self.file.units.len();
        self.file.units.resize(start + self.taken.engine.len(), 0);
        if operation == Operation::Reserve {
            for (name, cell) in self.taken.columns.iter().zip(&cells.amounts) {
                let dimension = self.taken.engine.iter().position(|known| known == name);
                match (parse_amount(cell), dimension) {
                    (Ok(amount), Some(dimension)) => self.file.units[start + dimension] = amount,
                    (Ok(_), None) => {}
                    (Err(error), _) => self.errors.add(number, name, error.to_string()),
                }
            }
        }
        if self.errors.count() > before {
            self.file.units.truncate(start);
            return;
        }
        let is_empty = self.file.units[start..].iter().all(|amount| *amount == 0);
        let order = OrderIndex(number_of(&cells.order, &mut self.orders, &mut self.file.orders));
        let pool = PoolIndex(number_of(&cells.pool, &mut self.pools, &mut self.file.pools));
        self.file.lines.push(OrderLine {
            number,
            at,
            operation,
            order,
            pool,
            is_empty,
        });
    }
}

/// The number of a name, a new one when it is seen for the first time.
fn number_of(name: &str, numbers: &mut HashMap<Box<str>, u32>, names: &mut Vec<Box<str>>) -> u32 {
    if let Some(number) = numbers.get(name) {
        return *number;
    }
    // Bounded by the count of lines.
    let number = names.len() as u32;
    numbers.insert(name.into(), number);
    names.push(name.into());
    number
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn parse(form: FileForm, text: &[u8], columns: &[&str]) -> Result<OrderFile, Vec<String>> {
        let input = Input::new(Path::new("orders"), form, text.to_vec());
        let engine = ["guests".to_owned(), "rooms".to_owned()];
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        read(
            &input,
            &Taken {
                engine: &engine,
                columns: &columns,
            },
        )
        .map_err(|errors| errors.into_kept().iter().map(ToString::to_string).collect())
    }

    /// Each line as `number at operation order pool units`.
    fn shown(file: &OrderFile) -> Vec<String> {
        let show = |(index, line): (usize, &OrderLine)| {
            let (order, pool) = (&file.orders[line.order.index()], &file.pools[line.pool.index()]);
            format!(
                "{} {} {:?} {order} {pool} {:?}",
                line.number,
                line.at / 1_000_000,
                line.operation,
                file.units(index)
            )
        };
        file.lines.iter().enumerate().map(show).collect()
    }

    #[test]
    fn lines_stand_in_the_order_of_time() {
        let text = b"at,op,order,pool,nights,rooms,guests,class\n5,reserve,x,a,1,1,2,Group\n3,reserve,y,b,2,2,1,\n5,release,x,a,1,,,\n3,release,y,b,2,2,1,";
        let file = parse(FileForm::Csv, text, &["rooms"]).unwrap();
        assert_eq!(
            shown(&file),
            [
                "3 3 Reserve y b [0, 2]",
                "5 3 Release y b [0, 0]",
                "2 5 Reserve x a [0, 1]",
                "4 5 Release x a [0, 0]"
            ]
        );
        assert!(!file.was_in_order);
        assert_eq!(file.several_nights, 1);
        let both = parse(FileForm::Csv, text, &["rooms", "guests"]).unwrap();
        assert_eq!(both.units(2), [2, 1]);
    }

    #[test]
    fn ndjson_is_the_same() {
        let text = "{\"at\":3,\"op\":\"reserve\",\"order\":\"y\",\"pool\":\"b\",\"rooms\":2,\"class\":{}}\n\
                    {\"at\":\"1970-01-01T00:00:04Z\",\"op\":\"release\",\"order\":\"y\",\"pool\":\"b\"}\n";
        let file = parse(FileForm::Ndjson, text.as_bytes(), &["rooms"]).unwrap();
        assert_eq!(shown(&file), ["1 3 Reserve y b [0, 2]", "2 4 Release y b [0, 0]"]);
        assert!(file.was_in_order);
    }

    #[test]
    fn all_errors_are_named() {
        let check = |form, text: &str, expected: &[&str]| {
            let errors = parse(form, text.as_bytes(), &["rooms"]).unwrap_err();
            assert_eq!(errors.len(), expected.len(), "{errors:#?}");
            for (error, expected) in errors.iter().zip(expected) {
                assert!(
                    error.starts_with(expected),
                    "{error:?} does not begin with {expected:?}"
                );
            }
        };
        check(
            FileForm::Csv,
            "at,order\n",
            &["line 1, op: the column is missing", "line 1, pool", "line 1, rooms"],
        );
        let rows =
            "at,op,order,pool,rooms,nights\nx,buy,,,1,\n1,reserve,o,p,-1,x\n1,reserve,o,,1,\n2,reserve,o,p,1,1\n";
        check(
            FileForm::Csv,
            rows,
            &[
                "line 2, at",
                "line 2, op",
                "line 2, order",
                "line 3, nights",
                "line 3, rooms",
                "line 4, pool",
            ],
        );
        check(
            FileForm::Ndjson,
            "{\"at\":[]}\n{}x",
            &[
                "line 1, at",
                "line 1, op",
                "line 1, order",
                "line 1, pool",
                "line 2: not JSON",
            ],
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_orders_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(FileForm::Csv, &bytes, &["rooms"]);
            let _ = parse(FileForm::Ndjson, &bytes, &["rooms"]);
            let rows = [b"at,op,order,pool,rooms,nights\n", &bytes[..]].concat();
            let _ = parse(FileForm::Csv, &rows, &["rooms"]);
        }
    }
}
