//! TLS on the link to the database: which certificates of the server are accepted.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use rustix::process::Signal;

use crate::faults::postgres::Postgres;
use crate::harness::process::Home;
use crate::harness::store;

/// A certificate of X.509 version 1, as `openssl x509` and some extensions of PostgreSQL make it. The
/// library of this program cannot read one. Its key protects nothing.
const VERSION_1: [&str; 2] = [
    "-----BEGIN CERTIFICATE-----
MIIBJzCBzwIUP7XV55CcLrkdfuiqdkJ29sP+sSAwCgYIKoZIzj0EAwIwFjEUMBIG
A1UEAwwLbXVzdGVyLXRlc3QwIBcNMjYxMTMwMTM0OTU3WhgPMjEyNjExMDYxMzQ5
NTdaMBYxFDASBgNVBAMMC211c3Rlci10ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEx5sr0XHYG8OEmxnSw+XMvVBOOnmy8jXpeg46CP0VbqSUIQzZfs0pneyg
GkvLoYE/SW8AM/r6dElCS6haTi7yUzAKBggqhkjOPQQDAgNHADBEAiBi+9Q8U7fj
hkKqx4vCyvC0vDWlRivoSW7NKrMOjFhWTgIgDStBolU5UfNRypPWXA9fd7p78RKO
YnkPah7p2VSsiXU=
-----END CERTIFICATE-----
",
    "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgV97rHMWcev6O4NH5
NM2ePpgIXfo35/cDa1qHGh5q+D+hRANCAATHmyvRcdgbw4SbGdLD5cy9UE46ebLy
Nel6DjoI/RVupJQhDNl+zSmd7KAaS8uhgT9JbwAz+vp0SUJLqFpOLvJT
-----END PRIVATE KEY-----
",
];

/// Makes a server use TLS with this certificate and key.
async fn enable_tls(postgres: &mut Postgres, files: [&str; 2]) {
    let owner = fs::metadata(postgres.data()).unwrap();
    for (name, content) in ["server.crt", "server.key"].into_iter().zip(files) {
        let path = postgres.data().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let settings =
        [("ssl", "on"), ("ssl_cert_file", "'server.crt'"), ("ssl_key_file", "'server.key'")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut connection = postgres.connect_as_superuser().await;
    store::change_settings(&mut connection, &settings).await;
    store::close(connection).await.unwrap();
    postgres.stop(Signal::INT);
    postgres.start_again().await;
    assert!(store::has_tls(&postgres.options()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchecked_certificate_may_be_any() {
    let mut home = Home::with_database();
    let mut postgres = Postgres::start(&home).await;
    let key_file = home.data_dir.join("master.key");
    home.set("MUSTER__SECRETS__MASTER_KEY_FILE", key_file.to_str().unwrap());
    // The certificate of another host, signed by itself.
    let other = rcgen::generate_simple_self_signed(["other.invalid".to_owned()]).unwrap();
    let other = [other.cert.pem(), other.signing_key.serialize_pem()];
    let [certificate, key] = &other;
    for (files, modes) in [
        ([certificate.as_str(), key.as_str()], &["prefer", "require"][..]),
        (VERSION_1, &["prefer"]),
    ] {
        enable_tls(&mut postgres, files).await;
        for mode in modes {
            let url = format!("postgres://muster@{}/muster?sslmode={mode}", postgres.address());
            home.set("MUSTER__DATABASE__URL", &url);
            let listed = home.run(&["app", "list", "--json"]);
            assert_eq!(listed.json().as_array().unwrap().len(), 1, "{mode}: {listed:#?}");
            home.serve().stop();
        }
        let url = format!("postgres://muster@{}/muster?sslmode=verify-full", postgres.address());
        home.set("MUSTER__DATABASE__URL", &url);
        home.run(&["app", "list"]).fails(1, &["certificate"]);
    }
}
