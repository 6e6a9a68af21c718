# Names for the everyday commands. `just` without a name lists them (https://just.systems).
# Every recipe is a plain command, which also works without `just`.

[private]
default:
    @just --list --unsorted

# Starts the service with an embedded PostgreSQL; the data lies in ./data
run *arguments:
    cargo run --release -- {{arguments}}

# Runs all tests, or those whose names contain the arguments
test *arguments:
    cargo test {{arguments}}

# Checks format, lints, links and translations before a commit, in a minute or two; `just ci` checks everything
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    .ci/docs links
    .ci/docs translations

# Runs all checks that must pass before a merge
ci:
    .ci/run

# Writes .sqlx/ again, after a change of a statement or a migration
sqlx:
    .ci/sqlx

# Writes openapi.json again, after a change of an endpoint of /v1; a failed build leaves it unchanged
openapi:
    cargo run -- openapi > target/openapi.json && mv target/openapi.json openapi.json

# Measures the speed beside references; see benches/README.md for the options
bench *arguments:
    benches/run {{arguments}}

# Checks links and translations, builds the books into target/book, compiles and runs the examples of its pages and of examples/
docs:
    cargo build
    .ci/docs
    .ci/examples

# Makes the files of a release in target/release-files; `just release --twice` compares two builds
release *arguments:
    .ci/release {{arguments}}
