//! Changes: each is applied to the shards, and announced to the committer when that may be asleep.

use std::sync::Arc;

use super::Engine;
use crate::options::{CounterOptions, Durability};
use crate::shard::{Applied, BatchChange, BatchOutcome, Change, Hot, LikeEvent, NamespaceId, Refusal};

impl Engine {
    #[inline]
    pub(crate) fn apply(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        change: Change,
        bounds: &CounterOptions,
    ) -> Result<Applied, Refusal> {
        self.announce(self.shared.shards.apply(namespace, key, change, bounds)?)
    }

    pub(crate) fn apply_batch(
        &self,
        changes: &[BatchChange<'_>],
        outcomes: &mut Vec<BatchOutcome>,
    ) -> Result<u64, (usize, Refusal)> {
        let (epoch, first) = self.shared.shards.apply_batch(changes, outcomes)?;
        if first {
            self.shared.group.announce();
        }
        Ok(epoch)
    }

    /// The cells of a counter, which is created when it is absent. No add may use them when it is to be durable on
    /// return.
    pub(crate) fn hot(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        bounds: &CounterOptions,
    ) -> Result<(Arc<Hot>, u64), Refusal> {
        let is_direct = self.durability == Durability::Immediate;
        let (hot, applied) = self.shared.shards.hot(namespace, key, bounds, is_direct)?;
        let Applied { epoch, .. } = self.announce(applied)?;
        Ok((hot, epoch))
    }

    /// Adds to a cell; `false` when it does not take it.
    #[inline]
    pub(crate) fn add_hot(&self, hot: &Hot, cell: usize, delta: i64) -> Result<bool, Refusal> {
        let added = self.shared.shards.add_hot(hot, cell, delta)?;
        if added == Some(true) {
            self.shared.group.announce();
        }
        Ok(added.is_some())
    }

    #[inline]
    pub(crate) fn like(&self, namespace: NamespaceId, item: &[u8], event: &LikeEvent) -> Result<Applied, Refusal> {
        self.announce(self.shared.shards.like(namespace, item, event)?)
    }

    pub(crate) fn remove_item(&self, namespace: NamespaceId, item: &[u8]) -> Result<Applied, Refusal> {
        self.announce(self.shared.shards.remove_item(namespace, item)?)
    }

    /// Holds the committer, so that all of it is in one epoch.
    pub(crate) fn forget_viewer(&self, namespace: NamespaceId, viewer: u128) -> Result<Applied, Refusal> {
        let committer = self.committer.lock();
        let forgotten = self.shared.shards.forget_viewer(namespace, viewer);
        drop(committer);
        if forgotten.is_err() {
            // The epoch may have been marked before it failed.
            self.shared.group.announce();
        }
        self.announce(forgotten?)
    }

    /// Wakes the committer, if it may be asleep.
    #[inline]
    fn announce(&self, applied: Applied) -> Result<Applied, Refusal> {
        if applied.first {
            self.shared.group.announce();
        }
        Ok(applied)
    }
}
