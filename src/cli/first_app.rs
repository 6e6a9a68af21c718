//! The file with the credentials of the first app of an embedded database.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::explain::explain;
use super::health;
use crate::domain::Buin;
use crate::service::admin::AdminContext;
use crate::service::admin::apps::RegisteredApp;
use crate::service::admin::first_app::{self, FirstApp};
use crate::wire::{AesKey, ApiKey};

const FILE_NAME: &str = "first-app.json";

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
    let unusable = || format!("{} cannot be used: remove it", path.display());
    let saved = read(&path)?;
    let saved_app = saved.as_ref().map(Credentials::parse).transpose().with_context(unusable)?;
    let Some(chosen) = first_app::choose(admin, saved_app).await.map_err(explain)? else {
        // An operator created the first app by hand, or removed the file.
        return Ok(None);
    };
    let url = match saved {
        Some(saved) => current_url(saved.url, url).await,
        None => url.to_owned(),
    };
    save(&path, &Credentials::new(url, &chosen.credentials))?;
    first_app::create(admin, &chosen, FILE_NAME).await.with_context(unusable)?;
    Ok(Some(path))
}

/// The URL in the file stays if another server on this data directory still runs at it.
async fn current_url(saved: String, own: &str) -> String {
    if saved != own && health::find_running(&saved).await.is_none() {
        own.to_owned()
    } else {
        saved
    }
}

/// Checks that the file can be read, if it exists.
pub(super) fn check(data_dir: &Path) -> anyhow::Result<()> {
    read(&data_dir.join(FILE_NAME)).map(drop)
}

/// Writes the new key of an app into the file, if the file is about this app.
pub(super) fn rekey(data_dir: &Path, stored: &RegisteredApp) -> anyhow::Result<()> {
    let path = data_dir.join(FILE_NAME);
    match read(&path)? {
        Some(saved) if saved.belongs_to(stored) => {
            save(&path, &Credentials { aes_key: stored.aes_key.to_base64(), ..saved })
        }
        _ => Ok(()),
    }
}

/// Removes the file if it is about this app, whose credentials have ended. The next start would
/// otherwise create the app again.
pub(super) fn delete_credentials(data_dir: &Path, removed: &RegisteredApp) -> anyhow::Result<()> {
    let path = data_dir.join(FILE_NAME);
    match read(&path)? {
        Some(saved) if saved.belongs_to(removed) => fs::remove_file(&path)
            .with_context(|| format!("cannot remove {}, whose app has ended", path.display())),
        _ => Ok(()),
    }
}

impl Credentials {
    fn new(url: String, app: &FirstApp) -> Self {
        Self {
            url,
            buin: app.buin.get(),
            app_id: app.app_id.to_string(),
            aes_key: app.aes_key.to_base64(),
            api_key: app.api_key.reveal().to_owned(),
        }
    }

    fn parse(&self) -> anyhow::Result<FirstApp> {
        Ok(FirstApp {
            buin: Buin::new(self.buin)?,
            app_id: self.app_id.parse()?,
            aes_key: AesKey::from_base64(&self.aes_key)?,
            api_key: ApiKey::parse(&self.api_key).context("apiKey: not an API key")?,
        })
    }

    fn belongs_to(&self, RegisteredApp { app, .. }: &RegisteredApp) -> bool {
        self.buin == app.buin.get() && self.app_id == app.app_id.as_str()
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
