//! The edges of a set that has many: chunks in the order of (stamp, id), and an index from an id to its chunk. An edge
//! stands in the chunk whose range covers its stamp and id, so a new stamp may move it to another.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::hash::KeyState;

use super::Position;
use super::chunk::{Chunk, Edge};
use super::index::Index;
use crate::edge::Stamp;
use crate::reuse;

/// The most edges in a chunk. Finding an id looks at all of them; with half as many that takes a little less time, and
/// each edge half a byte more.
pub(super) const MAX_CHUNK: usize = 128;

/// A chunk of so many edges joins the one before it, when both have no more than [`MAX_JOINED`] together.
const SMALL_CHUNK: usize = MAX_CHUNK / 4;

/// Leaves room, so that the next few edges do not split again what was joined.
const MAX_JOINED: usize = MAX_CHUNK / 4 * 3;

/// How many chunks one search for likes looks at: they may hold nothing but unlikes.
const CHUNKS_SEARCHED: usize = 16;

/// Where an edge stands, until the next change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Of its chunk.
    number: u32,
    at: usize,
}

#[derive(Debug)]
pub(super) struct Many<const N: usize> {
    /// By number. Those that are free are empty.
    chunks: Vec<Chunk<N>>,
    free: Vec<u32>,
    /// The numbers of the chunks, by the least edge that each may hold. The first is [`Edge::LEAST`].
    order: BTreeMap<Edge<N>, u32>,
    index: Index,
    len: usize,
}

impl<const N: usize> Many<N> {
    pub(super) fn new(edges: Chunk<N>, hasher: &KeyState) -> Self {
        let mut index = Index::with_room(edges.len());
        for edge in edges.edges() {
            index.insert(edge.hash(hasher), 0);
        }
        let (len, order) = (edges.len(), BTreeMap::from([(Edge::LEAST, 0)]));
        Self { chunks: vec![edges], free: Vec::new(), order, index, len }
    }

    /// Takes all edges, after which this one is of no use.
    pub(super) fn take_all(&mut self) -> Chunk<N> {
        let mut all = Chunk::default();
        self.chunks.drain(..).for_each(|chunk| all.append(chunk));
        all
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Some edge's stamp.
    pub(super) fn peek(&self) -> Option<Stamp> {
        self.chunks.last()?.edges().first().map(Edge::stamp)
    }

    /// Where the edge of an id stands.
    #[inline]
    pub(super) fn find(&self, id: &Edge<N>, hash: u64) -> Option<Found> {
        self.index.find(hash, |number| Some(Found { number, at: self.chunks[number as usize].find(id)? }))
    }

    /// Reads what a search for an id with this hash reads first. Means nothing.
    #[inline]
    pub(super) fn read(&self, hash: u64) -> u32 {
        self.index.first(hash)
    }

    /// The stamp of an edge.
    #[inline]
    pub(super) fn stamp(&self, found: Found) -> Stamp {
        self.chunks[found.number as usize].edges()[found.at].stamp()
    }

    /// Inserts an edge whose id has this hash, or replaces the one of the same id, which was just found.
    pub(super) fn set(&mut self, edge: Edge<N>, hash: u64, found: Option<Found>, expired_ms: u64, hasher: &KeyState) {
        self.index.tend(self.len, &self.chunks, hasher);
        let Some(Found { number: from, at }) = found else {
            let to = self.room_for(&edge, expired_ms, hasher);
            self.chunks[to as usize].push(edge);
            self.index.insert(hash, to);
            self.len += 1;
            return;
        };
        if self.covering(&edge).1 == from {
            self.chunks[from as usize].set_stamp(at, edge.stamp());
            return;
        }
        let before = self.chunks[from as usize].remove(at);
        let to = self.room_for(&edge, expired_ms, hasher);
        self.chunks[to as usize].push(edge);
        self.index.replace(hash, from, to);
        self.tend_chunk(from, &before, hasher);
    }

    pub(super) fn remove(&mut self, id: &Edge<N>, hasher: &KeyState) -> Option<Stamp> {
        self.index.tend(self.len, &self.chunks, hasher);
        let hash = id.hash(hasher);
        let Found { number, at } = self.find(id, hash)?;
        let removed = self.chunks[number as usize].remove(at);
        self.index.remove(hash, number);
        self.len -= 1;
        self.tend_chunk(number, &removed, hasher);
        Some(removed.stamp())
    }

    /// As [`EdgeSet::newest`](super::EdgeSet::newest), with a `limit` above zero.
    pub(super) fn newest(
        &self,
        before: Option<Position>,
        limit: usize,
        out: &mut Vec<(u128, Stamp)>,
    ) -> Option<Position> {
        let end = before.map_or(Bound::Unbounded, |before| Bound::Included(Edge::at(before)));
        let chunks = self.order.range((Bound::Unbounded, end)).rev();
        // The lowest edge that a chunk may hold is the place to go on from: `before` may be just that.
        let chunks = chunks.skip_while(|(lowest, _)| before.is_some_and(|before| lowest.position() >= before));
        let mut wanted = limit;
        for ((lowest, number), searched) in chunks.zip(1..) {
            let likes = self.chunks[*number as usize].newest(before);
            let taken = &likes[..likes.len().min(wanted)];
            out.extend(taken.iter().map(|edge| (edge.id(), edge.stamp())));
            if taken.len() < likes.len() {
                return taken.last().map(Edge::position);
            }
            wanted -= taken.len();
            if wanted == 0 || searched == CHUNKS_SEARCHED {
                return (*lowest != Edge::LEAST).then(|| lowest.position());
            }
        }
        None
    }

    /// As [`EdgeSet::walk`](super::EdgeSet::walk).
    pub(super) fn walk(
        &self,
        from: Option<Position>,
        budget: usize,
        visit: &mut dyn FnMut(u128, Stamp),
    ) -> Option<Position> {
        let start = from.map_or(Edge::LEAST, |from| self.covering(&Edge::at(from)).0);
        let mut visited = 0;
        for (lowest, number) in self.order.range(start..) {
            if visited >= budget.max(1) {
                return Some(lowest.position());
            }
            let edges = self.chunks[*number as usize].edges();
            edges.iter().for_each(|edge| visit(edge.id(), edge.stamp()));
            visited += edges.len();
        }
        None
    }

    /// As [`EdgeSet::last`](super::EdgeSet::last).
    pub(super) fn last(&self) -> Option<Position> {
        let (lowest, number) = self.order.last_key_value()?;
        Some(self.chunks[*number as usize].edges().iter().max().unwrap_or(lowest).position())
    }

    /// As [`EdgeSet::sweep`](super::EdgeSet::sweep).
    pub(super) fn sweep(
        &mut self,
        from: Option<Position>,
        budget: usize,
        expired_ms: u64,
        hasher: &KeyState,
    ) -> Option<Position> {
        // From here on nothing is expired.
        let end = Edge::at((Stamp::new(expired_ms, true), 0));
        let mut next = Some(from.map_or(Edge::LEAST, Edge::at));
        for _ in 0..budget.div_ceil(MAX_CHUNK) {
            self.index.tend(self.len, &self.chunks, hasher);
            next = next.filter(|at| *at < end).and_then(|at| self.sweep_chunk(at, expired_ms, hasher));
            if next.is_none() && self.index.is_at_rest(self.chunks.len()) {
                return None;
            }
        }
        Some(next.unwrap_or(end).position())
    }

    /// Drops the expired unlikes of the chunk that covers an edge, and returns the least edge that the one after it may
    /// hold. After [`Index::tend`], as every change.
    fn sweep_chunk(&mut self, at: Edge<N>, expired_ms: u64, hasher: &KeyState) -> Option<Edge<N>> {
        let (lowest, number) = self.covering(&at);
        let next = self.order.range((Bound::Excluded(lowest), Bound::Unbounded)).next().map(|(next, _)| *next);
        if self.drop_expired(number, expired_ms, hasher) {
            self.tend_chunk(number, &lowest, hasher);
        }
        next
    }

    /// What it takes on the heap. The nodes of the order are counted as half full.
    pub(super) fn memory_bytes(&self) -> usize {
        self.len * size_of::<Edge<N>>()
            + self.chunks.capacity() * size_of::<Chunk<N>>()
            + self.free.capacity() * size_of::<u32>()
            + self.order.len() * 2 * size_of::<(Edge<N>, u32)>()
            + self.index.memory_bytes()
    }

    /// The chunk that a place belongs to, and the least edge that it may hold.
    fn covering(&self, edge: &Edge<N>) -> (Edge<N>, u32) {
        let (lowest, number) =
            self.order.range(..=edge).next_back().expect("the first chunk begins with the least edge");
        (*lowest, *number)
    }

    /// The chunk that takes a new edge, after there is room in it.
    fn room_for(&mut self, edge: &Edge<N>, expired_ms: u64, hasher: &KeyState) -> u32 {
        let (_, number) = self.covering(edge);
        if self.chunks[number as usize].len() < MAX_CHUNK || self.drop_expired(number, expired_ms, hasher) {
            return number;
        }
        let is_last = self.order.last_key_value().is_some_and(|(_, last)| *last == number);
        if is_last && self.chunks[number as usize].edges().iter().all(|held| held < edge) {
            // Edges that come in the order of time are not split, so that chunks stay full.
            return self.add_chunk(*edge, Chunk::default());
        }
        let upper = self.chunks[number as usize].split();
        let lowest = upper.edges()[0];
        let hashes: Vec<_> = upper.edges().iter().map(|moved| moved.hash(hasher)).collect();
        let upper = self.add_chunk(lowest, upper);
        for hash in hashes {
            self.index.replace(hash, number, upper);
        }
        if *edge < lowest { number } else { upper }
    }

    /// Drops the expired unlikes of a chunk, which may become empty; `false` when there is none.
    fn drop_expired(&mut self, number: u32, expired_ms: u64, hasher: &KeyState) -> bool {
        let chunk = &mut self.chunks[number as usize];
        let len = chunk.len();
        for edge in chunk.edges().iter().filter(|edge| edge.is_expired(expired_ms)) {
            self.index.remove(edge.hash(hasher), number);
            self.len -= 1;
        }
        chunk.drop_expired(expired_ms);
        chunk.len() < len
    }

    /// Puts a chunk into the order, with the least edge that it may hold.
    fn add_chunk(&mut self, lowest: Edge<N>, chunk: Chunk<N>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            reuse::make_room(&mut self.chunks);
            self.chunks.push(Chunk::default());
            (self.chunks.len() - 1) as u32
        });
        self.chunks[number as usize] = chunk;
        self.order.insert(lowest, number);
        number
    }

    /// After an edge was taken out of a chunk: it goes when it is empty, and joins the one before it when it is small.
    fn tend_chunk(&mut self, number: u32, taken: &Edge<N>, hasher: &KeyState) {
        let len = self.chunks[number as usize].len();
        if len > SMALL_CHUNK || self.order.len() == 1 {
            return;
        }
        let (lowest, _) = self.covering(taken);
        if let Some((_, &before)) = self.order.range(..lowest).next_back() {
            if len + self.chunks[before as usize].len() <= MAX_JOINED || len == 0 {
                let joining = std::mem::take(&mut self.chunks[number as usize]);
                for edge in joining.edges() {
                    self.index.replace(edge.hash(hasher), number, before);
                }
                self.chunks[before as usize].append(joining);
                self.order.remove(&lowest);
                self.free.push(number);
            }
        } else if len == 0 {
            // The next one becomes the first.
            self.order.pop_first();
            if let Some((_, next)) = self.order.pop_first() {
                self.order.insert(Edge::LEAST, next);
            }
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<const N: usize> Many<N> {
        /// What must hold after every change.
        pub(in crate::shard::edges) fn check(&self, hasher: &KeyState) {
            let lowest: Vec<_> = self.order.keys().copied().collect();
            assert_eq!(lowest[0], Edge::LEAST);
            let mut len = 0;
            for (place, (from, &number)) in self.order.iter().enumerate() {
                let chunk = &self.chunks[number as usize];
                assert!((1..=MAX_CHUNK).contains(&chunk.len()), "{} edges", chunk.len());
                for edge in chunk.edges() {
                    assert!(edge >= from && lowest.get(place + 1).is_none_or(|next| edge < next), "{edge:?}");
                    let found = self.find(edge, edge.hash(hasher)).expect("every edge is in the index");
                    assert_eq!((found.number, chunk.edges()[found.at]), (number, *edge));
                }
                len += chunk.len();
            }
            assert_eq!((self.len, self.index.count()), (len, len));
            let mut numbers: Vec<_> = self.order.values().chain(&self.free).copied().collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..self.chunks.len() as u32), "each number is in use once, or free once");
            assert!(self.free.iter().all(|&number| self.chunks[number as usize].len() == 0));
        }

        /// How many chunks there are, and words in the index.
        pub(in crate::shard::edges) fn shape(&self) -> (usize, usize) {
            (self.order.len(), self.index.words())
        }

        pub(in crate::shard::edges) fn is_moving(&self) -> bool {
            self.index.is_moving()
        }

        fn put(&mut self, edge: Edge<N>, expired_ms: u64, hasher: &KeyState) {
            let hash = edge.hash(hasher);
            self.set(edge, hash, self.find(&edge, hash), expired_ms, hasher);
        }

        fn get(&self, id: u128, hasher: &KeyState) -> Option<Stamp> {
            let id = Edge::with_id(id);
            self.find(&id, id.hash(hasher)).map(|found| self.stamp(found))
        }

        /// How many edges each chunk has, in order.
        pub(in crate::shard::edges) fn chunk_lens(&self) -> Vec<usize> {
            self.order.values().map(|&number| self.chunks[number as usize].len()).collect()
        }
    }

    fn like(time_ms: u64) -> Stamp {
        Stamp::new(time_ms, true)
    }

    /// The edges at these times, of ids that count up, added one after the other.
    fn many(times: impl Iterator<Item = u64>) -> (Many<8>, KeyState) {
        let hasher = KeyState::with_seed(3);
        let mut many = Many::new(Chunk::default(), &hasher);
        for (time_ms, id) in times.zip(0..) {
            many.put(Edge::new(id, like(time_ms)), 0, &hasher);
        }
        many.check(&hasher);
        (many, hasher)
    }

    #[test]
    fn chunks_of_edges_that_come_in_the_order_of_time_are_full() {
        let (many, _) = many(0..1_280);
        assert_eq!(many.chunk_lens(), [128; 10]);
    }

    #[test]
    fn a_full_chunk_is_split_in_the_middle() {
        let (many, _) = many((1..=128).rev().chain([0]));
        assert_eq!(many.chunk_lens(), [65, 64]);
    }

    #[test]
    fn expired_unlikes_are_dropped_before_a_chunk_is_split() {
        let (mut many, hasher) = many(10..138);
        many.put(Edge::new(5, Stamp::new(15, false)), 0, &hasher);
        many.put(Edge::new(6, Stamp::new(16, false)), 0, &hasher);
        many.put(Edge::new(200, like(12)), 16, &hasher);
        many.check(&hasher);
        assert_eq!(many.chunk_lens(), [128]);
        assert_eq!(many.get(5, &hasher), None);
        assert_eq!(many.get(6, &hasher), Some(Stamp::new(16, false)));
    }

    #[test]
    fn a_small_chunk_joins_the_one_before_it_when_that_has_room() {
        let (mut many, hasher) = many(0..256);
        (160..256).for_each(|id| assert!(many.remove(&Edge::with_id(id), &hasher).is_some()));
        assert_eq!(many.chunk_lens(), [128, 32]);
        (0..63).for_each(|id| assert!(many.remove(&Edge::with_id(id), &hasher).is_some()));
        many.remove(&Edge::with_id(159), &hasher);
        many.check(&hasher);
        assert_eq!(many.chunk_lens(), [96]);
    }

    #[test]
    fn an_empty_chunk_goes_and_another_covers_what_it_did() {
        let (mut many, hasher) = many(10..394);
        for id in (0..128).chain(256..384) {
            many.remove(&Edge::with_id(id), &hasher);
        }
        many.check(&hasher);
        assert_eq!(many.chunk_lens(), [128]);
        many.put(Edge::new(7, like(0)), 0, &hasher);
        many.put(Edge::new(8, like(300)), 0, &hasher);
        many.check(&hasher);
    }

    #[test]
    fn a_search_for_likes_among_unlikes_stops_and_goes_on() {
        let hasher = KeyState::with_seed(3);
        let mut many = Many::<8>::new(Chunk::default(), &hasher);
        many.put(Edge::new(9_999, like(0)), 0, &hasher);
        for id in 0..128 * 40 {
            many.put(Edge::new(id, Stamp::new(id as u64 + 1, false)), 0, &hasher);
        }
        let (mut out, mut calls, mut before) = (Vec::new(), 1, None);
        while let Some(next) = many.newest(before, 5, &mut out) {
            assert!(before.is_none_or(|before| next < before));
            (calls, before) = (calls + 1, Some(next));
        }
        assert_eq!((out, calls), (vec![(9_999, like(0))], 3));
    }

    #[test]
    fn a_set_that_grows_again_while_its_index_is_made_smaller_has_room() {
        let (mut many, hasher) = many(0..400_000);
        let mut ids = 0..400_000;
        while many.len() > 1_500 || !many.is_moving() {
            many.remove(&Edge::with_id(ids.next().expect("the index is made smaller")), &hasher);
        }
        let (words, numbers) = (many.index.words(), many.chunks.len());
        assert!(words < numbers, "{words} words are filled before {numbers} chunks are moved");
        for id in 500_000..501_500 {
            many.put(Edge::new(id, like(1)), 0, &hasher);
            many.check(&hasher);
        }
    }
}
