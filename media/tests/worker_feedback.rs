//! What a worker tells its peers: sender reports to listeners, reports and feedback to publishers, read by
//! `rtc-rtcp`.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use std::time::Instant;

use protocol::{Kind, mesh::SenderClock};
use rtc_rtcp::packet::{Packet, unmarshal};
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use worker_sim::*;

/// Every packet of one type that came to a peer.
fn came<P: Packet + Clone + 'static>(sim: &Sim, peer: usize) -> Vec<(Instant, P)> {
    let compounds = sim.peers[peer].reports.iter();
    compounds
        .flat_map(|(at, compound)| {
            let packets = unmarshal(&mut &compound[..]).expect("a valid compound packet");
            packets
                .into_iter()
                .filter_map(|packet| Some((*at, packet.as_any().downcast_ref::<P>()?.clone())))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// NTP time of the publisher at an instant of the simulation.
fn ntp(sim: &Sim, at: Instant) -> u64 {
    let seconds = at.duration_since(sim.start).as_secs_f64();
    (0xe000_0000_u64 << 32) + (seconds * 4_294_967_296.0) as u64
}

/// Plays both tracks for a while; the publisher's clock of both runs with the simulation's.
fn play(sim: &mut Sim, publisher: usize, packets: usize, base: [u32; 2], since: Instant) {
    for packet in 0..packets {
        let elapsed = sim.now.duration_since(since).as_secs_f64();
        let clock = [
            base[0].wrapping_add((elapsed * 48_000.0) as u32),
            base[1].wrapping_add((elapsed * 90_000.0) as u32),
        ];
        let at = ntp(sim, sim.now);
        let peer = &mut sim.peers[publisher];
        peer.feed(Kind::Audio).timestamp = clock[0];
        peer.publish(Kind::Audio, b"opus", false);
        if packet % 2 == 0 {
            peer.feed(Kind::Video).timestamp = clock[1];
            peer.publish(Kind::Video, &[0x10, u8::from(packet > 0), 1], true);
        }
        if packet % 25 == 0 {
            peer.send_report(Kind::Audio, SenderClock { ntp: at, rtp: clock[0] });
            peer.send_report(Kind::Video, SenderClock { ntp: at, rtp: clock[1] });
        }
        sim.run(ms(20));
    }
}

/// The wall clock time, in seconds, that a listener computes for the newest packet of each kind.
fn wall_clock(sim: &Sim, listener: usize, since: Instant) -> [f64; 2] {
    [(Kind::Audio, 48_000.0), (Kind::Video, 90_000.0)].map(|(kind, rate)| {
        let ssrc = sim.peers[listener].egress(kind).ssrc;
        let reports = came::<SenderReport>(sim, listener);
        let (_, report) =
            reports.iter().rfind(|(at, report)| report.ssrc == ssrc && *at > since).expect("a sender report");
        let newest = sim.peers[listener].got_media(kind).last().unwrap().timestamp;
        let ticks = newest.wrapping_sub(report.rtp_time) as i32;
        report.ntp_time as f64 / 4_294_967_296.0 + f64::from(ticks) / rate
    })
}

#[test]
fn sender_reports_keep_sound_and_picture_in_step_also_after_a_reload() {
    let mut sim = Sim::new(2, 1);
    let first = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let address = sim.peers[listener].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    let start = sim.now;
    play(&mut sim, first, 100, [5_000, 4_000_000_000], start);
    sim.run(ms(11));
    let in_step = |sim: &Sim, since: Instant, sent: Instant| {
        let [audio, video] = wall_clock(sim, listener, since);
        let truth = ntp(sim, sent) as f64 / 4_294_967_296.0;
        // the last sound left 20 ms before `sent`, the last picture 40 ms before
        assert!((truth - 0.020 - audio).abs() < 0.005, "sound is off by {}", truth - 0.020 - audio);
        assert!((truth - 0.040 - video).abs() < 0.005, "picture is off by {}", truth - 0.040 - video);
    };
    in_step(&sim, start, start + ms(2000));
    sim.close(first);
    sim.run(ms(700));
    let second = sim.publisher(offer!("chromium_publish"), 2);
    sim.connect();
    sim.peers[second].feed(Kind::Audio).reload(11, 9, 0);
    sim.peers[second].feed(Kind::Video).reload(22, 9, 0);
    let again = sim.now;
    play(&mut sim, second, 100, [77, 3_000_000], again);
    sim.run(ms(11));
    in_step(&sim, again + ms(50), again + ms(2000));
}

#[test]
fn the_first_sender_report_comes_with_the_first_packets() {
    let mut sim = Sim::new(1, 2);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    let start = sim.now;
    play(&mut sim, publisher, 10, [1, 2], start);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    play(&mut sim, publisher, 10, [1, 2], start);
    for kind in [Kind::Audio, Kind::Video] {
        let peer = &sim.peers[listener];
        let first = peer.got_media(kind)[0].at;
        let ssrc = peer.egress(kind).ssrc;
        let reports = came::<SenderReport>(&sim, listener);
        let (at, _) = reports.iter().find(|(_, report)| report.ssrc == ssrc).expect("a sender report");
        assert!(*at - first <= ms(50), "{kind:?} after {:?}", *at - first);
    }
}

#[test]
fn a_publisher_hears_what_arrived_of_its_packets() {
    let mut sim = Sim::new(1, 3);
    sim.up = Impairment { loss_percent: 10, jitter: ms(1) };
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    for _ in 0..30 {
        sim.frame(publisher, true, 5, 500);
        sim.run(ms(33));
    }
    for _ in 0..30 {
        sim.frame(publisher, true, 5, 500);
        sim.run(ms(33));
    }
    sim.up = Impairment::default();
    sim.frame(publisher, true, 5, 500);
    sim.run(ms(1100));
    let ssrc = sim.peers[publisher].feed(Kind::Video).ssrc;
    let reports = came::<ReceiverReport>(&sim, publisher);
    let block = reports.last().unwrap().1.reports.iter().find(|block| block.ssrc == ssrc).unwrap();
    assert_eq!(block.last_sequence_number & 0xffff, 100 + 304);
    assert_eq!(block.total_lost as usize, sim.lost_up);
    assert!(sim.lost_up > 10, "{}", sim.lost_up);
    let shares: Vec<u8> =
        reports.iter().flat_map(|(_, report)| &report.reports).map(|block| block.fraction_lost).collect();
    assert!(shares.iter().any(|share| (8..60).contains(share)), "{shares:?}");
}

#[test]
fn gaps_are_asked_for_and_repaired_gaps_no_more() {
    let mut sim = Sim::new(1, 4);
    sim.up = Impairment { loss_percent: 8, jitter: ms(2) };
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.up = Impairment::default();
    sim.frame(publisher, true, 2, 500);
    sim.run(ms(33));
    sim.up = Impairment { loss_percent: 8, jitter: ms(2) };
    sim.peers[publisher].repairs = true;
    for _ in 0..60 {
        sim.frame(publisher, false, 6, 500);
        sim.run(ms(33));
    }
    sim.up.loss_percent = 0;
    sim.run(SECOND);
    sim.frame(publisher, false, 1, 500);
    sim.run(SECOND);
    let asked: usize = came::<TransportLayerNack>(&sim, publisher)
        .iter()
        .flat_map(|(_, nack)| &nack.nacks)
        .map(|pair| pair.packet_list().len())
        .sum();
    assert!(asked >= 20, "{asked}");
    let mut numbers: Vec<u16> =
        sim.peers[listener].got_media(Kind::Video).iter().map(|got| got.sequence).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len(), 2 + 360 + 1, "all repaired");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once");
    let asked_late = came::<TransportLayerNack>(&sim, publisher);
    assert!(asked_late.iter().all(|(at, _)| sim.now - *at > SECOND), "nothing to ask any more");
}

#[test]
fn transport_wide_feedback_says_what_arrived_and_when() {
    let mut sim = Sim::new(1, 5);
    sim.up = Impairment { loss_percent: 5, jitter: ms(30) };
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    let first = sim.peers[publisher].transport_sequence;
    for _ in 0..100 {
        sim.frame(publisher, true, 4, 300);
        sim.peers[publisher].publish(Kind::Audio, b"opus", false);
        sim.run(ms(20));
    }
    sim.up = Impairment::default();
    sim.peers[publisher].publish(Kind::Audio, b"opus", false);
    sim.run(ms(200));
    let total = usize::from(sim.peers[publisher].transport_sequence.wrapping_sub(first));
    let mut told = vec![None; total];
    let feedbacks = came::<TransportLayerCc>(&sim, publisher);
    for (count, (_, feedback)) in feedbacks.iter().enumerate() {
        assert_eq!(feedback.fb_pkt_count, count as u8);
        let symbols: Vec<SymbolTypeTcc> = feedback
            .packet_chunks
            .iter()
            .flat_map(|chunk| match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    vec![run.packet_status_symbol; usize::from(run.run_length)]
                }
                PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
            })
            .take(usize::from(feedback.packet_status_count))
            .collect();
        assert_eq!(symbols.len(), usize::from(feedback.packet_status_count));
        let mut at = i64::from(feedback.reference_time) * 64_000;
        let mut deltas = feedback.recv_deltas.iter();
        for (step, symbol) in symbols.iter().enumerate() {
            let sequence = feedback.base_sequence_number.wrapping_add(step as u16);
            let place = &mut told[usize::from(sequence.wrapping_sub(first))];
            if *symbol == SymbolTypeTcc::PacketNotReceived {
                assert_eq!(*place, None, "{sequence} was told to have come, then to be lost");
            } else {
                at += deltas.next().unwrap().delta;
                let before = place.replace(at);
                assert!(
                    before.is_none_or(|before: i64| (before - at).abs() < 1000),
                    "one time for one packet"
                );
            }
        }
        assert_eq!(deltas.next(), None);
    }
    let arrived = told.iter().flatten().count();
    assert_eq!(arrived, total - sim.lost_up);
    assert!(sim.lost_up > 5);
    // packets of one frame were sent together: what is told differs by no more than the wire's jitter
    for frame in told.chunks(5) {
        let times: Vec<i64> = frame.iter().flatten().copied().collect();
        let spread = times.iter().max().unwrap_or(&0) - times.iter().min().unwrap_or(&0);
        assert!(spread <= 31_000, "{times:?}");
    }
}

#[test]
fn a_publisher_without_transport_wide_feedback_gets_an_estimate() {
    let offer =
        offer!("obs").replace("a=rtcp-fb:96 transport-cc\r\n", "").replace("a=rtcp-fb:96 transport-cc\n", "");
    let mut sim = Sim::new(1, 6);
    let publisher = sim.publisher(&offer, 0);
    sim.connect();
    for _ in 0..60 {
        sim.peers[publisher].publish(Kind::Video, &[0x65; 900], true);
        sim.run(ms(33));
    }
    let estimates = came::<ReceiverEstimatedMaximumBitrate>(&sim, publisher);
    assert!(!estimates.is_empty());
    assert!(estimates.iter().all(|(_, estimate)| estimate.bitrate > 1e6 && !estimate.ssrcs.is_empty()));
    assert!(came::<TransportLayerCc>(&sim, publisher).is_empty());
}
