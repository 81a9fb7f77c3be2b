//! A listener that lies in what it tells, beside fifty that do not.

use media::{TrackId, rtcp::Compound};

use super::*;

const OTHERS: usize = 50;
/// What the liar is given at most, with its sound.
const CAP: u64 = 1_200_000;
/// Its wire takes a sixth of that, and it says that all of it came.
const WIRE: u64 = 200_000;

/// A body of transport-wide feedback that says of so many packets that they came at once.
fn all_came(base: u16, count: u16, reference: u32) -> Vec<u8> {
    let mut body = base.to_be_bytes().to_vec();
    body.extend(count.to_be_bytes());
    body.extend(&reference.to_be_bytes()[1..]);
    body.push(reference as u8);
    // one run of small deltas, all of them zero
    body.extend((0x2000 | count).to_be_bytes());
    body.extend(std::iter::repeat_n(0, usize::from(count)));
    body
}

#[test]
fn who_lies_in_its_feedback_gets_its_cap_and_hurts_only_itself() {
    let mut sim = Sim::new(1, 1);
    sim.workers[0].set_max_bitrate(CAP);
    let liar = sim.listener(offer!("chromium_recvonly"));
    let others: Vec<usize> = (0..OTHERS).map(|_| sim.listener(offer!("chromium_recvonly"))).collect();
    let now = sim.now;
    sim.narrow.insert(liar, Narrow::new(WIRE, ms(200), now));
    sim.connect();
    // What came it does not say.
    sim.peers[liar].arrivals = None;
    let stage = Stage::new(&RATES, sim.now);
    let mut view = View { sim, stage, listener: others[0] };
    view.run(SECOND * 10);
    let from = view.sim.now;
    let asked = view.sim.keyframes_wanted;
    let begun = view.sim.wanted.len();
    let sent = |view: &View| {
        let narrow = &view.sim.narrow[&liar];
        narrow.waits.len() + narrow.dropped
    };
    let before = sent(&view);
    for step in 0..400_u32 {
        let ssrc = view.sim.peers[liar].egress(Kind::Video).ssrc;
        let peer = &mut view.sim.peers[liar];
        let mut compound = Compound::default();
        // All that was sent and more has come, at once; with it what was never sent, and what is long over.
        let bases = [step.wrapping_mul(20) as u16, step.wrapping_mul(7919) as u16];
        for base in bases {
            compound.transport_wide(7, 1, |out| out.extend(all_came(base, 100, step)));
        }
        compound.estimate(7, &[ssrc], u64::MAX >> 1).picture_loss(7, ssrc);
        peer.send_rtcp(compound.bytes());
        peer.nack(ssrc, (0..64).map(|at| (step * 3 + at) as u16));
        view.run(ms(50));
    }
    let seconds = view.sim.now.duration_since(from).as_secs();
    let to_liar = (sent(&view) - before) as u64;
    // Packets are 1200 octets at most: that is the cap, and repairs as much again.
    let most = 2 * CAP * seconds / 8 / 300;
    println!("{to_liar} packets to the liar in {seconds} s, {most} are its cap");
    assert!(to_liar < most, "{to_liar} of {most}");
    let of = |track: TrackId| view.sim.wanted[begun..].iter().filter(|wanted| **wanted == track).count();
    println!(
        "keyframes of each encoding: {:?}, switches {:?}",
        TRACKS.encodings.map(of),
        view.sim.workers[0].stats().switches
    );
    for other in others {
        let seen = view.seen(other, from);
        assert!(seen.changes.len() == 1 && seen.encoding() == Some(MIDDLE), "{other}: {seen:?}");
        // The clock of the sound has ticks of its own: at either end of the time one may just not have come.
        assert!(seen.freeze < ms(150) && seen.sound >= 50 * seconds as usize - 2, "{other}: {seen:?}");
        for kind in [Kind::Audio, Kind::Video] {
            assert!(worker_sim::is_continuous(&view.sim, other, kind));
        }
    }
    let asked = (view.sim.keyframes_wanted - asked) as u64;
    assert!(asked <= 2 * seconds, "{asked} keyframes in {seconds} s");
}
