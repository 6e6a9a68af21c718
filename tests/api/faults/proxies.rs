//! Proxies in front of two servers that restart, with the configurations of the manual.
//!
//! The tests need the programs of the proxies, so `cargo test` ignores them. `.ci/proxies` installs the
//! programs and runs the tests.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use reqwest::{Client, RequestBuilder};
use serde_json::json;

use super::restarts::rounds;
use super::system::{System, is_long};
use super::writers::Writers;
use crate::feed::streams::{EVENTS, EventReader};
use crate::harness::process::{Home, Server, http, lasting_address, wait_for};
use crate::harness::store;

const PAGE: &str = "docs/operate/load-balancers.md";
const CLIENTS: usize = 16;

/// The answers between two stops: 50,000 requests in 40 stops of the long form.
fn answers() -> usize {
    if is_long() { 1_300 } else { 100 }
}

/// The block of the page that follows this mark.
pub fn printed_block(mark: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- {mark} -->\n```")).expect(mark);
    let (_, block) = rest.split_once('\n').unwrap();
    block.split_once("\n```").unwrap().0.to_owned() + "\n"
}

/// The printed configuration, with the addresses of this machine.
fn configuration(mark: &str, listen: SocketAddr, servers: &[SocketAddr; 2]) -> String {
    let mut text = printed_block(mark);
    let [a, b] = servers.map(|address| address.to_string());
    let port = listen.port().to_string();
    for (printed, actual) in [("8080", &port), ("10.0.0.1:7080", &a), ("10.0.0.2:7080", &b)] {
        assert!(text.contains(printed), "no {printed} in {text}");
        text = text.replace(printed, actual);
    }
    text
}

/// A running proxy. Its drop stops it.
struct Proxy(Child);

impl Proxy {
    /// Starts the program, and waits until it listens.
    fn start(command: &mut Command, listen: SocketAddr) -> Self {
        let started = command.stdin(Stdio::null()).spawn();
        let proxy = Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        wait_for("the proxy", || TcpStream::connect(listen).ok());
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn haproxy(home: &Path, listen: SocketAddr, servers: &[SocketAddr; 2]) -> Proxy {
    let file = home.join("haproxy.cfg");
    std::fs::write(&file, configuration("tested: haproxy", listen, servers)).unwrap();
    Proxy::start(Command::new("haproxy").arg("-db").arg("-f").arg(file), listen)
}

fn nginx(home: &Path, listen: SocketAddr, servers: &[SocketAddr; 2]) -> Proxy {
    let file = home.join("nginx.conf");
    let printed = configuration("tested: nginx", listen, servers);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", home.join(name).display()));
    let text = format!(
        "daemon off;\nuser root;\npid {};\nerror_log stderr warn;\nevents {{}}\n\
         http {{\naccess_log off;\n{}{printed}}}\n",
        home.join("nginx.pid").display(),
        temporary.concat()
    );
    std::fs::write(&file, text).unwrap();
    Proxy::start(Command::new("nginx").arg("-e").arg("stderr").arg("-c").arg(file), listen)
}

/// Restarts two servers in turn while clients write through a proxy.
async fn restart_behind(start: impl FnOnce(&Path, SocketAddr, &[SocketAddr; 2]) -> Proxy) {
    let _exclusive = System::lock_fault_tests().await;
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__DRAIN_TIMEOUT", if is_long() { "5s" } else { "3s" });
    let mut servers = [(); 2].map(|()| home.serve_on(lasting_address()));
    let listen = lasting_address();
    let _proxy = start(&home.parent, listen, &servers.each_ref().map(|server| server.address));
    let writers = Writers::start(CLIENTS, &[format!("http://{listen}")], &home.api_key(), http);
    for _ in 0..rounds(20) {
        for index in [0, 1] {
            writers.wait_for_answers(answers()).await;
            let address = servers[index].address;
            let [stopped, kept] = split(servers, index);
            let log = stopped.stop().stderr;
            assert!(!log.contains("still running"), "{log}");
            let started = home.serve_on(address);
            wait_until_used(&started);
            servers = if index == 0 { [started, kept] } else { [kept, started] };
        }
    }
    writers.wait_for_answers(answers()).await;
    let requests = writers.requests();
    let outcomes = writers.stop().await;
    println!("{requests} requests, {} done", outcomes.done.len());
    assert!(!is_long() || requests >= 50_000, "{requests}");
    outcomes.assert_all_answered();
    let mut connection = home.connect().await;
    outcomes.check(&mut connection).await;
    store::close(connection).await.unwrap();
}

/// The server of this index, and the other one.
fn split(servers: [Server; 2], index: usize) -> [Server; 2] {
    let [a, b] = servers;
    if index == 0 { [a, b] } else { [b, a] }
}

/// Waits until the proxy sends requests to a server.
fn wait_until_used(server: &Server) {
    server
        .running
        .until_stderr("a request of the proxy", |log| log.contains("/cgi/session/").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy: run .ci/proxies"]
async fn restarts_behind_haproxy_fail_no_request() {
    restart_behind(haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: run .ci/proxies"]
async fn restarts_behind_nginx_fail_no_request() {
    restart_behind(nginx).await;
}

/// Reads a stream through a proxy while the servers behind it stop one after the other.
async fn stream_through(start: impl FnOnce(&Path, SocketAddr, &[SocketAddr; 2]) -> Proxy) {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__DRAIN_TIMEOUT", "3s");
    let mut servers = [(); 2].map(|()| home.serve_on(lasting_address()));
    let listen = lasting_address();
    let _proxy = start(&home.parent, listen, &servers.each_ref().map(|server| server.address));
    let (base, key) = (format!("http://{listen}"), home.api_key());
    // The client of the harness has a time limit for the whole response.
    let _ = http();
    let client = Client::builder().no_proxy().build().unwrap();
    let authorized = |request: RequestBuilder| request.bearer_auth(&key);
    let create = async || {
        let body = json!({ "operator": "a", "title": "t", "member": ["a", "b", "c"] });
        let request = client.post(format!("{base}/v1/sessions")).json(&body);
        assert_eq!(authorized(request).send().await.unwrap().status(), 201);
    };
    let stream = |id: &str| {
        let request = authorized(client.get(format!("{base}{EVENTS}?after=0")));
        request.header("last-event-id", id)
    };
    let mut reader = EventReader::from_request(stream("")).await;
    let mut seq = 0;
    let mut last_id = reader.bookmark().await.id;
    for index in [0, 1] {
        // A change comes at once, although the response goes on.
        create().await;
        seq += 1;
        let change = reader.change().await;
        assert_eq!(change.seq(), seq);
        // The proxy leaves a quiet stream open, and passes its bookmarks on.
        for _ in 0..3 {
            last_id = reader.bookmark().await.id;
        }
        let address = servers[index].address;
        let [stopped, kept] = split(servers, index);
        // The stream ends in order if it was served by this server.
        stopped.stop();
        let started = home.serve_on(address);
        servers = if index == 0 { [started, kept] } else { [kept, started] };
        create().await;
        seq += 1;
        loop {
            match reader.next().await {
                Some(event) if event.name == "change" => {
                    assert_eq!(event.seq(), seq);
                    last_id = event.id;
                    break;
                }
                Some(event) => last_id = event.id,
                None => reader = EventReader::from_request(stream(&last_id)).await,
            }
        }
    }
    drop(reader);
    let mut all = EventReader::from_request(stream("")).await;
    for expected in 1..=seq {
        assert_eq!(all.change().await.seq(), expected);
    }
    assert_ne!(last_id, "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy: run .ci/proxies"]
async fn streams_pass_haproxy_at_once() {
    stream_through(haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: run .ci/proxies"]
async fn streams_pass_nginx_at_once() {
    stream_through(nginx).await;
}
