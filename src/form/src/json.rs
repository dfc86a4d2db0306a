//! JSON lines from files, with every field of an object kept, so that a repeated one is noticed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. Numbers that are not whole, or beyond 64 bits, are not told apart: no field takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    OtherNumber,
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, its fields in their order.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// What it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Flag(_) => "true or false",
            Json::Integer(_) => "a number",
            Json::OtherNumber => "a number that is not whole",
            Json::Text(_) => "a text",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        }
    }

    /// The text that would stand in a cell of a CSV file; `None` for what has none.
    #[must_use]
    pub fn cell(&self) -> Option<String> {
        match self {
            Json::Null => Some(String::new()),
            Json::Integer(number) => Some(number.to_string()),
            Json::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::OtherNumber, Json::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = entries.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// The fields of the object on one line.
///
/// # Errors
/// What is wrong with the line.
pub fn object_of(line: &[u8]) -> Result<Vec<(String, Json)>, String> {
    match serde_json::from_slice(line) {
        Ok(Json::Object(fields)) => match repeated(&fields) {
            Some(name) => Err(format!("the field {name} is there twice")),
            None => Ok(fields),
        },
        Ok(other) => Err(format!("expected an object, found {}", other.kind())),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// The first field whose name an earlier one has.
#[must_use]
pub fn repeated(fields: &[(String, Json)]) -> Option<&str> {
    let twice = |index: usize, name: &String| fields[..index].iter().any(|(known, _)| known == name);
    fields
        .iter()
        .enumerate()
        .find(|(index, (name, _))| twice(*index, name))
        .map(|(_, (name, _))| name.as_str())
}

/// The lines of an NDJSON file that are not blank, with their numbers from 1.
pub fn lines(content: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let numbered = (1..).zip(content.split(|byte| *byte == b'\n'));
    numbered.filter(|(_, line)| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_fields_in_order() {
        let fields = object_of(br#"{"b": 1, "a": {"x": "y"}, "c": [null, 1.5, true]}"#).unwrap();
        assert_eq!(
            fields,
            [
                ("b".to_owned(), Json::Integer(1)),
                (
                    "a".to_owned(),
                    Json::Object(vec![("x".to_owned(), Json::Text("y".to_owned()))])
                ),
                (
                    "c".to_owned(),
                    Json::List(vec![Json::Null, Json::OtherNumber, Json::Flag(true)])
                ),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let check = |line: &str, expected: &str| {
            let error = object_of(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"a":1,"b":2,"a":3}"#, "a is there twice");
        check("[1]", "expected an object, found a list");
        check("{", "not JSON");
        check(r#"{"a":1} x"#, "not JSON");
        check("\u{fffd}", "not JSON");
    }

    #[test]
    fn blank_lines_count_but_hold_nothing() {
        let found: Vec<(u64, &[u8])> = lines(b"a\r\n\n  \nb").collect();
        assert_eq!(found, [(1, &b"a\r"[..]), (4, b"b")]);
    }
}
