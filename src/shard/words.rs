//! Numbers of 16, 24 or 32 bits, one behind the other without padding: what the hash tables here consist of. The fewer
//! bytes they have, the more of them stays in a cache.

/// Each is read as if it had so many bytes, so that the last one needs some behind it.
const READ_BYTES: usize = size_of::<u32>();

#[derive(Debug)]
pub(super) struct Words {
    bytes: Box<[u8]>,
    len: usize,
    /// Of a word, in bytes.
    width: usize,
}

impl Words {
    /// So many words with room for numbers of `bits` bits, or of 32 where those are more; every byte is `byte`.
    pub(super) fn filled(len: usize, bits: u32, byte: u8) -> Self {
        let width = (bits.div_ceil(8) as usize).clamp(2, READ_BYTES);
        Self { bytes: vec![byte; len * width + READ_BYTES - width].into(), len, width }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place after `at`; after the last one comes the first.
    #[inline]
    pub(super) fn next(&self, at: usize) -> usize {
        if at + 1 == self.len { 0 } else { at + 1 }
    }

    /// The greatest number that a word holds.
    #[inline]
    pub(super) fn mask(&self) -> u32 {
        u32::MAX >> (8 * (READ_BYTES - self.width))
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> u32 {
        self.read(at * self.width) & self.mask()
    }

    #[inline]
    pub(super) fn set(&mut self, at: usize, word: u32) {
        debug_assert!(word <= self.mask(), "a number that is too wide would change the next word");
        let start = at * self.width;
        // With the bytes behind it as they are: a copy of a known length is one store.
        let bytes = (self.read(start) & !self.mask() | word).to_le_bytes();
        self.bytes[start..start + READ_BYTES].copy_from_slice(&bytes);
    }

    #[inline]
    fn read(&self, start: usize) -> u32 {
        let mut bytes = [0; READ_BYTES];
        bytes.copy_from_slice(&self.bytes[start..start + READ_BYTES]);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Words {
        pub(in crate::shard) fn width(&self) -> usize {
            self.width
        }
    }

    #[test]
    fn a_word_keeps_its_number_whatever_its_neighbours_become() {
        for bits in [1, 16, 17, 24, 25, 32] {
            let mut words = Words::filled(7, bits, u8::MAX);
            let mut model = [words.mask(); 7];
            assert!(words.mask().trailing_ones() >= bits);
            for (at, number) in [(0, 0), (6, 1), (3, u32::MAX), (6, 0x1234_5678), (5, 0), (0, 0x8765_4321), (6, 0)] {
                let number = number & words.mask();
                words.set(at, number);
                model[at] = number;
                assert_eq!(std::array::from_fn(|at| words.get(at)), model, "{bits} bits");
            }
        }
    }

    #[test]
    fn places_go_round() {
        let words = Words::filled(2, 16, 0);
        assert_eq!((words.next(0), words.next(1)), (1, 0));
    }
}
