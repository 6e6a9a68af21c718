//! Servers that stop under load. A request that is cut off was not done, and a server that gets its
//! socket from a service manager cuts off no request.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::process::Signal;

use super::system::{System, is_long};
use super::writers::Writers;
use crate::harness::process::{Home, Server, http, lasting_address, plain_http};
use crate::harness::store;
use crate::transport::CertificateFiles;

/// The number of stops of each server.
pub(super) fn rounds(long: usize) -> usize {
    if is_long() { long } else { 2 }
}

fn clients() -> usize {
    if is_long() { 32 } else { 8 }
}

/// The answers between two stops.
const ANSWERS: usize = 60;

/// Restarts a server on the address that it has.
fn restart(home: &Home, server: Server) -> Server {
    let address = server.address;
    let log = server.stop().stderr;
    assert!(!log.contains("panicked") && !log.contains("still running"), "{log}");
    home.serve_on(address)
}

/// Stops two servers in turn while clients write to both.
async fn restart_two_servers(home: &Home, scheme: &str, client: impl Fn() -> reqwest::Client) {
    let _exclusive = System::lock_fault_tests().await;
    let mut servers = [(); 2].map(|()| Some(home.serve_on(lasting_address())));
    let url = |server: &Option<Server>| format!("{scheme}://{}", server.as_ref().unwrap().address);
    let urls = servers.each_ref().map(url);
    let writers = Writers::start(clients(), &urls, &home.api_key(), client);
    for _ in 0..rounds(20) {
        for server in &mut servers {
            writers.wait_for_answers(ANSWERS).await;
            *server = server.take().map(|server| restart(home, server));
        }
    }
    writers.wait_for_answers(ANSWERS).await;
    let outcomes = writers.stop().await;
    println!(
        "{} done, {} cut off, {} not sent, {} refused",
        outcomes.done.len(),
        outcomes.cut_off.len(),
        outcomes.not_sent.len(),
        outcomes.not_done.len()
    );
    let mut connection = home.connect().await;
    outcomes.check(&mut connection).await;
    store::close(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_a_stop_cuts_off_is_not_done() {
    let home = Home::with_database();
    restart_two_servers(&home, "http", http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_of_http2_that_a_stop_cuts_off_is_not_done() {
    let home = Home::with_database();
    let client = || plain_http().http2_prior_knowledge().build().unwrap();
    restart_two_servers(&home, "http", client).await;
}

async fn restart_two_servers_with_tls(
    change: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) {
    let certificate = CertificateFiles::new();
    let files = certificate.files();
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__TLS_CERT", files.cert.to_str().unwrap());
    home.set("MUSTER__SERVER__TLS_KEY", files.key.to_str().unwrap());
    restart_two_servers(&home, "https", || change(certificate.client()).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_over_tls_that_a_stop_cuts_off_is_not_done() {
    restart_two_servers_with_tls(reqwest::ClientBuilder::http1_only).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_of_http2_over_tls_that_a_stop_cuts_off_is_not_done() {
    restart_two_servers_with_tls(|client| client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_with_a_passed_socket_fails_no_request() {
    let _exclusive = System::lock_fault_tests().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__BIND", &address.to_string());
    home.set("MUSTER__SERVER__DRAIN_TIMEOUT", "1s");
    let mut server = home.serve_with_socket(&socket);
    assert_eq!(server.address, address);
    let writers = Writers::start(clients(), &[server.url("")], &home.api_key(), http);
    for _ in 0..rounds(20) {
        writers.wait_for_answers(ANSWERS).await;
        let log = server.stop().stderr;
        assert!(!log.contains("service manager") && !log.contains("still running"), "{log}");
        server = home.serve_with_socket(&socket);
    }
    writers.wait_for_answers(ANSWERS).await;
    let outcomes = writers.stop().await;
    println!("{} done", outcomes.done.len());
    outcomes.assert_all_answered();
    let mut connection = home.connect().await;
    outcomes.check(&mut connection).await;
    store::close(connection).await.unwrap();
}

#[test]
fn passed_socket_is_used_and_must_be_a_tcp_socket() {
    let home = Home::with_database();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = home.serve_with_socket(&socket);
    assert_eq!(server.address, socket.local_addr().unwrap());
    let log = server.stop().stderr;
    assert!(log.contains("server.bind is 127.0.0.1:0, but the service manager passed"), "{log}");

    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let output = home.start_with_file(file).output();
    output.fails(2, &["LISTEN_FDS: socket 1 of the service manager is not a TCP socket"]);

    // The sockets of another process.
    let mut home = home;
    home.set("LISTEN_FDS", "1").set("LISTEN_PID", "1");
    home.serve().stop();
}

#[test]
fn second_signal_ends_the_drain() {
    let mut home = Home::with_database();
    home.set("MUSTER__SERVER__DRAIN_TIMEOUT", "1h");
    let server = home.serve();
    server.running.signal(Signal::TERM);
    server.running.until_stderr("the drain", |log| log.contains("draining").then_some(()));
    // Signals that arrive together count as one.
    crate::harness::process::wait_for("the end of the drain", || {
        server.running.signal(Signal::INT);
        server.running.stderr().contains("the drain ends early").then_some(())
    });
    let output = server.running.output();
    assert_eq!(output.status.code(), Some(0), "{output:#?}");
}
