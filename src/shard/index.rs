//! A hash index from keys to slots, in one word of 32 bits for each.
//!
//! Open addressing with linear probing. A bucket holds a slot and, in the bits that slots of this table leave over, a
//! part of the key's hash: so a lookup reads one cache line here and, with near certainty, no entry but the right
//! one. Tables whose control bytes stand apart from their slots, as hashbrown's, read two lines one after the other,
//! and in a large store each is a miss.

/// No slot and tag: the largest slot is never used.
const EMPTY: u32 = u32::MAX;

const MIN_BUCKETS: usize = 8;

/// Slots by the hash of their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two, at most three quarters in use.
    buckets: Box<[u32]>,
}

impl Default for Index {
    fn default() -> Self {
        Self { buckets: Box::new([EMPTY]) }
    }
}

impl Index {
    /// The slot with this hash that `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (slots, tag) = (self.slot_mask(), self.tag(hash));
        let mut at = hash as usize & (self.buckets.len() - 1);
        loop {
            let bucket = self.buckets[at];
            if bucket & !slots == tag && bucket != EMPTY && is_it(bucket & slots) {
                return Some(bucket & slots);
            }
            if bucket == EMPTY {
                return None;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// How many slots it takes before it must be built anew.
    pub(super) fn capacity(&self) -> usize {
        self.buckets.len() / 4 * 3
    }

    /// Builds it for `capacity` slots at least, of the hashes of the slots from 0 on; `None` for one that is vacant.
    pub(super) fn rebuild(&mut self, capacity: usize, hashes: impl Iterator<Item = Option<u64>>) {
        let buckets = (capacity + capacity / 3 + 1).next_power_of_two().max(MIN_BUCKETS);
        self.buckets = vec![EMPTY; buckets].into();
        for (hash, slot) in hashes.zip(0..) {
            if let Some(hash) = hash {
                self.insert(hash, slot);
            }
        }
    }

    /// Adds a slot below the capacity.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let mask = self.buckets.len() - 1;
        let mut at = hash as usize & mask;
        while self.buckets[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.buckets[at] = self.tag(hash) | slot;
    }

    /// Removes a slot. Those behind it move up, so that no mark of the removed one has to stay.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let (mask, slots) = (self.buckets.len() - 1, self.slot_mask());
        let mut gap = hash as usize & mask;
        while self.buckets[gap] & slots != slot {
            if self.buckets[gap] == EMPTY {
                return;
            }
            gap = (gap + 1) & mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let bucket = self.buckets[at];
            if bucket == EMPTY {
                break;
            }
            let home = hash_of(bucket & slots) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.buckets[gap] = bucket;
                gap = at;
            }
        }
        self.buckets[gap] = EMPTY;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.buckets.len() * size_of::<u32>()
    }

    #[inline]
    fn slot_mask(&self) -> u32 {
        (self.buckets.len() - 1) as u32
    }

    /// Bits of the hash that neither choose the bucket nor, in a table of usual size, the shard.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        (((hash >> 32) as u32) << (self.buckets.len().trailing_zeros() & 31)) & !self.slot_mask()
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
