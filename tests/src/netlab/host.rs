//! One machine of a lab: a network namespace, and the thread that lives in it. Whatever is run on that thread
//! sees this machine's network and no other; programs it starts do too.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::{self, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::kernel;

/// A namespace with a thread. It has no name in the file system: it goes when this is dropped and the
/// programs that were started in it have ended, whichever way this process ends.
#[derive(Debug)]
pub struct Host {
    name: String,
    runtime: Handle,
    namespace: File,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// A machine without any network but its loopback.
    pub async fn new(name: &str) -> Result<Host> {
        let (ready, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("host {name}")).spawn(move || {
            let begun = (|| {
                let namespace = kernel::own_namespace().context("making a network namespace")?;
                kernel::prefer();
                anyhow::Ok((namespace, Builder::new_current_thread().enable_all().build()?))
            })();
            match begun {
                Ok((namespace, runtime)) => {
                    let _ = ready.send(Ok((namespace, runtime.handle().clone())));
                    let _ = runtime.block_on(stopped);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let (namespace, runtime) = told.recv().context("the host's thread is gone")??;
        let host = Host { name: name.to_owned(), runtime, namespace, stop: Some(stop), thread: Some(thread) };
        host.ip("link set lo up\n").await?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where another program finds the namespace: `nsenter --net=PATH`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.namespace.as_raw_fd())
    }

    /// Runs something here: sockets it opens and programs it starts are this machine's.
    pub async fn run<F>(&self, work: F) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(work).await.map_err(|error| anyhow!("on {}: {error}", self.name))
    }

    /// The same in the background.
    pub fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(work)
    }

    /// Makes a TUN device.
    pub async fn tun(&self, name: &str) -> Result<File> {
        let device = name.to_owned();
        self.run(async move { kernel::tun(&device) })
            .await?
            .with_context(|| format!("making the device {name}"))
    }

    /// Commands of `ip`, one a line.
    pub async fn ip(&self, commands: &str) -> Result<()> {
        let commands = commands.to_owned();
        self.run(async move {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("starting ip (Debian: iproute2)")?;
            let mut input = ip.stdin.take().context("ip has an input")?;
            input.write_all(commands.as_bytes()).await?;
            drop(input);
            let done = ip.wait_with_output().await?;
            if !done.status.success() {
                bail!("ip: {} in {commands:?}", String::from_utf8_lossy(&done.stderr).trim());
            }
            Ok(())
        })
        .await?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
