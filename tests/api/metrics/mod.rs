//! `/metrics`: values, names, and a bounded number of series.

mod cardinality;
mod counters;
mod dashboards;
mod metrics_server;
mod state;

use std::collections::BTreeMap;

use muster::config::Settings;

use crate::harness::process::http;
use crate::harness::{TestApp, spawn_app_with};

/// A server that serves its metrics.
pub async fn spawn() -> TestApp {
    spawn_with(|_| {}).await
}

pub async fn spawn_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    spawn_app_with(|settings| {
        settings.metrics.bind = Some("127.0.0.1:0".to_owned());
        // Deliveries in the background would change the metrics.
        settings.delivery.enabled = false;
        change(settings);
    })
    .await
}

/// The result of a scrape: each series with its value.
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
        assert_eq!(series.len(), lines.count(), "a series appears more than once");
        Self { text, series }
    }

    /// The value of a series, or 0 if the series is missing.
    pub fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }

    /// The value of a series. Fails if the series is missing.
    #[track_caller]
    pub fn has(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {}", self.text))
    }
}
