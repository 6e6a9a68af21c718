//! Authenticates callers by access token or API key.
//!
//! A client gets a token every two hours and sends it with every request. So each thread caches the
//! tokens that it has verified, until the directory of apps changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::app_directory::AppLookup;
use super::{AppContext, AppDirectory, AuthError, Error};
use crate::clock::Clock;
use crate::domain::{App, Permission};
use crate::wire::{ApiKey, TokenClaims, TokenError};

/// How tokens are issued.
#[derive(Clone, Copy, Debug)]
pub struct TokenOptions {
    /// How long a token is valid.
    pub expire_in: Duration,
    /// The largest difference between the time in a token request and the server's time.
    pub max_clock_skew: Duration,
}

/// How many tokens a thread caches. A full cache is emptied.
const TOKEN_CACHE_CAPACITY: usize = 1_024;

/// Authenticates callers. A clone is for another thread and has a token cache of its own.
pub struct Authenticator {
    directory: Arc<AppDirectory>,
    options: TokenOptions,
    clock: Clock,
    token_cache: RefCell<TokenCache>,
}

/// Tokens that were verified.
#[derive(Default)]
struct TokenCache {
    /// The generation of the directory that they were verified against.
    generation: u64,
    tokens: HashMap<Box<str>, CachedToken>,
}

/// A verified token.
struct CachedToken {
    app_context: Arc<AppContext>,
    /// In Unix seconds.
    expires_at: i64,
}

impl Clone for Authenticator {
    fn clone(&self) -> Self {
        Self::new(self.directory.clone(), self.options, self.clock.clone())
    }
}

/// An authenticated app.
pub struct Caller {
    app_context: Arc<AppContext>,
    credential: Credential,
    authenticated_at: Instant,
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
pub struct IssuedToken {
    /// The token.
    pub access_token: String,
    /// How long it is valid, in seconds.
    pub expire_in: u64,
}

impl Authenticator {
    /// For the apps of `directory`.
    #[must_use]
    pub fn new(directory: Arc<AppDirectory>, options: TokenOptions, clock: Clock) -> Self {
        Self { directory, options, clock, token_cache: RefCell::default() }
    }

    /// Authenticates the holder of an access token or an API key. `at` is when the request arrived.
    ///
    /// # Errors
    /// [`Denied::TokenMissing`], [`Denied::TokenUnknown`] or [`Denied::TokenExpired`], or when the
    /// database fails.
    pub async fn authenticate(&self, token: &str, at: Instant) -> Result<Caller, Error> {
        if let Some(caller) = self.authenticate_cached(token, at)? {
            return Ok(caller);
        }
        self.directory.refresh_on_miss().await?;
        Ok(self.authenticate_cached(token, at)?.ok_or(AuthError::UnknownToken)?)
    }

    /// Like [`Self::admit`], from memory only. `None`: the database may know the app or the key.
    ///
    /// # Errors
    /// [`Denied::TokenMissing`], [`Denied::TokenUnknown`] or [`Denied::TokenExpired`].
    pub fn authenticate_cached(
        &self,
        token: &str,
        at: Instant,
    ) -> Result<Option<Caller>, AuthError> {
        if token.is_empty() {
            return Err(AuthError::MissingToken);
        }
        let (app_context, credential) = match ApiKey::parse(token) {
            Some(key) => (self.directory.find_by_key(&key.hash()), Credential::ApiKey),
            None => (self.verify_token(token)?, Credential::Token),
        };
        match app_context {
            None => Ok(None),
            Some(app_context) if !app_context.app.disabled => {
                Ok(Some(Caller { app_context, credential, authenticated_at: at }))
            }
            Some(_) => Err(AuthError::UnknownToken),
        }
    }

    fn verify_token(&self, token: &str) -> Result<Option<Arc<AppContext>>, AuthError> {
        let now = self.clock.now().timestamp();
        let mut token_cache = self.token_cache.borrow_mut();
        // The generation is read first, so that a change during the lookup empties the cache.
        token_cache.evict_if_stale(self.directory.generation());
        if let Some(cached) = token_cache.tokens.get(token)
            && now < cached.expires_at
        {
            return Ok(Some(cached.app_context.clone()));
        }
        let claims = TokenClaims::decode(token).ok_or(AuthError::UnknownToken)?;
        let AppLookup::Found(app_context) = self.directory.find(claims.buin, &claims.app_id) else {
            return Ok(None);
        };
        match app_context.token_key.check(&claims, now) {
            Ok(()) => {
                let cached =
                    CachedToken { app_context: app_context.clone(), expires_at: claims.expires_at };
                token_cache.tokens.insert(token.into(), cached);
                Ok(Some(app_context))
            }
            Err(TokenError::Forged) => Err(AuthError::UnknownToken),
            Err(TokenError::Expired) => Err(AuthError::ExpiredToken),
        }
    }

    /// The app that requests a token.
    ///
    /// # Errors
    /// [`Denied::AppUnknown`] or [`Denied::BuinWrong`], or when the database fails.
    pub async fn find_token_applicant(
        &self,
        buin: i64,
        app_id: &str,
    ) -> Result<Arc<AppContext>, Error> {
        if let Some(app_context) = self.find_token_applicant_cached(buin, app_id) {
            return Ok(app_context);
        }
        self.directory.refresh_on_miss().await?;
        match self.directory.find(buin, app_id) {
            AppLookup::Found(app_context) if !app_context.app.disabled => Ok(app_context),
            AppLookup::OtherEnterprise => Err(AuthError::WrongEnterprise.into()),
            AppLookup::Found(_) | AppLookup::NotFound => Err(AuthError::UnknownApp.into()),
        }
    }

    /// Like [`Self::applicant`], from memory only. `None`: the database may know the app.
    #[must_use]
    pub fn find_token_applicant_cached(&self, buin: i64, app_id: &str) -> Option<Arc<AppContext>> {
        match self.directory.find(buin, app_id) {
            AppLookup::Found(app_context) if !app_context.app.disabled => Some(app_context),
            AppLookup::Found(_) | AppLookup::OtherEnterprise | AppLookup::NotFound => None,
        }
    }

    /// Issues a token to an app that sealed `time`, in Unix seconds as decimal text. Older tokens
    /// stay valid.
    ///
    /// # Errors
    /// [`Denied::ClockSkew`] if `time` is no number or too far from the server's time.
    pub fn issue_token(
        &self,
        app_context: &AppContext,
        time: &str,
    ) -> Result<IssuedToken, AuthError> {
        let now = self.clock.now().timestamp();
        let time: i64 = time.trim().parse().map_err(|_| AuthError::ClockSkew)?;
        if time.abs_diff(now) > self.options.max_clock_skew.as_secs() {
            return Err(AuthError::ClockSkew);
        }
        let expire_in = self.options.expire_in.as_secs();
        let App { buin, app_id, .. } = &app_context.app;
        let expires_at = now.saturating_add_unsigned(expire_in);
        let access_token = app_context.token_key.issue(buin.get(), app_id.as_str(), expires_at);
        Ok(IssuedToken { access_token, expire_in })
    }
}

impl TokenCache {
    /// Empties the cache if it is full or the directory has changed.
    fn evict_if_stale(&mut self, generation: u64) {
        if self.generation != generation || self.tokens.len() >= TOKEN_CACHE_CAPACITY {
            self.generation = generation;
            self.tokens.clear();
        }
    }
}

impl Caller {
    /// The app.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app_context.app
    }

    /// The app, with what is derived from its key.
    #[must_use]
    pub fn app_context(&self) -> &Arc<AppContext> {
        &self.app_context
    }

    /// When its request arrived.
    pub(super) fn authenticated_at(&self) -> Instant {
        self.authenticated_at
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
    pub fn require(&self, permission: Permission) -> Result<(), AuthError> {
        if !self.app_context.app.permissions.contains(permission) {
            return Err(AuthError::MissingPermission(permission));
        }
        Ok(())
    }
}
