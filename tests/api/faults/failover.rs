//! A primary and a synchronous standby, as the manual configures them, with no proxy between.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::load::Kind;
use super::postgres::Postgres;
use super::system::{Database, System, fault_duration, is_long};
use crate::harness::process::{Home, PlainClient, Running, Server, WAIT_TIMEOUT, http};
use crate::harness::{store, wait_until};

const PAGE: &str = "docs/operate/failover.md";

/// The text between two lines of the manual's page.
fn block(begin: &str, end: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(begin).unwrap();
    rest.split_once(end).unwrap().0.to_owned()
}

/// The settings of the primary in the manual.
pub fn settings() -> Vec<(String, String)> {
    let block = block("```ini\n# postgresql.conf of the primary\n", "```");
    let settings = block.lines().map(|line| line.split_once(" = ").unwrap());
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The URL in the manual, with the addresses of these servers.
pub fn url(servers: [&Postgres; 2]) -> String {
    let mut url = block("export MUSTER__DATABASE__URL='", "'");
    for (server, host) in servers.iter().zip(["db1.example.com:5432", "db2.example.com:5432"]) {
        assert!(url.contains(host), "{url}");
        url = url.replace(host, &server.address());
    }
    url
}

/// A synchronous standby of `primary` in the home.
pub async fn start_standby(home: &Home, primary: &Postgres) -> Postgres {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    primary.start_standby(&home.parent.join("standby"), port, &settings()).await
}

/// The way in which a primary ends.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    /// The machine of the primary does not answer any more.
    Frozen,
    /// A switchover: the primary stops in order.
    Stopped,
    /// A switchover in which the former primary goes on as a server that takes no writes, and keeps
    /// its connections.
    Demoted,
}

/// The maximum time until writes succeed after a promotion. The short form runs next to all other
/// tests, so its limit is generous.
fn max_pause() -> Duration {
    if is_long() { Duration::from_secs(3) } else { WAIT_TIMEOUT }
}

/// Makes the standby the primary, and then a new standby of the former primary.
async fn fail_over(system: &mut System, fault: Fault) {
    let mut old = system.postgres.take().unwrap();
    let new = system.standby.take().unwrap();
    match fault {
        Fault::Killed => old.kill(),
        Fault::Frozen => old.freeze(),
        Fault::Stopped => old.stop(Signal::INT),
        Fault::Demoted => {
            let mut connection = old.connect_as_superuser().await;
            store::set_read_only(&mut connection, "on").await;
            wait_until("a read-only server", async || {
                store::is_read_only(&mut old.connect_as_superuser().await).await
            })
            .await;
        }
    }
    // The time that a cluster manager needs to find out.
    tokio::time::sleep(fault_duration()).await;
    store::promote(&mut new.connect_as_superuser().await).await;
    let first = system.load.wait_for_successes(10, WAIT_TIMEOUT).await;
    let first_write = first[&Kind::Create].min(first[&Kind::Update]);
    println!("{fault:?}: a write succeeded {first_write:?} after the promotion, and {first:?}");
    assert!(first_write <= max_pause(), "{fault:?}: {first_write:?}");
    match fault {
        Fault::Killed | Fault::Stopped => {}
        Fault::Frozen | Fault::Demoted => old.kill(),
    }
    let standby = new.start_standby(old.data(), old.port(), &settings()).await;
    (system.postgres, system.standby) = (Some(new), Some(standby));
}

/// The answer of `/readyz`.
async fn readiness(server: &Server) -> (u16, Value) {
    let response = http().get(server.url("/readyz")).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Checks that `/readyz` and the doctor name the role of each server.
async fn check_roles(system: &System) {
    let (primary, standby) = (system.postgres.as_ref().unwrap(), system.standby.as_ref().unwrap());
    let mut answer = (0, Value::Null);
    wait_until("the roles in /readyz", async || {
        answer = readiness(&system.servers[0]).await;
        let servers = answer.1["servers"].as_array().unwrap();
        let find = |address: &str| {
            servers.iter().find(|server| server["server"] == address).unwrap().clone()
        };
        let standby = find(&standby.address());
        answer.0 == 200
            && find(&primary.address())["role"] == "primary"
            && standby["role"] == "standby"
            && standby["behindBytes"].is_u64()
            && standby["behindSeconds"].is_number()
    })
    .await;
    println!("{}", answer.1);
    let checks = system.home.run(&["doctor", "--json"]).json();
    let found = |name: &str| {
        let check = checks.as_array().unwrap().iter().find(|check| check["check"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name} in {checks}"));
        assert_eq!(check["verdict"], "ok", "{check}");
        check["found"].as_str().unwrap().to_owned()
    };
    let servers = found("servers");
    assert!(servers.contains(&format!("{} is the primary", primary.address())), "{servers}");
    assert!(servers.contains(&format!("{} is a standby, ", standby.address())), "{servers}");
    assert_eq!(found("writes"), "a write ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_return_after_each_failover() {
    let mut system = System::start(Database::Replicated).await;
    let faults = [Fault::Killed, Fault::Frozen, Fault::Stopped, Fault::Demoted];
    let count = if is_long() { 40 } else { faults.len() };
    let epoch = store::epoch(&mut system.connect().await).await;
    for fault in faults.into_iter().cycle().take(count) {
        fail_over(&mut system, fault).await;
        check_roles(&system).await;
        // The cursors of all readers go on.
        assert_eq!(store::epoch(&mut system.connect().await).await, epoch);
    }
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_refusals_go_on_while_there_is_no_primary() {
    let mut system = System::start(Database::Replicated).await;
    system.postgres.as_mut().unwrap().kill();
    let address = system.standby.as_ref().unwrap().address();
    wait_until("no primary in /readyz", async || {
        let (status, body) = readiness(&system.servers[0]).await;
        let is_standby =
            |server: &Value| server["server"] == address.as_str() && server["role"] == "standby";
        status == 503
            && body["reason"].as_str().unwrap().contains("read-only")
            && body["servers"].as_array().unwrap().iter().any(is_standby)
    })
    .await;
    let doctor = system.home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
    for part in ["is a standby, without a primary", "does not answer", "promote a standby"] {
        assert!(doctor.stdout.contains(part), "{doctor:#?}");
    }
    let new = system.standby.take().unwrap();
    store::promote(&mut new.connect_as_superuser().await).await;
    system.load.wait_for_successes(10, WAIT_TIMEOUT).await;
    system.postgres = Some(new);
    system.check_promises().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_on_a_standby_waits_for_its_promotion() {
    let _exclusive = System::lock_fault_tests().await;
    let mut home = Home::with_database();
    let mut primary = Postgres::start(&home).await;
    let standby = start_standby(&home, &primary).await;
    let key_file = home.data_dir.join("master.key");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", key_file.to_str().unwrap());
    // One server, which may have any role, and two, of which one must take writes.
    primary.kill();
    let two = url([&primary, &standby]);
    let one = two.replace(&format!("{},", primary.address()), "");
    let one = one.split_once('?').unwrap().0;
    let mut waiting = Vec::new();
    for url in [one, &two] {
        home.set("MUSTER__DATABASE__URL", url);
        let running = Running::start(&home, &[]);
        running.until_stderr("the wait", |log| {
            let (_, line) = log.split_once("waiting for a database server that takes writes")?;
            line.split_once('\n')?.0.contains(&standby.address()).then_some(())
        });
        let doctor = home.run(&["doctor"]);
        assert_eq!(doctor.status.code(), Some(1), "{doctor:#?}");
        let is_failed = |line: &str| line.starts_with("FAIL") && line.contains(" database ");
        assert!(doctor.stdout.lines().any(is_failed), "{doctor:#?}");
        if url == two {
            home.run(&["app", "list"]).fails(1, &["a standby", "promote a standby"]);
        }
        waiting.push(running);
    }
    store::promote(&mut standby.connect_as_superuser().await).await;
    for running in waiting {
        running.until_stdout("the address", |text| text.contains("listens on").then_some(()));
    }
}

/// The value of a metric of the first server.
async fn metric(system: &System, name: &str) -> f64 {
    let address = system.servers[0].running.until_stderr("the address of the metrics", |log| {
        Some(log.split_once(" metrics=")?.1.split_whitespace().next()?.to_owned())
    });
    let page = http().get(format!("http://{address}/metrics")).send().await.unwrap();
    let page = page.text().await.unwrap();
    let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// The number of given-up statements after which the test looks at the result.
const GIVEN_UP: f64 = 24.0;
/// How many connections may be open in addition, of each server.
const MAX_EXTRA: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_wait_for_a_lost_standby_leave_no_connections() {
    let mut system = System::start(Database::Replicated).await;
    // All batchers have their connections then, and the probes of `/readyz` have run.
    let client = system.servers[0].plain_client(&system.home.api_key());
    let creates = (0..128).map(|_| {
        let client = client.clone();
        async move { client.create().await }
    });
    creates.collect::<JoinSet<_>>().join_all().await;
    system.load.wait_for_successes(20, WAIT_TIMEOUT).await;
    assert_eq!(readiness(&system.servers[0]).await.0, 200);
    let mut connection = system.connect().await;
    let mut before = 0;
    for _ in 0..20 {
        before = before.max(store::count_connections(&mut connection).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut most, started_at) = (0, Instant::now());
    let standby = system.standby.as_mut().unwrap();
    standby.kill();
    let lost_for = if is_long() { Duration::from_secs(300) } else { Duration::ZERO };
    wait_until_given_up(&system, lost_for, started_at, async || {
        let count = store::count_connections(&mut connection).await;
        most = most.max(count);
        assert!(count <= before + 2 * MAX_EXTRA, "{before} connections became {count}");
    })
    .await;
    println!("{before} connections, at most {most} without the standby");
    wait_until("a server that is not ready", async || {
        let (status, body) = readiness(&system.servers[0]).await;
        status == 503 && body["reason"].as_str().unwrap().contains("writes do not end")
    })
    .await;
    let doctor = system.home.run(&["doctor"]);
    assert!(doctor.stdout.contains("a write does not end"), "{doctor:#?}");
    // A repeated request is not acknowledged either, although the canceled commit is visible.
    let create = async || {
        let PlainClient { base, api_key, http } = &client;
        let url = format!("{base}/cgi/session/create?accessToken={api_key}");
        let body = json!({ "title": "safe", "creator": "a", "member": ["b", "c"] });
        let request = http.post(url).header("Idempotency-Key", "safe").body(body.to_string());
        request.send().await.unwrap().status().as_u16()
    };
    wait_until("a commit with an unknown outcome", async || create().await == 504).await;
    wait_until("the canceled commit", async || {
        store::count_idempotency_keys(&mut connection).await > 0
    })
    .await;
    for _ in 0..2 {
        let status = create().await;
        assert!([503, 504].contains(&status), "{status}");
    }
    let standby = system.standby.as_mut().unwrap();
    standby.start_again().await;
    wait_until("the stored outcome", async || create().await == 200).await;
    system.assert_recovers("the standby was lost").await;
    wait_until("readiness", async || readiness(&system.servers[0]).await.0 == 200).await;
    assert!(
        metric(&system, "muster_database_connections_given_up_total{result=\"ended\"}").await
            >= 1.0
    );
    system.check_promises().await;
}

/// Repeats `check` until many statements were given up, for `lost_for` at least.
async fn wait_until_given_up(
    system: &System,
    lost_for: Duration,
    started_at: Instant,
    mut check: impl AsyncFnMut(),
) {
    loop {
        check().await;
        let given_up = metric(system, "muster_statements_given_up_total").await;
        if given_up >= GIVEN_UP && started_at.elapsed() >= lost_for {
            println!("{given_up} statements given up in {:?}", started_at.elapsed());
            return;
        }
        assert!(started_at.elapsed() < lost_for + 3 * WAIT_TIMEOUT, "{given_up} given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn parameters_of_the_url_without_an_effect_are_refused() {
    let mut home = Home::new();
    for (url, part) in [
        ("postgres://u:secret@h/m?keepalives=1", "no parameter `keepalives`"),
        ("postgres://u:secret@h1,h2/m?target_session_attrs=standby", "any, read-write or primary"),
        ("postgres://u:secret@h1,h2/m?port=1,2,3", "one for each of the 2 hosts"),
    ] {
        home.set("MUSTER__DATABASE__URL", url);
        let refused = home.run(&["app", "list"]);
        refused.fails(2, &["database.url", part]);
        assert!(!refused.stderr.contains("secret"), "{refused:#?}");
    }
}
