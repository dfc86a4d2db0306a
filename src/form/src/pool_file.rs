//! Files of pools: CSV and NDJSON to definitions, with everything that is wrong in them.

use std::collections::HashMap;

use plimsoll_domain::{DefinitionField, PoolDefinition, Timestamp, Units};

use crate::amount::parse_amount;
use crate::csv_rows::CsvRows;
use crate::file_errors::FileErrors;
use crate::json::{self, Json};
use crate::rules::{broken_rules, name_of};
use crate::time::parse_time;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// Rows of cells under a header.
    Csv,
    /// An object on each line.
    Ndjson,
}

/// The bytes of a text without the mark that some programs put before it.
#[must_use]
pub fn without_byte_order_mark(mut content: Vec<u8>) -> Vec<u8> {
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    content
}

/// One pool of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// What it says; its values keep the rules of the domain.
    pub definition: PoolDefinition,
}

/// The pools of a file, in its order, for an engine with these dimensions. The content has no byte order mark.
///
/// # Errors
/// Everything that is wrong, by line and column.
pub fn read_pools(form: FileForm, content: &[u8], dimensions: &[String]) -> Result<Vec<PoolRow>, FileErrors> {
    let mut file = PoolFile {
        dimensions,
        errors: FileErrors::default(),
        rows: Vec::new(),
        lines: HashMap::new(),
    };
    match form {
        FileForm::Csv => file.read_csv(content),
        FileForm::Ndjson => file.read_ndjson(content),
    }
    if file.errors.is_empty() {
        Ok(file.rows)
    } else {
        Err(file.errors)
    }
}

/// What a column of a CSV file, or a field of an NDJSON file, stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Zone,
    Kind,
    StartsAt,
    EndsAt,
    OpensAt,
    ClosesAt,
    Coverage,
    State,
    Mode,
    Limit(usize),
    Overbook(usize),
}

const FIELDS: [(&str, Field); 10] = [
    ("name", Field::Name),
    ("zone", Field::Zone),
    ("kind", Field::Kind),
    ("starts_at", Field::StartsAt),
    ("ends_at", Field::EndsAt),
    ("opens_at", Field::OpensAt),
    ("closes_at", Field::ClosesAt),
    ("coverage", Field::Coverage),
    ("state", Field::State),
    ("mode", Field::Mode),
];

/// What the column of a dimension's overbooking allowance begins with.
const OVERBOOK: &str = "overbook_";

const REQUIRED: [&str; 5] = ["name", "zone", "kind", "starts_at", "ends_at"];

/// Objects of the HTTP form that say what is reserved, or which version stands: ignored, so that an export can be imported.
const IGNORED_FIELDS: [&str; 4] = ["held", "confirmed", "remaining", "etag"];

fn field_of(name: &str) -> Option<Field> {
    FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
}

struct PoolFile<'a> {
    dimensions: &'a [String],
    errors: FileErrors,
    rows: Vec<PoolRow>,
    /// The line of each name.
    lines: HashMap<String, u64>,
}

impl PoolFile<'_> {
    fn read_csv(&mut self, content: &[u8]) {
        let Some(mut rows) = CsvRows::new(content, &mut self.errors) else {
            return;
        };
        let columns = self.columns_of(&rows.header);
        if !self.errors.is_empty() {
            return;
        }
        while let Some(row) = rows.next(&mut self.errors) {
            let mut draft = Draft::new(row.line);
            for (index, field) in &columns {
                draft.take_cell(*field, row.cell(*index), self.dimensions);
            }
            self.finish(draft);
        }
    }

    /// Which columns are taken, and as what.
    fn columns_of(&mut self, header: &[String]) -> Vec<(usize, Field)> {
        let mut columns = Vec::new();
        for (index, name) in header.iter().enumerate() {
            let place = |name: &str| self.dimensions.iter().position(|dimension| dimension == name);
            let overbook = name.strip_prefix(OVERBOOK).and_then(place).map(Field::Overbook);
            match field_of(name).or(place(name).map(Field::Limit)).or(overbook) {
                Some(field) => columns.push((index, field)),
                None if self.is_figure(name) => {}
                None if name.is_empty() => self.errors.add(1, "", format!("column {} has no name", index + 1)),
                None => {
                    let known = format!("no such column; the dimensions are {}", self.dimensions.join(", "));
                    self.errors.add(1, name, known);
                }
            }
        }
        for name in REQUIRED.into_iter().chain(self.dimensions.iter().map(String::as_str)) {
            if !header.iter().any(|column| column == name) {
                self.errors.add(1, name, "the column is missing");
            }
        }
        columns
    }

    /// `held_D`, `confirmed_D`, `remaining_D`
    fn is_figure(&self, name: &str) -> bool {
        let dimension = ["held_", "confirmed_", "remaining_"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        dimension.is_some_and(|dimension| self.dimensions.iter().any(|known| known == dimension))
    }

    fn read_ndjson(&mut self, content: &[u8]) {
        for (line, text) in json::lines(content) {
            match json::object_of(text) {
                Ok(fields) => self.take_object(line, &fields),
                Err(detail) => self.errors.add(line, "", detail),
            }
        }
    }

    fn take_object(&mut self, line: u64, fields: &[(String, Json)]) {
        let mut draft = Draft::new(line);
        for (name, value) in fields {
            match (name.as_str(), field_of(name)) {
                ("limits", _) => self.take_amounts(&mut draft, name, value),
                ("overbook", _) => self.take_amounts(&mut draft, name, value),
                (_, Some(Field::Coverage)) => draft.take_coverage(value),
                (_, Some(field)) => match value.cell() {
                    Some(cell) => draft.take_cell(field, &cell, self.dimensions),
                    None => draft.wrong(name, format!("expected a text or a number, found {}", value.kind())),
                },
                (ignored, None) if IGNORED_FIELDS.contains(&ignored) => {}
                (_, None) => draft.wrong(name, "no such field".to_owned()),
            }
        }
        for name in REQUIRED.into_iter().chain(["limits"]) {
            if !fields.iter().any(|(field, _)| field == name) {
                draft.wrong(name, "the field is missing".to_owned());
            }
        }
        self.finish(draft);
    }

    /// `limits`, which names every dimension, or `overbook`, which need not.
    fn take_amounts(&self, draft: &mut Draft, name: &str, value: &Json) {
        let Json::Object(amounts) = value else {
            draft.wrong(name, format!("expected an object by dimension, found {}", value.kind()));
            return;
        };
        if let Some(twice) = json::repeated(amounts) {
            draft.wrong(&format!("{name}.{twice}"), "the field is there twice".to_owned());
        }
        for (dimension, amount) in amounts {
            let place = format!("{name}.{dimension}");
            let Some(index) = self.dimensions.iter().position(|known| known == dimension) else {
                draft.wrong(
                    &place,
                    format!("no such dimension; they are {}", self.dimensions.join(", ")),
                );
                continue;
            };
            let amount = match amount {
                Json::Integer(amount) => parse_amount(&amount.to_string()).map_err(|error| error.to_string()),
                other => Err(format!("expected a whole number, found {}", other.kind())),
            };
            match amount {
                Ok(amount) if name == "limits" => draft.definition.limits.0[index] = amount,
                Ok(amount) => draft.definition.overbook.0[index] = amount,
                Err(rule) => draft.wrong(&place, rule),
            }
        }
        for missing in self.dimensions.iter().filter(|_| name == "limits") {
            if !amounts.iter().any(|(dimension, _)| dimension == missing) {
                draft.wrong(&format!("limits.{missing}"), "the dimension is missing".to_owned());
            }
        }
    }

    /// Checks the definition as a whole, and keeps it.
    fn finish(&mut self, mut draft: Draft) {
        draft.check(self.dimensions);
        for (column, detail) in &draft.wrong {
            self.errors.add(draft.line, column, detail.clone());
        }
        let name = draft.definition.name.to_string();
        if !draft.wrong.iter().any(|(column, _)| column == "name") {
            match self.lines.get(&name) {
                Some(line) => self
                    .errors
                    .add(draft.line, "name", format!("{name:?} stands on line {line} already")),
                None => {
                    self.lines.insert(name, draft.line);
                }
            }
        }
        // With an error nothing is sent, so what would be sent need not be kept.
        if self.errors.is_empty() {
            self.rows.push(PoolRow {
                line: draft.line,
                definition: draft.definition,
            });
        }
    }
}

/// The definition as the client sends it.
#[must_use]
pub fn wire_form(definition: &PoolDefinition, dimension_count: usize) -> plimsoll_client::PoolDefinition {
    plimsoll_client::PoolDefinition {
        name: definition.name.to_string(),
        zone: definition.zone.to_string(),
        kind: definition.kind.to_string(),
        starts_at: definition.starts_at.0,
        ends_at: definition.ends_at.0,
        opens_at: definition.opens_at.0,
        closes_at: definition.closes_at.0,
        coverage: definition.coverage.iter().map(ToString::to_string).collect(),
        closed: definition.closed,
        shadow: definition.shadow,
        limits: definition.limits.0[..dimension_count].to_vec(),
        overbook: definition.overbook.0[..dimension_count].to_vec(),
        version: 0,
    }
}

/// The rule that a pool's name breaks, if any.
pub fn broken_name_rule(name: &str) -> Option<&'static str> {
    let mut draft = Draft::new(0);
    draft.definition.name = name.into();
    match draft.definition.check() {
        Err(error) if error.field == DefinitionField::Name => Some(error.rule),
        _ => None,
    }
}

/// A definition as far as it is read.
struct Draft {
    line: u64,
    definition: PoolDefinition,
    /// Column and what is wrong in it.
    wrong: Vec<(String, String)>,
}

impl Draft {
    fn new(line: u64) -> Draft {
        let definition = PoolDefinition {
            name: "".into(),
            zone: "".into(),
            kind: "".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(0),
            opens_at: Timestamp(0),
            closes_at: Timestamp::NEVER,
            coverage: Vec::new(),
            closed: false,
            shadow: false,
            limits: Units::default(),
            overbook: Units::default(),
        };
        Draft {
            line,
            definition,
            wrong: Vec::new(),
        }
    }

    fn wrong(&mut self, column: &str, detail: String) {
        self.wrong.push((column.to_owned(), detail));
    }

    fn take_cell(&mut self, field: Field, cell: &str, dimensions: &[String]) {
        let definition = &mut self.definition;
        let outcome: Result<(), String> = match field {
            Field::Name => assign(&mut definition.name, cell.into()),
            Field::Zone => assign(&mut definition.zone, cell.into()),
            Field::Kind => assign(&mut definition.kind, cell.into()),
            Field::StartsAt => take_time(cell, None, &mut definition.starts_at),
            Field::EndsAt => take_time(cell, None, &mut definition.ends_at),
            Field::OpensAt => take_time(cell, Some(Timestamp(0)), &mut definition.opens_at),
            Field::ClosesAt => take_time(cell, Some(Timestamp::NEVER), &mut definition.closes_at),
            Field::Coverage => assign(
                &mut definition.coverage,
                cell.split_ascii_whitespace().map(Into::into).collect(),
            ),
            Field::State => choose(cell, ["open", "closed"], &mut definition.closed),
            Field::Mode => choose(cell, ["enforce", "shadow"], &mut definition.shadow),
            Field::Limit(dimension) => match parse_amount(cell) {
                Ok(amount) => assign(&mut definition.limits.0[dimension], amount),
                Err(error) => Err(error.to_string()),
            },
            Field::Overbook(_) if cell.is_empty() => Ok(()),
            Field::Overbook(dimension) => match parse_amount(cell) {
                Ok(amount) => assign(&mut definition.overbook.0[dimension], amount),
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(detail) = outcome {
            self.wrong(&column_of(field, dimensions), detail);
        }
    }

    fn take_coverage(&mut self, value: &Json) {
        let Json::List(items) = value else {
            self.wrong("coverage", format!("expected a list of texts, found {}", value.kind()));
            return;
        };
        for item in items {
            match item {
                Json::Text(prefix) => self.definition.coverage.push(prefix.as_str().into()),
                other => {
                    let detail = format!("expected texts, found {}", other.kind());
                    self.wrong("coverage", detail);
                    return;
                }
            }
        }
    }

    /// Applies the rules of the domain.
    fn check(&mut self, dimensions: &[String]) {
        for (field, rule) in broken_rules(&self.definition) {
            let column = match field {
                DefinitionField::Limits(dimension) => dimensions[dimension].clone(),
                DefinitionField::Overbook(dimension) => format!("overbook.{}", dimensions[dimension]),
                field => name_of(field).to_owned(),
            };
            // A cell that could not be read, or is missing, has been named already, and so has one that depends on it.
            let named = |name: &str| self.wrong.iter().any(|(known, _)| known == name);
            let follows = column == "ends_at" && named("starts_at");
            if !named(&column) && !follows {
                self.wrong(&column, rule.to_owned());
            }
        }
    }
}

fn column_of(field: Field, dimensions: &[String]) -> String {
    match field {
        Field::Limit(dimension) => dimensions[dimension].clone(),
        Field::Overbook(dimension) => format!("{OVERBOOK}{}", dimensions[dimension]),
        named => FIELDS
            .iter()
            .find(|(_, field)| *field == named)
            .map_or("", |(name, _)| *name)
            .to_owned(),
    }
}

fn assign<T>(place: &mut T, value: T) -> Result<(), String> {
    *place = value;
    Ok(())
}

fn take_time(cell: &str, absent: Option<Timestamp>, place: &mut Timestamp) -> Result<(), String> {
    match (cell, absent) {
        ("", Some(absent)) => assign(place, absent),
        _ => assign(place, Timestamp(parse_time(cell).map_err(|error| error.to_string())?)),
    }
}

fn choose(cell: &str, [no, yes]: [&str; 2], place: &mut bool) -> Result<(), String> {
    match cell {
        "" => assign(place, false),
        _ if cell == no => assign(place, false),
        _ if cell == yes => assign(place, true),
        _ => Err(format!("expected {no} or {yes}, found {cell:?}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(form: FileForm, text: &[u8]) -> Result<Vec<PoolDefinition>, Vec<String>> {
        let content = without_byte_order_mark(text.to_vec());
        let rows = read_pools(form, &content, &["rooms".to_owned(), "guests".to_owned()]);
        let rows = rows.map_err(|errors| errors.lines())?;
        Ok(rows.into_iter().map(|row| row.definition).collect())
    }

    #[test]
    fn every_way_to_write_csv_gives_the_same_pool() {
        let expected = parse(
            FileForm::Csv,
            b"name,zone,kind,starts_at,ends_at,rooms,guests\nA:1,z,k,1435759200,1435838400,8,14\n",
        )
        .unwrap();
        assert_eq!(expected.len(), 1);
        assert_eq!(expected[0].limits, Units::from_slice(&[8, 14]));
        assert_eq!(expected[0].closes_at, Timestamp::NEVER);
        for same in [
            "\u{feff}name;zone;kind;starts_at;ends_at;rooms;guests\r\nA:1;z;k;2015-07-01T14:00:00Z;1435838400;8;14\r\n",
            "guests,name,zone,kind,opens_at,closes_at,coverage,state,mode,starts_at,ends_at,rooms,held_rooms,remaining_guests\n\
             14,\"A:1\",z,k,,,,,,1435759200,1435838400,8,x,y",
        ] {
            assert_eq!(parse(FileForm::Csv, same.as_bytes()).as_ref(), Ok(&expected));
        }
        let ndjson =
            r#"{"name":"A:1","zone":"z","kind":"k","starts_at":1435759200,"ends_at":"2015-07-02T12:00:00.000Z",
"limits":{"guests":14,"rooms":8},"closes_at":null,"coverage":[],"state":"open","held":{"rooms":1},"etag":"x"}"#
                .replace('\n', "");
        assert_eq!(parse(FileForm::Ndjson, ndjson.as_bytes()).as_ref(), Ok(&expected));
    }

    #[test]
    fn optional_columns() {
        let pools = parse(
            FileForm::Csv,
            b"name,zone,kind,starts_at,ends_at,rooms,guests,opens_at,closes_at,coverage,state,mode,overbook_guests,overbook_rooms\n\
              a,z,k,1,2,3,4,5,6,10 2,closed,shadow,7,\n",
        );
        let pool = &pools.unwrap()[0];
        assert_eq!(
            (pool.opens_at, pool.closes_at),
            (Timestamp(5_000_000), Timestamp(6_000_000))
        );
        assert_eq!(pool.coverage, ["10".into(), "2".into()]);
        assert!(pool.closed && pool.shadow);
        assert_eq!(pool.overbook, Units::from_slice(&[0, 7]));
    }

    fn check_errors(form: FileForm, text: &str, expected: &[&str]) {
        let errors = parse(form, text.as_bytes()).unwrap_err();
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(
                error.starts_with(expected),
                "{error:?} does not begin with {expected:?}"
            );
        }
    }

    #[test]
    fn a_header_is_judged_as_a_whole() {
        check_errors(
            FileForm::Csv,
            "name,zone,colour,starts_at,ends_at,rooms,overbook_beds,\nx",
            &[
                "line 1, colour: no such column",
                "line 1, overbook_beds: no such column",
                "line 1: column 8 has no name",
                "line 1, kind: the column is missing",
                "line 1, guests: the column is missing",
            ],
        );
    }

    #[test]
    fn all_errors_are_named_by_line_and_column() {
        let header = "name,zone,kind,starts_at,ends_at,rooms,guests,state\n";
        let rows = "import,,k,1,2,3,4,\n\
                    a,z,k,soon,2,-1,1.5,shut\n\
                    b,z,k,9,2,3,4,\n\
                    c,z,k,1,2,3,4\n\
                    d,z,k,1,2,3,2147483648,open\n\
                    b,z,k,1,2,3,4,\n";
        check_errors(
            FileForm::Csv,
            &format!("{header}{rows}"),
            &[
                "line 2, name: must match",
                "line 2, zone: must have 1 to 64 bytes",
                "line 3, starts_at: expected Unix seconds or RFC 3339",
                "line 3, rooms: expected a whole number",
                "line 3, guests: expected a whole number",
                "line 3, state: expected open or closed, found \"shut\"",
                "line 4, ends_at: must not be before starts_at",
                "line 5: 7 cells under a header of 8",
                "line 6, guests: expected a whole number",
                "line 7, name: \"b\" stands on line 4 already",
            ],
        );
    }

    #[test]
    fn errors_of_ndjson() {
        check_errors(
            FileForm::Ndjson,
            "{\"name\":\"a\",\"zone\":1.5,\"limits\":{\"rooms\":1,\"beds\":2},\"colour\":1}\nnonsense\n",
            &[
                "line 1, zone: expected a text or a number",
                "line 1, limits.beds: no such dimension",
                "line 1, limits.guests: the dimension is missing",
                "line 1, colour: no such field",
                "line 1, kind: the field is missing",
                "line 1, starts_at: the field is missing",
                "line 1, ends_at: the field is missing",
                "line 2: not JSON",
            ],
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_pools_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(FileForm::Csv, &bytes);
            let _ = parse(FileForm::Ndjson, &bytes);
            let rows = [b"name,zone,kind,starts_at,ends_at,rooms,guests,coverage,mode\n", &bytes[..]].concat();
            let _ = parse(FileForm::Csv, &rows);
        }

        #[test]
        fn any_cells_are_a_pool_or_an_error(cells in proptest::collection::vec("[ -~]{0,12}", 9)) {
            let row = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            let text = format!("name,zone,kind,starts_at,ends_at,rooms,guests,coverage,mode\n{row}\n");
            let _ = parse(FileForm::Csv, text.as_bytes());
        }
    }
}
