//! SECURITY.md names only tests that exist, and covers each risk.

use std::path::Path;

/// A reference to a test that was moved or removed is useless.
#[test]
fn tests_named_in_security_md_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let code = text.split('`').skip(1).step_by(2);
    let named: Vec<(&str, &str)> = code.filter_map(|code| code.split_once("::")).collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|(file, test)| {
            let above =
                if file.starts_with("src/") { root.to_owned() } else { root.join("tests/api") };
            let source = std::fs::read_to_string(above.join(file)).unwrap_or_default();
            !source.contains(&format!("fn {test}("))
        })
        .collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:#?}");
    assert!(named.len() > 50, "only {} tests were found in SECURITY.md", named.len());
    for risk in 1..=10 {
        assert!(text.contains(&format!("| API{risk} ")), "API{risk} has no row");
    }
}
