//! What serde says about a field or parameter, as a problem that names it.
//!
//! serde's errors are text. Three of them are known by their first words, which are those of
//! `serde::de::Error` itself, whatever is read, and some by all of them; the tests of [`super::json`] and [`super::query`]
//! would see them change.

use std::borrow::Cow;

use crate::http::v1::problem::{Code, Problem};

/// What a place calls what can be wrong in it.
pub(crate) struct Codes {
    pub(crate) invalid: Code,
    pub(crate) missing: Code,
    pub(crate) unknown: Code,
    pub(crate) duplicate: Code,
}

impl Codes {
    pub(crate) fn all(&self) -> Vec<Code> {
        vec![self.invalid, self.missing, self.unknown, self.duplicate]
    }
}

/// `path` is where serde was, `why` what it said there.
pub(crate) fn problem(codes: &Codes, path: &serde_path_to_error::Path, why: &str) -> Problem {
    let path = path.to_string();
    let inside = |name: &str| match path.as_str() {
        "." => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let named = |start: &str| Some(inside(why.strip_prefix(start)?.split('`').next()?));
    if let Some(field) = named("missing field `") {
        return Problem::of(codes.missing, field, "is missing");
    }
    if let Some(field) = named("duplicate field `") {
        return Problem::of(codes.duplicate, shortened(&field), "appears more than once");
    }
    let field = shortened(&path);
    if !why.starts_with("unknown field `") {
        return Problem::of(codes.invalid, field, shortened(&plain(why)));
    }
    match why.rsplit_once("`, expected ") {
        Some((_, names)) => {
            Problem::of(codes.unknown, field, format_args!("is unknown, expected {names}"))
        }
        None => Problem::of(codes.unknown, field, "is unknown, no name is expected"),
    }
}

/// What is said in the words of Rust's own types, in those of callers.
fn plain(why: &str) -> Cow<'_, str> {
    match why {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".into()
        }
        "number too large to fit in target type" | "number too small to fit in target type" => {
            "must be a whole number closer to zero".into()
        }
        "provided string was not `true` or `false`" => "must be true or false".into(),
        _ => ["i64", "u64"]
            .iter()
            .find_map(|kind| why.rsplit_once(&format!("expected {kind}")))
            .map_or(why.into(), |(what, place)| {
                format!("{what}expected a whole number{place}").into()
            }),
    }
}

/// Text that may hold anything that a client sent, cut to a reasonable length.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
