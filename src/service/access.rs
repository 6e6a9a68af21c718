//! Who calls: access tokens and API keys.
//!
//! Clients get a token every two hours and show it with every request. So each thread keeps the
//! tokens that it has checked, for as long as the directory they were checked against is the last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::app_directory::Found;
use super::{Denied, Directory, Error, KnownApp};
use crate::clock::Clock;
use crate::domain::{App, Permission};
use crate::wire::{ApiKey, Claims, TokenError};

/// How tokens are given.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules {
    /// How long a token is valid.
    pub expire_in: Duration,
    /// How far the time in a request for a token may be from the server's.
    pub max_clock_skew: Duration,
}

/// How many tokens a thread keeps; then it begins anew.
const CHECKED: usize = 1_024;

/// Lets callers in. A clone is for another thread.
pub struct Access {
    directory: Arc<Directory>,
    rules: TokenRules,
    clock: Clock,
    checked: RefCell<Checked>,
}

/// Tokens that were good.
#[derive(Default)]
struct Checked {
    /// Of the directory that knew their apps.
    edition: u64,
    tokens: HashMap<Box<str>, Good>,
}

/// A token that is good until then, a Unix second.
struct Good {
    known: Arc<KnownApp>,
    expires_at: i64,
}

impl Clone for Access {
    fn clone(&self) -> Self {
        Self::new(self.directory.clone(), self.rules, self.clock.clone())
    }
}

/// An app that was let in.
pub struct Caller {
    known: Arc<KnownApp>,
    credential: Credential,
    admitted_at: Instant,
}

/// What a caller was let in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token of `gettoken`.
    Token,
    /// An API key.
    ApiKey,
}

/// A token, just given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token.
    pub access_token: String,
    /// How long it is valid, in seconds.
    pub expire_in: u64,
}

impl Access {
    /// Lets in the apps of `directory`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, rules: TokenRules, clock: Clock) -> Self {
        Self { directory, rules, clock, checked: RefCell::default() }
    }

    /// Lets in whoever holds an access token or an API key, `at` this time.
    ///
    /// # Errors
    /// [`Denied::TokenMissing`], [`Denied::TokenUnknown`] or [`Denied::TokenExpired`], or when the
    /// database fails.
    pub async fn admit(&self, token: &str, at: Instant) -> Result<Caller, Error> {
        if let Some(caller) = self.recognise(token, at)? {
            return Ok(caller);
        }
        self.directory.look_again().await?;
        Ok(self.recognise(token, at)?.ok_or(Denied::TokenUnknown)?)
    }

    /// The same without asking the database: `None` if that may know more than is in memory.
    ///
    /// # Errors
    /// [`Denied::TokenMissing`], [`Denied::TokenUnknown`] or [`Denied::TokenExpired`].
    pub fn recognise(&self, token: &str, at: Instant) -> Result<Option<Caller>, Denied> {
        if token.is_empty() {
            return Err(Denied::TokenMissing);
        }
        let (known, credential) = match ApiKey::recognise(token) {
            Some(key) => (self.directory.key(&key.hash()), Credential::ApiKey),
            None => (self.by_token(token)?, Credential::Token),
        };
        match known {
            None => Ok(None),
            Some(known) if !known.app.disabled => {
                Ok(Some(Caller { known, credential, admitted_at: at }))
            }
            Some(_) => Err(Denied::TokenUnknown),
        }
    }

    fn by_token(&self, token: &str) -> Result<Option<Arc<KnownApp>>, Denied> {
        let now = self.clock.now().timestamp();
        let mut checked = self.checked.borrow_mut();
        // Before anything is looked up: what changes meanwhile is another edition.
        checked.keep_up(self.directory.edition());
        if let Some(good) = checked.tokens.get(token)
            && now < good.expires_at
        {
            return Ok(Some(good.known.clone()));
        }
        let claims = Claims::read(token).ok_or(Denied::TokenUnknown)?;
        let Found::App(known) = self.directory.app(claims.buin, &claims.app_id) else {
            return Ok(None);
        };
        match known.token_key.check(&claims, now) {
            Ok(()) => {
                let good = Good { known: known.clone(), expires_at: claims.expires_at };
                checked.tokens.insert(token.into(), good);
                Ok(Some(known))
            }
            Err(TokenError::Forged) => Err(Denied::TokenUnknown),
            Err(TokenError::Expired) => Err(Denied::TokenExpired),
        }
    }

    /// The app that asks for a token.
    ///
    /// # Errors
    /// [`Denied::AppUnknown`] or [`Denied::BuinWrong`], or when the database fails.
    pub async fn applicant(&self, buin: i64, app_id: &str) -> Result<Arc<KnownApp>, Error> {
        if let Some(known) = self.known_applicant(buin, app_id) {
            return Ok(known);
        }
        self.directory.look_again().await?;
        match self.directory.app(buin, app_id) {
            Found::App(known) if !known.app.disabled => Ok(known),
            Found::Elsewhere => Err(Denied::BuinWrong.into()),
            Found::App(_) | Found::Nothing => Err(Denied::AppUnknown.into()),
        }
    }

    /// The same without asking the database, which may know more.
    #[must_use]
    pub fn known_applicant(&self, buin: i64, app_id: &str) -> Option<Arc<KnownApp>> {
        match self.directory.app(buin, app_id) {
            Found::App(known) if !known.app.disabled => Some(known),
            Found::App(_) | Found::Elsewhere | Found::Nothing => None,
        }
    }

    /// Gives a token to an app that sealed `time`, a Unix second as decimal text. Older tokens stay
    /// valid.
    ///
    /// # Errors
    /// [`Denied::ClockSkew`].
    pub fn grant(&self, known: &KnownApp, time: &str) -> Result<Grant, Denied> {
        let now = self.clock.now().timestamp();
        let time: i64 = time.trim().parse().map_err(|_| Denied::ClockSkew)?;
        if time.abs_diff(now) > self.rules.max_clock_skew.as_secs() {
            return Err(Denied::ClockSkew);
        }
        let expire_in = self.rules.expire_in.as_secs();
        let App { buin, app_id, .. } = &known.app;
        let expires_at = now.saturating_add_unsigned(expire_in);
        let access_token = known.token_key.issue(buin.get(), app_id.as_str(), expires_at);
        Ok(Grant { access_token, expire_in })
    }
}

impl Checked {
    /// Forgets what another edition of the directory made good, or what has become too much.
    fn keep_up(&mut self, edition: u64) {
        if self.edition != edition || self.tokens.len() >= CHECKED {
            self.edition = edition;
            self.tokens.clear();
        }
    }
}

impl Caller {
    /// The app.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.known.app
    }

    /// The app, with what its key makes.
    #[must_use]
    pub fn known(&self) -> &Arc<KnownApp> {
        &self.known
    }

    /// When it was let in.
    pub(super) fn admitted_at(&self) -> Instant {
        self.admitted_at
    }

    /// What it was let in by.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Makes sure that the app has a permission.
    ///
    /// # Errors
    /// [`Denied::Permission`].
    pub fn must_have(&self, permission: Permission) -> Result<(), Denied> {
        if !self.known.app.permissions.has(permission) {
            return Err(Denied::Permission(permission));
        }
        Ok(())
    }
}
