//! Memory that a crowd left behind goes back to the system. The C library keeps what is freed between what is still
//! in use: without this a relay would stay as large as its worst minute made it.
#![allow(unsafe_code, reason = "malloc_trim is a C function; it has no preconditions")]

use std::time::Duration;

use crate::{clock, places::Places};

const EVERY: Duration = Duration::from_secs(2);
/// So many have to have left before it is worth a look at every page.
const LEFT_MIN: usize = 64;
/// When it is looked once more: sessions of those who left without a word end 30 s after the last one heard of them.
const ONCE_MORE: Duration = Duration::from_secs(35);

/// Watches how many places are taken; after a crowd has left, what is free is given back. Never ends.
pub async fn give_back(places: Vec<Places>) {
    let mut most = 0;
    let mut once_more = None;
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let taken = places.iter().map(Places::taken).sum();
        most = most.max(taken);
        let due = once_more.take_if(|at| *at <= clock::now()).is_some();
        let left = most - taken >= LEFT_MIN;
        if left {
            most = taken;
            once_more = Some(clock::now() + ONCE_MORE);
        }
        if left || due {
            // It takes milliseconds for each hundred MiB.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: any thread may call it at any time.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
