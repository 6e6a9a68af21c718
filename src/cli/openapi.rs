//! `muster openapi`.

use clap::{Args, ValueEnum};

use super::output::{self, OutputError};
use crate::http;

#[derive(Args)]
pub(super) struct OpenapiArgs {
    /// The version of OpenAPI. 3.0 is for generators that do not read 3.1: it has the callbacks as
    /// `x-webhooks`
    #[arg(long, value_name = "VERSION", value_enum, default_value = "3.1")]
    version: OpenapiVersion,
}

#[derive(Clone, Copy, ValueEnum)]
enum OpenapiVersion {
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.0")]
    V3_0,
}

pub(super) fn run(args: &OpenapiArgs) -> Result<(), OutputError> {
    match args.version {
        OpenapiVersion::V3_1 => output::text(http::openapi().trim_end()),
        OpenapiVersion::V3_0 => output::text(http::openapi_3_0().trim_end()),
    }
}
