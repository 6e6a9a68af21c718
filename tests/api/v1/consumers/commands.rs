//! The commands of operators: `muster feed`.

use serde_json::json;

use super::{MIRROR, consumer_from_beginning, fetch, put, session_with_versions, status};
use crate::harness::process::Home;
use crate::harness::{BUIN, spawn_app, store};
use crate::metrics::{self, scrape};

const THREE: [&str; 3] = ["alice", "bob", "carol"];

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_move_consumers() {
    let app = spawn_app().await;
    let home = Home::for_database(&app.database);
    session_with_versions(&app, &THREE, 2).await;
    consumer_from_beginning(&app).await;
    put(&app, "/v1/consumers/other", json!({ "filter": { "member": "alice" } })).await;
    assert_eq!(fetch(&app, "m", 50).await.len(), 2);
    let listed = home.json(&["feed", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["lag"]), (&json!("mirror"), &json!(2)));
    assert_eq!((&listed[1]["name"], &listed[1]["lag"]), (&json!("other"), &json!(0)));
    assert_eq!(listed[1]["filter"], json!({ "member": "alice" }));
    let (buin, app_id) = (BUIN.to_string(), listed[0]["appId"].as_str().unwrap().to_owned());
    let command = |words: &[&str], rest: &[&str]| -> Vec<String> {
        let which = ["--buin", &buin, "--app-id", &app_id];
        words.iter().chain(&which).chain(rest).map(|word| (*word).to_owned()).collect()
    };
    let run = |words: &[&str], rest: &[&str]| {
        let words = command(words, rest);
        home.json(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let shown = run(&["feed", "show", "mirror"], &[]);
    assert_eq!((&shown["members"][0]["member"], &shown["leased"]), (&json!("m"), &json!(2)));
    for _ in 0..10 {
        store::end_leases(&app, None).await;
        fetch(&app, "m", 50).await;
    }
    assert_eq!(status(&app).await["parked"], 1);
    let shown = run(&["feed", "show", "mirror"], &[]);
    assert_eq!((&shown["parkedEvents"][0]["seq"], &shown["waiting"]), (&json!(1), &json!(1)));
    let released = run(&["feed", "release", "mirror"], &["--seq", "1"]);
    assert_eq!(released, json!({ "released": 1, "discarded": false }));
    assert_eq!(fetch(&app, "m", 50).await.len(), 2);
    let reset = run(&["feed", "reset", "mirror"], &["--start", "head"]);
    assert_eq!(reset, json!({ "position": 2 }));
    assert_eq!(status(&app).await["lag"], 0);
    let lines = home.json(&["audit", "list", "--action", "consumer"]);
    let actions: Vec<_> = lines.as_array().unwrap().iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["consumer.reset", "consumer.release"]);
    assert_eq!(lines[0]["details"], json!({ "consumer": "mirror", "position": 2 }));
    let words = command(&["feed", "show", "nobody"], &[]);
    let failed = home.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    failed.fails(1, &["there is no consumer nobody"]);
    assert_eq!(super::get(&app, MIRROR).await["expired"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_events_have_the_same_names_in_status_commands_and_metrics() {
    let app = metrics::spawn().await;
    let home = Home::for_database(&app.database);
    session_with_versions(&app, &THREE, 4).await;
    consumer_from_beginning(&app).await;
    assert_eq!(fetch(&app, "m", 1).await.len(), 1);
    let (state, metrics) = (status(&app).await, scrape(&app).await);
    let listed = home.json(&["feed", "list"]);
    for (name, count) in [("leased", 1), ("ready", 3), ("parked", 0)] {
        assert_eq!((&state[name], &listed[0][name]), (&json!(count), &json!(count)), "{name}");
        let metric = format!("muster_consumer_events_{name}");
        assert_eq!(metrics.has(&metric), f64::from(count), "{metric}");
    }
    let table = home.run(&["feed", "list"]).ok().stdout;
    let words: Vec<&str> = table.split_whitespace().collect();
    assert!(words.windows(3).any(|words| words == ["LEASED", "READY", "PARKED"]), "{table}");
    assert!(words.windows(3).any(|words| words == ["1", "3", "0"]), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_the_changes_of_a_member() {
    let app = spawn_app().await;
    let home = Home::for_database(&app.database);
    session_with_versions(&app, &["dave", "bob", "carol"], 1).await;
    let session = session_with_versions(&app, &THREE, 2).await;
    let buin = BUIN.to_string();
    let words =
        ["feed", "tail", "--buin", &buin, "--after", "0", "--member", "alice", "--limit", "2"];
    let printed = home.run(&[&words[..], &["--json"]].concat()).ok().stdout;
    let lines: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{printed}");
    assert_eq!((&lines[1]["sessionId"], &lines[1]["version"]), (&json!(session), &json!(2)));
    assert_eq!(lines[1]["changes"], json!({ "title": "title 2" }));
    let printed = home.run(&words).ok().stdout;
    assert!(printed.contains("updated version 2 by alice"), "{printed}");
}
