//! Turns an error of serde into a problem that names the field or parameter.
//!
//! The errors of serde are text. Three kinds are recognised by their first words, which
//! `serde::de::Error` defines for every format. Some others are recognised by the whole text. The
//! tests of [`super::json`] and [`super::query`] fail if these texts change.

use std::borrow::Cow;

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

/// The problem for an error of serde: `path` is its place, `reason` its text.
pub(crate) fn problem(
    codes: &FieldCodes,
    path: &serde_path_to_error::Path,
    reason: &str,
) -> Problem {
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
        return Problem::for_field(codes.invalid, field, truncate(&plain_reason(reason)));
    }
    match reason.rsplit_once("`, expected ") {
        Some((_, names)) => {
            Problem::for_field(codes.unknown, field, format_args!("is unknown, expected {names}"))
        }
        None => Problem::for_field(codes.unknown, field, "is unknown, no name is expected"),
    }
}

/// Replaces texts about Rust types with texts that callers understand.
fn plain_reason(reason: &str) -> Cow<'_, str> {
    match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".into()
        }
        "number too large to fit in target type" | "number too small to fit in target type" => {
            "must be a whole number closer to zero".into()
        }
        "provided string was not `true` or `false`" => "must be true or false".into(),
        _ => ["i64", "u64"]
            .iter()
            .find_map(|kind| reason.rsplit_once(&format!("expected {kind}")))
            .map_or(reason.into(), |(text, position)| {
                format!("{text}expected a whole number{position}").into()
            }),
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
