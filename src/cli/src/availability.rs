//! `plimsoll availability`: which pools sell in a window, and how much is left.

use clap::Args;
use plimsoll_client::{Availability, AvailabilityQuery, Units};
use plimsoll_form::AvailabilityForm;

use crate::args::ClientArguments;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::output::{Output, Table, notice};
use crate::values::{UnitsByName, format_time, parse_time, parse_units};

#[derive(Debug, Args)]
#[command(after_help = "\
Pools that sell are listed by starts_at, full ones too. The band says how much is left in the tightest dimension: none
(nothing, or the units do not fit), low (at most a tenth), some (at most half), plenty. Times are Unix seconds or RFC 3339
with an offset; they are printed as RFC 3339 in UTC.

Examples:
  plimsoll availability --zone north
  plimsoll availability --zone north --location 10115 --units orders=1,items=12 --exact
  plimsoll availability --location 10115 --from 2027-01-04T08:00:00Z --to 2027-01-05T00:00:00Z --json")]
#[group(id = "place", args = ["zone", "location"], required = true, multiple = true)]
pub(crate) struct AvailabilityArguments {
    /// The pools of this zone
    #[arg(long)]
    zone: Option<String>,

    /// The pools that serve this location: those with a coverage prefix of it
    #[arg(long)]
    location: Option<String>,

    /// Only pools of this kind
    #[arg(long)]
    kind: Option<String>,

    /// Windows that end after this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<i64>,

    /// Windows that begin before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<i64>,

    /// What has to fit; without it, one unit of anything
    #[arg(long, value_name = "NAME=N[,NAME=N..]", value_parser = parse_units)]
    units: Option<UnitsByName>,

    /// Print how much remains, not only bands
    #[arg(long)]
    exact: bool,

    /// Print at most so many pools
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    #[command(flatten)]
    client: ClientArguments,
}

pub(crate) fn run(arguments: &AvailabilityArguments) -> Result<(), Failure> {
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let units: Vec<(&str, u32)> = arguments.units.iter().flat_map(UnitsByName::pairs).collect();
        let found = client
            .availability(&query(arguments, &units))
            .await
            .map_err(|error| read_failure(error, &arguments.client.engine))?;
        let mut output = Output::new();
        if arguments.client.json {
            output.json(&AvailabilityForm::new(&found, &dimensions))?;
        } else {
            let shown = if arguments.exact { &dimensions[..] } else { &[] };
            for line in table(&found, shown).lines() {
                output.line(line)?;
            }
        }
        output.finish()?;
        if found.truncated && !arguments.client.json {
            notice("note: there are more; raise --limit, or ask for less");
        }
        Ok(())
    })
}

fn query<'a>(arguments: &'a AvailabilityArguments, units: &'a [(&'a str, u32)]) -> AvailabilityQuery<'a> {
    let mut query = match (&arguments.zone, &arguments.location) {
        (Some(zone), Some(location)) => AvailabilityQuery::in_zone(zone).at_location(location),
        (Some(zone), None) => AvailabilityQuery::in_zone(zone),
        // The command line takes no other.
        (None, location) => AvailabilityQuery::of_location(location.as_deref().unwrap_or_default()),
    };
    query = query.limit(arguments.limit);
    if let Some(kind) = &arguments.kind {
        query = query.of_kind(kind);
    }
    if let Some(from) = arguments.from {
        query = query.from(from);
    }
    if let Some(to) = arguments.to {
        query = query.until(to);
    }
    if !units.is_empty() {
        query = query.fitting(Units::Named(units));
    }
    if arguments.exact { query.exact() } else { query }
}

/// A row for each pool, with a column for each of these dimensions.
fn table(found: &Availability, dimensions: &[String]) -> Table {
    const TEXTS: [&str; 7] = ["pool", "zone", "kind", "starts_at", "ends_at", "band", "fits"];
    let head = TEXTS.map(str::to_owned).into_iter().chain(dimensions.iter().cloned());
    let mut table = Table::new(head.collect(), TEXTS.len());
    let time = |time| format_time(time).unwrap_or_else(|| "-".to_owned());
    for pool in &found.pools {
        let texts = [
            pool.name.to_string(),
            pool.zone.to_string(),
            pool.kind.to_string(),
            time(pool.starts_at),
            time(pool.ends_at),
            pool.band.to_string(),
            if pool.fits { "yes" } else { "no" }.to_owned(),
        ];
        let remaining = pool.remaining.iter().flatten().map(ToString::to_string);
        table.row(texts.into_iter().chain(remaining.take(dimensions.len())).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{AvailablePool, Band, PoolId};

    use super::*;

    fn found(remaining: Option<Vec<i64>>) -> Availability {
        let pool = AvailablePool {
            id: PoolId(1),
            name: "A:1".into(),
            zone: "z".into(),
            kind: "k".into(),
            starts_at: 1_435_759_200_000_000,
            ends_at: 1_435_838_400_000_000,
            version: 1,
            band: Band::Low,
            fits: true,
            remaining,
        };
        Availability {
            as_of: 1_435_759_200_500_000,
            pools: vec![pool],
            truncated: false,
        }
    }

    fn dimensions() -> Vec<String> {
        vec!["rooms".into(), "guests".into()]
    }

    #[test]
    fn a_table_shows_what_remains_when_it_is_known() {
        let lines: Vec<String> = table(&found(None), &[]).lines().collect();
        assert_eq!(
            lines[0],
            "pool  zone  kind  starts_at                 ends_at                   band  fits"
        );
        assert_eq!(
            lines[1],
            "A:1   z     k     2015-07-01T14:00:00.000Z  2015-07-02T12:00:00.000Z  low   yes"
        );
        let lines: Vec<String> = table(&found(Some(vec![2, -1])), &dimensions()).lines().collect();
        assert!(lines[0].ends_with("fits  rooms  guests"), "{}", lines[0]);
        assert!(lines[1].ends_with("yes       2      -1"), "{}", lines[1]);
    }
}
