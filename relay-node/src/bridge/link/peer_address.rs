//! A relay to dial, as the operator writes it: where it is and what the way there is made of.

use std::fmt;

use mesh_routing::{Underlay, UnderlayKind};

/// An address and what the way there runs over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `host:port`.
    pub address: String,
    /// What the operator says of the way.
    pub underlay: Underlay,
}

impl Peer {
    /// Reads `HOST:PORT[,kind=KIND][,metered][,bias=MS]`. Whether the address is one is looked at elsewhere.
    pub fn parse(text: &str) -> Option<Peer> {
        let mut parts = text.split(',').map(str::trim);
        let address = parts.next().filter(|address| address.contains(':'))?.to_owned();
        let mut underlay = Underlay::default();
        for part in parts {
            match part.split_once('=') {
                Some(("kind", word)) => underlay.kind = UnderlayKind::from_word(word)?,
                Some(("bias", ms)) => {
                    let quarters = ms.parse::<u16>().ok().filter(|ms| *ms <= BIAS_MAX)? * 4;
                    underlay.bias = quarters;
                }
                Some(("metered", "true")) | None if part.starts_with("metered") => underlay.metered = true,
                Some(("metered", "false")) => underlay.metered = false,
                _ => return None,
            }
        }
        Some(Peer { address, underlay })
    }
}

/// The highest bias, in milliseconds.
pub const BIAS_MAX: u16 = 10_000;

impl fmt::Display for Peer {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        let Underlay { kind, metered, bias } = self.underlay;
        if kind != UnderlayKind::Unknown {
            write!(f, ",kind={}", kind.word())?;
        }
        if metered {
            f.write_str(",metered")?;
        }
        if bias > 0 {
            write!(f, ",bias={}", bias / 4)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_back_as_written() {
        for text in ["a:1", "[fd00::1]:2,kind=wifi", "b:3,kind=lte,metered,bias=20", "c:4,bias=5"] {
            assert_eq!(Peer::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Peer::parse("b:3,bias=20").unwrap().underlay.bias, 80);
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for text in ["a", "a:1,kind=pigeon", "a:1,bias=x", "a:1,bias=20000", "a:1,meter", "a:1,"] {
            assert!(Peer::parse(text).is_none(), "{text}");
        }
    }
}
