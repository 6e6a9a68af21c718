//! All apps and API keys, in memory.
//!
//! Both are few, and every request needs them. So each server keeps a snapshot of all apps and
//! keys, with the AES keys expanded. The database notifies the server of changes
//! ([`AppDirectory::run`]). A lookup without a result reads the database again, so a new app is
//! known at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::app_context::AppContext;
use super::key_entry::KeyEntry;
use super::key_expiry::{ExpiringKeys, KeyExpiryLog};
use crate::clock::Clock;
use crate::domain::{AppId, Buin};
use crate::keyring::Keyring;
use crate::repository::Pool;
use crate::repository::app_notifications::{self, AckToken, AppListener};
use crate::repository::keys::ApiKeyUse;
use crate::repository::{self, apps, keys};
use crate::telemetry::cause_chain;
use crate::wire::ApiKeyHash;

/// The minimum interval between two reads caused by failed lookups. It limits the cost of guessed
/// credentials.
const MISS_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// The interval between two attempts to listen for notifications.
const LISTEN_INTERVAL: Duration = Duration::from_secs(5);
/// The interval at which the use of keys is recorded.
const USAGE_FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// All apps, and all keys that are not revoked.
pub struct AppDirectory {
    pool: Pool,
    keyring: Arc<Keyring>,
    clock: Clock,
    snapshot: ArcSwap<DirectorySnapshot>,
    /// Increased after each new snapshot.
    generation: AtomicU64,
    refresh_lock: Mutex<()>,
}

struct DirectorySnapshot {
    /// The start of the read. The snapshot has every change that was committed before.
    read_at: Instant,
    apps: HashMap<String, Vec<Arc<AppContext>>>,
    keys: HashMap<ApiKeyHash, Arc<KeyEntry>>,
}

/// The result of a lookup of an app.
pub(super) enum AppLookup {
    /// The app. It may be disabled.
    Found(Arc<AppContext>),
    /// Only other enterprises have an app with this id.
    OtherEnterprise,
    /// No enterprise has an app with this id.
    NotFound,
}

impl AppDirectory {
    /// Reads all apps and keys.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(
        pool: Pool,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> Result<Self, repository::Error> {
        let snapshot = ArcSwap::from_pointee(load_snapshot(&pool, &keyring).await?);
        let (generation, refresh_lock) = (AtomicU64::default(), Mutex::default());
        Ok(Self { pool, keyring, clock, snapshot, generation, refresh_lock })
    }

    /// A key, from the snapshot.
    pub(super) fn find_by_key(&self, hash: &ApiKeyHash) -> Option<Arc<KeyEntry>> {
        self.snapshot.load().keys.get(hash).cloned()
    }

    /// The keys of enabled apps that expire soon, and the next expiry of all.
    pub(super) fn expiring_keys(&self) -> ExpiringKeys {
        let snapshot = self.snapshot.load();
        let keys = snapshot.keys.iter().filter(|(_, key)| !key.app_context.app.disabled);
        let keys = keys.filter_map(|(hash, key)| Some((hash, key.expires_at?)));
        ExpiringKeys::find(keys, self.clock.now())
    }

    /// The generation, which changes with every snapshot. A lookup is valid if the generation is
    /// the same as before the lookup.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Finds the app in the snapshot. The client sends both arguments, unchecked.
    pub(super) fn find(&self, buin: i64, app_id: &str) -> AppLookup {
        match self.snapshot.load().apps.get(app_id) {
            None => AppLookup::NotFound,
            Some(apps) => {
                match apps.iter().find(|app_context| app_context.app.buin.get() == buin) {
                    Some(app_context) => AppLookup::Found(app_context.clone()),
                    None => AppLookup::OtherEnterprise,
                }
            }
        }
    }

    /// Reads the database again after a lookup without a result.
    pub(super) async fn refresh_on_miss(&self) -> Result<(), repository::Error> {
        self.refresh_if_older(Instant::now(), MISS_REFRESH_INTERVAL).await
    }

    /// The apps that receive callbacks.
    pub fn subscribers(&self) -> Vec<Arc<AppContext>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.values().flatten();
        apps.filter(|app_context| app_context.app.callbacks_blocked().is_none()).cloned().collect()
    }

    /// The app if it receives callbacks.
    pub fn subscriber(&self, buin: Buin, app_id: &AppId) -> Option<Arc<AppContext>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.get(app_id.as_str())?;
        let app_context = apps.iter().find(|app_context| app_context.app.buin == buin)?;
        app_context.app.callbacks_blocked().is_none().then(|| app_context.clone())
    }

    /// Keeps the snapshot current. Never completes. `listener` must be opened before the directory,
    /// so that no change between the two is missed.
    pub async fn run(&self, listener: AppListener) {
        let mut flushed_at = Instant::now();
        let mut expiry_log = KeyExpiryLog::default();
        let mut listener = Some(listener);
        loop {
            let ack_token = match &mut listener {
                // The read below covers changes before the listener is open.
                None => {
                    match AppListener::listen(&self.pool).await {
                        Ok(connected) => listener = Some(connected),
                        Err(error) => {
                            error.warn(
                                "cannot listen for changed apps; polling until that works again",
                            );
                            tokio::time::sleep(LISTEN_INTERVAL).await;
                        }
                    }
                    None
                }
                Some(connected) => {
                    let interval = connected.refresh_interval();
                    match tokio::time::timeout(interval, connected.recv()).await {
                        Ok(Ok(ack_token)) => ack_token,
                        Ok(Err(error)) => {
                            error.warn(
                                "lost the notifications of changed apps; polling until they are back",
                            );
                            listener = None;
                            None
                        }
                        Err(_) => None,
                    }
                }
            };
            if let Err(error) = self.refresh_if_older(Instant::now(), Duration::ZERO).await {
                error.warn("cannot read the apps; the last snapshot stays in use");
                // The connection of the listener may be silent as well.
                listener = None;
            } else if let Some(ack_token) = ack_token {
                self.acknowledge(&ack_token).await;
            }
            expiry_log.warn(&self.expiring_keys(), self.clock.now());
            if flushed_at.elapsed() >= USAGE_FLUSH_INTERVAL {
                flushed_at = Instant::now();
                self.flush_key_usage().await;
                self.forget_previous_keys().await;
            }
        }
    }

    /// Confirms that this server has read the change that `ack_token` announces. A master key is
    /// confirmed only if this server has it.
    async fn acknowledge(&self, ack_token: &AckToken) {
        if let Some(id) = ack_token.master_key()
            && self.keyring.find(id).is_none()
        {
            tracing::warn!(
                master_key = %id,
                "cannot confirm a new master key: this server does not have it"
            );
        } else if let Err(error) = app_notifications::acknowledge(&self.pool, ack_token).await {
            tracing::warn!(
                error = %cause_chain(&error),
                "cannot confirm that changed apps were read"
            );
        }
    }

    /// Records in the database which keys were used since the last call.
    pub async fn flush_key_usage(&self) {
        let snapshot = self.snapshot.load_full();
        let used: Vec<ApiKeyUse> = snapshot
            .keys
            .iter()
            .filter_map(|(hash, key)| Some(ApiKeyUse { hash: *hash, from: key.last_use.take()? }))
            .collect();
        if !used.is_empty()
            && let Err(error) = keys::update_last_used(&self.pool, &used, self.clock.now()).await
        {
            tracing::warn!(
                error = %cause_chain(&error),
                "cannot record the use of {} keys",
                used.len()
            );
        }
    }

    /// Deletes the previous AES keys of rotations whose time has ended. They are refused already.
    async fn forget_previous_keys(&self) {
        let (snapshot, now) = (self.snapshot.load_full(), self.clock.now());
        let mut apps = snapshot.apps.values().flatten();
        if apps.any(|app_context| app_context.has_ended_keys(now))
            && let Err(error) = apps::forget_previous_keys(&self.pool, now).await
        {
            error.warn("cannot delete the previous AES keys of apps");
        }
    }

    /// Reads a new snapshot unless the current one started after `instant`. The interval between
    /// two reads is at least `min_interval`.
    async fn refresh_if_older(
        &self,
        instant: Instant,
        min_interval: Duration,
    ) -> Result<(), repository::Error> {
        let _refresh_guard = self.refresh_lock.lock().await;
        let read_at = self.snapshot.load().read_at;
        if read_at >= instant {
            return Ok(());
        }
        tokio::time::sleep_until(read_at + min_interval).await;
        let new_snapshot = load_snapshot(&self.pool, &self.keyring).await?;
        let old_snapshot = self.snapshot.swap(Arc::new(new_snapshot));
        self.generation.fetch_add(1, Ordering::Release);
        // Use that is not recorded yet moves to the new snapshot.
        let snapshot = self.snapshot.load();
        for (hash, old) in &old_snapshot.keys {
            if let Some(key) = snapshot.keys.get(hash) {
                key.last_use.inherit(&old.last_use);
            }
        }
        Ok(())
    }
}

async fn load_snapshot(
    pool: &Pool,
    keyring: &Keyring,
) -> Result<DirectorySnapshot, repository::Error> {
    let read_at = Instant::now();
    let mut apps: HashMap<String, Vec<Arc<AppContext>>> = HashMap::new();
    let mut by_id: HashMap<(Buin, AppId), Arc<AppContext>> = HashMap::new();
    for stored in apps::list(pool, keyring).await? {
        let app_context = Arc::new(AppContext::from(stored));
        by_id.insert((app_context.app.buin, app_context.app.app_id.clone()), app_context.clone());
        apps.entry(app_context.app.app_id.to_string()).or_default().push(app_context);
    }
    let keys = keys::list(pool)
        .await?
        .into_iter()
        .filter(|key| key.revoked_at.is_none())
        .filter_map(|key| {
            let app = by_id.get(&(key.buin, key.app_id))?.clone();
            Some((key.hash, Arc::new(KeyEntry::new(app, key.restrictions))))
        })
        .collect();
    Ok(DirectorySnapshot { read_at, apps, keys })
}
