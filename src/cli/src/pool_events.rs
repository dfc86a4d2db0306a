//! `plimsoll pool events`: what happened to a pool, the newest first.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::{After, Cause, Event};
use serde::Serialize;

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::output::{Output, Table, notice};
use crate::pool_form::ByDimension;
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

/// An event as HTTP shows it.
#[derive(Serialize)]
struct EventForm<'a> {
    id: &'a str,
    at: Option<String>,
    kind: String,
    pool: &'a str,
    reservation: Option<String>,
    reference: Option<&'a str>,
    units: Option<ByDimension<'a, u64>>,
    after: Option<AfterForm<'a>>,
    /// Nobody is known by name before there is authentication.
    actor: Option<&'a str>,
    occurred_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_units: Option<ByDimension<'a, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    would_refuse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

#[derive(Serialize)]
struct AfterForm<'a> {
    limits: ByDimension<'a, u32>,
    held: ByDimension<'a, i64>,
    confirmed: ByDimension<'a, i64>,
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
                    output.json(&form(event, &dimensions))?;
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

fn form<'a>(event: &'a Event, dimensions: &'a [String]) -> EventForm<'a> {
    let turned_away = event.turned_away.as_ref();
    let units = match (&event.units, turned_away) {
        (Some(units), _) => Some(units.iter().map(|unit| u64::from(*unit)).collect()),
        (None, turned_away) => turned_away.map(|turned_away| turned_away.units.clone()),
    };
    EventForm {
        id: &event.id,
        at: format_time(event.at),
        kind: event.kind.to_string(),
        pool: &event.pool,
        reservation: event.reservation.map(|id| id.to_string()),
        reference: event.reference.as_deref(),
        units: units.map(|values| ByDimension { dimensions, values }),
        after: event.after.as_ref().map(|after| after_form(after, dimensions)),
        actor: None,
        occurred_at: event.occurred_at.and_then(format_time),
        expires_at: event.expires_at.and_then(format_time),
        previous_units: event
            .previous_units
            .clone()
            .map(|values| ByDimension { dimensions, values }),
        cause: match event.cause {
            Cause::Downtime => Some("downtime"),
            Cause::Reset => Some("reset"),
            _ => None,
        },
        would_refuse: event.would_refuse,
        refusals: turned_away.map(|turned_away| turned_away.refusals),
        since: turned_away.and_then(|turned_away| format_time(turned_away.since)),
    }
}

fn after_form<'a>(after: &After, dimensions: &'a [String]) -> AfterForm<'a> {
    AfterForm {
        limits: ByDimension {
            dimensions,
            values: after.limits.clone(),
        },
        held: ByDimension {
            dimensions,
            values: after.held.clone(),
        },
        confirmed: ByDimension {
            dimensions,
            values: after.confirmed.clone(),
        },
    }
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
    use plimsoll_client::{EventKind, ReservationId};

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
    fn json_is_the_http_form() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        assert_eq!(
            serde_json::to_string(&form(&event(), &dimensions)).unwrap(),
            r#"{"id":"7-12","at":"2015-07-01T14:00:00.500Z","kind":"reserved","pool":"A:1","#.to_owned()
                + r#""reservation":"00000000000000000000000007","reference":"order-7","units":{"rooms":1,"guests":2},"#
                + r#""after":{"limits":{"rooms":8,"guests":14},"held":{"rooms":0,"guests":0},"#
                + r#""confirmed":{"rooms":1,"guests":2}},"actor":null,"occurred_at":null}"#
        );
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        assert_eq!(table_row(&event(), 2).len(), table_head(&dimensions).len());
        assert_eq!(table_row(&event(), 2)[3..7], ["1", "0", "1", "8"]);
    }
}
