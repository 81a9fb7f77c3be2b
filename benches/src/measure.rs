//! What a thread has cost and what a process holds, as the kernel and the allocator count it.
#![expect(unsafe_code, reason = "clock_gettime and mallinfo2")]

/// CPU time of this thread, user and kernel, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Octets of heap in use in this process, whoever asked for them: Rust or the C of the crypto library.
pub fn heap_in_use() -> u64 {
    // SAFETY: it only reads the allocator's own counters.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// The middle one of some figures, and the lowest and highest.
pub fn median(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

/// The load of the machine over the last minute: how many threads wanted a core.
pub fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").expect("Linux has /proc");
    load.split(' ').take(1).collect()
}
