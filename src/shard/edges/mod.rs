//! The edges of one item, by viewer, or of one viewer, by item: the newest like or unlike of each. Answers who likes,
//! the newest first, in as little memory as a set of ten and a set of ten million edges can take. Knows nothing of
//! locks, epochs and disks.

mod chunk;
mod index;
mod many;
mod table;
#[cfg(test)]
mod tests;

use std::convert::Infallible;

use crate::edge::Stamp;
use crate::hash::KeyState;

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

/// What became of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Update {
    /// The stamp before; `None` when there was no edge.
    pub(crate) before: Option<Stamp>,
    /// What was set; `None` when the edge stayed as it was.
    pub(crate) after: Option<Stamp>,
}

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
            Edges::Many(many) => many.find(&id, id.hash(hasher)).map(|found| many.stamp(found)),
        }
    }

    /// Reads what [`EdgeSet::get`] reads first, for the sake of the cache. Means nothing.
    #[inline]
    pub(crate) fn read(&self, id: u128, hasher: &KeyState) -> u32 {
        match &self.0 {
            Edges::Few(few) => few.read(),
            Edges::Many(many) => many.read(Edge::<N>::with_id(id).hash(hasher)),
        }
    }

    /// Inserts an edge or replaces its stamp; returns the one before. Other edges may be dropped where room is needed,
    /// when they are unlikes of before `expired_ms`.
    pub(crate) fn set(&mut self, id: u128, stamp: Stamp, expired_ms: u64, hasher: &KeyState) -> Option<Stamp> {
        let Ok(Update { before, .. }) = self.update(id, expired_ms, hasher, |_| Ok::<_, Infallible>(Some(stamp)));
        before
    }

    /// Lets `decide` choose an edge's stamp by the one before, `None` to leave all as it is, and sets it. Other edges
    /// may be dropped as by [`set`](Self::set).
    #[inline]
    pub(crate) fn update<E>(
        &mut self,
        id: u128,
        expired_ms: u64,
        hasher: &KeyState,
        decide: impl FnOnce(Option<Stamp>) -> Result<Option<Stamp>, E>,
    ) -> Result<Update, E> {
        match &mut self.0 {
            Edges::Few(few) => {
                let found = few.find(&Edge::with_id(id));
                let before = found.map(|at| few.edges()[at].stamp());
                let after = decide(before)?;
                match (found, after) {
                    (_, None) => {}
                    (Some(at), Some(stamp)) => few.set_stamp(at, stamp),
                    (None, Some(stamp)) => self.add(Edge::new(id, stamp), expired_ms, hasher),
                }
                Ok(Update { before, after })
            }
            Edges::Many(many) => {
                let id = Edge::with_id(id);
                let hash = id.hash(hasher);
                let found = many.find(&id, hash);
                let before = found.map(|found| many.stamp(found));
                let after = decide(before)?;
                if let Some(stamp) = after {
                    many.set(id.with_stamp(stamp), hash, found, expired_ms, hasher);
                    self.shrink();
                }
                Ok(Update { before, after })
            }
        }
    }

    /// Adds an edge to few.
    fn add(&mut self, edge: Edge<N>, expired_ms: u64, hasher: &KeyState) {
        let Edges::Few(few) = &mut self.0 else { return };
        if few.len() == MAX_FEW {
            few.drop_expired(expired_ms);
        }
        if few.len() < MAX_FEW {
            few.push(edge);
        } else {
            let mut many = Box::new(Many::new(std::mem::take(few), hasher));
            many.set(edge, edge.hash(hasher), None, expired_ms, hasher);
            self.0 = Edges::Many(many);
        }
    }

    /// Sets several edges, the last of each id. A set that has none yet gets a few at once, in one allocation.
    pub(crate) fn extend(&mut self, edges: impl Iterator<Item = (u128, Stamp)>, hasher: &KeyState) {
        let edges: Vec<_> = edges.map(|(id, stamp)| Edge::new(id, stamp)).collect();
        if let Edges::Few(few) = &mut self.0
            && few.len() == 0
            && edges.len() <= MAX_FEW
            && chunk::are_distinct(&edges)
        {
            *few = Chunk::new(edges);
        } else {
            edges.iter().for_each(|edge| {
                self.set(edge.id(), edge.stamp(), 0, hasher);
            });
        }
    }

    /// Some edge's stamp.
    pub(crate) fn peek(&self) -> Option<Stamp> {
        match &self.0 {
            Edges::Few(few) => few.edges().first().map(Edge::stamp),
            Edges::Many(many) => many.peek(),
        }
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

    /// A position that no edge is above. `None` when a walk takes one step.
    pub(crate) fn last(&self) -> Option<Position> {
        match &self.0 {
            Edges::Few(_) => None,
            Edges::Many(many) => many.last(),
        }
    }

    /// Drops unlikes of before `expired_ms`, from `from` on, and gives back their room: about as much work as looking
    /// at `budget` edges; returns where to go on, `None` when all is done.
    pub(crate) fn sweep(
        &mut self,
        from: Option<Position>,
        budget: usize,
        expired_ms: u64,
        hasher: &KeyState,
    ) -> Option<Position> {
        match &mut self.0 {
            Edges::Few(few) => {
                few.drop_expired(expired_ms);
                None
            }
            Edges::Many(many) => {
                let next = many.sweep(from, budget, expired_ms, hasher);
                self.shrink();
                next
            }
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
