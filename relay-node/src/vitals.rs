//! Whether the threads that a relay cannot do without are alive. Each has a [`Pulse`] that it beats; one that
//! goes without being told to ends the process, so that a supervisor starts a relay that is whole, instead of
//! one that looks alive and serves nobody.
//!
//! Knows nothing of what the threads do. `GET /livez` and `GET /readyz` ask here.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::clock;

/// How often a thread that has nothing to do beats.
pub const BEAT: Duration = Duration::from_millis(500);
/// A thread that has not beaten for so long is stuck.
const STUCK: Duration = Duration::from_secs(2);
/// The same for a thread that waits for a disk, where `/livez` is asked: an SD card may take seconds, and
/// sound must not end for that.
const STUCK_DISK: Duration = Duration::from_secs(30);

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Packets, messages, time: never long.
    Serve,
    /// A disk.
    Disk,
    /// It does not beat: only its end is noticed.
    Unbeaten,
}

/// All pulses of a relay.
#[derive(Clone)]
pub struct Vitals(Arc<Inner>);

struct Inner {
    began: Instant,
    threads: Mutex<Vec<Arc<Thread>>>,
    ended: Box<dyn Fn(&str) + Send + Sync>,
}

struct Thread {
    name: String,
    work: Work,
    /// Milliseconds since `began` at the last beat.
    beaten: AtomicU64,
    finished: AtomicBool,
}

/// A thread that does not beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Its name.
    pub name: String,
    /// For how long.
    pub silent: Duration,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread {} has been stuck for {} s", self.name, self.silent.as_secs())
    }
}

impl Vitals {
    /// `ended` is told the name of a thread that goes without having finished, on that thread.
    pub fn new(now: Instant, ended: impl Fn(&str) + Send + Sync + 'static) -> Vitals {
        Vitals(Arc::new(Inner { began: now, threads: Mutex::default(), ended: Box::new(ended) }))
    }

    /// The pulse of a thread that is about to start.
    pub fn pulse(&self, name: &str, work: Work, now: Instant) -> Pulse {
        let beaten = AtomicU64::new(self.0.since(now));
        let thread = Thread { name: name.to_owned(), work, beaten, finished: AtomicBool::new(false) };
        let thread = Arc::new(thread);
        self.0.threads().push(thread.clone());
        Pulse { vitals: self.clone(), thread, begun: false }
    }

    /// A thread that is so stuck that the process should be started anew.
    pub fn dead(&self, now: Instant) -> Option<Silent> {
        self.longest(now, |work| match work {
            Work::Serve => Some(STUCK),
            Work::Disk => Some(STUCK_DISK),
            Work::Unbeaten => None,
        })
    }

    /// A thread that is so stuck that others should be asked instead.
    pub fn stuck(&self, now: Instant) -> Option<Silent> {
        self.longest(now, |work| (work != Work::Unbeaten).then_some(STUCK))
    }

    /// How long ago each thread has beaten.
    pub fn ages(&self, now: Instant) -> Vec<Silent> {
        let beating = |thread: &&Arc<Thread>| thread.work != Work::Unbeaten;
        self.0.threads().iter().filter(beating).map(|thread| self.0.age(thread, now)).collect()
    }

    fn longest(&self, now: Instant, bound: impl Fn(Work) -> Option<Duration>) -> Option<Silent> {
        let threads = self.0.threads();
        let stuck = threads.iter().filter_map(|thread| {
            let bound = bound(thread.work).filter(|_| !thread.finished.load(Ordering::Relaxed))?;
            Some(self.0.age(thread, now)).filter(|age| age.silent >= bound)
        });
        stuck.max_by_key(|age| age.silent)
    }
}

impl Inner {
    fn since(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    fn age(&self, thread: &Thread, now: Instant) -> Silent {
        let silent = self.since(now).saturating_sub(thread.beaten.load(Ordering::Relaxed));
        Silent { name: thread.name.clone(), silent: Duration::from_millis(silent) }
    }

    /// A thread that panicked has left the list whole: nothing but a push happens under the lock.
    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Thread>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's sign of life. Dropped between [`Pulse::begin`] and [`Pulse::finish`], it says that the thread
/// has died.
pub struct Pulse {
    vitals: Vitals,
    thread: Arc<Thread>,
    begun: bool,
}

impl Pulse {
    /// The pulse of a thread that nobody watches: in tests and benchmarks.
    pub fn unwatched() -> Pulse {
        let now = clock::now();
        Vitals::new(now, |_| {}).pulse("", Work::Unbeaten, now)
    }

    /// The thread runs: from now on it is missed.
    pub fn begin(&mut self, now: Instant) {
        self.begun = true;
        self.beat(now);
    }

    /// The thread is alive. Costs a store.
    pub fn beat(&self, now: Instant) {
        self.thread.beaten.store(self.vitals.0.since(now), Ordering::Relaxed);
        #[cfg(debug_assertions)]
        fault::meet(&self.thread.name);
    }

    /// The thread ends as it should.
    pub fn finish(self) {
        self.thread.finished.store(true, Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // One that never began was not missed either: what kept it from beginning is said elsewhere.
        if !self.thread.finished.swap(true, Ordering::Relaxed) && self.begun {
            (self.vitals.0.ended)(&self.thread.name);
        }
    }
}

/// Faults for the process tests, in development builds alone: the file that `PEDDLENET_FAULT` names holds the
/// name of a thread and what befalls it, `panic` or `hang`.
#[cfg(debug_assertions)]
mod fault {
    use std::{path::PathBuf, sync::LazyLock, time::Duration};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("PEDDLENET_FAULT").map(PathBuf::from));

    #[expect(clippy::disallowed_methods, reason = "a thread that hangs is what is asked for")]
    pub(super) fn meet(name: &str) {
        let Some(file) = &*FILE else { return };
        loop {
            let asked = std::fs::read_to_string(file).unwrap_or_default();
            match asked.trim().strip_prefix(name).map(str::trim) {
                Some("panic") => panic!("a fault was asked for"),
                Some("hang") => std::thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn watched() -> (Vitals, mpsc::Receiver<String>, Instant) {
        let (ended, ends) = mpsc::channel();
        let now = clock::now();
        (Vitals::new(now, move |name| ended.send(name.to_owned()).unwrap()), ends, now)
    }

    #[test]
    fn a_thread_that_goes_without_a_word_is_noticed() {
        let (vitals, ends, now) = watched();
        let begun = |name, work| {
            let mut pulse = vitals.pulse(name, work, now);
            pulse.begin(now);
            pulse
        };
        begun("finished", Work::Serve).finish();
        drop(vitals.pulse("never begun", Work::Serve, now));
        let panicking = begun("panicking", Work::Serve);
        let returning = begun("returning", Work::Unbeaten);
        let thread = std::thread::spawn(move || {
            panicking.beat(now);
            panic!("a defect");
        });
        assert!(thread.join().is_err());
        assert_eq!(ends.try_recv().as_deref(), Ok("panicking"));
        std::thread::spawn(move || drop(returning)).join().unwrap();
        assert_eq!(ends.try_recv().as_deref(), Ok("returning"));
        assert!(ends.try_recv().is_err());
    }

    #[test]
    fn a_stuck_thread_is_named_and_a_slow_disk_kills_nobody() {
        let (vitals, _ends, now) = watched();
        let media = vitals.pulse("media-0", Work::Serve, now);
        let store = vitals.pulse("store", Work::Disk, now);
        let http = vitals.pulse("http", Work::Unbeaten, now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!((vitals.dead(at(1)), vitals.stuck(at(1))), (None, None));
        media.beat(at(3));
        let silent =
            |name: &str, seconds| Some(Silent { name: name.into(), silent: Duration::from_secs(seconds) });
        assert_eq!((vitals.dead(at(3)), vitals.stuck(at(3))), (None, silent("store", 3)));
        store.beat(at(5));
        assert_eq!((vitals.dead(at(5)), vitals.stuck(at(5))), (silent("media-0", 2), silent("media-0", 2)));
        media.beat(at(40));
        assert_eq!(vitals.dead(at(40)), silent("store", 35));
        // One that has ended as it should is not missed.
        store.finish();
        assert_eq!((vitals.dead(at(41)), vitals.stuck(at(41))), (None, None));
        media.finish();
        http.finish();
    }
}
