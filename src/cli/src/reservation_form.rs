//! How a reservation is shown: the JSON of the HTTP form, and fields a line each.

use plimsoll_client::ReservationDetails;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::pool_form::{ByDimension, by_name};
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

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("reservation", self.reservation.clone()),
            ("pool", self.pool.to_owned()),
            ("units", by_name(&self.units)),
            ("state", self.state.clone()),
        ];
        let optional = [
            ("expires_at", self.expires_at.as_deref()),
            ("reference", self.reference),
            ("created_at", self.created_at.as_deref()),
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
                + r#""expires_at":null,"reference":null,"created_at":"2015-07-01T14:00:00.500Z"}"#
        );
        let names: Vec<&str> = form.lines().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["reservation", "pool", "units", "state", "created_at"]);
    }
}
