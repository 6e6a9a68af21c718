//! The configured address of the metrics.

use std::net::TcpListener;

use crate::harness::process::{Home, Running, http};
use crate::harness::server::database;

#[tokio::test(flavor = "multi_thread")]
async fn address_in_use_error_names_the_key() {
    let database = database().await;
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut home = Home::for_database(&database);
    home.set("MUSTER__METRICS__BIND", &occupied.local_addr().unwrap().to_string());
    let output = tokio::task::block_in_place(|| home.run(&[]));
    output.fails(1, &["cannot listen on 127.0.0.1:", "set metrics.bind to another port"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_at_the_logged_address_only() {
    let database = database().await;
    let mut home = Home::for_database(&database);
    home.set("MUSTER__LOG__FORMAT", "json");
    let listening_event = |running: &Running| {
        running.until_stderr("that it listens", |text| {
            let line = text.lines().find(|line| line.contains("\"listening\""))?;
            serde_json::from_str::<serde_json::Value>(line).ok()
        })
    };
    let server = home.serve();
    let line = listening_event(&server.running);
    let address = line["metrics"].as_str().unwrap();
    let text = http().get(format!("http://{address}/metrics")).send().await.unwrap();
    assert!(text.text().await.unwrap().contains("\nmuster_database_up 1\n"));
    let output = tokio::task::block_in_place(|| server.stop());
    assert!(!output.stderr.contains("ERROR"), "{}", output.stderr);

    home.set("MUSTER__METRICS__BIND", "");
    let server = home.serve();
    assert!(listening_event(&server.running).get("metrics").is_none());
    tokio::task::block_in_place(|| server.stop());
}
