//! JSON pointers (RFC 6901): making them, and finding where in a text they lead.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Goes one step further: to a field, or to an item by its index.
pub(crate) fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    for letter in step.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// The pointer from here to a field.
pub(crate) fn to(pointer: &str, step: &str) -> String {
    let mut longer = pointer.to_owned();
    push(&mut longer, step);
    longer
}

/// Line and column, from 1, of the value that a pointer leads to; `None` when the text does not have it.
pub(crate) fn locate(text: &[u8], pointer: &str) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let Items(items) = serde_json::from_str(value.get()).ok()?;
        value = items.into_iter().find(|(name, _)| *name == step)?.1;
    }
    let offset = value.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let before = text.as_bytes().get(..offset)?;
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |index| index + 1);
    Some((line, offset - line_start + 1))
}

/// What an object or a list holds, each with its step.
struct Items<'text>(Vec<(String, &'text RawValue)>);

impl<'text> Deserialize<'text> for Items<'text> {
    fn deserialize<D: Deserializer<'text>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;

        impl<'text> Visitor<'text> for ItemsVisitor {
            type Value = Items<'text>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object or a list")
            }

            fn visit_map<A: MapAccess<'text>>(self, mut entries: A) -> Result<Items<'text>, A::Error> {
                let mut items = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    items.push(entry);
                }
                Ok(Items(items))
            }

            fn visit_seq<A: SeqAccess<'text>>(self, mut entries: A) -> Result<Items<'text>, A::Error> {
                let mut items = Vec::new();
                while let Some(value) = entries.next_element()? {
                    items.push((items.len().to_string(), value));
                }
                Ok(Items(items))
            }
        }

        deserializer.deserialize_any(ItemsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, pointer: &str, expected: Option<(usize, usize)>) {
        assert_eq!(locate(text.as_bytes(), pointer), expected, "{pointer} in {text}");
    }

    #[test]
    fn a_pointer_leads_to_a_line_and_a_column() {
        let text = "{\"a\": 1,\n \"b\": [true,\n  {\"c/d\": 2}]}";
        check(text, "", Some((1, 1)));
        check(text, "/a", Some((1, 7)));
        check(text, "/b/0", Some((2, 8)));
        check(text, "/b/1/c~1d", Some((3, 11)));
        check(text, "/b/2", None);
        check(text, "/a/0", None);
        check("nonsense", "/a", None);
    }

    proptest! {
        #[test]
        fn any_text_has_the_place_or_not(text in any::<String>(), pointer in any::<String>()) {
            let _ = locate(text.as_bytes(), &pointer);
        }

        #[test]
        fn a_step_is_found_again(step in any::<String>()) {
            let text = serde_json::json!({ &step: 1 }).to_string();
            prop_assert!(locate(text.as_bytes(), &to("", &step)).is_some());
        }
    }
}
