//! The `muster` program: see [`muster::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The system allocator is slow for sessions of very different sizes: it takes an eighth of the
/// server's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    muster::cli::main()
}
