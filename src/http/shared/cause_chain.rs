//! Errors with their causes, as one text for the log. Clients never see this text.

use std::iter::successors;

/// The text of an error and of each of its causes, outermost first.
pub(crate) fn cause_chain(error: &dyn std::error::Error) -> String {
    let causes = successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
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
}
