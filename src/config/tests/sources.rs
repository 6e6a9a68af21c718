//! The sources of a value: file, environment, and files that variables name.

use super::*;

#[test]
fn a_variable_may_name_a_file_that_holds_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (key, value) in OTHERS {
        let name = format!("{}_FILE", variable(key));
        let url = ("MUSTER__DATABASE__URL", "postgres://db/muster");
        for end in ["", "\n", "\r\n"] {
            let path = file("value", &format!("{value}{end}"));
            let in_file = match *key {
                // The other key needs this one, and these are separate keys.
                "database.embedded" | "database.pooler" => load(None, &[url, (&name, &path)]),
                "server.tls_cert" | "server.tls_key" | "secrets.master_key" => continue,
                _ => load(None, &[(&name, &path)]),
            };
            let direct = match *key {
                "database.embedded" | "database.pooler" => {
                    load(None, &[url, (&variable(key), value)])
                }
                _ => load(None, &[(&variable(key), value)]),
            };
            assert_eq!(in_file.unwrap(), direct.unwrap(), "{name}");
        }
    }
    let two = file("two", "owner\n\n");
    let message = problem("", &[("MUSTER__POLICY__REMOVE_MEMBERS_FILE", &two)]);
    let start = format!(
        "policy.remove_members = \"owner\\n\" ({two}, named by environment variable \
         MUSTER__POLICY__REMOVE_MEMBERS_FILE): expected"
    );
    assert!(message.starts_with(&start), "{message}");
    let secret = file("secret", "mysql://u:s3cret@db/m");
    let message = problem("", &[("MUSTER__DATABASE__URL_FILE", &secret)]);
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn variable_and_variable_file_exclude_each_other() {
    let both = [("MUSTER__LOG__LEVEL", "info"), ("MUSTER__LOG__LEVEL_FILE", "/dev/null")];
    assert_eq!(
        problem("", &both),
        "MUSTER__LOG__LEVEL_FILE (environment variable): expected either this or \
         MUSTER__LOG__LEVEL, not both"
    );
    assert_eq!(
        problem("", &[("MUSTER__DATABASE__URL_FILE", "/nowhere/url")]),
        "MUSTER__DATABASE__URL_FILE (environment variable): cannot read /nowhere/url: No such file \
         or directory (os error 2)"
    );
    assert_eq!(
        problem("", &[("MUSTER_DATABASE_URL_FILE", "/run/secrets/url")]),
        "MUSTER_DATABASE_URL_FILE (environment variable): no such key; did you mean \
         `MUSTER__DATABASE__URL_FILE`?"
    );
    // A separate key: a path that is not opened here, beside the key that it overrides.
    let env = [
        ("MUSTER__SECRETS__MASTER_KEY_FILE", "/nowhere/keys"),
        ("MUSTER__SECRETS__MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ];
    let secrets = load(None, &env).unwrap().secrets;
    assert_eq!(secrets.master_key_file, Some("/nowhere/keys".into()));
    assert!(secrets.master_key.is_some());
}

#[test]
fn all_problems_are_reported_at_once() {
    let error = load(
        Some("[server]\nbnd = 1\nworkers = 'all'\n[limits]\nmax_body_bytes = 1"),
        &[("MUSTER__LIMITS__MAX_BODY_BYTES", "many"), ("MUSTER__DATABASE__MIGRATE", "")],
    )
    .unwrap_err()
    .to_string();
    let lines: Vec<_> = error.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "the configuration has 4 mistakes:",
            "  server.bnd",
            "  server.workers = \"all\"",
            "  database.migrate = \"\"",
            "  limits.max_body_bytes = \"many\"",
        ]
    );
}

#[test]
fn syntax_error_names_the_position_without_the_text() {
    let message = load(Some("[database]\nurl = 'postgres://u:secret@db/m"), &[]).unwrap_err();
    let message = message.to_string();
    assert!(message.contains("muster.toml, line 2, column 32, is not valid TOML: "), "{message}");
    assert!(!message.contains("secret"), "{message}");

    for text in ["url = postgres://u:secret@db/m", "url = \"p\\secret\"", "secret secret"] {
        let message = load(Some(text), &[]).unwrap_err();
        let shown = format!("{message} {message:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    let twice = load(Some("data_dir = 'a'\ndata_dir = 'b'"), &[]).unwrap_err().to_string();
    assert!(
        twice.contains("muster.toml, line 2, column 1, is not valid TOML: duplicate"),
        "{twice}"
    );

    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("none.toml")] {
        let error = Settings::load(Some(&path), std::iter::empty()).unwrap_err();
        let message = format!("cannot read the configuration file {}", path.display());
        assert_eq!(error.to_string(), message);
        assert!(std::error::Error::source(&error).is_some());
    }
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"data_dir = '\xff'").unwrap();
    assert!(matches!(
        Settings::load(Some(&binary), std::iter::empty()),
        Err(ConfigError::Read { .. })
    ));
}

#[test]
fn a_variable_that_is_not_utf8_is_refused_by_name() {
    assert_eq!(
        problem("", &[("MUSTER__DATA_DIR", "da\u{FFFD}ta")]),
        "MUSTER__DATA_DIR (environment variable): expected UTF-8 text"
    );
    // The function accepts any environment of this process.
    assert!(environment().all(|(name, _)| name.to_lowercase().starts_with("muster")));
}

#[test]
fn flag_overrides_variable() {
    let flag = || Some(PathBuf::from("flag.toml"));
    assert_eq!(file(flag(), Some("variable.toml".into())), flag());
    assert_eq!(file(None, Some("variable.toml".into())), Some("variable.toml".into()));
    assert_eq!(file(None, Some("".into())), None);
    assert_eq!(file(None, None), None);
}

#[test]
fn every_key_is_explained_in_the_order_of_the_defaults() {
    let settings = explained(None, &[]);
    let keys: Vec<&str> = settings.iter().map(|setting| setting.key.as_str()).collect();
    let known: BTreeSet<&str> = OTHERS.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!((keys[0], keys.last()), ("data_dir", Some(&"log.format")));
    assert!(settings.iter().all(|setting| setting.source == SettingSource::Default));
    assert!(settings.iter().all(|setting| setting.origin == "the default"));
}

#[test]
fn last_layer_explains_a_value() {
    let file = "cache.enabled = false\n[server]\nbind = \"[::]:0\"\nworkers = 3\n";
    let env =
        [("MUSTER__SERVER__WORKERS", "4"), ("MUSTER__DELIVERY__ALLOW_NETWORKS", "10.0.0.0/8")];
    let settings = explained(Some(file), &env);
    let find = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap();
        let origin = setting.origin.rsplit('/').next().unwrap();
        (setting.value.clone(), setting.source, origin.to_owned())
    };
    let text = |text: &str| SettingValue::Text(text.to_owned());
    let workers = "environment variable MUSTER__SERVER__WORKERS".to_owned();
    assert_eq!(
        find("server.workers"),
        (SettingValue::Whole(4), SettingSource::Environment, workers)
    );
    let at = |line| format!("muster.toml, line {line}");
    assert_eq!(find("server.bind"), (text("[::]:0"), SettingSource::File, at(3)));
    assert_eq!(find("cache.enabled"), (SettingValue::Boolean(false), SettingSource::File, at(1)));
    assert_eq!(find("delivery.allow_networks").0, SettingValue::List(vec![text("10.0.0.0/8")]));
    assert_eq!(find("metrics.bind").0, text("127.0.0.1:0"), "the address in force, not `auto`");
}
