//! Several changes in one epoch, whole or not at all.

use super::table::Table;
use super::{Change, NUMBER, NamespaceId, Refusal, Shard, Shards, Touched, hash_key};
use crate::options::CounterOptions;
use crate::sync::MutexGuard;

/// One change of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchChange<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: &'a [u8],
    pub(crate) change: Change,
    pub(crate) bounds: &'a CounterOptions,
}

/// What one change of a batch did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) previous: i64,
    pub(crate) value: i64,
    pub(crate) changed: bool,
}

/// Where a change of a batch goes.
struct Routed {
    stripe: u32,
    /// The change's place in the batch.
    index: u32,
    hash: u64,
}

/// What has to be undone, or noted in the epoch, for one change of a batch.
struct Done {
    /// Which of the guards.
    guard: u32,
    namespace: NamespaceId,
    touched: Touched,
    /// Whether the change took a new slot.
    inserted: bool,
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
        let mut guards = self.lock_in_order(&route);
        // One read of the word for all shards: every lock is held, so none of them can be collected in between.
        let word = self.enter().map_err(|refusal| (0, refusal))?;
        let epoch = word & NUMBER;
        for shard in &mut guards {
            shard.open_buffer(epoch);
        }
        let mut done = Vec::with_capacity(changes.len());
        if let Err(refused) = self.change_all(changes, &route, &mut guards, &mut done, outcomes) {
            self.undo(&mut guards, &done);
            return Err(refused);
        }
        let changed = !done.is_empty();
        for Done { guard, namespace, touched, .. } in done {
            guards[guard as usize].note(namespace, touched);
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
    fn lock_in_order(&self, route: &[Routed]) -> Vec<MutexGuard<'_, Shard>> {
        route.chunk_by(|a, b| a.stripe == b.stripe).map(|run| self.lock(run[0].stripe as usize)).collect()
    }

    fn change_all(
        &self,
        changes: &[BatchChange<'_>],
        route: &[Routed],
        guards: &mut [MutexGuard<'_, Shard>],
        done: &mut Vec<Done>,
        outcomes: &mut [BatchOutcome],
    ) -> Result<(), (usize, Refusal)> {
        for (run, guard) in route.chunk_by(|a, b| a.stripe == b.stripe).zip(0..) {
            let shard = &mut guards[guard as usize];
            for routed in run {
                let index = routed.index as usize;
                let BatchChange { namespace, key, change, bounds } = changes[index];
                let slots = shard.table(namespace).map_or(0, Table::used);
                let touched = shard
                    .change(namespace, routed.hash, key, change, bounds, &self.hasher)
                    .map_err(|refusal| (index, refusal))?;
                let changed = touched.before != touched.after;
                let (previous, value) = (touched.before.unwrap_or(0), touched.after.unwrap_or(0));
                outcomes[index] = BatchOutcome { previous, value, changed };
                if changed {
                    let inserted = shard.table(namespace).map_or(0, Table::used) > slots;
                    done.push(Done { guard, namespace, touched, inserted });
                }
            }
        }
        Ok(())
    }

    /// Takes back what [`Shards::change_all`] did, last change first. The epoch's buffers know nothing of it yet.
    fn undo(&self, guards: &mut [MutexGuard<'_, Shard>], done: &[Done]) {
        for Done { guard, namespace, touched, inserted } in done.iter().rev() {
            let table = guards[*guard as usize].table_mut(*namespace);
            let (Ok(table), Some(slot)) = (table, touched.slot) else { continue };
            if *inserted {
                table.release(slot, |key| hash_key(&self.hasher, key));
            } else {
                table.set_value(slot, touched.before);
            }
        }
    }
}
