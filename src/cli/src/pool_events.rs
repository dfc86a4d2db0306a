//! `plimsoll pool events`: what happened to a pool, the newest first.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::Event;

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, read_failure};
use crate::event_form::EventForm;
use crate::failure::Failure;
use crate::output::{Output, Table, notice};
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
        let mut output = Output::new();
        let mut table = Table::new(table_head(&dimensions), 3);
        let (mut left, mut cursor) = (arguments.limit, None);
        loop {
            let page = client
                .pool_events(&arguments.name, cursor.as_deref(), left)
                .await
                .map_err(|error| read_failure(error, &arguments.client.engine))?;
            for event in &page.events {
                if arguments.client.json {
                    output.json(&EventForm::new(event, &dimensions))?;
                } else {
                    table.row(table_row(event, dimensions.len()));
                }
            }
            left = left.saturating_sub(u32::try_from(page.events.len()).unwrap_or(u32::MAX));
            cursor = page.next;
            if left == 0 || cursor.is_none() {
                break;
            }
        }
        if !arguments.client.json {
            for line in table.lines() {
                output.line(line)?;
            }
        }
        output.finish()?;
        if cursor.is_some() && !arguments.client.json {
            notice("note: there are earlier ones; raise --limit");
        }
        Ok(())
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
    use super::*;
    use crate::event_form::tests::event;

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        assert_eq!(table_row(&event(), 2).len(), table_head(&dimensions).len());
        assert_eq!(table_row(&event(), 2)[3..7], ["1", "0", "1", "8"]);
    }
}
