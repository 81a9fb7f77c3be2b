//! Backups taken while people talk: each can be restored, and has every word that was answered before it was taken.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{fs, path::Path, time::Duration};

use relay_node::storage::{backup::Backup, rows};
use tempfile::TempDir;
use tests::{Child, Relay, Setup, program, until};

const SOON: Duration = Duration::from_secs(60);
const BACKUPS: usize = 20;

/// Runs relay-node to its end: exit code and all it said.
async fn run(arguments: &[&str]) -> (i32, String) {
    let mut child = Child::start("relay-node", &program("relay-node").unwrap(), arguments, &[]).unwrap();
    let status = child.wait(SOON).await.unwrap();
    (status.code().unwrap_or(-1), format!("{}{}", child.output(), child.log()))
}

/// A task of relay-node on a data directory.
async fn on(data: &Path, task: &[&str]) -> (i32, String) {
    let data = data.display().to_string();
    run(&[
        task,
        &["--data", &data, "--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--bridge", "127.0.0.1:0"],
    ]
    .concat())
    .await
}

fn texts_in(backup: &Backup) -> Vec<String> {
    let text = |((key, number), row): (&(Vec<u8>, u64), &Vec<u8>)| {
        let rows::Row::Record(record) = rows::sound(key, *number, row)? else { return None };
        Some(String::from_utf8_lossy(&record.entry.payload).into_owned())
    };
    backup.rows.iter().filter_map(text).collect()
}

async fn shows(relay: &Relay, expected: usize) {
    let api = relay.api();
    until(&format!("{expected} lines are shown"), SOON, || async {
        let shown = api.history("lobby").await?;
        Ok(shown.iter().any(|message| message.text == format!("line {:04}", expected - 1)).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn each_backup_that_is_taken_while_people_talk_can_be_restored() {
    let relay = Setup::zone("gate").argument("--chat-address-rate").argument("0").start().await.unwrap();
    let directory = TempDir::new().unwrap();
    let mut said = 0;
    for backup in 0..BACKUPS {
        for _ in 0..5 {
            relay.api().say("lobby", "Ada", &format!("line {said:04}")).await.unwrap();
            said += 1;
        }
        let answered = said;
        let file = directory.path().join(format!("{backup}.backup"));
        let name = file.display().to_string();
        // While it is taken, more is said.
        let talk = async {
            for _ in 0..5 {
                relay.api().say("lobby", "Ada", &format!("line {said:04}")).await.unwrap();
                said += 1;
            }
        };
        let task = ["backup", &name];
        let ((code, told), ()) = tokio::join!(on(relay.data(), &task), talk);
        assert_eq!(code, 0, "{told}");
        let taken = Backup::decode(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(taken.counts().1, 0, "no record is half written");
        let texts = texts_in(&taken);
        for line in 0..answered {
            let line = format!("line {line:04}");
            assert_eq!(
                texts.iter().filter(|text| text.contains(&line)).count(),
                1,
                "backup {backup}: {line}"
            );
        }
        assert_eq!(taken.kept["node.key"], fs::read(relay.data().join("node.key")).unwrap());
        let restored = TempDir::new().unwrap();
        let (code, told) = on(restored.path(), &["restore", &name]).await;
        assert_eq!(code, 0, "{told}");
        let (_, told) = on(restored.path(), &["doctor", "--store"]).await;
        assert!(
            told.contains(&format!("all {} records on disk are as they were written", texts.len())),
            "{told}"
        );
        // Never over something.
        let (code, told) = on(restored.path(), &["restore", &name]).await;
        assert!(code == 64 && told.contains("not empty"), "{code}: {told}");
        if backup == BACKUPS - 1 {
            let id = relay.node().to_owned();
            drop(relay);
            let relay = Setup::zone("gate").start_in(restored).await.unwrap();
            assert_eq!(relay.node(), id);
            shows(&relay, answered).await;
            break;
        }
    }
}

#[tokio::test]
async fn a_relay_that_does_not_run_is_backed_up_too_and_what_is_no_backup_is_refused() {
    let mut relay = Setup::zone("gate").start().await.unwrap();
    relay.api().say("lobby", "Ada", "line 0000").await.unwrap();
    let (_, told) = on(relay.data(), &["doctor", "--store"]).await;
    assert!(told.contains("records on disk are as they were written"), "{told}");
    assert!(relay.terminate().await.unwrap().success());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.backup");
    let name = file.display().to_string();
    let (code, told) = on(relay.data(), &["backup", &name]).await;
    assert_eq!(code, 0, "{told}");
    let bytes = fs::read(&file).unwrap();
    assert_eq!(texts_in(&Backup::decode(&bytes).unwrap()).len(), 1);
    let nothing = TempDir::new().unwrap();
    let (code, told) = on(nothing.path(), &["backup", &name]).await;
    assert!(code == 64 && told.contains("no data directory"), "{code}: {told}");
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let (code, told) = on(nothing.path(), &["restore", &name]).await;
    assert!(code == 64 && told.contains("cut off or damaged"), "{code}: {told}");
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "nothing was written");
    // The file is looked at and left as it is.
    let store = relay.data().join("relay.redb");
    let mut damaged = fs::read(&store).unwrap();
    damaged[..4096].fill(0);
    fs::write(&store, &damaged).unwrap();
    let (code, told) = on(relay.data(), &["doctor", "--store"]).await;
    assert!(code == 1 && told.contains("is damaged"), "{code}: {told}");
    assert_eq!(fs::read(&store).unwrap(), damaged);
    // What reads of it is in a backup all the same.
    let (code, told) = on(relay.data(), &["backup", &name]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(texts_in(&Backup::decode(&fs::read(&file).unwrap()).unwrap()).len(), 1);
}
