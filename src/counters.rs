//! A namespace of counters.

mod hot;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::limits::MAX_KEY_BYTES;
use crate::manifest::Namespace;
use crate::options::CounterOptions;
use crate::receipt::{CompareAndSet, Receipt};
use crate::shard::{Change, Chunk, Refusal};

pub use hot::HotCounter;

/// A handle to a namespace of counters, from [`Store::counters`](crate::Store::counters).
///
/// A key is 1 to 1,024 bytes, any bytes. A value is an `i64`; an absent counter reads 0. Every method may be called
/// from any thread, takes one shard's lock for well under a microsecond (longer when the shard's table grows), and does
/// no I/O (but for [`Durability::Immediate`](crate::Durability::Immediate), where a change returns when it is durable).
///
/// Cloning is cheap. The store stays open for as long as a handle is held, unless it is closed by
/// [`Store::close`](crate::Store::close).
///
/// # Errors
///
/// Every method can answer [`Error::Closed`] and [`Error::Poisoned`], and [`Error::NoSuchNamespace`] after the
/// namespace was dropped (also when another of the same name was created since). Every method with a key can answer
/// [`Error::KeyEmpty`] and [`Error::KeyTooLong`].
///
/// Under [`Durability::Immediate`](crate::Durability::Immediate) a change can also answer what
/// [`Receipt::wait`] answers. It *is applied* then, and not durable yet: do not repeat it, call
/// [`Store::sync`](crate::Store::sync).
#[derive(Clone)]
pub struct Counters {
    engine: Arc<Engine>,
    namespace: Namespace,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("name", &self.namespace.name).field("options", &self.options()).finish()
    }
}

impl Counters {
    pub(crate) fn new(engine: Arc<Engine>, namespace: Namespace) -> Self {
        Self { engine, namespace }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.namespace.name
    }

    /// The options that the namespace was created with.
    #[must_use]
    pub fn options(&self) -> CounterOptions {
        *self.namespace.bounds()
    }

    /// Adds `delta`, creating the counter when it is absent (also with a delta of 0).
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`] and [`Error::OutOfBounds`], unless the namespace clamps. Nothing is changed or logged then.
    #[inline]
    pub fn add(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<Receipt<'_>> {
        self.apply(key.as_ref(), Change::Add(delta))
    }

    /// Sets the value, creating the counter when it is absent.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], unless the namespace clamps. Nothing is changed or logged then.
    pub fn set(&self, key: impl AsRef<[u8]>, value: i64) -> Result<Receipt<'_>> {
        self.apply(key.as_ref(), Change::Set(value))
    }

    /// Sets the value to `new` if it is `expected`; an absent counter has 0.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] when it would be set to a value outside the bounds, unless the namespace clamps. Nothing
    /// is changed or logged then.
    pub fn compare_and_set(&self, key: impl AsRef<[u8]>, expected: i64, new: i64) -> Result<CompareAndSet<'_>> {
        let receipt = self.apply(key.as_ref(), Change::CompareAndSet { expected, new })?;
        let matched = receipt.previous() == expected;
        Ok(if matched { CompareAndSet::Set(receipt) } else { CompareAndSet::Mismatch(receipt) })
    }

    /// Removes the counter, so that it reads 0 and is not listed. An absent one is left absent.
    ///
    /// The memory of removed counters is used again for new ones, and given back only when the store is opened again.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<Receipt<'_>> {
        self.apply(key.as_ref(), Change::Remove)
    }

    #[inline]
    fn apply(&self, key: &[u8], change: Change) -> Result<Receipt<'_>> {
        check_key(key)?;
        let applied = self
            .engine
            .apply(self.namespace.id, key, change, self.namespace.bounds())
            .map_err(|refusal| self.refused(refusal, key))?;
        self.engine.acknowledge(applied.epoch)?;
        Ok(Receipt::new(applied, self.engine.group()))
    }

    /// A handle to one counter that many threads add to at once, which is created when it is absent.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn hot(&self, key: impl AsRef<[u8]>) -> Result<HotCounter> {
        let key = key.as_ref();
        check_key(key)?;
        let hot = self.engine.hot(self.namespace.id, key, self.namespace.bounds());
        let (hot, epoch) = hot.map_err(|refusal| self.refused(refusal, key))?;
        let handle = HotCounter::new(self.clone(), hot);
        self.engine.acknowledge(epoch)?;
        Ok(handle)
    }

    #[cold]
    fn refused(&self, refusal: Refusal, key: &[u8]) -> Error {
        self.engine.refused(refusal, &self.namespace, key)
    }

    /// The value, 0 when the counter is absent.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<i64> {
        Ok(self.lookup(key.as_ref())?.unwrap_or(0))
    }

    /// The values of several counters, in the order of the keys, 0 for an absent one. Each is read at its own moment.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<i64>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Whether the counter exists.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.lookup(key.as_ref())?.is_some())
    }

    #[inline]
    fn lookup(&self, key: &[u8]) -> Result<Option<i64>> {
        check_key(key)?;
        self.engine.shards().get(self.namespace.id, key).map_err(|refusal| self.refused(refusal, key))
    }

    /// How many counters exist. Adds up the shards, so its cost is their number.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn len(&self) -> Result<usize> {
        self.engine.len(self.namespace.id).map_err(|refusal| self.refused(refusal, b""))
    }

    /// Whether no counter exists.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// All counters, in no particular order.
    ///
    /// Changes go on meanwhile: a lock is held for a few microseconds at a time. A counter that exists during the
    /// whole iteration is listed exactly once, with the value of some moment of it; one that is created or removed
    /// meanwhile may be listed or not, and one that is removed and created again even twice. It ends, however many are
    /// created meanwhile. After an error the iteration is over.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { counters: self, next: Some(Chunk::default()), chunk: Vec::new().into_iter() }
    }

    /// The `n` counters with the largest values, largest first, equal values by ascending key.
    ///
    /// Reads every counter, as [`iter`](Self::iter) does: exact when nothing changes meanwhile. Ten million counters
    /// take some tenths of a second.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn top(&self, n: usize) -> Result<Vec<(Bytes, i64)>> {
        // The heap's greatest element is the one that goes first when a better one comes.
        let mut best: BinaryHeap<(Reverse<i64>, Bytes)> = BinaryHeap::new();
        self.visit(&mut |key, value| {
            if best.len() == n {
                let Some(worst) = best.peek() else { return };
                if (Reverse(value), key) >= (worst.0, &worst.1[..]) {
                    return;
                }
                best.pop();
            }
            best.push((Reverse(value), Bytes::copy_from_slice(key)));
        })?;
        Ok(best.into_sorted_vec().into_iter().map(|(Reverse(value), key)| (key, value)).collect())
    }

    fn visit(&self, visit: &mut dyn FnMut(&[u8], i64)) -> Result<()> {
        let mut next = Some(Chunk::default());
        while let Some(chunk) = next {
            next = self.visit_chunk(chunk, visit)?;
        }
        Ok(())
    }

    fn visit_chunk(&self, chunk: Chunk, visit: &mut dyn FnMut(&[u8], i64)) -> Result<Option<Chunk>> {
        self.engine.visit(self.namespace.id, chunk, visit).map_err(|refusal| self.refused(refusal, b""))
    }
}

impl<'a> IntoIterator for &'a Counters {
    type Item = Result<(Bytes, i64)>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// An iteration over a namespace's counters, from [`Counters::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    counters: &'a Counters,
    next: Option<Chunk>,
    chunk: std::vec::IntoIter<(Bytes, i64)>,
}

impl Iterator for Iter<'_> {
    type Item = Result<(Bytes, i64)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(counter) = self.chunk.next() {
                return Some(Ok(counter));
            }
            let mut chunk = Vec::new();
            let collect = &mut |key: &[u8], value| chunk.push((Bytes::copy_from_slice(key), value));
            match self.counters.visit_chunk(self.next.take()?, collect) {
                Ok(next) => self.next = next,
                Err(error) => return Some(Err(error)),
            }
            self.chunk = chunk.into_iter();
        }
    }
}

#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        0 => Err(Error::KeyEmpty),
        len => Err(Error::KeyTooLong { len }),
    }
}
