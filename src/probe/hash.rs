//! A hasher for words that nobody chooses to collide: numbers of goroutines,
//! registers of a call.

use std::hash::{BuildHasherDefault, Hasher};

/// Maps keyed by words.
pub type WordMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Words>>;

/// Multiplies and folds, word by word.
#[derive(Default, Clone, Copy, Debug)]
pub struct Words(u64);

/// 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Words {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
            self.write_u64(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word).wrapping_mul(u128::from(SPREAD));
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }
}
