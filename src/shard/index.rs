//! A hash index from keys to slots, in one word of two to four bytes for each.
//!
//! Open addressing with linear probing. A word holds a slot and, in the bits that slots of this table leave over, a
//! part of the key's hash, its tag: so a lookup reads one cache line here and, with near certainty, no entry but the
//! right one. Tables whose control bytes stand apart from their slots, as hashbrown's, read two lines one after the
//! other, and in a large store each is a miss. The fewer bytes it has, the more of it stays in a cache.

/// The least width of a tag, in bits: a lookup takes one in 64 entries for one that it is not.
const TAG_BITS: u32 = 7;

/// All words are read as if they had so many bytes, so that the last one needs some behind it.
const READ_BYTES: usize = size_of::<u32>();

/// Slots by the hash of their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// The words, at most four fifths in use. A place among them is that of its first byte. An empty one has all bits
    /// set, as no slot below the capacity has in its part.
    bytes: Box<[u8]>,
    /// Any number of them: powers of two would leave up to half of the rest empty.
    words: usize,
    word_bytes: usize,
    /// The bits of a word that are its slot; the others are the tag.
    slots: u32,
    /// How many bits that are.
    slot_bits: u32,
}

impl Default for Index {
    fn default() -> Self {
        Self { bytes: Box::new([u8::MAX; READ_BYTES]), words: 1, word_bytes: READ_BYTES, slots: 0, slot_bits: 0 }
    }
}

impl Index {
    /// The slot with this hash that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (slots, empty, tag) = (self.slots, self.empty(), self.tag(hash));
        let mut at = self.home(hash);
        loop {
            let word = self.get(at);
            if word & !slots == tag && word != empty && is_it(word & slots) {
                return Some(word & slots);
            }
            if word == empty {
                return None;
            }
            at = self.next(at);
        }
    }

    /// The word where a search begins, whatever is in it.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.get(self.home(hash))
    }

    /// How many slots it takes before it must be built anew.
    pub(super) fn capacity(&self) -> usize {
        self.words / 5 * 4
    }

    /// Builds it for `capacity` slots at least, of the hashes of the slots from 0 on; `None` for one that is vacant.
    pub(super) fn rebuild(&mut self, capacity: usize, hashes: impl Iterator<Item = Option<u64>>) {
        self.words = capacity.div_ceil(4) * 5;
        self.slots = (self.words.next_power_of_two() - 1) as u32;
        self.slot_bits = self.slots.trailing_ones();
        self.word_bytes = ((self.slot_bits + TAG_BITS).div_ceil(8) as usize).clamp(2, READ_BYTES);
        self.bytes = vec![u8::MAX; self.end() + READ_BYTES - self.word_bytes].into();
        for (hash, slot) in hashes.zip(0..) {
            if let Some(hash) = hash {
                self.insert(hash, slot);
            }
        }
    }

    /// Adds a slot below the capacity.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let (mut at, empty) = (self.home(hash), self.empty());
        while self.get(at) != empty {
            at = self.next(at);
        }
        self.set(at, self.tag(hash) | slot);
    }

    /// Removes a slot. Those behind it move up, so that no mark of the removed one has to stay.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = self.home(hash);
        while self.get(gap) & self.slots != slot {
            if self.get(gap) == self.empty() {
                return;
            }
            gap = self.next(gap);
        }
        let mut at = gap;
        loop {
            at = self.next(at);
            let word = self.get(at);
            if word == self.empty() {
                break;
            }
            let home = self.home(hash_of(word & self.slots));
            if self.steps(home, at) >= self.steps(gap, at) {
                self.set(gap, word);
                gap = at;
            }
        }
        self.set(gap, self.empty());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where a search begins: the hash's low half as a fraction of all words (Lemire 2019, "Fast random integer
    /// generation in an interval").
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & u64::from(u32::MAX)) * self.words as u64) >> 32) as usize * self.word_bytes
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        let next = at + self.word_bytes;
        if next < self.end() { next } else { 0 }
    }

    /// How far it is from one place to another, in bytes.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.end() - from }
    }

    /// The place behind the last one.
    #[inline]
    fn end(&self) -> usize {
        self.words * self.word_bytes
    }

    #[inline]
    fn get(&self, at: usize) -> u32 {
        self.read(at) & self.empty()
    }

    #[inline]
    fn set(&mut self, at: usize, word: u32) {
        // With the bytes behind it as they are: a copy of a known length is one store.
        let bytes = (self.read(at) & !self.empty() | word).to_le_bytes();
        self.bytes[at..at + READ_BYTES].copy_from_slice(&bytes);
    }

    #[inline]
    fn read(&self, at: usize) -> u32 {
        let mut bytes = [0; READ_BYTES];
        bytes.copy_from_slice(&self.bytes[at..at + READ_BYTES]);
        u32::from_le_bytes(bytes)
    }

    /// A word with all bits set.
    #[inline]
    fn empty(&self) -> u32 {
        u32::MAX >> (8 * (READ_BYTES - self.word_bytes))
    }

    /// Bits of the hash that neither choose the place nor, in a table of usual size, the shard.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        ((hash >> 32) as u32).wrapping_shl(self.slot_bits) & self.empty() & !self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few homes, so that rows of buckets grow long and wrap around the end.
    fn hash(slot: u32) -> u64 {
        u64::from(slot % 5).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn slots_are_found_until_they_are_removed_whatever_stands_around_them() {
        assert_eq!(Index::default().find(hash(0), |_| true), None);
        for (capacity, word_bytes) in [(96, 2), (10_000, 3), (200_000, 4)] {
            let mut index = Index::default();
            index.rebuild(capacity, std::iter::empty());
            assert_eq!(index.word_bytes, word_bytes);
            finds_until_removed(index);
        }
    }

    fn finds_until_removed(mut index: Index) {
        let mut present = [false; 96];
        let slots: [u32; 96] = std::array::from_fn(|place| (index.capacity() / 96 * place) as u32);
        let mut state = 7u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (state >> 33) as usize % slots.len();
            let slot = slots[place];
            if present[place] {
                index.remove(hash(slot), slot, hash);
            } else {
                index.insert(hash(slot), slot);
            }
            present[place] = !present[place];
            for (&slot, &present) in slots.iter().zip(&present) {
                assert_eq!(index.find(hash(slot), |found| found == slot).is_some(), present, "slot {slot}");
            }
        }
    }

    #[test]
    fn a_rebuilt_index_has_the_slots_that_are_not_vacant() {
        let mut index = Index::default();
        index.rebuild(100, (0..90).map(|slot| (slot % 3 != 0).then(|| hash(slot))));
        for slot in 0..90 {
            assert_eq!(index.find(hash(slot), |found| found == slot).is_some(), slot % 3 != 0);
        }
        assert!(index.capacity() >= 100);
    }
}
