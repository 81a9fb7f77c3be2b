//! How the listeners of a relay fare: a field behind the LSA of its links. It is for people to look at, and relays that do
//! not know it pass it on.

use protocol::fields;

/// Its number among the fields of an LSA of links.
pub(crate) const FIELD: u32 = 0;

/// How many of those who hear something at a relay get what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hearing {
    /// By what they get of the sound: each rung, by rising quality, and what the publisher sends.
    pub qualities: [u32; 3],
    /// By how their losses are mended: by answers, by copies, by repeats. The others have none.
    pub mended: [u32; 3],
}

/// Appends the field: six varints of postcard.
pub(crate) fn write(out: &mut Vec<u8>, hearing: &Hearing) {
    let value = postcard::to_stdvec(&(hearing.qualities, hearing.mended)).expect("numbers always serialize");
    fields::write(out, FIELD, &value);
}

/// Reads the field; `None` if that is not what it is. What a later version appends is passed over.
pub(crate) fn read(value: &[u8]) -> Option<Hearing> {
    let ((qualities, mended), _) = postcard::take_from_bytes(value).ok()?;
    Some(Hearing { qualities, mended })
}

impl Hearing {
    /// All who hear something.
    pub fn listeners(&self) -> u64 {
        self.qualities.iter().map(|count| u64::from(*count)).sum()
    }

    /// Whether the other one looks the same to people: a quarter more or fewer listeners, or a share that is another by five
    /// in a hundred, does not.
    pub(crate) fn is_like(&self, other: &Hearing) -> bool {
        let (all, others) = (self.listeners(), other.listeners());
        let share = |count: u32, of: u64| u64::from(count) * 100 / of.max(1);
        let counts = |of: &Hearing| of.qualities.into_iter().chain(of.mended).collect::<Vec<_>>();
        let shares = counts(self).into_iter().zip(counts(other));
        all.abs_diff(others) * 4 <= all.min(others)
            && shares.into_iter().all(|(a, b)| share(a, all).abs_diff(share(b, others)) <= 5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_said_reads_back_and_whatever_comes_is_read(
            qualities: [u32; 3],
            mended: [u32; 3],
            bytes: Vec<u8>,
        ) {
            let hearing = Hearing { qualities, mended };
            let mut out = Vec::new();
            write(&mut out, &hearing);
            let value = fields::Fields::read(&out).expect("fields").get(FIELD).unwrap_or_default().to_vec();
            prop_assert_eq!(read(&value), Some(hearing));
            prop_assert_eq!(read(&[&value[..], &bytes].concat()), Some(hearing), "a later version says more");
            let _ = read(&bytes);
            prop_assert!(hearing.is_like(&hearing));
        }
    }

    #[test]
    fn a_few_more_or_less_are_no_news() {
        let hearing = |low, high, copies| Hearing { qualities: [low, 0, high], mended: [0, copies, 0] };
        let told = hearing(20, 80, 10);
        for (now, alike) in [
            (hearing(25, 90, 12), true),
            (hearing(20, 106, 10), false),
            (hearing(16, 63, 8), false),
            (hearing(30, 70, 10), false),
            (hearing(20, 80, 20), false),
            (hearing(0, 0, 0), false),
        ] {
            assert_eq!((told.is_like(&now), now.is_like(&told)), (alike, alike), "{now:?}");
        }
    }
}
