//! The parameters of a page of a list: the number of items, and the cursor.

use crate::domain::quoted;
use crate::http::v1::problem::{Code, Problem};
use crate::service::{InvalidCursor, PageSize};

/// The number of items in a page if the request has no `limit`.
pub(crate) const DEFAULT: usize = PageSize::DEFAULT.get() as usize;
/// The maximum number of items in a page.
pub(crate) const MAX: usize = PageSize::MAX as usize;

/// The number of items that the requested page may have.
pub(crate) fn limit(requested: Option<i64>) -> Result<usize, Problem> {
    size(requested).map(|size| usize::from(size.get()))
}

/// The same number in the type that the service takes.
pub(crate) fn size(requested: Option<i64>) -> Result<PageSize, Problem> {
    let Some(requested) = requested else { return Ok(PageSize::DEFAULT) };
    PageSize::new(requested).map_err(|_| {
        let (side, limit) = if requested < 1 { ("least", 1) } else { ("most", MAX) };
        let reason = format!("at {side} {limit}, got {requested}");
        Problem::for_field(Code::InvalidParameter, "limit", reason).with_limit(limit, requested)
    })
}

/// The problem for the received `cursor`.
pub(crate) fn invalid_cursor(error: InvalidCursor, cursor: Option<&str>) -> Problem {
    let got = match error {
        InvalidCursor::Malformed => format!(", got {}", quoted(cursor.unwrap_or_default())),
        InvalidCursor::QueryMismatch => String::new(),
    };
    Problem::for_field(Code::InvalidParameter, "cursor", format_args!("{error}{got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_size_is_bounded() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert_eq!(limit(Some(200)).unwrap(), 200);
        for (requested, detail) in [
            (201, "limit: at most 200, got 201"),
            (i64::MAX, "limit: at most 200, got 9223372036854775807"),
            (0, "limit: at least 1, got 0"),
            (-1, "limit: at least 1, got -1"),
        ] {
            let problem = limit(Some(requested)).unwrap_err();
            assert_eq!(problem.to_string(), format!("invalid_parameter {detail}"));
        }
    }
}
