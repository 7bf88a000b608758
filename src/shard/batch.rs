//! Several changes in one epoch, whole or not at all.

use std::hint::black_box;

use super::hot::Held;
use super::likes::{LikeEvent, Liked};
use super::table::Table;
use super::{Change, NUMBER, NamespaceId, Note, Refusal, Shard, Shards, Touched, hash_key};
use crate::hash::KeyState;
use crate::options::CounterOptions;

/// One change of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchChange<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: &'a [u8],
    pub(crate) operation: Operation<'a>,
}

/// What a change of a batch does to its counter or item.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    /// A change of a counter.
    Count { change: Change, bounds: &'a CounterOptions },
    /// A like or an unlike.
    Like(LikeEvent),
    /// Adds to a counter what another change of the batch did to its own. Applied after all that are not of this kind.
    Tally { of: usize, bounds: &'a CounterOptions },
}

/// What one change of a batch did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) previous: i64,
    pub(crate) value: i64,
    pub(crate) changed: bool,
}

/// Where one of several changes, or of several loads, goes.
pub(super) struct Routed {
    pub(super) stripe: u32,
    /// Its place among them.
    pub(super) index: u32,
    pub(super) hash: u64,
}

/// What has to be undone, or noted in the epoch, for one change of a batch.
struct Done {
    /// Which of the guards.
    guard: u32,
    namespace: NamespaceId,
    did: Did,
    /// Whether the change took a new slot.
    inserted: bool,
}

enum Did {
    Count(Touched),
    Like(Liked),
}

impl Did {
    fn touched(&self) -> &Touched {
        match self {
            Self::Count(touched) | Self::Like(Liked { touched, .. }) => touched,
        }
    }
}

impl Shards {
    /// Applies all changes in one epoch, in their order, and returns it with whether the committer may be asleep.
    /// `outcomes` becomes what each one did.
    ///
    /// # Errors
    ///
    /// The place of the first change that was refused (in the order of shards, and within a shard in the order of
    /// the batch), and why. Nothing is changed then.
    pub(crate) fn apply_batch(
        &self,
        changes: &[BatchChange<'_>],
        outcomes: &mut Vec<BatchOutcome>,
    ) -> Result<(u64, bool), (usize, Refusal)> {
        outcomes.clear();
        outcomes.resize(changes.len(), BatchOutcome::default());
        let route = self.route(changes);
        let mut done = Vec::with_capacity(changes.len());
        let mut guards = self.lock_in_order(&route);
        // One read of the word for all shards: every lock is held, so none of them can be collected in between.
        let word = self.enter().map_err(|refusal| (0, refusal))?;
        let epoch = word & NUMBER;
        for shard in &mut guards {
            shard.open_buffer(epoch);
        }
        fetch(changes, &route, &guards, &self.hasher);
        for tallies in [false, true] {
            if let Err(refused) = self.change_all(changes, &route, tallies, &mut guards, &mut done, outcomes) {
                self.undo(&mut guards, &done);
                return Err(refused);
            }
        }
        let changed = !done.is_empty();
        for Done { guard, namespace, did, .. } in done {
            match did {
                Did::Count(touched) => guards[guard as usize].note(namespace, touched),
                Did::Like(liked) => guards[guard as usize].note_like(namespace, &liked),
            }
        }
        // A batch that changed nothing may have seen what the open epoch did.
        let epoch = if changed { epoch } else { self.newest_epoch() };
        Ok((epoch, changed && self.mark_dirty(word)))
    }

    /// The changes in the order of their shards, those of one shard in the order of the batch.
    fn route(&self, changes: &[BatchChange<'_>]) -> Vec<Routed> {
        let mut route: Vec<Routed> = changes
            .iter()
            .zip(0..)
            .map(|(change, index)| {
                let hash = self.hash(change.key);
                Routed { stripe: self.stripe_of(hash) as u32, index, hash }
            })
            .collect();
        route.sort_unstable_by_key(|routed| (routed.stripe, routed.index));
        route
    }

    /// Locks every shard of the route once. The only place that takes more than one of these locks: ascending
    /// order is what keeps two batches from waiting for each other.
    fn lock_in_order(&self, route: &[Routed]) -> Vec<Held<'_>> {
        route.chunk_by(|a, b| a.stripe == b.stripe).map(|run| self.lock(run[0].stripe as usize)).collect()
    }

    /// Applies the changes that are tallies, or all others.
    fn change_all(
        &self,
        changes: &[BatchChange<'_>],
        route: &[Routed],
        tallies: bool,
        guards: &mut [Held<'_>],
        done: &mut Vec<Done>,
        outcomes: &mut [BatchOutcome],
    ) -> Result<(), (usize, Refusal)> {
        for (run, guard) in route.chunk_by(|a, b| a.stripe == b.stripe).zip(0..) {
            let shard = &mut guards[guard as usize];
            for routed in run {
                let index = routed.index as usize;
                let BatchChange { namespace, operation, .. } = changes[index];
                if matches!(operation, Operation::Tally { .. }) != tallies {
                    continue;
                }
                let slots = shard.table(namespace).map_or(0, Table::used);
                let did = self
                    .change_one(shard, &changes[index], routed.hash, outcomes)
                    .map_err(|refusal| (index, refusal))?;
                let touched = did.touched();
                let (previous, value) = (touched.before.unwrap_or(0), touched.after.unwrap_or(0));
                let (changed, noted) = match &did {
                    Did::Count(touched) => (touched.before != touched.after, touched.before != touched.after),
                    Did::Like(liked) => (liked.changed(), liked.after.is_some()),
                };
                outcomes[index] = BatchOutcome { previous, value, changed };
                if noted {
                    let inserted = shard.table(namespace).map_or(0, Table::used) > slots;
                    done.push(Done { guard, namespace, did, inserted });
                }
            }
        }
        Ok(())
    }

    fn change_one(
        &self,
        shard: &mut Shard,
        change: &BatchChange<'_>,
        hash: u64,
        outcomes: &[BatchOutcome],
    ) -> Result<Did, Refusal> {
        let &BatchChange { namespace, key, operation } = change;
        let (change, bounds) = match operation {
            Operation::Count { change, bounds } => (change, bounds),
            Operation::Like(event) => return shard.like(namespace, hash, key, &event, &self.hasher).map(Did::Like),
            Operation::Tally { of, bounds } => {
                let BatchOutcome { previous, value, .. } = outcomes[of];
                let delta = value.checked_sub(previous).ok_or(Refusal::Overflow { value, delta: previous })?;
                if delta == 0 {
                    // An absent counter stays so.
                    let table = shard.table(namespace)?;
                    let slot = table.find(hash, key);
                    let value = slot.and_then(|slot| table.value(slot));
                    return Ok(Did::Count(Touched { slot, before: value, after: value }));
                }
                (Change::Add(delta), bounds)
            }
        };
        shard.change(namespace, hash, key, change, bounds, Note::Later, &self.hasher).map(Did::Count)
    }

    /// Takes back what [`Shards::change_all`] did, last change first. The epoch's buffers know nothing of it yet.
    fn undo(&self, guards: &mut [Held<'_>], done: &[Done]) {
        for Done { guard, namespace, did, inserted } in done.iter().rev() {
            let (shard, touched) = (&mut guards[*guard as usize], did.touched());
            if let Did::Like(liked) = did {
                shard.undo_like(*namespace, liked, &self.hasher);
            }
            let (Ok(table), Some(slot)) = (shard.table_mut(*namespace), touched.slot) else { continue };
            if *inserted {
                table.release(slot, |key| hash_key(&self.hasher, key));
            } else {
                table.set_value(slot, touched.before);
            }
        }
    }
}

/// Brings what the changes will read into the cache. A change by itself waits for memory twice, for its place in the
/// index and then for its entry, and a like also for its item's edges. Here reads of one kind follow each other, none
/// needs what another read, and a core waits for many of them at once.
fn fetch(changes: &[BatchChange<'_>], route: &[Routed], guards: &[Held<'_>], hasher: &KeyState) {
    let mut places = Vec::with_capacity(route.len());
    for (run, shard) in route.chunk_by(|a, b| a.stripe == b.stripe).zip(guards) {
        for routed in run {
            let change = &changes[routed.index as usize];
            if let Ok(table) = shard.table(change.namespace) {
                places.push((table, change, routed.hash, 0));
            }
        }
    }
    let mut read = 0;
    for (table, _, hash, _) in &places {
        read ^= table.read_index(*hash);
    }
    // Apart from the next loop, because it takes branches that cannot be foreseen.
    for (table, _, hash, slot) in &mut places {
        *slot = table.guess(*hash);
    }
    for (table, _, _, slot) in &places {
        read ^= table.read_entry(*slot);
    }
    for (table, change, _, slot) in &places {
        if let (Operation::Like(event), Some(likes)) = (change.operation, table.likes()) {
            read ^= likes.read(*slot, event.viewer, hasher);
        }
    }
    // Nothing is done with it, but the reads must not be left out.
    black_box(read);
}
