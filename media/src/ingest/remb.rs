//! A loss-based bitrate for publishers that know only REMB: raised slowly while packets arrive, lowered
//! when many are lost. Publishers with transport-wide feedback estimate for themselves.

/// What a publisher may send, judged by what it loses.
#[derive(Debug)]
pub struct LossEstimate {
    bitrate: f64,
    octets: u64,
    received: u32,
    lost: u32,
}

// Bits per second.
const START: f64 = 2_500_000.0;
const LEAST: f64 = 150_000.0;
const MOST: f64 = 20_000_000.0;

impl Default for LossEstimate {
    fn default() -> Self {
        LossEstimate { bitrate: START, octets: 0, received: 0, lost: 0 }
    }
}

impl LossEstimate {
    /// A packet of `octets` came, `lost` before it did not.
    pub fn handle_packet(&mut self, octets: usize, lost: u32) {
        self.octets += octets as u64;
        self.received += 1;
        self.lost += lost;
    }

    /// The estimate in bits per second; called once a second. The steps are those of the loss-based
    /// controller of draft-ietf-rmcat-gcc section 6, except that nothing is raised far above what is used.
    pub fn poll_bitrate(&mut self) -> u64 {
        let total = self.received + self.lost;
        if total > 0 {
            let loss = f64::from(self.lost) / f64::from(total);
            let used = self.octets as f64 * 8.0;
            if loss > 0.1 {
                self.bitrate *= 1.0 - 0.5 * loss;
            } else if loss < 0.02 && used * 4.0 > self.bitrate {
                self.bitrate *= 1.08;
            }
            self.bitrate = self.bitrate.clamp(LEAST, MOST);
        }
        (self.octets, self.received, self.lost) = (0, 0, 0);
        self.bitrate as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_with_loss_and_rises_without() {
        let mut estimate = LossEstimate::default();
        for _ in 0..100 {
            estimate.handle_packet(5000, 0);
        }
        let raised = estimate.poll_bitrate();
        assert!(raised > START as u64);
        for _ in 0..100 {
            estimate.handle_packet(1200, 1);
        }
        assert!(estimate.poll_bitrate() < raised * 8 / 10);
    }
}
