//! The dashboard, the alerts and the documentation: every metric that they name is served.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{scrape, spawn_with};
use crate::manual::pages;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The metrics that an expression names.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        ["muster_", "http_", "process_"].iter().any(|prefix| word.starts_with(prefix))
    })
}

/// The names that Prometheus knows after a scrape, derived from the types of the families.
async fn known() -> BTreeSet<String> {
    let data_dir = tempfile::tempdir().unwrap();
    let app = spawn_with(|settings| {
        settings.data_dir = data_dir.path().to_owned();
        settings.cache.enabled = true;
    })
    .await;
    app.session(&["a", "b", "c"]).await;
    loop {
        let metrics = scrape(&app).await;
        // This metric appears after the first poll of the feed.
        if metrics.series.contains_key("muster_cache_sync_age_seconds") {
            let families = metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            let families = families.map(|line| line.split_once(' ').unwrap());
            return families
                .flat_map(|(name, kind)| {
                    let parts: &[&str] =
                        if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                    parts.iter().map(move |part| format!("{name}{part}"))
                })
                .collect();
        }
    }
}

fn expressions(panels: &[Value]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            found.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_uses_existing_metrics() {
    let dashboard: Value = serde_json::from_str(&file("grafana/muster.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_i64().unwrap() >= 36);
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    let side = |panel: &Value, name: &str| panel["gridPos"][name].as_i64().unwrap();
    let overlap = |one: &Value, other: &Value, start: &str, size: &str| {
        side(one, start) < side(other, start) + side(other, size)
            && side(other, start) < side(one, start) + side(one, size)
    };
    for (index, one) in panels.iter().enumerate() {
        for other in &panels[index + 1..] {
            let both = overlap(one, other, "x", "w") && overlap(one, other, "y", "h");
            assert!(!both, "{} overlaps {}", one["title"], other["title"]);
        }
    }
    for panel in panels {
        let position = &panel["gridPos"];
        let number = |name: &str| position[name].as_i64().unwrap();
        assert!(number("x") + number("w") <= 24 && number("h") > 0, "{panel}");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }

    let known = known().await;
    let expressions = expressions(panels);
    let mut shown = BTreeSet::new();
    for (title, expression) in &expressions {
        assert_ne!(named(expression).count(), 0, "{title}: {expression}");
        for name in named(expression) {
            assert!(known.contains(name), "{title}: no metric is called {name}");
            shown.insert(name.to_owned());
        }
    }
    // In the other direction, the dashboard shows every metric.
    let is_shown = |name: &&String| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        shown.contains(*name)
            || family.is_some_and(|family| shown.contains(&format!("{family}_bucket")))
    };
    let hidden: Vec<&String> = known.iter().filter(|name| !is_shown(name)).collect();
    assert!(hidden.iter().all(|name| name.ends_with("items_bucket")), "{hidden:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_use_existing_metrics_and_name_a_remedy() {
    let rules = file("prometheus/alerts.yml");
    let known = known().await;
    let (_, rules) = rules.split_once("    rules:\n").unwrap();
    let alerts: Vec<&str> = rules.split("      - alert: ").skip(1).collect();
    assert!(alerts.len() >= 10);
    for alert in alerts {
        for part in ["expr: ", "severity: ", "summary: ", "description: ", "action: "] {
            assert_eq!(alert.matches(part).count(), 1, "{part} of {alert}");
        }
        let (rule, _) = alert.split_once("annotations:").unwrap();
        for name in named(rule) {
            assert!(known.contains(name), "no metric is called {name}");
        }
    }
}

/// Words of the documentation that look like metrics but are not. `muster_0` begins the name of a Debian package.
const OTHER_NAMES: &[&str] =
    &["muster_0", "muster_copy", "muster_test", "http_health_check", "http_layers"];

#[tokio::test(flavor = "multi_thread")]
async fn documentation_names_exactly_the_served_metrics() {
    let served = known().await;
    let parts = ["_bucket", "_sum", "_count"];
    let family = |name: &str| {
        let histogram = parts.iter().find_map(|part| name.strip_suffix(part));
        histogram.filter(|family| served.contains(&format!("{family}_bucket"))).map(str::to_owned)
    };
    let families: BTreeSet<String> =
        served.iter().map(|name| family(name).unwrap_or_else(|| name.clone())).collect();
    let mut texts = pages();
    for name in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "prometheus/prometheus.yml"]
    {
        texts.push((name.into(), file(name)));
    }
    for (path, text) in &texts {
        for name in named(text).filter(|name| !OTHER_NAMES.contains(name)) {
            let known = served.contains(name) || families.contains(name);
            assert!(known, "{}: no metric is called {name}", path.display());
        }
    }
    let (_, page) = texts.iter().find(|(path, _)| path.ends_with("operate/metrics.md")).unwrap();
    let documented: BTreeSet<&str> = named(page).collect();
    let missing: Vec<_> =
        families.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/operate/metrics.md does not name {missing:?}");
}
