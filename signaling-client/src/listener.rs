//! One of very many listeners: counts the packets of its tracks by their headers, which SRTP leaves in the clear, and
//! answers receiver reports and transport-wide feedback. Of sound that is stamped every fifth packet is opened for its
//! delay, of pictures none. Sockets and clock are [`crate::audience`]'s.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtp::header::Header;
use rtc::shared::marshal::Marshal as _;

use crate::downlink::Downlink;
use crate::feedback::Feedback;
use crate::hearing::Heard;
use crate::histogram::Histogram;
use crate::peer::rtp::RtpPacket;
use crate::peer::{Came, Peer, Standing};
use crate::reception::{Arrival, Reception};
use crate::stamp;

/// How often it reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Packets that are opened to find out whether they are stamped.
const TRIED: u32 = 3;
/// One of so many stamped packets is opened.
const OPENED: u32 = 5;
/// A sender report (RFC 3550 section 6.4.1).
const SENDER_REPORT: u8 = 200;

/// What is asked of a listener.
pub(crate) struct Asked {
    /// Its narrow wire.
    pub(crate) downlink: Option<Downlink>,
    /// Where packets have their transport-wide number.
    pub(crate) transport_cc: Option<u8>,
}

/// One listener that is connected.
pub(crate) struct Listener {
    peer: Peer,
    ssrc: u32,
    tracks: Vec<Track>,
    downlink: Option<Downlink>,
    feedback: Option<(u8, Feedback)>,
    /// The SSRC of the packet that came last: what feedback says it is about.
    media_ssrc: u32,
    report_due: Instant,
    transmits: VecDeque<Vec<u8>>,
    opened: Opened,
    counted: Counted,
}

/// What a listener counted.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// When the first packet came.
    pub(crate) first: Option<Instant>,
    pub(crate) packets: u64,
    /// Packets while all were there.
    pub(crate) held_packets: u64,
    /// Bytes of RTP while all were there.
    pub(crate) held_octets: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    /// Packets that its narrow wire did not let through.
    pub(crate) narrowed: u64,
    /// Messages of transport-wide feedback.
    pub(crate) feedbacks: u64,
    pub(crate) delays: Histogram,
}

struct Track {
    heard: Heard,
    reception: Reception,
    /// Expected and lost packets when the last report was made.
    reported: (u64, u64),
    /// The middle of the NTP time of the last sender report, and when that came.
    sender_report: Option<(u32, Instant)>,
}

/// How much is opened.
#[derive(Default)]
struct Opened {
    came: u32,
    stamped: bool,
}

impl Listener {
    pub(crate) fn new(peer: Peer, tracks: Vec<Heard>, asked: Asked, now: Instant) -> Self {
        let ssrc = rand::random();
        let track = |heard: Heard| Track {
            reception: if heard.audio { Reception::audio() } else { Reception::video() },
            heard,
            reported: (0, 0),
            sender_report: None,
        };
        Listener {
            peer,
            ssrc,
            tracks: tracks.into_iter().map(track).collect(),
            downlink: asked.downlink,
            feedback: asked.transport_cc.map(|id| (id, Feedback::new(ssrc, now))),
            media_ssrc: 0,
            // Not all at once.
            report_due: now + REPORT_INTERVAL.mul_f64(rand::random::<f64>()),
            transmits: VecDeque::new(),
            opened: Opened::default(),
            counted: Counted::default(),
        }
    }

    /// A datagram that came `at`, as the kernel says; `unix_micros` is the wall clock then.
    pub(crate) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        at: Instant,
        unix_micros: u64,
        held: bool,
    ) {
        match self.peer.handle_datagram(from, datagram, at) {
            Came::Media => match &mut self.downlink {
                Some(downlink) => downlink.handle_datagram(datagram, at),
                None => self.count(datagram, at, unix_micros, held),
            },
            Came::Reports if datagram.get(1) == Some(&SENDER_REPORT) => self.handle_report(datagram, at),
            Came::Reports | Came::Nothing => {}
        }
    }

    /// What is due: consent, what the narrow wire let through, reports. `unix_micros` is the wall clock at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, unix_micros: u64, held: bool) {
        while let Some((at, datagram)) = self.downlink.as_mut().and_then(|downlink| downlink.poll(now)) {
            let ago = now.saturating_duration_since(at).as_micros();
            let then = unix_micros.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX));
            self.count(&datagram, at, then, held);
        }
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        if let Some((_, feedback)) = &mut self.feedback {
            let messages: Vec<Vec<u8>> = std::iter::from_fn(|| feedback.poll(self.media_ssrc, now)).collect();
            self.counted.feedbacks += messages.len() as u64;
            messages.iter().for_each(|message| self.report(message));
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            let reports = self.tracks.iter_mut().filter_map(|track| track.report(now)).collect();
            let report = ReceiverReport { ssrc: self.ssrc, reports, ..ReceiverReport::default() };
            if let Ok(message) = report.marshal() {
                self.report(&message);
            }
        }
    }

    /// The next datagram to send, and where to.
    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(own) = self.peer.poll_transmit() {
            return Some(own);
        }
        Some((self.peer.relay()?, self.transmits.pop_front()?))
    }

    /// Whether the relay ended it or went away.
    pub(crate) fn is_gone(&self) -> bool {
        self.peer.standing() == Standing::Gone
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// What it counted.
    pub(crate) fn counted(&mut self) -> Counted {
        let mut counted = std::mem::take(&mut self.counted);
        for track in &self.tracks {
            let reception = &track.reception;
            counted.packets += reception.packets();
            counted.lost += reception.lost();
            counted.duplicates += reception.duplicates();
            counted.gaps += reception.gaps_ms().count() as u64 + reception.more_gaps();
        }
        counted.narrowed = self.downlink.as_ref().map_or(0, Downlink::dropped);
        counted
    }

    fn count(&mut self, datagram: &[u8], at: Instant, unix_micros: u64, held: bool) {
        let Some(packet) = RtpPacket::read(datagram) else { return };
        let header = packet.header;
        if let Some((id, feedback)) = &mut self.feedback
            && let Some([high, low]) = packet.extension(*id)
        {
            feedback.handle_packet(u16::from_be_bytes([*high, *low]), at);
        }
        self.media_ssrc = header.ssrc;
        // Repairs and probes are no media.
        let Some(track) = self.tracks.iter_mut().find(|track| track.has(header.payload_type)) else { return };
        self.counted.first.get_or_insert(at);
        let counted = Header {
            version: 2,
            marker: header.marker,
            payload_type: header.payload_type,
            sequence_number: header.number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            ..Header::default()
        };
        if track.reception.handle_packet(&counted, at) == Arrival::Repeat {
            return;
        }
        if held {
            self.counted.held_packets += 1;
            self.counted.held_octets += datagram.len() as u64;
        }
        if track.heard.audio && self.opened.wants() {
            let opened = self.peer.secrets().and_then(|secrets| secrets.open_rtp(datagram));
            let stamp = opened.and_then(|opened| stamp::read(RtpPacket::read(&opened)?.payload));
            if let Some(delay) = stamp.and_then(|stamp| unix_micros.checked_sub(stamp)) {
                self.opened.stamped = true;
                self.counted.delays.add(Duration::from_micros(delay));
            }
        }
    }

    fn handle_report(&mut self, datagram: &[u8], at: Instant) {
        let opened = self.peer.secrets().and_then(|secrets| secrets.open_rtcp(datagram));
        let Some(report) = opened.as_deref().and_then(|opened| opened.first_chunk::<16>()) else { return };
        let ssrc = u32::from_be_bytes([report[4], report[5], report[6], report[7]]);
        let middle = u32::from_be_bytes([report[10], report[11], report[12], report[13]]);
        let of = |track: &&mut Track| track.reception.highest().is_some_and(|(source, _)| source == ssrc);
        if let Some(track) = self.tracks.iter_mut().find(of) {
            track.sender_report = Some((middle, at));
        }
    }

    fn report(&mut self, message: &[u8]) {
        if let Some(secrets) = self.peer.secrets()
            && let Ok(sealed) = secrets.seal_rtcp(message)
        {
            self.transmits.push_back(sealed.to_vec());
        }
    }
}

impl Counted {
    /// Adds what another counted; when the first packet came is not added.
    pub(crate) fn add(&mut self, other: &Counted) {
        self.packets += other.packets;
        self.held_packets += other.held_packets;
        self.held_octets += other.held_octets;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.gaps += other.gaps;
        self.narrowed += other.narrowed;
        self.feedbacks += other.feedbacks;
        self.delays.merge(&other.delays);
    }
}

impl Track {
    fn has(&self, payload_type: u8) -> bool {
        self.heard.codecs.iter().any(|(known, _)| *known == payload_type)
    }

    /// Its block of a receiver report (RFC 3550 section 6.4.1); `None` before a packet came.
    fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let (ssrc, highest) = self.reception.highest()?;
        let (packets, lost) = (self.reception.packets(), self.reception.lost());
        let expected = packets + lost;
        let (expected_before, lost_before) = std::mem::replace(&mut self.reported, (expected, lost));
        let lost_now = lost.saturating_sub(lost_before);
        let share = (lost_now * 256).checked_div(expected.saturating_sub(expected_before)).unwrap_or(0);
        let (last, delay) = match self.sender_report {
            Some((middle, at)) => {
                (middle, now.saturating_duration_since(at).as_nanos() * 65_536 / 1_000_000_000)
            }
            None => (0, 0),
        };
        Some(ReceptionReport {
            ssrc,
            fraction_lost: u8::try_from(share).unwrap_or(u8::MAX),
            total_lost: u32::try_from(lost).unwrap_or(u32::MAX).min(0x7f_ffff),
            last_sequence_number: highest,
            jitter: self.reception.jitter_ticks(),
            last_sender_report: last,
            delay: u32::try_from(delay).unwrap_or(u32::MAX),
        })
    }
}

impl Opened {
    /// Whether the packet that came is to be opened.
    fn wants(&mut self) -> bool {
        self.came = self.came.wrapping_add(1);
        if self.stamped { self.came.is_multiple_of(OPENED) } else { self.came <= TRIED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn header(number: u16) -> Header {
        Header { sequence_number: number, timestamp: u32::from(number) * 960, ssrc: 7, ..Header::default() }
    }

    #[test]
    fn a_report_says_what_was_lost_since_the_last_one() {
        let start = clock::now();
        let heard = Heard { audio: true, codecs: vec![(111, "opus".to_owned())] };
        let mut track = Track { heard, reception: Reception::audio(), reported: (0, 0), sender_report: None };
        assert!(track.report(start).is_none());
        [65_534, 65_535, 1, 2].iter().for_each(|number| {
            track.reception.handle_packet(&header(*number), start);
        });
        track.sender_report = Some((9, start));
        let report = track.report(start + Duration::from_millis(500)).unwrap();
        assert_eq!((report.ssrc, report.total_lost, report.fraction_lost), (7, 1, 51));
        assert_eq!((report.last_sequence_number, report.last_sender_report), (65_538, 9));
        assert_eq!(report.delay, 32_768);
        [3, 4].iter().for_each(|number| {
            track.reception.handle_packet(&header(*number), start);
        });
        let report = track.report(start).unwrap();
        assert_eq!((report.total_lost, report.fraction_lost), (1, 0));
    }

    #[test]
    fn sound_without_stamps_is_opened_three_times_and_stamped_sound_every_fifth() {
        let mut opened = Opened::default();
        assert_eq!((0..100).filter(|_| opened.wants()).count(), 3);
        opened.stamped = true;
        assert_eq!((0..100).filter(|_| opened.wants()).count(), 20);
    }
}
