//! The memory of a request: that of its body, and that of large values that were made from the body.

use crate::http::body::BodyError;
use crate::http::body::budget::BytesInFlight;
use crate::http::v1::problem::Problem;

/// The largest values beside a body that are not counted, in bytes.
const MAX_UNCOUNTED_VALUES: usize = 16 * 1024;

/// The memory that counts as that of a body in flight.
pub(crate) struct RequestMemory(Option<BytesInFlight>);

impl RequestMemory {
    /// The memory of a body, if any.
    pub(super) fn new(in_flight: Option<BytesInFlight>) -> Self {
        Self(in_flight)
    }

    /// Counts `bytes` of values that were made from the body and take much more memory than their text.
    ///
    /// # Errors
    /// If the running requests hold too much already.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        match &mut self.0 {
            Some(in_flight) if bytes > MAX_UNCOUNTED_VALUES => {
                in_flight.grow(bytes as u64).map_err(|error| BodyError::from(error).into())
            }
            _ => Ok(()),
        }
    }
}
