//! The first app of an embedded database, and the file with its credentials.
//!
//! The file is written before the database. If a start is interrupted in between, the next start
//! creates the app with the same credentials.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::explain::explain;
use super::health;
use crate::domain::{AllowedForms, App, AppId, Buin, Permissions};
use crate::service::admin::apps::{self, RegisteredApp};
use crate::service::admin::{AdminContext, Error, keys};
use crate::wire::{AesKey, ApiKey};

const FILE_NAME: &str = "first-app.json";
/// The enterprise of the first app. The number has no meaning.
const DEFAULT_BUIN: i64 = 14_731_009;

#[derive(Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    url: String,
    buin: i64,
    app_id: String,
    aes_key: String,
    api_key: String,
}

/// Creates an app in a database without apps, and updates the file: the URL of a running server and
/// the current key of the app. Returns the path of the file if it exists.
pub(super) async fn ensure(
    admin: &AdminContext,
    data_dir: &Path,
    url: &str,
) -> anyhow::Result<Option<PathBuf>> {
    let path = data_dir.join(FILE_NAME);
    let existing = read(&path)?;
    let apps = apps::list(admin).await.map_err(explain)?;
    let mut credentials = match existing {
        Some(existing) => existing,
        None if apps.is_empty() => Credentials {
            url: url.to_owned(),
            buin: DEFAULT_BUIN,
            app_id: AppId::generate().to_string(),
            aes_key: AesKey::generate().to_base64(),
            api_key: ApiKey::generate().reveal().to_owned(),
        },
        // An operator created the first app by hand, or removed the file.
        None => return Ok(None),
    };
    // The URL stays if another server on this data directory still runs at it.
    if credentials.url != url && health::find_running(&credentials.url).await.is_none() {
        url.clone_into(&mut credentials.url);
    }
    if let Some(stored) = apps.iter().find(|stored| credentials.belong_to(stored)) {
        credentials.aes_key = stored.aes_key.to_base64();
    }
    save(&path, &credentials)?;
    let unusable = || format!("{} cannot be used: remove it", path.display());
    if apps.is_empty() {
        insert_app(admin, &credentials).await.with_context(unusable)?;
    }
    insert_key(admin, &credentials).await.with_context(unusable)?;
    Ok(Some(path))
}

/// Checks that the file can be read, if it exists.
pub(super) fn check(data_dir: &Path) -> anyhow::Result<()> {
    read(&data_dir.join(FILE_NAME)).map(drop)
}

/// Writes the new key of an app into the file, if the file is about this app.
pub(super) fn rekey(data_dir: &Path, stored: &RegisteredApp) -> anyhow::Result<()> {
    let path = data_dir.join(FILE_NAME);
    match read(&path)? {
        Some(existing) if existing.belong_to(stored) => {
            save(&path, &Credentials { aes_key: stored.aes_key.to_base64(), ..existing })
        }
        _ => Ok(()),
    }
}

impl Credentials {
    fn belong_to(&self, RegisteredApp { app, .. }: &RegisteredApp) -> bool {
        self.buin == app.buin.get() && self.app_id == app.app_id.as_str()
    }
}

async fn insert_app(admin: &AdminContext, credentials: &Credentials) -> anyhow::Result<()> {
    let app = App {
        buin: Buin::new(credentials.buin)?,
        app_id: credentials.app_id.parse()?,
        name: "First app".to_owned(),
        permissions: Permissions::for_new_app(),
        forms: AllowedForms::Both,
        callback: None,
        callbacks_paused: false,
        disabled: false,
    };
    let stored = RegisteredApp { aes_key: AesKey::from_base64(&credentials.aes_key)?, app };
    match apps::create(admin, stored).await {
        // Another server on this database has created the app from the same file.
        Ok(_) | Err(Error::AppExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stores the API key of the file unless the database has it, valid or revoked.
async fn insert_key(admin: &AdminContext, credentials: &Credentials) -> anyhow::Result<()> {
    let key = ApiKey::parse(&credentials.api_key).context("apiKey: not an API key")?;
    let (buin, app_id) = (Buin::new(credentials.buin)?, credentials.app_id.parse()?);
    match keys::ensure(admin, &key, buin, &app_id, FILE_NAME).await {
        // The file is about an app of another database.
        Ok(()) | Err(Error::AppNotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Credentials>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let credentials = serde_json::from_slice(&text).with_context(|| {
        format!("{} is not a file that Muster wrote: remove it", path.display())
    })?;
    Ok(Some(credentials))
}

/// Writes the file if its content changes. The write is atomic, and only the owner can read the
/// file.
fn save(path: &Path, credentials: &Credentials) -> anyhow::Result<()> {
    if read(path)?.as_ref() == Some(credentials) {
        return Ok(());
    }
    let temp = path.with_extension("json.new");
    let written = (|| {
        let _ = fs::remove_file(&temp);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        let mut text = serde_json::to_vec_pretty(credentials)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}
