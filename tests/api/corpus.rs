//! Runs the corpus of the fuzzer through the same checks, without a fuzzer, on every test run.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use targets::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The entries of a directory, sorted by name.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn names(directory: &str) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries(&fuzz().join(directory)).iter().map(stem).collect()
}

#[test]
fn corpus_inputs_are_handled() {
    for (name, check) in TARGETS {
        let inputs = entries(&fuzz().join("corpus").join(name));
        assert!(inputs.len() >= 5, "{name}: {} inputs", inputs.len());
        for input in inputs {
            // The output is shown if the check fails.
            println!("{}", input.display());
            check(&std::fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_fuzz_target_has_a_corpus() {
    let expected: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), expected);
    assert_eq!(names("fuzz_targets"), expected);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in expected {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
