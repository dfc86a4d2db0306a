//! `plimsoll release`: gives a reservation's units back.

use plimsoll_client::Releasing;

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
            .release(id, None)
            .await
            .map_err(|error| failure_of(error, &arguments.client.engine))?
        {
            Releasing::Released(released) => print_changed(&client, &released, &arguments.client).await,
            Releasing::Refused(refusal) => Err(refused(&refusal)),
            Releasing::Unknown(unknown) => {
                Err(unknown_outcome(&unknown).help("run it again: releasing twice does no harm"))
            }
        }
    })
}
