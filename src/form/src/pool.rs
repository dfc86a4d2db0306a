//! Pools: JSON, and rows of CSV files.

use plimsoll_client::{Pool, PoolDefinition};
use serde::Serialize;
use utoipa::ToSchema;

use crate::by_dimension::ByDimension;
use crate::time::format_time;

/// A pool as HTTP shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Pool)]
pub struct PoolForm<'a> {
    /// Its name.
    pub name: &'a str,
    /// What a planner says of it.
    #[serde(flatten)]
    #[schema(value_type = DefinitionForm)]
    pub definition: DefinitionForm<'a>,
    /// Held units in each dimension.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub held: ByDimension<'a, i64>,
    /// Confirmed units in each dimension.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub confirmed: ByDimension<'a, i64>,
    /// `limits` + `overbook` - `held` - `confirmed`; may be negative.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub remaining: ByDimension<'a, i64>,
    /// Names the definition, as `ETag` and `If-Match` do; it changes with the definition, not with what is reserved.
    pub etag: String,
}

impl<'a> PoolForm<'a> {
    /// How a pool looks.
    #[must_use]
    pub fn new(pool: &'a Pool, dimensions: &'a [String]) -> PoolForm<'a> {
        PoolForm {
            name: &pool.definition.name,
            definition: DefinitionForm::new(&pool.definition, dimensions),
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
            etag: etag_of(pool),
        }
    }
}

/// What a planner says of a pool.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DefinitionThen)]
pub struct DefinitionForm<'a> {
    /// Where it applies.
    pub zone: &'a str,
    /// What sort of capacity it is.
    pub kind: &'a str,
    /// From when it is used.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Option<String>,
    /// Until when it is used.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Option<String>,
    /// From when it sells.
    #[schema(value_type = String, format = DateTime)]
    pub opens_at: Option<String>,
    /// Until when it sells; null: for ever.
    #[schema(required, format = DateTime)]
    pub closes_at: Option<String>,
    /// Prefixes of the locations that it serves.
    pub coverage: &'a [String],
    /// Whether the planner lets it sell.
    #[schema(value_type = PoolState)]
    pub state: &'static str,
    /// `shadow`: reserves past the ceiling are recorded too.
    #[schema(value_type = PoolMode)]
    pub mode: &'static str,
    /// The limit in each dimension.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub limits: ByDimension<'a, u32>,
    /// The overbooking allowance in each dimension.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub overbook: ByDimension<'a, u32>,
}

impl<'a> DefinitionForm<'a> {
    /// How a definition looks.
    #[must_use]
    pub fn new(definition: &'a PoolDefinition, dimensions: &'a [String]) -> DefinitionForm<'a> {
        DefinitionForm {
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
                values: overbook_of(definition, dimensions.len()),
            },
        }
    }
}

/// Whether the planner lets a pool sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// It sells between `opens_at` and `closes_at`.
    Open,
    /// It does not sell; what is reserved stays.
    Closed,
}

/// What happens to a reserve past the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// It is refused.
    Enforce,
    /// It is recorded and marked.
    Shadow,
}

/// The entity tag of a pool's definition, with its quotes.
#[must_use]
pub fn etag_of(pool: &Pool) -> String {
    // The id counts the pools that had the name, so that two pools never share one.
    format!("\"{:x}-{}\"", pool.id.0, pool.definition.version)
}

/// The allowance in each dimension; the wire leaves zeros out.
fn overbook_of(definition: &PoolDefinition, dimension_count: usize) -> Vec<u32> {
    let mut overbook = definition.overbook.clone();
    overbook.resize(dimension_count, 0);
    overbook
}

/// The columns of a CSV file of pools, those that an import ignores last.
#[must_use]
pub fn csv_header(dimensions: &[String]) -> Vec<String> {
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
#[must_use]
pub fn csv_row(pool: &Pool, dimension_count: usize) -> Vec<String> {
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
    row.extend(overbook_of(definition, dimension_count).iter().map(ToString::to_string));
    for values in [&pool.held, &pool.confirmed, &pool.remaining()] {
        row.extend(values.iter().map(ToString::to_string));
    }
    row
}

/// `open` or `closed`
#[must_use]
pub fn state_of(closed: bool) -> &'static str {
    if closed { "closed" } else { "open" }
}

/// `enforce` or `shadow`
#[must_use]
pub fn mode_of(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "enforce" }
}

#[cfg(test)]
mod tests {
    use plimsoll_client::PoolId;

    use super::*;
    use crate::pool_file::{FileForm, read_pools, wire_form};

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
                + r#""confirmed":{"rooms":2,"guests":20},"remaining":{"rooms":5,"guests":-6},"etag":"\"1-0\""}"#
        );
    }

    #[test]
    fn what_is_shown_can_be_imported() {
        let json = serde_json::to_string(&PoolForm::new(&pool(), &dimensions())).unwrap();
        let rows = read_pools(FileForm::Ndjson, json.as_bytes(), &dimensions()).unwrap();
        assert_eq!(
            wire_form(&rows[0].definition, 2),
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
        let rows = read_pools(FileForm::Csv, &text, &dimensions()).unwrap();
        assert_eq!(wire_form(&rows[0].definition, 2), exported.definition);
    }
}
