//! A configured value that could not be used, found after the configuration was read.

use std::fmt;

/// The mistake and its key or argument, as an error or as the context of one. Its exit code is that of
/// a wrong configuration.
#[derive(Debug)]
pub(super) struct Misconfigured(pub(super) String);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misconfigured {}
