//! A handle to one counter that many threads add to at once.

use std::fmt;
use std::sync::Arc;

use super::Counters;
use crate::error::Result;
use crate::receipt::Receipt;
use crate::shard::Hot;

/// A handle to one counter that many threads add to at once: the likes of a live stream, a total of everything.
///
/// An add neither looks the counter up nor waits for another thread: each clone of the handle adds to a cell of its
/// own, if it can (a striped counter, as Java's `LongAdder`). So give each thread its own clone. All that was added is
/// in the counter for whoever reads or changes it in any other way, and on disk within the group window and a sync.
/// What an add does not tell is the value after it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = plaudit::Store::open(dir.path())?;
/// let views = store.counters("views")?;
/// let live = views.hot("stream-1")?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         let live = live.clone();
///         scope.spawn(move || (0..1_000).try_for_each(|_| live.add(1)));
///     }
/// });
/// assert_eq!(views.get("stream-1")?, 2_000);
/// let receipt = live.receipt()?; // of all that was added before
/// assert_eq!(receipt.value(), 2_000);
/// receipt.wait()?; // on disk now
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
///
/// An uncontended lock, some nanoseconds. It is for few counters: while there is a handle, every call on a counter of
/// the same shard takes some tens of nanoseconds more for each cell, of which a counter has as many as there are
/// processors, 64 at most, with 128 bytes each. An add costs the same as [`Counters::add`] when the store is in
/// [`Durability::Immediate`](crate::Durability::Immediate), when the namespace has bounds, and when the value is
/// within 2^46 of the ends of 64 bits: then only the counter itself can tell whether the add is refused.
pub struct HotCounter {
    counters: Counters,
    hot: Arc<Hot>,
    cell: usize,
}

impl HotCounter {
    /// Of cells that count this handle already.
    pub(super) fn new(counters: Counters, hot: Arc<Hot>) -> Self {
        let cell = hot.next_cell();
        Self { counters, hot, cell }
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.counters.name()
    }

    /// The counter's key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.hot.key()
    }

    /// Adds `delta`, also when the counter was removed meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`Counters::add`]. Nothing is changed or logged then.
    #[inline]
    pub fn add(&self, delta: i64) -> Result<()> {
        let added = self.counters.engine().add_hot(&self.hot, self.cell, delta);
        match added.map_err(|refusal| self.counters.refused(refusal, self.key()))? {
            true => Ok(()),
            false => self.counters.add(self.key(), delta).map(drop),
        }
    }

    /// The value, 0 when the counter was removed.
    ///
    /// # Errors
    ///
    /// Only those that every method of [`Counters`] has.
    pub fn get(&self) -> Result<i64> {
        self.counters.get(self.key())
    }

    /// What all adds that returned before have led to: the value, and a [`Receipt`] that is durable when they are.
    ///
    /// # Errors
    ///
    /// Only those that every method of [`Counters`] has.
    pub fn receipt(&self) -> Result<Receipt<'_>> {
        let engine = self.counters.engine();
        let seen = engine.shards().look_at_hot(&self.hot);
        let seen = seen.map_err(|refusal| self.counters.refused(refusal, self.key()))?;
        engine.acknowledge(seen.epoch)?;
        Ok(Receipt::new(seen, engine.group()))
    }
}

/// Another handle to the same counter, for another thread.
impl Clone for HotCounter {
    fn clone(&self) -> Self {
        self.hot.share();
        Self::new(self.counters.clone(), Arc::clone(&self.hot))
    }
}

impl Drop for HotCounter {
    fn drop(&mut self) {
        let engine = self.counters.engine();
        if engine.shards().drop_hot(&self.hot) {
            engine.group().announce();
        }
    }
}

impl fmt::Debug for HotCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        f.debug_struct("HotCounter").field("namespace", &self.namespace()).field("key", &key).finish()
    }
}
