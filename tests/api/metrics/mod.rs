//! `/metrics`: what is counted, under which names, and that no label grows.

mod cardinality;
mod counters;
mod dashboards;
mod metrics_server;
mod state;

use std::collections::BTreeMap;

use muster::config::Settings;

use crate::harness::process::http;
use crate::harness::{TestApp, spawn_app_with};

/// A server that tells its metrics.
async fn spawn() -> TestApp {
    spawn_with(|_| {}).await
}

pub async fn spawn_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    spawn_app_with(|settings| {
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
        // What is looked at is looked at for the test, not for what the test does not do.
        settings.delivery.enabled = false;
        change(settings);
    })
    .await
}

/// What a scrape told: each series with its value.
#[derive(Debug)]
pub struct Scrape {
    text: String,
    series: BTreeMap<String, f64>,
}

pub async fn scrape(app: &TestApp) -> Scrape {
    let url = format!("http://{}/metrics", app.metrics.unwrap());
    let response = http().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Scrape::read(response.text().await.unwrap())
}

impl Scrape {
    #[track_caller]
    fn read(text: String) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series: BTreeMap<String, f64> = lines
            .clone()
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect();
        assert_eq!(series.len(), lines.count(), "a series stands twice");
        Self { text, series }
    }

    /// The value of a series; 0 if there is none.
    pub fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }

    #[track_caller]
    pub fn has(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {}", self.text))
    }
}
