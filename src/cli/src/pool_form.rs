//! How a pool is shown: the JSON of the HTTP form, and rows of a table.

use plimsoll_client::Pool;
use serde::{Serialize, Serializer};

use crate::values::format_time;

/// Values by the names of the dimensions, in their order.
pub(crate) struct ByDimension<'a, T> {
    pub(crate) dimensions: &'a [String],
    pub(crate) values: Vec<T>,
}

impl<T: Serialize> Serialize for ByDimension<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.dimensions.iter().zip(&self.values))
    }
}

/// A pool as HTTP shows it.
#[derive(Serialize)]
pub(crate) struct PoolForm<'a> {
    name: &'a str,
    zone: &'a str,
    kind: &'a str,
    starts_at: Option<String>,
    ends_at: Option<String>,
    opens_at: Option<String>,
    closes_at: Option<String>,
    coverage: &'a [String],
    state: &'static str,
    mode: &'static str,
    limits: ByDimension<'a, u32>,
    overbook: ByDimension<'a, u32>,
    held: ByDimension<'a, i64>,
    confirmed: ByDimension<'a, i64>,
    remaining: ByDimension<'a, i64>,
}

impl<'a> PoolForm<'a> {
    pub(crate) fn new(pool: &'a Pool, dimensions: &'a [String]) -> PoolForm<'a> {
        let definition = &pool.definition;
        PoolForm {
            name: &definition.name,
            zone: &definition.zone,
            kind: &definition.kind,
            starts_at: format_time(definition.starts_at),
            ends_at: format_time(definition.ends_at),
            opens_at: format_time(definition.opens_at),
            closes_at: format_time(definition.closes_at),
            coverage: &definition.coverage,
            state: state_of(definition.closed),
            mode: mode_of(definition.shadow),
            limits: ByDimension {
                dimensions,
                values: definition.limits.clone(),
            },
            overbook: ByDimension {
                dimensions,
                values: overbook_of(pool, dimensions.len()),
            },
            held: ByDimension {
                dimensions,
                values: pool.held.clone(),
            },
            confirmed: ByDimension {
                dimensions,
                values: pool.confirmed.clone(),
            },
            remaining: ByDimension {
                dimensions,
                values: pool.remaining(),
            },
        }
    }

    /// Fields and values, a line each.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let time = |time: &Option<String>, absent: &str| time.clone().unwrap_or_else(|| absent.to_owned());
        vec![
            ("name", self.name.to_owned()),
            ("zone", self.zone.to_owned()),
            ("kind", self.kind.to_owned()),
            ("starts_at", time(&self.starts_at, "-")),
            ("ends_at", time(&self.ends_at, "-")),
            ("opens_at", time(&self.opens_at, "-")),
            ("closes_at", time(&self.closes_at, "never")),
            ("coverage", self.coverage.join(" ")),
            ("state", self.state.to_owned()),
            ("mode", self.mode.to_owned()),
            ("limits", by_name(&self.limits)),
            ("overbook", by_name(&self.overbook)),
            ("held", by_name(&self.held)),
            ("confirmed", by_name(&self.confirmed)),
            ("remaining", by_name(&self.remaining)),
        ]
    }
}

/// `rooms=1,guests=2`
pub(crate) fn by_name<T: ToString>(values: &ByDimension<'_, T>) -> String {
    let pairs = values.dimensions.iter().zip(&values.values);
    pairs
        .map(|(name, value)| format!("{name}={}", value.to_string()))
        .collect::<Vec<_>>()
        .join(",")
}

/// A value for each dimension; the wire leaves zeros out.
fn overbook_of(pool: &Pool, dimension_count: usize) -> Vec<u32> {
    let mut overbook = pool.definition.overbook.clone();
    overbook.resize(dimension_count, 0);
    overbook
}

/// `name,used[,used..]`, of the dimensions in these places
pub(crate) fn used_line(pool: &Pool, places: &[usize]) -> String {
    let mut line = pool.definition.name.clone();
    for place in places {
        line.push(',');
        line.push_str(&(pool.held[*place] + pool.confirmed[*place]).to_string());
    }
    line
}

/// The head of the table of pools.
pub(crate) fn table_head(dimensions: &[String]) -> Vec<String> {
    let mut head: Vec<String> = ["name", "zone", "kind", "starts_at", "state"].map(str::to_owned).into();
    for dimension in dimensions {
        head.push(dimension.clone());
        head.push("used".to_owned());
        head.push("left".to_owned());
    }
    head
}

/// How many columns of the table come before the numbers.
pub(crate) const TABLE_TEXT_COLUMNS: usize = 5;

/// A pool's row in the table.
pub(crate) fn table_row(pool: &Pool) -> Vec<String> {
    let definition = &pool.definition;
    // Seconds are all that windows have; the rest of RFC 3339 would only widen the table.
    let starts_at =
        format_time(definition.starts_at).map_or_else(|| "-".to_owned(), |text| text.replace(":00.000Z", "Z"));
    let state = match (definition.closed, definition.shadow) {
        (true, _) => "closed",
        (false, true) => "shadow",
        (false, false) => "open",
    };
    let mut row = vec![
        definition.name.clone(),
        definition.zone.clone(),
        definition.kind.clone(),
        starts_at,
        state.to_owned(),
    ];
    for (dimension, remaining) in pool.remaining().into_iter().enumerate() {
        row.push(definition.limits[dimension].to_string());
        row.push((pool.held[dimension] + pool.confirmed[dimension]).to_string());
        row.push(remaining.to_string());
    }
    row
}

/// The columns of a CSV file of pools, those that an import ignores last.
pub(crate) fn csv_header(dimensions: &[String]) -> Vec<String> {
    const TEXTS: [&str; 10] = [
        "name",
        "zone",
        "kind",
        "starts_at",
        "ends_at",
        "opens_at",
        "closes_at",
        "coverage",
        "state",
        "mode",
    ];
    let mut header: Vec<String> = TEXTS.map(str::to_owned).into();
    for prefix in ["", "overbook_", "held_", "confirmed_", "remaining_"] {
        header.extend(dimensions.iter().map(|dimension| format!("{prefix}{dimension}")));
    }
    header
}

/// A pool's row under [`csv_header`].
pub(crate) fn csv_row(pool: &Pool, dimension_count: usize) -> Vec<String> {
    let definition = &pool.definition;
    let time = |time| format_time(time).unwrap_or_default();
    let mut row = vec![
        definition.name.clone(),
        definition.zone.clone(),
        definition.kind.clone(),
        time(definition.starts_at),
        time(definition.ends_at),
        time(definition.opens_at),
        // Empty: never.
        time(definition.closes_at),
        definition.coverage.join(" "),
        state_of(definition.closed).to_owned(),
        mode_of(definition.shadow).to_owned(),
    ];
    row.extend(definition.limits.iter().map(ToString::to_string));
    row.extend(overbook_of(pool, dimension_count).iter().map(ToString::to_string));
    for values in [&pool.held, &pool.confirmed, &pool.remaining()] {
        row.extend(values.iter().map(ToString::to_string));
    }
    row
}

pub(crate) fn state_of(closed: bool) -> &'static str {
    if closed { "closed" } else { "open" }
}

pub(crate) fn mode_of(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "enforce" }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    fn pool() -> Pool {
        let definition = PoolDefinition {
            zone: "z".into(),
            kind: "k".into(),
            starts_at: 1_435_759_200_000_000,
            ends_at: 1_435_838_400_000_000,
            ..PoolDefinition::new("A:1", vec![8, 14])
        };
        Pool {
            id: PoolId(1),
            definition,
            held: vec![1, 0],
            confirmed: vec![2, 20],
        }
    }

    fn dimensions() -> Vec<String> {
        vec!["rooms".into(), "guests".into()]
    }

    #[test]
    fn json_is_the_http_form() {
        let json = serde_json::to_string(&PoolForm::new(&pool(), &dimensions())).unwrap();
        assert_eq!(
            json,
            r#"{"name":"A:1","zone":"z","kind":"k","starts_at":"2015-07-01T14:00:00.000Z","ends_at":"2015-07-02T12:00:00.000Z","#
                .to_owned()
                + r#""opens_at":"1970-01-01T00:00:00.000Z","closes_at":null,"coverage":[],"state":"open","mode":"enforce","#
                + r#""limits":{"rooms":8,"guests":14},"overbook":{"rooms":0,"guests":0},"held":{"rooms":1,"guests":0},"#
                + r#""confirmed":{"rooms":2,"guests":20},"remaining":{"rooms":5,"guests":-6}}"#
        );
    }

    #[test]
    fn what_is_shown_can_be_imported() {
        let json = serde_json::to_string(&PoolForm::new(&pool(), &dimensions())).unwrap();
        let input = crate::input::Input::new(std::path::Path::new("x"), crate::input::Form::Ndjson, json.into_bytes());
        let rows = crate::pool_file::read(&input, &dimensions()).unwrap();
        assert_eq!(
            crate::pool::wire_form(&rows[0].definition, 2),
            PoolDefinition {
                overbook: vec![0, 0],
                ..pool().definition
            }
        );
    }

    #[test]
    fn a_csv_row_can_be_imported() {
        let exported = Pool {
            definition: PoolDefinition {
                coverage: vec!["10".into(), "2".into()],
                opens_at: 5_000_000,
                closed: true,
                shadow: true,
                overbook: vec![0, 3],
                ..pool().definition
            },
            ..pool()
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(csv_header(&dimensions())).unwrap();
        writer.write_record(csv_row(&exported, 2)).unwrap();
        let text = writer.into_inner().unwrap();
        let input = crate::input::Input::new(std::path::Path::new("x"), crate::input::Form::Csv, text);
        let rows = crate::pool_file::read(&input, &dimensions()).unwrap();
        assert_eq!(crate::pool::wire_form(&rows[0].definition, 2), exported.definition);
    }

    #[test]
    fn used_is_held_and_confirmed() {
        assert_eq!(used_line(&pool(), &[0, 1]), "A:1,3,20");
        assert_eq!(used_line(&pool(), &[1]), "A:1,20");
        assert_eq!(
            table_row(&pool()),
            [
                "A:1",
                "z",
                "k",
                "2015-07-01T14:00Z",
                "open",
                "8",
                "3",
                "5",
                "14",
                "20",
                "-6"
            ]
        );
        assert_eq!(table_head(&dimensions()).len(), table_row(&pool()).len());
    }
}
