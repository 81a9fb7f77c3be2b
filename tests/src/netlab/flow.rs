//! A flow of small UDP packets between two hosts of a lab, one every few milliseconds: for how long nothing
//! arrived says how long the way between them was broken.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    net::UdpSocket,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use super::Netlab;
use crate::clock::now;

/// Long enough to count as large on a wire.
const LENGTH: usize = 200;

/// A running flow. Dropping it ends it.
#[derive(Debug)]
pub struct Flow {
    name: String,
    every: Duration,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    tasks: [AbortHandle; 2],
}

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Flow {
    /// From one host's own address to another's, a packet every so often.
    pub async fn start(lab: &Netlab, from: &str, to: &str, every: Duration) -> Result<Flow> {
        let (here, there) = (lab.address(from), lab.address(to));
        let receiver = lab.host(to).run(UdpSocket::bind((there, 0))).await??;
        let target = receiver.local_addr()?;
        let sender = lab.host(from).run(UdpSocket::bind((here, 0))).await??;
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let seen = arrivals.clone();
        let began = now();
        let receiving = lab.host(to).spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let Ok(_) = receiver.recv(&mut buffer).await else { continue };
                let at = now();
                let sent = u64::from_be_bytes(buffer[..8].try_into().expect("eight bytes of a longer array"));
                let took = at.saturating_duration_since(began).saturating_sub(Duration::from_nanos(sent));
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(Arrival { at, took });
            }
        });
        let sending = lab.host(from).spawn(async move {
            let mut due = interval(every);
            due.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut packet = [0; LENGTH];
            loop {
                due.tick().await;
                packet[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_be_bytes());
                // No route at the moment: that is what is measured.
                let _ = sender.send_to(&packet, target).await;
            }
        });
        let tasks = [receiving.abort_handle(), sending.abort_handle()];
        Ok(Flow { name: format!("{from}→{to}"), every, arrivals, tasks })
    }

    /// From and to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What arrived so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether something arrived in the last tenth of a second.
    pub fn flows(&self) -> bool {
        self.arrivals().last().is_some_and(|last| last.at.elapsed() < Duration::from_millis(100))
    }

    /// The longest silence between `from` and `to`, beyond the time between two packets.
    pub fn gap(&self, from: Instant, to: Instant) -> Duration {
        let arrivals = self.arrivals();
        let before = arrivals.iter().rev().map(|arrival| arrival.at).find(|at| *at <= from).unwrap_or(from);
        let within = arrivals.iter().map(|arrival| arrival.at).filter(|at| (from..to).contains(at));
        let mut times: Vec<Instant> = [before].into_iter().chain(within).collect();
        if times.last().is_some_and(|last| to.saturating_duration_since(*last) > Duration::from_millis(100)) {
            times.push(to);
        }
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        longest.saturating_sub(self.every)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
