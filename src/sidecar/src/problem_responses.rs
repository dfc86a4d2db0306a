//! The problems that calls may answer with, for the OpenAPI document.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::problem::ProblemDocument;

fn response(description: &str) -> Response {
    let problem = Ref::from_schema_name(ProblemDocument::name());
    ResponseBuilder::new()
        .description(description)
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(problem)).build(),
        )
        .build()
}

/// A list of statuses with what they mean.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: [$($status:literal $description:literal),* $(,)?];)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$(($status.to_owned(), RefOr::T(response($description)))),*])
            }
        }
    )*};
}

problems! {
    /// What every call that asks the engine may answer with.
    EngineProblems: [
        "429" "`overloaded`: not applied; again after Retry-After",
        "500" "`internal`, `history-damaged`, and of changes of several pools `partly-applied`",
        "503" "`unavailable`: not applied; again after Retry-After",
    ];
    /// What a change may answer with beside these.
    ChangeProblems: [
        "504" "`outcome-unknown`: it may have been applied; again, with the same key",
    ];
    /// What a call with a body may answer with.
    BodyProblems: [
        "400" "`not-json`, `bad-header`, `bad-id`, `key-missing`",
        "408" "`timeout`: the body did not arrive",
        "413" "`too-large`",
        "415" "`unsupported-media-type`",
        "422" "`invalid`, `key-reused`, `unsupported`: `errors` names the fields",
    ];
    /// What a call with an id or a name in its path may answer with.
    IdProblems: [
        "400" "`bad-id`, `bad-header`",
    ];
    /// What a call with parameters may answer with.
    QueryProblems: [
        "413" "`too-large`",
        "422" "`invalid`: `errors` names the parameters",
    ];
    /// On an address that does not tell exact numbers.
    AdminProblems: [
        "403" "`admin-only`: exact numbers are told on the other address (--admin)",
    ];
    /// No such pool.
    PoolMissing: [
        "404" "`pool-not-found`",
    ];
    /// No such reservation.
    ReservationMissing: [
        "404" "`reservation-not-found`",
    ];
    /// Why units are not taken.
    Conflicts: [
        "409" "`insufficient-capacity`, `pool-closed`, `reservation-ended`, `not-held`",
    ];
    /// The reservation's time is over.
    Gone: [
        "410" "`hold-expired`",
    ];
    /// Somebody else was first.
    Changed: [
        "412" "`changed-meanwhile`: `etag` and `current` say what stands",
    ];
}
