//! What a planner says of a pool: read from a whole definition or merged from a patch.

use plimsoll_client::PoolDefinition;
use plimsoll_client::protocol::CLOSES_AT_NEVER;
use plimsoll_form::{PoolMode, PoolState, broken_definition_rules, mode_of, state_of};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::document::{AllUnits, AnyUnits};
use crate::pointer;
use crate::problem::FieldError;
use crate::strict_json::Strict;
use crate::values::{TIME_MAX, Time, UnitsMap};

/// The definition of a pool.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Definition)]
pub(crate) struct DefinitionBody {
    /// Where it applies.
    #[schema(min_length = 1, max_length = 64)]
    zone: String,
    /// What sort of capacity it is.
    #[schema(min_length = 1, max_length = 64)]
    kind: String,
    /// From when it is used; it gates nothing.
    starts_at: Time,
    /// Until when it is used, not before `starts_at`; it gates nothing.
    ends_at: Time,
    /// The limit in every dimension.
    #[schema(value_type = AllUnits)]
    limits: UnitsMap,
    /// From when it sells; always when it is not said.
    opens_at: Option<Time>,
    /// Until when it sells; for ever when it is not said.
    closes_at: Option<Time>,
    /// Prefixes of the locations that it serves.
    #[schema(max_items = 1024)]
    coverage: Option<Vec<String>>,
    /// Whether it sells; `open` when it is not said.
    state: Option<PoolState>,
    /// What happens to a reserve past the ceiling; `enforce` when it is not said.
    mode: Option<PoolMode>,
    /// The overbooking allowance by dimension; 0 where it is not said.
    #[schema(value_type = Option<AnyUnits>)]
    overbook: Option<UnitsMap>,
}

/// An RFC 7396 patch of a definition: what is named changes, null takes away, the rest stays.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct DefinitionPatch(Map<String, Value>);

impl<'de> Deserialize<'de> for DefinitionPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)?.0 {
            Value::Object(fields) => Ok(DefinitionPatch(fields)),
            _ => Err(serde::de::Error::custom("a patch of a definition is an object")),
        }
    }
}

impl DefinitionBody {
    /// The definition of the pool of this name, of any version, or all that is wrong with it, with pointers below `place`.
    pub(crate) fn read(
        &self,
        name: &str,
        dimensions: &[String],
        place: &str,
    ) -> Result<PoolDefinition, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut units = |field: &str, units: Option<&UnitsMap>, is_whole: bool| {
            let place = pointer::to(place, field);
            let values = match units {
                None => vec![0; dimensions.len()],
                Some(units) => crate::values::in_order(units, dimensions, &place).unwrap_or_else(|found| {
                    errors.extend(found);
                    vec![0; dimensions.len()]
                }),
            };
            let is_named =
                |dimension: &String| units.is_some_and(|units| units.0.iter().any(|(name, _)| name == dimension));
            for dimension in dimensions.iter().filter(|dimension| is_whole && !is_named(dimension)) {
                errors.push(FieldError {
                    pointer: pointer::to(&place, dimension),
                    detail: "the dimension is missing".to_owned(),
                });
            }
            values
        };
        let limits = units("limits", Some(&self.limits), true);
        let overbook = units("overbook", self.overbook.as_ref(), false);
        let definition = PoolDefinition {
            name: name.to_owned(),
            zone: self.zone.clone(),
            kind: self.kind.clone(),
            starts_at: self.starts_at.0,
            ends_at: self.ends_at.0,
            opens_at: self.opens_at.map_or(0, |time| time.0),
            closes_at: self.closes_at.map_or(CLOSES_AT_NEVER, |time| time.0),
            coverage: self.coverage.clone().unwrap_or_default(),
            closed: self.state == Some(PoolState::Closed),
            shadow: self.mode == Some(PoolMode::Shadow),
            limits,
            overbook,
            version: 0,
        };
        errors.extend(broken_definition_rules(&definition).into_iter().map(|broken| {
            let field = pointer::to(place, broken.field);
            let pointer = match broken.dimension.and_then(|dimension| dimensions.get(dimension)) {
                Some(dimension) => pointer::to(&field, dimension),
                None => field,
            };
            FieldError {
                pointer,
                detail: broken.rule.to_owned(),
            }
        }));
        if errors.is_empty() { Ok(definition) } else { Err(errors) }
    }
}

impl DefinitionPatch {
    /// What is wrong with it whatever it is a patch of.
    pub(crate) fn check(&self, dimensions: &[String], place: &str) -> Result<(), Vec<FieldError>> {
        let anything = PoolDefinition {
            zone: "any".to_owned(),
            kind: "any".to_owned(),
            ends_at: TIME_MAX,
            ..PoolDefinition::new("any", vec![0; dimensions.len()])
        };
        self.apply(&anything, dimensions, place).map(drop)
    }

    /// The definition that stands, changed by the patch. What the patch does not name stays exactly as it is.
    pub(crate) fn apply(
        &self,
        current: &PoolDefinition,
        dimensions: &[String],
        place: &str,
    ) -> Result<PoolDefinition, Vec<FieldError>> {
        let patch = &self.0;
        let mut merged = Value::Object(as_body(current, dimensions));
        merge(&mut merged, &Value::Object(patch.clone()));
        let body: DefinitionBody = match serde_path_to_error::deserialize(merged) {
            Ok(body) => body,
            Err(error) => return Err(vec![crate::json_body::field_error(&error, place)]),
        };
        let read = body.read(&current.name, dimensions, place)?;
        // A time that was read is exact to the microsecond, one that was printed to the millisecond.
        let time = |name: &str, merged: i64, current: i64| if patch.contains_key(name) { merged } else { current };
        Ok(PoolDefinition {
            starts_at: time("starts_at", read.starts_at, current.starts_at),
            ends_at: time("ends_at", read.ends_at, current.ends_at),
            opens_at: time("opens_at", read.opens_at, current.opens_at),
            closes_at: time("closes_at", read.closes_at, current.closes_at),
            version: current.version,
            ..read
        })
    }
}

/// A definition as a body would say it.
fn as_body(definition: &PoolDefinition, dimensions: &[String]) -> Map<String, Value> {
    let by_name = |values: &[u32]| -> Value {
        let pairs = dimensions.iter().zip(values);
        pairs
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect::<Map<_, _>>()
            .into()
    };
    let time = |time: i64| plimsoll_form::format_time(time);
    let value = json!({
        "zone": definition.zone,
        "kind": definition.kind,
        "starts_at": time(definition.starts_at),
        "ends_at": time(definition.ends_at),
        "opens_at": time(definition.opens_at),
        "closes_at": time(definition.closes_at),
        "coverage": definition.coverage,
        "state": state_of(definition.closed),
        "mode": mode_of(definition.shadow),
        "limits": by_name(&definition.limits),
        "overbook": by_name(&definition.overbook),
    });
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// RFC 7396, which is as deep as the patch is, and that has at most 128 levels.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            match value {
                Value::Null => {
                    target.remove(name);
                }
                value => merge(target.entry(name.clone()).or_insert(Value::Null), value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions() -> Vec<String> {
        vec!["rooms".into(), "guests".into()]
    }

    fn current() -> PoolDefinition {
        PoolDefinition {
            zone: "z".into(),
            kind: "k".into(),
            starts_at: 1_234_567,
            ends_at: 9_999_999,
            coverage: vec!["10".into()],
            overbook: vec![0, 3],
            version: 7,
            ..PoolDefinition::new("a", vec![5, 6])
        }
    }

    fn patched(patch: &str) -> Result<PoolDefinition, Vec<(String, String)>> {
        let patch: DefinitionPatch = serde_json::from_str(patch).unwrap();
        patch
            .apply(&current(), &dimensions(), "")
            .map_err(|errors| errors.into_iter().map(|error| (error.pointer, error.detail)).collect())
    }

    #[test]
    fn what_a_patch_does_not_name_stays_exactly() {
        assert_eq!(patched("{}").unwrap(), current());
        let some = patched(
            r#"{"limits": {"guests": 0}, "overbook": null, "closes_at": 12, "state": "closed", "coverage": []}"#,
        );
        let expected = PoolDefinition {
            limits: vec![5, 0],
            overbook: vec![0, 0],
            closes_at: 12_000_000,
            closed: true,
            coverage: vec![],
            ..current()
        };
        assert_eq!(some.unwrap(), expected);
        assert_eq!(patched(r#"{"closes_at": null}"#).unwrap().closes_at, CLOSES_AT_NEVER);
    }

    #[test]
    fn what_a_patch_makes_wrong_is_named() {
        let check = |patch: &str, pointer: &str, detail: &str| {
            let errors = patched(patch).unwrap_err();
            assert_eq!(errors[0].0, pointer, "{patch}: {errors:?}");
            assert!(errors[0].1.contains(detail), "{patch}: {errors:?}");
        };
        check(r#"{"zone": null}"#, "/zone", "missing field");
        check(r#"{"limits": {"rooms": null}}"#, "/limits/rooms", "missing");
        check(r#"{"limits": {"beds": 1}}"#, "/limits/beds", "no such dimension");
        check(r#"{"limits": {"rooms": "1"}}"#, "/limits/rooms", "whole number");
        check(r#"{"limits": 7}"#, "/limits", "object");
        check(r#"{"ends_at": 0}"#, "/ends_at", "before");
        check(r#"{"name": "b"}"#, "/name", "unknown field");
        check(r#"{"state": "ajar"}"#, "/state", "unknown variant");
        assert!(serde_json::from_str::<DefinitionPatch>("[]").is_err());
    }
}
