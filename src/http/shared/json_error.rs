//! The text for JSON that cannot be read, the same in every API.

use serde_path_to_error::{Path, Segment};

use crate::wire::{SkippedValue, explain_json_error};

/// The errors that are about one value. Their text names the field, because a position is hard to find
/// in a long line.
const OF_VALUES: [&str; 2] = ["a lone surrogate", "a number is too large"];
/// The maximum length of the name of a field in a text.
const MAX_NAME_CHARS: usize = 64;

/// The error of a text whose reader was at `path`.
pub(crate) fn explain(error: &serde_json::Error, path: &Path) -> String {
    let reason = explain_json_error(&error.to_string());
    let is_of_value = OF_VALUES.iter().any(|start| reason.starts_with(start));
    // The last part is unknown if the name of a field is the fault.
    let is_known = |part: &&Segment| !matches!(part, Segment::Unknown);
    if !is_of_value || !path.iter().any(|part| is_known(&part)) {
        return reason;
    }
    let path = path.to_string();
    let name = path.strip_suffix(".?").unwrap_or(&path).chars().take(MAX_NAME_CHARS);
    format!("{reason}, in {}", name.collect::<String>())
}

/// The error of a text that no reader has followed; `None` if the text is JSON.
pub(crate) fn find(json: &[u8]) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read: Result<SkippedValue, _> = serde_path_to_error::deserialize(&mut deserializer);
    read.err().map(|error| explain(error.inner(), error.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_value_names_the_field() {
        for (json, expected) in [
            (r#"{"title":"\ud800"}"#, Some("a lone surrogate at line 1 column 17, in title")),
            (
                r#"{"x":{"y":[0,"\udc00"]}}"#,
                Some("a lone surrogate at line 1 column 20, in x.y[1]"),
            ),
            (r#"{"version":1e999}"#, Some("a number is too large at line 1 column 16, in version")),
            (r#"{"\ud800":1}"#, Some("a lone surrogate at line 1 column 9")),
            (r#"{"x":{"\udc00":1}}"#, Some("a lone surrogate at line 1 column 13, in x")),
            (r#""\ud800""#, Some("a lone surrogate at line 1 column 8")),
            (r#"{"a":1,}"#, Some("trailing comma at line 1 column 8")),
            ("{}", None),
        ] {
            let found = find(json.as_bytes());
            assert_eq!(found.as_deref(), expected, "{json}");
        }
        let long = format!(r#"{{"{}":"\ud800"}}"#, "n".repeat(10_000));
        assert!(find(long.as_bytes()).unwrap().len() < 200);
    }
}
