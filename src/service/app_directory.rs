//! All apps and API keys, in memory.
//!
//! Both are few and every request needs them, so each server keeps a snapshot of all of them, with
//! the keys expanded. The database notifies the server of changes ([`Directory::follow`]). A lookup
//! that finds nothing reads the database again, so an app that was just created is never unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::domain::{App, AppId, Buin};
use crate::keyring::Keyring;
use crate::repository::PgPool;
use crate::repository::app_notifications::{self, Changes, Note};
use crate::repository::apps::StoredApp;
use crate::repository::{self, apps, keys};
use crate::wire::{ApiKeyHash, Envelope, TokenKey};

/// The shortest time between two reads that are caused by failed lookups. It bounds what guessing
/// costs the database.
const MISSES: Duration = Duration::from_millis(100);
/// How often the directory reads without a notification, in case one was lost with its connection.
const REFRESH: Duration = Duration::from_secs(5);
/// How often the use of keys is recorded.
const NOTE_USE: Duration = Duration::from_secs(30);

/// An app, with what is derived from its key.
pub struct KnownApp {
    /// The app.
    pub app: App,
    /// Seals and opens its messages.
    pub envelope: Envelope,
    /// Issues and verifies its tokens.
    pub token_key: TokenKey,
}

impl From<StoredApp> for KnownApp {
    fn from(StoredApp { app, aes_key }: StoredApp) -> Self {
        Self {
            envelope: Envelope::new(&aes_key, app.app_id.as_str()),
            token_key: TokenKey::derive(&aes_key),
            app,
        }
    }
}

/// All apps and all keys that are not revoked.
pub struct Directory {
    pool: PgPool,
    keyring: Arc<Keyring>,
    clock: Clock,
    snapshot: ArcSwap<Snapshot>,
    /// Increased after each new snapshot.
    edition: AtomicU64,
    reading: Mutex<()>,
}

struct Snapshot {
    /// When its read started. The snapshot has everything that was committed before.
    read_at: Instant,
    apps: HashMap<String, Vec<Arc<KnownApp>>>,
    keys: HashMap<ApiKeyHash, Key>,
}

struct Key {
    app: Arc<KnownApp>,
    used: AtomicBool,
}

/// The result of a lookup of an app.
pub(super) enum Found {
    /// The app. It may be disabled.
    App(Arc<KnownApp>),
    /// Only other enterprises have an app with this id.
    Elsewhere,
    /// No enterprise has an app with this id.
    Nothing,
}

impl Directory {
    /// Reads all apps and keys.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(
        pool: PgPool,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> Result<Self, repository::Error> {
        let snapshot = ArcSwap::from_pointee(read(&pool, &keyring).await?);
        let (edition, reading) = (AtomicU64::default(), Mutex::default());
        Ok(Self { pool, keyring, clock, snapshot, edition, reading })
    }

    /// The app of a key, from the snapshot.
    pub(super) fn key(&self, hash: &ApiKeyHash) -> Option<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let key = snapshot.keys.get(hash)?;
        key.used.store(true, Ordering::Relaxed);
        Some(key.app.clone())
    }

    /// Changes with every snapshot. A lookup is valid as long as this is what it was before the
    /// lookup.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The app with this enterprise and id, from the snapshot. Both come from the client,
    /// unchecked.
    pub(super) fn app(&self, buin: i64, app_id: &str) -> Found {
        match self.snapshot.load().apps.get(app_id) {
            None => Found::Nothing,
            Some(apps) => match apps.iter().find(|known| known.app.buin.get() == buin) {
                Some(known) => Found::App(known.clone()),
                None => Found::Elsewhere,
            },
        }
    }

    /// Reads the database again after a lookup that found nothing.
    pub(super) async fn look_again(&self) -> Result<(), repository::Error> {
        self.newer_than(Instant::now(), MISSES).await
    }

    /// The apps that callbacks are sent to.
    pub fn subscribers(&self) -> Vec<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.values().flatten();
        apps.filter(|known| known.app.withheld().is_none()).cloned().collect()
    }

    /// The app, if callbacks are sent to it.
    pub fn subscriber(&self, buin: Buin, app_id: &AppId) -> Option<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.get(app_id.as_str())?;
        let known = apps.iter().find(|known| known.app.buin == buin)?;
        known.app.withheld().is_none().then(|| known.clone())
    }

    /// Keeps the snapshot up to date. Runs until it is dropped. `changes` must have been opened
    /// before the directory, so that no change is missed between the two.
    pub async fn follow(&self, changes: Changes) {
        let mut noted = Instant::now();
        let mut changes = Some(changes);
        loop {
            let note = match &mut changes {
                // Changes before the listener is open are read below.
                None => {
                    match Changes::follow(&self.pool).await {
                        Ok(following) => changes = Some(following),
                        Err(error) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "cannot listen for changed apps; polling until that works again"
                            );
                            tokio::time::sleep(REFRESH).await;
                        }
                    }
                    None
                }
                Some(following) => match tokio::time::timeout(REFRESH, following.next()).await {
                    Ok(Ok(note)) => note,
                    Ok(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "lost the notifications of changed apps; polling until they are back"
                        );
                        changes = None;
                        None
                    }
                    Err(_) => None,
                },
            };
            if let Err(error) = self.newer_than(Instant::now(), Duration::ZERO).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the apps; the last snapshot stays in use"
                );
            } else if let Some(note) = note {
                self.confirm(&note).await;
            }
            if noted.elapsed() >= NOTE_USE {
                noted = Instant::now();
                self.note_use().await;
            }
        }
    }

    /// Confirms that this server has read what was committed before the note. It does not if the
    /// note announces a master key that this server does not have.
    async fn confirm(&self, note: &Note) {
        if let Some(id) = note.master_key()
            && self.keyring.find(id).is_none()
        {
            tracing::warn!(
                master_key = %id,
                "cannot confirm a new master key: this server does not have it"
            );
        } else if let Err(error) = app_notifications::repeat(&self.pool, note).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot confirm that changed apps were read"
            );
        }
    }

    /// Records in the database which keys were used since the last call.
    pub async fn note_use(&self) {
        let snapshot = self.snapshot.load_full();
        let used: Vec<ApiKeyHash> = snapshot
            .keys
            .iter()
            .filter(|(_, key)| key.used.swap(false, Ordering::Relaxed))
            .map(|(hash, _)| *hash)
            .collect();
        if !used.is_empty()
            && let Err(error) = keys::note_use(&self.pool, &used, self.clock.now()).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot record the use of {} keys",
                used.len()
            );
        }
    }

    /// Reads a new snapshot unless the present one has everything that was committed before
    /// `moment`. Waits until the last read is `pace` ago.
    async fn newer_than(&self, moment: Instant, pace: Duration) -> Result<(), repository::Error> {
        let _reading = self.reading.lock().await;
        let read_at = self.snapshot.load().read_at;
        if read_at >= moment {
            return Ok(());
        }
        tokio::time::sleep_until(read_at + pace).await;
        let fresh = read(&self.pool, &self.keyring).await?;
        let old = self.snapshot.swap(Arc::new(fresh));
        self.edition.fetch_add(1, Ordering::Release);
        // Uses that were not recorded yet move to the new snapshot.
        let snapshot = self.snapshot.load();
        for (hash, _) in old.keys.iter().filter(|(_, key)| key.used.load(Ordering::Relaxed)) {
            if let Some(key) = snapshot.keys.get(hash) {
                key.used.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

async fn read(pool: &PgPool, keyring: &Keyring) -> Result<Snapshot, repository::Error> {
    let read_at = Instant::now();
    let mut apps: HashMap<String, Vec<Arc<KnownApp>>> = HashMap::new();
    let mut by_id: HashMap<(Buin, AppId), Arc<KnownApp>> = HashMap::new();
    for stored in apps::list(pool, keyring).await? {
        let known = Arc::new(KnownApp::from(stored));
        by_id.insert((known.app.buin, known.app.app_id.clone()), known.clone());
        apps.entry(known.app.app_id.to_string()).or_default().push(known);
    }
    let keys = keys::list(pool)
        .await?
        .into_iter()
        .filter(|key| key.revoked_at.is_none())
        .filter_map(|key| {
            let app = by_id.get(&(key.buin, key.app_id))?.clone();
            Some((key.hash, Key { app, used: AtomicBool::new(false) }))
        })
        .collect();
    Ok(Snapshot { read_at, apps, keys })
}
