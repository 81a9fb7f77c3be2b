//! What the encodings of pictures are called and how large they are: a field behind the LSA of streams, after that of the
//! [rates](super::rates). People and listeners' pages go by it; nothing in the mesh does.

use std::fmt;

use protocol::fields;

use super::rates::StreamRates;

/// Its number among the fields of an LSA of streams.
pub(crate) const FIELD: u32 = 1;

/// What one encoding is called and how large it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Label {
    /// Its name at the publisher.
    pub rid: Option<Rid>,
    /// In pixels; 0 is unknown.
    pub width: u16,
    /// In pixels; 0 is unknown.
    pub height: u16,
}

/// The name of an encoding (RFC 8851, section 10): letters, digits, `-` and `_`, at most [`Rid::MAX`] octets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rid {
    octets: [u8; Rid::MAX],
    len: u8,
}

impl Rid {
    /// Longer names are not said.
    pub const MAX: usize = 16;

    /// This name, if it is one that is said.
    pub fn new(name: &str) -> Option<Rid> {
        Rid::read(name.as_bytes())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.octets()).unwrap_or_default()
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    fn read(name: &[u8]) -> Option<Rid> {
        let is_of_names = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        let fits = !name.is_empty() && name.len() <= Rid::MAX && name.iter().all(is_of_names);
        let mut octets = [0; Rid::MAX];
        octets.get_mut(..name.len())?.copy_from_slice(name);
        fits.then_some(Rid { octets, len: name.len() as u8 })
    }
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Appends the field for the encodings of some streams, in the order of the LSA and of the rates; nothing if nothing is
/// said of any.
///
/// Each encoding is an octet with the length of its name, the name, and width and height, 16 bits each, big-endian.
/// Encodings at the end of which nothing is said are left out.
pub(crate) fn write<'a>(out: &mut Vec<u8>, streams: impl Iterator<Item = &'a StreamRates>) {
    let mut value = Vec::new();
    let mut said = 0;
    for label in streams.flat_map(|rates| &rates.encodings).map(|encoding| encoding.label) {
        let name = label.rid.as_ref().map_or(&[][..], Rid::octets);
        value.push(name.len() as u8);
        value.extend_from_slice(name);
        value.extend([label.width, label.height].map(u16::to_be_bytes).concat());
        if label != Label::default() {
            said = value.len();
        }
    }
    if said > 0 {
        fields::write(out, FIELD, &value[..said]);
    }
}

/// Reads the field into the encodings of these streams. If that is not what it is nothing is said: whoever passed it on
/// need not know better.
pub(crate) fn read<'a>(value: &[u8], streams: impl Iterator<Item = &'a mut StreamRates>) {
    let encodings: Vec<_> = streams.flat_map(|rates| &mut rates.encodings).collect();
    let Some(labels) = labels(value, encodings.len()) else { return };
    for (encoding, label) in encodings.into_iter().zip(labels) {
        encoding.label = label;
    }
}

/// At most so many labels, the last of which says something.
fn labels(mut value: &[u8], most: usize) -> Option<Vec<Label>> {
    let mut read = Vec::new();
    while let [len, rest @ ..] = value {
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let (&[a, b, c, d], rest) = rest.split_first_chunk()?;
        let rid = if name.is_empty() { None } else { Some(Rid::read(name)?) };
        let label = Label { rid, width: u16::from_be_bytes([a, b]), height: u16::from_be_bytes([c, d]) };
        if read.len() == most || (rest.is_empty() && label == Label::default()) {
            return None;
        }
        read.push(label);
        value = rest;
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::rates::{AdvertisedEncoding, NominalRate};

    fn label(rid: &str, width: u16) -> Label {
        Label { rid: Rid::new(rid), width, height: width / 2 }
    }

    fn rates(labels: &[Label]) -> StreamRates {
        let encoding = |(place, label): (u8, &Label)| AdvertisedEncoding {
            place,
            rate: NominalRate::default(),
            label: *label,
        };
        StreamRates { encodings: (0..).zip(labels).map(encoding).collect(), ..StreamRates::default() }
    }

    fn value(streams: &[StreamRates]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, streams.iter());
        let fields = fields::Fields::read(&out).expect("fields");
        fields.get(FIELD).unwrap_or_default().to_vec()
    }

    /// Streams with as many encodings, of which nothing is said yet.
    fn blank(streams: &[StreamRates]) -> Vec<StreamRates> {
        streams.iter().map(|rates_of| rates(&vec![Label::default(); rates_of.encodings.len()])).collect()
    }

    #[test]
    fn what_is_said_of_encodings_reads_back() {
        let none = Label::default();
        let said = [
            rates(&[]),
            rates(&[label("q", 320), label("h", 640), label("f", 1280)]),
            rates(&[none, label("low-layer_number1", 0), label("", 640), none]),
        ];
        let octets = value(&said);
        let mut read_back = blank(&said);
        read(&octets, read_back.iter_mut());
        assert_eq!(read_back[..2], said[..2]);
        assert_eq!(read_back[2].encodings[1].label, none, "a name of 17 octets is left out");
        assert_eq!(read_back[2].encodings[2].label.width, 640);
        assert_eq!(octets.len(), 18 + 15, "six octets each, and nothing at the end of which nothing is said");
        assert!(value(&blank(&said)).is_empty());
    }

    #[test]
    fn what_nobody_says_is_passed_over() {
        for octets in [
            &[1, b'q', 1, 64, 0][..],
            &[1, b' ', 1, 64, 0, 180],
            &[
                17, b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a', b'a',
                b'a', b'a', 0, 1, 0, 1,
            ],
            &[0, 0, 0, 0, 0],
            &[1, b'q', 0, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 1, b'f', 0, 0, 0, 0],
        ] {
            assert_eq!(labels(octets, 2), None, "{octets:?}");
        }
        assert_eq!(Rid::new(""), None);
        assert_eq!(Rid::new("hi").map(|rid| rid.as_str().to_owned()), Some("hi".into()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_read_back(bytes: Vec<u8>, most in 0_usize..8) {
            if let Some(read) = labels(&bytes, most) {
                prop_assert!(read.len() <= most);
                // What makes sense is said in one way only.
                prop_assert_eq!(value(&[rates(&read)]), bytes);
            }
        }
    }
}
