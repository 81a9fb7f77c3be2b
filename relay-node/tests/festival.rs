//! `relay-node festival` as the organizer types it: the binary, its files and its exit codes.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-node"));
        command.current_dir(self.0.path()).args(line.split_whitespace()).output().unwrap()
    }

    /// What it prints, if all goes well.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What it says when it ends with `code`.
    fn bad(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        said + &String::from_utf8_lossy(&output.stdout)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_organizer_makes_a_festival_signs_a_token_and_takes_it_back() {
    let desk = Desk::new();
    let festival = desk.good("festival create --name Field --out festival.key");
    assert_eq!(festival.len(), 64);
    assert_eq!(mode(&desk.path("festival.key")), 0o600);
    assert!(desk.bad("festival create --name Other --out festival.key", 69).contains("is there already"));

    let node = desk.good("id --data relay");
    desk.good(&format!("festival issue --node {node} --zone camping --days 3 --out camping.token"));
    let shown = desk.good("festival show camping.token");
    for part in ["valid", &festival, &node, "camping"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let printed = desk.good(&format!("festival issue --node {node} --zone camping"));
    assert!(printed.starts_with("pnz1."), "{printed}");

    let serial = shown.lines().find_map(|line| line.trim().strip_prefix("serial")).unwrap().trim().to_owned();
    assert!(desk.good(&format!("festival revoke --serial {serial}")).contains("list 1: 0 relays, 1 tokens"));
    assert!(desk.good(&format!("festival revoke --node {node}")).contains("list 2: 1 relays, 1 tokens"));
    assert!(desk.good(&format!("festival show revocations.pnr --festival-key {festival}")).contains(&node));
    assert!(desk.bad("festival show revocations.pnr camping.token", 1).contains("it was revoked"));
    assert!(!desk.good("festival show festival.key").contains("secret ="));
}

#[test]
fn the_next_key_signs_for_relays_that_know_the_first() {
    let desk = Desk::new();
    let first = desk.good("festival create --name Field");
    let node = desk.good("id --data relay");
    let second = desk.good("festival rotate --out second.key --old-hours 24");
    assert_eq!(mode(&desk.path("second.key")), 0o600);
    desk.good(&format!("festival issue --key second.key --node {node} --zone camping --out camping.token"));
    // What the relay needs to know of the change stands beside its token.
    for id in [&first, &second] {
        desk.good(&format!("festival show camping.token --festival-key {id}"));
        desk.good(&format!("festival show revocations.pnr --festival-key {id}"));
    }
    let third = desk.good("festival rotate --key second.key --out third.key");
    assert!(desk.good(&format!("festival show revocations.pnr --festival-key {first}")).contains(&third));
    assert!(desk.bad("festival rotate --out fourth.key", 64).contains("was given up"));
    assert!(!desk.path("fourth.key").exists());
    // The first key has no say in the list any more.
    desk.bad(&format!("festival revoke --node {node}"), 64);
    desk.good(&format!("festival revoke --key third.key --node {node}"));
}

#[test]
fn what_is_wrong_is_named() {
    let desk = Desk::new();
    desk.good("festival create --name Field");
    let other = Desk::new().good("festival create --name Other");
    let node = desk.good("id --data relay");
    assert!(desk.bad("festival issue --node abc --zone camping", 64).contains("64 hexadecimal"));
    assert!(desk.bad(&format!("festival issue --node {node} --zone Camp!"), 64).contains("--zone"));
    assert!(desk.bad(&format!("festival issue --node {node} --zone a --days 0"), 64).contains("--days"));
    assert!(desk.bad(&format!("festival issue --key none --node {node} --zone a"), 69).contains("none"));
    fs::write(desk.path("junk"), "junk").unwrap();
    assert!(desk.bad("festival show junk", 64).contains("junk: is not"));
    assert!(
        desk.bad(&format!("festival issue --key junk --node {node} --zone a"), 64)
            .contains("organizer's key")
    );
    desk.good(&format!("festival issue --node {node} --zone a --out a.token"));
    assert!(
        desk.bad(&format!("festival show a.token --festival-key {other}"), 1).contains("another festival")
    );
    assert!(desk.bad("festival revoke", 64).contains("--node"));
    assert!(desk.bad("festival", 64).contains("create"));
    let help = desk.good("festival --help") + &desk.good("festival issue --help");
    for part in ["revocations.pnr", "Exit codes", "--days"] {
        assert!(help.contains(part), "{part}");
    }
    // A relay started with the token of another one is not started at all.
    desk.good(&format!("festival issue --node {other} --zone main --out b.token"));
    let said = desk.bad(
        "--data relay --festival-token b.token --http 127.0.0.1:0 --media 127.0.0.1:0 --bridge 127.0.0.1:0",
        64,
    );
    assert!(said.contains("b.token") && said.contains("another relay"), "{said}");
}
