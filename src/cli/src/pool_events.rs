//! `plimsoll pool events`: what happened to a pool, the newest first.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::Event;
use plimsoll_form::EventForm;

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::output::{Output, Table};
use crate::values::format_time;

#[derive(Debug, Args)]
#[command(after_help = "\
The newest event is the first. It reaches back to the first pool that ever had this name; `after` is what is held and confirmed
behind the event, of the limit. It is missing for a pool that has retired.

Examples:
  plimsoll pool events zone-7:monday
  plimsoll pool events zone-7:monday --limit 1000 --json | jq 'select(.kind == \"released\")'")]
pub(crate) struct EventsArguments {
    /// The pool's name
    #[arg(add = ArgValueCompleter::new(pool_names))]
    name: String,

    /// Print at most so many events
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    #[command(flatten)]
    client: ClientArguments,
}

pub(crate) fn run(arguments: &EventsArguments) -> Result<(), Failure> {
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let listing = Listing {
            limit: arguments.limit,
            json: arguments.client.json,
            table: Table::new(table_head(&dimensions), 3),
            more: "note: there are earlier ones; raise --limit",
        };
        let page = async |cursor: Option<&str>, limit| {
            let found = client.pool_events(&arguments.name, cursor, limit).await;
            let page = found.map_err(|error| read_failure(error, &arguments.client.engine))?;
            Ok((page.events, page.next))
        };
        let form = |event: &Event, output: &mut Output| output.json(&EventForm::new(event, &dimensions));
        let row = |event: &Event| table_row(event, dimensions.len());
        listing.print(page, form, row).await
    })
}

fn table_head(dimensions: &[String]) -> Vec<String> {
    let mut head: Vec<String> = ["at", "kind", "reservation"].map(str::to_owned).into();
    for dimension in dimensions {
        head.extend([dimension.clone(), "held".into(), "confirmed".into(), "limit".into()]);
    }
    head
}

/// For each dimension the event's units, and what is held, confirmed and the limit behind it.
fn table_row(event: &Event, dimension_count: usize) -> Vec<String> {
    let mut row = vec![
        format_time(event.at).unwrap_or_else(|| "-".to_owned()),
        event.kind.to_string(),
        event.reservation.map_or_else(|| "-".to_owned(), |id| id.to_string()),
    ];
    let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for dimension in 0..dimension_count {
        let units = event.units.as_ref().map(|units| units[dimension].to_string());
        let refused = event
            .turned_away
            .as_ref()
            .map(|turned_away| turned_away.units[dimension].to_string());
        row.push(cell(units.or(refused)));
        let after = event.after.as_ref();
        row.push(cell(after.map(|after| after.held[dimension].to_string())));
        row.push(cell(after.map(|after| after.confirmed[dimension].to_string())));
        row.push(cell(after.map(|after| after.limits[dimension].to_string())));
    }
    row
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{After, Cause, EventKind, ReservationId};

    use super::*;

    fn event() -> Event {
        Event {
            id: "7-12".into(),
            at: 1_435_759_200_500_000,
            kind: EventKind::Reserved,
            cause: Cause::Asked,
            pool: "A:1".into(),
            zone: None,
            reservation: Some(ReservationId(7)),
            units: Some(vec![1, 2]),
            previous_units: None,
            expires_at: None,
            version: 0,
            would_refuse: false,
            was_confirmed: false,
            occurred_at: None,
            reference: Some("order-7".into()),
            turned_away: None,
            definition: None,
            after: Some(After {
                limits: vec![8, 14],
                held: vec![0, 0],
                confirmed: vec![1, 2],
            }),
            cursor: None,
        }
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        assert_eq!(table_row(&event(), 2).len(), table_head(&dimensions).len());
        assert_eq!(table_row(&event(), 2)[3..7], ["1", "0", "1", "8"]);
    }
}
