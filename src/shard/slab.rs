//! The entries of a table, by slot, in chunks of 32 KiB: growing moves no more than one of them, and gives back no
//! block so large that the allocator cannot use it again for the next table's.

use std::ops::{Index, IndexMut};

use super::entry::Entry;

const CHUNK: usize = 1 << 10;

/// All entries that there are, vacant ones too.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// All but the last have [`CHUNK`] entries.
    chunks: Vec<Vec<Entry>>,
}

impl Slab {
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Entry> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match self.chunks.last_mut() {
            // Doubles up to a whole chunk.
            Some(last) if last.len() < CHUNK => last.push(entry),
            _ => self.chunks.push(vec![entry]),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let entries: usize = self.chunks.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry>() + self.chunks.capacity() * size_of::<Vec<Entry>>()
    }
}

impl Index<u32> for Slab {
    type Output = Entry;

    #[inline]
    fn index(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<u32> for Slab {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_keeps_its_entry_while_chunks_are_added() {
        let mut slab = Slab::default();
        let end = 3 * CHUNK as u32 + 7;
        for slot in 0..end {
            assert!(slab.get(slot).is_none());
            slab.push(Entry::vacant());
            slab[slot].value = slot.into();
        }
        assert_eq!(slab.len(), end as usize);
        assert!(slab.iter().map(|entry| entry.value).eq(0..i64::from(end)));
        for slot in [0, CHUNK as u32 - 1, CHUNK as u32, end - 1] {
            assert_eq!(slab.get_mut(slot).map(|entry| entry.value), Some(slot.into()));
        }
        assert!(slab.memory_bytes() < (4 * CHUNK + 8) * size_of::<Entry>());
    }
}
