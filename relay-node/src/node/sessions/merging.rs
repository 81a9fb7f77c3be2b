//! Whether a listener gets its sound in fewer and longer packets. It is settled when it joins: in the middle of a sound a
//! change is heard.

use crate::media::packet_rate::PacketRate;

/// What a listener asks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Each packet as its publisher sent it: the least delay.
    Single,
    /// Up to 60 ms in a packet.
    Merged,
}

/// When a listener gets merged packets that does not ask.
#[derive(Debug, Clone)]
pub struct Merging {
    above: u64,
    rate: PacketRate,
}

impl Merging {
    /// While more packets leave than `above` in a second; always if that is 0.
    pub fn new(above: u64, rate: PacketRate) -> Merging {
        Merging { above, rate }
    }

    /// Whether somebody who joins now gets merged packets.
    pub fn applies(&self, asked: Option<Frames>) -> bool {
        match asked {
            Some(asked) => asked == Frames::Merged,
            None => self.above == 0 || self.rate.total() > self.above,
        }
    }
}

impl Default for Merging {
    /// Only who asks for it.
    fn default() -> Merging {
        Merging::new(u64::MAX, PacketRate::new(0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_crowd_is_merged_and_who_asks_gets_what_it_asks_for() {
        let rate = PacketRate::new(1);
        let merging = Merging::new(40_000, rate.clone());
        let all = |merging: &Merging| {
            [None, Some(Frames::Single), Some(Frames::Merged)].map(|asked| merging.applies(asked))
        };
        rate.set(0, 40_000, Duration::from_secs(1));
        assert_eq!(all(&merging), [false, false, true]);
        rate.set(0, 40_001, Duration::from_secs(1));
        assert_eq!(all(&merging), [true, false, true]);
        assert_eq!(all(&Merging::new(0, PacketRate::new(1))), [true, false, true]);
        assert_eq!(all(&Merging::default()), [false, false, true]);
    }
}
