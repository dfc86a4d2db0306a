//! `plimsoll show`: a reservation as it is now.

use plimsoll_client::{Client, Refusal, ReservationDetails, ReservationId, Status};
use plimsoll_form::ReservationForm;

use crate::args::{ClientArguments, ReservationArguments};
use crate::connection::{block_on, connect, read_failure, refused};
use crate::failure::Failure;
use crate::reservation_form::print;

pub(crate) fn run(arguments: &ReservationArguments) -> Result<(), Failure> {
    let id = id_of(&arguments.id)?;
    block_on(async {
        let client = connect(&arguments.client).await?;
        let details = details_of(&client, id, &arguments.client).await?;
        print(
            &ReservationForm::new(&details, &client.dimensions()),
            arguments.client.json,
        )
    })
}

pub(crate) fn id_of(text: &str) -> Result<ReservationId, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("{text:?} is no reservation id")).because(error))
}

pub(crate) async fn details_of(
    client: &Client,
    id: ReservationId,
    arguments: &ClientArguments,
) -> Result<ReservationDetails, Failure> {
    let found = client
        .reservations(&[id])
        .await
        .map_err(|error| read_failure(error, &arguments.engine))?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| refused(&Refusal::new(Status::ReservationNotFound)))
}
