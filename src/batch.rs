//! Several changes, one epoch.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::counters::{Counters, check_key};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::limits::MAX_BATCH_CHANGES;
use crate::manifest::Namespace;
use crate::receipt::BatchReceipt;
use crate::shard::{BatchChange, Change};

/// Changes over several keys and namespaces, applied all in one epoch or not at all, also across a crash.
///
/// Changes are gathered first; [`commit`](Self::commit) applies them in their order. Whoever reads a single counter
/// sees each of them at its own moment; the disk sees all of them or none.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = plaudit::Store::open(dir.path())?;
/// let (videos, creators) = (store.counters("videos")?, store.counters("creators")?);
/// let mut batch = store.batch();
/// batch.add(&videos, "video-1", 1).add(&creators, "ada", 1);
/// batch.commit()?.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch {
    engine: Arc<Engine>,
    changes: Vec<Gathered>,
    keys: Vec<u8>,
    namespaces: Vec<Namespace>,
    /// The first change that can be seen to be wrong without applying it; reported by `commit`.
    refused: Option<Error>,
}

struct Gathered {
    namespace: u32,
    key: Range<usize>,
    change: Change,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("changes", &self.len()).finish()
    }
}

impl Batch {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, changes: Vec::new(), keys: Vec::new(), namespaces: Vec::new(), refused: None }
    }

    /// Adds `delta` to a counter, as [`Counters::add`].
    pub fn add(&mut self, counters: &Counters, key: impl AsRef<[u8]>, delta: i64) -> &mut Self {
        self.push(counters, key.as_ref(), Change::Add(delta))
    }

    /// Sets a counter, as [`Counters::set`].
    pub fn set(&mut self, counters: &Counters, key: impl AsRef<[u8]>, value: i64) -> &mut Self {
        self.push(counters, key.as_ref(), Change::Set(value))
    }

    /// Removes a counter, as [`Counters::remove`].
    pub fn remove(&mut self, counters: &Counters, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(counters, key.as_ref(), Change::Remove)
    }

    fn push(&mut self, counters: &Counters, key: &[u8], change: Change) -> &mut Self {
        if let Err(error) = check_key(key).and_then(|()| self.check_store(counters)) {
            self.refused.get_or_insert(error);
        }
        let namespace = self.place_of(counters.namespace());
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.changes.push(Gathered { namespace, key: start..self.keys.len(), change });
        self
    }

    fn check_store(&self, counters: &Counters) -> Result<()> {
        if Arc::ptr_eq(&self.engine, counters.engine()) {
            return Ok(());
        }
        Err(Error::ForeignNamespace { namespace: counters.name().to_owned() })
    }

    /// Where the namespace stands in `namespaces`. A batch has few of them, and mostly the same one again.
    fn place_of(&mut self, namespace: &Namespace) -> u32 {
        let known = self.namespaces.iter().rposition(|known| known.id == namespace.id);
        let place = known.unwrap_or_else(|| {
            self.namespaces.push(namespace.clone());
            self.namespaces.len() - 1
        });
        place as u32
    }

    /// The number of changes gathered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether no change was gathered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Forgets the gathered changes.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
        self.namespaces.clear();
        self.refused = None;
    }

    /// Applies all changes, and empties the batch for the next ones. A batch without changes is fine.
    ///
    /// Its cost is that of its changes one by one. It holds the locks of all shards that it touches meanwhile, for
    /// about a tenth of a microsecond for each change.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`]; [`Error::ForeignNamespace`] for a handle of another store; for a key or a change
    /// that is refused, the error that it has when made alone. Nothing is applied then, and the batch keeps its
    /// changes. Under [`Durability::Immediate`](crate::Durability::Immediate) also what [`BatchReceipt::wait`]
    /// answers, and the changes are applied then.
    pub fn commit(&mut self) -> Result<BatchReceipt> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.changes.len() > MAX_BATCH_CHANGES {
            return Err(Error::BatchTooLarge { changes: self.changes.len() });
        }
        let changes: Vec<BatchChange<'_>> = self.changes.iter().map(|gathered| self.resolve(gathered)).collect();
        let mut outcomes = Vec::new();
        let epoch = self.engine.apply_batch(&changes, &mut outcomes).map_err(|(index, refusal)| {
            let Some(gathered) = self.changes.get(index) else { return self.engine.halted() };
            let namespace = &self.namespaces[gathered.namespace as usize];
            self.engine.refused(refusal, namespace, &self.keys[gathered.key.clone()])
        })?;
        self.clear();
        self.engine.acknowledge(epoch)?;
        Ok(BatchReceipt::new(outcomes, epoch, self.engine.group()))
    }

    fn resolve(&self, gathered: &Gathered) -> BatchChange<'_> {
        let namespace = &self.namespaces[gathered.namespace as usize];
        BatchChange {
            namespace: namespace.id,
            key: &self.keys[gathered.key.clone()],
            change: gathered.change,
            bounds: namespace.bounds(),
        }
    }
}
