//! The embedded PostgreSQL with real programs and processes, and a new data directory for each
//! test.
//!
//! As root, the directories are below one that only root can enter, and PostgreSQL runs as another
//! user. As an ordinary user, the same tests run without that user change.

use std::error::Error;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster::postgres::embedded::{
    self, EmbeddedError, EmbeddedPostgres, Installation, Options, PostgresVersion, StartupTimeouts,
    StopOutcome,
};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

/// A data directory. Its processes end when it is dropped, so a failed test leaves no process.
struct Home {
    _parent: TempDir,
    data_dir: PathBuf,
}

impl Home {
    fn new() -> Self {
        Self::named("data")
    }

    fn named(name: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join(name);
        Self { _parent: parent, data_dir }
    }

    fn options(&self) -> Options {
        Options {
            data_dir: self.data_dir.clone(),
            postgres_dir: None,
            download: false,
            max_connections: 10,
            timeouts: StartupTimeouts::COMMAND,
        }
    }

    async fn start(&self) -> EmbeddedPostgres {
        EmbeddedPostgres::start(&self.options()).await.unwrap()
    }

    async fn refusal(&self) -> EmbeddedError {
        EmbeddedPostgres::start(&self.options()).await.unwrap_err()
    }

    fn data(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    fn postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    fn runs(&self) -> bool {
        self.postmaster().is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// Makes `postgres/` look like a data directory of this version.
    fn pretend(&self, version: &str) {
        fs::create_dir_all(self.data()).unwrap();
        fs::set_permissions(self.data(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(self.data().join("PG_VERSION"), version).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(self.data(), Some(65534), Some(65534)).unwrap();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(pid) = self.postmaster().filter(|_| std::thread::panicking()) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

async fn connect(postgres: &EmbeddedPostgres) -> PgConnection {
    postgres.connect_options().connect().await.unwrap()
}

async fn run(postgres: &EmbeddedPostgres, sql: &'static str) {
    let mut connection = connect(postgres).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn count_notes(postgres: &EmbeddedPostgres) -> i64 {
    let mut connection = connect(postgres).await;
    let count =
        sqlx::query_scalar("select count(*) from note").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

/// The value of a setting of the database.
async fn setting(postgres: &EmbeddedPostgres, name: &str) -> String {
    let mut connection = connect(postgres).await;
    sqlx::query_scalar("select current_setting($1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

fn error_chain(error: &EmbeddedError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn data_survive_a_restart() {
    let home = Home::new();
    assert!(!embedded::is_initialized(&home.data_dir).unwrap());

    let started_at = Instant::now();
    let postgres = home.start().await;
    println!("first start: {:?}", started_at.elapsed());
    assert!(!postgres.is_shared());
    assert!(embedded::is_initialized(&home.data_dir).unwrap());
    assert_eq!(postgres.version(), Installation::find(&home.options()).await.unwrap().version);
    run(&postgres, "create table note (); insert into note default values").await;
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
    assert!(home.postmaster().is_none(), "a clean end removes postmaster.pid");

    let started_at = Instant::now();
    let postgres = home.start().await;
    println!("second start: {:?}", started_at.elapsed());
    assert_eq!(count_notes(&postgres).await, 1);
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_buffers_follow_the_machine() {
    let home = Home::new();
    let postgres = home.start().await;
    let setting = setting(&postgres, "shared_buffers").await;
    let mib: i64 = match setting.strip_suffix("GB") {
        Some(gib) => gib.parse::<i64>().unwrap() * 1024,
        None => setting.strip_suffix("MB").unwrap().parse().unwrap(),
    };
    // The memory of the container, if the test runs in one.
    let limit = ["memory.max", "memory/memory.limit_in_bytes"].into_iter().find_map(|file| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?;
        text.trim().parse::<i64>().ok()
    });
    let limit = limit.map_or(i64::MAX, |bytes| bytes / 1024);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total: i64 = total.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
    assert_eq!(mib, (total.min(limit) / 1024 / 8).clamp(128, 1024));
}

#[tokio::test]
async fn database_is_durable_and_private() {
    let home = Home::new();
    let postgres = home.start().await;
    for (name, expected) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("max_connections", "200"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(setting(&postgres, name).await, expected, "{name}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&home.data_dir), 0o700);
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(fs::metadata(&home.data_dir).unwrap().uid(), geteuid().as_raw());
    let owner = fs::metadata(home.data()).unwrap().uid();
    assert_ne!(owner, 0, "PostgreSQL does not run as root");
    if let Ok(status) =
        fs::read_to_string(format!("/proc/{}/status", home.postmaster().unwrap().as_raw_nonzero()))
    {
        let field = |name| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
        };
        assert!(field("Uid:").starts_with(&owner.to_string()), "{status}");
        if geteuid().is_root() {
            assert_eq!(field("Groups:"), "", "the groups of root are dropped");
        }
    }
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
}

#[tokio::test]
async fn last_server_stops_postgresql() {
    let home = Home::new();
    let first = home.start().await;
    let started_at = Instant::now();
    let second = home.start().await;
    println!("join: {:?}", started_at.elapsed());
    assert!(second.is_shared());
    assert_eq!(second.version(), first.version());
    run(&second, "create table note ()").await;

    assert_eq!(first.stop().await.unwrap(), StopOutcome::StillInUse);
    assert_eq!(count_notes(&second).await, 0);
    assert_eq!(second.stop().await.unwrap(), StopOutcome::Stopped);
    assert!(!home.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_starts_and_stops_are_safe() {
    let home = Home::new();
    home.start().await.stop().await.unwrap();
    let visits = (0..6).map(|visit| {
        let options = home.options();
        tokio::spawn(async move {
            for _ in 0..3 {
                let postgres = EmbeddedPostgres::start(&options).await.unwrap();
                run(&postgres, "select 1").await;
                tokio::time::sleep(Duration::from_millis(visit * 7)).await;
                postgres.stop().await.unwrap();
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    assert!(home.postmaster().is_none(), "the last user stops it");
}

#[tokio::test]
async fn orphaned_server_is_joined() {
    let home = Home::new();
    let postgres = home.start().await;
    run(&postgres, "create table note ()").await;
    // As after a kill: the locks are released and PostgreSQL still runs.
    drop(postgres);
    assert!(home.runs());

    let postgres = home.start().await;
    assert!(postgres.is_shared());
    assert_eq!(count_notes(&postgres).await, 0);
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
    assert!(!home.runs());
}

#[tokio::test]
async fn orphaned_server_with_too_few_connections_is_restarted() {
    let home = Home::new();
    drop(home.start().await);
    let orphan = home.postmaster();
    let more = Options { max_connections: 60, ..home.options() };
    let first = EmbeddedPostgres::start(&more).await.unwrap();
    assert!(!first.is_shared());
    assert_ne!(home.postmaster(), orphan);
    assert_eq!(setting(&first, "max_connections").await, "400");

    // PostgreSQL is not restarted while another user holds it. The new user joins it.
    let options = Options { max_connections: 100, ..home.options() };
    let second = EmbeddedPostgres::start(&options).await.unwrap();
    assert!(second.is_shared());
    assert_eq!(setting(&second, "max_connections").await, "400");
    assert_eq!(second.stop().await.unwrap(), StopOutcome::StillInUse);
    let fewer = EmbeddedPostgres::start(&home.options()).await.unwrap();
    assert!(fewer.is_shared());
    assert_eq!(first.stop().await.unwrap(), StopOutcome::StillInUse);
    assert_eq!(fewer.stop().await.unwrap(), StopOutcome::Stopped);

    // The user that restarted PostgreSQL holds it too.
    drop(home.start().await);
    let restarted = EmbeddedPostgres::start(&more).await.unwrap();
    let other = home.start().await;
    assert_eq!(other.stop().await.unwrap(), StopOutcome::StillInUse);
    assert_eq!(restarted.stop().await.unwrap(), StopOutcome::Stopped);
}

#[tokio::test]
async fn killed_server_recovers() {
    let home = Home::new();
    let postgres = home.start().await;
    run(&postgres, "create table note (); insert into note default values").await;
    kill_process(home.postmaster().unwrap(), Signal::KILL).unwrap();

    // The first user still holds the database, which must not prevent the new start.
    let again = home.start().await;
    assert!(!again.is_shared());
    assert_eq!(count_notes(&again).await, 1);
    assert_eq!(count_notes(&postgres).await, 1, "its pool would have reconnected");
    assert_eq!(again.stop().await.unwrap(), StopOutcome::StillInUse);
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
    assert!(!home.runs());
}

#[tokio::test]
async fn reused_process_id_does_not_matter() {
    let home = Home::new();
    home.start().await.stop().await.unwrap();
    // PostgreSQL refuses to start if a process of its own user has the id.
    let owner = fs::metadata(home.data()).unwrap();
    let mut command = std::process::Command::new("sleep");
    if geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, owner.uid());
    }
    let mut other = command.arg("600").spawn().unwrap();
    let lock = format!("{}\n{}\n1700000000\n5432\n.\n\n", other.id(), home.data().display());
    for name in ["postmaster.pid", ".s.PGSQL.5432.lock"] {
        let file = home.data().join(name);
        fs::write(&file, &lock).unwrap();
        std::os::unix::fs::chown(file, Some(owner.uid()), None).unwrap();
    }

    let postgres = home.start().await;
    assert!(!postgres.is_shared());
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
    assert!(other.try_wait().unwrap().is_none(), "the other program was not hurt");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn interrupted_first_start_leaves_no_partial_database() {
    let home = Home::new();
    let left = home.data_dir.join("postgres.new-00c0ffee");
    fs::create_dir_all(left.join("base")).unwrap();
    fs::write(left.join("PG_VERSION"), "15\n").unwrap();
    fs::create_dir(home.data()).unwrap();

    let postgres = home.start().await;
    assert!(!left.exists());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn long_data_directory_path_is_served() {
    let home = Home::named(&["a-rather-long-name"; 12].join("/"));
    assert!(home.data_dir.as_os_str().len() > 107);
    let postgres = home.start().await;
    run(&postgres, "create table note ()").await;
    let second = home.start().await;
    assert!(second.is_shared());
    assert_eq!(count_notes(&second).await, 0);
    second.stop().await.unwrap();
    assert_eq!(postgres.stop().await.unwrap(), StopOutcome::Stopped);
}

#[tokio::test]
async fn parallel_query_works() {
    let home = Home::new();
    let postgres = home.start().await;
    let mut connection = connect(&postgres).await;
    sqlx::raw_sql(
        "create table note as select generate_series(1, 200000) as id;
         set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let plan: Vec<String> = sqlx::query_scalar("explain analyze select count(*) from note")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(plan.iter().any(|line| line.contains("Workers Launched: 2")), "{plan:#?}");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_major_version_are_refused() {
    let home = Home::new();
    home.pretend("99\n");
    let error = home.refusal().await;
    assert!(matches!(&error, EmbeddedError::OtherMajor { major: 99, .. }), "{error:?}");
    let PostgresVersion { major, .. } =
        Installation::find(&Home::new().options()).await.unwrap().version;
    for part in [
        "PostgreSQL 99",
        &format!("found only {major}."),
        "database.postgres_dir",
        &home.data().to_string_lossy(),
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }

    let home = Home::new();
    home.pretend("9.6\n");
    assert!(matches!(home.refusal().await, EmbeddedError::NotACluster { .. }));
    home.pretend("13\n");
    assert!(matches!(home.refusal().await, EmbeddedError::DataTooOld { major: 13, .. }));
}

#[tokio::test]
async fn directory_with_other_files_is_refused() {
    let home = Home::new();
    home.pretend("");
    fs::rename(home.data().join("PG_VERSION"), home.data().join("thesis.txt")).unwrap();
    let error = home.refusal().await;
    assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error:?}");
    assert!(home.data().join("thesis.txt").exists());
}

#[tokio::test]
async fn foreign_data_directory_is_refused() {
    let home = Home::new();
    home.pretend("15\n");
    let error = if geteuid().is_root() {
        // As root, the wrong owner is root.
        std::os::unix::fs::chown(home.data(), Some(0), Some(0)).unwrap();
        home.refusal().await
    } else {
        // A directory of root that exists on every system.
        let options = Options { data_dir: "/usr".into(), ..home.options() };
        EmbeddedPostgres::start(&options).await.unwrap_err()
    };
    let text = error.to_string();
    assert!(text.contains("chown -R"), "{text}");
    if geteuid().is_root() {
        assert!(matches!(error, EmbeddedError::RootOwned { .. }), "{error:?}");
    } else {
        assert!(matches!(error, EmbeddedError::Foreign { owner: 0, .. }), "{error:?}");
        assert!(text.contains(&format!("uid {}", geteuid().as_raw())), "{text}");
    }
}

#[tokio::test]
async fn root_does_not_use_a_users_data_directory() {
    if !geteuid().is_root() {
        return;
    }
    let home = Home::new();
    fs::create_dir(&home.data_dir).unwrap();
    std::os::unix::fs::chown(&home.data_dir, Some(65534), Some(65534)).unwrap();
    let refused = async || {
        let error = home.refusal().await;
        assert!(matches!(error, EmbeddedError::NotRoots { owner: 65534, .. }), "{error:?}");
        for part in ["uid 65534", "run Muster as", "chown 0", "data_dir"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    };
    refused().await;
    assert_eq!(fs::read_dir(&home.data_dir).unwrap().count(), 0, "the data directory is unchanged");
    // A directory in use is refused too. Its PostgreSQL runs as the owner.
    home.pretend("15\n");
    refused().await;

    // The remedy in the message works.
    fs::remove_dir_all(home.data()).unwrap();
    std::os::unix::fs::chown(&home.data_dir, Some(0), None).unwrap();
    home.start().await.stop().await.unwrap();
    home.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn directory_without_programs_is_refused() {
    let home = Home::new();
    let empty = tempfile::tempdir().unwrap();
    let options = Options { postgres_dir: Some(empty.path().to_owned()), ..home.options() };
    let error = EmbeddedPostgres::start(&options).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::ConfiguredPrograms { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("database.postgres_dir") && text.contains(&*empty.path().to_string_lossy()),
        "{text}"
    );

    let programs = Installation::find(&home.options()).await.unwrap();
    let options = Options { postgres_dir: Some(programs.dir.clone()), ..home.options() };
    assert_eq!(Installation::find(&options).await.unwrap(), programs);
}

#[tokio::test]
async fn failed_start_shows_the_postgresql_log() {
    let home = Home::new();
    home.start().await.stop().await.unwrap();
    let mut settings = fs::read_to_string(home.data().join("postgresql.conf")).unwrap();
    settings.push_str("work_mem = plenty\n");
    fs::write(home.data().join("postgresql.conf"), settings).unwrap();
    let error = home.refusal().await;
    assert!(matches!(error, EmbeddedError::Died { .. }), "{error:?}");
    assert!(error_chain(&error).contains("work_mem"), "{}", error_chain(&error));
}
