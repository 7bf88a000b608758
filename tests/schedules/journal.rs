//! What the threads of a schedule did, by epoch, and which states of a store that explains.

use std::collections::BTreeMap;

use plaudit::{Error, Result};

/// What can be counted: counters, the counts of items, and for single likes what says that they are there. What is
/// absent reads 0, and is not listed.
pub(crate) type Counts = BTreeMap<String, i128>;

/// What one thread did.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Of each epoch in which something was changed, each counter's change.
    pub(crate) epochs: BTreeMap<u64, Counts>,
    /// Changes that were answered with an error after they may have been made. Each is whole or absent.
    pub(crate) unknown: Vec<Counts>,
    /// The last epoch that was acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) failures: Vec<Error>,
    /// Whether the namespace that comes and goes may exist, or may not.
    pub(crate) other: Vec<bool>,
    /// What was added by a handle to a hot counter, which knows no epochs.
    pub(crate) hot: Hot,
    /// Likes that were taken back because their viewer was forgotten or their item removed.
    pub(crate) taken_back: u64,
}

/// The sums of hot adds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Hot {
    pub(crate) added: i64,
    /// Of it what was acknowledged.
    pub(crate) acknowledged: i64,
    /// What was answered with an error after it may have been added.
    pub(crate) unknown: i64,
}

impl Journal {
    pub(crate) fn merge(&mut self, other: Self) {
        for (epoch, counts) in other.epochs {
            add_counts(self.epochs.entry(epoch).or_default(), &counts);
        }
        self.unknown.extend(other.unknown);
        self.acknowledged = self.acknowledged.max(other.acknowledged);
        self.failures.extend(other.failures);
        self.other.extend(other.other);
        self.taken_back += other.taken_back;
        self.hot.added += other.hot.added;
        self.hot.acknowledged += other.hot.acknowledged;
        self.hot.unknown += other.hot.unknown;
    }

    pub(crate) fn note(&mut self, epoch: u64, changes: &Counts) {
        add_counts(self.epochs.entry(epoch).or_default(), changes);
    }

    pub(crate) fn acknowledge(&mut self, epoch: u64) {
        self.acknowledged = self.acknowledged.max(epoch);
    }

    /// Keeps a failure. After that of a full disk the store goes on.
    pub(crate) fn goes_on(&mut self, done: Result<()>) -> bool {
        let Err(error) = done else { return true };
        self.failures.push(error);
        self.failures.last().is_some_and(Error::is_storage_full)
    }

    /// The counts at the end of an epoch, but for the unknown changes.
    pub(crate) fn through(&self, epoch: u64) -> Counts {
        let mut counts = Counts::new();
        self.epochs.range(..=epoch).for_each(|(_, changes)| add_counts(&mut counts, changes));
        counts
    }

    /// Whether the epochs up to this one, and some of the unknown changes, make these counts.
    pub(crate) fn explains(&self, epoch: u64, found: &Counts) -> bool {
        let through = self.through(epoch);
        (0..1_u32 << self.unknown.len()).any(|chosen| {
            let mut counts = through.clone();
            let unknown = self.unknown.iter().zip(0..).filter(|(_, at)| chosen & 1 << at != 0);
            unknown.for_each(|(changes, _)| add_counts(&mut counts, changes));
            counts == *found
        })
    }
}

/// Adds up; what becomes 0 is not listed any more.
pub(crate) fn add_counts(counts: &mut Counts, changes: &Counts) {
    for (key, change) in changes {
        *counts.entry(key.clone()).or_default() += change;
    }
    counts.retain(|_, count| *count != 0);
}
