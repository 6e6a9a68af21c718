//! `muster completions` and `muster man`, generated from the same description of the commands as
//! `--help`.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use super::output::{self, OutputError};

/// Prints a completion script for a shell.
pub(super) fn completions(mut command: Command, shell: Shell) -> Result<(), OutputError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "muster", &mut script);
    output::text(String::from_utf8_lossy(&script).trim_end())
}

/// Writes the manual pages of the program and of each command (`muster.1`, `muster-serve.1` …) into
/// a directory, which is created if it is missing.
pub(super) fn pages(command: Command, directory: &Path) -> anyhow::Result<()> {
    let unwritable = || format!("cannot write manual pages into {}", directory.display());
    std::fs::create_dir_all(directory).with_context(unwritable)?;
    clap_mangen::generate_to(command, directory).with_context(unwritable)
}
