//! The PostgreSQL of all tests of a run, and a database in it for each test.
//!
//! The server is that of `TEST_DATABASE_URL` if the variable is set; its user must be allowed to
//! create databases. Else it is a container if a Docker engine answers, else an embedded PostgreSQL
//! on a temporary directory. Each database is cloned from one that was migrated once.
//!
//! A test run has no hook at its end, so a sweeper cleans up: this program as another process,
//! which waits until its input is closed. Even SIGKILL closes it.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use muster::postgres::embedded::{self, EmbeddedPostgres, StartupTimeouts};
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

use super::pooler;
use super::store::{self, PgConnectOptions};

/// An empty database with all tables. Its drop drops the database.
pub struct Database {
    pub name: String,
    pub options: PgConnectOptions,
}

/// A new database for a test.
pub async fn database() -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || {
        let server = server();
        let name = format!("{}_{number}", server.template);
        server.block_on(store::copy_database(&server.options, &server.template, &name));
        Database { options: server.options.clone().database(&name), name }
    })
    .await
    .unwrap()
}

/// A new database without tables in another encoding.
pub async fn database_with_encoding(encoding: &str) -> Database {
    let encoding = encoding.to_owned();
    tokio::task::spawn_blocking(move || {
        let server = server();
        let name = format!("{}_{}", server.template, encoding.to_lowercase());
        let name = format!("{name}_{:08x}", rand::random::<u32>());
        server.block_on(store::create_encoded_database(&server.options, &name, &encoding));
        Database { options: server.options.clone().database(&name), name }
    })
    .await
    .unwrap()
}

/// A new database without tables, owned by a role without other rights.
pub async fn owned_database() -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || {
        const PASSWORD: &str = "own";
        let server = server();
        let name = format!("{}_own_{number}", server.template);
        server.block_on(store::create_owned_database(&server.options, &name, PASSWORD));
        let options = server.options.clone().username(&name).password(PASSWORD).database(&name);
        Database { options, name }
    })
    .await
    .unwrap()
}

impl Database {
    /// The options through PgBouncer, if the tests of this run go through one.
    pub fn pooled_options(&self) -> Option<PgConnectOptions> {
        // A role of one database is unknown to it.
        let is_own = self.options.get_username() == self.name;
        let pooler = pooler::of_run(&server().options).filter(|_| !is_own)?;
        Some(pooler.options(&self.options, &self.name))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        let owned = self.options.get_username() == name;
        let server = server();
        server.runtime.spawn(async move {
            store::drop_database_by_name(&server.options, &name).await;
            if owned {
                store::drop_role(&server.options, &name).await;
            }
        });
    }
}

struct Server {
    /// A separate runtime, because the runtime of a test ends with the test.
    runtime: tokio::runtime::Runtime,
    /// Options of the maintenance database.
    options: PgConnectOptions,
    template: String,
    _resources: Resources,
}

/// Resources that must live as long as the run, each with its sweeper.
#[expect(dead_code, reason = "held, not used")]
enum Resources {
    External(Child),
    Container(Box<ContainerAsync<GenericImage>>, Child),
    Embedded(Box<EmbeddedPostgres>, Child),
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let template = format!("muster_test_{:08x}", rand::random::<u32>());
        let (options, resources) = runtime.block_on(start(&template));
        let options = store::without_statement_log(options);
        let server = Server { runtime, options, template, _resources: resources };
        server.block_on(store::create_template(&server.options, &server.template));
        server
    })
}

impl Server {
    fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        self.runtime.block_on(future)
    }
}

async fn start(template: &str) -> (PgConnectOptions, Resources) {
    if let Ok(url) = std::env::var(DATABASE_URL) {
        let sweeper = sweeper("databases", template);
        return (PgConnectOptions::from_str(&url).unwrap(), Resources::External(sweeper));
    }
    if docker_answers().await { container().await } else { embedded().await }
}

async fn docker_answers() -> bool {
    let Ok(docker) = Docker::connect_with_defaults() else { return false };
    let ping = tokio::time::timeout(Duration::from_secs(2), docker.ping());
    matches!(ping.await, Ok(Ok(_)))
}

async fn container() -> (PgConnectOptions, Resources) {
    const PASSWORD: &str = "test";
    let container = GenericImage::new("postgres", "15")
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::seconds(0))
        .with_env_var("POSTGRES_PASSWORD", PASSWORD)
        .with_cmd(["-c", "fsync=off", "-c", "max_connections=300"])
        .start()
        .await
        .unwrap();
    let sweeper = sweeper("container", container.id());
    let port = container.get_host_port_ipv4(5432).await.unwrap();
    let host = container.get_host().await.unwrap().to_string();
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(port)
        .username("postgres")
        .password(PASSWORD)
        .database("postgres");
    // The image starts a server that only prepares the database, stops it, and starts the final
    // one. Only the final one listens on TCP.
    let ready = async {
        while store::try_connect(&options).await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ready).await.expect("the container's database");
    (options, Resources::Container(Box::new(container), sweeper))
}

async fn embedded() -> (PgConnectOptions, Resources) {
    let data_dir = tempfile::Builder::new().prefix("muster-test-").tempdir().unwrap().keep();
    let options = embedded::Options {
        data_dir: data_dir.clone(),
        postgres_dir: None,
        download: true,
        max_connections: 300,
        timeouts: StartupTimeouts::SERVER,
    };
    let postgres = EmbeddedPostgres::start(&options).await.unwrap();
    let sweeper = sweeper("embedded", data_dir.to_str().unwrap());
    // The role of the service cannot create databases, and PostgreSQL admits no role of a test.
    let options = postgres.connect_options().username("postgres");
    std::fs::write(
        data_dir.join("postgres/pg_hba.conf"),
        "local all all trust
",
    )
    .unwrap();
    store::reload_server_settings(&options).await;
    (options, Resources::Embedded(Box::new(postgres), sweeper))
}

const DATABASE_URL: &str = "TEST_DATABASE_URL";
const SWEEP: &str = "MUSTER_TEST_SWEEP";

/// Starts the process that cleans up after this one.
pub fn sweeper(kind: &str, target: &str) -> Child {
    use std::os::unix::process::CommandExt as _;
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::server::sweep", "--ignored"])
        .env(SWEEP, format!("{kind}={target}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C is for the tests. The sweeper stays until they have ended.
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Not a test: the process that [`sweeper`] starts.
#[tokio::test]
#[ignore = "cleans up after the other tests, which start it"]
async fn sweep() {
    let Ok(task) = std::env::var(SWEEP) else { return };
    // Reads until the run that holds the other end has ended.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    match task.split_once('=') {
        Some(("container", id)) => {
            let docker = Docker::connect_with_defaults().unwrap();
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            docker.remove_container(id, Some(options)).await.unwrap();
        }
        Some(("embedded", data_dir)) => {
            let options = embedded::Options {
                data_dir: data_dir.into(),
                postgres_dir: None,
                download: false,
                max_connections: 1,
                timeouts: StartupTimeouts::SERVER,
            };
            // The last user of an embedded PostgreSQL stops it.
            EmbeddedPostgres::start(&options).await.unwrap().stop().await.unwrap();
            std::fs::remove_dir_all(data_dir).unwrap();
        }
        Some(("cluster", dir)) => super::cluster::sweep(std::path::Path::new(dir)),
        Some(("pooler", dir)) => super::pooler::sweep(std::path::Path::new(dir)),
        Some(("homes", root)) => super::process::sweep(std::path::Path::new(root)),
        Some(("databases", template)) => {
            let url = std::env::var(DATABASE_URL).unwrap();
            let options = PgConnectOptions::from_str(&url).unwrap();
            store::drop_all_databases(&options, template).await;
        }
        _ => panic!("{SWEEP}={task}"),
    }
}
