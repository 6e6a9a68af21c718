//! Properties that must hold for any input from outside, one file for each target of the fuzzer.
//!
//! A check takes any bytes and panics if a property does not hold. The surprise: this is part of
//! two crates. The targets link it, and the tests of Muster include it to run the corpus.

mod attributes;
mod body;
mod callback_answer;
mod envelope;
mod query;
mod session_id;
mod token;

pub use attributes::attributes;
pub use body::body;
pub use callback_answer::callback_answer;
pub use envelope::envelope;
pub use query::query;
pub use session_id::session_id;
pub use token::token;

/// Panics if a property does not hold for this input.
pub type Check = fn(&[u8]);

/// All targets, each with the name of its corpus.
pub const TARGETS: [(&str, Check); 7] = [
    ("attributes", attributes),
    ("body", body),
    ("callback_answer", callback_answer),
    ("envelope", envelope),
    ("query", query),
    ("session_id", session_id),
    ("token", token),
];
