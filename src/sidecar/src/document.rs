//! The OpenAPI document: what the code says of itself, and what only the engine knows, which are its dimensions.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use plimsoll_client::protocol::limits::UNITS_MAX;
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// Shapes of units, which the document of an installation tells by its dimensions.
macro_rules! units {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let amount = ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .minimum(Some(0))
                    .maximum(Some(UNITS_MAX));
                let units = ObjectBuilder::new()
                    .schema_type(Type::Object)
                    .additional_properties(Some(RefOr::T(Schema::from(amount.build()))));
                RefOr::T(units.into())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

units! {
    /// Units of which at least one is above 0.
    SomeUnits;
    /// Units of which each may be 0.
    AnyUnits;
    /// Units of every dimension.
    AllUnits;
    /// Units that a reservation has from now on: not 0 of all.
    ResizeUnits;
}

/// The document of the dimensions that were asked for last.
pub(crate) struct Document {
    general: Value,
    last: Mutex<Option<(Vec<String>, Bytes)>>,
}

impl Document {
    pub(crate) fn new(general: OpenApi) -> Document {
        Document {
            // A document of strings and numbers can always be JSON.
            general: serde_json::to_value(general).unwrap_or_default(),
            last: Mutex::new(None),
        }
    }

    /// The document for an engine with these dimensions.
    pub(crate) fn text(&self, dimensions: &[String]) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, text)) if *known == dimensions => text.clone(),
            _ => {
                let text = Bytes::from(specialised(&self.general, dimensions).to_string());
                *last = Some((dimensions.to_vec(), text.clone()));
                text
            }
        }
    }
}

/// The document with what the types alone do not say.
fn specialised(general: &Value, dimensions: &[String]) -> Value {
    let mut document = general.clone();
    let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    else {
        return document;
    };
    if !dimensions.is_empty() {
        for name in ["SomeUnits", "AnyUnits", "AllUnits", "ResizeUnits"] {
            schemas.insert(name.to_owned(), units(name, dimensions));
        }
    }
    // Null takes an allowance away.
    let allowances = schemas.get("AnyUnits").map(|units| {
        let text = units
            .to_string()
            .replace("\"type\":\"integer\"", "\"type\":[\"integer\",\"null\"]");
        serde_json::from_str(&text).unwrap_or_default()
    });
    schemas.insert("UnitsPatch".to_owned(), allowances.unwrap_or_default());
    let given = |field: &str, kind: &str| json!({"required": [field], "properties": {field: {"type": kind}}});
    extend(
        schemas,
        "AvailabilityQuery",
        "anyOf",
        json!([given("zone", "string"), given("location", "string")]),
    );
    extend(
        schemas,
        "Resize",
        "anyOf",
        json!([given("units", "object"), given("hold_seconds", "integer")]),
    );
    extend(
        schemas,
        "PoolChange",
        "oneOf",
        json!([given("patch", "object"), given("definition", "object")]),
    );
    // Each sort of command takes its own fields only.
    let sorts = schemas
        .get_mut("Command")
        .and_then(|command| command.get_mut("oneOf"))
        .and_then(Value::as_array_mut);
    for sort in sorts.into_iter().flatten() {
        sort["additionalProperties"] = json!(false);
    }
    if let Some(patch) = schemas.get("Definition").map(patch_of) {
        schemas.insert("DefinitionPatch".to_owned(), patch);
    }
    document
}

fn units(name: &str, dimensions: &[String]) -> Value {
    let amount = json!({"type": "integer", "minimum": 0, "maximum": UNITS_MAX});
    let properties: Map<String, Value> = dimensions.iter().map(|name| (name.clone(), amount.clone())).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    match name {
        "SomeUnits" => {
            let above_0 = |name: &String| json!({"required": [name], "properties": {name: {"minimum": 1}}});
            schema["anyOf"] = dimensions.iter().map(above_0).collect();
        }
        "AllUnits" => schema["required"] = json!(dimensions),
        "ResizeUnits" => {
            let zeros: Map<String, Value> = dimensions
                .iter()
                .map(|name| (name.clone(), json!({"const": 0})))
                .collect();
            schema["not"] = json!({"required": dimensions, "properties": zeros});
        }
        _ => {}
    }
    schema
}

fn extend(schemas: &mut Map<String, Value>, name: &str, keyword: &str, value: Value) {
    if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
        schema.insert(keyword.to_owned(), value);
    }
}

/// A patch has the fields of a definition, none of which is needed; its limits need not name every dimension.
fn patch_of(definition: &Value) -> Value {
    let mut patch = definition.clone();
    if let Some(patch) = patch.as_object_mut() {
        patch.remove("required");
    }
    patch["description"] =
        json!("An RFC 7396 merge patch of a definition: what is named changes, null takes away, the rest stays.");
    patch["properties"]["limits"] = json!({"$ref": "#/components/schemas/AnyUnits"});
    patch["properties"]["overbook"] = json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/UnitsPatch"}]});
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        let document = Document::new(crate::router::general());
        serde_json::from_slice(&document.text(&["rooms".to_owned(), "guests".to_owned()])).unwrap()
    }

    #[test]
    fn it_tells_the_dimensions() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["AllUnits"]["required"], json!(["rooms", "guests"]));
        assert_eq!(schemas["SomeUnits"]["anyOf"][1]["required"], json!(["guests"]));
        assert_eq!(schemas["DefinitionPatch"]["additionalProperties"], false);
        assert!(schemas["DefinitionPatch"].get("required").is_none());
        let commands = schemas["Command"]["oneOf"].as_array().unwrap();
        let are_closed = commands.iter().all(|command| command["additionalProperties"] == false);
        assert!(commands.len() == 3 && are_closed, "{commands:?}");
        for (name, keyword) in [
            ("AvailabilityQuery", "anyOf"),
            ("Resize", "anyOf"),
            ("PoolChange", "oneOf"),
        ] {
            assert!(schemas[name][keyword].is_array(), "{name} has no {keyword}");
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_reference_leads_somewhere() {
        let document = document();
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} of {method} {path} is taken");
                assert!(
                    operation["summary"].is_string(),
                    "{method} {path} says nothing of itself"
                );
            }
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
        }
    }
}
