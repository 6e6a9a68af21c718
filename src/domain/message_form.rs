//! The forms of messages: sealed with the app's key, or plain.

use std::fmt;
use std::str::FromStr;

/// The form of a request and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    /// Sealed with the AES key of the app.
    Sealed,
    /// Plain JSON, with an API key.
    Plain,
}

impl fmt::Display for MessageForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sealed => "sealed",
            Self::Plain => "plain",
        })
    }
}

/// The forms that an app may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedForms {
    /// Only sealed messages.
    Sealed,
    /// Only plain messages.
    Plain,
    /// Sealed and plain messages.
    #[default]
    Both,
}

impl AllowedForms {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Sealed, Self::Plain, Self::Both];

    /// The name on the command line and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Plain => "plain",
            Self::Both => "both",
        }
    }

    /// Whether the app may use `form`.
    #[must_use]
    pub fn contains(self, form: MessageForm) -> bool {
        match self {
            Self::Sealed => form == MessageForm::Sealed,
            Self::Plain => form == MessageForm::Plain,
            Self::Both => true,
        }
    }
}

/// The name is not one of the allowed forms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of sealed, plain and both")]
pub struct UnknownForms(pub String);

impl FromStr for AllowedForms {
    type Err = UnknownForms;

    fn from_str(name: &str) -> Result<Self, UnknownForms> {
        Self::ALL
            .into_iter()
            .find(|forms| forms.name() == name)
            .ok_or_else(|| UnknownForms(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_parsed_by_name() {
        for forms in AllowedForms::ALL {
            assert_eq!(forms.name().parse(), Ok(forms));
        }
        assert_eq!("Sealed".parse::<AllowedForms>(), Err(UnknownForms("Sealed".to_owned())));
    }

    #[test]
    fn each_form_is_allowed_by_its_name_and_by_both() {
        for (forms, sealed, plain) in [
            (AllowedForms::Sealed, true, false),
            (AllowedForms::Plain, false, true),
            (AllowedForms::Both, true, true),
        ] {
            assert_eq!(forms.contains(MessageForm::Sealed), sealed);
            assert_eq!(forms.contains(MessageForm::Plain), plain);
        }
    }
}
