//! Events: JSON.

use plimsoll_client::{After, Cause, Event};
use serde::Serialize;
use utoipa::ToSchema;

use crate::by_dimension::ByDimension;
use crate::pool::DefinitionForm;
use crate::time::format_time;

/// An event as HTTP shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventForm<'a> {
    /// Names it for ever.
    pub id: &'a str,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Option<String>,
    /// What happened; others may be added.
    #[schema(example = "reserved")]
    pub kind: String,
    /// The name of the pool.
    pub pool: &'a str,
    /// The reservation that it is about.
    #[schema(required)]
    pub reservation: Option<String>,
    /// The caller's own name for what was reserved; where it was reserved or restored.
    #[schema(required)]
    pub reference: Option<&'a str>,
    /// What the reservation takes, or took until it ended; of `turned_away`, the sums of what was asked for.
    #[schema(required, value_type = Option<BTreeMap<String, u64>>)]
    pub units: Option<ByDimension<'a, u64>>,
    /// The counters after it; null where they are not known.
    #[schema(required, value_type = Option<AfterForm>)]
    pub after: Option<AfterForm<'a>>,
    /// Nobody is known by name before there is authentication.
    #[schema(required)]
    pub actor: Option<&'a str>,
    /// The caller's business time.
    #[schema(required, format = DateTime)]
    pub occurred_at: Option<String>,
    /// When the hold ends from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// What the reservation took before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u32>>)]
    pub previous_units: Option<ByDimension<'a, u32>>,
    /// Why, when nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Enforcement would have refused it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub would_refuse: bool,
    /// Of `turned_away`: how many reserves did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusals: Option<u64>,
    /// Of `pool_created` and `pool_changed`: what holds from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = DefinitionForm, required = false)]
    pub definition: Option<DefinitionForm<'a>>,
    /// Of `turned_away`: since when they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
}

/// A pool's limits and counters.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = After)]
pub struct AfterForm<'a> {
    /// The limits.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub limits: ByDimension<'a, u32>,
    /// Held units.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub held: ByDimension<'a, i64>,
    /// Confirmed units.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub confirmed: ByDimension<'a, i64>,
}

impl<'a> EventForm<'a> {
    /// How an event looks.
    #[must_use]
    pub fn new(event: &'a Event, dimensions: &'a [String]) -> EventForm<'a> {
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
            definition: event
                .definition
                .as_ref()
                .map(|definition| DefinitionForm::new(definition, dimensions)),
            refusals: turned_away.map(|turned_away| turned_away.refusals),
            since: turned_away.and_then(|turned_away| format_time(turned_away.since)),
        }
    }
}

/// How counters look.
#[must_use]
pub fn after_form<'a>(after: &After, dimensions: &'a [String]) -> AfterForm<'a> {
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
mod tests {
    use plimsoll_client::{EventKind, ReservationId};

    use super::*;

    fn event() -> Event {
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
