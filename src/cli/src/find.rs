//! `plimsoll find`: reservations by reference or pool, also those that ended long ago.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::{ReservationDetails, SearchQuery, State};

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::output::{Output, Table, notice};
use crate::reservation_form::ReservationForm;
use crate::values::format_time;

#[derive(Debug, Args)]
#[command(after_help = "\
The newest reservation is the first, each as it is now. Those that ended long ago, which 'show' does not know any more, are
found in the history.

Examples:
  plimsoll find --reference order-4711
  plimsoll find --pool zone-7:monday --state held --limit 1000 --json")]
#[group(id = "what", args = ["reference", "pool"], required = true, multiple = true)]
pub(crate) struct FindArguments {
    /// Those with this reference
    #[arg(long)]
    reference: Option<String>,

    /// Those of this pool
    #[arg(long, add = ArgValueCompleter::new(pool_names))]
    pool: Option<String>,

    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<StateArgument>,

    /// Print at most so many
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    Held,
    Confirmed,
    Released,
    Expired,
}

impl From<StateArgument> for State {
    fn from(state: StateArgument) -> State {
        match state {
            StateArgument::Held => State::Held,
            StateArgument::Confirmed => State::Confirmed,
            StateArgument::Released => State::Released,
            StateArgument::Expired => State::Expired,
        }
    }
}

pub(crate) fn run(arguments: &FindArguments) -> Result<(), Failure> {
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let mut output = Output::new();
        const TEXTS: [&str; 5] = ["reservation", "pool", "state", "created_at", "reference"];
        let head = TEXTS.map(str::to_owned).into_iter().chain(dimensions.iter().cloned());
        let mut table = Table::new(head.collect(), TEXTS.len());
        let (mut left, mut cursor) = (arguments.limit, None::<String>);
        loop {
            let query = SearchQuery {
                reference: arguments.reference.as_deref(),
                pool: arguments.pool.as_deref(),
                state: arguments.state.map(State::from),
                cursor: cursor.as_deref(),
                limit: left,
            };
            let page = client
                .search_reservations(&query)
                .await
                .map_err(|error| read_failure(error, &arguments.client.engine))?;
            for details in &page.reservations {
                if arguments.client.json {
                    output.json(&ReservationForm::new(details, &dimensions))?;
                } else {
                    table.row(table_row(details));
                }
            }
            left = left.saturating_sub(u32::try_from(page.reservations.len()).unwrap_or(u32::MAX));
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
            notice("note: there may be earlier ones; raise --limit");
        }
        Ok(())
    })
}

fn table_row(details: &ReservationDetails) -> Vec<String> {
    let texts = [
        details.id.to_string(),
        details.pool.clone(),
        details.state.to_string(),
        format_time(details.created_at).unwrap_or_else(|| "-".to_owned()),
        details.reference.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    texts
        .into_iter()
        .chain(details.units.iter().map(ToString::to_string))
        .collect()
}
