//! What a question asks of a peer, so that each is written once for all of them.

use std::path::Path;

use crate::load::Event;

/// What a call has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Nothing: the peer's fastest mode in which what it counted reaches the disk at some time.
    Relaxed,
    /// The change is on disk when the call returns, also for a power cut.
    EachCall,
}

/// Where the counters are while they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// All in memory, and nothing on disk.
    Memory,
    /// All in memory, and on disk too.
    MemoryAndDisk,
    /// On disk, with a cache.
    Disk,
}

pub(crate) trait Peer: std::marker::Sync {
    fn name(&self) -> &'static str;

    fn version(&self) -> String;

    /// How it is set up, in one line for a table.
    fn settings(&self, sync: Sync) -> String;

    fn home(&self) -> Home;

    /// Whether it has a call for many changes at once that is faster than one by one without waiting for the disk.
    fn batches(&self) -> bool {
        false
    }

    /// More than this are not asked of it, because it would take hours or all memory.
    fn max_keys(&self) -> u64 {
        u64::MAX
    }

    /// Why it cannot run here.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Opens counters in a directory, or creates them where it is empty.
    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting>;

    /// The same for likes; `None` for peers that are not asked.
    fn liking(&self, _dir: &Path, _sync: Sync) -> Option<Box<dyn Liking>> {
        None
    }
}

pub(crate) trait Counting: Send + std::marker::Sync {
    /// What one thread counts through, which puts `batch` increments into one call where the peer has such.
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_>;

    /// Returns once everything that was counted is on disk, where the peer has one.
    fn sync(&self);

    /// Returns once it has nothing left to do that would disturb the others. Not in anybody's time.
    fn settle(&self) {
        self.sync();
    }

    /// The sum of all counters, which are those of the keys below `keys`. Reads all of them.
    fn sum(&self, keys: u64) -> u64;

    /// Rewrites what it has on disk. `false` where the peer has no such thing to ask for.
    fn compact(&self) -> bool {
        false
    }

    /// The process that keeps the counters, when it is another one.
    fn process(&self) -> Option<u32> {
        None
    }
}

/// One thread's way in. Calls are made for a slice of keys, so that choosing the peer costs nothing per increment.
pub(crate) trait Hand {
    /// Adds 1 to the counter of each key number.
    fn add(&mut self, numbers: &[u32]);

    /// Returns once everything that this hand added is acknowledged.
    fn finish(&mut self) {}
}

impl<F: FnMut(&[u32])> Hand for F {
    fn add(&mut self, numbers: &[u32]) {
        self(numbers);
    }
}

/// One thread's way to like.
pub(crate) type LikeHand<'a> = Box<dyn FnMut(&[Event]) + 'a>;

pub(crate) trait Liking: Send + std::marker::Sync {
    /// What one thread likes through, which puts `batch` events into one call where the peer has such.
    fn hand(&self, batch: usize) -> LikeHand<'_>;

    /// Returns once everything is on disk, where the peer has one.
    fn sync(&self);

    /// How many viewers like the item.
    fn count(&self, item: u32) -> u64;

    /// The process that keeps the likes, when it is another one.
    fn process(&self) -> Option<u32> {
        None
    }
}

/// The last event of each item and viewer, in no particular order: all that matters of a batch to a set.
pub(crate) fn last_events(events: &[Event]) -> Vec<Event> {
    let mut last = std::collections::HashMap::with_capacity(events.len());
    for event in events {
        last.insert((event.item, event.viewer), *event);
    }
    last.into_values().collect()
}
