//! `muster move-to`.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::args::Output;
use super::database::{Database, connect_to};
use super::explain::explain;
use super::output;
use super::plaintext_link::PlaintextLink;
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Settings};
use crate::service::admin::copies::{self, DatabaseContents};
use crate::service::admin::{AdminContext, Error};

#[derive(Args)]
pub(super) struct MoveToArgs {
    /// The new database, as postgres://USER:PASSWORD@HOST/DATABASE. `-` reads the URL from standard
    /// input, where other users of this machine cannot see it
    url: String,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(
    settings: &Settings,
    args: MoveToArgs,
    clock: &Clock,
) -> anyhow::Result<()> {
    let url = url(&args.url)?;
    let target = connect_to(&url, settings)?;
    if let Some(link) = PlaintextLink::find(&url) {
        output::warning(&format!("{}: {}", link.finding("the URL"), PlaintextLink::REMEDY));
    }
    let database = Database::open_existing(settings).await?;
    let admin = database.admin(clock);
    let timeout = settings.database.acquire_timeout;
    let result = match copies::move_to(&admin, &target, timeout).await {
        Ok(content) => {
            let source = match database.is_embedded() {
                true => format!("the database in {}", settings.data_dir.display()),
                false => "the old database".to_owned(),
            };
            report(&admin, &content, &url, &source, args.output)
        }
        Err(Error::TargetUnreachable(error)) => {
            Err(anyhow::Error::from(error).context(format!("cannot use {url}")))
        }
        Err(Error::TargetSchema(error)) => {
            Err(anyhow::Error::from(error).context(format!("cannot create the tables in {url}")))
        }
        Err(error) => Err(explain(error)),
    };
    target.close().await;
    database.close().await;
    result
}

fn report(
    admin: &AdminContext,
    content: &DatabaseContents,
    url: &DatabaseUrl,
    source: &str,
    output: Output,
) -> anyhow::Result<()> {
    let rows = |table: &str| content.get(table).map_or(0, |table| table.rows);
    let key = copies::key_file(admin);
    if output.json {
        return Ok(output::json(
            &json!({ "to": url.to_string(), "tables": content, "keyFile": key }),
        )?);
    }
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
         4. Do not start a server on {source} again: it is unchanged, and changes made there do not \
         reach the new one. Keep it until you trust the new one.",
        rows("session"),
        rows("session_member"),
        rows("session_event"),
        rows("delivery"),
        rows("app"),
    ))?;
    Ok(())
}

fn url(given: &str) -> anyhow::Result<DatabaseUrl> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the URL from standard input")?;
    }
    DatabaseUrl::parse(text.trim())
        .context("expected a URL that begins with postgres:// or postgresql://")
}
