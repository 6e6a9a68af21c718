//! The master keys of this process: from the configuration, and from a file.
//!
//! The stored secrets are not here: `repository` seals and opens them with these keys and the
//! cryptography of [`crate::wire`]. The database decides which key seals (`repository::sealing`).
//! Every key can open. The file is read again if a key is unknown, so a running server learns a new
//! key without a restart.

mod error;
mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;

pub use self::error::KeyringError;
use crate::telemetry::cause_chain;
use crate::wire::{MasterKey, MasterKeyId};

/// The master keys of this process.
pub struct Keyring {
    /// The configured key, which comes before those of the file.
    first: Option<MasterKey>,
    /// A configured key that comes after those of the file.
    last: Option<MasterKey>,
    file: Option<KeyFile>,
    keys: ArcSwap<Vec<MasterKey>>,
}

/// A file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The path of the file.
    pub path: PathBuf,
    /// Whether the file may be missing, to be created for a database without a master key.
    pub create: bool,
}

impl Keyring {
    /// Creates a keyring of these keys, in this order. The file is not read yet.
    #[must_use]
    pub fn new(first: Option<MasterKey>, file: Option<KeyFile>, last: Option<MasterKey>) -> Self {
        let keys = ArcSwap::from_pointee(first.iter().chain(&last).cloned().collect());
        Self { first, last, file, keys }
    }

    /// Reads the configured keys and the file.
    ///
    /// # Errors
    /// [`KeyringError`]. The keys known before are kept.
    pub fn load(&self) -> Result<(), KeyringError> {
        let from_file = match &self.file {
            Some(file) if file.create => file::read_if_exists(&file.path)?.unwrap_or_default(),
            Some(file) => file::read(&file.path)?,
            None => Vec::new(),
        };
        let keys: Vec<MasterKey> =
            self.first.iter().chain(&from_file).chain(&self.last).cloned().collect();
        if keys.is_empty() && !self.file.as_ref().is_some_and(|file| file.create) {
            return Err(KeyringError::NoKey);
        }
        self.keys.store(keys.into());
        Ok(())
    }

    /// The first key, for a database without one. A missing file is created if the configuration
    /// allows this.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn first_or_generate(&self) -> Result<MasterKey, KeyringError> {
        if let (None, Some(file)) = (self.first(), self.file.as_ref().filter(|file| file.create)) {
            file::create(&file.path, &MasterKey::generate())?;
            // Another server with this directory may have created the file in the meantime.
            self.load()?;
        }
        self.first().ok_or(KeyringError::NoKey)
    }

    /// The first key, which should seal according to the configuration.
    #[must_use]
    pub fn first(&self) -> Option<MasterKey> {
        self.keys.load().first().cloned()
    }

    /// Finds a key by its id. The file is read again if the id is unknown.
    #[must_use]
    pub fn find(&self, id: MasterKeyId) -> Option<MasterKey> {
        let find_cached = || self.keys.load().iter().find(|key| key.id() == id).cloned();
        find_cached().or_else(|| {
            self.file.as_ref()?;
            if let Err(error) = self.load() {
                let error = cause_chain(&error);
                tracing::warn!(%error, "the master keys cannot be read again");
            }
            find_cached()
        })
    }

    /// The ids of the keys, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<MasterKeyId> {
        self.keys.load().iter().map(MasterKey::id).collect()
    }

    /// The file for the first key, which may not exist yet. `None` if the first key is configured
    /// directly.
    #[must_use]
    pub fn primary_file(&self) -> Option<&Path> {
        match self.first {
            Some(_) => None,
            None => self.file.as_ref().map(|file| file.path.as_path()),
        }
    }

    /// The path and the mode of the file, if all users can read it.
    #[must_use]
    pub fn world_readable(&self) -> Option<(&Path, u32)> {
        let path = self.file.as_ref()?.path.as_path();
        file::mode(path).filter(|mode| mode & 0o007 != 0).map(|mode| (path, mode))
    }

    /// Writes one key into a new file. Returns whether the keyring has this key.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn save(&self, path: &Path, id: MasterKeyId) -> Result<bool, KeyringError> {
        match self.find(id) {
            Some(key) => file::create(path, &key).map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes a key into the file, before its other keys.
    ///
    /// # Errors
    /// [`KeyringError`]. The file is then unchanged.
    pub fn prepend(&self, path: &Path, key: &MasterKey) -> Result<(), KeyringError> {
        let mut keys = file::read(path)?;
        keys.insert(0, key.clone());
        file::replace(path, &keys)?;
        self.load()
    }

    /// The ids of the other keys in the file. Empty if `id` is not in the file.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn stale_ids(
        &self,
        path: &Path,
        id: MasterKeyId,
    ) -> Result<Vec<MasterKeyId>, KeyringError> {
        let ids: Vec<_> = file::read(path)?.iter().map(MasterKey::id).collect();
        let others = ids.iter().filter(|other| ids.contains(&id) && **other != id);
        Ok(others.copied().collect())
    }

    /// Removes all keys but one from the file.
    ///
    /// # Errors
    /// [`KeyringError`]. The file is then unchanged.
    pub fn retain(&self, path: &Path, id: MasterKeyId) -> Result<(), KeyringError> {
        let mut keys = file::read(path)?;
        keys.retain(|key| key.id() == id);
        file::replace(path, &keys)?;
        self.load()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("ids", &self.ids()).finish_non_exhaustive()
    }
}
