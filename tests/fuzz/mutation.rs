//! Inputs made out of a corpus: what a wire, a bad implementation or somebody with bad intent does to
//! messages. The same seed makes the same inputs.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// Values that sit at the edges of length fields and counters.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x10, 0x40];

/// A source of inputs.
pub struct Mutation {
    random: StdRng,
}

impl Mutation {
    pub fn new(seed: u64) -> Mutation {
        Mutation { random: StdRng::seed_from_u64(seed) }
    }

    /// One input of at most `longest` bytes: an entry of the corpus changed in one to eight places, or, one
    /// time in sixteen, no more than noise.
    pub fn of(&mut self, corpus: &[Vec<u8>], longest: usize) -> Vec<u8> {
        if corpus.is_empty() || self.random.random_range(0..16) == 0 {
            return self.noise(longest.min(200));
        }
        let mut bytes = corpus[self.random.random_range(0..corpus.len())].clone();
        for _ in 0..self.random.random_range(1..=8) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(longest);
        bytes
    }

    fn noise(&mut self, longest: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(0..=longest)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.random.random_range(0..=bytes.len());
        let length = self.random.random_range(1..=16).min(bytes.len() - at);
        match self.random.random_range(0..9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let noise = self.noise(16);
                bytes.splice(at..at, noise);
            }
            4 => {
                let other = &corpus[self.random.random_range(0..corpus.len())];
                let from = self.random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            5 if at < bytes.len() => bytes[at] ^= 1 << self.random.random_range(0..8),
            6 if at < bytes.len() => bytes[at] = EDGES[self.random.random_range(0..EDGES.len())],
            7 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(self.random.random_range(0..5)).wrapping_sub(2)
            }
            // A number in two to eight bytes at one of its edges.
            _ => {
                let edge = EDGES[self.random.random_range(0..EDGES.len())];
                bytes[at..at + length.min(8)].fill(edge);
            }
        }
    }
}
