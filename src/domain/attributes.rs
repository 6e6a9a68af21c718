//! The attributes of a session: one JSON object that belongs to the apps. Muster does not interpret
//! it.

use serde_json::{Map, Value};

use super::RuleViolation;

/// The size of a map node, which has room for eleven entries and may be half full.
const NODE_BYTES: usize = 640;
const MIN_ENTRIES_PER_NODE: usize = 6;

/// A JSON object of at most 16 KiB in compact form. Like every result of a merge patch, it has no
/// `null` member at any depth of objects. Lists may contain `null`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Map<String, Value>);

/// A change of attributes, as a JSON merge patch (RFC 7396): a `null` member is removed, an object
/// is merged, any other value replaces the old one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributesPatch(Map<String, Value>);

impl Attributes {
    /// The maximum size as compact JSON, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The size, in bytes, that counts as one member if the members of a result are bounded.
    pub const BYTES_PER_MEMBER: usize = 256;

    /// Applies `patch` to an empty object.
    ///
    /// # Errors
    /// [`RuleViolation::AttributesTooLarge`].
    pub fn new(patch: &AttributesPatch) -> Result<Self, RuleViolation> {
        Self::default().patched(patch)
    }

    /// Applies `patch` to these attributes.
    ///
    /// # Errors
    /// [`RuleViolation::AttributesTooLarge`].
    pub fn patched(&self, patch: &AttributesPatch) -> Result<Self, RuleViolation> {
        let after = self.merged(patch);
        after.check()?;
        Ok(after)
    }

    /// Checks the limit.
    pub(super) fn check(&self) -> Result<(), RuleViolation> {
        let got = self.json_len();
        if got > Self::MAX_BYTES {
            return Err(RuleViolation::AttributesTooLarge { max: Self::MAX_BYTES, got });
        }
        Ok(())
    }

    /// The size as compact JSON, in bytes.
    #[must_use]
    pub fn json_len(&self) -> usize {
        if self.0.is_empty() {
            return 2;
        }
        // A map with text keys always serializes.
        serde_json::to_vec(&self.0).map_or(usize::MAX, |json| json.len())
    }

    /// Applies a patch that was accepted earlier.
    pub(super) fn merged(&self, patch: &AttributesPatch) -> Self {
        let mut after = self.clone();
        after.merge(patch);
        after
    }

    /// Applies a patch that was accepted earlier, in place.
    pub(super) fn merge(&mut self, patch: &AttributesPatch) {
        merge(&mut self.0, &patch.0);
    }

    /// The smallest patch that turns these attributes into `after`; `None` if they are equal.
    #[must_use]
    pub fn patch_to(&self, after: &Self) -> Option<AttributesPatch> {
        let patch = diff(&self.0, &after.0);
        (!patch.is_empty()).then_some(AttributesPatch(patch))
    }

    /// The attributes as a map.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The estimated memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_object(&self.0)
    }
}

fn size_of_object(map: &Map<String, Value>) -> usize {
    let entries = map.iter().map(|(name, value)| name.len() + size_of_value(value));
    NODE_BYTES * map.len().div_ceil(MIN_ENTRIES_PER_NODE) + entries.sum::<usize>()
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 32 + size_of_value(item)).sum(),
        Value::Object(map) => size_of_object(map),
    }
}

impl AttributesPatch {
    /// Wraps a patch without changing it.
    #[must_use]
    pub fn new(patch: Map<String, Value>) -> Self {
        Self(patch)
    }

    /// The estimated memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_object(&self.0)
    }

    /// The patch as a map.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => {
                let slot = target.entry(name.as_str()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

fn diff(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let mut patch: Map<String, Value> = removed.map(|name| (name.clone(), Value::Null)).collect();
    for (name, value) in after {
        let change = match (before.get(name), value) {
            (Some(old), new) if old == new => continue,
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(diff(old, new)),
            (_, new) => new.clone(),
        };
        patch.insert(name.clone(), change);
    }
    patch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn patch(value: Value) -> AttributesPatch {
        let Value::Object(map) = value else { panic!("no object") };
        AttributesPatch::new(map)
    }

    /// The examples of RFC 7396 in which both sides are objects.
    #[test]
    fn merge_follows_rfc_7396() {
        for (before, change, after) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({}), json!({"a": [null]}), json!({"a": [null]})),
        ] {
            let before = Attributes::new(&patch(before)).unwrap();
            let got = before.patched(&patch(change.clone())).unwrap();
            assert_eq!(Value::Object(got.as_map().clone()), after, "{change}");
        }
    }

    #[test]
    fn the_limit_counts_compact_bytes() {
        // {"a":"…"} has 8 bytes around the text.
        let of = |length: usize| patch(json!({ "a": "x".repeat(length - 8) }));
        assert!(Attributes::new(&of(Attributes::MAX_BYTES)).is_ok());
        assert_eq!(
            Attributes::new(&of(Attributes::MAX_BYTES + 1)),
            Err(RuleViolation::AttributesTooLarge { max: 16_384, got: 16_385 })
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3_i32).prop_map(Value::from),
            "[a-c\0]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                object(inner).prop_map(Value::Object),
            ]
        })
    }

    fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        let members = prop::collection::btree_map("[a-d]", value, 0..4);
        members.prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn minimal_patch_transforms_before_into_after(
            before in object(value()),
            after in object(value()),
        ) {
            let before = Attributes::new(&AttributesPatch::new(before)).unwrap();
            let after = Attributes::new(&AttributesPatch::new(after)).unwrap();
            match before.patch_to(&after) {
                None => prop_assert_eq!(before, after),
                Some(patch) => prop_assert_eq!(before.patched(&patch).unwrap(), after),
            }
        }
    }
}
