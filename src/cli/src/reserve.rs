//! `plimsoll reserve`: takes units from a pool.

use plimsoll_client::{Key, KeySource, ReservationDetails, Reserve, Reserving, Units};
use plimsoll_form::ReservationForm;

use crate::args::ReserveArguments;
use crate::connection::{block_on, connect, failure_of, refused, unknown_outcome};
use crate::failure::Failure;
use crate::reservation_form::print;

pub(crate) fn run(arguments: &ReserveArguments) -> Result<(), Failure> {
    let key = match &arguments.key {
        Some(text) => Key::from_text(text).map_err(|error| Failure::usage(format!("--key: {error}")))?,
        None => Key::random().map_err(|error| Failure::failed("cannot draw a key").because(error))?,
    };
    block_on(async {
        let client = connect(&arguments.client).await?;
        let dimensions = client.dimensions();
        let units = arguments
            .units
            .in_order_of(&dimensions)
            .map_err(|error| Failure::usage(format!("--units: {error}")))?;
        let reserve = Reserve {
            hold: arguments.hold,
            reference: arguments.reference.as_deref(),
            ..Reserve::new(&arguments.pool, Units::InOrder(&units), key)
        };
        match client
            .reserve(&reserve)
            .await
            .map_err(|error| failure_of(error, &arguments.client.engine))?
        {
            Reserving::Reserved(reservation) => {
                // What the answer does not repeat is what was asked for: a key stands for one request.
                let details = ReservationDetails {
                    id: reservation.id,
                    state: reservation.state,
                    pool: arguments.pool.clone(),
                    units,
                    reference: arguments.reference.clone(),
                    created_at: reservation.created_at,
                    expires_at: reservation.expires_at,
                    version: reservation.version,
                    would_refuse: reservation.would_refuse,
                };
                print(&ReservationForm::new(&details, &dimensions), arguments.client.json)
            }
            Reserving::Refused(refusal) => Err(refused(&refusal)),
            Reserving::Unknown(unknown) => Err(unknown_outcome(&unknown).help(format!(
                "run it again with --key {key}: at most one reservation comes of it"
            ))),
        }
    })
}
