//! A few edges in one allocation of exactly their size, found by looking at each.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use crate::hash::KeyState;

use super::Position;
use crate::edge::Stamp;
use crate::shard::CACHE_LINE;

/// Who likes, or what is liked, and the stamp. Bytes, so that no padding stands between edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge<const N: usize> {
    id: [u8; N],
    stamp: [u8; Stamp::BYTES],
}

impl<const N: usize> Edge<N> {
    const MAX_ID: u128 = u128::MAX >> (128 - 8 * N);

    /// Not above any other.
    pub(super) const LEAST: Self = Self { id: [0; N], stamp: [0; Stamp::BYTES] };

    pub(super) fn new(id: u128, stamp: Stamp) -> Self {
        debug_assert!(id <= Self::MAX_ID, "callers use ids of {N} bytes");
        let mut bytes = [0; N];
        bytes.copy_from_slice(&id.to_le_bytes()[..N]);
        Self { id: bytes, stamp: stamp.to_bytes() }
    }

    /// One to look for the id, whatever its stamp.
    pub(super) fn with_id(id: u128) -> Self {
        Self::new(id, Stamp::new(0, true))
    }

    /// The same id with another stamp.
    pub(super) fn with_stamp(self, stamp: Stamp) -> Self {
        Self { stamp: stamp.to_bytes(), ..self }
    }

    /// The last place that is not above a position, whose id may be too large for an edge.
    pub(super) fn at((stamp, id): Position) -> Self {
        Self::new(id.min(Self::MAX_ID), stamp)
    }

    #[inline]
    pub(super) fn id(&self) -> u128 {
        let mut bytes = [0; 16];
        bytes[..N].copy_from_slice(&self.id);
        u128::from_le_bytes(bytes)
    }

    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        Stamp::from_bytes(self.stamp)
    }

    #[inline]
    pub(super) fn position(&self) -> Position {
        (self.stamp(), self.id())
    }

    #[inline]
    pub(super) fn hash(&self, hasher: &KeyState) -> u64 {
        hasher.hash_one(self.id())
    }

    pub(super) fn is_expired(&self, expired_ms: u64) -> bool {
        let stamp = self.stamp();
        !stamp.is_like() && stamp.time_ms() < expired_ms
    }
}

impl<const N: usize> Ord for Edge<N> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.stamp().cmp(&other.stamp()).then_with(|| self.id().cmp(&other.id()))
    }
}

impl<const N: usize> PartialOrd for Edge<N> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Edges in no order.
#[derive(Debug, Default)]
pub(super) struct Chunk<const N: usize>(Box<[Edge<N>]>);

/// Whether no two edges have one id; looks at every two of them.
pub(super) fn are_distinct<const N: usize>(edges: &[Edge<N>]) -> bool {
    edges.iter().enumerate().all(|(at, edge)| edges[..at].iter().all(|other| other.id != edge.id))
}

impl<const N: usize> Chunk<N> {
    /// Of edges that are distinct.
    pub(super) fn new(edges: Vec<Edge<N>>) -> Self {
        Self(edges.into_boxed_slice())
    }

    #[inline]
    pub(super) fn edges(&self) -> &[Edge<N>] {
        &self.0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads of each of its cache lines. Means nothing.
    #[inline]
    pub(super) fn read(&self) -> u32 {
        self.0.iter().step_by(CACHE_LINE / size_of::<Edge<N>>()).fold(0, |read, edge| read ^ u32::from(edge.stamp[0]))
    }

    /// Where the edge of an id stands.
    #[inline]
    pub(super) fn find(&self, id: &Edge<N>) -> Option<usize> {
        self.0.iter().position(|edge| edge.id == id.id)
    }

    /// Replaces the stamp of the edge at `at`.
    pub(super) fn set_stamp(&mut self, at: usize, stamp: Stamp) {
        self.0[at].stamp = stamp.to_bytes();
    }

    pub(super) fn push(&mut self, edge: Edge<N>) {
        self.change(|edges| {
            edges.reserve_exact(1);
            edges.push(edge);
        });
    }

    pub(super) fn append(&mut self, other: Self) {
        self.change(|edges| {
            edges.reserve_exact(other.len());
            edges.extend_from_slice(&other.0);
        });
    }

    pub(super) fn remove(&mut self, at: usize) -> Edge<N> {
        let removed = self.0[at];
        self.change(|edges| {
            edges.swap_remove(at);
        });
        removed
    }

    /// Takes the greater half out.
    pub(super) fn split(&mut self) -> Self {
        let mut upper = Box::default();
        self.change(|edges| {
            edges.sort_unstable();
            upper = edges[edges.len() / 2..].into();
            edges.truncate(edges.len() / 2);
        });
        Self(upper)
    }

    pub(super) fn drop_expired(&mut self, expired_ms: u64) {
        self.change(|edges| edges.retain(|edge| !edge.is_expired(expired_ms)));
    }

    /// The likes strictly below `before`, the greatest first.
    pub(super) fn newest(&self, before: Option<Position>) -> Vec<Edge<N>> {
        let is_below = |edge: &Edge<N>| before.is_none_or(|before| edge.position() < before);
        let mut likes: Vec<_> =
            self.0.iter().filter(|edge| edge.stamp().is_like() && is_below(edge)).copied().collect();
        likes.sort_unstable_by(|one, other| other.cmp(one));
        likes
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Edge<N>>)) {
        let mut edges = std::mem::take(&mut self.0).into_vec();
        change(&mut edges);
        self.0 = edges.into_boxed_slice();
    }
}
