//! One process that a test started: found, logged, ended with the test.
//! What it is and what it says is for others.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::clock::until;

/// How much of a log is printed when a test fails.
const LOG_LINES: usize = 60;

/// A running program with its output in files of its own.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: process::Child,
    status: Option<ExitStatus>,
    logs: TempDir,
}

impl Child {
    /// Starts `program` with `arguments`; `name` is how the log is called when a test fails.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Result<Child> {
        let logs = TempDir::new()?;
        let process = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(logs.path().join("out"))?)
            .stderr(File::create(logs.path().join("err"))?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Child { name: name.to_owned(), process, status: None, logs })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to its standard output so far.
    pub fn output(&self) -> String {
        read(&self.logs.path().join("out"))
    }

    /// What it has written to its standard error so far.
    pub fn log(&self) -> String {
        read(&self.logs.path().join("err"))
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let mut status = None;
        until(&what, limit, || {
            let ended = self.ended().map(|ended| {
                status = ended;
                ended.map(|_| ())
            });
            async { ended }
        })
        .await?;
        status.context("until() returned, so the status is there")
    }

    /// Waits for its end and reads the JSON that it has printed, on one line or several; anything before the brace is
    /// chatter.
    pub async fn report<T: DeserializeOwned>(mut self, limit: Duration) -> Result<T> {
        let status = self.wait(limit).await?;
        let output = self.output();
        if !status.success() {
            bail!("{} ended with {status}: {output} {}", self.name, self.log());
        }
        let start = output.find('{').with_context(|| format!("no report in {output:?}"))?;
        serde_json::from_str(output[start..].trim()).with_context(|| format!("reading {output}"))
    }

    /// kill -9: no farewell.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.process.kill()?;
            self.status = Some(self.process.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, as a service supervisor sends it.
    pub fn terminate(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let done = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.id())).status()?;
        if !done.success() {
            bail!("kill -TERM {} failed", self.id());
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let ended = self.ended().ok().flatten();
        let _ = self.kill();
        if std::thread::panicking() {
            let state = ended.map_or("running".to_owned(), |status| status.to_string());
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            eprintln!("---- {} ({state}), last of its log ----\n{}", self.name, lines[from..].join("\n"));
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Where a program of this workspace was built: beside the tests, or in the directory `PEDDLENET_BIN_DIR` names.
pub fn program(name: &str) -> Result<PathBuf> {
    let directory = match std::env::var_os("PEDDLENET_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            // target/debug/deps/process_chain-0123, target/debug/netlab → target/debug
            let own = std::env::current_exe()?;
            let beside = own.parent().context("a program lies in a directory")?;
            if beside.ends_with("deps") {
                beside.parent().unwrap_or(beside).to_owned()
            } else {
                beside.to_owned()
            }
        }
    };
    let path = directory.join(name);
    if !path.is_file() {
        bail!("{} is not built: run `cargo build --workspace --all-targets`, or script/test", path.display());
    }
    Ok(path)
}
