//! Many commands in one call: they travel in one frame, so that those on one pool keep their order.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use plimsoll_client::{
    Batch, Client, Decided, Error, Key, PoolId, PoolRef, Refusal, ReservationDetails, ReservationId, Reserve, Status,
    Units, protocol,
};
use plimsoll_form::ReservationForm;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::Context;
use crate::document::SomeUnits;
use crate::json_body::{JsonBody, invalid_in, reply};
use crate::limits::BATCH_COMMAND_COUNT_MAX;
use crate::pointer;
use crate::problem::{FieldError, Problem, ProblemDocument};
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{BodyProblems, ChangeProblems, EngineProblems};
use crate::reservations::{details_of, key_of, outcome_unknown, refused};
use crate::values::{HoldSeconds, PoolName, Reference, Time, UnitsMap, some_in_order};

/// Commands in their order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch)]
pub(crate) struct BatchBody {
    #[schema(value_type = Vec<CommandForm>, min_items = 1, max_items = 1000)]
    commands: Vec<CommandBody>,
}

/// One command; which fields go with it, `op` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandBody {
    op: Op,
    pool: Option<PoolName>,
    units: Option<UnitsMap>,
    key: Option<String>,
    hold_seconds: Option<HoldSeconds>,
    reference: Option<Reference>,
    reservation: Option<String>,
    occurred_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Reserve,
    Confirm,
    Release,
}

/// One command.
#[derive(Serialize, ToSchema)]
#[serde(tag = "op", rename_all = "lowercase")]
#[schema(as = Command)]
#[expect(
    dead_code,
    reason = "it tells the OpenAPI document what `CommandBody` takes for each `op`"
)]
enum CommandForm {
    /// Take units from a pool.
    Reserve {
        #[schema(value_type = PoolName)]
        pool: String,
        #[schema(value_type = SomeUnits)]
        units: String,
        /// The idempotency key.
        #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")]
        key: String,
        /// How long it is held; without it, it is confirmed at once.
        #[schema(value_type = Option<HoldSeconds>)]
        hold_seconds: Option<u32>,
        #[schema(value_type = Option<Reference>)]
        reference: Option<String>,
        #[schema(value_type = Option<Time>)]
        occurred_at: Option<String>,
    },
    /// Make a hold permanent.
    Confirm {
        #[schema(pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$")]
        reservation: String,
        #[schema(value_type = Option<Time>)]
        occurred_at: Option<String>,
    },
    /// Give units back.
    Release {
        #[schema(pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$")]
        reservation: String,
        #[schema(value_type = Option<Time>)]
        occurred_at: Option<String>,
    },
}

/// What became of each command, in their order.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResults<'a> {
    results: Vec<BatchResult<'a>>,
}

/// What became of a command: either a reservation, or a problem.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult<'a> {
    /// The status that the command would have had by itself.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// An earlier attempt with the same key took effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reservation: Option<ReservationForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<ProblemDocument>,
}

/// A command whose values are sound.
enum Asked<'a> {
    Reserve {
        pool: &'a str,
        units: Vec<u32>,
        key: Key,
        hold: Option<HoldSeconds>,
        reference: Option<&'a str>,
        occurred_at: Option<i64>,
    },
    Confirm(ReservationId, Option<i64>),
    Release(ReservationId, Option<i64>),
}

/// Reserve, confirm and release many at once.
///
/// Up to 1,000 commands; each has a result of its own. Those on the same pool take effect in their order. The whole call is 200 when the commands were
/// sent; with 504, send it again: every reserve has its key.
#[utoipa::path(
    post, path = "/v1/reservations/batch", operation_id = "send_batch", tag = "reservations", request_body = BatchBody,
    responses((status = 200, description = "A result for each", body = BatchResults), BodyProblems, EngineProblems, ChangeProblems),
)]
pub(crate) async fn batch(
    State(context): State<Context>,
    JsonBody { value: body, bytes }: JsonBody<BatchBody>,
) -> Result<Response, Problem> {
    let count = body.commands.len();
    if !(1..=BATCH_COMMAND_COUNT_MAX).contains(&count) {
        let detail = format!("expected 1 to {BATCH_COMMAND_COUNT_MAX} commands, found {count}");
        return Err(Problem::invalid_field("/commands", detail));
    }
    let client = context.app.engine.client()?;
    let welcome = client.welcome();
    let dimensions = &welcome.dimensions;
    let asked = checked(&body.commands, dimensions).map_err(|errors| invalid_in(&bytes, errors))?;
    let decided = send(&client, &asked).await?;
    let details = details(&client, &asked, &decided).await;
    let results = decided.iter().zip(&asked).zip(&details);
    let results =
        results.map(|((decided, asked), details)| result(&context, decided, asked, details.as_ref(), dimensions));
    let results = BatchResults {
        results: results.collect(),
    };
    Ok(reply(StatusCode::OK, &results))
}

/// All commands, or all that is wrong with them.
fn checked<'a>(commands: &'a [CommandBody], dimensions: &[String]) -> Result<Vec<Asked<'a>>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut asked = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        let place = format!("/commands/{index}");
        match check(command, dimensions, &place) {
            Ok(command) => asked.push(command),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(asked) } else { Err(errors) }
}

fn check<'a>(command: &'a CommandBody, dimensions: &[String], place: &str) -> Result<Asked<'a>, Vec<FieldError>> {
    let wrong = |field, detail: String| {
        vec![FieldError {
            pointer: pointer::to(place, field),
            detail,
        }]
    };
    let missing = |field| wrong(field, format!("missing field `{field}`"));
    let is_reserve = command.op == Op::Reserve;
    // Each field, whether it is there, and whether it may be.
    let fields = [
        ("pool", command.pool.is_some(), is_reserve),
        ("units", command.units.is_some(), is_reserve),
        ("key", command.key.is_some(), is_reserve),
        ("hold_seconds", command.hold_seconds.is_some(), is_reserve),
        ("reference", command.reference.is_some(), is_reserve),
        ("reservation", command.reservation.is_some(), !is_reserve),
    ];
    if let Some((field, ..)) = fields.iter().find(|(_, is_there, may_be)| *is_there && !may_be) {
        return Err(wrong(field, format!("`{field}` does not go with this `op`")));
    }
    let occurred_at = command.occurred_at.map(|time| time.0);
    if is_reserve {
        let units = command.units.as_ref().ok_or_else(|| missing("units"))?;
        let key = command.key.as_ref().ok_or_else(|| missing("key"))?;
        return Ok(Asked::Reserve {
            pool: &command.pool.as_ref().ok_or_else(|| missing("pool"))?.0,
            units: some_in_order(units, dimensions, &pointer::to(place, "units"))?,
            key: key_of(key).map_err(|error| wrong("key", error.to_string()))?,
            hold: command.hold_seconds,
            reference: command.reference.as_ref().map(|reference| reference.0.as_str()),
            occurred_at,
        });
    }
    let id = command.reservation.as_ref().ok_or_else(|| missing("reservation"))?;
    let id = id
        .parse()
        .map_err(|error| wrong("reservation", format!("not an id: {error}")))?;
    Ok(match command.op {
        Op::Confirm => Asked::Confirm(id, occurred_at),
        _ => Asked::Release(id, occurred_at),
    })
}

/// Sends the commands, and looks at what became of them.
async fn send(client: &Client, asked: &[Asked<'_>]) -> Result<Vec<Decided>, Problem> {
    let mut is_sent = false;
    let decided = send_frames(client, asked, &mut is_sent).await;
    decided.map_err(|problem| match is_sent {
        false => problem,
        true => Problem::new(
            ProblemKind::OutcomeUnknown,
            "the first of the commands have an outcome, the others may have one; send all of them again",
        ),
    })
}

/// Sends the commands, in as few frames as hold them, one after the other; says whether one has been answered.
async fn send_frames(client: &Client, asked: &[Asked<'_>], is_sent: &mut bool) -> Result<Vec<Decided>, Problem> {
    let ids = pool_ids(client, asked).await?;
    let mut decided: Vec<Decided> = Vec::with_capacity(asked.len());
    let mut batch = client.new_batch();
    let mut sent = Vec::new();
    for (index, command) in asked.iter().enumerate() {
        if let Asked::Reserve { pool, .. } = command
            && !ids.contains_key(pool)
        {
            decided.push(Decided::Refused(Refusal::new(Status::PoolNotFound)));
            continue;
        }
        // A placeholder, until the frame has been answered.
        decided.push(Decided::Refused(Refusal::new(Status::Unavailable)));
        if push(&mut batch, command, &ids).is_err() {
            batch = answered(client, batch, &mut sent, &mut decided).await?;
            *is_sent = true;
            batch.clear();
            if let Err(error) = push(&mut batch, command, &ids) {
                return Err(Problem::invalid_field(format!("/commands/{index}"), error.to_string()));
            }
        }
        sent.push(index);
    }
    if !batch.is_empty() {
        answered(client, batch, &mut sent, &mut decided).await?;
    }
    again_by_name(client, asked, &ids, &mut decided).await;
    Ok(decided)
}

/// The ids of the pools that are named, where there are such pools.
async fn pool_ids<'a>(client: &Client, asked: &[Asked<'a>]) -> Result<HashMap<&'a str, PoolId>, Problem> {
    let mut names: Vec<&str> = asked
        .iter()
        .filter_map(|command| match command {
            Asked::Reserve { pool, .. } => Some(*pool),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let ids = client.resolve(&names).await.map_err(|error| Problem::of_read(&error))?;
    Ok(names
        .into_iter()
        .zip(ids)
        .filter_map(|(name, id)| Some((name, id?)))
        .collect())
}

fn push(batch: &mut Batch, command: &Asked<'_>, ids: &HashMap<&str, PoolId>) -> Result<(), plimsoll_client::BatchFull> {
    match command {
        Asked::Reserve {
            pool,
            units,
            key,
            hold,
            reference,
            occurred_at,
        } => {
            let reserve = protocol::Reserve {
                pool: ids[pool],
                key: *key,
                hold_seconds: hold.map_or(0, HoldSeconds::seconds),
                occurred_at: *occurred_at,
            };
            batch.push_reserve(reserve, units, *reference)
        }
        Asked::Confirm(id, occurred_at) => batch.push_confirm(*id, *occurred_at),
        Asked::Release(id, occurred_at) => batch.push_release(*id, *occurred_at),
    }
}

/// Sends a frame, and puts its outcomes in the places of its commands.
async fn answered(
    client: &Client,
    batch: Batch,
    sent: &mut Vec<usize>,
    decided: &mut [Decided],
) -> Result<Batch, Problem> {
    match client.batch(batch).await {
        Ok(outcome) => {
            for (index, found) in sent.drain(..).zip(outcome.decided()) {
                decided[index] = found;
            }
            Ok(outcome.into_batch())
        }
        Err(error) => Err(Problem::of_change(&error.error)),
    }
}

/// A remembered id of a pool may be void: then the name is asked for once more, by a call of its own.
async fn again_by_name(client: &Client, asked: &[Asked<'_>], ids: &HashMap<&str, PoolId>, decided: &mut [Decided]) {
    for (command, decided) in asked.iter().zip(decided) {
        let is_void = matches!(decided, Decided::Refused(refusal) if refusal.is(Status::PoolNotFound));
        let Asked::Reserve {
            pool,
            units,
            key,
            hold,
            reference,
            occurred_at,
        } = command
        else {
            continue;
        };
        if !is_void || !ids.contains_key(pool) {
            continue;
        }
        let reserve = Reserve {
            pool: PoolRef::Name(pool),
            units: Units::InOrder(units),
            key: *key,
            hold: hold.map(HoldSeconds::duration),
            reference: *reference,
            occurred_at: *occurred_at,
        };
        *decided = match client.reserve(&reserve).await {
            Ok(plimsoll_client::Reserving::Reserved(reservation)) => Decided::Applied(reservation),
            Ok(plimsoll_client::Reserving::Refused(refusal)) => Decided::Refused(refusal),
            Ok(plimsoll_client::Reserving::Unknown(unknown)) | Err(Error::Unknown(unknown)) => {
                Decided::Unknown(unknown)
            }
            Err(_) => Decided::Refused(Refusal::new(Status::Unavailable)),
        };
    }
}

/// What the reservations are now: a new one as asked for, the others looked up together; nothing where that fails.
async fn details(client: &Client, asked: &[Asked<'_>], decided: &[Decided]) -> Vec<Option<ReservationDetails>> {
    let mut wanted: Vec<ReservationId> = Vec::new();
    let mut details: Vec<Option<ReservationDetails>> = asked
        .iter()
        .zip(decided)
        .map(|(command, decided)| match (command, decided) {
            (
                Asked::Reserve {
                    pool, units, reference, ..
                },
                Decided::Applied(reservation),
            ) => {
                if reservation.repeated {
                    wanted.push(reservation.id);
                    return None;
                }
                Some(details_of(reservation, pool, units, *reference))
            }
            (_, Decided::Applied(reservation)) => {
                wanted.push(reservation.id);
                None
            }
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return details;
    }
    if let Ok(found) = client.reservations(&wanted).await {
        let by_id: HashMap<_, _> = found.into_iter().map(|found| (found.id, found)).collect();
        for (details, decided) in details.iter_mut().zip(decided) {
            if let (None, Decided::Applied(reservation)) = (&details, decided) {
                *details = by_id.get(&reservation.id).cloned();
            }
        }
    }
    details
}

fn result<'a>(
    context: &Context,
    decided: &Decided,
    asked: &Asked<'_>,
    details: Option<&'a ReservationDetails>,
    dimensions: &'a [String],
) -> BatchResult<'a> {
    let problem = match decided {
        Decided::Applied(_) if details.is_none() => Problem::unseen(),
        Decided::Applied(reservation) => {
            let is_new = matches!(asked, Asked::Reserve { .. }) && !reservation.repeated;
            return BatchResult {
                status: if is_new { 201 } else { 200 },
                replayed: matches!(asked, Asked::Reserve { .. }) && reservation.repeated,
                reservation: details.map(|details| ReservationForm::new(details, dimensions)),
                problem: None,
            };
        }
        Decided::Refused(refusal) => match asked {
            Asked::Reserve { units, .. } => refused(refusal, context, units, dimensions),
            _ => Problem::refused(refusal),
        },
        Decided::Unknown(unknown) => outcome_unknown(unknown),
    };
    BatchResult {
        status: problem.status().as_u16(),
        replayed: false,
        reservation: None,
        problem: Some(problem.document().clone()),
    }
}
