//! What serde says about a field or parameter, as a problem that names it.
//!
//! serde's errors are text. Three of them are known by their first words, which are those of
//! `serde::de::Error` itself, whatever is read; the tests of [`super::json`] and [`super::query`]
//! would see them change.

use super::problem::{Code, Problem};

/// What a place calls what can be wrong in it.
pub(super) struct Codes {
    pub(super) invalid: Code,
    pub(super) missing: Code,
    pub(super) unknown: Code,
    pub(super) duplicate: Code,
}

impl Codes {
    pub(super) fn all(&self) -> Vec<Code> {
        vec![self.invalid, self.missing, self.unknown, self.duplicate]
    }
}

/// `path` is where serde was, `why` what it said there.
pub(super) fn problem(codes: &Codes, path: &serde_path_to_error::Path, why: &str) -> Problem {
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
        return Problem::of(codes.duplicate, shortened(&field), "stands twice");
    }
    let field = shortened(&path);
    if !why.starts_with("unknown field `") {
        return Problem::of(codes.invalid, field, shortened(why));
    }
    match why.rsplit_once("`, expected ") {
        Some((_, names)) => {
            Problem::of(codes.unknown, field, format_args!("is unknown, expected {names}"))
        }
        None => Problem::of(codes.unknown, field, "is unknown, none is expected"),
    }
}

/// Text that may hold anything that a client sent, cut to a reasonable length.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
