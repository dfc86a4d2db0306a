//! How reservations are shown: JSON, and fields a line each.

use plimsoll_client::{Client, Reservation};
use plimsoll_form::{ReservationForm, by_name, format_time};
use serde::Serialize;

use crate::args::ClientArguments;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::show::details_of;

/// Prints it, as JSON or as fields.
pub(crate) fn print(reservation: &ReservationForm<'_>, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    if json {
        output.json(reservation)?;
    } else {
        output.fields(&lines(reservation))?;
    }
    output.finish()
}

/// The same on one line, for lists.
pub(crate) fn line(reservation: &ReservationForm<'_>) -> String {
    let lines = lines(reservation).into_iter().skip(1);
    let fields = lines.map(|(name, value)| format!("  {name} {}", printable(&value)));
    reservation.reservation.clone() + &fields.collect::<String>()
}

fn lines(reservation: &ReservationForm<'_>) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("reservation", reservation.reservation.clone()),
        ("pool", reservation.pool.to_owned()),
        ("units", by_name(&reservation.units)),
        ("state", reservation.state.clone()),
    ];
    let version = reservation.version.to_string();
    let optional = [
        ("expires_at", reservation.expires_at.as_deref()),
        ("reference", reservation.reference),
        ("created_at", reservation.created_at.as_deref()),
        ("version", Some(&*version)),
        ("would_refuse", reservation.would_refuse.then_some("yes")),
    ];
    lines.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.to_owned()))),
    );
    lines
}

/// What is known of a reservation that was changed and could not be read afterwards.
#[derive(Serialize)]
struct Changed {
    reservation: String,
    state: String,
    expires_at: Option<String>,
}

/// Prints a reservation that a command has changed, as it is now.
pub(crate) async fn print_changed(
    client: &Client,
    reservation: &Reservation,
    arguments: &ClientArguments,
) -> Result<(), Failure> {
    if let Ok(details) = details_of(client, reservation.id, arguments).await {
        return print(&ReservationForm::new(&details, &client.dimensions()), arguments.json);
    }
    // It is changed; that the rest cannot be read does not make it undone.
    let changed = Changed {
        reservation: reservation.id.to_string(),
        state: reservation.state.to_string(),
        expires_at: reservation.expires_at.and_then(format_time),
    };
    let mut output = Output::new();
    if arguments.json {
        output.json(&changed)?;
    } else {
        output.fields(&[("reservation", changed.reservation), ("state", changed.state)])?;
    }
    output.finish()
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{ReservationDetails, ReservationId, State};

    use super::*;

    #[test]
    fn fields_that_are_absent_have_no_line() {
        let details = ReservationDetails {
            id: ReservationId(7),
            state: State::Confirmed,
            pool: "A:1".into(),
            units: vec![1],
            reference: None,
            created_at: 1_435_759_200_500_000,
            expires_at: None,
            version: 1,
            would_refuse: false,
        };
        let dimensions = ["rooms".to_owned()];
        let lines = lines(&ReservationForm::new(&details, &dimensions));
        let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["reservation", "pool", "units", "state", "created_at", "version"]
        );
    }
}
