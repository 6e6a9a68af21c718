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
use super::caller::CredentialProof;
use super::{
    AppContext, AppDirectory, AuthError, Caller, Error, KeyGeneration, ProofFault, ReplayMemory,
};
use crate::clock::Clock;
use crate::domain::App;
use crate::wire::{ApiKey, Opened, SealedFingerprint, TOKEN_GRACE, TokenClaims, TokenError};

/// The number of granted token requests that the server remembers, to refuse them a second time.
const MAX_REMEMBERED_TOKEN_REQUESTS: usize = 131_072;
/// The number of tried token requests that the server remembers. They have a memory of their own,
/// because an attacker without the key can fill it.
const MAX_REMEMBERED_ATTEMPTS: usize = 131_072;
/// The number of tokens that a thread caches. A full cache is emptied.
const TOKEN_CACHE_CAPACITY: usize = 1_024;

/// The rules for issuing tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenOptions {
    /// The validity of a token.
    pub expire_in: Duration,
    /// The maximum difference between the time in a token request and the server's time.
    pub max_clock_skew: Duration,
}

/// Authenticates callers. A clone serves another thread and has its own token cache.
pub struct Authenticator {
    directory: Arc<AppDirectory>,
    /// The token requests that were granted, on all threads.
    granted: Arc<ReplayMemory>,
    /// All token requests, on all threads.
    tried: Arc<ReplayMemory>,
    options: TokenOptions,
    clock: Clock,
    token_cache: RefCell<TokenCache>,
}

/// Tokens that were verified.
#[derive(Default)]
struct TokenCache {
    /// The generation of the directory with which the tokens were verified.
    generation: u64,
    tokens: HashMap<Box<str>, CachedToken>,
}

/// A verified token.
struct CachedToken {
    app_context: Arc<AppContext>,
    /// The key that issued the token.
    key: KeyGeneration,
    /// The last Unix second at which the token is accepted.
    accepted_until: i64,
}

impl Clone for Authenticator {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            granted: self.granted.clone(),
            tried: self.tried.clone(),
            options: self.options,
            clock: self.clock.clone(),
            token_cache: RefCell::default(),
        }
    }
}

/// A token that was just issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token.
    pub access_token: String,
    /// The validity in seconds.
    pub expire_in: u64,
    /// The key that the request used. It seals the response.
    pub key: KeyGeneration,
}

impl Authenticator {
    /// An authenticator for the apps of `directory`.
    #[must_use]
    pub fn new(directory: Arc<AppDirectory>, options: TokenOptions, clock: Clock) -> Self {
        let granted = Arc::new(ReplayMemory::new(MAX_REMEMBERED_TOKEN_REQUESTS));
        let tried = Arc::new(ReplayMemory::new(MAX_REMEMBERED_ATTEMPTS));
        Self { directory, granted, tried, options, clock, token_cache: RefCell::default() }
    }

    /// Authenticates the holder of an access token or an API key. `at` is the time at which the
    /// request arrived.
    ///
    /// # Errors
    /// [`AuthError::MissingToken`], [`AuthError::UnknownToken`], [`AuthError::ExpiredToken`] or
    /// [`AuthError::ExpiredKey`], or the database fails.
    pub async fn authenticate(&self, token: &str, at: Instant) -> Result<Caller, Error> {
        if let Some(caller) = self.authenticate_cached(token, at)? {
            return Ok(caller);
        }
        self.directory.refresh_on_miss().await?;
        Ok(self.authenticate_cached(token, at)?.ok_or(AuthError::UnknownToken)?)
    }

    /// Like [`Self::authenticate`], but uses only the memory. `None`: the database may know the app
    /// or the key.
    ///
    /// # Errors
    /// [`AuthError::MissingToken`], [`AuthError::UnknownToken`], [`AuthError::ExpiredToken`] or
    /// [`AuthError::ExpiredKey`].
    pub fn authenticate_cached(
        &self,
        token: &str,
        at: Instant,
    ) -> Result<Option<Caller>, AuthError> {
        if token.is_empty() {
            return Err(AuthError::MissingToken);
        }
        let proof = match ApiKey::parse(token) {
            Some(key) => self.directory.find_by_key(&key.hash()).map(CredentialProof::ApiKey),
            None => self.verify_token(token)?,
        };
        let Some(proof) = proof else { return Ok(None) };
        let app_context = proof.app_context();
        if app_context.app.disabled {
            return Err(AuthError::UnknownToken);
        }
        if let CredentialProof::ApiKey(key) = &proof
            && key.expires_at.is_some_and(|expires_at| self.clock.now() >= expires_at)
        {
            return Err(AuthError::ExpiredKey);
        }
        let accepts_previous =
            app_context.has_previous_keys() && app_context.previous_at(self.clock.now()).is_some();
        Ok(Some(Caller::new(proof, accepts_previous, at)))
    }

    fn verify_token(&self, token: &str) -> Result<Option<CredentialProof>, AuthError> {
        let mut token_cache = self.token_cache.borrow_mut();
        // The generation is read first, so that a change during the lookup empties the cache.
        token_cache.evict_if_stale(self.directory.generation());
        if let Some(cached) = token_cache.tokens.get(token)
            && self.clock.unix_seconds() <= cached.accepted_until
        {
            return Ok(Some(CredentialProof::Token(cached.app_context.clone(), cached.key)));
        }
        let claims = TokenClaims::decode(token).ok_or(AuthError::UnknownToken)?;
        let AppLookup::Found(app_context) = self.directory.find(claims.buin, &claims.app_id) else {
            return Ok(None);
        };
        match app_context.check_token(&claims, self.clock.now()) {
            Ok((key, key_accepted_until)) => {
                let accepted_until =
                    claims.expires_at.saturating_add(TOKEN_GRACE).min(key_accepted_until);
                let cached = CachedToken { app_context: app_context.clone(), key, accepted_until };
                token_cache.tokens.insert(token.into(), cached);
                Ok(Some(CredentialProof::Token(app_context, key)))
            }
            Err(TokenError::Forged) => Err(AuthError::UnknownToken),
            Err(TokenError::Expired) => Err(AuthError::ExpiredToken),
        }
    }

    /// The app that requests a token.
    ///
    /// # Errors
    /// [`AuthError::UnknownApp`] or [`AuthError::WrongEnterprise`], or the database fails.
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

    /// Like [`Self::find_token_applicant`], but uses only the memory. `None`: the database may know
    /// the app.
    #[must_use]
    pub fn find_token_applicant_cached(&self, buin: i64, app_id: &str) -> Option<Arc<AppContext>> {
        match self.directory.find(buin, app_id) {
            AppLookup::Found(app_context) if !app_context.app.disabled => Some(app_context),
            AppLookup::Found(_) | AppLookup::OtherEnterprise | AppLookup::NotFound => None,
        }
    }

    /// Issues a token to an app that proves its key: `sealed` is the current time in Unix seconds, as
    /// decimal text. Older tokens stay valid. During a rotation the app may use either key; a token
    /// for the previous key ends with that key.
    ///
    /// # Errors
    /// [`AuthError::InvalidProof`] if `sealed` cannot be opened, is not a number, is too far from the
    /// server's time, or was used before.
    pub fn issue_token(
        &self,
        app_context: &AppContext,
        sealed: &str,
    ) -> Result<IssuedToken, AuthError> {
        let permitted_skew = self.options.max_clock_skew.as_secs();
        let at = self.clock.now();
        let now = at.timestamp();
        let previous = app_context.previous_at(at);
        let key = self
            .check_proof(sealed, || {
                let (opened, key) = app_context.open(sealed, previous.is_some());
                verify_proof(&opened, now, permitted_skew).map(|()| key)
            })
            .map_err(|fault| AuthError::InvalidProof { permitted_skew, fault })?;
        let configured = self.options.expire_in.as_secs();
        let (token_key, expire_in) = match previous.filter(|_| key == KeyGeneration::Previous) {
            None => (&app_context.token_key, configured),
            Some(previous) => {
                let remaining = previous.until.timestamp().saturating_sub(now).unsigned_abs();
                (&previous.token_key, configured.min(remaining))
            }
        };
        let App { buin, app_id, .. } = &app_context.app;
        let expires_at = now.saturating_add_unsigned(expire_in);
        let access_token = token_key.issue(buin.get(), app_id.as_str(), expires_at);
        Ok(IssuedToken { access_token, expire_in, key })
    }

    /// The result of `verify` for a proof that was not tried before.
    ///
    /// A recorded proof could otherwise be used for ever: the time in it can be changed without the
    /// key. An attacker can also guess the end of any recorded message. It gives the first block
    /// behind a guess the form of a proof, which is valid if the guess is right. All guesses about a
    /// message have its last block, so only the first one is opened.
    fn check_proof<T>(
        &self,
        sealed: &str,
        verify: impl FnOnce() -> Result<T, ProofFault>,
    ) -> Result<T, ProofFault> {
        let fingerprint = SealedFingerprint::from_sealed(sealed).ok_or(ProofFault::Unopened)?;
        if self.granted.contains(fingerprint) || !self.tried.remember(fingerprint) {
            return Err(ProofFault::Replayed);
        }
        let result = verify()?;
        self.granted.remember(fingerprint);
        Ok(result)
    }
}

/// Checks the proof of an app's key: the time `now`.
fn verify_proof(opened: &Opened, now: i64, permitted_skew: u64) -> Result<(), ProofFault> {
    let time = opened.text().map_err(|_| ProofFault::Unopened)?;
    let time: i64 = time.trim().parse().map_err(|_| ProofFault::NotATime)?;
    if time.abs_diff(now) > permitted_skew {
        return Err(ProofFault::ClockSkew(time.saturating_sub(now)));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_remembered_tokens_is_bounded() {
        let app_context = Arc::new(AppContext::for_tests());
        let mut cache = TokenCache::default();
        for number in 0..3 * TOKEN_CACHE_CAPACITY {
            cache.evict_if_stale(0);
            let app_context = app_context.clone();
            let token = CachedToken { app_context, key: KeyGeneration::Current, accepted_until: 0 };
            cache.tokens.insert(number.to_string().into(), token);
            assert!(cache.tokens.len() <= TOKEN_CACHE_CAPACITY);
        }
    }
}
