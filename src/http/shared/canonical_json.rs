//! The canonical form of a JSON text: without blanks, the members of each object in the order of their
//! names, the last of several members with one name. It is the text that `serde_json` writes for its
//! `Value`, but made without a tree of values, which would take many times the memory of the text.

use std::cmp::Ordering;
use std::fmt;

use memchr::memchr;
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The canonical form of a text.
///
/// # Errors
/// If the text is not JSON.
pub(crate) fn canonical(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::with_capacity(json.len());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Writer(&mut text).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(text)
}

/// Appends the canonical form of a value.
struct Writer<'t>(&'t mut Vec<u8>);

impl Writer<'_> {
    fn append<E: Error>(self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self.0, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.append(&())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.append(&value)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.append(&number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.append(&number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.append(&number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.append(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self(text) = self;
        text.push(b'[');
        while let Some(()) = items.next_element_seed(Writer(text))? {
            text.push(b',');
        }
        close(text, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(text) = self;
        text.push(b'{');
        let start = text.len();
        let mut members: Vec<WrittenMember> = Vec::new();
        let mut is_sorted = true;
        loop {
            let begin = text.len();
            let Some(()) = map.next_key_seed(Writer(text))? else { break };
            let name_end = text.len();
            text.push(b':');
            map.next_value_seed(Writer(text))?;
            let member = WrittenMember {
                begin: offset(begin),
                name_end: offset(name_end),
                end: offset(text.len()),
            };
            text.push(b',');
            is_sorted &= members
                .last()
                .is_none_or(|last| compare_names(last.name(text), member.name(text)).is_lt());
            members.push(member);
        }
        if !is_sorted {
            sort_members(text, start, members);
        }
        close(text, b'}');
        Ok(())
    }
}

/// A member of an object in the text, by its offsets.
struct WrittenMember {
    begin: u32,
    name_end: u32,
    end: u32,
}

impl WrittenMember {
    /// The name with its quotation marks.
    fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.begin as usize..self.name_end as usize).unwrap_or_default()
    }

    fn whole<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.begin as usize..self.end as usize).unwrap_or_default()
    }
}

fn offset(at: usize) -> u32 {
    // A body is at most 1 GiB (`limits.max_body_bytes`), and its canonical form less than 4 times that.
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Puts the members of an object in the order of their names. Each has a comma after it, and they begin
/// at `start`.
fn sort_members(text: &mut Vec<u8>, start: usize, mut members: Vec<WrittenMember>) {
    members.sort_by(|one, other| compare_names(one.name(text), other.name(text)));
    let mut sorted = Vec::with_capacity(text.len() - start);
    for (index, member) in members.iter().enumerate() {
        let next = members.get(index + 1);
        if next.is_some_and(|next| compare_names(next.name(text), member.name(text)).is_eq()) {
            continue;
        }
        sorted.extend_from_slice(member.whole(text));
        sorted.push(b',');
    }
    text.truncate(start);
    text.extend_from_slice(&sorted);
}

/// Compares two names as text. Their JSON has another order only if it has escapes.
fn compare_names(one: &[u8], other: &[u8]) -> Ordering {
    if memchr(b'\\', one).is_none() && memchr(b'\\', other).is_none() {
        // The quotation mark at the end must not be compared with a character.
        return trim_quotes(one).cmp(trim_quotes(other));
    }
    let decode = |name| serde_json::from_slice::<String>(name).unwrap_or_default();
    decode(one).cmp(&decode(other))
}

fn trim_quotes(name: &[u8]) -> &[u8] {
    name.get(1..name.len().saturating_sub(1)).unwrap_or_default()
}

/// Closes a list or an object. Its last item has a comma after it.
fn close(text: &mut Vec<u8>, end: u8) {
    match text.last_mut() {
        Some(comma) if *comma == b',' => *comma = end,
        _ => text.push(end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn check(json: &str) {
        let expected = serde_json::from_str::<Value>(json).map(|value| value.to_string()).ok();
        let found = canonical(json.as_bytes()).ok();
        let found = found.map(|text| String::from_utf8(text).unwrap());
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn form_is_that_of_a_tree_of_values() {
        for json in [
            r#"{ "b" : [ 1 , -2, 2.5, 1e30, 18446744073709551615, -0, 3.0, null, true ], "a": {} }"#,
            r#"{"a":1,"b":{"y":1,"x":[]},"a":{"z":2},"aa":3,"a ":4,"a!":5}"#,
            r#"{"b":1,"\u0062":2,"\n":3,"\u0001":4,"\"":5,"!":6,"":7,"\\":8,"Z":9,"\u00e9":10,"é":11}"#,
            r#"[[],{},[{}],[[],[]],"\ud83d\ude00\u0000/\/"]"#,
            " 5 ",
            "\"a\"",
            "",
            "{",
            r#"{"a":1,}"#,
            r#"{"a":1} x"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e999}"#,
        ] {
            check(json);
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        check(&deep(127));
        check(&deep(128));
        assert!(canonical(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn form_takes_no_more_memory_than_the_text() {
        let text = format!("[{}0]", "[[0]],".repeat(100_000));
        let canonical = canonical(text.as_bytes()).unwrap();
        assert!(canonical.capacity() <= text.len());
    }

    fn any_json() -> impl Strategy<Value = String> {
        let name = prop_oneof!["[a-c]{0,2}", "\\PC{0,3}", "[\"\\\\\n !]{0,2}"];
        let quoted = |text: String| serde_json::to_string(&text).unwrap();
        let leaf = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
            name.clone().prop_map(quoted),
            Just(" null".to_owned()),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            let members =
                prop::collection::vec((name.clone().prop_map(quoted), inner.clone()), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..5)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                members.prop_map(|members| {
                    let members = members.iter().map(|(name, value)| format!("{name}: {value}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn form_of_any_json_is_that_of_a_tree(json in any_json()) {
            check(&json);
        }
    }
}
