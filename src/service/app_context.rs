//! An app as requests and callbacks need it: with its keys expanded.

use chrono::{DateTime, Utc};

use super::AuthError;
use crate::domain::{App, MessageForm};
use crate::repository::apps::StoredApp;
use crate::wire::{Envelope, Opened, TokenClaims, TokenError, TokenKey};

/// An app with its derived keys.
pub struct AppContext {
    /// The app.
    pub app: App,
    /// Seals and opens the messages of the app.
    pub envelope: Envelope,
    /// Issues and verifies the tokens of the app.
    pub token_key: TokenKey,
    /// The keys before the last rotation.
    previous: Option<PreviousKeys>,
}

/// The keys of an app before its last rotation.
pub(super) struct PreviousKeys {
    pub(super) envelope: Envelope,
    pub(super) token_key: TokenKey,
    /// The keys are refused from this time on.
    pub(super) until: DateTime<Utc>,
}

/// One of the two AES keys that an app has during a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyGeneration {
    /// The newer key; outside of a rotation the only one.
    Current,
    /// The key before the rotation.
    Previous,
}

impl AppContext {
    /// Whether a callback would be sent in the same way: to the same URL, with the same signature
    /// and keys.
    #[must_use]
    pub fn has_receiver_of(&self, other: &Self) -> bool {
        let until = |context: &Self| context.previous.as_ref().map(|previous| previous.until);
        self.app.callback == other.app.callback
            && self.envelope.is_same_as(&other.envelope)
            && until(self) == until(other)
    }

    /// Checks that the app may use a form of messages.
    ///
    /// # Errors
    /// [`AuthError::FormNotAllowed`].
    pub fn require_form(&self, form: MessageForm) -> Result<(), AuthError> {
        if self.app.forms.contains(form) { Ok(()) } else { Err(AuthError::FormNotAllowed(form)) }
    }

    /// Whether a rotation left a second key. It may be refused already.
    #[must_use]
    pub fn has_previous_keys(&self) -> bool {
        self.previous.is_some()
    }

    /// The keys before the last rotation, if they are accepted at `now`.
    pub(super) fn previous_at(&self, now: DateTime<Utc>) -> Option<&PreviousKeys> {
        self.previous.as_ref().filter(|previous| now < previous.until)
    }

    /// Whether a previous key exists that is refused at `now`.
    pub(super) fn has_ended_keys(&self, now: DateTime<Utc>) -> bool {
        self.previous.is_some() && self.previous_at(now).is_none()
    }

    /// The envelope of a key. Without a previous key it is that of the current one.
    #[must_use]
    pub fn envelope_of(&self, generation: KeyGeneration) -> &Envelope {
        match (generation, &self.previous) {
            (KeyGeneration::Previous, Some(previous)) => &previous.envelope,
            (KeyGeneration::Current | KeyGeneration::Previous, _) => &self.envelope,
        }
    }

    /// The envelope of a callback. During a rotation Muster cannot know which key the receiver has, so
    /// the attempts use both in turn, beginning with the previous one.
    #[must_use]
    pub fn callback_envelope(&self, attempt: i32, now: DateTime<Utc>) -> &Envelope {
        match self.previous_at(now) {
            Some(previous) if attempt % 2 == 1 => &previous.envelope,
            Some(_) | None => &self.envelope,
        }
    }

    /// Opens a message with the current key, and with the previous one if that is accepted. Both run
    /// in any case, so that the time does not show which key opened a text.
    pub(super) fn open(&self, sealed: &str, accepts_previous: bool) -> (Opened, KeyGeneration) {
        let opened = self.envelope.open(sealed);
        match self.previous.as_ref().filter(|_| accepts_previous) {
            None => (opened, KeyGeneration::Current),
            Some(previous) => match opened.or(previous.envelope.open(sealed)) {
                (opened, true) => (opened, KeyGeneration::Previous),
                (opened, false) => (opened, KeyGeneration::Current),
            },
        }
    }

    /// Checks a token. Returns the key that issued it, and the last second at which the key is
    /// accepted.
    pub(super) fn check_token(
        &self,
        claims: &TokenClaims,
        now: DateTime<Utc>,
    ) -> Result<(KeyGeneration, i64), TokenError> {
        match (self.token_key.check(claims, now.timestamp()), &self.previous) {
            (Ok(()), _) => Ok((KeyGeneration::Current, i64::MAX)),
            (Err(TokenError::Forged), Some(previous)) => {
                previous.token_key.check(claims, now.timestamp())?;
                let last = previous.until.timestamp().saturating_sub(1);
                if now.timestamp() > last {
                    return Err(TokenError::Expired);
                }
                Ok((KeyGeneration::Previous, last))
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl From<StoredApp> for AppContext {
    fn from(StoredApp { app, aes_key, previous, .. }: StoredApp) -> Self {
        let app_id = app.app_id.as_str();
        let previous = previous.map(|previous| PreviousKeys {
            envelope: Envelope::new(&previous.key, app_id),
            token_key: TokenKey::derive(&previous.key),
            until: previous.until,
        });
        Self {
            envelope: Envelope::new(&aes_key, app_id),
            token_key: TokenKey::derive(&aes_key),
            previous,
            app,
        }
    }
}

#[cfg(test)]
impl AppContext {
    /// An app with a new key and without callbacks.
    pub(crate) fn for_tests() -> Self {
        Self::from(tests::stored_app(crate::wire::AesKey::generate()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::{AllowedForms, Buin, Permissions};
    use crate::repository::apps::PreviousAesKey;
    use crate::wire::AesKey;

    pub(super) fn stored_app(key: AesKey) -> StoredApp {
        let app = App {
            buin: Buin::FIRST_APP,
            app_id: "mine".parse().unwrap(),
            name: String::new(),
            permissions: Permissions::for_new_app(),
            forms: AllowedForms::Both,
            callback: None,
            callbacks_paused: false,
            disabled: false,
        };
        StoredApp::new(app, key)
    }

    #[test]
    fn callbacks_are_sealed_with_both_keys_in_turn_during_a_rotation() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (old, new) = (AesKey::generate(), AesKey::generate());
        let mut stored = stored_app(new.clone());
        let until = now + TimeDelta::days(7);
        stored.previous = Some(PreviousAesKey { key: old.clone(), until });
        let context = AppContext::from(stored);
        let [old, new] = [&old, &new].map(|key| Envelope::new(key, "mine"));
        for (attempt, at, expected) in [
            (1, now, &old),
            (2, now, &new),
            (3, until - TimeDelta::seconds(1), &old),
            (1, until, &new),
            (2, until, &new),
        ] {
            let found = context.callback_envelope(attempt, at);
            assert!(found.is_same_as(expected), "attempt {attempt} at {at}");
        }
    }
}
