//! `plimsoll confirm`: makes a hold the customer's for good.

use plimsoll_client::Confirming;

use crate::args::ReservationArguments;
use crate::connection::{block_on, connect, failure_of, refused, unknown_outcome};
use crate::failure::Failure;
use crate::reservation_form::print_changed;
use crate::show::id_of;

pub(crate) fn run(arguments: &ReservationArguments) -> Result<(), Failure> {
    let id = id_of(&arguments.id)?;
    block_on(async {
        let client = connect(&arguments.client).await?;
        match client
            .confirm(id, None)
            .await
            .map_err(|error| failure_of(error, &arguments.client.engine))?
        {
            Confirming::Confirmed(confirmed) => print_changed(&client, &confirmed, &arguments.client).await,
            Confirming::Refused(refusal) => Err(refused(&refusal)),
            Confirming::Unknown(unknown) => {
                Err(unknown_outcome(&unknown).help("run it again: confirming twice does no harm"))
            }
        }
    })
}
