//! `muster move-to`.

use std::io::Read as _;
use std::str::FromStr as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;

use super::args::Output;
use super::database::{Store, pool_limits};
use super::output;
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Settings};
use crate::repository::dump;
use crate::repository::migrations::{self, Standing};
use crate::repository::{PgPool, pool};

#[derive(Args)]
pub(super) struct MoveTo {
    /// The new database, as postgres://USER:PASSWORD@HOST/DATABASE; `-` reads it from standard input,
    /// where other users of this machine cannot see it
    url: String,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(settings: &Settings, wish: MoveTo, clock: &Clock) -> anyhow::Result<()> {
    let url = url(&wish.url)?;
    let options = PgConnectOptions::from_str(url.expose())
        .with_context(|| format!("{url} cannot be used"))?;
    let store = Store::open_existing(settings).await?;
    let target = pool::connect(options, pool_limits(settings));
    let done = move_to(settings, &store, &target, &url, &wish, clock).await;
    target.close().await;
    store.close().await;
    done
}

async fn move_to(
    settings: &Settings,
    store: &Store,
    target: &PgPool,
    url: &DatabaseUrl,
    wish: &MoveTo,
    clock: &Clock,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        store.standing().await? == Standing::Current,
        "the tables of the source are not those of this program: run `muster migrate` first"
    );
    store.verify_key().await?;
    pool::reach(&target.connect_options(), settings.database.acquire_timeout)
        .await
        .with_context(|| format!("{url} cannot be reached"))?;
    migrations::run(target).await.with_context(|| format!("cannot make the tables in {url}"))?;
    let content = dump::transfer(&store.pool, target, store.act(clock)).await?;
    let rows = |table: &str| content.get(table).map_or(0, |table| table.rows);
    let key = store.keyring.leading_file();
    let key = key.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    if wish.output.json {
        return output::json(&json!({ "to": url.to_string(), "tables": content, "keyFile": key }));
    }
    let source = match store.is_embedded() {
        true => format!("the database in {}", settings.data_dir.display()),
        false => "the old database".to_owned(),
    };
    let key = match key {
        Some(file) => format!(
            "Give every server and command a copy of {}, mode 0600, and its path as \
             MUSTER__SECRETS__MASTER_KEY_FILE",
            file.display()
        ),
        None => "Give every server and command the same MUSTER__SECRETS__MASTER_KEY as before"
            .to_owned(),
    };
    output::text(&format!(
        "copied {} sessions, {} members, {} events, {} deliveries and {} apps to {url}, and compared \
         every table\n\nNext:\n\
         1. {key}.\n\
         2. Set MUSTER__DATABASE__URL, or database.url in the configuration file, to {url} with its \
         password.\n\
         3. `muster doctor`, then `muster serve`.\n\
         4. Start no server on {source} any more: it is as it was, and what is written there is not \
         in the new one. Keep it until you are content.",
        rows("session"),
        rows("session_member"),
        rows("session_event"),
        rows("delivery"),
        rows("app"),
    ));
    Ok(())
}

fn url(given: &str) -> anyhow::Result<DatabaseUrl> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).context("cannot read the URL")?;
    }
    DatabaseUrl::parse(text.trim())
        .context("expected a URL that begins with postgres:// or postgresql://")
}
