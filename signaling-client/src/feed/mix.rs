//! Which two channels of a source are left and right, and how loud: `--channels` and `--gain`.

use std::str::FromStr;

use super::input::MOST_CHANNELS;
use crate::source::CHANNELS;

/// The largest gain, up or down.
const MOST_DECIBELS: f32 = 40.0;

/// Two channels out of many, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// Which one is heard on the left.
    pub left: u16,
    /// Which one is heard on the right.
    pub right: u16,
}

/// A factor for samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain(f32);

/// What is made of the samples of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    /// Without it the source is stereo, or is made stereo by GStreamer.
    pub picked: Option<Picked>,
    /// How loud.
    pub gain: Gain,
}

impl FromStr for Picked {
    type Err = String;

    /// `3,4`, or `3` for one on both sides.
    fn from_str(text: &str) -> Result<Self, String> {
        let (left, right) = text.split_once(',').unwrap_or((text, text));
        let channel = |text: &str| {
            text.trim().parse::<u16>().ok().filter(|channel| (1..=MOST_CHANNELS).contains(channel))
        };
        match (channel(left), channel(right)) {
            (Some(left), Some(right)) => Ok(Picked { left, right }),
            _ => Err(format!("use two channels such as 3,4, or one; from 1 to {MOST_CHANNELS}")),
        }
    }
}

impl Picked {
    /// The higher of the two.
    pub fn highest(self) -> u16 {
        self.left.max(self.right)
    }
}

impl Default for Gain {
    fn default() -> Self {
        Gain(1.0)
    }
}

impl FromStr for Gain {
    type Err = String;

    /// Decibels, with or without the unit: `-6dB`, `+3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("dB").unwrap_or(text).trim_end();
        let decibels = number.parse::<f32>().ok().filter(|decibels| decibels.abs() <= MOST_DECIBELS);
        let decibels =
            decibels.ok_or_else(|| format!("use decibels such as -6dB, up to {MOST_DECIBELS} either way"))?;
        Ok(Gain(10f32.powf(decibels / 20.0)))
    }
}

impl Mix {
    /// Left and right out of interleaved samples of so many channels, appended to `stereo`. What is no number is
    /// silence, and nothing gets beyond full scale.
    ///
    /// # Errors
    /// What to change, as a clause, where the source does not have a channel.
    pub fn mix(&self, samples: &[f32], channels: u16, stereo: &mut Vec<f32>) -> Result<(), String> {
        let (left, right) = match self.picked {
            Some(picked) if picked.highest() > channels => {
                return Err(format!("this source has {channels} channels: use --channels up to that"));
            }
            Some(picked) => (picked.left - 1, picked.right - 1),
            None => (0, 1.min(channels.saturating_sub(1))),
        };
        stereo.reserve(samples.len() / usize::from(channels.max(1)) * CHANNELS);
        for frame in samples.chunks_exact(usize::from(channels.max(1))) {
            for channel in [left, right] {
                let sample = frame.get(usize::from(channel)).copied().unwrap_or_default() * self.gain.0;
                stereo.push(if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mixed(mix: Mix, samples: &[f32], channels: u16) -> Result<Vec<f32>, String> {
        let mut stereo = vec![];
        mix.mix(samples, channels, &mut stereo).map(|()| stereo)
    }

    #[test]
    fn two_of_four_channels_are_left_and_right() {
        let mix = Mix { picked: Some("4,3".parse().unwrap()), ..Mix::default() };
        let four = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
        assert_eq!(mixed(mix, &four, 4), Ok(vec![0.4, 0.3, 0.8, 0.7]));
        let both = Mix { picked: Some("2".parse().unwrap()), ..Mix::default() };
        assert_eq!(mixed(both, &four, 4), Ok(vec![0.2, 0.2, 0.6, 0.6]));
    }

    #[test]
    fn a_channel_that_is_not_there_is_named_with_what_there_is() {
        let mix = Mix { picked: Some("9".parse().unwrap()), ..Mix::default() };
        assert!(mixed(mix, &[0.0, 0.0], 2).unwrap_err().contains("2 channels"));
    }

    #[test]
    fn one_channel_is_heard_on_both_sides() {
        assert_eq!(mixed(Mix::default(), &[0.5, -0.5], 1), Ok(vec![0.5, 0.5, -0.5, -0.5]));
    }

    #[test]
    fn six_decibels_are_a_half() {
        let gain: Gain = "-6.0206dB".parse().unwrap();
        assert!((gain.0 - 0.5).abs() < 1e-4, "{gain:?}");
        assert_eq!("0".parse(), Ok(Gain(1.0)));
        for wrong in ["", "dB", "loud", "NaN", "inf", "41", "-6 %"] {
            assert!(wrong.parse::<Gain>().is_err(), "{wrong}");
        }
        for wrong in ["", "0", "65", "1,", "1,2,3", "-1", "a,b"] {
            assert!(wrong.parse::<Picked>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_within_full_scale(
            samples in proptest::collection::vec(any::<f32>(), 0..64), channels in 0..9u16,
            gain in -40f32..40.0,
        ) {
            let mix = Mix { picked: None, gain: gain.to_string().parse().unwrap() };
            let stereo = mixed(mix, &samples, channels).unwrap();
            prop_assert_eq!(stereo.len(), samples.len() / usize::from(channels.max(1)) * 2);
            prop_assert!(stereo.iter().all(|sample| (-1.0..=1.0).contains(sample)));
        }
    }
}
