//! An event of history as the client would tell it, and how it is shown.

use plimsoll_client::{Cause, Event as Told, EventKind, Key, ReservationId, TurnedAway};
use plimsoll_domain::{Counters, Event, ReleaseCause, ResizeCause, Timestamp, Units};
use plimsoll_form::{ByDimension, DefinitionForm, EventForm, by_name, mode_of, state_of, wire_form};
use plimsoll_journal::DirectoryView;
use plimsoll_replay::{After, RecordedEvent, kind_of, reservation_of};
use serde::Serialize;

use crate::output::printable;
use crate::values::format_time;

/// An event, and what only the data directory knows of it.
pub(super) struct Recorded {
    told: Told,
    kind: &'static str,
    key: Option<String>,
    /// Of a reset: to when.
    to: Option<Timestamp>,
    place: Place,
}

/// Where an event is recorded.
#[derive(Serialize)]
struct Place {
    /// The core that counts the LSN.
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<u16>,
    /// The journal, where it belongs to no core any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    lsn: u64,
}

impl Place {
    fn of(recorded: &RecordedEvent, view: &DirectoryView) -> Place {
        let journal = &view.journals()[recorded.journal];
        Place {
            core: journal.core,
            journal: journal.core.is_none().then(|| journal.id.directory_name()),
            lsn: recorded.lsn.0,
        }
    }
}

/// What is printed of it.
#[derive(Serialize)]
pub(super) struct RecordedForm<'a> {
    #[serde(flatten)]
    event: EventForm<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<RecordedDefinition<'a>>,
    #[serde(flatten)]
    place: &'a Place,
}

/// What an event says of a pool's definition, and which one it is.
#[derive(Serialize)]
struct RecordedDefinition<'a> {
    version: u64,
    #[serde(flatten)]
    definition: DefinitionForm<'a>,
}

impl Recorded {
    /// `pool` is the name of the pool that the event is about.
    pub(super) fn new(
        recorded: &RecordedEvent,
        pool: Option<&str>,
        reference: Option<&str>,
        after: Option<&After>,
        view: &DirectoryView,
    ) -> Recorded {
        let event = &recorded.event;
        let dimension_count = view.dimensions().len();
        let units = |units: &Units| Some(units.0[..dimension_count].to_vec());
        let occurred = |time: Timestamp| Some(time.0).filter(|time| *time != Timestamp::ABSENT.0);
        let mut told = Told {
            id: format!("{}-{}", event.partition().0, event.sequence()),
            at: recorded.time.0,
            kind: EventKind::Other(0),
            cause: Cause::Asked,
            pool: pool.unwrap_or_default().to_owned(),
            zone: None,
            reservation: reservation_of(event).map(|id| ReservationId(id.0)),
            units: None,
            previous_units: None,
            expires_at: None,
            version: 0,
            would_refuse: false,
            was_confirmed: false,
            occurred_at: None,
            reference: reference.map(str::to_owned),
            turned_away: None,
            definition: None,
            after: after.map(|after| plimsoll_client::After {
                limits: after.limits.0[..dimension_count].to_vec(),
                held: after.held.0[..dimension_count].to_vec(),
                confirmed: after.confirmed.0[..dimension_count].to_vec(),
            }),
            cursor: None,
        };
        let (mut key, mut to) = (None, None);
        match event {
            Event::PoolCreated(defined) | Event::PoolChanged(defined) => {
                let mut definition = wire_form(&defined.definition, dimension_count);
                definition.version = defined.version;
                told.definition = Some(definition);
            }
            Event::Reserved(reserved) => {
                told.units = units(&reserved.units);
                told.occurred_at = occurred(reserved.occurred_at);
                told.would_refuse = reserved.would_refuse;
                let deadline = reserved.at.plus_seconds(reserved.hold_seconds);
                told.expires_at = (reserved.hold_seconds > 0).then_some(deadline.0);
                key = Some(Key(reserved.key.0).to_string());
            }
            Event::Confirmed(moved) | Event::Expired(moved) => {
                told.units = units(&moved.units);
                told.occurred_at = occurred(moved.occurred_at);
            }
            Event::Released(released) => {
                told.units = units(&released.units);
                told.occurred_at = occurred(released.occurred_at);
                told.was_confirmed = released.was_confirmed;
                if released.cause == ReleaseCause::Reset {
                    told.cause = Cause::Reset;
                }
            }
            Event::Resized(resized) => {
                told.units = units(&resized.units);
                told.previous_units = units(&resized.previous_units);
                told.occurred_at = occurred(resized.occurred_at);
                told.would_refuse = resized.would_refuse;
                told.expires_at = resized.expires_at.map(|time| time.0);
                if resized.cause == ResizeCause::Downtime {
                    told.cause = Cause::Downtime;
                }
            }
            Event::Restored(restored) => {
                told.units = units(&restored.units);
                told.previous_units = units(&restored.previous_units);
                told.would_refuse = restored.would_refuse;
                told.expires_at = restored.expires_at.map(|time| time.0);
                told.cause = Cause::Reset;
                key = Some(Key(restored.key.0).to_string());
            }
            Event::PoolReset(reset) => {
                told.cause = Cause::Reset;
                to = Some(reset.to);
            }
            Event::TurnedAway(turned_away) => {
                told.turned_away = Some(TurnedAway {
                    since: turned_away.since.0,
                    refusals: turned_away.refusals,
                    units: turned_away.units[..dimension_count].to_vec(),
                });
            }
            Event::PoolRetired(_) | Event::Swept(_) => {}
        }
        Recorded {
            told,
            kind: kind_of(event),
            key,
            to,
            place: Place::of(recorded, view),
        }
    }

    pub(super) fn form<'a>(&'a self, dimensions: &'a [String]) -> RecordedForm<'a> {
        let mut event = EventForm::new(&self.told, dimensions);
        event.kind = self.kind.to_owned();
        // Told with its version, and once.
        let definition = event.definition.take();
        RecordedForm {
            event,
            key: self.key.as_deref(),
            to: self.to.and_then(|time| format_time(time.0)),
            definition: definition
                .zip(self.told.definition.as_ref())
                .map(|(definition, told)| RecordedDefinition {
                    version: told.version,
                    definition,
                }),
            place: &self.place,
        }
    }

    /// A line: when, what, what it is about, what it leaves.
    pub(super) fn line(&self, dimensions: &[String]) -> String {
        let told = &self.told;
        let at = format_time(told.at).unwrap_or_else(|| "-".to_owned());
        let mut line = format!("{at}  {:<12}", self.kind);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!("  {name}{value}"));
            }
        };
        let named = |values: &Vec<u32>| {
            by_name(&ByDimension {
                dimensions,
                values: values.clone(),
            })
        };
        add("", told.reservation.map(|id| id.to_string()));
        add("", told.units.as_ref().map(named));
        add("before ", told.previous_units.as_ref().map(named));
        add("until ", told.expires_at.and_then(format_time));
        add("back to ", self.to.and_then(|time| format_time(time.0)));
        add(
            "reference ",
            told.reference.as_deref().map(|text| printable(text).into_owned()),
        );
        let cause = match told.cause {
            Cause::Downtime => Some("(downtime)"),
            Cause::Reset if self.to.is_none() => Some("(reset)"),
            _ => None,
        };
        add("", cause.map(str::to_owned));
        add(
            "",
            told.turned_away.as_ref().map(|turned_away| {
                let units = ByDimension {
                    dimensions,
                    values: turned_away.units.clone(),
                };
                format!("{} refused, {}", turned_away.refusals, by_name(&units))
            }),
        );
        add("", told.would_refuse.then(|| "(would be refused)".to_owned()));
        add(
            "",
            told.definition.as_ref().map(|definition| {
                let state = state_of(definition.closed);
                let mode = mode_of(definition.shadow);
                format!(
                    "{state} {mode}, limits {}, version {}",
                    named(&definition.limits),
                    definition.version
                )
            }),
        );
        if let Some(after) = &told.after {
            let counters = |values: &Vec<i64>| {
                by_name(&ByDimension {
                    dimensions,
                    values: values.clone(),
                })
            };
            line.push_str(&format!(
                "  -> held {}, confirmed {}",
                counters(&after.held),
                counters(&after.confirmed)
            ));
        }
        line
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
