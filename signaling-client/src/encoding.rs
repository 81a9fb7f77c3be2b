//! One encoding of a simulcast: which frame is due, its RTP packets with mid and rid, its repairs, its pauses and its
//! part of the sender report (RFC 8853, RFC 8852, RFC 4588). Has no clock: times count from when the publication began.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use rtc::rtcp::sender_report::SenderReport;

use crate::ivf::Film;
use crate::payload::{Payloads, TemporalPattern};
use crate::peer::rtp::RtpHeader;

/// Ticks per second of every picture.
const CLOCK_RATE: u32 = 90_000;
/// Packets that can be sent again: two seconds of 5 Mbit/s.
const KEPT: usize = 1024;
/// The longest RID (what fits into a one-byte header extension).
const LONGEST_RID: usize = 16;

/// The name of an encoding (RFC 8851).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rid(String);

/// A time without an encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Which.
    pub rid: Rid,
    /// From when on.
    pub from: Duration,
    /// Until when; for ever without.
    pub until: Option<Duration>,
}

/// What a receiver agreed to find in the packets; the ids of header extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Of the picture.
    pub payload_type: u8,
    /// Of its repairs.
    pub repair_payload_type: Option<u8>,
    /// The section.
    pub mid: String,
    /// Where the mid goes.
    pub mid_extension: Option<u8>,
    /// Where the rid goes.
    pub rid_extension: Option<u8>,
    /// Where the rid of a repair goes.
    pub repaired_rid_extension: Option<u8>,
}

/// What was sent of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodingSent {
    /// Packets, repairs apart.
    pub packets: u64,
    /// Bytes of their payloads.
    pub octets: u64,
    /// Frames.
    pub frames: u64,
    /// Of these, keyframes.
    pub keyframes: u64,
    /// Keyframes that were asked for.
    pub asked: u64,
    /// Packets sent again.
    pub repairs: u64,
}

/// One encoding.
#[derive(Debug)]
pub struct Encoding {
    rid: Rid,
    film: Film,
    payloads: Payloads,
    pauses: Vec<Pause>,
    /// SSRC of the pictures, and of their repairs.
    ssrcs: (u32, u32),
    agreed: Agreed,
    /// The header of its next packet but for time and marker, and of its next repair.
    next: RtpHeader,
    next_repair: RtpHeader,
    /// Where its clock began.
    origin: u32,
    frame: usize,
    due: Duration,
    /// Nothing but a keyframe may come next.
    waits_for_keyframe: bool,
    kept: VecDeque<(RtpHeader, Bytes)>,
    sent: EncodingSent,
}

impl Rid {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Rid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=LONGEST_RID).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Rid(text.to_owned()))
        } else {
            Err(format!("a RID has 1 to {LONGEST_RID} letters and digits"))
        }
    }
}

impl FromStr for Pause {
    type Err = String;

    /// `RID@FROM-UNTIL` in seconds; `RID@FROM-` for ever.
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = |text: &str| {
            let seconds = text.parse::<f64>().ok();
            seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        };
        let read = || {
            let (rid, times) = text.split_once('@')?;
            let (from, until) = times.split_once('-')?;
            let until = if until.is_empty() { None } else { Some(seconds(until)?) };
            Some(Pause { rid: rid.parse().ok()?, from: seconds(from)?, until })
        };
        read()
            .filter(|pause| pause.until.is_none_or(|until| until > pause.from))
            .ok_or_else(|| "use RID@FROM-UNTIL in seconds, such as h@5-12.5".to_owned())
    }
}

impl Encoding {
    /// An encoding that shows a film, but for its pauses.
    pub fn new(rid: Rid, film: Film, pattern: Option<TemporalPattern>, pauses: &[Pause]) -> Self {
        let ssrcs = (rand::random::<u32>().max(1), rand::random::<u32>().max(1));
        let header =
            |ssrc| RtpHeader { payload_type: 0, marker: false, number: rand::random(), timestamp: 0, ssrc };
        Encoding {
            pauses: pauses.iter().filter(|pause| pause.rid == rid).cloned().collect(),
            rid,
            film,
            payloads: Payloads::new(pattern),
            ssrcs,
            agreed: Agreed::default(),
            next: header(ssrcs.0),
            next_repair: header(ssrcs.1),
            origin: rand::random(),
            frame: 0,
            due: Duration::ZERO,
            waits_for_keyframe: true,
            kept: VecDeque::with_capacity(KEPT),
            sent: EncodingSent::default(),
        }
    }

    /// Its name.
    pub fn rid(&self) -> &Rid {
        &self.rid
    }

    /// SSRC of the pictures, and of their repairs.
    pub fn ssrcs(&self) -> (u32, u32) {
        self.ssrcs
    }

    /// What was sent so far.
    pub fn sent(&self) -> EncodingSent {
        self.sent
    }

    /// What the answer says, before anything is sent.
    pub fn agree(&mut self, agreed: Agreed) {
        self.next.payload_type = agreed.payload_type;
        self.next_repair.payload_type = agreed.repair_payload_type.unwrap_or_default();
        self.agreed = agreed;
    }

    /// When its next frame is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The picture goes on at the next keyframe of the file.
    pub fn handle_keyframe_request(&mut self) {
        self.sent.asked += 1;
        self.waits_for_keyframe = true;
    }

    /// The packets of the frame that is due; none while it is paused. What would have been due long ago is left out.
    pub fn poll(&mut self, now: Duration, slack: Duration) -> Vec<Vec<u8>> {
        let is_late = now > self.due + slack;
        let at = if is_late { now } else { self.due };
        let paused =
            self.pauses.iter().any(|pause| pause.from <= at && pause.until.is_none_or(|until| at < until));
        self.waits_for_keyframe |= paused || is_late;
        if self.waits_for_keyframe && !paused {
            self.frame = self.film.keyframe_from(self.frame);
        }
        let (number, timestamp) = (self.frame, self.origin.wrapping_add(ticks(at)));
        let (lasts, keyframe) = (self.film.frame(number).lasts, self.film.frame(number).keyframe);
        self.due = at + lasts;
        // A lap is a lap, so that the number never grows beyond the file.
        self.frame = (number + 1) % self.film.len();
        if paused {
            return Vec::new();
        }
        self.waits_for_keyframe = false;
        self.sent.frames += 1;
        self.sent.keyframes += u64::from(keyframe);
        let payloads = self.payloads.frame(&self.film, number);
        let last = payloads.len().saturating_sub(1);
        let packet = |(n, payload)| self.packet(payload, n == last, timestamp);
        payloads.into_iter().enumerate().map(packet).collect()
    }

    /// A packet again: under an SSRC of its own if that was agreed on, otherwise as it was. `None` for one that is not
    /// kept.
    pub fn repair(&mut self, number: u16) -> Option<Vec<u8>> {
        // The numbers are in a row.
        let first = self.kept.front()?.0.number;
        let (header, payload) = self.kept.get(usize::from(number.wrapping_sub(first)))?.clone();
        self.sent.repairs += 1;
        if self.agreed.repair_payload_type.is_none() {
            return Some(header.write(&self.extensions(self.agreed.rid_extension), &payload));
        }
        let repair = RtpHeader { timestamp: header.timestamp, marker: header.marker, ..self.next_repair };
        self.next_repair.number = self.next_repair.number.wrapping_add(1);
        let payload = [&header.number.to_be_bytes()[..], &payload].concat();
        Some(repair.write(&self.extensions(self.agreed.repaired_rid_extension), &payload))
    }

    /// Its part of the sender report: what its clock reads at a wall-clock time; `None` before anything was sent.
    pub fn report(&self, now: Duration, ntp_time: u64) -> Option<SenderReport> {
        (self.sent.packets > 0).then(|| SenderReport {
            ssrc: self.ssrcs.0,
            ntp_time,
            rtp_time: self.origin.wrapping_add(ticks(now)),
            packet_count: self.sent.packets as u32,
            octet_count: self.sent.octets as u32,
            ..SenderReport::default()
        })
    }

    fn packet(&mut self, payload: Bytes, marker: bool, timestamp: u32) -> Vec<u8> {
        let header = RtpHeader { marker, timestamp, ..self.next };
        let packet = header.write(&self.extensions(self.agreed.rid_extension), &payload);
        self.next.number = self.next.number.wrapping_add(1);
        self.sent.packets += 1;
        self.sent.octets += payload.len() as u64;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((header, payload));
        packet
    }

    fn extensions(&self, rid: Option<u8>) -> Vec<(u8, &[u8])> {
        let mid = self.agreed.mid_extension.map(|id| (id, self.agreed.mid.as_bytes()));
        mid.into_iter().chain(rid.map(|id| (id, self.rid.0.as_bytes()))).collect()
    }
}

/// A time in ticks of a picture's clock.
fn ticks(time: Duration) -> u32 {
    (time.as_nanos() * u128::from(CLOCK_RATE) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ivf::tests::vp8_file;
    use crate::peer::rtp::RtpPacket;
    use crate::video::VideoCodec;

    const SLACK: Duration = Duration::from_millis(200);

    fn encoding(pauses: &[&str]) -> Encoding {
        let film =
            Film::read(vp8_file(&[(true, 2500), (false, 9), (false, 9), (true, 9), (false, 9)])).unwrap();
        let pauses: Vec<Pause> = pauses.iter().map(|pause| pause.parse().unwrap()).collect();
        let mut encoding = Encoding::new("h".parse().unwrap(), film, None, &pauses);
        encoding.agree(Agreed {
            payload_type: 96,
            repair_payload_type: Some(97),
            mid: "1".to_owned(),
            mid_extension: Some(4),
            rid_extension: Some(10),
            repaired_rid_extension: Some(11),
        });
        encoding
    }

    /// The next frames: whether each is a keyframe, and how many ticks after the first one.
    fn frames(encoding: &mut Encoding, count: usize) -> Vec<(bool, u32)> {
        let frame = |_| {
            let packets = encoding.poll(encoding.due(), SLACK);
            let packet = RtpPacket::read(packets.first()?)?;
            let since = packet.header.timestamp.wrapping_sub(encoding.origin);
            Some((VideoCodec::Vp8.begins_keyframe(packet.payload), since))
        };
        (0..count).filter_map(frame).collect()
    }

    #[test]
    fn a_film_loops_and_its_clock_goes_on() {
        let shown = frames(&mut encoding(&[]), 7);
        assert_eq!(
            shown.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            [true, false, false, true, false, true, false]
        );
        assert_eq!(
            shown.iter().map(|(_, at)| *at).collect::<Vec<_>>(),
            [0, 3600, 7200, 10_800, 14_400, 18_000, 21_600]
        );
    }

    #[test]
    fn a_keyframe_request_goes_on_at_the_next_keyframe_of_the_file() {
        let mut encoding = encoding(&[]);
        frames(&mut encoding, 2);
        encoding.handle_keyframe_request();
        assert_eq!(frames(&mut encoding, 2), [(true, 7200), (false, 10_800)]);
        encoding.handle_keyframe_request();
        assert_eq!(frames(&mut encoding, 1), [(true, 14_400)]);
        assert_eq!(encoding.sent().asked, 2);
    }

    #[test]
    fn packets_carry_mid_and_rid_and_the_last_of_a_frame_the_marker() {
        let mut encoding = encoding(&[]);
        let packets = encoding.poll(Duration::ZERO, SLACK);
        assert_eq!(packets.len(), 3);
        for (n, packet) in packets.iter().enumerate() {
            let packet = RtpPacket::read(packet).unwrap();
            assert_eq!((packet.extension(4), packet.extension(10)), (Some(&b"1"[..]), Some(&b"h"[..])));
            assert_eq!((packet.header.ssrc, packet.header.payload_type), (encoding.ssrcs().0, 96));
            assert_eq!(packet.header.marker, n == 2);
        }
    }

    #[test]
    fn a_repair_names_what_it_repairs() {
        let mut encoding = encoding(&[]);
        let packets = encoding.poll(Duration::ZERO, SLACK);
        let lost = RtpPacket::read(&packets[1]).unwrap();
        let repair = encoding.repair(lost.header.number).unwrap();
        let repair = RtpPacket::read(&repair).unwrap();
        assert_eq!((repair.header.ssrc, repair.header.payload_type), (encoding.ssrcs().1, 97));
        assert_eq!((repair.extension(11), repair.extension(10)), (Some(&b"h"[..]), None));
        assert_eq!(repair.payload, [&lost.header.number.to_be_bytes()[..], lost.payload].concat());
        assert_eq!(encoding.repair(lost.header.number.wrapping_add(100)), None);
    }

    #[test]
    fn what_was_paused_comes_back_with_a_keyframe() {
        // Frames are due at 0, 40, 80, 120, 160, 200 ms; the keyframes of the file are the first and the fourth.
        let mut encoding = encoding(&["h@0.04-0.16", "l@0-9"]);
        let shown = frames(&mut encoding, 6);
        assert_eq!(shown, [(true, 0), (true, 14_400), (false, 18_000)]);
    }

    #[test]
    fn a_machine_that_was_too_slow_leaves_frames_out_and_stays_on_the_clock() {
        let mut encoding = encoding(&[]);
        encoding.poll(Duration::ZERO, SLACK);
        let packets = encoding.poll(Duration::from_secs(1), SLACK);
        let packet = RtpPacket::read(&packets[0]).unwrap();
        assert_eq!(packet.header.timestamp.wrapping_sub(encoding.origin), 90_000);
        assert!(VideoCodec::Vp8.begins_keyframe(packet.payload));
        assert_eq!(encoding.due(), Duration::from_millis(1040));
    }

    #[test]
    fn a_report_says_what_the_clock_of_the_packets_reads() {
        let mut encoding = encoding(&[]);
        assert!(encoding.report(Duration::ZERO, 7).is_none());
        encoding.poll(Duration::ZERO, SLACK);
        let report = encoding.report(Duration::from_millis(500), 7).unwrap();
        assert_eq!((report.ntp_time, report.rtp_time.wrapping_sub(encoding.origin)), (7, 45_000));
        assert_eq!((report.packet_count, report.ssrc), (3, encoding.ssrcs().0));
    }

    #[test]
    fn pauses_are_read_and_mistakes_refused() {
        let pause: Pause = "h@5-12.5".parse().unwrap();
        assert_eq!(
            (pause.rid.as_str(), pause.from.as_secs(), pause.until.unwrap().as_millis()),
            ("h", 5, 12_500)
        );
        assert_eq!("h@5-".parse::<Pause>().unwrap().until, None);
        for wrong in ["h", "h@5", "@1-2", "h@2-1", "h@a-b", "h@-1-2", "a b@1-2"] {
            assert!(wrong.parse::<Pause>().is_err(), "{wrong}");
        }
    }
}
