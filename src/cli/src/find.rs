//! `plimsoll find`: reservations by reference or pool, also those that ended long ago.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use plimsoll_client::{ReservationDetails, SearchQuery, State};
use plimsoll_form::ReservationForm;

use crate::args::ClientArguments;
use crate::completions::pool_names;
use crate::connection::{block_on, connect, read_failure};
use crate::failure::Failure;
use crate::listing::Listing;
use crate::output::{Output, Table};
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
        const TEXTS: [&str; 5] = ["reservation", "pool", "state", "created_at", "reference"];
        let head = TEXTS.map(str::to_owned).into_iter().chain(dimensions.iter().cloned());
        let listing = Listing {
            limit: arguments.limit,
            json: arguments.client.json,
            table: Table::new(head.collect(), TEXTS.len()),
            more: "note: there may be earlier ones; raise --limit",
        };
        let page = async |cursor: Option<&str>, limit| {
            let query = SearchQuery {
                reference: arguments.reference.as_deref(),
                pool: arguments.pool.as_deref(),
                state: arguments.state.map(State::from),
                cursor,
                limit,
            };
            let found = client.search_reservations(&query).await;
            let page = found.map_err(|error| read_failure(error, &arguments.client.engine))?;
            Ok((page.reservations, page.next))
        };
        let form = |details: &ReservationDetails, output: &mut Output| {
            output.json(&ReservationForm::new(details, &dimensions))
        };
        listing.print(page, form, table_row).await
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
