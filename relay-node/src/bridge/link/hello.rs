//! What two relays tell each other first: the bridge versions they speak, then fields. This frame keeps its form for ever,
//! so that relays of any two versions can read each other's (RFC 8999 does the same for QUIC). What follows from it is
//! decided in `dial.rs` and `admission.rs`.

use bytes::Bytes;
use mesh_routing::Underlay;
use protocol::{
    BridgeVersion, BridgeVersions, ZoneName,
    fields::{self, Fields},
};

use super::stream::StreamError;

pub(crate) const HELLO_MAX: usize = 64 * 1024;

/// Numbers of the fields.
const ZONE: u32 = 1;
const TOKEN: u32 = 2;
const UPDATES: u32 = 3;
const UNDERLAY: u32 = 4;
const INCARNATION: u32 = 5;
const KNOWN: [u32; 5] = [ZONE, TOKEN, UPDATES, UNDERLAY, INCARNATION];

/// What the two relays tell each other first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// What the sender speaks.
    pub versions: BridgeVersions,
    pub zone: ZoneName,
    /// The zone token of the sender.
    pub festival: Option<String>,
    /// What the organizer signed for everybody, as far as the sender knows it.
    pub updates: Vec<String>,
    /// What the connection runs over, as the one who dialed was told.
    pub underlay: Underlay,
    /// Which run of the sender it is.
    pub incarnation: Option<u64>,
}

impl Hello {
    /// As the frame that begins the stream of control.
    pub fn to_frame(&self) -> Bytes {
        // The highest first: there the relays before the first range look for the one version that they compare.
        let mut frame = self.versions.highest().0.to_be_bytes().to_vec();
        frame.extend(self.versions.lowest().0.to_be_bytes());
        fields::write(&mut frame, ZONE, self.zone.as_str().as_bytes());
        if let Some(token) = &self.festival {
            fields::write(&mut frame, TOKEN, token.as_bytes());
        }
        let updates = postcard::to_stdvec(&self.updates).expect("texts always serialize");
        fields::write(&mut frame, UPDATES, &updates);
        let underlay = postcard::to_stdvec(&self.underlay).expect("numbers always serialize");
        fields::write(&mut frame, UNDERLAY, &underlay);
        if let Some(incarnation) = self.incarnation {
            fields::write(&mut frame, INCARNATION, &incarnation.to_be_bytes());
        }
        #[cfg(feature = "next")]
        fields::write(&mut frame, INCARNATION + 1, b"a note");
        frame.into()
    }

    /// Reads the frame of a hello; says also how many of its fields are not known here. Total: whatever the bytes are, an
    /// error at worst.
    ///
    /// # Errors
    ///
    /// [`StreamError::NoVersions`] if the range is empty or reversed, [`StreamError::NotHello`] if there is no zone or the
    /// bytes are no fields.
    pub fn from_frame(frame: &[u8]) -> Result<(Hello, usize), StreamError> {
        let [a, b, c, d, rest @ ..] = frame else { return Err(StreamError::NotHello) };
        let (highest, lowest) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let versions = BridgeVersions::new(BridgeVersion(lowest), BridgeVersion(highest))
            .ok_or(StreamError::NoVersions { lowest, highest })?;
        let fields = Fields::read(rest).ok_or(StreamError::NotHello)?;
        let text = |number| match fields.get(number).map(std::str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.to_owned())),
            Some(Err(_)) => Err(StreamError::NotHello),
        };
        let zone = text(ZONE)?.and_then(|zone| ZoneName::new(zone).ok()).ok_or(StreamError::NotHello)?;
        let updates = match fields.get(UPDATES) {
            Some(updates) => postcard::from_bytes(updates).map_err(|_| StreamError::NotHello)?,
            None => Vec::new(),
        };
        // Of what a later version runs over nothing is known, which is no reason to hang up.
        let underlay = fields.get(UNDERLAY).and_then(|value| postcard::take_from_bytes(value).ok());
        let underlay = underlay.map_or_else(Underlay::default, |(underlay, _)| underlay);
        // A later version may say more behind it.
        let incarnation = fields.get(INCARNATION).and_then(<[u8]>::first_chunk);
        let incarnation = incarnation.map(|number| u64::from_be_bytes(*number));
        let hello = Hello { versions, zone, festival: text(TOKEN)?, updates, underlay, incarnation };
        Ok((hello, fields.besides(&KNOWN)))
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
