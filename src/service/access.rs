//! Authenticates callers by access token or API key.
//!
//! A client gets a token every two hours and sends it with every request. So each thread caches the
//! tokens that it has verified, until the directory of apps changes.

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

/// How tokens are issued.
#[derive(Clone, Copy, Debug)]
pub struct TokenRules {
    /// How long a token is valid.
    pub expire_in: Duration,
    /// The largest difference between the time in a token request and the server's time.
    pub max_clock_skew: Duration,
}

/// How many tokens a thread caches. A full cache is emptied.
const CHECKED: usize = 1_024;

/// Authenticates callers. A clone is for another thread and has a token cache of its own.
pub struct Access {
    directory: Arc<Directory>,
    rules: TokenRules,
    clock: Clock,
    checked: RefCell<Checked>,
}

/// Tokens that were verified.
#[derive(Default)]
struct Checked {
    /// The generation of the directory that they were verified against.
    edition: u64,
    tokens: HashMap<Box<str>, Good>,
}

/// A verified token.
struct Good {
    known: Arc<KnownApp>,
    /// In Unix seconds.
    expires_at: i64,
}

impl Clone for Access {
    fn clone(&self) -> Self {
        Self::new(self.directory.clone(), self.rules, self.clock.clone())
    }
}

/// An authenticated app.
pub struct Caller {
    known: Arc<KnownApp>,
    credential: Credential,
    admitted_at: Instant,
}

/// How a caller was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// By an access token of `gettoken`.
    Token,
    /// By an API key.
    ApiKey,
}

/// A token that was just issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token.
    pub access_token: String,
    /// How long it is valid, in seconds.
    pub expire_in: u64,
}

impl Access {
    /// For the apps of `directory`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, rules: TokenRules, clock: Clock) -> Self {
        Self { directory, rules, clock, checked: RefCell::default() }
    }

    /// Authenticates the holder of an access token or an API key. `at` is when the request arrived.
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

    /// Like [`Self::admit`], from memory only. `None`: the database may know the app or the key.
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
        // The generation is read first, so that a change during the lookup empties the cache.
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

    /// The app that requests a token.
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

    /// Like [`Self::applicant`], from memory only. `None`: the database may know the app.
    #[must_use]
    pub fn known_applicant(&self, buin: i64, app_id: &str) -> Option<Arc<KnownApp>> {
        match self.directory.app(buin, app_id) {
            Found::App(known) if !known.app.disabled => Some(known),
            Found::App(_) | Found::Elsewhere | Found::Nothing => None,
        }
    }

    /// Issues a token to an app that sealed `time`, in Unix seconds as decimal text. Older tokens
    /// stay valid.
    ///
    /// # Errors
    /// [`Denied::ClockSkew`] if `time` is no number or too far from the server's time.
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
    /// Empties the cache if it is full or the directory has changed.
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

    /// The app, with what is derived from its key.
    #[must_use]
    pub fn known(&self) -> &Arc<KnownApp> {
        &self.known
    }

    /// When its request arrived.
    pub(super) fn admitted_at(&self) -> Instant {
        self.admitted_at
    }

    /// How it was authenticated.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Checks that the app has a permission.
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
