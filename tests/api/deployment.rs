//! The files of containers and services, read as text: they match the program and restrict it.
//! `.ci/compose` tests that they run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster::cli::STOP_ALLOWANCE;
use muster::config::{ServerConfig, Settings};
use serde_json::Value;

use crate::faults::proxies::printed_block;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn defaults() -> Settings {
    Settings::load(None, std::iter::empty()).unwrap()
}

fn port(bind: &str) -> &str {
    bind.rsplit_once(':').unwrap().1
}

/// The instructions of the Dockerfile, one on each line, without comments.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap();
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

/// The argument of an instruction in the last stage, which is the image's.
fn last(word: &str) -> String {
    let found = instructions().into_iter().rfind(|(found, _)| found == word);
    found.unwrap_or_else(|| panic!("no {word}")).1
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

/// The services of the compose file by name, with shared settings merged.
fn services() -> Vec<(String, Value)> {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn service(name: &str) -> Value {
    compose()["services"][name].clone()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

/// All `NAME=VALUE` of Muster in a text, without comments.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(str::split_whitespace).filter_map(|word| {
        let word = word.strip_prefix("Environment=").unwrap_or(word);
        word.starts_with("MUSTER__").then_some(word)?.split_once('=')
    });
    words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The settings that these variables make. The file of the URL is replaced by one that exists.
fn settings(mut variables: Vec<(String, String)>) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "postgres://db/muster\n").unwrap();
    for (name, value) in &mut variables {
        if name == "MUSTER__DATABASE__URL_FILE" {
            file.path().to_str().unwrap().clone_into(value);
        }
    }
    Settings::load(None, variables.into_iter()).unwrap_or_else(|error| panic!("{error}"))
}

fn image_variables() -> Vec<(String, String)> {
    variables(&last("ENV"))
}

#[test]
fn image_uses_existing_configuration_keys() {
    let error = Settings::load(None, image_variables().into_iter()).unwrap_err().to_string();
    assert!(error.contains("MUSTER__DATABASE__URL_FILE"), "{error}");
    assert_eq!(error.lines().count(), 2, "nothing else is missing: {error}");

    let url = ("MUSTER__DATABASE__URL_FILE".to_owned(), String::new());
    let settings = settings([image_variables(), vec![url]].concat());
    let ServerConfig { bind, .. } = defaults().server;
    let metrics = defaults().metrics.bind.unwrap();
    assert_eq!(settings.server.bind, format!("0.0.0.0:{}", port(&bind)));
    assert_eq!(settings.metrics.bind, Some(format!("0.0.0.0:{}", port(&metrics))));
    assert_eq!(last("EXPOSE"), format!("{} {}", port(&bind), port(&metrics)));
    assert_eq!(last("WORKDIR"), settings.data_dir.to_str().unwrap());
}

#[test]
fn image_is_unprivileged_and_has_a_health_check() {
    let user = last("USER");
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() >= 1_000 && uid == gid, "{user}");
    assert!(last("RUN").contains(&format!("--uid {uid} ")));
    assert!(last("HEALTHCHECK").ends_with(r#"CMD ["muster", "health"]"#));
    assert_eq!(last("STOPSIGNAL"), "SIGTERM");
    assert_eq!((last("ENTRYPOINT"), last("CMD")), (r#"["muster"]"#.into(), r#"["serve"]"#.into()));
}

#[test]
fn images_are_pinned() {
    let version = env!("CARGO_PKG_VERSION");
    let instructions = instructions();
    let argument = |name: &str| {
        let found = instructions.iter().filter(|(word, _)| word == "ARG");
        let value = found.filter_map(|(_, text)| text.split_once('=')).find(|one| one.0 == name);
        value.unwrap_or_else(|| panic!("no ARG {name}")).1.to_owned()
    };
    assert_eq!(argument("VERSION"), version);
    let rust = format!("rust:{}-slim-bookworm", env!("CARGO_PKG_RUST_VERSION"));
    assert_eq!(argument("RUST_IMAGE"), rust);
    assert_eq!(argument("BASE_IMAGE"), "debian:bookworm-slim");
    assert_eq!(argument("POSTGRES_IMAGE"), service("postgres")["image"].as_str().unwrap());
    for (_, from) in instructions.iter().filter(|(word, _)| word == "FROM") {
        let base = from.split(' ').next().unwrap();
        assert!(base == "scratch" || base.starts_with("${"), "{from}: name it in an ARG");
    }
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        let (repository, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image}: no tag"));
        assert!(tag.contains(|c: char| c.is_ascii_digit()), "{name}: {image}");
        if repository.starts_with("muster") {
            assert_eq!(tag, version, "{name}");
            // No registry has the image. A service without `build` could only start after another.
            assert!(!service["build"].is_null(), "{name} cannot make its image");
        }
    }
    // The other file names the same images, by digest.
    let pinned: Value = serde_saphyr::from_str(&read("docker-compose.pinned.yml")).unwrap();
    let digest = |image: &Value, of: &str| {
        let (tag, digest) = image.as_str().unwrap().split_once("@sha256:").unwrap();
        assert_eq!(tag, of);
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    };
    let pinned = &pinned["services"];
    digest(&pinned["postgres"]["image"], &argument("POSTGRES_IMAGE"));
    for (name, service) in services() {
        if !service["build"].is_null() {
            let arguments = &pinned[&name]["build"]["args"];
            digest(&arguments["BASE_IMAGE"], &argument("BASE_IMAGE"));
            digest(&arguments["POSTGRES_IMAGE"], &argument("POSTGRES_IMAGE"));
        }
    }
}

#[test]
fn sbom_lists_the_crates_of_the_program() {
    let made = Command::new(root().join(".ci/sbom")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let sbom: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let program = &sbom["metadata"]["component"];
    assert_eq!(program["purl"], concat!("pkg:cargo/muster@", env!("CARGO_PKG_VERSION")));
    let mut listed = BTreeSet::new();
    for component in sbom["components"].as_array().unwrap() {
        let name = component["name"].as_str().unwrap();
        let digest = component["hashes"][0]["content"].as_str().unwrap_or_default();
        assert!(digest.len() == 64 && !component["licenses"].is_null(), "{component}");
        listed.insert(name);
    }
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let names = |table: &str| manifest[table].as_table().unwrap().keys();
    for name in names("dependencies") {
        assert!(listed.contains(&**name), "{name} is missing");
    }
    // Programs of tests and of the build are not part of the program. The files of Swagger UI are.
    for name in ["proptest", "testcontainers", "rcgen", "zip"] {
        assert!(!listed.contains(name), "{name}");
    }
    assert!(listed.contains("utoipa-swagger-ui-vendored"));
}

#[test]
fn backups_use_the_volumes_and_the_user_of_the_service() {
    let (muster, backup) = (service("muster"), service("backup"));
    assert_eq!(backup["environment"], muster["environment"]);
    assert!(texts(&backup["volumes"]).contains(&"muster:/var/lib/muster:ro"));
    assert_eq!(texts(&backup["profiles"]), ["backup"], "`up` does not start it");
    let stages: Vec<Vec<(String, String)>> =
        instructions().into_iter().fold(Vec::new(), |mut stages: Vec<Vec<_>>, (word, text)| {
            if word == "FROM" || stages.is_empty() {
                stages.push(Vec::new());
            }
            stages.last_mut().unwrap().push((word, text));
            stages
        });
    let named = |name: &str| {
        let is_named = |stage: &&Vec<(String, String)>| stage[0].1.ends_with(name);
        stages.iter().find(is_named).unwrap().clone()
    };
    let of = |stage: &[(String, String)], word: &str| {
        let found = stage.iter().find(|(found, _)| found == word);
        found.unwrap_or_else(|| panic!("no {word}")).1.clone()
    };
    let (backup, runtime) = (named(" AS backup"), named(" AS runtime"));
    assert_eq!(of(&backup, "USER"), of(&runtime, "USER"));
    for variable in variables(&of(&backup, "ENV")) {
        assert!(image_variables().contains(&variable), "{variable:?}");
    }
    assert!(stages.last().unwrap()[0].1.ends_with(" AS runtime"), "the default is the service");
}

#[test]
fn dockerignore_admits_the_build_inputs() {
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "*"));
    let let_in: BTreeSet<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "migrations", ".sqlx", "LICENSE"] {
        assert!(let_in.contains(path), "{path}");
    }
    for path in let_in.into_iter() {
        assert!(root().join(path).exists(), "{path}");
    }
}

#[test]
fn compose_services_are_hardened() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["privileged"].is_null() && service["user"].is_null(), "{name}");
        // The container's port is the last part. No port is open to other machines by default.
        for published in texts(&service["ports"]) {
            assert!(
                published.starts_with("127.0.0.1:")
                    || published.starts_with("${MUSTER_PUBLISH:-127.0.0.1:"),
                "{name}: {published}"
            );
            assert_ne!(port(published), port(&defaults().metrics.bind.unwrap()), "{name}");
        }
    }
    assert!(service("muster")["cap_add"].is_null());
}

#[test]
fn compose_uses_existing_keys_and_sufficient_stop_timeout() {
    let muster = service("muster");
    let given = muster["environment"].as_object().unwrap().iter();
    let given = given.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    let settings = settings(image_variables().into_iter().chain(given).collect());
    let published = texts(&muster["ports"]);
    assert_eq!(port(published[0]), port(&settings.server.bind));
    // The service mounts the volume that holds the files of the first start.
    let created = service("first-start")["command"].to_string();
    for name in ["database-url", "master.key"] {
        assert!(created.contains(&format!("make {name}")), "{created}");
    }
    let key = settings.secrets.master_key_file.unwrap();
    assert_eq!(key, settings.data_dir.join("master.key"));
    let grace_period = muster["stop_grace_period"].as_str().unwrap();
    assert!(humantime(grace_period) > stop_time(&settings.server), "{grace_period}");
    for (before, condition) in
        [("postgres", "service_healthy"), ("first-start", "service_completed_successfully")]
    {
        assert_eq!(muster["depends_on"][before]["condition"], condition);
    }
}

/// The time from SIGTERM to the end of the server. Services drain, a terminal does not.
fn stop_time(server: &ServerConfig) -> Duration {
    assert!(server.drain_timeout > defaults().server.drain_timeout);
    server.drain_timeout + server.shutdown_timeout + STOP_ALLOWANCE
}

/// The manifest of the manual: its keys exist, and its times suffice.
#[test]
fn kubernetes_manifest_of_the_manual_matches_the_program() {
    let manifest: Value = serde_saphyr::from_str(&printed_block("checked: kubernetes")).unwrap();
    let pod = &manifest["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], format!("muster:{}", env!("CARGO_PKG_VERSION")));
    let env = container["env"].as_array().unwrap().iter();
    let env =
        env.map(|one| [&one["name"], &one["value"]].map(|text| text.as_str().unwrap().to_owned()));
    let env = env.map(|[name, value]| (name, value)).collect();
    let settings = settings([image_variables(), env].concat());
    let grace_period = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(Duration::from_secs(grace_period) > stop_time(&settings.server));
    let probe = &container["readinessProbe"];
    let seconds = |key: &str| Duration::from_secs(probe[key].as_u64().unwrap());
    let noticed = (seconds("periodSeconds") + seconds("timeoutSeconds"))
        * u32::try_from(probe["failureThreshold"].as_u64().unwrap()).unwrap();
    assert!(noticed < settings.server.drain_timeout, "{noticed:?}");
    for published in container["ports"].as_array().unwrap() {
        let bind = match published["name"].as_str().unwrap() {
            "api" => settings.server.bind.clone(),
            name => settings.metrics.bind.clone().filter(|_| name == "metrics").unwrap(),
        };
        assert_eq!(published["containerPort"].to_string(), port(&bind));
    }
}

#[test]
fn systemd_socket_has_the_address_of_the_service() {
    let socket = read("config/systemd/muster.socket");
    let listen = socket.lines().filter_map(|line| line.strip_prefix("ListenStream="));
    assert_eq!(listen.collect::<Vec<_>>(), [defaults().server.bind]);
}

fn humantime(text: &str) -> Duration {
    let seconds = text.strip_suffix('s').unwrap().parse().unwrap();
    Duration::from_secs(seconds)
}

#[test]
fn mounted_files_exist() {
    let compose = compose();
    let declared: BTreeSet<_> = compose["volumes"].as_object().unwrap().keys().cloned().collect();
    let mut used = BTreeSet::new();
    for (name, service) in services() {
        for volume in texts(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            if from.starts_with('.') {
                assert!(root().join(from).exists(), "{name}: {volume}");
                assert!(volume.ends_with(":ro"), "{name}: {volume}");
            } else {
                used.insert(from.to_owned());
            }
        }
    }
    assert_eq!(used, declared);
    let source: Value =
        serde_saphyr::from_str(&read("config/grafana/provisioning/datasources/muster.yml"))
            .unwrap();
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let scraped: Value = serde_saphyr::from_str(&read("config/prometheus/prometheus.yml")).unwrap();
    let target = &scraped["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(*target, format!("muster:{}", port(&defaults().metrics.bind.unwrap())));
    for rules in texts(&scraped["rule_files"]) {
        assert!(root().join("config/prometheus").join(rules).exists(), "{rules}");
    }
    let boards: Value =
        serde_saphyr::from_str(&read("config/grafana/provisioning/dashboards/muster.yml")).unwrap();
    let path = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounted = format!("./config/grafana/muster.json:{path}/muster.json:ro");
    assert!(texts(&service("grafana")["volumes"]).contains(&mounted.as_str()));
}

#[test]
fn systemd_unit_matches_the_program() {
    let unit = read("config/systemd/muster.service");
    let value = |key: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {key}"))
    };
    let alone = settings(variables(&unit));
    assert_eq!(alone.data_dir, PathBuf::from("/var/lib").join(value("StateDirectory")));
    assert!(alone.database.embedded);
    assert!(humantime(value("TimeoutStopSec")) > stop_time(&alone.server));
    assert!(value("LimitNOFILE").parse::<usize>().unwrap() > alone.server.max_connections);
    assert_eq!((value("Type"), value("KillMode")), ("notify", "mixed"));
    assert_ne!(value("User"), "root");

    let elsewhere = read("config/systemd/external-database.conf");
    let credentials: Vec<_> = elsewhere
        .lines()
        .filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'))
        .collect();
    assert_eq!(credentials.len(), 2);
    for (id, _) in credentials {
        assert!(elsewhere.contains(&format!("=%d/{id}\n")), "{id}");
    }
    let both = settings([variables(&unit), variables(&elsewhere)].concat());
    assert!(both.database.url.is_some() && !both.database.embedded);
    assert_eq!(both.secrets.master_key_file, Some("%d/master.key".into()));
}

#[test]
fn scheduled_backups_match_the_program() {
    let unit = read("config/systemd/muster-backup.service");
    let server = read("config/systemd/muster.service");
    for line in ["User=muster", "EnvironmentFile=-/etc/muster/muster.env"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
        assert!(server.lines().any(|found| found == line), "{line}");
    }
    assert_eq!(settings(variables(&unit)).data_dir, settings(variables(&server)).data_dir);
    let page = read("docs/operate/backup-containers.md");
    let block = page.split_once("```yaml\n").unwrap().1.split_once("```").unwrap().0;
    let job: Value = serde_saphyr::from_str(block).unwrap();
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], service("backup")["image"]);
    let user = last("USER");
    let user = user.split_once(':').unwrap().0.parse::<u64>().unwrap();
    assert_eq!(pod["securityContext"]["runAsUser"], user);
    assert_eq!(pod["securityContext"]["fsGroup"], user);
    let given = container["env"].as_array().unwrap().iter().map(|variable| {
        let text = |field: &str| variable[field].as_str().unwrap().to_owned();
        (text("name"), text("value"))
    });
    let settings = settings(image_variables().into_iter().chain(given).collect());
    assert!(settings.database.url.is_some() && settings.secrets.master_key_file.is_some());
    let mounted: BTreeSet<_> = texts_of(&container["volumeMounts"], "name").into_iter().collect();
    assert_eq!(mounted, texts_of(&pod["volumes"], "name").into_iter().collect());
}

fn texts_of(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn manual_names_the_newest_postgresql_of_the_tests() {
    let script = read(".ci/postgres");
    let version = script.lines().find_map(|line| line.strip_prefix("version=")).unwrap();
    let version = version.rsplit_once('.').unwrap().0;
    let page = read("docs/operate/external-postgresql.md");
    assert!(page.contains(&format!("also on {version}.")), "{version}");
}
