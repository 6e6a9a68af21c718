//! An app as requests and callbacks need it: with its keys expanded.

use super::AuthError;
use crate::domain::{App, MessageForm};
use crate::repository::apps::StoredApp;
use crate::wire::{Envelope, TokenKey};

/// An app with its derived keys.
pub struct AppContext {
    /// The app.
    pub app: App,
    /// Seals and opens the messages of the app.
    pub envelope: Envelope,
    /// Issues and verifies the tokens of the app.
    pub token_key: TokenKey,
}

impl AppContext {
    /// Whether a callback would be sent in the same way: to the same URL, with the same signature
    /// and key.
    #[must_use]
    pub fn has_receiver_of(&self, other: &Self) -> bool {
        self.app.callback == other.app.callback && self.envelope.is_same_as(&other.envelope)
    }

    /// Checks that the app may use a form of messages.
    ///
    /// # Errors
    /// [`AuthError::FormNotAllowed`].
    pub fn require_form(&self, form: MessageForm) -> Result<(), AuthError> {
        if self.app.forms.contains(form) { Ok(()) } else { Err(AuthError::FormNotAllowed(form)) }
    }
}

impl From<StoredApp> for AppContext {
    fn from(StoredApp { app, aes_key }: StoredApp) -> Self {
        Self {
            envelope: Envelope::new(&aes_key, app.app_id.as_str()),
            token_key: TokenKey::derive(&aes_key),
            app,
        }
    }
}
