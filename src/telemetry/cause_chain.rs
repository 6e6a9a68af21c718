//! Errors with their causes, as one text for the log. Clients never see this text.

use std::iter::successors;

/// The text of an error and of each of its causes, outermost first. A cause is left out if the text
/// so far contains it, because some errors repeat their cause.
#[must_use]
pub fn cause_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
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
}
