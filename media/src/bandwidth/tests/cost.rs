//! What a feedback costs.

use std::time::Duration;

use super::lies::{begin, body};
use crate::{
    bandwidth::{Estimator, Purpose},
    rtp::transport_cc::Feedback,
};

const FEEDBACKS: u32 = 20_000;

/// Prints what a feedback of 20 packets costs, with the 20 packets that were sent before it.
#[test]
#[ignore = "a measurement: run it alone, with --nocapture"]
fn a_feedback_of_twenty_packets_costs_microseconds() {
    let start = begin();
    let mut estimator = Estimator::new(true, start);
    let arrivals = [Some(10); 20];
    let (mut sending, mut hearing) = (Vec::new(), Vec::new());
    for round in 0..FEEDBACKS {
        // 20 packets each 50 ms: 3.8 Mbit/s
        let now = start + Duration::from_millis(50) * round;
        let before = begin();
        for packet in 0..20 {
            estimator.handle_sent(1200, Purpose::Media, now + Duration::from_micros(2500) * packet);
        }
        let between = begin();
        let bytes = body((round * 20) as u16, (u64::from(round) * 50 / 64) as u32, &arrivals);
        let told = begin();
        let feedback = Feedback::parse(&bytes).expect("it is well formed");
        estimator.handle_feedback(&feedback, now + Duration::from_millis(90));
        hearing.push(begin() - told);
        sending.push(between - before);
    }
    // the median: other programs run on this machine
    let each = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos()
    };
    println!("a feedback of 20 packets: {} ns, sending them: {} ns", each(&mut hearing), each(&mut sending));
}
