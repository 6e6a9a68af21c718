//! `muster config`.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::Output;
use super::output;
use crate::config::{self, EffectiveSetting, SettingSource, SettingValue};

/// The column of the origins, at most.
const MAX_WIDTH: usize = 60;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the settings in force, and whether each comes from the default, the file or the
    /// environment; secrets are masked
    Show {
        #[command(flatten)]
        output: Output,
    },
}

/// The configuration file of this process.
pub(super) struct ConfigFile<'a> {
    pub(super) path: Option<&'a Path>,
    /// Whether the argument `--config` names it, and not `MUSTER_CONFIG`.
    pub(super) is_argument: bool,
}

/// Prints every key with its default and its meaning.
pub(super) fn defaults() -> Result<(), output::OutputError> {
    output::text(config::DEFAULTS.trim_end())
}

/// Prints the settings in force.
pub(super) fn show(
    settings: &[EffectiveSetting],
    file: &ConfigFile<'_>,
    output: Output,
) -> Result<(), output::OutputError> {
    let named_by = if file.is_argument { "--config" } else { "MUSTER_CONFIG" };
    if output.json {
        let file = file.path.map(|path| {
            let source = if file.is_argument { "argument" } else { "environment" };
            json!({ "path": path, "source": source, "origin": named_by })
        });
        let settings: Vec<Value> = settings.iter().map(to_json).collect();
        return output::json(&json!({ "file": file, "settings": settings }));
    }
    let head = match file.path {
        Some(path) => format!("# configuration file: {}, named by {named_by}", path.display()),
        None => "# no configuration file: neither --config nor MUSTER_CONFIG names one".to_owned(),
    };
    let lines: Vec<(String, &EffectiveSetting)> = settings
        .iter()
        .map(|setting| (format!("{} = {}", setting.key, value(&setting.value)), setting))
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
    let width = width.min(MAX_WIDTH);
    let lines = lines.iter().map(|(line, setting)| {
        let origin = match setting.source {
            SettingSource::Default => "default",
            SettingSource::File | SettingSource::Environment => &setting.origin,
        };
        format!("{line:width$}  # {origin}")
    });
    output::text(&std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n"))
}

fn to_json(setting: &EffectiveSetting) -> Value {
    json!({
        "key": setting.key,
        "value": value(&setting.value),
        "source": setting.source.name(),
        "origin": setting.origin,
    })
}

/// A value. Its form in JSON is also valid in TOML.
fn value(value: &SettingValue) -> Value {
    match value {
        SettingValue::Text(text) => json!(text),
        SettingValue::Whole(number) => json!(number),
        SettingValue::Fraction(number) => json!(number),
        SettingValue::Boolean(is_set) => json!(is_set),
        SettingValue::List(items) => items.iter().map(self::value).collect(),
    }
}
