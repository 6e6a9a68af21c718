//! The master keys of this process: from the configuration, and from a file.
//!
//! The stored secrets are not here: `repository` seals and opens them, with the keys of this room
//! and the arithmetic of [`crate::wire`]. The database decides which key seals
//! (`repository::sealing`); all keys open. If a key is unknown, the file is read again, so that a
//! running server learns a new key without a restart.

mod error;
mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;

pub use self::error::KeyringError;
use crate::wire::{MasterKey, MasterKeyId};

/// The keys.
pub struct Keyring {
    /// The configured key, which comes before those of the file.
    first: Option<MasterKey>,
    /// A configured key that comes after them.
    last: Option<MasterKey>,
    file: Option<KeyFile>,
    keys: ArcSwap<Vec<MasterKey>>,
}

/// A file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether the file may be missing. It is then created for a database that has no master key
    /// yet.
    pub create: bool,
}

impl Keyring {
    /// A keyring of these, in this order. The file is not read yet.
    #[must_use]
    pub fn new(first: Option<MasterKey>, file: Option<KeyFile>, last: Option<MasterKey>) -> Self {
        let keys = ArcSwap::from_pointee(first.iter().chain(&last).cloned().collect());
        Self { first, last, file, keys }
    }

    /// Reads what is configured.
    ///
    /// # Errors
    /// [`KeyringError`]; the keys known before stay.
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

    /// The first key, for a database without one. It is created if the file may be missing.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn first_or_generate(&self) -> Result<MasterKey, KeyringError> {
        if let (None, Some(file)) = (self.first(), self.file.as_ref().filter(|file| file.create)) {
            file::create(&file.path, &MasterKey::generate())?;
            // Another server with this directory may have created one before.
            self.load()?;
        }
        self.first().ok_or(KeyringError::NoKey)
    }

    /// The first key, which the configuration wants to seal.
    #[must_use]
    pub fn first(&self) -> Option<MasterKey> {
        self.keys.load().first().cloned()
    }

    /// Finds a key by its id. If it is unknown, the file is read again.
    #[must_use]
    pub fn find(&self, id: MasterKeyId) -> Option<MasterKey> {
        let find_cached = || self.keys.load().iter().find(|key| key.id() == id).cloned();
        find_cached().or_else(|| {
            self.file.as_ref()?;
            if let Err(error) = self.load() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the master keys cannot be read again");
            }
            find_cached()
        })
    }

    /// The ids of the keys, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<MasterKeyId> {
        self.keys.load().iter().map(MasterKey::id).collect()
    }

    /// The file that holds the first key, or would hold it; `None` if the first key is configured
    /// directly.
    #[must_use]
    pub fn primary_file(&self) -> Option<&Path> {
        match self.first {
            Some(_) => None,
            None => self.file.as_ref().map(|file| file.path.as_path()),
        }
    }

    /// The mode of the file, if users other than its owner and group can read it.
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

    /// Writes a key into the file, before those that are in it.
    ///
    /// # Errors
    /// [`KeyringError`]; the file is as it was.
    pub fn prepend(&self, path: &Path, key: &MasterKey) -> Result<(), KeyringError> {
        let mut keys = file::read(path)?;
        keys.insert(0, key.clone());
        file::replace(path, &keys)?;
        self.load()
    }

    /// The ids of the other keys in the file, besides `id`; none if `id` is not in the file.
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
    /// [`KeyringError`]; the file is as it was.
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
