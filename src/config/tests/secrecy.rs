//! No message, debug output or explanation contains a secret.

use super::*;

#[test]
fn the_password_is_in_no_message_and_no_debug_output() {
    for url in [
        "mysql://u:s3cret@db/m",
        "postgres://u:s3cret",
        "u:s3cret@db",
        "postgres://u:s3cret@db:port/m",
        "postgres://u:s3cret#x@db/m",
        " postgres://u:s3cret@db/m",
    ] {
        let message = problem("", &[("MUSTER__DATABASE__URL", url)]);
        assert!(message.starts_with("database.url = \""), "{message}");
        assert!(message.contains("expected postgres://USER:PASSWORD@HOST:PORT/NAME"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    let env = &[("MUSTER__DATABASE__URL", "postgres://u:s3cret@db/m")];
    let settings = load(None, env).unwrap();
    let shown = format!("{settings:?} {settings:#?} {}", settings.database.url.clone().unwrap());
    assert!(shown.contains("postgres://u:***@db/m") && !shown.contains("s3cret"), "{shown}");

    let message = problem("", &[("MUSTER__DATABASE__ULR", "postgres://u:s3cret@db/m")]);
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn master_keys_are_in_no_message_and_no_debug_output() {
    let right = "Sesame0000000000000000000000000000000000000=";
    for key in ["secrets.master_key", "secrets.previous_master_key"] {
        for wrong in ["Sesame", &right[..43], &format!("{right} "), &right.replace('=', "a")] {
            let message = problem("", &[(&variable(key), wrong)]);
            assert!(message.starts_with(&format!("{key} = \"***\" (env")), "{message}");
            assert!(message.contains("44 characters of base64 or 64 hex"), "{message}");
            assert!(!message.contains("Sesame"), "{message}");
        }
    }
    let settings = load(None, &[("MUSTER__SECRETS__MASTER_KEY", right)]).unwrap();
    assert!(!format!("{settings:?}").contains("83, 235"), "{settings:?}");
}

#[test]
fn no_secret_is_explained() {
    let env: Vec<(String, &str)> =
        OTHERS.iter().map(|(key, value)| (layer::variable_name(key), *value)).collect();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, *value)).collect();
    let settings = explained(None, &env);
    let shown = format!("{settings:?}");
    for secret in ["AAECAwQF", "ff010203", "12345", "67890"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("postgres://u:***@db/muster"), "{shown}");
    assert!(settings.iter().all(|setting| setting.source == SettingSource::Environment));
}
