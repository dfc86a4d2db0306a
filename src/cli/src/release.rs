//! `plimsoll release`: gives a reservation's units back.

use plimsoll_client::Releasing;
use serde::Serialize;

use crate::args::ReservationArguments;
use crate::connection::{block_on, connect, failure_of, refused, unknown_outcome};
use crate::failure::Failure;
use crate::output::Output;
use crate::reservation_form::ReservationForm;
use crate::show::{details_of, id_of};

/// What is known of a reservation that was released and could not be read afterwards.
#[derive(Serialize)]
struct Ended {
    reservation: String,
    state: String,
}

impl Ended {
    fn print(self, json: bool) -> Result<(), Failure> {
        let mut output = Output::new();
        if json {
            output.json(&self)?;
        } else {
            output.fields(&[("reservation", self.reservation), ("state", self.state)])?;
        }
        output.finish()
    }
}

pub(crate) fn run(arguments: &ReservationArguments) -> Result<(), Failure> {
    let id = id_of(arguments)?;
    block_on(async {
        let client = connect(&arguments.client).await?;
        match client
            .release(id, None)
            .await
            .map_err(|error| failure_of(error, &arguments.client.engine))?
        {
            Releasing::Released(released) => match details_of(&client, id, arguments).await {
                Ok(details) => ReservationForm::new(&details, &client.dimensions()).print(arguments.client.json),
                // It is released; that the rest cannot be read does not make it undone.
                Err(_) => Ended {
                    reservation: id.to_string(),
                    state: released.state.to_string(),
                }
                .print(arguments.client.json),
            },
            Releasing::Refused(refusal) => Err(refused(&refusal)),
            Releasing::Unknown(unknown) => {
                Err(unknown_outcome(&unknown).help("run it again: releasing twice does no harm"))
            }
        }
    })
}
