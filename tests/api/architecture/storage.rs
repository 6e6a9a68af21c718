//! SQL and `muster::repository` of the API tests are in `tests/api/harness/store.rs`.
//!
//! So a change of the tables or of the repositories changes few tests. A test module is exempt if
//! its subject is storage.

use super::fail_on;
use super::imports::Tree;
use super::layers::begins_with;

const STORE: [&str; 2] = ["tests/api/harness/store.rs", "tests/api/harness/store/"];
const STORAGE: [&str; 2] = ["sqlx", "muster::repository"];

struct Exemption {
    file: &'static str,
    path: &'static str,
}

const EXEMPTIONS: [Exemption; 16] = [
    // The copy of a database is compared row by row.
    Exemption { file: "tests/api/backup.rs", path: "sqlx" },
    Exemption { file: "tests/api/backup_altered.rs", path: "sqlx" },
    Exemption { file: "tests/api/backup_security.rs", path: "sqlx" },
    Exemption { file: "tests/api/copied_databases.rs", path: "sqlx" },
    Exemption { file: "tests/api/harness/rows.rs", path: "sqlx" },
    Exemption { file: "tests/api/move_to.rs", path: "sqlx" },
    // The steps of a worker that dies or is late between two of them.
    Exemption { file: "tests/api/callbacks/leases.rs", path: "muster::repository" },
    Exemption { file: "tests/api/callbacks/model.rs", path: "muster::repository" },
    // The places of the pool.
    Exemption { file: "tests/api/connection_pool.rs", path: "muster::repository" },
    // A PostgreSQL server without the tables of Muster.
    Exemption { file: "tests/api/embedded.rs", path: "sqlx" },
    // The roles of the embedded PostgreSQL, and their objects.
    Exemption { file: "tests/api/embedded_access.rs", path: "sqlx" },
    // The rows that a change writes.
    Exemption { file: "tests/api/history.rs", path: "sqlx" },
    // The statements that lock many rows.
    Exemption { file: "tests/api/lock_order.rs", path: "muster::repository" },
    // The settings of connections.
    Exemption { file: "tests/api/role_settings.rs", path: "muster::repository" },
    Exemption { file: "tests/api/role_settings.rs", path: "sqlx" },
    // The bytes that PostgreSQL stores of a secret.
    Exemption { file: "tests/api/secrets.rs", path: "sqlx" },
];

/// The mistakes of test sources: storage used elsewhere, and exemptions that are not used.
fn mistakes(tree: &Tree, exemptions: &[Exemption]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut is_used = vec![false; exemptions.len()];
    for (index, source) in tree.sources.iter().enumerate() {
        if source.name == STORE[0] || source.name.starts_with(STORE[1]) {
            // A type may be exported again, but not a crate, a module or a function.
            for (used, path) in tree.re_exports(index) {
                if STORAGE.iter().any(|storage| begins_with(&path, storage))
                    && !used.alias.starts_with(char::is_uppercase)
                {
                    let (name, line) = (&source.name, source.line(used.at));
                    let path = path.join("::");
                    mistakes.push(format!("{name}:{line}: `{path}` is exported again"));
                }
            }
            continue;
        }
        let foreign = tree.foreign(index);
        for storage in STORAGE {
            let Some((at, path)) = foreign.iter().find(|(_, path)| begins_with(path, storage))
            else {
                continue;
            };
            let exemption = exemptions
                .iter()
                .position(|exempt| exempt.file == source.name && exempt.path == storage);
            match exemption {
                Some(exemption) => is_used[exemption] = true,
                None => mistakes.push(format!(
                    "{}:{}: `{}`: call a function of {}",
                    source.name,
                    source.line(*at),
                    path.join("::"),
                    STORE[0]
                )),
            }
        }
    }
    for (exempt, _) in exemptions.iter().zip(is_used).filter(|(_, is_used)| !is_used) {
        mistakes.push(format!("{}:1: does not use `{}`: not exempt", exempt.file, exempt.path));
    }
    mistakes
}

#[test]
fn tests_reach_storage_through_the_store() {
    fail_on(&mistakes(&Tree::read("tests/api"), &EXEMPTIONS));
}

/// The rule above reads no other folder.
#[test]
fn all_tests_outside_of_src_are_in_one_folder() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let entries: Vec<_> =
        std::fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["api"]);
}

#[test]
fn storage_that_the_store_exports_again_is_found() {
    let tree = Tree::planted_in(
        "tests/api",
        &[
            (
                "harness/store.rs",
                "pub use sqlx::{self, PgPool};\nuse sqlx as s;\npub use s::query;",
            ),
            ("harness/store/apps.rs", "pub use muster::{domain, repository::apps as db};"),
            ("harness/storefront.rs", "use sqlx::PgPool;"),
        ],
    );
    assert_eq!(
        mistakes(&tree, &[]),
        [
            "tests/api/harness/store.rs:1: `sqlx` is exported again",
            "tests/api/harness/store.rs:3: `sqlx::query` is exported again",
            "tests/api/harness/store/apps.rs:1: `muster::repository::apps` is exported again",
            "tests/api/harness/storefront.rs:1: `sqlx::PgPool`: call a function of \
             tests/api/harness/store.rs",
        ]
    );
}

#[test]
fn storage_in_a_test_is_found() {
    let exemptions = [
        Exemption { file: "tests/api/copy.rs", path: "sqlx" },
        Exemption { file: "tests/api/lease.rs", path: "muster::repository" },
        Exemption { file: "tests/api/session.rs", path: "sqlx" },
    ];
    let tree = Tree::planted_in(
        "tests/api",
        &[
            ("harness/store.rs", "pub use muster::repository::Pool;\nuse sqlx::PgPool;"),
            ("harness/store/locks.rs", "use sqlx::PgPool;"),
            ("copy.rs", "use sqlx::PgPool;\nuse muster::{domain, repository::apps};"),
            ("lease.rs", "use muster::repository::deliveries;"),
            ("session.rs", "use crate::harness::store::Pool;\n// sqlx::query\nfn f() { \"sqlx\" }"),
            ("list.rs", "fn f() {\n    sqlx::query(\"select 1\") }"),
            ("token.rs", "use muster as m;\nfn f() { m::repository::keys::list() }"),
        ],
    );
    assert_eq!(
        mistakes(&tree, &exemptions),
        [
            "tests/api/copy.rs:2: `muster::repository::apps`: call a function of \
             tests/api/harness/store.rs",
            "tests/api/list.rs:2: `sqlx::query`: call a function of tests/api/harness/store.rs",
            "tests/api/token.rs:2: `muster::repository::keys::list`: call a function of \
             tests/api/harness/store.rs",
            "tests/api/session.rs:1: does not use `sqlx`: not exempt",
        ]
    );
}
