//! A hash index from keys to slots, in one word of 32 bits for each.
//!
//! Open addressing with linear probing. A bucket holds a slot and, in the bits that slots of this table leave over, a
//! part of the key's hash: so a lookup reads one cache line here and, with near certainty, no entry but the right
//! one. Tables whose control bytes stand apart from their slots, as hashbrown's, read two lines one after the other,
//! and in a large store each is a miss.

/// No slot and tag: no slot below the capacity has all of a bucket's slot bits set.
const EMPTY: u32 = u32::MAX;

/// Slots by the hash of their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// At most four fifths in use. Any number of them: powers of two would leave up to half of the rest empty.
    buckets: Box<[u32]>,
    /// The bits of a bucket that are its slot; the others are the tag.
    slots: u32,
    /// How many bits that are.
    slot_bits: u32,
}

impl Default for Index {
    fn default() -> Self {
        Self { buckets: Box::new([EMPTY]), slots: 0, slot_bits: 0 }
    }
}

impl Index {
    /// The slot with this hash that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (slots, tag) = (self.slots, self.tag(hash));
        let mut at = self.home(hash);
        loop {
            let Some(&bucket) = self.buckets.get(at) else {
                at = 0;
                continue;
            };
            if bucket & !slots == tag && bucket != EMPTY && is_it(bucket & slots) {
                return Some(bucket & slots);
            }
            if bucket == EMPTY {
                return None;
            }
            at += 1;
        }
    }

    /// The bucket where a search begins, whatever is in it.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.buckets[self.home(hash)]
    }

    /// How many slots it takes before it must be built anew.
    pub(super) fn capacity(&self) -> usize {
        self.buckets.len() / 5 * 4
    }

    /// Builds it for `capacity` slots at least, of the hashes of the slots from 0 on; `None` for one that is vacant.
    pub(super) fn rebuild(&mut self, capacity: usize, hashes: impl Iterator<Item = Option<u64>>) {
        let buckets = capacity.div_ceil(4) * 5;
        self.slots = (buckets.next_power_of_two() - 1) as u32;
        self.slot_bits = self.slots.trailing_ones();
        self.buckets = vec![EMPTY; buckets].into();
        for (hash, slot) in hashes.zip(0..) {
            if let Some(hash) = hash {
                self.insert(hash, slot);
            }
        }
    }

    /// Adds a slot below the capacity.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        while self.buckets[at] != EMPTY {
            at = self.next(at);
        }
        self.buckets[at] = self.tag(hash) | slot;
    }

    /// Removes a slot. Those behind it move up, so that no mark of the removed one has to stay.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut gap = self.home(hash);
        while self.buckets[gap] & self.slots != slot {
            if self.buckets[gap] == EMPTY {
                return;
            }
            gap = self.next(gap);
        }
        let mut at = gap;
        loop {
            at = self.next(at);
            let bucket = self.buckets[at];
            if bucket == EMPTY {
                break;
            }
            let home = self.home(hash_of(bucket & self.slots));
            if self.steps(home, at) >= self.steps(gap, at) {
                self.buckets[gap] = bucket;
                gap = at;
            }
        }
        self.buckets[gap] = EMPTY;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.buckets.len() * size_of::<u32>()
    }

    /// Where a search begins: the hash's low half as a fraction of all buckets (Lemire 2019, "Fast random integer
    /// generation in an interval").
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & u64::from(u32::MAX)) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 < self.buckets.len() { at + 1 } else { 0 }
    }

    /// How far it is from one bucket to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.buckets.len() - from }
    }

    /// Bits of the hash that neither choose the bucket nor, in a table of usual size, the shard.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        ((hash >> 32) as u32).wrapping_shl(self.slot_bits) & !self.slots
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
        let mut index = Index::default();
        assert_eq!(index.find(hash(0), |_| true), None);
        index.rebuild(96, std::iter::empty());
        let mut present = vec![false; index.capacity()];
        let mut state = 7u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (state >> 33) as usize % present.len();
            if present[slot] {
                index.remove(hash(slot as u32), slot as u32, hash);
            } else {
                index.insert(hash(slot as u32), slot as u32);
            }
            present[slot] = !present[slot];
            for (slot, &present) in (0..).zip(&present) {
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
