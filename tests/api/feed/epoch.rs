//! The epoch of the feed, and the command that begins another one.

use crate::harness::process::Home;
use crate::harness::server::database;
use crate::harness::store;

#[tokio::test(flavor = "multi_thread")]
async fn command_begins_another_epoch_while_a_server_runs() {
    let database = database().await;
    let home = Home::for_database(&database);
    let server = home.serve();
    let mut connection = store::connect_to(&database).await;
    let first = store::epoch(&mut connection).await;
    let second = home.json(&["feed", "new-epoch"]);
    assert_eq!(second["epoch"], store::epoch(&mut connection).await);
    let printed = home.run(&["feed", "new-epoch"]).ok().stdout;
    let third = store::epoch(&mut connection).await;
    assert!(printed.contains(&third), "{printed}");
    assert!(second["epoch"] != first && second["epoch"] != third && first != third);
    let lines = home.json(&["audit", "list", "--action", "database.new_epoch"]);
    assert_eq!(lines[0]["details"]["epoch"], third, "{lines}");
    assert_eq!(lines.as_array().unwrap().len(), 2, "{lines}");
    server.stop();
}
