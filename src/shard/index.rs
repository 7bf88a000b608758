//! A hash index from keys to slots, in one word of two to four bytes for each.
//!
//! Open addressing with linear probing. A word holds a slot and, in the bits that slots of this table leave over, a
//! part of the key's hash, its tag: so a lookup reads one cache line here and, with near certainty, no entry but the
//! right one. Tables whose control bytes stand apart from their slots, as hashbrown's, read two lines one after the
//! other, and in a large store each is a miss. The fewer bytes it has, the more of it stays in a cache.

use super::words::Words;

/// The width of a tag, in bits, in tables of up to 27 million slots; in larger ones what 32 bits leave over. With
/// seven, a lookup takes one in 128 words that it passes for one that it is not.
const TAG_BITS: u32 = 7;

/// How many slots more an index of few gets when it is full; else it is a quarter of what there are.
const MIN_GROWTH: usize = 6;

/// Slots by the hash of their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// At most four fifths of them in use. An empty one has all bits set, as no slot below the capacity has in its
    /// part. Any number of them: powers of two would leave up to half of the rest empty.
    words: Words,
    /// The bits of a word that are its slot; the others are the tag.
    slots: u32,
    /// How many bits that are.
    slot_bits: u32,
}

impl Default for Index {
    fn default() -> Self {
        Self { words: Words::filled(1, TAG_BITS, u8::MAX), slots: 0, slot_bits: 0 }
    }
}

impl Index {
    /// The slot with this hash that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (slots, empty, tag) = (self.slots, self.words.mask(), self.tag(hash));
        let mut at = self.home(hash);
        loop {
            let word = self.words.get(at);
            if word & !slots == tag && word != empty && is_it(word & slots) {
                return Some(word & slots);
            }
            if word == empty {
                return None;
            }
            at = self.words.next(at);
        }
    }

    /// The word where a search begins, whatever is in it.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.words.get(self.home(hash))
    }

    /// How many slots it takes before it must be built anew.
    pub(super) fn capacity(&self) -> usize {
        self.words.len() / 5 * 4
    }

    /// Builds it anew for the slots of these hashes, `len` of them, and some more: so many that all rebuilds together
    /// cost each slot a few steps.
    pub(super) fn grow(&mut self, len: usize, hashes: impl Iterator<Item = Option<u64>>) {
        self.rebuild(len + (len / 4).max(MIN_GROWTH), hashes);
    }

    /// Builds it for `capacity` slots at least, of the hashes of the slots from 0 on; `None` for one that is vacant.
    pub(super) fn rebuild(&mut self, capacity: usize, hashes: impl Iterator<Item = Option<u64>>) {
        let words = capacity.div_ceil(4) * 5;
        self.slots = (words.next_power_of_two() - 1) as u32;
        self.slot_bits = self.slots.trailing_ones();
        self.words = Words::filled(words, self.slot_bits + TAG_BITS, u8::MAX);
        for (hash, slot) in hashes.zip(0..) {
            if let Some(hash) = hash {
                self.insert(hash, slot);
            }
        }
    }

    /// Adds a slot below the capacity.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let (mut at, empty) = (self.home(hash), self.words.mask());
        while self.words.get(at) != empty {
            at = self.words.next(at);
        }
        self.words.set(at, self.tag(hash) | slot);
    }

    /// Removes a slot. Those behind it move up, so that no mark of the removed one has to stay.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = self.home(hash);
        while self.words.get(gap) & self.slots != slot {
            if self.words.get(gap) == self.words.mask() {
                return;
            }
            gap = self.words.next(gap);
        }
        let mut at = gap;
        loop {
            at = self.words.next(at);
            let word = self.words.get(at);
            if word == self.words.mask() {
                break;
            }
            let home = self.home(hash_of(word & self.slots));
            if self.steps(home, at) >= self.steps(gap, at) {
                self.words.set(gap, word);
                gap = at;
            }
        }
        self.words.set(gap, self.words.mask());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.words.memory_bytes()
    }

    /// Where a search begins: the hash's low half as a fraction of all words (Lemire 2019, "Fast random integer
    /// generation in an interval"). There are fewer words than that half has numbers: see [`MAX_SLOTS`](super::table).
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & u64::from(u32::MAX)) * self.words.len() as u64) >> 32) as usize
    }

    /// How many words it is from one place to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.words.len() - from }
    }

    /// Bits of the hash that neither choose the place nor, in a table of usual size, the shard.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        ((hash >> 32) as u32).wrapping_shl(self.slot_bits) & self.words.mask() & !self.slots
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
            assert_eq!(index.words.width(), word_bytes);
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
