//! What the tracks of a stream take, and in which encodings its picture can be had: a field behind the LSA of streams, so
//! that relays that know of no encodings pass it on. What follows from it is decided in `tree/`.

use protocol::{
    fields,
    mesh::{MAX_ENCODINGS, MAX_RUNGS, StreamTrack},
};

use super::label::Label;

/// Its number among the fields of an LSA of streams.
pub(crate) const FIELD: u32 = 0;

/// What a track takes of a link, in one of 16 steps: 0 is unknown, the others are the preferred numbers R5 (ISO 3), each
/// some 60 % above the one before.
///
/// Steps, because a figure that moves with each scene would go through the whole mesh each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NominalRate(u8);

/// Of steps 1 to 15, in bits per second.
const STEPS: [u64; 15] = [
    25_000, 40_000, 63_000, 100_000, 160_000, 250_000, 400_000, 630_000, 1_000_000, 1_600_000, 2_500_000,
    4_000_000, 6_300_000, 10_000_000, 16_000_000,
];

impl NominalRate {
    /// The lowest step that is not below this rate, in bits per second; unknown for 0.
    pub fn of(rate: u64) -> NominalRate {
        let step = 1 + STEPS.iter().take(STEPS.len() - 1).filter(|step| **step < rate).count();
        NominalRate(if rate == 0 { 0 } else { step as u8 })
    }

    /// In bits per second, if it is known.
    pub fn bits_per_second(self) -> Option<u64> {
        STEPS.get(usize::from(self.0).checked_sub(1)?).copied()
    }

    /// What is likely, in bits per second: the middle between this step and the one below.
    pub fn likely_bits_per_second(self) -> Option<u64> {
        self.bits_per_second().map(|rate| rate * 4 / 5)
    }

    /// The step, 0 to 15.
    pub(super) fn step(self) -> u8 {
        self.0
    }

    /// This step, of which the lower four bits count.
    pub(super) fn of_step(step: u8) -> NominalRate {
        NominalRate(step & 0x0f)
    }

    /// Steps between the two. An unknown rate is as far away as can be.
    pub fn distance(self, other: NominalRate) -> u8 {
        match (self.0, other.0) {
            (0, 0) => 0,
            (0, _) | (_, 0) => u8::MAX,
            (one, two) => one.abs_diff(two),
        }
    }
}

/// One encoding of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedEncoding {
    /// Names it: its place in the publisher's answer, below [`MAX_ENCODINGS`].
    pub place: u8,
    /// What it takes.
    pub rate: NominalRate,
    /// What it is called and how large it is: stands in a field of its own.
    pub label: Label,
}

/// What the tracks of a stream take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRates {
    /// Its sound.
    pub audio: NominalRate,
    /// Its picture as a whole.
    pub video: NominalRate,
    /// The encodings that the picture can be had in, by rising quality; none if the publisher sends one.
    pub encodings: Vec<AdvertisedEncoding>,
    /// What each rung of the sound takes, by rising quality; unknown if it cannot be had. Stands in a
    /// [field](super::rungs) of its own.
    pub rungs: [NominalRate; MAX_RUNGS],
}

impl StreamRates {
    /// Whether nothing is said.
    pub fn is_unknown(&self) -> bool {
        *self == StreamRates::default()
    }

    /// How good an encoding is: the base is 0. None if the picture cannot be had in it.
    pub fn rank(&self, place: u8) -> Option<u8> {
        self.encodings.iter().position(|encoding| encoding.place == place).map(|rank| rank as u8)
    }

    /// The encoding that everybody can have who can have any.
    pub fn base(&self) -> Option<u8> {
        self.encodings.first().map(|encoding| encoding.place)
    }

    /// Whether the sound can be had in this rung.
    pub fn has_rung(&self, rung: u8) -> bool {
        self.rungs.get(usize::from(rung)).is_some_and(|rate| *rate != NominalRate::default())
    }

    /// How good a track of the sound is: how many rungs below it can be had.
    pub fn sound_rank(&self, track: StreamTrack) -> u8 {
        let below = match track {
            StreamTrack::Rung(rung) => rung.min(MAX_RUNGS as u8),
            StreamTrack::Audio | StreamTrack::Video | StreamTrack::Encoding(_) => MAX_RUNGS as u8,
        };
        (0..below).filter(|rung| self.has_rung(*rung)).count() as u8
    }

    /// Of one of the tracks.
    pub fn rate(&self, track: StreamTrack) -> NominalRate {
        match track {
            StreamTrack::Audio => self.audio,
            StreamTrack::Rung(rung) => self.rungs.get(usize::from(rung)).copied().unwrap_or_default(),
            StreamTrack::Video => self.video,
            StreamTrack::Encoding(place) => {
                let encoding = self.encodings.iter().find(|encoding| encoding.place == place);
                encoding.map_or(NominalRate(0), |encoding| encoding.rate)
            }
        }
    }

    /// Whether it says what can be: each place once.
    pub(crate) fn is_sane(&self) -> bool {
        let place = |encoding: &AdvertisedEncoding| usize::from(encoding.place);
        let mut seen = [false; MAX_ENCODINGS];
        self.encodings
            .iter()
            .all(|encoding| seen.get_mut(place(encoding)).is_some_and(|seen| !std::mem::replace(seen, true)))
    }
}

/// Appends the field for some streams, in the order of the LSA; nothing if nothing is said of any.
///
/// Each stream is an octet with the steps of its sound (upper four bits) and its picture, one with the number of
/// encodings, and one for each of them: its place (upper four bits) and its step. Streams at the end of which nothing is
/// said are left out.
pub(crate) fn write<'a>(out: &mut Vec<u8>, streams: impl Iterator<Item = &'a StreamRates>) {
    let mut value = Vec::new();
    let mut said = 0;
    for rates in streams {
        value.extend([rates.audio.0 << 4 | rates.video.0, rates.encodings.len() as u8]);
        value.extend(rates.encodings.iter().map(|encoding| encoding.place << 4 | encoding.rate.0));
        if !rates.is_unknown() {
            said = value.len();
        }
    }
    if said > 0 {
        fields::write(out, FIELD, &value[..said]);
    }
}

/// Reads the field of so many streams. `None` if that is not what it is: whoever passed it on need not know better.
pub(crate) fn read(mut value: &[u8], streams: usize) -> Option<Vec<StreamRates>> {
    let mut read = Vec::new();
    while let [tracks, count, rest @ ..] = value {
        let (encodings, behind) = rest.split_at_checked(usize::from(*count))?;
        let encoding = |octet: &u8| AdvertisedEncoding {
            place: octet >> 4,
            rate: NominalRate(octet & 0x0f),
            label: Label::default(),
        };
        let rates = StreamRates {
            audio: NominalRate(tracks >> 4),
            video: NominalRate(tracks & 0x0f),
            encodings: encodings.iter().map(encoding).collect(),
            ..StreamRates::default()
        };
        if read.len() == streams || !rates.is_sane() {
            return None;
        }
        read.push(rates);
        value = behind;
    }
    value.is_empty().then_some(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(audio: u8, video: u8, encodings: &[(u8, u8)]) -> StreamRates {
        let encoding = |(place, rate): &(u8, u8)| AdvertisedEncoding {
            place: *place,
            rate: NominalRate(*rate),
            label: Label::default(),
        };
        StreamRates {
            audio: NominalRate(audio),
            video: NominalRate(video),
            encodings: encodings.iter().map(encoding).collect(),
            ..StreamRates::default()
        }
    }

    #[test]
    fn a_rate_is_planned_with_the_step_that_it_fits_in() {
        for (rate, planned) in
            [(1, 25_000), (25_000, 25_000), (25_001, 40_000), (620_000, 630_000), (2_000_000, 2_500_000)]
        {
            assert_eq!(NominalRate::of(rate).bits_per_second(), Some(planned), "{rate}");
        }
        assert_eq!(NominalRate::of(90_000_000).bits_per_second(), Some(16_000_000), "the highest step");
        assert_eq!(NominalRate::of(0).bits_per_second(), None);
        assert_eq!(NominalRate::of(2_000_000).distance(NominalRate::of(900_000)), 2);
    }

    #[test]
    fn what_is_said_of_streams_reads_back() {
        let said =
            [rates(5, 11, &[]), rates(0, 0, &[]), rates(4, 11, &[(2, 4), (0, 8), (1, 11)]), rates(0, 0, &[])];
        let mut out = Vec::new();
        write(&mut out, said.iter());
        let value = fields::Fields::read(&out).and_then(|fields| fields.get(FIELD)).expect("a field");
        assert_eq!(
            value.len(),
            9,
            "two octets a stream, one an encoding, and nothing of which nothing is said"
        );
        assert_eq!(read(value, 4), Some(said[..3].to_vec()));
        assert_eq!(read(value, 2), None, "of more streams than there are");
        let (base, of) = (said[2].base(), |place| said[2].rank(place));
        assert_eq!((base, of(2), of(1), of(3)), (Some(2), Some(0), Some(2), None));
        let mut nothing = Vec::new();
        write(&mut nothing, said[1..2].iter());
        assert!(nothing.is_empty());
    }

    #[test]
    fn an_encoding_stands_once_and_is_one_of_four() {
        for octets in [&[0x11, 2, 0x01, 0x02][..], &[0x11, 1, 0x41], &[0x11, 2, 0x01], &[0x11]] {
            assert_eq!(read(octets, 9), None, "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, streams in 0_usize..8) {
            if let Some(said) = read(&bytes, streams) {
                prop_assert!(said.len() <= streams);
                prop_assert!(said.iter().all(|rates| rates.encodings.len() <= MAX_ENCODINGS));
            }
        }
    }
}
