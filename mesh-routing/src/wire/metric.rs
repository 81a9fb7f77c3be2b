//! What is said of a link: its number here, what it runs over, what it carries, how soon its ends want to know that it
//! is gone. How these figures come to be is in `link/`.

use serde::{Deserialize, Serialize};

/// A link to a neighbor, numbered by the driver and never numbered so again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// What a link runs over, as the operator says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UnderlayKind {
    /// Nothing is said.
    #[default]
    Unknown,
    /// A fibre.
    Fibre,
    /// Copper.
    Wired,
    /// A radio in the same frequency for all.
    Wifi,
    /// A telephone network.
    Lte,
}

impl UnderlayKind {
    /// By its word in a configuration.
    pub fn from_word(word: &str) -> Option<UnderlayKind> {
        Some(match word {
            "unknown" => UnderlayKind::Unknown,
            "fibre" => UnderlayKind::Fibre,
            "wired" => UnderlayKind::Wired,
            "wifi" => UnderlayKind::Wifi,
            "lte" => UnderlayKind::Lte,
            _ => return None,
        })
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            UnderlayKind::Unknown => "unknown",
            UnderlayKind::Fibre => "fibre",
            UnderlayKind::Wired => "wired",
            UnderlayKind::Wifi => "wifi",
            UnderlayKind::Lte => "lte",
        }
    }
}

/// What a link runs over and what the operator thinks of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// Fibre, Wi-Fi, LTE, ….
    pub kind: UnderlayKind,
    /// Its bytes are paid for: used when there is nothing else, and for announcements.
    pub metered: bool,
    /// Added to the cost, in quarters of a millisecond.
    pub bias: u16,
}

/// A bit rate as one of 16 steps, each twice the one before; 0 if nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capacity(pub u8);

impl Capacity {
    /// The highest step: 1 Gbit/s and more.
    pub const MAX: Capacity = Capacity(15);
    /// The lowest step that is known begins here, in bits per second.
    const FIRST: u64 = 64_000;

    /// The step a bit rate is in.
    pub fn of(bits_per_second: u64) -> Capacity {
        let step = (bits_per_second / Capacity::FIRST).checked_ilog2().map_or(1, |step| step + 1);
        Capacity(step.min(u32::from(Capacity::MAX.0)) as u8)
    }

    /// The lowest bit rate of the step, 0 if nothing is known.
    pub fn bits_per_second(self) -> u64 {
        match self.0 {
            0 => 0,
            step => Capacity::FIRST << (step.min(Capacity::MAX.0) - 1),
        }
    }

    /// Whether nothing is known.
    pub fn unknown(self) -> bool {
        self.0 == 0
    }
}

/// How soon one end of a link wants to know that the other is gone. The faster of the two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rate {
    /// The link carries live media: a probe every 50 ms.
    Busy,
    /// It may be needed at any moment: every 200 ms.
    Idle,
    /// Nothing but probes crossed it for half a minute: every second, every 200 ms while none is answered.
    Quiet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_has_sixteen_steps() {
        assert_eq!(Capacity::of(0), Capacity(1));
        assert_eq!(Capacity::of(64_000), Capacity(1));
        assert_eq!(Capacity::of(128_000), Capacity(2));
        assert_eq!(Capacity::of(10_000_000), Capacity(8));
        assert_eq!(Capacity::of(u64::MAX), Capacity::MAX);
        for step in 1..=15 {
            assert_eq!(Capacity::of(Capacity(step).bits_per_second()), Capacity(step));
        }
    }
}
