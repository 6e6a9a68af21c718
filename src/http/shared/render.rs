//! Domain values in the JSON form that every API uses.

use serde::{Serialize, Serializer};

use crate::domain::{Account, SessionId};

/// A value that is text in JSON.
pub(crate) trait SerializeAsText {
    /// Writes the text.
    fn serialize_text<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A session id: upper case, in braces.
impl SerializeAsText for SessionId {
    fn serialize_text<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SerializeAsText for Account {
    fn serialize_text<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A value as text.
pub(crate) fn as_text<S: Serializer>(
    value: &impl SerializeAsText,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.serialize_text(serializer)
}

/// Values as a list of texts.
pub(crate) fn as_texts<T: SerializeAsText, S: Serializer>(
    values: &impl AsRef<[T]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.as_ref().iter().map(TextOf))
}

struct TextOf<'a, T>(&'a T);

impl<T: SerializeAsText> Serialize for TextOf<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_text(serializer)
    }
}
