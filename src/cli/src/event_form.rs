//! How an event is shown: the JSON of the HTTP form.

use plimsoll_client::{After, Cause, Event};
use serde::Serialize;

use crate::pool_form::ByDimension;
use crate::values::format_time;

/// An event as HTTP shows it.
#[derive(Serialize)]
pub(crate) struct EventForm<'a> {
    id: &'a str,
    at: Option<String>,
    pub(crate) kind: String,
    pool: &'a str,
    reservation: Option<String>,
    reference: Option<&'a str>,
    units: Option<ByDimension<'a, u64>>,
    after: Option<AfterForm<'a>>,
    /// Nobody is known by name before there is authentication.
    actor: Option<&'a str>,
    occurred_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_units: Option<ByDimension<'a, u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    would_refuse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

/// A pool's limits and counters.
#[derive(Serialize)]
pub(crate) struct AfterForm<'a> {
    pub(crate) limits: ByDimension<'a, u32>,
    pub(crate) held: ByDimension<'a, i64>,
    pub(crate) confirmed: ByDimension<'a, i64>,
}

impl<'a> EventForm<'a> {
    pub(crate) fn new(event: &'a Event, dimensions: &'a [String]) -> EventForm<'a> {
        let turned_away = event.turned_away.as_ref();
        let units = match (&event.units, turned_away) {
            (Some(units), _) => Some(units.iter().map(|unit| u64::from(*unit)).collect()),
            (None, turned_away) => turned_away.map(|turned_away| turned_away.units.clone()),
        };
        EventForm {
            id: &event.id,
            at: format_time(event.at),
            kind: event.kind.to_string(),
            pool: &event.pool,
            reservation: event.reservation.map(|id| id.to_string()),
            reference: event.reference.as_deref(),
            units: units.map(|values| ByDimension { dimensions, values }),
            after: event.after.as_ref().map(|after| after_form(after, dimensions)),
            actor: None,
            occurred_at: event.occurred_at.and_then(format_time),
            expires_at: event.expires_at.and_then(format_time),
            previous_units: event
                .previous_units
                .clone()
                .map(|values| ByDimension { dimensions, values }),
            cause: match event.cause {
                Cause::Downtime => Some("downtime"),
                Cause::Reset => Some("reset"),
                _ => None,
            },
            would_refuse: event.would_refuse,
            refusals: turned_away.map(|turned_away| turned_away.refusals),
            since: turned_away.and_then(|turned_away| format_time(turned_away.since)),
        }
    }
}

pub(crate) fn after_form<'a>(after: &After, dimensions: &'a [String]) -> AfterForm<'a> {
    AfterForm {
        limits: ByDimension {
            dimensions,
            values: after.limits.clone(),
        },
        held: ByDimension {
            dimensions,
            values: after.held.clone(),
        },
        confirmed: ByDimension {
            dimensions,
            values: after.confirmed.clone(),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use plimsoll_client::{EventKind, ReservationId};

    use super::*;

    pub(crate) fn event() -> Event {
        Event {
            id: "7-12".into(),
            at: 1_435_759_200_500_000,
            kind: EventKind::Reserved,
            cause: Cause::Asked,
            pool: "A:1".into(),
            zone: None,
            reservation: Some(ReservationId(7)),
            units: Some(vec![1, 2]),
            previous_units: None,
            expires_at: None,
            version: 0,
            would_refuse: false,
            was_confirmed: false,
            occurred_at: None,
            reference: Some("order-7".into()),
            turned_away: None,
            definition: None,
            after: Some(After {
                limits: vec![8, 14],
                held: vec![0, 0],
                confirmed: vec![1, 2],
            }),
            cursor: None,
        }
    }

    #[test]
    fn json_is_the_http_form() {
        let dimensions = ["rooms".to_owned(), "guests".to_owned()];
        assert_eq!(
            serde_json::to_string(&EventForm::new(&event(), &dimensions)).unwrap(),
            r#"{"id":"7-12","at":"2015-07-01T14:00:00.500Z","kind":"reserved","pool":"A:1","#.to_owned()
                + r#""reservation":"00000000000000000000000007","reference":"order-7","units":{"rooms":1,"guests":2},"#
                + r#""after":{"limits":{"rooms":8,"guests":14},"held":{"rooms":0,"guests":0},"#
                + r#""confirmed":{"rooms":1,"guests":2}},"actor":null,"occurred_at":null}"#
        );
    }
}
