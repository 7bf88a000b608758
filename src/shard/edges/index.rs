//! From ids to chunks, in a table that is replaced when it is outgrown. What the next table is to hold is moved in
//! short steps, because whoever changes a set holds a lock, and all of ten million ids take long.

use crate::hash::KeyState;

use super::chunk::Chunk;
use super::many::MAX_CHUNK;
use super::table::Table;

/// How many chunks are moved at each change. A change makes one at most: so all are moved after a third as many changes
/// as there were chunks.
const CHUNKS_MOVED: usize = 4;

/// The most ids that a change adds to one of two tables: half of a chunk that is split, all of a small one that joins
/// another, and its own.
const IDS_OF_A_CHANGE: usize = MAX_CHUNK;

#[derive(Debug)]
pub(super) struct Index {
    table: Table,
    /// The table before, while it is moved. It has the ids of the chunks from `moved` on; what it has of those before
    /// is out of date. The new one has theirs.
    old: Option<Box<Table>>,
    moved: u32,
}

impl Index {
    /// An empty one with room for so many ids.
    pub(super) fn with_room(ids: usize) -> Self {
        Self { table: Table::with_room(ids, 1), old: None, moved: 0 }
    }

    /// What `look` finds in the chunk that holds the id with this hash; it is called for every chunk that may.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let found = self.table.find(hash, &mut look);
        match &self.old {
            Some(old) if found.is_none() => {
                old.find(hash, |number| if number >= self.moved { look(number) } else { None })
            }
            _ => found,
        }
    }

    /// The word where a search begins, whatever is in it.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.table.first(hash)
    }

    /// Adds an id that stands in chunk `number`.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        self.table_of(number).insert(hash, number);
    }

    /// Notes that an id moved to another chunk.
    pub(super) fn replace(&mut self, hash: u64, from: u32, to: u32) {
        if self.old.is_none() || (from < self.moved) == (to < self.moved) {
            self.table_of(from).replace(hash, from, to);
        } else {
            self.table_of(from).remove(hash, from);
            self.table_of(to).insert(hash, to);
        }
    }

    /// Removes an id that stood in chunk `number`.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        self.table_of(number).remove(hash, number);
    }

    /// Makes room for another id and another chunk. Called before each change, with how many ids there are and all
    /// chunks by number.
    #[inline]
    pub(super) fn tend<const N: usize>(&mut self, ids: usize, chunks: &[Chunk<N>], hasher: &KeyState) {
        if self.old.is_none() && self.table.is_outgrown(chunks.len()) {
            let next = Table::with_room(ids, chunks.len());
            self.old = Some(Box::new(std::mem::replace(&mut self.table, next)));
            self.moved = 0;
        }
        if self.old.is_some() {
            self.move_some(ids, chunks, hasher);
        }
    }

    /// Whether it has the size that it should have, and nothing is left to be moved.
    pub(super) fn is_at_rest(&self, chunks: usize) -> bool {
        self.old.is_none() && !self.table.is_outgrown(chunks)
    }

    fn move_some<const N: usize>(&mut self, ids: usize, chunks: &[Chunk<N>], hasher: &KeyState) {
        // There is room until all are moved, but in a set that is small, where a change moves many ids for the size of
        // the tables, or has shrunk to nearly nothing: its chunks have many numbers, most of them free, and it may have
        // grown again before all of them had their turn.
        let has_room = self.table.has_room(ids - self.table.used() + IDS_OF_A_CHANGE, chunks.len())
            && self.old.as_ref().is_some_and(|old| old.has_room(IDS_OF_A_CHANGE, chunks.len()));
        if !has_room {
            self.table = Table::with_room(ids, chunks.len());
            self.moved = 0;
        }
        let at_once = if has_room { CHUNKS_MOVED } else { chunks.len() };
        let first = self.moved as usize;
        for chunk in chunks.iter().skip(first).take(at_once) {
            chunk.edges().iter().for_each(|edge| self.table.insert(edge.hash(hasher), self.moved));
            self.moved += 1;
        }
        if self.moved as usize == chunks.len() {
            self.old = None;
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.old.as_ref().map_or(0, |old| size_of::<Table>() + old.memory_bytes())
    }

    #[inline]
    fn table_of(&mut self, number: u32) -> &mut Table {
        match &mut self.old {
            Some(old) if number >= self.moved => old,
            _ => &mut self.table,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Index {
        /// How many ids it has, counted.
        pub(in crate::shard::edges) fn count(&self) -> usize {
            self.table.count_from(0) + self.old.as_ref().map_or(0, |old| old.count_from(self.moved))
        }

        pub(in crate::shard::edges) fn words(&self) -> usize {
            self.table.words()
        }

        pub(in crate::shard::edges) fn is_moving(&self) -> bool {
            self.old.is_some()
        }
    }
}
