//! Acknowledged writes survive the kill of any process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::process::{Home, PlainClient, Running, WAIT_TIMEOUT, is_running, wait_for};
use crate::harness::store;

const WRITERS: usize = 6;

/// The acknowledged versions of one writer: session id to newest version.
type Versions = HashMap<String, i64>;

/// Creates sessions and changes them until a request gets no response. Each version has its own
/// title and adds a member.
async fn write(client: PlainClient, acknowledged: Arc<AtomicUsize>) -> Versions {
    let mut versions = Versions::new();
    let count = || acknowledged.fetch_add(1, Ordering::Relaxed);
    loop {
        let body = json!({ "title": "title 1", "creator": "a", "member": ["b", "c"] });
        let Ok(session) = client.try_post("create", &body).await else { return versions };
        if session["errcode"] != 0 {
            return versions;
        }
        let id = session["sessionId"].as_str().unwrap().to_owned();
        versions.insert(id.clone(), 1);
        count();
        for version in 2..6 {
            let body = json!({
                "sessionId": id, "opUser": "a",
                "title": format!("title {version}"), "addMember": [format!("m{version}")],
            });
            match client.try_post("update", &body).await {
                Ok(session) if session["errcode"] == 0 => {
                    assert_eq!(session["version"], version, "{session}");
                    versions.insert(id.clone(), version);
                    count();
                }
                // The database stopped before the server did.
                _ => return versions,
            }
        }
    }
}

/// Every acknowledged session is complete, and not older than its acknowledged version.
async fn check(home: &Home, client: &PlainClient, versions: &Versions) {
    for (id, version) in versions {
        let session = client.get(id).await;
        assert_eq!(session["errcode"], 0, "{id} at {version} was acknowledged: {session}");
        let found = session["version"].as_i64().unwrap();
        // The response to the last change may have been lost.
        assert!((*version..=version + 1).contains(&found), "{version} was acknowledged: {session}");
        assert_eq!(session["title"], format!("title {found}"));
        let members: Vec<Value> = ["a", "b", "c"]
            .into_iter()
            .map(Value::from)
            .chain((2..=found).map(|version| format!("m{version}").into()))
            .collect();
        assert_eq!(session["member"], Value::from(members));
    }
    let mut connection = home.connect().await;
    let inconsistent = store::inconsistent_sessions(&mut connection).await;
    store::close(connection).await.unwrap();
    assert_eq!(inconsistent, Vec::<String>::new(), "a change is stored only in part");
}

#[derive(Clone, Copy, Debug)]
enum Killed {
    Server,
    ServerAndPostgres,
    PostgresAndServer,
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_crash() {
    let home = Home::with_database();
    let mut all_versions = Versions::new();
    let started_at = Instant::now();
    for killed in [
        Killed::ServerAndPostgres,
        Killed::Server,
        Killed::PostgresAndServer,
        Killed::Server,
        Killed::ServerAndPostgres,
    ] {
        let server = home.serve();
        let client = server.plain_client(&home.api_key());
        let acknowledged = Arc::default();
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| tokio::spawn(write(client.clone(), Arc::clone(&acknowledged))))
            .collect();
        wait_for("a load", || (acknowledged.load(Ordering::Relaxed) > 150).then_some(()));
        let postmaster = home.postmaster().unwrap();
        match killed {
            Killed::Server => server.kill(),
            Killed::ServerAndPostgres => {
                server.kill();
                home.kill_postgres();
            }
            Killed::PostgresAndServer => {
                home.kill_postgres();
                server.kill();
            }
        }
        let mut versions = Versions::new();
        for writer in writers {
            versions.extend(writer.await.unwrap());
        }
        println!("{killed:?}: {} sessions", versions.len());

        let keeps_running = matches!(killed, Killed::Server);
        assert_eq!(is_running(postmaster), keeps_running);
        let restarted = Instant::now();
        let server = home.serve();
        println!("up again in {:?}", restarted.elapsed());
        assert_eq!(
            home.postmaster() == Some(postmaster),
            keeps_running,
            "a running PostgreSQL is used again"
        );
        check(&home, &server.plain_client(&home.api_key()), &versions).await;
        all_versions.extend(versions);
        server.stop();
        assert!(home.postmaster().is_none(), "the PostgreSQL of a killed server is stopped too");
    }
    let server = home.serve();
    check(&home, &server.plain_client(&home.api_key()), &all_versions).await;
    server.stop();
    let elapsed = started_at.elapsed();
    println!("{} sessions, five rounds: {elapsed:?}", all_versions.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stops_quickly_without_postgresql() {
    let mut home = Home::with_database();
    // The server waits this long for a connection. The test waits for a minute.
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "5m");
    home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10m");
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "10m");
    let server = home.serve();
    server.plain_client(&home.api_key()).create().await;
    home.kill_postgres();
    let started_at = Instant::now();
    server.stop();
    println!("stopped without a database: {:?}", started_at.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_survives_a_crash_of_postgresql() {
    let mut home = Home::with_database();
    home.set("MUSTER__DATABASE__ACQUIRE_TIMEOUT", "1s");
    let server = home.serve();
    let client = server.plain_client(&home.api_key());
    let session = client.create().await;
    let kills: [(fn(&Home), _); 2] = [(Home::kill_postgres, 2), (Home::kill_postmaster, 3)];
    for (kill, version) in kills {
        let before = home.postmaster();
        kill(&home);
        let started_at = Instant::now();
        let ready = client.http.get(server.url("/readyz"));
        while ready.try_clone().unwrap().send().await.unwrap().status() != 200
            || home.postmaster() == before
        {
            assert!(started_at.elapsed() < WAIT_TIMEOUT, "{}", server.running.stderr());
            let health = client.http.get(server.url("/healthz")).send().await.unwrap();
            assert_eq!(health.status(), 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("service again after {:?}", started_at.elapsed());
        let title = version.to_string();
        let body = json!({ "sessionId": session["sessionId"], "opUser": "a", "title": title });
        let answer = client.post("update", &body).await;
        assert_eq!((&answer["errcode"], &answer["version"]), (&json!(0), &json!(version)));
    }
    let output = server.stop();
    assert!(output.stderr.contains("starting it again"), "{output:#?}");
    assert!(home.postmaster().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_start_is_retried_until_it_succeeds() {
    let home = Home::with_database();
    let server = home.serve();
    let settings = home.postgres().join("postgresql.conf");
    let right = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{right}work_mem = plenty\n")).unwrap();
    home.kill_postgres();
    server.running.until_stderr("two attempts", |text| {
        (text.matches("could not be started again").count() == 2).then_some(())
    });
    let log = server.running.stderr();
    assert!(log.contains("work_mem"), "{log}");
    assert!(log.contains("delay_seconds=1 ") || log.contains("delay_seconds=1\n"), "{log}");
    std::fs::write(&settings, right).unwrap();
    server.running.until_stderr("its end", |text| text.contains("runs again").then_some(()));
    server.plain_client(&home.api_key()).create().await;
    server.stop();
    assert!(home.postmaster().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_start_one_postgresql_again() {
    let home = Home::with_database();
    let servers = [home.serve(), home.serve()];
    for _ in 0..3 {
        home.kill_postmaster();
        for server in &servers {
            let url = server.url("/readyz");
            let client = server.plain_client(&home.api_key());
            let started_at = Instant::now();
            while client.http.get(&url).send().await.unwrap().status() != 200 {
                // The second restart in a row is delayed, the third one longer.
                assert!(started_at.elapsed() < WAIT_TIMEOUT, "{}", server.running.stderr());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            client.create().await;
        }
    }
    let [first, second] = servers;
    first.stop();
    assert!(home.postmaster().is_some(), "the second still uses it");
    second.plain_client(&home.api_key()).create().await;
    second.stop();
    assert!(home.postmaster().is_none());
}

/// The number of kills: many in the long form.
fn kills() -> usize {
    if std::env::var("MUSTER_TEST_FAULTS").is_ok_and(|how| how == "long") { 150 } else { 12 }
}

#[test]
fn every_start_after_a_kill_succeeds() {
    let home = Home::with_database();
    let mut unfinished = 0;
    for kill in 0..kills() {
        let server = home.serve();
        // PostgreSQL alone or with all of its processes, and then the server: just after it has
        // started another PostgreSQL, which does not listen yet.
        let log = home.data_dir.join("postgres-start.log");
        std::fs::remove_file(&log).unwrap();
        match kill % 2 {
            0 => home.kill_postmaster(),
            _ => home.kill_postgres(),
        }
        if kill % 3 > 0 {
            wait_for("another PostgreSQL", || log.exists().then_some(()));
            std::thread::sleep(Duration::from_millis(kill as u64 % 7));
        }
        unfinished += usize::from(home.postmaster().is_none());
        server.kill();
    }
    println!("{unfinished} servers were killed before PostgreSQL had its lock file");
    let server = home.serve();
    let output = server.stop();
    assert!(home.postmaster().is_none(), "{output:#?}");
}

#[test]
fn start_after_a_kill_during_any_start_succeeds() {
    let home = Home::with_database();
    for millis in 0..kills() as u64 {
        let starting = Running::start(&home, &[]);
        std::thread::sleep(Duration::from_millis(millis * 11 % 200));
        starting.signal(Signal::KILL);
        starting.output();
    }
    home.serve().stop();
    assert!(home.postmaster().is_none());
}

#[test]
fn empty_lock_file_is_no_obstacle() {
    let home = Home::with_database();
    // PostgreSQL was killed between the creation of the file and its first write.
    for name in ["postmaster.pid", ".s.PGSQL.5432.lock"] {
        std::fs::write(home.postgres().join(name), "").unwrap();
    }
    home.serve().stop();
    assert!(home.postmaster().is_none());
}

#[test]
fn stopping_server_stops_a_restarting_postgresql() {
    let home = Home::with_database();
    // The signal comes at several moments of the restart.
    for millis in [0, 260, 300, 350, 400] {
        let server = home.serve();
        home.kill_postmaster();
        std::thread::sleep(Duration::from_millis(millis));
        server.stop();
        let left = home.postmaster().filter(|pid| is_running(*pid));
        assert_eq!(left, None, "after {millis} ms");
    }
}
