//! The apps and API keys of the database, in memory.
//!
//! Both are few and asked for by every request, so each server keeps all of them, with the keys
//! expanded. The database notifies when they change ([`Directory::follow`]); who finds nothing reads
//! again before he says so, so an app that was made a moment ago is never unknown.

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

/// How often misses may make the directory read again: guessing costs the database no more.
const MISSES: Duration = Duration::from_millis(100);
/// How often it reads again unasked, in case a notification was lost with its connection.
const REFRESH: Duration = Duration::from_secs(5);
/// How often the use of keys is noted.
const NOTE_USE: Duration = Duration::from_secs(30);

/// An app, with what its key makes.
pub struct KnownApp {
    /// What the app is.
    pub app: App,
    /// Seals and opens its messages.
    pub envelope: Envelope,
    /// Gives and checks its tokens.
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

/// Every app and every key that is not revoked.
pub struct Directory {
    pool: PgPool,
    keyring: Arc<Keyring>,
    clock: Clock,
    snapshot: ArcSwap<Snapshot>,
    /// Another one for each snapshot, once it is there.
    edition: AtomicU64,
    reading: Mutex<()>,
}

struct Snapshot {
    /// When reading it began: it shows everything that was committed before.
    read_at: Instant,
    apps: HashMap<String, Vec<Arc<KnownApp>>>,
    keys: HashMap<ApiKeyHash, Key>,
}

struct Key {
    app: Arc<KnownApp>,
    used: AtomicBool,
}

/// What a look-up of an app finds.
pub(super) enum Found {
    /// The app, which may be disabled.
    App(Arc<KnownApp>),
    /// An app of that id, but only in other enterprises.
    Elsewhere,
    /// Nothing.
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

    /// The app that a key acts for, as far as is known.
    pub(super) fn key(&self, hash: &ApiKeyHash) -> Option<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let key = snapshot.keys.get(hash)?;
        key.used.store(true, Ordering::Relaxed);
        Some(key.app.clone())
    }

    /// While this is the same, so is all that was found after it was asked for.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// An app by its enterprise and id, as they came, as far as is known.
    pub(super) fn app(&self, buin: i64, app_id: &str) -> Found {
        match self.snapshot.load().apps.get(app_id) {
            None => Found::Nothing,
            Some(apps) => match apps.iter().find(|known| known.app.buin.get() == buin) {
                Some(known) => Found::App(known.clone()),
                None => Found::Elsewhere,
            },
        }
    }

    /// Reads again, for who found nothing: it may just have been made.
    pub(super) async fn look_again(&self) -> Result<(), repository::Error> {
        self.newer_than(Instant::now(), MISSES).await
    }

    /// The apps that callbacks are sent to now.
    pub fn subscribers(&self) -> Vec<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.values().flatten();
        apps.filter(|known| known.app.withheld().is_none()).cloned().collect()
    }

    /// The app, if callbacks are sent to it now.
    pub fn subscriber(&self, buin: Buin, app_id: &AppId) -> Option<Arc<KnownApp>> {
        let snapshot = self.snapshot.load();
        let apps = snapshot.apps.get(app_id.as_str())?;
        let known = apps.iter().find(|known| known.app.buin == buin)?;
        known.app.withheld().is_none().then(|| known.clone())
    }

    /// Keeps up with the database, for ever. `changes` tells of what is changed; whoever began to
    /// listen before the apps were read misses nothing, and is waited for from the first moment.
    pub async fn follow(&self, changes: Changes) {
        let mut noted = Instant::now();
        let mut changes = Some(changes);
        loop {
            let note = match &mut changes {
                // Whatever changed before is read below.
                None => {
                    match Changes::follow(&self.pool).await {
                        Ok(following) => changes = Some(following),
                        Err(error) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "cannot be notified of changed apps; polling meanwhile"
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
                            "no notifications of changed apps; polling meanwhile"
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
                    "cannot read the apps; those known stay in force"
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

    /// Says that what was committed before the note is known, unless it asks for a master key that is
    /// not here.
    async fn confirm(&self, note: &Note) {
        if let Some(id) = note.master_key()
            && self.keyring.find(id).is_none()
        {
            tracing::warn!(master_key = %id, "a new master key is to seal, and is not known here");
        } else if let Err(error) = app_notifications::repeat(&self.pool, note).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot confirm that changed apps were read"
            );
        }
    }

    /// Writes down which keys were used since the last time.
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
                "cannot note the use of {} keys",
                used.len()
            );
        }
    }

    /// Makes sure that the snapshot shows everything that was committed before `moment`, reading no
    /// sooner than `pace` after the last time.
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
        // A use that was not noted yet must not be forgotten.
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
