//! Start, restart and stop of the server.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::faults::postgres::SmallDisk;
use crate::harness::process::{Home, Running, Server, WAIT_TIMEOUT, http, is_running, wait_for};
use crate::harness::store::{self, PgConnection};

#[tokio::test(flavor = "multi_thread")]
async fn first_start_creates_everything_and_prints_the_next_step() {
    // A shell would split this name.
    let home = Home::named("it's here");
    let started_at = Instant::now();
    let server = home.serve();
    println!("first start: {:?}", started_at.elapsed());

    let path = home.data_dir.join("first-app.json");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let first = home.credentials();
    let mut fields: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["aesKey", "apiKey", "appId", "buin", "url"]);
    assert_eq!(first["url"], server.url(""));
    assert!(first["buin"].is_i64() && first["apiKey"].as_str().unwrap().starts_with("msk_"));

    let printed = server.running.until_stdout("both curl lines", |text| {
        text.split_once("/cgi/session/create")?.1.contains('\n').then(|| text.to_owned())
    });
    assert!(printed.contains(&server.url("")), "{printed}");
    assert!(printed.contains(r"it'\''s here/first-app.json"), "{printed}");
    assert!(!printed.contains(first["apiKey"].as_str().unwrap()), "{printed}");
    assert!(printed.contains(&server.url("/v1/docs")), "{printed}");
    let lines: Vec<_> =
        printed.lines().filter(|line| line.trim_start().starts_with("curl ")).collect();
    let [rest, cgi] = lines[..] else { panic!("{printed}") };
    // The commands work in any directory, because the path is absolute.
    let run = |line: &str| -> Value {
        let curl = Command::new("sh").args(["-c", line]).current_dir("/").output();
        let curl = curl.expect("these tests need curl");
        serde_json::from_slice(&curl.stdout)
            .unwrap_or_else(|error| panic!("{error}: {curl:?}: {line}"))
    };
    let created = run(rest);
    assert_eq!((&created["title"], &created["version"]), (&json!("Hello"), &json!(1)), "{created}");
    let created = run(cgi);
    assert_eq!(created["errcode"], 0, "{created}");

    for path in ["/healthz", "/readyz"] {
        assert_eq!(http().get(server.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    server.stop();

    let started_at = Instant::now();
    let server = home.serve();
    println!("second start: {:?}", started_at.elapsed());
    let second = home.credentials();
    assert_eq!(second["url"], server.url(""));
    for field in ["aesKey", "apiKey", "appId", "buin"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    let id = created["sessionId"].as_str().unwrap();
    assert_eq!(server.plain_client(&home.api_key()).get(id).await, created);
    let client = server.client(&second);
    let token = client.token().await;
    assert_eq!(client.get_session(&token, id).await, created);
    assert_eq!(home.json(&["app", "list"]).as_array().unwrap().len(), 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_first_start_is_completed() {
    let home = Home::with_database();
    let first = home.credentials();
    // The first start was interrupted after it wrote the file and before it wrote the database.
    let server = home.serve();
    let mut connection = home.connect().await;
    store::delete_apps(&mut connection).await;
    store::close(connection).await.unwrap();
    server.stop();
    fs::write(home.data_dir.join("first-app.json.new"), "{\"buin\": 1").unwrap();

    let server = home.serve();
    let client = server.client(&first);
    assert_eq!(client.gettoken().await["errcode"], 0);
    assert_eq!(server.plain_client(first["apiKey"].as_str().unwrap()).create().await["version"], 1);
    let beside: Vec<_> = fs::read_dir(&home.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("first-app"))
        .collect();
    assert_eq!(beside, ["first-app.json"]);
    server.stop();

    // The first start was interrupted after it wrote the app and before it wrote its key.
    let server = home.serve();
    let mut connection = home.connect().await;
    store::delete_keys(&mut connection).await;
    store::close(connection).await.unwrap();
    server.stop();
    let server = home.serve();
    assert_eq!(server.plain_client(first["apiKey"].as_str().unwrap()).create().await["version"], 1);
    server.stop();

    // The file was written before the database existed.
    let fresh = Home::new();
    fs::create_dir(&fresh.data_dir).unwrap();
    fs::write(fresh.data_dir.join("first-app.json"), first.to_string()).unwrap();
    let server = fresh.serve();
    assert_eq!(server.client(&first).gettoken().await["errcode"], 0);
    assert_eq!(server.plain_client(first["apiKey"].as_str().unwrap()).create().await["version"], 1);
    server.stop();
}

#[test]
fn invalid_credentials_file_stops_the_start() {
    let home = Home::with_database();
    let path = home.data_dir.join("first-app.json");
    fs::write(&path, "# my notes").unwrap();
    home.run(&["serve"]).fails(1, &["first-app.json", "remove it"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "# my notes");
    assert!(home.postmaster().is_none(), "a refused start leaves nothing running");
}

/// Locks a session's row until the connection's transaction ends. Updates of the session wait.
async fn lock_session(home: &Home, session: &Value) -> PgConnection {
    store::lock_session(home.connect().await, session["sessionId"].as_str().unwrap()).await
}

/// Sends an update and waits until it is blocked by the lock.
async fn blocked_update(
    home: &Home,
    server: &Server,
    session: &Value,
) -> JoinHandle<Option<Value>> {
    let caller = server.plain_client(&home.api_key());
    let body = json!({ "sessionId": session["sessionId"], "opUser": "a", "title": "blocked" });
    let update = tokio::spawn(async move { caller.try_post("update", &body).await.ok() });
    store::wait_for_blocked_statement(&mut home.connect().await).await;
    assert!(!update.is_finished(), "the update is blocked");
    update
}

/// A connection that has served one request and could be used again.
fn idle(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    stream
}

#[test]
fn both_signals_stop_despite_idle_connections() {
    let mut home = Home::with_database();
    // Requests could run for this long. The test waits for a minute.
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "10m");
    for signal in [Signal::TERM, Signal::INT].into_iter().cycle().take(6) {
        let server = home.serve();
        let postmaster = home.postmaster().unwrap();
        let mut idle = idle(&server);
        // One connection never sends anything, and one is in the middle of a request.
        let _silent = TcpStream::connect(server.address).unwrap();
        let mut begun = TcpStream::connect(server.address).unwrap();
        begun.write_all(b"GET /heal").unwrap();

        let started_at = Instant::now();
        server.running.signal(signal);
        let output = server.running.output();
        println!("{signal:?}: {:?}", started_at.elapsed());
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
        assert!(!output.stderr.contains("ERROR"), "{}", output.stderr);
        assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
        assert!(home.postmaster().is_none());
        assert!(!is_running(postmaster), "PostgreSQL still runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_finishes_running_requests_and_accepts_no_new_ones() {
    let mut home = Home::with_database();
    home.set("MUSTER__DATABASE__STATEMENT_TIMEOUT", "1h");
    home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10m");
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "1h");
    let server = home.serve();
    let session = server.plain_client(&home.api_key()).create().await;
    let mut lock = lock_session(&home, &session).await;
    let update = blocked_update(&home, &server, &session).await;

    server.running.signal(Signal::TERM);
    wait_for("new connections are refused", || {
        TcpStream::connect(server.address).is_err().then_some(())
    });
    assert!(!update.is_finished());
    store::unlock(&mut lock).await;
    let answer = update.await.unwrap().expect("an answer");
    assert_eq!(answer["errcode"], 0, "{answer}");
    assert_eq!((&answer["title"], &answer["version"]), (&json!("blocked"), &json!(2)));
    assert_eq!(server.running.output().status.code(), Some(0));
    assert!(home.postmaster().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_does_not_finish_is_aborted() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "1");
    // The statement would run for minutes if the server did not stop.
    home.set("MUSTER__DATABASE__STATEMENT_TIMEOUT", "1h");
    home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10m");
    let server = home.serve();
    let session = server.plain_client(&home.api_key()).create().await;
    let _lock = lock_session(&home, &session).await;
    let update = blocked_update(&home, &server, &session).await;

    let started_at = Instant::now();
    server.running.signal(Signal::TERM);
    let output = server.running.output();
    let elapsed = started_at.elapsed();
    println!("closed: {elapsed:?}");
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    assert!(elapsed >= Duration::from_secs(1), "the request had one second: {elapsed:?}");
    assert!(output.stderr.contains("requests still running"), "{}", output.stderr);
    assert!(home.postmaster().is_none(), "{}", output.stderr);
    assert_eq!(update.await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_stays_while_another_server_uses_it() {
    let home = Home::with_database();
    let first = home.serve();
    let second = home.serve();
    assert_ne!(first.address, second.address);
    assert_eq!(home.credentials()["url"], first.url(""), "the first server still runs");
    let session = first.plain_client(&home.api_key()).create().await;
    first.stop();
    assert!(home.postmaster().is_some());
    let id = session["sessionId"].as_str().unwrap();
    assert_eq!(second.plain_client(&home.api_key()).get(id).await, session);
    second.stop();
    assert!(home.postmaster().is_none());
}

#[test]
fn signal_during_startup_stops_the_server() {
    for home in [Home::new(), Home::with_database()] {
        let starting = Running::start(&home, &[]);
        // The signal comes as early as possible.
        wait_for("PostgreSQL", || home.postmaster());
        starting.signal(Signal::TERM);
        let output = starting.output();
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
        assert!(home.postmaster().is_none(), "{output:#?}");
    }
}

#[test]
fn signal_stops_a_server_that_waits_for_postgresql() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "1s");
    home.serve().kill();
    // PostgreSQL still runs, but does not answer.
    let postmaster = home.postmaster().unwrap();
    kill_process(postmaster, Signal::STOP).unwrap();
    let starting = Running::start(&home, &[]);
    let lock = std::fs::File::open(home.data_dir.join("postgres.start.lock")).unwrap();
    wait_for("the wait", || {
        let is_free = flock(&lock, FlockOperation::NonBlockingLockShared).is_ok();
        flock(&lock, FlockOperation::Unlock).unwrap();
        (!is_free).then_some(())
    });
    starting.signal(Signal::TERM);
    let output = starting.output();
    kill_process(postmaster, Signal::CONT).unwrap();
    // It did not wait until it gave up.
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    assert!(!output.stderr.contains("accepted no connection"), "{output:#?}");
    home.serve().stop();
}

/// The steps of a stop share the time of `server.shutdown_timeout`.
#[test]
fn stop_of_a_silent_postgresql_is_short() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "1s");
    let server = home.serve();
    let postmaster = home.postmaster().unwrap();
    kill_process(postmaster, Signal::STOP).unwrap();
    server.running.signal(Signal::TERM);
    let output = server.running.output();
    kill_process(postmaster, Signal::CONT).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
    assert!(output.stderr.contains("did not stop within 4 s"), "{output:#?}");
    // PostgreSQL gets its signals.
    wait_for("the end of PostgreSQL", || (!is_running(postmaster)).then_some(()));
    home.serve().stop();
}

#[test]
fn little_space_on_the_disk_is_a_warning() {
    let home = Home::with_database();
    let Ok(_disk) = SmallDisk::mount(&home.postgres(), 64 << 20) else { return };
    let output = home.serve().stop();
    let warning = output.stderr.lines().find(|line| line.contains("little space on the disk"));
    let warning = warning.unwrap_or_else(|| panic!("{output:#?}"));
    assert!(warning.contains("WARN") && warning.contains("MiB free"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_forces_the_exit() {
    let mut home = Home::with_database();
    home.set("MUSTER__DATABASE__STATEMENT_TIMEOUT", "1h");
    home.set("MUSTER__SERVER__REQUEST_TIMEOUT", "10m");
    home.set("MUSTER__SERVER__SHUTDOWN_TIMEOUT", "1h");
    let server = home.serve();
    let session = server.plain_client(&home.api_key()).create().await;
    let lock = lock_session(&home, &session).await;
    let _update = blocked_update(&home, &server, &session).await;
    server.running.signal(Signal::TERM);
    server.running.until_stderr("the first", |text| text.contains("stopping").then_some(()));
    // The signal is repeated. Signals that arrive together count as one.
    wait_for("the second", || {
        server.running.signal(Signal::INT);
        server.running.stderr().contains("stopping without waiting for requests").then_some(())
    });
    let output = server.running.output();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(home.postmaster().is_none(), "{}", output.stderr);
    store::close(lock).await.unwrap_err();

    let server = home.serve();
    let id = session["sessionId"].as_str().unwrap();
    assert_eq!(server.plain_client(&home.api_key()).get(id).await["errcode"], 0);
    server.stop();
    assert!(home.postmaster().is_none());
}

#[test]
fn service_manager_is_notified_of_start_and_stop() {
    let mut home = Home::with_database();
    let path = home.parent.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    home.set("NOTIFY_SOCKET", path.to_str().unwrap());
    let notification = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    let server = home.serve();
    assert_eq!(notification(), "READY=1");
    server.stop();
    // PostgreSQL sends no notification in between.
    assert_eq!(notification(), "STOPPING=1");
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 256]).is_err());

    // The server keeps serving if the service manager no longer listens.
    drop(socket);
    let server = home.serve();
    server.running.until_stderr("the failed notification", |log| {
        log.contains("the supervisor cannot be notified").then_some(())
    });
    server.stop();
}

#[test]
fn sighup_without_tls_does_not_stop_the_server() {
    let server = Home::with_database().serve();
    // The system delivers SIGHUP before SIGTERM. Without a handler the server would end here.
    server.running.signal(Signal::HUP);
    server.stop();
}
