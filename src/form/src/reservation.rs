//! Reservations: JSON.

use plimsoll_client::ReservationDetails;
use serde::Serialize;
use utoipa::ToSchema;

use crate::by_dimension::ByDimension;
use crate::time::format_time;

/// A reservation as HTTP shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Reservation)]
pub struct ReservationForm<'a> {
    /// Its id.
    pub reservation: String,
    /// The name of its pool.
    pub pool: &'a str,
    /// What it takes, in each dimension.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub units: ByDimension<'a, u32>,
    /// Its state.
    #[schema(value_type = ReservationState)]
    pub state: String,
    /// When the hold ends; null when there is no deadline.
    #[schema(required, format = DateTime)]
    pub expires_at: Option<String>,
    /// The caller's own name for what is reserved.
    #[schema(required)]
    pub reference: Option<&'a str>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Option<String>,
    /// Counts its resizes, from 0.
    pub version: u16,
    /// Enforcement would have refused it: the pool was in shadow mode.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub would_refuse: bool,
}

impl<'a> ReservationForm<'a> {
    /// How a reservation looks.
    #[must_use]
    pub fn new(details: &'a ReservationDetails, dimensions: &'a [String]) -> ReservationForm<'a> {
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
}

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReservationState {
    /// Until its deadline.
    Held,
    /// For good.
    Confirmed,
    /// Given back.
    Released,
    /// Its deadline passed.
    Expired,
}

impl From<ReservationState> for plimsoll_client::State {
    fn from(state: ReservationState) -> Self {
        match state {
            ReservationState::Held => Self::Held,
            ReservationState::Confirmed => Self::Confirmed,
            ReservationState::Released => Self::Released,
            ReservationState::Expired => Self::Expired,
        }
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
                + r#""expires_at":null,"reference":null,"created_at":"2015-07-01T14:00:00.500Z","version":1}"#
        );
    }
}
