//! Turns an error of serde into a problem that names the field or parameter.
//!
//! The errors of serde are text. Three kinds are recognised by their first words, which
//! `serde::de::Error` defines for every format. Some others are recognised by the whole text. The
//! tests of [`super::json`] and [`super::query`] fail if these texts change.

use crate::domain::quoted;
use crate::http::v1::problem::{Code, Problem};

/// The codes for errors of a field. A body and a query have different codes.
pub(crate) struct FieldCodes {
    pub(crate) invalid: Code,
    pub(crate) missing: Code,
    pub(crate) unknown: Code,
    pub(crate) duplicate: Code,
}

impl FieldCodes {
    pub(crate) fn all(&self) -> Vec<Code> {
        vec![self.invalid, self.missing, self.unknown, self.duplicate]
    }
}

/// The problem for an error of serde: `path` is its place, `reason` its text, and `received` the
/// text of the parameter, if the error is about a query.
pub(crate) fn problem(
    codes: &FieldCodes,
    path: &serde_path_to_error::Path,
    reason: &str,
    received: Option<&str>,
) -> Problem {
    let reason = without_position(reason);
    let path = path.to_string();
    let qualified = |name: &str| match path.as_str() {
        "." => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let field_after = |start: &str| Some(qualified(reason.strip_prefix(start)?.split('`').next()?));
    if let Some(field) = field_after("missing field `") {
        return Problem::for_field(codes.missing, field, "is missing");
    }
    if let Some(field) = field_after("duplicate field `") {
        return Problem::for_field(codes.duplicate, truncate(&field), "appears more than once");
    }
    let field = truncate(&path);
    if !reason.starts_with("unknown field `") {
        return Problem::for_field(codes.invalid, field, truncate(&plain_reason(reason, received)));
    }
    match reason.rsplit_once("`, expected ") {
        Some((_, names)) => {
            Problem::for_field(codes.unknown, field, format_args!("is unknown, expected {names}"))
        }
        None => Problem::for_field(codes.unknown, field, "is unknown, none is expected"),
    }
}

/// The error in the words of the API: the allowed values, then the received one. `received` is the
/// text of a parameter; a text of serde about JSON contains the value itself.
fn plain_reason(reason: &str, received: Option<&str>) -> String {
    let must_be = |expected: &str, got: Option<String>| match got {
        Some(got) => format!("must be {expected}, got {got}"),
        None => format!("must be {expected}"),
    };
    match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            return must_be("a whole number", received.map(quoted));
        }
        "number too large to fit in target type" | "number too small to fit in target type" => {
            return must_be("a whole number closer to zero", received.map(quoted));
        }
        "provided string was not `true` or `false`" => {
            return must_be("true or false", received.map(quoted));
        }
        _ => {}
    }
    if let Some((got, allowed)) =
        reason.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "))
    {
        return must_be(allowed, Some(quoted(got)));
    }
    // A struct of serde can also be read from a list.
    if reason.starts_with("invalid length ") && reason.contains(", expected struct ") {
        return must_be("an object", Some("a list".to_owned()));
    }
    match ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| reason.strip_prefix(start)?.rsplit_once(", expected "))
    {
        Some((got, expected)) => must_be(plain_type(expected), Some(plain_value(got).to_owned())),
        None => reason.to_owned(),
    }
}

/// The words of the API for a type that serde expected.
fn plain_type(expected: &str) -> &str {
    match expected {
        "i64" | "u64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

/// The words of the API for a value that serde describes, such as ``integer `5` ``.
fn plain_value(got: &str) -> &str {
    let number = ["integer `", "floating point `", "boolean `"]
        .iter()
        .find_map(|start| got.strip_prefix(start)?.strip_suffix('`'));
    match got {
        "sequence" => "a list",
        "map" => "an object",
        _ => number.or_else(|| got.strip_prefix("string ")).unwrap_or(got),
    }
}

/// Removes the position that serde_json adds, because the field names the place.
fn without_position(reason: &str) -> &str {
    let is_position = |text: &str| {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        text.split_once(" column ")
            .is_some_and(|(line, column)| is_number(line) && is_number(column))
    };
    match reason.rsplit_once(" at line ") {
        Some((text, position)) if is_position(position) => text,
        _ => reason,
    }
}

/// Cuts text with input of a client to a reasonable length.
pub(crate) fn truncate(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
