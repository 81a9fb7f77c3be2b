//! The certificate fingerprint of `a=fingerprint` (RFC 8122), as data. Comparing it with the
//! certificate that DTLS brings is the transport's part.

use std::fmt;

use super::error::{SdpError, quote};

/// A hash function and a hash, of the peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`, in lower case.
    pub hash: String,
    /// The hash itself: 32, 48 or 64 bytes.
    pub value: Vec<u8>,
}

impl Fingerprint {
    /// Reads the value of one `a=fingerprint`, in either case.
    ///
    /// # Errors
    ///
    /// [`SdpError::Hash`] for a hash function that is unknown or no longer safe,
    /// [`SdpError::Malformed`] for anything that is not hexadecimal pairs of the right number.
    pub fn parse(text: &str) -> Result<Fingerprint, SdpError> {
        let (hash, digits) = text.trim().split_once(' ').ok_or(MALFORMED)?;
        let hash = hash.to_ascii_lowercase();
        let length = match hash.as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return Err(SdpError::Hash { hash: quote(&hash) }),
        };
        let mut value = Vec::with_capacity(length);
        for pair in digits.trim().split(':') {
            let hex = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !hex || value.len() == length {
                return Err(MALFORMED);
            }
            value.push(u8::from_str_radix(pair, 16).map_err(|_| MALFORMED)?);
        }
        if value.len() != length {
            return Err(MALFORMED);
        }
        Ok(Fingerprint { hash, value })
    }

    /// The safest readable one of several; an error if there is none.
    pub(super) fn strongest<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Fingerprint, SdpError> {
        let mut refused = SdpError::Missing { attribute: "fingerprint" };
        let mut found: Option<Fingerprint> = None;
        for text in texts {
            match Fingerprint::parse(text) {
                // sha-256 is what every certificate is made with; the others only stand in for it
                Ok(next) if next.hash == "sha-256" => return Ok(next),
                Ok(next) => {
                    found.get_or_insert(next);
                }
                Err(error) => refused = error,
            }
        }
        found.ok_or(refused)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hash)?;
        for (index, byte) in self.value.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

const MALFORMED: SdpError = SdpError::Malformed {
    attribute: "fingerprint",
    reason: "a hash function and hexadecimal pairs joined by colons",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hash: &str, length: usize) -> String {
        format!("{hash} {}", vec!["aB"; length].join(":"))
    }

    #[test]
    fn either_case_reads_the_same() {
        let upper = Fingerprint::parse(&text("SHA-256", 32).to_uppercase()).unwrap();
        let lower = Fingerprint::parse(&text("sha-256", 32).to_lowercase()).unwrap();
        assert_eq!(upper, lower);
        assert_eq!(Fingerprint::parse(&upper.to_string()).unwrap(), upper);
    }

    #[test]
    fn sha1_is_refused() {
        assert_eq!(Fingerprint::parse(&text("sha-1", 20)).unwrap_err().status(), 422);
    }

    #[test]
    fn a_wrong_length_is_malformed() {
        for length in [1, 31, 33, 5000] {
            assert_eq!(Fingerprint::parse(&text("sha-256", length)).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn sha256_is_taken_before_the_others() {
        let (weak, wide, usual) = (text("sha-1", 20), text("sha-512", 64), text("sha-256", 32));
        let all = [weak.as_str(), wide.as_str(), usual.as_str()];
        assert_eq!(Fingerprint::strongest(all.into_iter()).unwrap().hash, "sha-256");
        assert_eq!(Fingerprint::strongest(all[..2].iter().copied()).unwrap().hash, "sha-512");
    }
}
