//! How a reservation is shown: the JSON of the HTTP form, and fields a line each.

use plimsoll_client::{Client, Reservation, ReservationDetails};
use serde::Serialize;

use crate::args::ClientArguments;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::pool_form::{ByDimension, by_name};
use crate::show::details_of;
use crate::values::format_time;

/// A reservation as HTTP shows it.
#[derive(Serialize)]
pub(crate) struct ReservationForm<'a> {
    reservation: String,
    pool: &'a str,
    units: ByDimension<'a, u32>,
    state: String,
    expires_at: Option<String>,
    reference: Option<&'a str>,
    created_at: Option<String>,
    version: u16,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    would_refuse: bool,
}

impl<'a> ReservationForm<'a> {
    pub(crate) fn new(details: &'a ReservationDetails, dimensions: &'a [String]) -> ReservationForm<'a> {
        ReservationForm {
            reservation: details.id.to_string(),
            pool: &details.pool,
            units: ByDimension {
                dimensions,
                values: details.units.clone(),
            },
            state: details.state.to_string(),
            expires_at: details.expires_at.and_then(format_time),
            reference: details.reference.as_deref(),
            created_at: format_time(details.created_at),
            version: details.version,
            would_refuse: details.would_refuse,
        }
    }

    /// Prints it, as JSON or as fields.
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut output = Output::new();
        if json {
            output.json(self)?;
        } else {
            output.fields(&self.lines())?;
        }
        output.finish()
    }

    /// The same on one line, for lists.
    pub(crate) fn line(&self) -> String {
        let lines = self.lines().into_iter().skip(1);
        let fields = lines.map(|(name, value)| format!("  {name} {}", printable(&value)));
        self.reservation.clone() + &fields.collect::<String>()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("reservation", self.reservation.clone()),
            ("pool", self.pool.to_owned()),
            ("units", by_name(&self.units)),
            ("state", self.state.clone()),
        ];
        let version = self.version.to_string();
        let optional = [
            ("expires_at", self.expires_at.as_deref()),
            ("reference", self.reference),
            ("created_at", self.created_at.as_deref()),
            ("version", Some(&*version)),
            ("would_refuse", self.would_refuse.then_some("yes")),
        ];
        lines.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?.to_owned()))),
        );
        lines
    }
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
        return ReservationForm::new(&details, &client.dimensions()).print(arguments.json);
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
    use plimsoll_client::{ReservationId, State};

    use super::*;

    #[test]
    fn json_is_the_http_form() {
        let details = ReservationDetails {
            id: ReservationId(7),
            state: State::Confirmed,
            pool: "A:1".into(),
            units: vec![1, 2],
            reference: None,
            created_at: 1_435_759_200_500_000,
            expires_at: None,
            version: 1,
            would_refuse: false,
        };
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        let form = ReservationForm::new(&details, &dimensions);
        assert_eq!(
            serde_json::to_string(&form).unwrap(),
            r#"{"reservation":"00000000000000000000000007","pool":"A:1","units":{"rooms":1,"guests":2},"state":"confirmed","#
                .to_owned()
                + r#""expires_at":null,"reference":null,"created_at":"2015-07-01T14:00:00.500Z","version":1}"#
        );
        let names: Vec<&str> = form.lines().iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["reservation", "pool", "units", "state", "created_at", "version"]
        );
    }
}
