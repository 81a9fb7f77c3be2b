//! Very many listeners in one task: their sockets are read in batches, at a beat instead of when something comes, because
//! waking up for each packet costs more than the packet. When it came says the kernel, so that the beat is in no figure.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::pin::pin;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{self, Pace};
use crate::error::Error;
use crate::listener::{Counted, Listener};

/// Listeners that one task has.
pub(crate) const LISTENERS: u32 = 256;
/// A batch of datagrams that the kernel put together is no longer than this.
const LONGEST: usize = 65_536;
/// Datagrams read with one call.
const BATCH: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };
/// Calls in a row for one socket, so that nobody else waits for ever.
const MOST_CALLS: usize = 16;

/// Whether all listeners are there: then packets per second are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Ramp,
    Hold,
    Over,
}

/// A listener with its socket, and who wants to know what it counted and whether it was lost.
pub(crate) struct Seat {
    socket: UdpSocket,
    state: UdpSocketState,
    listener: Listener,
    done: oneshot::Sender<(Counted, bool)>,
}

/// Takes newcomers in and counts for them until it is over. A listener that is lost leaves at once.
pub(crate) async fn audience(
    mut newcomers: mpsc::Receiver<Seat>,
    phase: watch::Receiver<Phase>,
    beat: Duration,
) {
    let mut seats: Vec<Seat> = Vec::new();
    let mut buffer = vec![0; BATCH * LONGEST];
    let mut pace = Pace::new(beat, clock::now());
    let mut end = pin!(over(phase.clone()));
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            newcomer = newcomers.recv() => match newcomer {
                Some(newcomer) => seats.push(newcomer),
                None => break,
            },
            () = clock::sleep_until(pace.due()) => {
                pace.skip_missed(beat, clock::now());
                pace.advance();
                let held = *phase.borrow() == Phase::Hold;
                seats.iter_mut().for_each(|seat| seat.turn(&mut buffer, held));
                seats.extract_if(.., |seat| seat.listener.is_gone()).for_each(|seat| seat.leave(true));
            }
        }
    }
    for mut seat in seats {
        seat.turn(&mut buffer, false);
        seat.listener.close(clock::now());
        seat.flush();
        seat.leave(false);
    }
}

/// Waits for the end.
pub(crate) async fn over(mut phase: watch::Receiver<Phase>) {
    // The sender outlives all participants.
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

impl Seat {
    /// A seat. From here on the kernel notes when datagrams come.
    ///
    /// # Errors
    /// [`Error::Lost`] when the kernel refuses that.
    pub(crate) fn new(
        socket: UdpSocket,
        listener: Listener,
        done: oneshot::Sender<(Counted, bool)>,
    ) -> Result<Seat, Error> {
        let state = UdpSocketState::new((&socket).into()).map_err(|_| Error::Lost)?;
        Ok(Seat { socket, state, listener, done })
    }

    /// Reads everything that came and sends everything that is due.
    fn turn(&mut self, buffer: &mut [u8], held: bool) {
        let mut metas = [RecvMeta::default(); BATCH];
        for _ in 0..MOST_CALLS {
            let mut slices = buffer.chunks_exact_mut(LONGEST).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| slices.next().unwrap_or(IoSliceMut::new(&mut [])));
            // Nothing there, or a refusal by ICMP, which says nothing that consent does not say.
            let Ok(count) = self.state.recv((&self.socket).into(), &mut slices, &mut metas) else { break };
            let (now, unix_micros) = (clock::now(), clock::unix_micros());
            for (slice, meta) in slices.iter().zip(&metas[..count]) {
                let (at, came_micros) = arrival(meta.timestamp, now, unix_micros);
                let datagrams = slice[..meta.len.min(slice.len())].chunks(meta.stride.max(1));
                for datagram in datagrams {
                    self.listener.handle_datagram(meta.addr, datagram, at, came_micros, held);
                }
            }
            if count < BATCH {
                break;
            }
        }
        self.listener.handle_timeout(clock::now(), clock::unix_micros(), held);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some((to, datagram)) = self.listener.poll_transmit() {
            // What the kernel refuses is lost like any datagram.
            let _ = self.socket.send_to(&datagram, to);
        }
    }

    fn leave(mut self, lost: bool) {
        // Nobody may be waiting any more.
        let _ = self.done.send((self.listener.counted(), lost));
    }
}

/// When a datagram came by both clocks: what the kernel says, or now.
fn arrival(kernel: Option<Duration>, now: Instant, unix_micros: u64) -> (Instant, u64) {
    let micros = kernel.and_then(|kernel| u64::try_from(kernel.as_micros()).ok());
    let ago = micros.and_then(|micros| unix_micros.checked_sub(micros)).unwrap_or(0);
    match now.checked_sub(Duration::from_micros(ago)) {
        Some(at) => (at, unix_micros - ago),
        None => (now, unix_micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_came_when_the_kernel_says() {
        let now = clock::now() + Duration::from_secs(1);
        let kernel = Some(Duration::from_micros(1_000_000));
        assert_eq!(arrival(kernel, now, 1_030_000), (now - Duration::from_millis(30), 1_000_000));
        // A wall clock that was set back meanwhile.
        assert_eq!(arrival(kernel, now, 900_000), (now, 900_000));
        assert_eq!(arrival(None, now, 7), (now, 7));
    }
}
