//! Arguments that several commands share. No command lives here.

use clap::Args;

use crate::domain::{AppId, Buin};

/// The form in which results are printed.
#[derive(Args, Clone, Copy)]
pub(super) struct Output {
    /// Print JSON; its field names do not change between releases
    #[arg(long)]
    pub(super) json: bool,
}

/// The permission to create a missing database.
#[derive(Args, Clone, Copy)]
pub(super) struct CreateDatabase {
    /// Create the embedded database if data_dir has none yet; otherwise this is an error
    #[arg(long)]
    pub(super) create_database: bool,
}

/// Selects one app.
#[derive(Args, Clone)]
pub(super) struct AppSelector {
    /// The number of the enterprise (buin)
    #[arg(long, value_name = "N")]
    pub(super) buin: Buin,
    /// The id of the app
    #[arg(long, value_name = "ID")]
    pub(super) app_id: AppId,
}

/// Accepts text without control characters, so that a list shows it on one line and a terminal runs
/// no escape sequence from it.
pub(super) fn one_line(text: &str) -> Result<String, String> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("control character U+{:04X} is not allowed", u32::from(c))),
        None => Ok(text.to_owned()),
    }
}
