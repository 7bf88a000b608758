//! The viewers of one namespace in one stripe: a row for each, with the items that the viewer liked, and a hash index
//! of row numbers.

use std::hash::BuildHasher;

use crate::hash::KeyState;

use super::viewers::PLACE_BYTES;
use crate::edge::ViewerWidth;
use crate::reuse;
use crate::shard::edges::EdgeSet;
use crate::shard::index::Index;

/// The items that a viewer liked, by place.
pub(super) type Items = EdgeSet<PLACE_BYTES>;

/// By the width of the viewers, because a row of narrow ones takes a quarter less.
#[derive(Debug)]
pub(super) enum Rows {
    Bits64(Table<8>),
    Bits128(Table<16>),
}

#[derive(Debug, Default)]
pub(super) struct Table<const N: usize> {
    index: Index,
    rows: Vec<Row<N>>,
}

#[derive(Debug)]
struct Row<const N: usize> {
    viewer: [u8; N],
    items: Items,
}

const _: () = assert!(size_of::<Row<8>>() == 24 && size_of::<Row<16>>() == 32);

/// The hash of a viewer. Its halves are hashed one after the other, because together they are multiplied by each
/// other: whoever chooses ids could choose one factor to be zero, whatever the seed.
#[inline]
pub(super) fn hash_viewer(hasher: &KeyState, viewer: u128) -> u64 {
    hasher.hash_one((viewer >> 64) as u64 ^ hasher.hash_one(viewer as u64))
}

impl Rows {
    pub(super) fn new(width: ViewerWidth) -> Self {
        match width {
            ViewerWidth::Bits64 => Self::Bits64(Table::default()),
            ViewerWidth::Bits128 => Self::Bits128(Table::default()),
        }
    }

    /// The items of a viewer.
    #[inline]
    pub(super) fn get(&self, hash: u64, viewer: u128) -> Option<&Items> {
        match self {
            Self::Bits64(table) => table.get(hash, viewer),
            Self::Bits128(table) => table.get(hash, viewer),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, hash: u64, viewer: u128) -> Option<&mut Items> {
        match self {
            Self::Bits64(table) => table.get_mut(hash, viewer),
            Self::Bits128(table) => table.get_mut(hash, viewer),
        }
    }

    /// The items of a viewer, who gets a row if there is none.
    #[inline]
    pub(super) fn entry(&mut self, hash: u64, viewer: u128, hasher: &KeyState) -> &mut Items {
        match self {
            Self::Bits64(table) => table.entry(hash, viewer, hasher),
            Self::Bits128(table) => table.entry(hash, viewer, hasher),
        }
    }

    /// Removes a viewer with all items.
    pub(super) fn remove(&mut self, hash: u64, viewer: u128, hasher: &KeyState) -> Option<Items> {
        match self {
            Self::Bits64(table) => table.remove(hash, viewer, hasher),
            Self::Bits128(table) => table.remove(hash, viewer, hasher),
        }
    }

    /// Makes room for so many further viewers.
    pub(super) fn reserve(&mut self, viewers: usize, hasher: &KeyState) {
        match self {
            Self::Bits64(table) => table.reserve(viewers, hasher),
            Self::Bits128(table) => table.reserve(viewers, hasher),
        }
    }

    /// Calls `visit` with the items of each viewer.
    pub(super) fn for_each(&self, visit: impl FnMut(&Items)) {
        match self {
            Self::Bits64(table) => table.rows.iter().map(|row| &row.items).for_each(visit),
            Self::Bits128(table) => table.rows.iter().map(|row| &row.items).for_each(visit),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let mut bytes = size_of::<Self>();
        self.for_each(|items| bytes += items.memory_bytes());
        bytes
            + match self {
                Self::Bits64(table) => table.memory_bytes(),
                Self::Bits128(table) => table.memory_bytes(),
            }
    }
}

impl<const N: usize> Row<N> {
    fn hash(&self, hasher: &KeyState) -> u64 {
        let mut bytes = [0; size_of::<u128>()];
        bytes[..N].copy_from_slice(&self.viewer);
        hash_viewer(hasher, u128::from_le_bytes(bytes))
    }
}

fn id<const N: usize>(viewer: u128) -> [u8; N] {
    let mut id = [0; N];
    id.copy_from_slice(&viewer.to_le_bytes()[..N]);
    id
}

impl<const N: usize> Table<N> {
    #[inline]
    fn find(&self, hash: u64, viewer: u128) -> Option<u32> {
        let id = id(viewer);
        self.index.find(hash, |row| self.rows[row as usize].viewer == id)
    }

    #[inline]
    fn get(&self, hash: u64, viewer: u128) -> Option<&Items> {
        Some(&self.rows[self.find(hash, viewer)? as usize].items)
    }

    #[inline]
    fn get_mut(&mut self, hash: u64, viewer: u128) -> Option<&mut Items> {
        let row = self.find(hash, viewer)?;
        Some(&mut self.rows[row as usize].items)
    }

    #[inline]
    fn entry(&mut self, hash: u64, viewer: u128, hasher: &KeyState) -> &mut Items {
        let row = match self.find(hash, viewer) {
            Some(row) => row as usize,
            None => self.add(hash, viewer, hasher),
        };
        &mut self.rows[row].items
    }

    /// A stripe has far fewer viewers than 32 bits can count: each takes 32 bytes and more.
    fn add(&mut self, hash: u64, viewer: u128, hasher: &KeyState) -> usize {
        let row = self.rows.len();
        if row == self.index.capacity() {
            self.index.grow(row, self.rows.iter().map(|row| Some(row.hash(hasher))));
        }
        reuse::make_room(&mut self.rows);
        self.rows.push(Row { viewer: id(viewer), items: Items::default() });
        self.index.insert(hash, row as u32);
        row
    }

    fn remove(&mut self, hash: u64, viewer: u128, hasher: &KeyState) -> Option<Items> {
        let row = self.find(hash, viewer)?;
        let rows = &self.rows;
        let hash_of = |row: u32| rows[row as usize].hash(hasher);
        self.index.remove(hash, row, hash_of);
        // The last row moves to where this one was.
        let last = rows.len() as u32 - 1;
        if row != last {
            let hash = hash_of(last);
            self.index.remove(hash, last, hash_of);
            self.index.insert(hash, row);
        }
        Some(self.rows.swap_remove(row as usize).items)
    }

    fn reserve(&mut self, viewers: usize, hasher: &KeyState) {
        let rows = self.rows.len() + viewers;
        if rows > self.index.capacity() {
            self.index.rebuild(rows, self.rows.iter().map(|row| Some(row.hash(hasher))));
        }
        self.rows.reserve_exact(viewers);
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.rows.capacity() * size_of::<Row<N>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::edge::Stamp;

    #[test]
    fn the_index_is_built_anew_a_few_times_only() {
        let hasher = KeyState::with_seed(5);
        let mut table = Table::<8> { index: Index::default(), rows: Vec::new() };
        // As when a store is opened, with room for no more than there are.
        table.reserve(1_000, &hasher);
        let (mut built, mut capacity) = (0, table.index.capacity());
        for viewer in 0..20_000 {
            table.entry(hash_viewer(&hasher, viewer), viewer, &hasher);
            built += usize::from(table.index.capacity() != capacity);
            capacity = table.index.capacity();
        }
        assert!((10..20).contains(&built), "built {built} times");
    }

    #[test]
    fn each_viewer_has_the_items_of_that_viewer_whoever_comes_and_goes() {
        for width in [ViewerWidth::Bits64, ViewerWidth::Bits128] {
            let hasher = KeyState::with_seed(5);
            let (mut rows, mut model) = (Rows::new(width), BTreeMap::new());
            let mut state = 3u64;
            for step in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = u128::from((state >> 33) % 300);
                // The wide ones are equal but for their upper half.
                let viewer = if width == ViewerWidth::Bits64 { number } else { number << 64 };
                let hash = hash_viewer(&hasher, viewer);
                let stamp = Stamp::new(step, true);
                if (state >> 50).is_multiple_of(3) {
                    let removed = rows.remove(hash, viewer, &hasher).and_then(|items| items.get(1, &hasher));
                    assert_eq!(removed, model.remove(&viewer));
                } else {
                    rows.entry(hash, viewer, &hasher).set(1, stamp, 0, &hasher);
                    model.insert(viewer, stamp);
                }
                let mut len = 0;
                rows.for_each(|_| len += 1);
                assert_eq!(len, model.len());
            }
            for (viewer, stamp) in model {
                let items = rows.get(hash_viewer(&hasher, viewer), viewer).unwrap();
                assert_eq!(items.get(1, &hasher), Some(stamp));
            }
        }
    }
}
