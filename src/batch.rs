//! Several changes, one epoch.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::counters::{Counters, check_key};
use crate::edge::Viewer;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::likes::Likes;
use crate::limits::MAX_BATCH_CHANGES;
use crate::manifest::Namespace;
use crate::receipt::BatchReceipt;
use crate::shard::{BatchChange, Change, LikeEvent, Operation};

/// Changes over several keys and namespaces, applied all in one epoch or not at all, also across a crash.
///
/// Changes are gathered first; [`commit`](Self::commit) applies them in their order, so that each must leave its
/// counter within the bounds, even where a later one would bring it back. Whoever reads a single counter sees each of
/// them at its own moment; the disk sees all of them or none. The methods that gather refuse nothing: `commit` does,
/// and the batch keeps the refused change, with all others, until [`clear`](Self::clear).
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
///
/// A like with what hangs on it: the creator's total rises when the viewer is new, and stays when the request is one
/// that was sent before.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = plaudit::Store::open(dir.path())?;
/// let (videos, creators) = (store.likes("videos")?, store.counters("creators")?);
/// let mut batch = store.batch();
/// for _ in 0..2 {
///     batch.like(&videos, "video-1", 7_u64).tally(&creators, "ada");
///     batch.commit()?.wait()?;
/// }
/// assert_eq!((videos.count("video-1")?, creators.get("ada")?), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch {
    engine: Arc<Engine>,
    changes: Vec<Gathered>,
    keys: Vec<u8>,
    namespaces: Vec<Namespace>,
    /// The first change that can be seen to be wrong without applying it; reported by `commit`.
    refused: Option<Error>,
    /// The last change that is no tally.
    last: Option<usize>,
}

struct Gathered {
    namespace: u32,
    key: Range<usize>,
    what: What,
}

enum What {
    Count(Change),
    Like(LikeEvent),
    /// Adds what the change at this place did.
    Tally(usize),
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("changes", &self.len()).finish()
    }
}

impl Batch {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, changes: Vec::new(), keys: Vec::new(), namespaces: Vec::new(), refused: None, last: None }
    }

    /// Adds `delta` to a counter, as [`Counters::add`]. What is wrong with it, [`commit`](Self::commit) answers.
    pub fn add(&mut self, counters: &Counters, key: impl AsRef<[u8]>, delta: i64) -> &mut Self {
        self.push_count(counters, key.as_ref(), What::Count(Change::Add(delta)))
    }

    /// Sets a counter, as [`Counters::set`]. What is wrong with it, [`commit`](Self::commit) answers.
    pub fn set(&mut self, counters: &Counters, key: impl AsRef<[u8]>, value: i64) -> &mut Self {
        self.push_count(counters, key.as_ref(), What::Count(Change::Set(value)))
    }

    /// Removes a counter, as [`Counters::remove`]. What is wrong with it, [`commit`](Self::commit) answers.
    pub fn remove(&mut self, counters: &Counters, key: impl AsRef<[u8]>) -> &mut Self {
        self.push_count(counters, key.as_ref(), What::Count(Change::Remove))
    }

    /// The viewer likes the item, as [`Likes::like`]. It happens now, not when the batch is committed.
    pub fn like(&mut self, likes: &Likes, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>) -> &mut Self {
        self.push_like(likes, item.as_ref(), likes.now(viewer.into(), true))
    }

    /// The viewer does not like the item any more, as [`Likes::unlike`].
    pub fn unlike(&mut self, likes: &Likes, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>) -> &mut Self {
        self.push_like(likes, item.as_ref(), likes.now(viewer.into(), false))
    }

    /// The viewer liked the item at `time_ms`, as [`Likes::like_at`]. Whether that is too old is told by what the
    /// namespace had seen before the batch: its own events move the horizon once they are applied.
    pub fn like_at(
        &mut self,
        likes: &Likes,
        item: impl AsRef<[u8]>,
        viewer: impl Into<Viewer>,
        time_ms: u64,
    ) -> &mut Self {
        self.push_like(likes, item.as_ref(), likes.at(viewer.into(), true, time_ms))
    }

    /// The viewer unliked the item at `time_ms`, as [`Likes::unlike_at`] and, for the horizon, as
    /// [`like_at`](Self::like_at) here.
    pub fn unlike_at(
        &mut self,
        likes: &Likes,
        item: impl AsRef<[u8]>,
        viewer: impl Into<Viewer>,
        time_ms: u64,
    ) -> &mut Self {
        self.push_like(likes, item.as_ref(), likes.at(viewer.into(), false, time_ms))
    }

    /// Adds to a counter what the change gathered just before does to its own: for a like 1 when it is new, for an
    /// unlike -1 when there was one, and otherwise 0, which leaves the counter as it is. Tallies are applied after
    /// all other changes of the batch. Several may follow one change; the first change of a batch has none before it,
    /// so a tally there adds nothing. What [`Likes::forget_viewer`] and [`Likes::remove_item`] take back, they do not
    /// take back from tallies.
    pub fn tally(&mut self, counters: &Counters, key: impl AsRef<[u8]>) -> &mut Self {
        match self.last {
            Some(of) => self.push_count(counters, key.as_ref(), What::Tally(of)),
            None => self,
        }
    }

    fn push_count(&mut self, counters: &Counters, key: &[u8], what: What) -> &mut Self {
        self.push(counters.engine(), counters.namespace(), key, Ok(what))
    }

    fn push_like(&mut self, likes: &Likes, item: &[u8], event: Result<LikeEvent>) -> &mut Self {
        self.push(likes.engine(), likes.namespace(), item, event.map(What::Like))
    }

    fn push(&mut self, engine: &Arc<Engine>, namespace: &Namespace, key: &[u8], what: Result<What>) -> &mut Self {
        let is_own = Arc::ptr_eq(&self.engine, engine);
        let foreign = || Error::ForeignNamespace { namespace: namespace.name.to_string() };
        match check_key(key).and_then(|()| if is_own { what } else { Err(foreign()) }) {
            Ok(what) => {
                if !matches!(what, What::Tally(_)) {
                    self.last = Some(self.changes.len());
                }
                let namespace = self.place_of(namespace);
                let start = self.keys.len();
                self.keys.extend_from_slice(key);
                self.changes.push(Gathered { namespace, key: start..self.keys.len(), what });
            }
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
        self
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

    /// Forgets the gathered changes, also one that was refused.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
        self.namespaces.clear();
        self.refused = None;
        self.last = None;
    }

    /// Applies all changes, and empties the batch for the next ones. A batch without changes is fine.
    ///
    /// Its cost on one thread is about that of its changes one by one, and twice that where all counters fit the
    /// processor's cache. It holds the locks of all shards that it touches meanwhile, for some tenths of a microsecond
    /// for each change: threads that all commit batches of many keys wait for each other, and adds one by one, which
    /// each take one lock, get further then.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`]; [`Error::ForeignNamespace`] for a handle of another store; for a key or a change
    /// that is refused, the error that it has when made alone. Nothing is applied then, and the batch keeps its
    /// changes, the refused one too: a further commit tries them all again, and a change that can never be made (by its
    /// key, or its handle) is refused until [`clear`](Self::clear). Under
    /// [`Durability::Immediate`](crate::Durability::Immediate) also what [`BatchReceipt::wait`] answers, and the
    /// changes are applied then.
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
            operation: match gathered.what {
                What::Count(change) => Operation::Count { change, bounds: namespace.bounds() },
                What::Like(event) => Operation::Like(event),
                What::Tally(of) => Operation::Tally { of, bounds: namespace.bounds() },
            },
        }
    }
}
