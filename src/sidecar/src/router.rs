//! Which path leads where, on which address.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Uri};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Audience, Context};
use crate::document::Document;
use crate::problem::{Problem, ProblemDocument};
use crate::problem_kind::ProblemKind;
use crate::{
    availability, batch, changes, events, import, metrics, observe, page, pool_changes, pool_edits, pool_events, pools,
    probes, problem_pages, reservations, samples, settings,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Plimsoll", description = "Capacity that is never sold twice: pools with limits, reservations that are durable when they are acknowledged.", license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")),
    servers((url = "/", description = "Where this document was read")),
    components(schemas(ProblemDocument)),
    tags(
        (name = "reservations", description = "Taking units, for good or for a while, and giving them back"),
        (name = "availability", description = "What can be sold"),
        (name = "pools", description = "What there is to sell: for planners"),
        (name = "service", description = "How the service does"),
    ),
)]
struct Base;

/// The routers of the two addresses.
pub(crate) struct Routers {
    /// Everything, or with an address for administration what callers need.
    pub(crate) listen: Router,
    /// Everything, at the address for administration.
    pub(crate) admin: Router,
}

pub(crate) fn routers(app: &Arc<App>) -> Routers {
    let is_split = app.options.admin.is_some();
    let document = Arc::new(Document::new(general()));
    let all = Context {
        app: Arc::clone(app),
        audience: Audience { exact: true },
    };
    let restricted = Context {
        app: Arc::clone(app),
        audience: Audience { exact: false },
    };
    let admin = finish(callers().merge(planners()), &all, &document);
    let listen = match is_split {
        true => finish(callers(), &restricted, &document),
        false => finish(callers().merge(planners()), &all, &document),
    };
    Routers { listen, admin }
}

/// What callers need.
fn callers() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(Base::openapi())
        .routes(routes!(availability::post, availability::get))
        .routes(routes!(reservations::reserve, reservations::search))
        .routes(routes!(batch::batch))
        .routes(routes!(reservations::get, changes::delete, changes::resize))
        .routes(routes!(changes::confirm))
        .routes(routes!(changes::release))
        .routes(routes!(settings::get))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(problem_pages::get))
}

/// What planners need beside it.
fn planners() -> OpenApiRouter<Context> {
    use pool_changes::a_pool_of_this_name;

    OpenApiRouter::new()
        .routes(routes!(pools::list))
        .routes(routes!(import::import))
        .routes(routes!(
            pool_changes::change,
            a_pool_of_this_name::get,
            a_pool_of_this_name::put,
            a_pool_of_this_name::patch
        ))
        .routes(routes!(pools::get, pool_edits::put, pool_edits::patch))
        .routes(routes!(pool_events::list))
        .routes(routes!(events::follow))
        .routes(routes!(samples::get))
        .routes(routes!(metrics::get))
        .route("/", get(page::index))
        .route("/page/{*path}", get(page::get))
}

/// The document of everything, which both addresses give, whatever the dimensions are.
pub(crate) fn general() -> utoipa::openapi::OpenApi {
    callers().merge(planners()).into_openapi()
}

fn finish(router: OpenApiRouter<Context>, context: &Context, document: &Arc<Document>) -> Router {
    let (router, _) = router.split_for_parts();
    let document = Arc::clone(document);
    router
        .route(
            "/openapi.json",
            get(async move |State(context): State<Context>| openapi(&context, &document)),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(context.clone(), observe::observe))
        .with_state(context.clone())
}

fn openapi(context: &Context, document: &Document) -> Response {
    // Until an engine has answered, nobody knows its dimensions.
    let dimensions = context.app.engine.client().map(|client| client.dimensions());
    let mut response = Response::new(document.text(&dimensions.unwrap_or_default()).into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} does not go with {}", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}
