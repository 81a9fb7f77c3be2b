//! `relay-node pair` as two people type it: two processes, the codes they show, and what they keep.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

fn relay(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-node"));
    command.args(line.split_whitespace());
    command
}

fn printed(line: &str) -> String {
    let output = relay(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A person at a relay that pairs.
struct Person {
    process: Child,
    screen: BufReader<ChildStdout>,
    keyboard: ChildStdin,
}

impl Person {
    fn types(line: &str) -> Person {
        let mut process =
            relay(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let screen = BufReader::new(process.stdout.take().unwrap());
        let keyboard = process.stdin.take().unwrap();
        Person { process, screen, keyboard }
    }

    fn reads(&mut self) -> String {
        let mut line = String::new();
        self.screen.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn answers(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").unwrap();
    }

    /// How it ended, and what it said to the person.
    fn end(self) -> (Option<i32>, String) {
        drop(self.keyboard);
        let Output { status, stderr, .. } = self.process.wait_with_output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

/// A port of this machine that was free a moment ago.
fn port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two data directories and the lines that pair them.
fn two(more: [&str; 2]) -> ([tempfile::TempDir; 2], [Person; 2]) {
    let data = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let port = port();
    let [a, b] = [0, 1].map(|at| data[at].path().display().to_string());
    let listen = format!("pair --data {a} --zone stage --listen 127.0.0.1:{port} {}", more[0]);
    let dial = format!("pair --data {b} --zone camping --peer 127.0.0.1:{port} {}", more[1]);
    let people = [Person::types(&listen), Person::types(&dial)];
    (data, people)
}

fn trusted(data: &Path) -> String {
    fs::read_to_string(data.join("trusted")).unwrap_or_default()
}

#[test]
fn two_people_who_see_the_same_code_pair_their_relays() {
    let ([a, b], [mut stage, mut camping]) = two(["", ""]);
    let (here, there) = (stage.reads(), camping.reads());
    assert_eq!(here, there);
    assert_eq!(here.len(), "482 913".len(), "{here}");
    stage.answers("y");
    camping.answers(&there);
    let (id_a, id_b) = (
        printed(&format!("id --data {}", a.path().display())),
        printed(&format!("id --data {}", b.path().display())),
    );
    assert_eq!(stage.reads(), format!("paired with camping {id_b}"));
    assert_eq!(camping.reads(), format!("paired with stage {id_a}"));
    assert_eq!((stage.end().0, camping.end().0), (Some(0), Some(0)));
    assert_eq!(trusted(a.path()), format!("{id_b}  # camping\n"));
    assert_eq!(trusted(b.path()), format!("{id_a}  # stage\n"));
    // A relay counts it like --trust.
    let shown = printed(&format!("check-config --data {}", a.path().display()));
    assert!(shown.contains(&id_b[..8]), "{shown}");
}

#[test]
fn one_who_sees_another_code_pairs_nobody() {
    let ([a, b], [mut stage, mut camping]) = two(["", ""]);
    stage.reads();
    camping.reads();
    stage.answers("y");
    camping.answers("n");
    let (stage, camping) = (stage.end(), camping.end());
    assert_eq!((stage.0, camping.0), (Some(1), Some(1)));
    assert!(stage.1.contains("not confirmed at the other relay"), "{}", stage.1);
    assert!(camping.1.contains("the codes differ"), "{}", camping.1);
    assert_eq!(trusted(a.path()) + &trusted(b.path()), "");
}

#[test]
fn a_script_compares_the_code_it_was_given() {
    // Right once in a million runs.
    let ([a, b], [stage, camping]) = two(["--code 000000", "--yes"]);
    let (stage, camping) = (stage.end(), camping.end());
    assert_eq!((stage.0, camping.0), (Some(1), Some(1)), "{} {}", stage.1, camping.1);
    assert_eq!(trusted(a.path()) + &trusted(b.path()), "");
}

#[test]
fn the_organizer_gives_a_token_to_the_relay_it_pairs_with() {
    let desk = tempfile::tempdir().unwrap();
    let key = desk.path().join("festival.key").display().to_string();
    let festival = printed(&format!("festival create --name Field --out {key}"));
    let ([a, b], [stage, camping]) = two([&format!("--yes --festival-key-file {key} --days 3"), "--yes"]);
    let (stage, camping) = (stage.end(), camping.end());
    assert_eq!((stage.0, camping.0), (Some(0), Some(0)), "{} {}", stage.1, camping.1);
    assert!(camping.1.contains(&festival), "{}", camping.1);
    for (data, zone) in [(&a, "stage"), (&b, "camping")] {
        let token = data.path().join("zone.token").display().to_string();
        let shown = printed(&format!("festival show {token} --festival-key {festival}"));
        assert!(shown.contains(zone) && shown.contains("valid"), "{shown}");
        // The relay finds it by itself.
        let doctor =
            relay(&format!("doctor --zone {zone} --data {}", data.path().display())).output().unwrap();
        let said = String::from_utf8(doctor.stdout).unwrap();
        assert!(said.contains("zone token"), "{said}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anybody_waits() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().display();
    for (line, code, part) in [
        (format!("pair --data {data} --listen 127.0.0.1:0 --peer a:1"), 64, "cannot be used"),
        (format!("pair --data {data} --code 12345"), 64, "six digits"),
        (format!("pair --data {data} --peer nowhere"), 64, "HOST:PORT"),
        (format!("pair --data {data} --festival-key-file /nowhere"), 69, "/nowhere"),
        (format!("pair --data {data} --listen 192.0.2.1:1"), 69, "192.0.2.1"),
    ] {
        let output = relay(&line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(part), "{line}: {said}");
    }
}
