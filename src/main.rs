//! The `muster` program: see [`muster::cli`].

fn main() {}
