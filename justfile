# Names for the commands of every day. `just` without a name lists them.
# https://just.systems. Every recipe is a plain command, which also works without `just`.

[private]
default:
    @just --list --unsorted

# Starts the service on a PostgreSQL of its own; the data lies in ./data
run *arguments:
    cargo run --release -- {{arguments}}

# Runs all tests, or those whose names contain the arguments
test *arguments:
    cargo test {{arguments}}

# What must pass before each commit; takes a minute or two. `.ci/run` is the whole of it
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    .ci/docs links

# Everything that must pass before a change is merged
ci:
    .ci/run

# Writes .sqlx/ again, after a change of a statement or a migration
sqlx:
    .ci/sqlx

# Measures the speed beside references; see benches/README.md for the options
bench *arguments:
    benches/run {{arguments}}

# Checks links, builds the book into target/book and runs the examples of its pages and of examples/
docs:
    cargo build
    .ci/docs
    .ci/examples
