//! An authenticated app, and the permissions of its credential.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::key_entry::KeyEntry;
use super::{AppContext, AuthError, KeyGeneration};
use crate::domain::{App, MessageForm, Permission, Permissions};
use crate::wire::{Envelope, Opened};

/// An authenticated app.
pub struct Caller {
    proof: CredentialProof,
    /// Whether messages may be sealed with the key before the last rotation.
    accepts_previous: bool,
    authenticated_at: Instant,
}

/// The verified credential of a caller.
pub(super) enum CredentialProof {
    /// A token, and the key that issued it.
    Token(Arc<AppContext>, KeyGeneration),
    /// An API key.
    ApiKey(Arc<KeyEntry>),
}

/// The kind of credential of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token from `gettoken`.
    Token,
    /// An API key.
    ApiKey,
}

impl Caller {
    pub(super) fn new(
        proof: CredentialProof,
        accepts_previous: bool,
        authenticated_at: Instant,
    ) -> Self {
        Self { proof, accepts_previous, authenticated_at }
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app_context().app
    }

    /// The app with its derived keys.
    #[must_use]
    pub fn app_context(&self) -> &Arc<AppContext> {
        self.proof.app_context()
    }

    /// Checks that the credential may be used from this address, and records its use.
    ///
    /// # Errors
    /// [`AuthError::ForeignNetwork`].
    pub fn admit(&self, client: impl FnOnce() -> IpAddr) -> Result<(), AuthError> {
        match &self.proof {
            CredentialProof::Token(..) => Ok(()),
            CredentialProof::ApiKey(key) => key.admit(client()),
        }
    }

    /// The permissions of the credential: those of the app, or those of them that its key has.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        match &self.proof {
            CredentialProof::Token(app_context, _) => app_context.app.permissions,
            CredentialProof::ApiKey(key) => key.permissions,
        }
    }

    /// The key of the app that the credential proves: that of the token, else the current one.
    #[must_use]
    pub fn key(&self) -> KeyGeneration {
        match self.proof {
            CredentialProof::Token(_, key) => key,
            CredentialProof::ApiKey(_) => KeyGeneration::Current,
        }
    }

    /// The envelope of a key of the app.
    #[must_use]
    pub fn envelope(&self, key: KeyGeneration) -> &Envelope {
        self.app_context().envelope_of(key)
    }

    /// Opens a message of the app. Returns the key that sealed it.
    #[must_use]
    pub fn open(&self, sealed: &str) -> (Opened, KeyGeneration) {
        self.app_context().open(sealed, self.accepts_previous)
    }

    /// The time at which the request arrived, with its body.
    #[must_use]
    pub fn authenticated_at(&self) -> Instant {
        self.authenticated_at
    }

    /// The same caller. `at` is the time at which the rest of the request had arrived.
    #[must_use]
    pub fn arrived_at(self, at: Instant) -> Self {
        Self { authenticated_at: at, ..self }
    }

    /// Starts the time of the caller's next statement, in a request that has many.
    pub(super) fn restart_at(&mut self, at: Instant) {
        self.authenticated_at = at;
    }

    /// The kind of credential.
    #[must_use]
    pub fn credential(&self) -> Credential {
        match self.proof {
            CredentialProof::Token(..) => Credential::Token,
            CredentialProof::ApiKey(_) => Credential::ApiKey,
        }
    }

    /// Checks that the credential has a permission.
    ///
    /// # Errors
    /// [`AuthError::MissingPermission`] or [`AuthError::KeyLacksPermission`].
    pub fn require(&self, permission: Permission) -> Result<(), AuthError> {
        match self.permissions().contains(permission) {
            true => Ok(()),
            false => Err(self.missing(permission)),
        }
    }

    /// Whether the credential may read sessions. A write of another shows nothing of the session.
    #[must_use]
    pub fn may_read(&self) -> bool {
        let permissions = self.permissions();
        permissions.contains(Permission::SessionsRead)
            || permissions.contains(Permission::SessionsAdmin)
    }

    /// The error of a permission that the credential lacks.
    #[must_use]
    pub fn missing(&self, permission: Permission) -> AuthError {
        match self.app().permissions.contains(permission) {
            true => AuthError::KeyLacksPermission(permission),
            false => AuthError::MissingPermission(permission),
        }
    }

    /// Checks that the app may use a form of messages.
    ///
    /// # Errors
    /// [`AuthError::FormNotAllowed`].
    pub fn require_form(&self, form: MessageForm) -> Result<(), AuthError> {
        self.app_context().require_form(form)
    }
}

impl CredentialProof {
    pub(super) fn app_context(&self) -> &Arc<AppContext> {
        match self {
            Self::Token(app_context, _) => app_context,
            Self::ApiKey(key) => &key.app_context,
        }
    }
}
