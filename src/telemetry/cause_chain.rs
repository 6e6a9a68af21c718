//! Errors with their causes, as one text for the log. Clients never see this text.

use std::iter::{once, successors};

/// The start of the text of an error that PostgreSQL reported.
const DATABASE_ERROR: &str = "error returned from database: ";
/// Before the line of PostgreSQL's own source at the end of such a text.
const SOURCE_LINE: &str = " at line ";

/// The text of an error and of each of its causes, outermost first. A cause is left out if the text
/// so far contains it, because some errors repeat their cause.
#[must_use]
pub fn cause_chain(error: &dyn std::error::Error) -> String {
    causes(error).join(": ")
}

/// The same, one text for each error.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let causes = successors(error.source(), |error| error.source()).map(ToString::to_string);
    for cause in once(error.to_string()).chain(causes) {
        let cause = without_source_line(&cause, &texts);
        if !texts.iter().any(|before| before.contains(cause)) {
            texts.push(cause.to_owned());
        }
    }
    texts
}

/// The text of an error of PostgreSQL without the line of its own source, which means nothing to an
/// operator. Other texts stay as they are.
fn without_source_line<'a>(text: &'a str, before: &[String]) -> &'a str {
    let Some((rest, line)) = text.rsplit_once(SOURCE_LINE) else { return text };
    let is_number = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    let is_reported = text.contains(DATABASE_ERROR)
        || before.iter().any(|text| text.contains(DATABASE_ERROR) && text.ends_with(rest));
    if is_number && is_reported { rest } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_the_error() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(cause_chain(&error), "outer: inner");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeating(#[source] Outer);

    #[test]
    fn repeated_cause_is_left_out() {
        let error = Repeating(Outer(std::io::Error::other("inner")));
        assert_eq!(cause_chain(&error), "outer: outer: inner");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("error returned from database: {0}")]
    struct SqlFailure(#[source] SqlReport);

    #[derive(Debug, thiserror::Error)]
    #[error("schema \"prod\" does not exist at line 3099")]
    struct SqlReport;

    #[test]
    fn line_in_the_source_of_postgresql_is_left_out() {
        let text = "error returned from database: schema \"prod\" does not exist";
        assert_eq!(cause_chain(&SqlFailure(SqlReport)), text);
        // Other lines are those of a file of the operator.
        let error = Outer(std::io::Error::other("no key at line 7"));
        assert_eq!(cause_chain(&error), "outer: no key at line 7");
    }
}
