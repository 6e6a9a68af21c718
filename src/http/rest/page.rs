//! Pages: how many items one has, and where the next one begins.

use super::problem::{Code, Problem};

/// The items of a page, unless asked for otherwise.
pub(super) const USUAL: usize = 50;
/// The most items of a page.
pub(super) const MOST: usize = 200;

/// How many items a page shall have at most.
pub(super) fn limit(asked: Option<i64>) -> Result<usize, Problem> {
    let Some(asked) = asked else { return Ok(USUAL) };
    let wrong = |why: &str, limit: usize| {
        let why = format!("at {why} {limit}, got {asked}");
        Problem::of(Code::InvalidParameter, "limit", why).limited(limit, asked)
    };
    match usize::try_from(asked) {
        Ok(limit @ 1..=MOST) => Ok(limit),
        Ok(1..) => Err(wrong("most", MOST)),
        Ok(0) | Err(_) => Err(wrong("least", 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_some_items_and_not_too_many() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert_eq!(limit(Some(200)).unwrap(), 200);
        for (asked, detail) in [
            (201, "limit: at most 200, got 201"),
            (0, "limit: at least 1, got 0"),
            (-1, "limit: at least 1, got -1"),
        ] {
            let problem = limit(Some(asked)).unwrap_err();
            assert_eq!(problem.to_string(), format!("invalid_parameter {detail}"));
        }
    }
}
