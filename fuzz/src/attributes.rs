//! Attributes and their merge patches (RFC 7396), compared with the algorithm as the standard
//! prints it. The input is a list of two objects: the first patches empty attributes, the second
//! patches the result.

use muster::domain::{Attributes, AttributesPatch, RuleViolation};
use serde_json::{Map, Value};

pub fn attributes(data: &[u8]) {
    let Ok((Value::Object(first), Value::Object(second))) = serde_json::from_slice(data) else {
        return;
    };
    let Some(before) = apply_patch(&Attributes::default(), &first) else { return };
    let Some(after) = apply_patch(&before, &second) else { return };

    // The same patch again changes nothing.
    assert_eq!(apply_patch(&after, &second).as_ref(), Some(&after));
    match before.patch_to(&after) {
        None => assert_eq!(before, after),
        Some(patch) => {
            assert_ne!(before, after);
            assert_eq!(before.patched(&patch).as_ref(), Ok(&after));
        }
    }
    assert_eq!(after.patch_to(&after), None);
}

fn apply_patch(before: &Attributes, patch: &Map<String, Value>) -> Option<Attributes> {
    let expected =
        merge_patch(Value::Object(before.as_map().clone()), &Value::Object(patch.clone()));
    let got = expected.to_string().len();
    match before.patched(&AttributesPatch::new(patch.clone())) {
        Ok(after) => {
            assert!(got <= Attributes::MAX_BYTES);
            let after_value = Value::Object(after.as_map().clone());
            assert_eq!(after_value, expected);
            assert!(has_no_null(&after_value));
            Some(after)
        }
        Err(why) => {
            assert!(got > Attributes::MAX_BYTES);
            assert_eq!(why, RuleViolation::AttributesTooLarge { max: Attributes::MAX_BYTES, got });
            None
        }
    }
}

/// `MergePatch` of the standard's section 2.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let before = target.remove(name).unwrap_or(Value::Null);
            target.insert(name.clone(), merge_patch(before, value));
        }
    }
    Value::Object(target)
}

/// Checks objects at any depth. Lists may contain null.
fn has_no_null(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(|inner| !inner.is_null() && has_no_null(inner)),
        _ => true,
    }
}
