//! Query strings: no parameter is unknown, none stands twice.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, QUERY_SIZE_BYTES_MAX};
use crate::pointer;
use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// The parameters of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

/// That a request has no parameters, since none go with it: one that is passed over might have been meant to matter.
pub(crate) struct NoQuery;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Nothing {} = parse(parts.uri.query().unwrap_or_default())?;
        Ok(NoQuery)
    }
}

pub(crate) fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    if query.len() > QUERY_SIZE_BYTES_MAX {
        let detail = format!(
            "a query has at most {QUERY_SIZE_BYTES_MAX} bytes, found {}",
            query.len()
        );
        return Err(Problem::new(ProblemKind::TooLarge, detail));
    }
    let deserializer = serde_html_form::Deserializer::from_bytes(query.as_bytes());
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let mut place = String::new();
        for segment in error.path() {
            if let Segment::Map { key } = segment {
                pointer::push(&mut place, key);
            }
        }
        let text = error.into_inner().to_string();
        // The reader's words for a list where there can be one value.
        let is_repeated = text == "unsupported value";
        let detail = if is_repeated {
            "it stands there twice".to_owned()
        } else {
            text
        };
        Problem::invalid_field(place, detail)
    })
}

/// How many items a page has.
pub(crate) fn page_size(limit: Option<u32>) -> Result<u32, Problem> {
    match limit {
        None => Ok(PAGE_SIZE_DEFAULT),
        Some(limit @ 1..=PAGE_SIZE_MAX) => Ok(limit),
        Some(limit) => Err(Problem::invalid_field(
            "/limit",
            format!("expected 1 to {PAGE_SIZE_MAX}, found {limit}"),
        )),
    }
}

/// A cursor of the engine, which is text of letters that need no escaping.
pub(crate) fn cursor(text: Option<&str>) -> Result<Option<&str>, Problem> {
    let is_sound = |text: &str| {
        (1..=1024).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
    };
    match text {
        Some(text) if !is_sound(text) => Err(Problem::invalid_field(
            "/cursor",
            "not a cursor that an earlier answer gave",
        )),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Time;

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    #[serde(deny_unknown_fields)]
    struct Ask {
        zone: Option<String>,
        from: Option<Time>,
        limit: Option<u32>,
    }

    fn check_wrong(query: &str, pointer: &str) {
        let problem = parse::<Ask>(query).unwrap_err();
        assert_eq!(problem.status().as_u16(), 422, "{query}");
        assert_eq!(problem.errors()[0].pointer, pointer, "{query}: {problem:?}");
    }

    #[test]
    fn parameters_are_values_or_errors() {
        let ask: Ask = parse("zone=n%C3%B6rth&from=2015-07-01T14%3A00%3A00Z&limit=7").unwrap();
        let expected = Ask {
            zone: Some("nörth".into()),
            from: Some(Time(1_435_759_200_000_000)),
            limit: Some(7),
        };
        assert_eq!(ask, expected);
        assert_eq!(parse::<Ask>("from=5").unwrap().from, Some(Time(5_000_000)));
        check_wrong("limit=x", "/limit");
        check_wrong("limit=-1", "/limit");
        check_wrong("limit=1&limit=2", "/limit");
        let problem = parse::<Ask>("zone=a&zone=b").unwrap_err();
        assert_eq!(problem.errors()[0].detail, "it stands there twice");
        check_wrong("from=soon", "/from");
        check_wrong("colour=red", "/colour");
    }

    #[test]
    fn pages_have_bounds() {
        assert_eq!(page_size(None).unwrap(), 100);
        assert_eq!(page_size(Some(1000)).unwrap(), 1000);
        assert!(page_size(Some(0)).is_err() && page_size(Some(1001)).is_err());
        assert!(cursor(Some("a b")).is_err() && cursor(Some("")).is_err() && cursor(Some("aZ9._~-")).is_ok());
    }
}
