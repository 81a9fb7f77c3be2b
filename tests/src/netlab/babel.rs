//! babeld on every host of a lab: the router that ours is measured beside.

use std::{fmt, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Netlab;
use crate::child::Child;

/// One babeld per host, each announcing its host's own address. Ends with this.
#[derive(Debug)]
pub struct Babel {
    routers: Vec<Child>,
    _state: TempDir,
}

/// How babeld is set.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Hello interval; a full update goes out every fourth time.
    pub hello: Duration,
    /// Link-quality estimation: a single lost hello raises the cost, and a route that is no worse is taken at
    /// once, since nothing is smoothed here. Without it the neighbor is gone after two lost hellos of three.
    pub link_quality: bool,
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.link_quality { ", link quality" } else { "" };
        write!(f, "babeld, hello {} ms{kind}", self.hello.as_millis())
    }
}

impl Babel {
    /// Whether the program is there (Debian: babeld).
    pub fn obstacle() -> Option<String> {
        let there = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join("babeld").is_file())
        });
        (!there).then(|| "babeld is not installed (Debian: babeld; script/setup netlab)".to_owned())
    }

    /// Starts them.
    pub async fn start(lab: &Netlab, tuning: Tuning) -> Result<Babel> {
        let state = TempDir::new()?;
        let mut routers = vec![];
        for host in lab.hosts() {
            let interfaces: Vec<String> = lab
                .wires()
                .iter()
                .filter_map(|wire| wire.other(host.name()))
                .map(|to| format!("to-{to}"))
                .collect();
            let arguments = arguments(host.name(), tuning, state.path(), &interfaces);
            let name = format!("babeld {}", host.name());
            let router = host
                .run(async move {
                    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forwarding in the lab")?;
                    Child::start(&name, Path::new("setpriv"), arguments, &[])
                })
                .await??;
            routers.push(router);
        }
        Ok(Babel { routers, _state: state })
    }

    /// What they have to say, if one of them has ended.
    pub fn ended(&mut self) -> Result<Option<String>> {
        for router in &mut self.routers {
            if let Some(status) = router.ended()? {
                return Ok(Some(format!("babeld ended ({status}): {}", router.log())));
            }
        }
        Ok(None)
    }
}

fn arguments(name: &str, tuning: Tuning, state: &Path, interfaces: &[String]) -> Vec<String> {
    let Tuning { hello, link_quality } = tuning;
    let (hello, update) = (hello.as_secs_f64(), hello.as_secs_f64() * 4.0);
    let file = |what: &str| state.join(format!("{name}.{what}")).display().to_string();
    let mut arguments: Vec<String> =
        ["--pdeathsig", "KILL", "babeld", "-I", &file("pid"), "-S", &file("state")].map(str::to_owned).into();
    for line in [
        &*format!(
            "default type wired link-quality {link_quality} hello-interval {hello} update-interval {update}"
        ),
        "smoothing-half-life 0",
        "redistribute local ip 10.78.0.0/24",
        "redistribute local deny",
    ] {
        arguments.extend(["-C".to_owned(), line.to_owned()]);
    }
    arguments.extend(interfaces.iter().cloned());
    arguments
}
