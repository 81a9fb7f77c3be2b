//! What happened lately, in spans of time of one length: the oldest is forgotten when a new one begins.

/// The last `N` spans of `WIDTH_US` microseconds, newest first; the newest is being filled.
#[derive(Debug, Clone)]
pub(crate) struct Bins<T, const N: usize, const WIDTH_US: u64> {
    bins: [T; N],
    /// When the newest began, in microseconds.
    began: u64,
}

impl<T: Copy + Default, const N: usize, const WIDTH_US: u64> Default for Bins<T, N, WIDTH_US> {
    fn default() -> Self {
        Bins { bins: [T::default(); N], began: 0 }
    }
}

impl<T: Copy + Default, const N: usize, const WIDTH_US: u64> Bins<T, N, WIDTH_US> {
    /// Begins all spans that have begun by now. A time before the newest changes nothing.
    pub(crate) fn advance(&mut self, now: u64) {
        let passed = now.saturating_sub(self.began) / WIDTH_US;
        if passed > 0 {
            let count = (passed as usize).min(N);
            self.bins.rotate_right(count % N);
            self.bins[..count].fill(T::default());
            self.began += passed * WIDTH_US;
        }
    }

    /// When the newest began, in microseconds.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// The one that is being filled.
    pub(crate) fn newest(&mut self) -> &mut T {
        &mut self.bins[0]
    }

    /// All of them, newest first.
    pub(crate) fn all(&self) -> &[T; N] {
        &self.bins
    }

    /// All of them, newest first.
    pub(crate) fn all_mut(&mut self) -> &mut [T; N] {
        &mut self.bins
    }

    /// Forgets what was in them. The newest goes on.
    pub(crate) fn clear(&mut self) {
        self.bins = [T::default(); N];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_a_long_pause_forgets_all() {
        let mut bins = Bins::<u32, 3, 100>::default();
        for (now, filled) in [(0, 1), (99, 2), (100, 4), (250, 8)] {
            bins.advance(now);
            *bins.newest() += filled;
        }
        assert_eq!((*bins.all(), bins.began()), ([8, 4, 3], 200));
        bins.advance(150);
        assert_eq!(*bins.all(), [8, 4, 3], "no time passed");
        bins.advance(300);
        assert_eq!(*bins.all(), [0, 8, 4]);
        bins.advance(899);
        assert_eq!((*bins.all(), bins.began()), ([0, 0, 0], 800));
    }
}
