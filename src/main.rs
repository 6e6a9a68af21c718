//! The `muster` program: see [`muster::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Sessions of all sizes come into memory and go again: the system's allocator spends an eighth of
/// the server's time on finding room between them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    muster::cli::main()
}
