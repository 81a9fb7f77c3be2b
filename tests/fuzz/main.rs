//! Every parser of bytes from outside, fed its corpus and mutations of it: nothing may panic, and no input
//! may take long. What is fed to what is in `targets.rs`, how inputs are made in `mutation.rs`.
//!
//! `script/test fuzz` is a bounded run with a fixed seed. `FUZZ_SECONDS=600 script/test fuzz sdp` looks
//! longer at one target, with another seed each time (`FUZZ_SEED` replays one); `FUZZ_RUNS=1000000` feeds so many
//! mutations. `script/fuzz` runs the same
//! targets led by coverage, and what it finds lies in the same corpora. An input that breaks
//! something is written beside the corpus of its target; keep it there with the fix.

mod bridge;
mod descriptor;
mod disk;
mod http;
mod ladder;
mod mutation;
mod sessions;
mod targets;
#[path = "../../media/tests/worker_sim/mod.rs"]
#[allow(clippy::unwrap_used, reason = "made for the tests of media")]
mod worker_sim;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use mutation::Mutation;
use targets::Target;

/// No input takes longer. A hundred times what any of them needs on a quiet machine: a loop that does not
/// end is found, a machine that is busy is forgiven.
const SLOW: Duration = Duration::from_secs(2);

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |target: &Target| filters.is_empty() || filters.iter().any(|f| target.name.contains(f));
    let seconds: Option<u64> = number("FUZZ_SECONDS");
    let runs: Option<u64> = number("FUZZ_RUNS");
    let seed = number("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { rand::random() } else { 1 });
    let (mut passed, mut failed) = (0, 0);
    for target in targets::all().iter().filter(|target| wanted(target)) {
        let runs = runs.unwrap_or(target.runs as u64);
        match fuzz(target, seed, runs, seconds.map(Duration::from_secs)) {
            Ok(said) => {
                passed += 1;
                println!("fuzz {:<16} ok      {said}", target.name);
            }
            Err(said) => {
                failed += 1;
                println!("fuzz {:<16} FAILED  {said}", target.name);
            }
        }
    }
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        std::process::exit(1);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn corpus_of(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn fuzz(target: &Target, seed: u64, most: u64, time: Option<Duration>) -> Result<String, String> {
    let mut corpus: Vec<Vec<u8>> = (target.samples)();
    let kept = fs::read_dir(corpus_of(target)).into_iter().flatten();
    let mut kept: Vec<PathBuf> = kept.flatten().map(|entry| entry.path()).collect();
    kept.sort();
    for path in &kept {
        corpus.push(fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    let began = tests::now();
    let mut slowest = Duration::ZERO;
    let mut feed = |input: &[u8], what: &str| {
        let start = tests::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| (target.feed)(input))).is_err();
        slowest = slowest.max(start.elapsed());
        if panicked || start.elapsed() > SLOW {
            let path = corpus_of(target).join(format!("found-{:016x}", sum(input)));
            let written = fs::create_dir_all(corpus_of(target)).and_then(|()| fs::write(&path, input));
            let why = if panicked { "panicked" } else { "took too long" };
            let place = written.map_or_else(|error| error.to_string(), |()| path.display().to_string());
            return Err(format!("{why} at {what}, seed {seed}: {place}"));
        }
        Ok(())
    };
    for (index, input) in corpus.iter().enumerate() {
        feed(input, &format!("entry {index} of the corpus"))?;
    }
    let mut mutation = Mutation::new(seed ^ sum(target.name.as_bytes()));
    let mut runs = 0;
    while time.map_or(runs < most, |time| began.elapsed() < time) {
        feed(&mutation.of(&corpus, target.longest), &format!("input {runs}"))?;
        runs += 1;
    }
    Ok(format!(
        "{} in the corpus, {runs} mutations, slowest {:.1} ms",
        corpus.len(),
        slowest.as_secs_f64() * 1e3
    ))
}

/// A name for an input: FNV-1a, so that no crate is needed for it.
fn sum(input: &[u8]) -> u64 {
    input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
