//! `plimsoll resize`: other units, or another deadline, for a reservation.

use std::time::Duration;

use clap::Args;
use plimsoll_client::{Resize, Resizing};

use crate::args::ClientArguments;
use crate::connection::{block_on, connect, failure_of, refused, unknown_outcome};
use crate::failure::Failure;
use crate::reservation_form::print_changed;
use crate::show::id_of;
use crate::values::{UnitsByName, parse_amounts, parse_hold};

#[derive(Debug, Args)]
#[command(after_help = "\
Values are absolute: --units rooms=2 leaves two rooms, however many there were. A dimension that is not named keeps its
units. It happens as a whole or not at all.

With --version nothing happens when somebody else has changed the reservation since (exit code 3). 'plimsoll show' prints
the version.

Examples:
  plimsoll resize 01ARZ3NDEKTSV4RRFFQ69G5FAV --units rooms=2
  plimsoll resize 01ARZ3NDEKTSV4RRFFQ69G5FAV --hold 10m              ten minutes from now on
  plimsoll resize 01ARZ3NDEKTSV4RRFFQ69G5FAV --units rooms=2 --version 3")]
#[group(id = "change", args = ["units", "hold"], required = true, multiple = true)]
pub(crate) struct ResizeArguments {
    /// The reservation's id, as reserve printed it
    id: String,

    /// How much it has afterwards; what is not named stays
    #[arg(long, value_name = "NAME=N[,NAME=N..]", value_parser = parse_amounts)]
    units: Option<UnitsByName>,

    /// How long it is held from now on: 1s to 24h, whole seconds. Not for what is confirmed
    #[arg(long, value_name = "TIME", value_parser = parse_hold)]
    hold: Option<Duration>,

    /// Only if the reservation still has this version
    #[arg(long, value_name = "N")]
    version: Option<u16>,

    #[command(flatten)]
    client: ClientArguments,
}

pub(crate) fn run(arguments: &ResizeArguments) -> Result<(), Failure> {
    let id = id_of(&arguments.id)?;
    block_on(async {
        let client = connect(&arguments.client).await?;
        let units: Vec<(&str, u32)> = arguments.units.iter().flat_map(UnitsByName::pairs).collect();
        let resize = Resize {
            units: &units,
            hold: arguments.hold,
            version: arguments.version,
            ..Resize::new(id)
        };
        match client
            .resize(&resize)
            .await
            .map_err(|error| failure_of(error, &arguments.client.engine))?
        {
            Resizing::Resized(resized) => print_changed(&client, &resized, &arguments.client).await,
            Resizing::Refused(refusal) => Err(refused(&refusal)),
            Resizing::Unknown(unknown) => Err(unknown_outcome(&unknown)
                .help(format!("'plimsoll show {id}' says what it has; the values of a resize are absolute, so that it can be run again"))),
        }
    })
}
