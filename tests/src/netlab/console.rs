//! A lab for people: brings it up, runs a program on each host, and takes commands line by line.

use std::{net::Ipv4Addr, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    process::{Child, Command},
};

use super::{Change, Netlab, Topology};
use crate::child::program;

const HELP: &str =
    "cut a-b | heal a-b | delay a-b 20ms | jitter a-b 5ms | loss a-b 5% burst 3 | rate a-b 2mbit |
queue a-b 50ms   (a>b instead of a-b: one direction)
run HOST COMMAND …   runs a shell command there
show                 what crossed each wire
queue a>b            how long packets waited for its rate since the last time
quit";

/// Runs until `quit` or the end of the input. Without a command each host gets a relay of its own.
pub async fn console(topology: &Topology, command: &[String]) -> Result<()> {
    let lab = Netlab::new(topology, 1).await?;
    let data = tempfile::TempDir::new()?;
    let mut programs = vec![];
    for host in lab.hosts() {
        let neighbors: Vec<(&str, Ipv4Addr)> = lab
            .wires()
            .iter()
            .filter_map(|wire| wire.other(host.name()).map(|other| (other, wire.address(other))))
            .collect();
        let told: Vec<String> =
            neighbors.iter().map(|(name, address)| format!("{name} is {address}")).collect();
        println!("{}: {}; nsenter --net={} bash", host.name(), told.join(", "), host.path());
        let peers: Vec<String> = neighbors.iter().map(|(_, address)| format!("{address}:8081")).collect();
        let line = match command {
            [] => {
                let relay = program("relay-node")?.display().to_string();
                let peers: String = peers.iter().map(|peer| format!(" --peer {peer}")).collect();
                let data = data.path().join(host.name()).display().to_string();
                format!("exec {relay} --dev --log warn --zone {} --data {data}{peers}", host.name())
            }
            words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        };
        programs.push(start(&lab, host.name(), &line, &peers).await?);
    }
    println!("{HELP}");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match obey(&lab, line.trim(), &mut programs).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => println!("{error:#}"),
        }
    }
    Ok(())
}

/// Does what a line says; `false` to end.
async fn obey(lab: &Netlab, line: &str, programs: &mut Vec<Child>) -> Result<bool> {
    match line.split_once(' ').map_or((line, ""), |(verb, rest)| (verb, rest.trim())) {
        ("", _) => {}
        ("quit", _) => return Ok(false),
        ("help", _) => println!("{HELP}"),
        ("show", _) => show(lab),
        ("queue", rest) => queue(lab, rest)?,
        ("run", rest) => {
            let (host, command) = rest.split_once(' ').context("run HOST COMMAND …")?;
            if !lab.hosts().any(|known| known.name() == host) {
                bail!("no host {host:?}");
            }
            programs.push(start(lab, host, command, &[]).await?);
        }
        _ => lab.change(&Change::parse(line)?)?,
    }
    Ok(true)
}

fn show(lab: &Netlab) {
    for wire in lab.wires() {
        let [a, b] = wire.ends();
        for (from, to) in [(a, b), (b, a)] {
            let c = wire.counters_from(from);
            println!(
                "{from}>{to}: {} packets, {} bytes, {} lost, {} overflowed, {} cut",
                c.passed, c.bytes, c.lost, c.overflowed, c.cut
            );
        }
    }
}

/// Prints how long packets waited for the rate of a direction since it was asked last.
fn queue(lab: &Netlab, lane: &str) -> Result<()> {
    let (from, to) = lane.split_once('>').context("queue a>b")?;
    let wire = lab.find(from, to).with_context(|| format!("there is no wire {from}-{to}"))?;
    let mut waits = wire.take_waits_from(from);
    waits.sort_unstable();
    let rank = |share: f64| {
        let at = ((waits.len() as f64 * share).ceil() as usize).saturating_sub(1);
        waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    };
    println!(
        "queue {lane}: {} packets waited p50 {:.1}, p95 {:.1}, max {:.1} ms",
        waits.len(),
        rank(0.5),
        rank(0.95),
        rank(1.0)
    );
    Ok(())
}

/// Starts a shell command on a host. It ends with this process, or when it is dropped, and so does whatever it
/// has started: it is the first process of a process namespace.
async fn start(lab: &Netlab, host: &str, command: &str, peers: &[String]) -> Result<Child> {
    let mut shell = Command::new("setpriv");
    shell
        .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", command])
        .env("NETLAB_HOST", host)
        .env("NETLAB_PEERS", peers.join(" "))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let started = lab.host(host).run(async move { shell.spawn() }).await?;
    started.with_context(|| format!("starting {command:?} on {host}"))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
