//! Reading pools: one, a page, as they were.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::ETAG;
use http::{HeaderValue, StatusCode};
use plimsoll_client::{Client, PastQuery, Pool, PoolsPage, Refusal, Status};
use plimsoll_form::{PoolForm, PoolState, broken_name_rule, etag_of};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Context;
use crate::json_body::reply;
use crate::limits::{PAGE_SIZE_MAX, PAGES_PER_REQUEST_MAX};
use crate::path::Path;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;
use crate::problem_responses::{EngineProblems, IdProblems, PoolMissing, QueryProblems};
use crate::query::{NoQuery, Query, page_size};
use crate::sheet;
use crate::values::Time;

/// A name from a path.
pub(crate) fn name_of(name: &str) -> Result<&str, Problem> {
    match broken_name_rule(name) {
        None => Ok(name),
        Some(rule) => Err(Problem::new(
            ProblemKind::BadId,
            format!("{name:?} is no name of a pool: it {rule}"),
        )),
    }
}

/// Show a pool: its definition, and what is reserved of it.
#[utoipa::path(
    get, path = "/v1/pools/{name}", operation_id = "get_pool", tag = "pools",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", description = "The pool's name")),
    responses(
        (status = 200, description = "The pool now", body = PoolForm, headers(("ETag" = String, description = "Names the definition"))),
        IdProblems, QueryProblems, PoolMissing, EngineProblems,
    ),
)]
pub(crate) async fn get(State(context): State<Context>, Path(name): Path, _: NoQuery) -> Result<Response, Problem> {
    let name = name_of(&name)?;
    let client = context.app.engine.client()?;
    match find(&client, name).await? {
        Some(pool) => Ok(pool_reply(&client, StatusCode::OK, &pool)),
        None => Err(pool_not_found()),
    }
}

pub(crate) async fn find(client: &Client, name: &str) -> Result<Option<Pool>, Problem> {
    client.pool(name).await.map_err(|error| Problem::of_read(&error))
}

pub(crate) fn pool_not_found() -> Problem {
    Problem::refused(&Refusal::new(Status::PoolNotFound))
}

/// A pool with the entity tag of its definition.
pub(crate) fn pool_reply(client: &Client, status: StatusCode, pool: &Pool) -> Response {
    let welcome = client.welcome();
    let mut response = reply(status, &PoolForm::new(pool, &welcome.dimensions));
    if let Ok(etag) = HeaderValue::from_str(&etag_of(pool)) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// Which pools, and when.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// Only those of this zone.
    pub(crate) zone: Option<String>,
    /// Only those of this kind.
    pub(crate) kind: Option<String>,
    /// Only those whose window overlaps what comes from this time on. Unix seconds or RFC 3339.
    #[param(example = "2027-01-04T00:00:00Z")]
    pub(crate) from: Option<Time>,
    /// Only those whose window begins before this time.
    pub(crate) to: Option<Time>,
    /// Only those in this state.
    #[param(inline)]
    pub(crate) state: Option<PoolState>,
    /// Most pools on the page; 100 when it is not said. Of a sheet: all when it is not said.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
    /// From `next` of an earlier page.
    #[param(pattern = "^[A-Za-z0-9._~-]+$")]
    pub(crate) cursor: Option<String>,
    /// `csv`: a sheet that can be edited and imported, of all that match.
    #[param(inline)]
    format: Option<Format>,
    /// As they were after the last event that is not later than this time. Milliseconds are whole: their end.
    #[param(value_type = Option<Time>)]
    as_of: Option<PastTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Csv,
}

/// A time of the past: what is printed with milliseconds means their end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PastTime(i64);

impl<'de> Deserialize<'de> for PastTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = plimsoll_form::parse_time_end(&text).map_err(serde::de::Error::custom)?;
        Ok(PastTime(time))
    }
}

/// A page of pools, by name in byte order.
#[derive(Serialize, ToSchema)]
#[schema(as = PoolsPage)]
pub(crate) struct PoolsPageForm<'a> {
    pools: Vec<PoolForm<'a>>,
    /// For `cursor`; null: there are no more. A page may hold fewer than its limit and still have a next.
    #[schema(required)]
    next: Option<String>,
}

/// List pools, by name in byte order, now or as they were.
#[utoipa::path(
    get, path = "/v1/pools", operation_id = "list_pools", tag = "pools", params(Listing),
    responses(
        (status = 200, description = "A page, or a sheet", content((PoolsPageForm = "application/json"), (String = "text/csv"))),
        QueryProblems, EngineProblems,
    ),
)]
pub(crate) async fn list(State(context): State<Context>, Query(listing): Query<Listing>) -> Result<Response, Problem> {
    let pages = Pages::new(context.app.engine.client()?, &listing)?;
    if listing.format == Some(Format::Csv) {
        let limit = listing.limit.map(|limit| page_size(Some(limit))).transpose()?;
        return sheet::answer(&context, pages, limit)
            .await
            .map(IntoResponse::into_response);
    }
    let limit = page_size(listing.limit)?;
    let mut pages = pages;
    let mut found = Vec::new();
    for _ in 0..PAGES_PER_REQUEST_MAX {
        let room = limit as usize - found.len();
        found.extend(pages.next(room).await?);
        if found.len() >= limit as usize || pages.is_over() {
            break;
        }
    }
    let welcome = pages.client.welcome();
    let page = PoolsPageForm {
        pools: found
            .iter()
            .map(|pool| PoolForm::new(pool, &welcome.dimensions))
            .collect(),
        next: pages.cursor(),
    };
    Ok(reply(StatusCode::OK, &page))
}

/// Pools in the byte order of their names, those that a listing lets pass.
pub(crate) struct Pages {
    pub(crate) client: Client,
    listing: Listing,
    /// The last name that was looked at.
    after: Option<String>,
    is_over: bool,
}

impl Pages {
    fn new(client: Client, listing: &Listing) -> Result<Pages, Problem> {
        let bad_cursor = || Problem::invalid_field("/cursor", "not a cursor that an earlier answer gave");
        let after = match &listing.cursor {
            None => None,
            Some(cursor) => Some(name_of_cursor(cursor).ok_or_else(bad_cursor)?),
        };
        if let (Some(from), Some(to)) = (listing.from, listing.to)
            && to.0 < from.0
        {
            return Err(Problem::invalid_field("/to", "it is before `from`"));
        }
        Ok(Pages {
            client,
            listing: listing.clone(),
            after,
            is_over: false,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes on behind what was looked at.
    fn cursor(&self) -> Option<String> {
        // `~` stands in no name, `:` in no cursor.
        let after = self.after.as_ref().filter(|_| !self.is_over);
        after.map(|name| name.replace(':', "~"))
    }

    /// Looks at one more page of the engine, and gives at most so many of it.
    pub(crate) async fn next(&mut self, room: usize) -> Result<Vec<Pool>, Problem> {
        // A filter lets few pass: then as many as can be had are looked at.
        let size = if self.is_filtered() {
            PAGE_SIZE_MAX
        } else {
            room.clamp(1, PAGE_SIZE_MAX as usize) as u32
        };
        let PoolsPage { mut pools, more } = self.page(size).await?;
        self.is_over = !more;
        if let Some(last) = pools.last() {
            self.after = Some(last.definition.name.clone());
        }
        pools.retain(|pool| self.listing.matches(pool));
        if pools.len() > room {
            pools.truncate(room);
            self.is_over = false;
            self.after = pools.last().map(|last| last.definition.name.clone());
        }
        Ok(pools)
    }

    async fn page(&self, size: u32) -> Result<PoolsPage, Problem> {
        let after = self.after.as_deref();
        let listing = &self.listing;
        let page = match listing.as_of {
            None => self.client.pools(after, size).await,
            Some(PastTime(at)) => {
                let query = PastQuery {
                    at,
                    pool: None,
                    after,
                    zone: listing.zone.as_deref(),
                    kind: listing.kind.as_deref(),
                    limit: size,
                };
                self.client.past_pools(&query).await
            }
        };
        page.map_err(|error| match &error {
            plimsoll_client::Error::Refused(refusal) if refusal.is(Status::Invalid) => {
                Problem::invalid_field("/as_of", refusal.detail.clone().unwrap_or_default())
            }
            error => Problem::of_read(error),
        })
    }

    fn is_filtered(&self) -> bool {
        let listing = &self.listing;
        let labels = listing.as_of.is_none() && (listing.zone.is_some() || listing.kind.is_some());
        labels || listing.from.is_some() || listing.to.is_some() || listing.state.is_some()
    }
}

impl Listing {
    fn matches(&self, pool: &Pool) -> bool {
        let definition = &pool.definition;
        let is_label = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        let from = self.from.is_none_or(|from| definition.ends_at > from.0);
        let to = self.to.is_none_or(|to| definition.starts_at < to.0);
        let state = self
            .state
            .is_none_or(|state| definition.closed == (state == PoolState::Closed));
        is_label(&self.zone, &definition.zone) && is_label(&self.kind, &definition.kind) && from && to && state
    }
}

fn name_of_cursor(cursor: &str) -> Option<String> {
    let name = cursor.replace('~', ":");
    (!cursor.contains(':') && broken_name_rule(&name).is_none()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_name_in_other_letters() {
        assert_eq!(name_of_cursor("a~b.c-d_e").as_deref(), Some("a:b.c-d_e"));
        for wrong in ["", "a:b", "~a", "a b", "import"] {
            assert_eq!(name_of_cursor(wrong), None, "{wrong}");
        }
    }
}
