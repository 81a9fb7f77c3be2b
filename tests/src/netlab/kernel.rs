//! What only the kernel can do for a lab: a network namespace, a TUN device, waiting for many devices with
//! a deadline of microseconds. The one file of the harness with unsafe code: these calls have no safe form
//! in the standard library.
#![expect(unsafe_code, reason = "unshare, the TUNSETIFF ioctl, ppoll, priorities")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    ptr,
    time::Duration,
};

/// Gives the calling thread, and what it starts from now on, a network namespace of its own.
/// The namespace is open as the file that is returned; it goes with the last thread, process and file of it.
pub fn own_namespace() -> io::Result<File> {
    // SAFETY: takes a number and touches no memory of ours.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    File::open("/proc/thread-self/ns/net")
}

/// A new TUN device in the calling thread's namespace: IP packets, no header, reads that do not wait.
pub fn tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is too long for a device"),
        ));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an `ifreq`, which lives through the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl with F_GETFL and F_SETFL takes numbers only.
    let done = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// The files that a thread waits for.
pub struct Waiting(Vec<libc::pollfd>);

impl Waiting {
    /// These, in order. They have to stay open for as long as this is used.
    pub fn on<'a>(files: impl IntoIterator<Item = &'a File>) -> Waiting {
        let poll = |file: &File| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        Waiting(files.into_iter().map(poll).collect())
    }

    /// Waits until one of them can be read, or for `limit`.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let time = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        });
        let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the array and the time live through the call; no signal mask is given.
        let ready =
            unsafe { libc::ppoll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, time, ptr::null()) };
        match ready {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()).or_else(|error| match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            }),
        }
    }

    /// Which of them can be read, by position.
    pub fn ready(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, poll)| poll.revents != 0).map(|(at, _)| at)
    }
}

/// Asks that the calling thread and the programs it starts go before ordinary ones, each in turn, so that a lab
/// on a busy machine measures what is in it and not the machine. Without the privilege nothing changes.
pub fn prefer() -> bool {
    schedule(libc::SCHED_RR, 1)
}

/// Asks that the calling thread goes before those too: what carries packets must not be late.
pub fn go_first() -> bool {
    schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 10)
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let wanted = libc::sched_param { sched_priority: priority };
    // SAFETY: reads `wanted`, which lives through the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const wanted) == 0 }
}
