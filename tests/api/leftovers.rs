//! Processes that a killed PostgreSQL has left behind: the next start ends them, and no others.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::process::{Home, Running, children, is_running, wait_for};
use crate::harness::store;

/// The first words of the log line about a process that is ended.
const ENDED: &str = "ending a process of a killed PostgreSQL";

/// A process that ends with the test.
struct Process(Pid);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// The title of a process.
fn title(pid: Pid) -> String {
    let title = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&title).replace('\0', " ")
}

/// The process of the PostgreSQL of `home` whose title begins like this.
fn find(home: &Home, beginning: &str) -> Pid {
    let postmaster = home.postmaster().unwrap();
    wait_for(beginning, || {
        children(postmaster).into_iter().find(|pid| title(*pid).starts_with(beginning))
    })
}

/// Suspends the process of the PostgreSQL of `home` whose title begins like this.
fn suspend(home: &Home, beginning: &str) -> Process {
    let process = Process(find(home, beginning));
    kill_process(process.0, Signal::STOP).unwrap();
    process
}

/// Whether the log says that a process was ended by this signal.
fn is_logged(log: &str, process: &Process, signal: &str) -> bool {
    let pid = format!("pid={} ", process.0.as_raw_nonzero());
    log.lines().any(|line| [ENDED, &pid, signal].iter().all(|part| line.contains(part)))
}

/// A program that looks like a process of PostgreSQL, but is not attached to its memory.
fn imitation(home: &Home) -> Child {
    let program = home.parent.join("postgres");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut command = Command::new(program);
    command.arg0("postgres: checkpointer").arg("600").current_dir(home.postgres());
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn start_ends_the_processes_of_a_killed_postgresql_and_no_others() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let [home, other] = [Home::with_database(), Home::with_database()];
    home.serve().kill();
    other.serve().kill();
    // One process does not run, one computes, and neither detects the end of its postmaster.
    let stopped = suspend(&home, "postgres: checkpointer");
    let mut connection = home.connect_as("postgres").await;
    let computing = Process(store::process_id(&mut connection).await);
    let computation = tokio::spawn(async move { store::compute_long(&mut connection).await });
    wait_for("the computation", || title(computing.0).contains("SELECT").then_some(()));
    // These keep no PostgreSQL of the home from starting.
    let logger = suspend(&home, "postgres: logger");
    let others = suspend(&other, "postgres: checkpointer");
    let mut imitation = imitation(&home);
    home.kill_postmaster();
    other.kill_postmaster();
    assert!(is_running(computing.0) && is_running(stopped.0));

    let server = home.serve();
    let log = server.running.stderr();
    for process in [&stopped, &computing] {
        assert!(!is_running(process.0), "{log}");
        assert!(is_logged(&log, process, "SIGQUIT"), "{log}");
    }
    assert!(is_logged(&log, &stopped, "SIGKILL"), "{log}");
    // The first attempt to start PostgreSQL came afterwards.
    assert!(!log.contains("still uses the data"), "{log}");
    for process in [&logger, &others] {
        assert!(is_running(process.0) && !is_logged(&log, process, ""), "{log}");
    }
    assert!(imitation.try_wait().unwrap().is_none(), "{log}");
    server.plain_client(&home.api_key()).create().await;
    computation.await.unwrap();
    server.stop();
    imitation.kill().unwrap();
    imitation.wait().unwrap();
}

#[test]
fn processes_of_a_running_postgresql_that_does_not_listen_are_left_alone() {
    let home = Home::with_database();
    home.serve().kill();
    let postmaster = home.postmaster().unwrap();
    let processes = ["checkpointer", "background writer", "walwriter", "logger"]
        .map(|role| find(&home, &format!("postgres: {role}")));
    let [socket, hidden] = [".s.PGSQL.5432", "hidden"].map(|name| home.postgres().join(name));
    fs::rename(&socket, &hidden).unwrap();
    let starting = Running::start(&home, &[]);
    // The search for leftovers comes before the attempt to start PostgreSQL.
    starting.until_stderr("an attempt", |log| log.contains("still uses the data").then_some(()));
    fs::rename(&hidden, &socket).unwrap();
    starting.until_stdout("the address", |text| text.contains("listens on").then_some(()));
    let log = starting.stderr();
    assert!(!log.contains(ENDED), "{log}");
    assert_eq!(home.postmaster(), Some(postmaster));
    let now = children(postmaster);
    assert!(processes.iter().all(|process| now.contains(process)), "{now:?}");
    starting.signal(Signal::TERM);
    starting.output();
    assert!(home.postmaster().is_none());
}
