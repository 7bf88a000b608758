//! The viewers of one namespace in one stripe: a row for each, with the items that the viewer liked, and a hash index
//! of row numbers.

use std::hash::BuildHasher;

use crate::hash::KeyState;

use super::viewers::PLACE_BYTES;
use crate::edge::ViewerWidth;
use crate::reuse;
use crate::shard::edges::{EdgeSet, Position};
use crate::shard::index::Index;

/// The items that a viewer liked, by place.
pub(super) type Items = EdgeSet<PLACE_BYTES>;

/// A place in a sweep over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlace {
    /// The rows from here on are done. It goes down, because a row that is removed is replaced by the last one: so
    /// rows that come and go in between move none past it that is to be looked at.
    pub(super) end: usize,
    /// Where to go on in the row before that. When another has taken its place, that one was done already.
    pub(super) within: Option<Position>,
}

impl RowPlace {
    /// Before all rows, however many there are.
    pub(super) const START: Self = Self { end: usize::MAX, within: None };
}

/// Rows that a sweep looks at while a lock is held, and about so many edges in them: some tens of microseconds.
const ROWS_PER_HOLD: usize = 128;
pub(super) const EDGES_PER_HOLD: usize = 512;

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

    /// Drops expired unlikes from some of the rows, the last one first, and the rows that have nothing else; returns
    /// where to go on.
    pub(super) fn sweep(&mut self, place: RowPlace, expired_ms: u64, hasher: &KeyState) -> Option<RowPlace> {
        match self {
            Self::Bits64(table) => table.sweep(place, expired_ms, hasher),
            Self::Bits128(table) => table.sweep(place, expired_ms, hasher),
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
        Some(self.remove_row(row, hash, hasher))
    }

    fn remove_row(&mut self, row: u32, hash: u64, hasher: &KeyState) -> Items {
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
        self.rows.swap_remove(row as usize).items
    }

    fn sweep(&mut self, place: RowPlace, expired_ms: u64, hasher: &KeyState) -> Option<RowPlace> {
        let len = self.rows.len();
        let RowPlace { end, mut within } = if place.end > len { RowPlace { end: len, within: None } } else { place };
        let (first, mut left) = (end.saturating_sub(ROWS_PER_HOLD), EDGES_PER_HOLD);
        for row in (first..end).rev() {
            let items = &mut self.rows[row].items;
            if left == 0 {
                return Some(RowPlace { end: row + 1, within: None });
            }
            let looked_at = items.len().min(left);
            within = items.sweep(within, left, expired_ms, hasher);
            if within.is_some() {
                return Some(RowPlace { end: row + 1, within });
            }
            left -= looked_at;
            if items.is_empty() {
                self.remove_row(row as u32, self.rows[row].hash(hasher), hasher);
            }
        }
        if first == 0 {
            self.give_back_room(hasher);
            return None;
        }
        Some(RowPlace { end: first, within: None })
    }

    /// When less than half of it is in use. Some is kept for the viewers who come next. In one go, as growing.
    fn give_back_room(&mut self, hasher: &KeyState) {
        let kept = self.rows.len() + (self.rows.len() / 4).max(4);
        if self.rows.capacity() > 2 * kept {
            self.rows.shrink_to(kept);
        }
        if self.index.capacity() > 2 * kept {
            self.index.rebuild(kept, self.rows.iter().map(|row| Some(row.hash(hasher))));
        }
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

    /// The rows that there are, with their items by place.
    fn listed(rows: &Rows, viewers: u64, hasher: &KeyState) -> BTreeMap<u64, BTreeMap<u128, Stamp>> {
        let of = |viewer: u64| {
            let mut listed = BTreeMap::new();
            let items = rows.get(hash_viewer(hasher, viewer.into()), viewer.into())?;
            items.walk(None, usize::MAX, &mut |id, stamp| _ = listed.insert(id, stamp));
            Some((viewer, listed))
        };
        (0..viewers).filter_map(of).collect()
    }

    #[test]
    fn a_sweep_drops_all_that_is_expired_of_every_viewer_who_stays_whoever_comes_and_goes_meanwhile() {
        const VIEWERS: u64 = 3_000;
        let hasher = KeyState::with_seed(5);
        for seed in 0..40_u64 {
            let (mut rows, mut state) = (Rows::new(ViewerWidth::Bits64), seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            for viewer in 0..VIEWERS {
                // Few have many items; most have nothing but an unlike.
                let items = if viewer.is_multiple_of(500) { 2_000 } else { 1 + viewer % 2 };
                for item in 0..items {
                    let stamp = Stamp::new(random() % 10, random().is_multiple_of(5));
                    rows.entry(hash_viewer(&hasher, viewer.into()), viewer.into(), &hasher).set(
                        item.into(),
                        stamp,
                        0,
                        &hasher,
                    );
                }
            }
            let mut model = listed(&rows, VIEWERS, &hasher);
            let before = rows.memory_bytes();
            let mut next = Some(RowPlace::START);
            while let Some(place) = next {
                next = rows.sweep(place, 9, &hasher);
                let (gone, new) = (random() % VIEWERS, VIEWERS + random() % VIEWERS);
                rows.remove(hash_viewer(&hasher, gone.into()), gone.into(), &hasher);
                model.remove(&gone);
                rows.entry(hash_viewer(&hasher, new.into()), new.into(), &hasher).set(
                    7,
                    Stamp::new(1, true),
                    0,
                    &hasher,
                );
            }
            for items in model.values_mut() {
                items.retain(|_, stamp| stamp.is_like() || stamp.time_ms() >= 9);
            }
            model.retain(|_, items| !items.is_empty());
            assert_eq!(listed(&rows, VIEWERS, &hasher), model, "seed {seed}");
            let left: usize = model.values().map(BTreeMap::len).sum();
            assert!(rows.memory_bytes() < before / 2, "{} of {before} bytes for {left} edges", rows.memory_bytes());
        }
    }

    #[test]
    fn rows_that_a_sweep_has_emptied_take_viewers_again() {
        let (hasher, mut rows) = (KeyState::with_seed(5), Rows::new(ViewerWidth::Bits128));
        for round in 0..3 {
            for viewer in 0..1_000 {
                let items = rows.entry(hash_viewer(&hasher, viewer), viewer, &hasher);
                assert!(items.is_empty());
                items.set(1, Stamp::new(round, false), 0, &hasher);
            }
            let mut next = Some(RowPlace::START);
            while let Some(place) = next {
                next = rows.sweep(place, round + 1, &hasher);
            }
            assert!(rows.memory_bytes() < 300, "{}", rows.memory_bytes());
            assert!(rows.get(hash_viewer(&hasher, 1), 1).is_none());
        }
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
