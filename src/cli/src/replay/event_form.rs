//! How an event is shown: the JSON of the HTTP form, and a line for people.

use plimsoll_client::Key;
use plimsoll_domain::{Counters, Event, PoolDefinition, ResizeCause, Timestamp, Units};
use plimsoll_replay::{After, RecordedEvent, kind_of, reservation_of};
use serde::Serialize;

use crate::pool::wire_form;
use crate::pool_form::{ByDimension, by_name};
use crate::values::format_time;

/// An event, with what its kind has; other fields are left out.
#[derive(Serialize)]
pub(super) struct EventForm<'a> {
    /// Partition and sequence: the event's name for ever.
    id: String,
    at: Option<String>,
    kind: &'static str,
    pool: Option<String>,
    reservation: Option<String>,
    reference: Option<String>,
    units: Option<ByDimension<'a, i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<AfterForm<'a>>,
    /// Who caused it: nobody is known yet.
    actor: Option<String>,
    occurred_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_units: Option<ByDimension<'a, i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    would_refuse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<DefinitionForm<'a>>,
    /// Where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<u64>,
}

/// A pool's counters after an event.
#[derive(Serialize)]
pub(super) struct AfterForm<'a> {
    limits: ByDimension<'a, u32>,
    held: ByDimension<'a, i64>,
    confirmed: ByDimension<'a, i64>,
}

/// What an event says of a pool's definition.
#[derive(Serialize)]
struct DefinitionForm<'a> {
    version: u64,
    zone: String,
    kind: String,
    starts_at: Option<String>,
    ends_at: Option<String>,
    opens_at: Option<String>,
    closes_at: Option<String>,
    coverage: Vec<String>,
    state: &'static str,
    mode: &'static str,
    limits: ByDimension<'a, u32>,
    overbook: ByDimension<'a, u32>,
}

impl<'a> EventForm<'a> {
    /// `pool` is the name of the pool that the event is about.
    pub(super) fn new(
        recorded: &RecordedEvent,
        pool: Option<&str>,
        reference: Option<&str>,
        after: Option<&After>,
        dimensions: &'a [String],
    ) -> EventForm<'a> {
        let event = &recorded.event;
        let units = |units: &Units| Some(unit_form(units, dimensions));
        let mut form = EventForm {
            id: format!("{}-{}", event.partition().0, event.sequence()),
            at: format_time(recorded.time.0),
            kind: kind_of(event),
            pool: pool.map(str::to_owned),
            reservation: reservation_of(event).map(|id| plimsoll_client::ReservationId(id.0).to_string()),
            reference: reference.map(str::to_owned),
            units: None,
            after: after.map(|after| AfterForm::new(after, dimensions)),
            actor: None,
            occurred_at: None,
            previous_units: None,
            expires_at: None,
            cause: None,
            key: None,
            refusals: None,
            would_refuse: false,
            definition: None,
            lsn: Some(recorded.lsn.0),
        };
        let occurred = |time: Timestamp| format_time(time.0);
        match event {
            Event::PoolCreated(defined) | Event::PoolChanged(defined) => {
                form.definition = Some(DefinitionForm::new(&defined.definition, defined.version, dimensions));
            }
            Event::Reserved(reserved) => {
                form.units = units(&reserved.units);
                form.occurred_at = occurred(reserved.occurred_at);
                form.would_refuse = reserved.would_refuse;
                form.key = Some(Key(reserved.key.0).to_string());
                if reserved.hold_seconds > 0 {
                    form.expires_at = format_time(reserved.at.plus_seconds(reserved.hold_seconds).0);
                }
            }
            Event::Confirmed(moved) | Event::Expired(moved) => {
                form.units = units(&moved.units);
                form.occurred_at = occurred(moved.occurred_at);
            }
            Event::Released(released) => {
                form.units = units(&released.units);
                form.occurred_at = occurred(released.occurred_at);
            }
            Event::Resized(resized) => {
                form.units = units(&resized.units);
                form.previous_units = units(&resized.previous_units);
                form.occurred_at = occurred(resized.occurred_at);
                form.would_refuse = resized.would_refuse;
                form.expires_at = resized.expires_at.and_then(|time| format_time(time.0));
                form.cause = match resized.cause {
                    ResizeCause::Asked => None,
                    ResizeCause::Downtime => Some("downtime"),
                };
            }
            Event::TurnedAway(turned_away) => {
                form.refusals = Some(turned_away.refusals);
                let sums = turned_away.units.iter().take(dimensions.len());
                form.units = Some(ByDimension {
                    dimensions,
                    values: sums.map(|sum| i64::try_from(*sum).unwrap_or(i64::MAX)).collect(),
                });
            }
            Event::PoolRetired(_) | Event::Swept(_) => {}
        }
        form
    }

    /// A line: when, what, what it is about, what it leaves.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}  {:<12}", self.at.as_deref().unwrap_or("-"), self.kind);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!("  {name}{value}"));
            }
        };
        add("", self.reservation.clone());
        add("", self.units.as_ref().map(by_name));
        add("before ", self.previous_units.as_ref().map(by_name));
        add("until ", self.expires_at.clone());
        add("reference ", self.reference.clone());
        add("", self.cause.map(|cause| format!("({cause})")));
        add("", self.refusals.map(|refusals| format!("{refusals} refused")));
        add("", self.would_refuse.then(|| "(would be refused)".to_owned()));
        let definition = self.definition.as_ref().map(|definition| {
            format!(
                "{} {}, limits {}, version {}",
                definition.state,
                definition.mode,
                by_name(&definition.limits),
                definition.version
            )
        });
        add("", definition);
        if let Some(after) = &self.after {
            line.push_str(&format!(
                "  -> held {}, confirmed {}",
                by_name(&after.held),
                by_name(&after.confirmed)
            ));
        }
        line
    }
}

impl<'a> AfterForm<'a> {
    fn new(after: &After, dimensions: &'a [String]) -> AfterForm<'a> {
        AfterForm {
            limits: ByDimension {
                dimensions,
                values: after.limits.0[..dimensions.len()].to_vec(),
            },
            held: counter_form(&after.held, dimensions),
            confirmed: counter_form(&after.confirmed, dimensions),
        }
    }
}

impl<'a> DefinitionForm<'a> {
    fn new(definition: &PoolDefinition, version: u64, dimensions: &'a [String]) -> DefinitionForm<'a> {
        let definition = wire_form(definition, dimensions.len());
        DefinitionForm {
            version,
            zone: definition.zone,
            kind: definition.kind,
            starts_at: format_time(definition.starts_at),
            ends_at: format_time(definition.ends_at),
            opens_at: format_time(definition.opens_at),
            closes_at: format_time(definition.closes_at),
            coverage: definition.coverage,
            state: if definition.closed { "closed" } else { "open" },
            mode: if definition.shadow { "shadow" } else { "enforce" },
            limits: ByDimension {
                dimensions,
                values: definition.limits,
            },
            overbook: ByDimension {
                dimensions,
                values: definition.overbook,
            },
        }
    }
}

pub(super) fn counter_form<'a>(counters: &Counters, dimensions: &'a [String]) -> ByDimension<'a, i64> {
    ByDimension {
        dimensions,
        values: counters.0[..dimensions.len()].to_vec(),
    }
}

pub(super) fn unit_form<'a>(units: &Units, dimensions: &'a [String]) -> ByDimension<'a, i64> {
    ByDimension {
        dimensions,
        values: units.0[..dimensions.len()].iter().copied().map(i64::from).collect(),
    }
}
