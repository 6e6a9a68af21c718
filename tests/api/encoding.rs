//! Databases whose encoding lacks characters are refused.

use crate::harness::process::Home;
use crate::harness::server::database_with_encoding;
use crate::harness::store;

#[tokio::test(flavor = "multi_thread")]
async fn encoding_other_than_utf8_is_refused_by_every_command() {
    for encoding in ["EUC_CN", "LATIN1", "SQL_ASCII"] {
        let database = database_with_encoding(encoding).await;
        let home = Home::for_database(&database);
        let app = ["--buin", "1", "--app-id", "yd5D7F8E6A"];
        let backup = home.parent.join("backup");
        for command in [
            &["serve"][..],
            &["migrate"],
            &["migrate", "status"],
            &["app", "list"],
            &["app", "create", "--buin", "1"],
            &[&["app", "show"], &app[..]].concat(),
            &["key", "list"],
            &["delivery", "list"],
            &["audit", "list"],
            &["secrets", "status"],
            &["backup", backup.to_str().unwrap()],
        ] {
            let output = home.run(command);
            output.fails(1, &[encoding, "UTF8", "create database"]);
        }
        let output = home.run(&["doctor"]);
        assert_eq!(output.status.code(), Some(1), "{output:#?}");
        let finding = output.stdout.lines().find(|line| line.contains(encoding)).unwrap();
        assert!(finding.starts_with("FAIL  database"), "{output:#?}");
        assert_eq!(output.stdout.matches("create database").count(), 1, "{output:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encoding_of_the_target_of_a_move_or_a_restore_is_checked() {
    let target = database_with_encoding("EUC_CN").await;
    let home = Home::with_database();
    home.run(&["move-to", &store::url(&target.options)]).fails(1, &["EUC_CN", "UTF8"]);
    let backup = home.parent.join("backup");
    home.run(&["backup", "--with-key", backup.to_str().unwrap()]);
    let mut empty = Home::for_database(&target);
    empty.set("MUSTER__SECRETS__MASTER_KEY_FILE", backup.join("master.key").to_str().unwrap());
    empty.set("MUSTER__SECRETS__MASTER_KEY", "");
    empty.run(&["restore", backup.to_str().unwrap()]).fails(1, &["EUC_CN", "UTF8"]);
}
