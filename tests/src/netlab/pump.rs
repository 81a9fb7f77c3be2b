//! The thread that carries packets between the devices of a lab: reads, asks the lanes, writes when it is
//! time. What happens to a packet is the emulator's.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};

use super::{
    emulator::Lane,
    kernel::{Waiting, go_first},
};
use crate::clock::now;

/// Packets taken from one device before the others are looked at.
const TURN: usize = 64;

/// A lane, shared by the pump and by whoever changes it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Lane>>);

impl Shared {
    /// A lane of its own.
    pub fn new(lane: Lane) -> Shared {
        Shared(Arc::new(Mutex::new(lane)))
    }

    /// The lane. Nobody holds it for longer than a packet takes.
    pub fn lane(&self) -> MutexGuard<'_, Lane> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What enters at one device and comes out at another.
#[derive(Debug)]
pub struct Way {
    /// Read.
    pub from: File,
    /// Written.
    pub to: File,
    /// What happens between.
    pub lane: Shared,
}

/// The running thread. Dropping it ends the thread and closes the devices.
#[derive(Debug)]
pub struct Pump {
    thread: Option<JoinHandle<()>>,
    /// Closed to stop the thread.
    alive: Option<io::PipeWriter>,
}

impl Pump {
    /// Carries packets along these ways from now on.
    pub fn start(mut ways: Vec<Way>) -> Result<Pump> {
        let (stopped, alive) = io::pipe()?;
        let stopped = File::from(std::os::fd::OwnedFd::from(stopped));
        let thread = thread::Builder::new()
            .name("pump".to_owned())
            .spawn(move || {
                go_first();
                if let Err(error) = carry(&mut ways, &stopped) {
                    eprintln!("the emulator of the lab ended: {error}");
                }
            })
            .context("starting the emulator's thread")?;
        Ok(Pump { thread: Some(thread), alive: Some(alive) })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(ways: &mut [Way], stopped: &File) -> io::Result<()> {
    let mut waiting = Waiting::on(ways.iter().map(|way| &way.from).chain([stopped]));
    let mut buffer = vec![0; 65536];
    loop {
        let next = ways.iter().filter_map(|way| way.lane.lane().poll_timeout()).min();
        waiting.wait(next.map(|at| at.saturating_duration_since(now())))?;
        for at in waiting.ready() {
            let Some(way) = ways.get_mut(at) else { return Ok(()) };
            for _ in 0..TURN {
                // A device that is down says so in an error; it comes back, and until then it brings nothing.
                let Ok(length) = way.from.read(&mut buffer) else { break };
                way.lane.lane().handle_packet(&buffer[..length], now());
            }
        }
        for way in &mut *ways {
            loop {
                let packet = way.lane.lane().poll_packet(now());
                let Some(packet) = packet else { break };
                let _ = way.to.write(&packet);
            }
        }
    }
}
