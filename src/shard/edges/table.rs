//! A hash table from ids to the numbers of the chunks that hold them, in one word of two to four bytes for each. An
//! id itself stands only in its chunk.
//!
//! Open addressing with linear probing. A word holds a chunk's number and, in the bits that the numbers leave over, a
//! part of the id's hash, its tag: so a lookup reads hardly any chunk but the right one. Two ids of the same tag in the
//! same chunk have equal words. Either word may be taken for either id: whichever is found first on the way from an
//! id's home is found again, and the other one stands behind it on the same way.

use crate::shard::words::Words;

/// Ends the way from a home.
const EMPTY: u32 = 0;

/// Was removed; the way goes on.
const DELETED: u32 = 1;

/// What a word holds for chunk 0.
const FIRST: u32 = 2;

const MIN_WORDS: usize = 24;

/// The least width of a tag, in bits: on its way a lookup takes one in 64 words for one that it is not.
const TAG_BITS: u32 = 6;

/// Chunks by the hash of the ids in them.
#[derive(Debug)]
pub(super) struct Table {
    words: Words,
    number_bits: u32,
    used: usize,
    deleted: usize,
}

impl Table {
    /// An empty one with room for so many ids in so many chunks and some more.
    pub(super) fn with_room(ids: usize, chunks: usize) -> Self {
        let words = (ids + ids / 5 * 2).max(MIN_WORDS);
        // A third more than will be in use, so that there are numbers for as long as moving to the next table takes.
        // Always fewer than 32 bits: the edges of a billion chunks take terabytes.
        let numbers = chunks + chunks / 4;
        let number_bits = (numbers / 3 * 4 + 16).next_power_of_two().trailing_zeros();
        let words = Words::filled(words, number_bits + TAG_BITS, 0);
        Self { words, number_bits, used: 0, deleted: 0 }
    }

    /// What `look` finds in the chunk that holds the id with this hash; it is called for every chunk that may.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let (tag, numbers) = (self.tag(hash), self.number_mask());
        let mut found = None;
        self.position(hash, |word| {
            if word & !numbers == tag && word & numbers >= FIRST {
                found = look((word & numbers) - FIRST);
            }
            found.is_some()
        });
        found
    }

    /// The word where a search begins, whatever is in it.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.words.get(self.home(hash))
    }

    /// Adds an id that stands in chunk `number`.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let word = self.word(hash, number);
        if let Some(at) = self.position(hash, |word| word == EMPTY || word == DELETED) {
            self.deleted -= usize::from(self.words.get(at) == DELETED);
            self.used += 1;
            self.words.set(at, word);
        }
        debug_assert!(self.occupied() < self.words.len(), "every way must end");
    }

    /// Notes that an id moved to another chunk.
    pub(super) fn replace(&mut self, hash: u64, from: u32, to: u32) {
        let (from, to) = (self.word(hash, from), self.word(hash, to));
        if let Some(at) = self.position(hash, |word| word == from) {
            self.words.set(at, to);
        }
    }

    /// Removes an id that stood in chunk `number`.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let word = self.word(hash, number);
        let Some(mut at) = self.position(hash, |found| found == word) else { return };
        self.used -= 1;
        self.deleted += 1;
        self.words.set(at, DELETED);
        // What is last on every way that leads here need not stay.
        if self.words.get(self.words.next(at)) == EMPTY {
            while self.words.get(at) == DELETED {
                self.words.set(at, EMPTY);
                self.deleted -= 1;
                at = at.checked_sub(1).unwrap_or(self.words.len() - 1);
            }
        }
    }

    /// Whether another is wanted in its place: because it becomes full, or has become too large.
    pub(super) fn is_outgrown(&self, chunks: usize) -> bool {
        let is_sparse = self.used < self.words.len() / 4 && self.words.len() > MIN_WORDS;
        is_sparse || self.occupied() >= self.words.len() / 6 * 5 || chunks >= self.numbers() / 4 * 3
    }

    /// Whether it can take another id of another chunk, and `more` ids before that.
    pub(super) fn has_room(&self, more: usize, chunks: usize) -> bool {
        self.occupied() + more < self.words.len() / 16 * 15 && chunks < self.numbers()
    }

    /// How many ids it has.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.words.memory_bytes()
    }

    fn occupied(&self) -> usize {
        self.used + self.deleted
    }

    /// How many chunks it can tell apart.
    fn numbers(&self) -> usize {
        (1 << self.number_bits) - FIRST as usize
    }

    /// The first word on the way from the hash's home that `is_it`; every way ends with an empty one.
    #[inline]
    fn position(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let word = self.words.get(at);
            if is_it(word) {
                return Some(at);
            }
            if word == EMPTY {
                return None;
            }
            at = self.words.next(at);
        }
    }

    /// Where a search begins: the upper bits of the product, as the length need not be a power of two.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.words.len() as u128) >> 64) as usize
    }

    #[inline]
    fn word(&self, hash: u64, number: u32) -> u32 {
        debug_assert!(number + FIRST <= self.number_mask(), "another table is wanted before a number is too large");
        self.tag(hash) | (number + FIRST)
    }

    /// The hash's low bits, because the upper ones choose the home.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        ((hash as u32) << self.number_bits) & self.words.mask()
    }

    #[inline]
    fn number_mask(&self) -> u32 {
        (1 << self.number_bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Table {
        /// How many ids of the chunks from `first` on it has; counted, and compared with the counts that it keeps.
        pub(in crate::shard::edges) fn count_from(&self, first: u32) -> usize {
            let words = || (0..self.words.len()).map(|at| self.words.get(at));
            let deleted = words().filter(|&word| word == DELETED).count();
            let used = words().filter(|&word| word != DELETED && word != EMPTY).count();
            assert_eq!((used, deleted), (self.used, self.deleted));
            assert!(used + deleted < self.words.len(), "every way must end");
            words().filter(|&word| word & self.number_mask() >= first + FIRST).count()
        }

        pub(in crate::shard::edges) fn words(&self) -> usize {
            self.words.len()
        }
    }

    /// Few homes and tags, so that ways grow long, wrap around the end, and have equal words.
    fn hash(id: u64) -> u64 {
        (id % 7).wrapping_mul(0x2492_4924_9249_2492) | (id % 3)
    }

    #[test]
    fn a_chunk_is_found_until_its_id_is_removed_whatever_stands_around_it() {
        for (chunks, word_bytes) in [(4, 2), (4_000, 3), (400_000, 4)] {
            let table = Table::with_room(70, chunks);
            assert_eq!(table.words.width(), word_bytes);
            finds_until_removed(table, chunks as u32);
        }
    }

    fn finds_until_removed(mut table: Table, chunks: u32) {
        let mut held = [None; 80];
        let mut state = 7u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (id, number) = ((state >> 33) % 80, (state >> 45) as u32 % 4 * (chunks / 4));
            let chunk = &mut held[id as usize];
            *chunk = match *chunk {
                None => {
                    table.insert(hash(id), number);
                    Some(number)
                }
                Some(from) if (state >> 60).is_multiple_of(2) => {
                    table.replace(hash(id), from, number);
                    Some(number)
                }
                Some(from) => {
                    table.remove(hash(id), from);
                    None
                }
            };
            assert_eq!(table.count_from(0), held.iter().flatten().count());
            for (id, chunk) in (0..).zip(held).filter_map(|(id, chunk)| Some((id, chunk?))) {
                assert_eq!(table.find(hash(id), |number| (number == chunk).then_some(chunk)), Some(chunk), "id {id}");
            }
        }
    }

    #[test]
    fn removing_all_leaves_no_marks_where_a_way_ends() {
        let mut table = Table::with_room(20, 1);
        (0..20).for_each(|id| table.insert(hash(id), 0));
        (0..20).for_each(|id| table.remove(hash(id), 0));
        assert_eq!((table.count_from(0), table.deleted), (0, 0));
    }
}
