//! Random kills of servers and PostgreSQL under load: nothing that was acknowledged is lost, every
//! start succeeds, every callback arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

use super::system::{System, is_long};
use crate::harness::process::{Home, children, is_running, wait_for};

/// The processes that are killed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// One of the two servers. One of them has started PostgreSQL, unless that server was killed.
    Server(usize),
    /// Both, so that PostgreSQL has no parent.
    Servers,
    /// All processes of PostgreSQL.
    Postgres,
    /// The first process of PostgreSQL. The others end when they detect this.
    Postmaster,
    /// PostgreSQL, and then a server that may have begun to start it again.
    PostgresThenServer(usize),
    /// PostgreSQL, and then both servers.
    Everything,
}

const VICTIMS: [Victim; 8] = [
    Victim::Server(0),
    Victim::Server(1),
    Victim::Servers,
    Victim::Postgres,
    Victim::Postmaster,
    Victim::PostgresThenServer(0),
    Victim::PostgresThenServer(1),
    Victim::Everything,
];

/// The number of kills.
fn kills() -> usize {
    if is_long() { 200 } else { 6 }
}

/// The seed of the kills. The output names it, so that a run can be repeated, apart from the timing of
/// the processes.
pub fn seed() -> u64 {
    let seed = std::env::var("MUSTER_TEST_SEED").ok();
    seed.map_or_else(rand::random, |seed| seed.parse().unwrap())
}

/// The first process of a PostgreSQL that runs. The file may name a process that has ended, whose
/// number belongs to another program by now.
pub(super) fn postmaster(home: &Home) -> Option<Pid> {
    let postmaster = home.postmaster().filter(|pid| is_running(*pid))?;
    let program = std::fs::read_link(format!("/proc/{}/exe", postmaster.as_raw_nonzero())).ok()?;
    program.ends_with("postgres").then_some(postmaster)
}

/// Kills PostgreSQL, unless it is not running at the moment.
pub(super) fn kill_postgres(home: &Home, with_children: bool) {
    let Some(postmaster) = postmaster(home) else { return };
    let children = if with_children { children(postmaster) } else { Vec::new() };
    for process in [vec![postmaster], children].concat() {
        let _ = kill_process(process, Signal::KILL);
    }
    wait_for("the end of PostgreSQL", || (!is_running(postmaster)).then_some(()));
}

fn pause(rng: &mut StdRng, max_millis: u64) {
    std::thread::sleep(Duration::from_millis(rng.random_range(0..=max_millis)));
}

/// Kills processes, and returns the servers that must be started again.
fn kill(system: &System, victim: Victim, rng: &mut StdRng) -> Vec<usize> {
    let servers = match victim {
        Victim::Server(server) | Victim::PostgresThenServer(server) => vec![server],
        Victim::Servers | Victim::Everything => vec![0, 1],
        Victim::Postgres | Victim::Postmaster => Vec::new(),
    };
    if !matches!(victim, Victim::Server(_) | Victim::Servers) {
        kill_postgres(&system.home, victim != Victim::Postmaster);
        // A server may start it again in this time.
        pause(rng, 30);
    }
    for server in &servers {
        system.kill_server(*server);
    }
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_survive_random_kills() {
    let seed = seed();
    println!("MUSTER_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut system = System::start_for_kills().await;
    let mut killed: BTreeMap<Victim, usize> = BTreeMap::new();
    let mut starts = 0;
    for _ in 0..kills() {
        let victim = *VICTIMS.choose(&mut rng).unwrap();
        *killed.entry(victim).or_default() += 1;
        let servers = kill(&system, victim, &mut rng);
        pause(&mut rng, 200);
        for server in servers {
            // Fails if the start is refused.
            system.restart_server(server);
            starts += 1;
        }
        // The next kill may come before the service has recovered.
        if rng.random_ratio(3, 4) {
            system.wait_for_successes(5).await;
        } else {
            pause(&mut rng, 300);
        }
    }
    system.wait_for_successes(5).await;
    println!("{} kills: {killed:?}; {starts} starts, none refused", kills());
    // No change is lost, refused and done, or done twice; no version is missing; every callback
    // arrives, in order.
    system.check_promises().await;
}
