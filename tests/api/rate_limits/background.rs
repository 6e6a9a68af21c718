//! Reads whose results may be large, and large bodies, leave the threads of connections free.

use std::fs;

use reqwest::Method;
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::harness::process::Home;

/// The directory of each background thread of a process in `/proc`.
fn background_threads(process: Pid) -> Vec<String> {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    let tasks = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path());
    let paths = tasks.map(|path| path.to_str().unwrap().to_owned());
    paths
        .filter(|path| fs::read_to_string(format!("{path}/comm")).unwrap() == "muster-reads\n")
        .collect()
}

/// How often the background threads have run.
fn runs(process: Pid) -> u64 {
    let count = |path: String| -> u64 {
        let status = fs::read_to_string(format!("{path}/status")).unwrap();
        let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum()
    };
    background_threads(process).into_iter().map(count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_run_on_background_threads() {
    let home = Home::with_database();
    let server = home.serve();
    let (pid, key) = (server.running.pid(), home.api_key());
    let client = server.plain_client(&key);
    let send = async |method: Method, path: &str, body: Value| -> Value {
        let request = client.http.request(method, format!("{}{path}", client.base));
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.bearer_auth(&key).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    };
    let body = json!({ "title": "t", "operator": "a", "member": ["a", "b", "c"] });
    let created = send(Method::POST, "/v1/sessions", body).await;
    let id = created["sessionId"].as_str().unwrap().trim_matches(['{', '}']).to_owned();

    let members: Vec<String> = (0..1_900).map(|number| format!("{number:0>60}")).collect();
    let large = json!({ "title": "t", "operator": members[0], "member": members });
    for (method, path, body) in [
        (Method::GET, "/v1/sessions".to_owned(), Value::Null),
        (Method::POST, "/v1/sessions/batch-get".to_owned(), json!({ "ids": [id] })),
        (Method::GET, format!("/v1/sessions/{id}?version=1"), Value::Null),
        (Method::GET, format!("/v1/sessions/{id}/events"), Value::Null),
        (Method::GET, format!("/v1/sessions/{id}/diff?from=1&to=1"), Value::Null),
        (Method::GET, "/v1/events?after=0".to_owned(), Value::Null),
        (Method::POST, "/v1/sessions".to_owned(), large),
    ] {
        let before = runs(pid);
        send(method, &path, body).await;
        assert!(runs(pid) > before, "{path}");
    }
}

#[test]
fn background_threads_have_a_lower_priority() {
    let home = Home::with_database();
    let server = home.serve();
    let threads = background_threads(server.running.pid());
    assert!(!threads.is_empty());
    for path in threads {
        let stat = fs::read_to_string(format!("{path}/stat")).unwrap();
        // The name of the program, in parentheses, is the second field, and the niceness the nineteenth.
        let fields = stat.rsplit_once(')').unwrap().1;
        assert_eq!(fields.split_whitespace().nth(16), Some("5"), "{stat}");
    }
}
