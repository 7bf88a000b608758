//! The edges of one item, by viewer, or of one viewer, by item: the newest like or unlike of each. Answers who likes,
//! the newest first, in as little memory as a set of ten and a set of ten million edges can take. Knows nothing of
//! locks, epochs and disks.

mod chunk;
mod index;
mod many;
mod table;
#[cfg(test)]
mod tests;

use crate::hash::KeyState;

use crate::edge::Stamp;
use chunk::{Chunk, Edge};
use many::{MAX_CHUNK, Many};

/// Where an edge stands in the order of a set: by its stamp, and by its id as a number at equal stamps.
pub(crate) type Position = (Stamp, u128);

/// The most edges that are kept without an order and an index: as many as those would have to look at anyway.
const MAX_FEW: usize = MAX_CHUNK;

/// Edges to ids of `N` bytes.
#[derive(Debug)]
pub(crate) struct EdgeSet<const N: usize>(Edges<N>);

const _: () = assert!(size_of::<EdgeSet<6>>() == 16 && size_of::<EdgeSet<8>>() == 16 && size_of::<EdgeSet<16>>() == 16);

#[derive(Debug)]
enum Edges<const N: usize> {
    Few(Chunk<N>),
    Many(Box<Many<N>>),
}

impl<const N: usize> Default for EdgeSet<N> {
    fn default() -> Self {
        Self(Edges::Few(Chunk::default()))
    }
}

impl<const N: usize> EdgeSet<N> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many edges there are, likes and unlikes.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Edges::Few(few) => few.len(),
            Edges::Many(many) => many.len(),
        }
    }

    /// The stamp of the edge to `id`.
    pub(crate) fn get(&self, id: u128, hasher: &KeyState) -> Option<Stamp> {
        let id = Edge::with_id(id);
        match &self.0 {
            Edges::Few(few) => few.find(&id).map(|at| few.edges()[at].stamp()),
            Edges::Many(many) => many.get(&id, hasher),
        }
    }

    /// Inserts an edge or replaces its stamp; returns the one before. Other edges may be dropped where room is needed,
    /// when they are unlikes of before `expired_ms`.
    pub(crate) fn set(&mut self, id: u128, stamp: Stamp, expired_ms: u64, hasher: &KeyState) -> Option<Stamp> {
        let edge = Edge::new(id, stamp);
        let few = match &mut self.0 {
            Edges::Few(few) => few,
            Edges::Many(many) => {
                let before = many.set(edge, expired_ms, hasher);
                self.shrink();
                return before;
            }
        };
        if let Some(at) = few.find(&edge) {
            return Some(few.set_stamp(at, stamp));
        }
        if few.len() == MAX_FEW {
            few.drop_expired(expired_ms);
        }
        if few.len() < MAX_FEW {
            few.push(edge);
        } else {
            let mut many = Box::new(Many::new(std::mem::take(few), hasher));
            many.set(edge, expired_ms, hasher);
            self.0 = Edges::Many(many);
        }
        None
    }

    /// Forgets an edge; returns its stamp.
    pub(crate) fn remove(&mut self, id: u128, hasher: &KeyState) -> Option<Stamp> {
        let id = Edge::with_id(id);
        match &mut self.0 {
            Edges::Few(few) => few.find(&id).map(|at| few.remove(at).stamp()),
            Edges::Many(many) => {
                let before = many.remove(&id, hasher);
                self.shrink();
                before
            }
        }
    }

    /// Appends up to `limit` likes strictly below `before` to `out`, the newest first; returns what to pass as `before`
    /// to go on, `None` when there is nothing further. There may be fewer than `limit` before that, because only a
    /// bounded number of edges is looked at.
    pub(crate) fn newest(
        &self,
        before: Option<Position>,
        limit: usize,
        out: &mut Vec<(u128, Stamp)>,
    ) -> Option<Position> {
        if limit == 0 {
            return before;
        }
        match &self.0 {
            Edges::Few(few) => {
                let likes = few.newest(before);
                let taken = &likes[..likes.len().min(limit)];
                out.extend(taken.iter().map(|edge| (edge.id(), edge.stamp())));
                taken.last().filter(|_| taken.len() < likes.len()).map(Edge::position)
            }
            Edges::Many(many) => many.newest(before, limit, out),
        }
    }

    /// Visits edges, likes and unlikes, from `from` on and about `budget` of them; returns where to go on, `None` when
    /// all were visited. A walk to the end visits each edge that was not changed meanwhile, whatever else was; some
    /// twice.
    pub(crate) fn walk(
        &self,
        from: Option<Position>,
        budget: usize,
        visit: &mut dyn FnMut(u128, Stamp),
    ) -> Option<Position> {
        match &self.0 {
            Edges::Few(few) => {
                few.edges().iter().for_each(|edge| visit(edge.id(), edge.stamp()));
                None
            }
            Edges::Many(many) => many.walk(from, budget, visit),
        }
    }

    /// What it takes on the heap, beside itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.0 {
            Edges::Few(few) => few.memory_bytes(),
            Edges::Many(many) => size_of::<Many<N>>() + many.memory_bytes(),
        }
    }

    /// At half of what makes many, so that a set does not go to and fro.
    fn shrink(&mut self) {
        if let Edges::Many(many) = &mut self.0
            && many.len() <= MAX_FEW / 2
        {
            self.0 = Edges::Few(many.take_all());
        }
    }
}
