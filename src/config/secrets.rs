//! `[secrets]`: the sources of the master keys. No message shows a key.

use std::path::PathBuf;

use super::key_text::KeyText;
use super::read::Reader;

/// `[secrets]`: the master keys in their order. The first key seals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsConfig {
    /// The key that seals. It takes precedence over the keys of the file.
    pub master_key: Option<KeyText>,
    /// A key that opens values sealed earlier.
    pub previous_master_key: Option<KeyText>,
    /// A file of keys, one per line. `None` = `master.key` in the data directory, for the embedded
    /// database only.
    pub master_key_file: Option<PathBuf>,
}

impl SecretsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            master_key: reader.optional_key("secrets.master_key"),
            previous_master_key: reader.optional_key("secrets.previous_master_key"),
            master_key_file: reader.optional_path("secrets.master_key_file"),
        }
    }
}
