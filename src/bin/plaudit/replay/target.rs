//! Where the events of a kind go, and what they came to.

use plaudit::{Batch, Counters, Error, Likes, Store};

use super::events::{Change, EventBatch, Like};
use crate::failure::Failure;
use crate::human::{counted, grouped};
use crate::stores::{LikeArgs, counters_or_create, likes_or_create};

/// A namespace that takes the events of one kind.
pub(super) trait Target {
    type Change: Change + Send + 'static;

    /// The namespace's name.
    fn name(&self) -> &str;

    /// Applies all events in one batch, which `take_along` may add to, and answers its epoch.
    fn apply(
        &mut self,
        batch: &mut Batch,
        events: &EventBatch<Self::Change>,
        take_along: impl Fn(&mut Batch),
    ) -> plaudit::Result<u64>;

    /// How much the namespace holds.
    fn holds(&self) -> Result<String, Failure>;

    /// What became of the events that were applied, where their number does not say it.
    fn outcome(&self) -> Option<String>;
}

/// Counters, which events add to.
pub(super) struct ToCounters {
    counters: Counters,
}

impl ToCounters {
    pub(super) fn open(store: &Store, name: &str) -> Result<Self, Failure> {
        Ok(Self { counters: counters_or_create(store, name)? })
    }
}

impl Target for ToCounters {
    type Change = i64;

    fn name(&self) -> &str {
        self.counters.name()
    }

    fn apply(
        &mut self,
        batch: &mut Batch,
        events: &EventBatch<i64>,
        take_along: impl Fn(&mut Batch),
    ) -> plaudit::Result<u64> {
        for (key, delta) in events.iter() {
            batch.add(&self.counters, key, delta);
        }
        take_along(batch);
        Ok(batch.commit()?.epoch())
    }

    fn holds(&self) -> Result<String, Failure> {
        Ok(counted(self.counters.len()?, "key"))
    }

    fn outcome(&self) -> Option<String> {
        None
    }
}

/// Likes, at the time of each event.
pub(super) struct ToLikes {
    pub(super) likes: Likes,
    outcome: Outcome,
}

/// How many events did what.
#[derive(Default)]
struct Outcome {
    liked: u64,
    taken_back: u64,
    absorbed: u64,
    too_old: u64,
}

impl ToLikes {
    pub(super) fn open(store: &Store, name: &str, args: &LikeArgs) -> Result<Self, Failure> {
        Ok(Self { likes: likes_or_create(store, name, args)?, outcome: Outcome::default() })
    }
}

impl Target for ToLikes {
    type Change = Like;

    fn name(&self) -> &str {
        self.likes.name()
    }

    /// What is from before the horizon is left out and counted, because a queue that is replayed must do no harm, and
    /// must get to its end.
    fn apply(
        &mut self,
        batch: &mut Batch,
        events: &EventBatch<Like>,
        take_along: impl Fn(&mut Batch),
    ) -> plaudit::Result<u64> {
        let mut oldest_ms = 0;
        let (receipt, gathered) = loop {
            batch.clear();
            for (item, Like { time_ms, viewer, liked }) in events.iter() {
                if time_ms >= oldest_ms {
                    let gather = if liked { Batch::like_at } else { Batch::unlike_at };
                    gather(batch, &self.likes, item, viewer, time_ms);
                }
            }
            let gathered = batch.len();
            take_along(batch);
            match batch.commit() {
                Err(Error::TooOld { oldest_ms: allowed_ms, .. }) if allowed_ms > oldest_ms => oldest_ms = allowed_ms,
                outcome => break (outcome?, gathered),
            }
        };
        self.outcome.too_old += (events.len() - gathered) as u64;
        for change in receipt.changes().take(gathered) {
            match change.delta {
                0 => self.outcome.absorbed += 1,
                1.. => self.outcome.liked += 1,
                _ => self.outcome.taken_back += 1,
            }
        }
        Ok(receipt.epoch())
    }

    fn holds(&self) -> Result<String, Failure> {
        Ok(counted(self.likes.len()?, "item"))
    }

    fn outcome(&self) -> Option<String> {
        let Outcome { liked, taken_back, absorbed, too_old } = self.outcome;
        let likes = counted(liked, "new like");
        let [taken_back, absorbed, too_old] = [taken_back, absorbed, too_old].map(grouped);
        Some(format!("{likes}, {taken_back} taken back, {absorbed} absorbed, {too_old} too old and not applied"))
    }
}
