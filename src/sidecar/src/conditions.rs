//! `If-Match` and `If-None-Match`: whether a change still applies to what its maker saw.

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use plimsoll_client::Pool;
use plimsoll_form::{PoolForm, etag_of};

use crate::problem::Problem;
use crate::problem_kind::ProblemKind;

/// What a request asks of the definition that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

/// `*`, or some entity tags.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl Conditions {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Conditions, Problem> {
        Ok(Conditions {
            matches: tags_of_header(headers, &IF_MATCH)?,
            none_matches: tags_of_header(headers, &IF_NONE_MATCH)?,
        })
    }

    /// The same from texts that would stand in the headers, or the name of the one that is not [`EXPECTED`].
    pub(crate) fn of_texts(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Conditions, &'static str> {
        let tags = |name, text: Option<&str>| text.map(|text| tags_of(text).ok_or(name)).transpose();
        Ok(Conditions {
            matches: tags("if_match", if_match)?,
            none_matches: tags("if_none_match", if_none_match)?,
        })
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// Whether all that is asked is that there be no such pool.
    pub(crate) fn is_for_new(&self) -> bool {
        self.matches.is_none() && self.none_matches == Some(Tags::Any)
    }

    /// Whether it holds of what stands.
    pub(crate) fn hold(&self, current: Option<&Pool>) -> bool {
        let is_among = |tags: &Tags| match (tags, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(pool)) => tags.contains(&etag_of(pool)),
        };
        self.matches.as_ref().is_none_or(is_among) && !self.none_matches.as_ref().is_some_and(is_among)
    }
}

/// The problem of a change that was made from something else than what stands.
pub(crate) fn changed_meanwhile(current: Option<&Pool>, dimensions: &[String]) -> Problem {
    let detail = match current {
        Some(_) => "the definition that stands is not the one that the change was made from",
        None => "there is no such pool",
    };
    Problem::new(ProblemKind::ChangedMeanwhile, detail)
        .with_etag(current.map(etag_of))
        .with("current", current.map(|pool| PoolForm::new(pool, dimensions)))
}

pub(crate) const EXPECTED: &str = "expected an ETag such as \"1f-7\", several separated by commas, or *";

fn tags_of_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut found: Option<Tags> = None;
    for value in headers.get_all(name) {
        let tags = value.to_str().ok().and_then(tags_of);
        let tags = tags.ok_or_else(|| Problem::new(ProblemKind::BadHeader, format!("{name}: {EXPECTED}")))?;
        found = Some(match (found, tags) {
            (None, tags) => tags,
            (Some(Tags::These(mut known)), Tags::These(more)) => {
                known.extend(more);
                Tags::These(known)
            }
            _ => Tags::Any,
        });
    }
    Ok(found)
}

/// Bare tags are taken as quoted ones. A weak one matches nothing, since changes are compared strongly.
fn tags_of(text: &str) -> Option<Tags> {
    if text.trim() == "*" {
        return Some(Tags::Any);
    }
    let is_bare = |tag: &str| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    let mut tags = Vec::new();
    for tag in text.split(',').map(str::trim) {
        let quoted = tag.strip_prefix("W/").unwrap_or(tag);
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(inner) if !inner.contains('"') => tags.push(tag.to_owned()),
            None if is_bare(tag) => tags.push(format!("\"{tag}\"")),
            _ => return None,
        }
    }
    Some(Tags::These(tags))
}

#[cfg(test)]
mod tests {
    use plimsoll_client::{PoolDefinition, PoolId};

    use super::*;

    fn pool() -> Pool {
        Pool {
            id: PoolId(0x1f),
            definition: PoolDefinition {
                version: 7,
                ..PoolDefinition::new("a", vec![1])
            },
            held: vec![0],
            confirmed: vec![0],
        }
    }

    fn check(if_match: Option<&str>, if_none_match: Option<&str>, there: bool, absent: bool) {
        let conditions = Conditions::of_texts(if_match, if_none_match).unwrap();
        assert_eq!(conditions.hold(Some(&pool())), there, "{if_match:?} {if_none_match:?}");
        assert_eq!(conditions.hold(None), absent, "{if_match:?} {if_none_match:?}");
    }

    #[test]
    fn conditions_hold_of_what_stands() {
        check(None, None, true, true);
        check(Some("\"1f-7\""), None, true, false);
        check(Some("1f-7"), None, true, false);
        check(Some("\"1f-6\", \"1f-7\""), None, true, false);
        check(Some("\"1f-6\""), None, false, false);
        check(Some("W/\"1f-7\""), None, false, false);
        check(Some("*"), None, true, false);
        check(None, Some("*"), false, true);
        check(None, Some("\"1f-7\""), false, true);
        check(None, Some("\"1f-6\""), true, true);
        for wrong in ["", "\"a", "a b", "a\"b", "\"a\"b\"", ",", "ä"] {
            assert!(Conditions::of_texts(Some(wrong), None).is_err(), "{wrong}");
        }
    }
}
