//! One fuzz target under libFuzzer; which one is in `FUZZ_TARGET`. `script/fuzz` builds and runs it.

#![no_main]
#![allow(clippy::unwrap_used, reason = "what is built of the tests is a test")]
#![allow(dead_code, reason = "the simulations are made for more than is used here")]

#[path = "../../bridge.rs"]
mod bridge;
#[path = "../../descriptor.rs"]
mod descriptor;
#[path = "../../disk.rs"]
mod disk;
#[path = "../../http.rs"]
mod http;
#[path = "../../ladder.rs"]
mod ladder;
#[path = "../../sessions.rs"]
mod sessions;
#[path = "../../targets.rs"]
mod targets;
#[path = "../../../../media/tests/worker_sim/mod.rs"]
mod worker_sim;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = targets::all().into_iter().find(|target| target.name == wanted);
    target.unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET={wanted:?} is none of:");
        targets::all().iter().for_each(|target| eprintln!("  {}", target.name));
        std::process::exit(64);
    })
});

fuzz_target!(
    init: {
        // The samples that the code makes of itself, for libFuzzer to start from.
        if let Ok(folder) = std::env::var("FUZZ_SAMPLES") {
            for (index, sample) in (TARGET.samples)().iter().enumerate() {
                std::fs::write(format!("{folder}/sample-{index}"), sample).unwrap();
            }
        }
    },
    |input: &[u8]| {
        if input.len() <= TARGET.longest {
            (TARGET.feed)(input);
        }
    }
);
