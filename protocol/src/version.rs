//! Bridge versions: which ones a relay speaks, and which one two relays use. How two relays find out is the driver's, what
//! came with which version is in `docs/mesh.md`.

use std::fmt;

/// A version of everything that crosses a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeVersion(pub u16);

impl BridgeVersion {
    /// The first one that is negotiated. Versions before it were refused unless they were equal.
    pub const FIRST: BridgeVersion = BridgeVersion(4);
    /// With it a picture may cross in encodings.
    pub const ENCODINGS: BridgeVersion = BridgeVersion(5);
    /// With it a sound may cross in rungs.
    pub const RUNGS: BridgeVersion = BridgeVersion(6);
    /// With it the receiving side of a link may ask for parity.
    pub const PARITY: BridgeVersion = BridgeVersion(7);
}

impl fmt::Display for BridgeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions that a relay speaks: all from the lowest to the highest, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BridgeVersions {
    lowest: BridgeVersion,
    highest: BridgeVersion,
}

impl BridgeVersions {
    /// What a relay of this release speaks.
    pub const SPOKEN: BridgeVersions =
        BridgeVersions { lowest: BridgeVersion::FIRST, highest: BridgeVersion::PARITY };

    /// All versions from one to another; `None` if there are none between, or the lowest is 0, which is no version.
    pub const fn new(lowest: BridgeVersion, highest: BridgeVersion) -> Option<BridgeVersions> {
        if lowest.0 == 0 || lowest.0 > highest.0 {
            return None;
        }
        Some(BridgeVersions { lowest, highest })
    }

    /// The lowest one.
    pub const fn lowest(self) -> BridgeVersion {
        self.lowest
    }

    /// The highest one.
    pub const fn highest(self) -> BridgeVersion {
        self.highest
    }

    /// Whether this version is one of them.
    pub fn contains(self, version: BridgeVersion) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }

    /// The highest version that both speak, if there is one: what two relays use. Both find the same.
    pub fn common(self, other: BridgeVersions) -> Option<BridgeVersion> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }

    /// Whether all of these came before all of the others. Of two relays without a common version one is older.
    pub fn older_than(self, other: BridgeVersions) -> bool {
        self.highest < other.lowest
    }
}

impl fmt::Display for BridgeVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(lowest: u16, highest: u16) -> Option<BridgeVersions> {
        BridgeVersions::new(BridgeVersion(lowest), BridgeVersion(highest))
    }

    #[test]
    fn a_range_is_never_empty_or_reversed() {
        assert_eq!(versions(5, 4), None);
        assert_eq!(versions(0, 4), None);
        assert_eq!(versions(0, 0), None);
        assert_eq!(versions(1, u16::MAX).map(|range| range.to_string()), Some("1 to 65535".to_owned()));
    }

    proptest! {
        #[test]
        fn two_relays_find_the_same_version_or_the_same_older_one(a: u16, b: u16, c: u16, d: u16) {
            let (Some(one), Some(two)) = (versions(a, b), versions(c, d)) else { return Ok(()) };
            prop_assert_eq!(one.common(two), two.common(one));
            match one.common(two) {
                Some(version) => {
                    prop_assert!(one.contains(version) && two.contains(version));
                    let above = BridgeVersion(version.0.saturating_add(1));
                    prop_assert!(above == version || !one.contains(above) || !two.contains(above));
                }
                None => prop_assert!(one.older_than(two) != two.older_than(one)),
            }
        }
    }
}
