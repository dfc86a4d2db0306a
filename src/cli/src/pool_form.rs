//! How pools are shown to people: fields, and rows of a table.

use plimsoll_client::Pool;
use plimsoll_form::{PoolForm, by_name, format_time};

/// Fields and values, a line each.
pub(crate) fn lines(pool: &PoolForm<'_>) -> Vec<(&'static str, String)> {
    let time = |time: &Option<String>, absent: &str| time.clone().unwrap_or_else(|| absent.to_owned());
    vec![
        ("name", pool.name.to_owned()),
        ("zone", pool.definition.zone.to_owned()),
        ("kind", pool.definition.kind.to_owned()),
        ("starts_at", time(&pool.definition.starts_at, "-")),
        ("ends_at", time(&pool.definition.ends_at, "-")),
        ("opens_at", time(&pool.definition.opens_at, "-")),
        ("closes_at", time(&pool.definition.closes_at, "never")),
        ("coverage", pool.definition.coverage.join(" ")),
        ("state", pool.definition.state.to_owned()),
        ("mode", pool.definition.mode.to_owned()),
        ("limits", by_name(&pool.definition.limits)),
        ("overbook", by_name(&pool.definition.overbook)),
        ("held", by_name(&pool.held)),
        ("confirmed", by_name(&pool.confirmed)),
        ("remaining", by_name(&pool.remaining)),
    ]
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
