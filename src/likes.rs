//! A namespace of likes: one viewer, one like.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::counters::{Counters, check_key};
use crate::edge::{Stamp, Viewer, ViewerWidth};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::limits::MAX_TIME_MS;
use crate::manifest::Namespace;
use crate::options::LikeOptions;
use crate::receipt::Receipt;
use crate::shard::{Applied, Edge, EdgePlace, LikeEvent, LikeRules, Refusal, Shards, When};

/// A handle to a namespace of likes, from [`Store::likes`](crate::Store::likes).
///
/// A viewer either likes an item or does not. Liking twice counts once, an unlike takes the like back, and a request
/// that is sent again changes nothing. An item's count and its likes change together, in one epoch, so the count is
/// always that of the likes.
///
/// An item is a key of 1 to 1,024 bytes. A viewer is a `u64`, or 128 bits in a namespace of
/// [`ViewerIds::U128`](crate::ViewerIds::U128). Times are in milliseconds since 1970-01-01 UTC, at most
/// [`MAX_TIME_MS`].
///
/// # The time of a like
///
/// [`like_at`](Self::like_at) and [`unlike_at`](Self::unlike_at) say when it happened. The newest event of a viewer and
/// an item decides, in whatever order and however often events come; at equal times the unlike does. So a queue may be
/// replayed, also from its beginning.
///
/// [`like`](Self::like) and [`unlike`](Self::unlike) happen now, by the clock of the store, and always take effect,
/// also when that clock has gone back: they get a time just late enough. A like that is there already keeps its time.
///
/// Unlikes are remembered for the namespace's [horizon](LikeOptions::horizon), so that an older like that comes late is
/// known to be older. An event from before the horizon is [`Error::TooOld`]. The horizon ends with the newest time that
/// the namespace has seen, an event's or that of a call, and never goes back: times later than the store's clock do not
/// move it, but a clock that is far ahead does, and makes every event of the right time too old. Memory of unlikes that
/// are too old is given back by each compaction, and before that where room is needed. Between two compactions they may
/// take about four bytes for each byte of log: see
/// [`compaction_threshold_bytes`](crate::Options::compaction_threshold_bytes).
///
/// # Reading
///
/// [`count`](Self::count), [`has_liked`](Self::has_liked) and [`likers`](Self::likers) show every change at once.
/// [`liked_by`](Self::liked_by) shows an unlike at once, and a like when its epoch is sealed: within the
/// [group window](crate::Options::group_window), or once [`Store::sync`](crate::Store::sync) has returned.
///
/// # Errors
///
/// Every method can answer [`Error::Closed`] and [`Error::Poisoned`], [`Error::NoSuchNamespace`] after the namespace
/// was dropped, [`Error::KeyEmpty`] and [`Error::KeyTooLong`] for an item, and [`Error::ViewerTooWide`] for a viewer
/// of more than 64 bits in a namespace of 64-bit viewers. Under
/// [`Durability::Immediate`](crate::Durability::Immediate) a change can also answer what [`Receipt::wait`] answers,
/// and *is applied* then.
#[derive(Clone)]
pub struct Likes {
    /// The items and their counts.
    items: Counters,
    options: LikeOptions,
    rules: Arc<LikeRules>,
}

/// A viewer who likes an item. Also where the next page of [`Likes::likers`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liker {
    /// The viewer.
    pub viewer: Viewer,
    /// Since when.
    pub time_ms: u64,
}

/// An item that a viewer likes. Also where the next page of [`Likes::liked_by`] begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikedItem {
    /// The item.
    pub item: Bytes,
    /// Since when.
    pub time_ms: u64,
}

impl fmt::Debug for Likes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Likes").field("name", &self.name()).field("options", &self.options).finish()
    }
}

impl Likes {
    /// Fails when the namespace is of counters, or was dropped meanwhile.
    pub(crate) fn new(engine: Arc<Engine>, namespace: Namespace) -> Result<Self> {
        let options = namespace.like_options()?;
        let missing = || Error::NoSuchNamespace { name: namespace.name.to_string() };
        let rules = engine.shards().like_rules(namespace.id).ok_or_else(missing)?;
        Ok(Self { items: Counters::new(engine, namespace), options, rules })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.items.engine()
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.items.namespace()
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.items.name()
    }

    /// The options that the namespace was created with.
    #[must_use]
    pub fn options(&self) -> LikeOptions {
        self.options
    }

    /// The viewer likes the item now. [`Receipt::value`] is the item's count, and [`Receipt::changed`] whether the like
    /// is new.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyCounters`], and those that every method has.
    #[inline]
    pub fn like(&self, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>) -> Result<Receipt<'_>> {
        self.apply(item.as_ref(), self.now(viewer.into(), true)?)
    }

    /// The viewer does not like the item any more.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    #[inline]
    pub fn unlike(&self, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>) -> Result<Receipt<'_>> {
        self.apply(item.as_ref(), self.now(viewer.into(), false)?)
    }

    /// The viewer liked the item at `time_ms`. Takes effect if nothing newer is known of the two. A like that was there
    /// already gets the newer time, and [`Receipt::changed`] is `false`.
    ///
    /// # Errors
    ///
    /// [`Error::TooOld`] for an event from before the horizon, [`Error::TimeTooLate`] for one after [`MAX_TIME_MS`],
    /// [`Error::TooManyCounters`], and those that every method has.
    #[inline]
    pub fn like_at(&self, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>, time_ms: u64) -> Result<Receipt<'_>> {
        self.apply(item.as_ref(), self.at(viewer.into(), true, time_ms)?)
    }

    /// The viewer unliked the item at `time_ms`. Takes effect if nothing newer is known of the two.
    ///
    /// # Errors
    ///
    /// As for [`like_at`](Self::like_at).
    #[inline]
    pub fn unlike_at(&self, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>, time_ms: u64) -> Result<Receipt<'_>> {
        self.apply(item.as_ref(), self.at(viewer.into(), false, time_ms)?)
    }

    /// How many viewers like the item.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    #[inline]
    pub fn count(&self, item: impl AsRef<[u8]>) -> Result<u64> {
        self.items.get(item).map(i64::unsigned_abs)
    }

    /// The counts of several items, in their order. Each is read at its own moment.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn counts<K: AsRef<[u8]>>(&self, items: &[K]) -> Result<Vec<u64>> {
        items.iter().map(|item| self.count(item)).collect()
    }

    /// Whether the viewer likes the item.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    #[inline]
    pub fn has_liked(&self, item: impl AsRef<[u8]>, viewer: impl Into<Viewer>) -> Result<bool> {
        let (item, viewer) = (item.as_ref(), self.check_viewer(viewer.into())?);
        check_key(item)?;
        let liked = self.shards().has_liked(self.namespace().id, item, viewer);
        liked.map_err(|refusal| self.refused(refusal, item))
    }

    /// Which of the items the viewer likes, in their order: what it takes to show a feed.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn liked_among<K: AsRef<[u8]>>(&self, viewer: impl Into<Viewer>, items: &[K]) -> Result<Vec<bool>> {
        let viewer = viewer.into();
        items.iter().map(|item| self.has_liked(item, viewer)).collect()
    }

    /// The viewers who like the item, newest first, those of one time by descending id: at most `limit` after `after`,
    /// which is the last one of the page before. Fewer than `limit` are the last page.
    ///
    /// A page shows one moment or, when it is long, a few. Likes that come in between pages are not skipped into a
    /// later page, nor shown twice; `after` need not be a liker any more, and stays good when the store is opened anew.
    /// A page of 50 takes some microseconds, also of ten million.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn likers(&self, item: impl AsRef<[u8]>, after: Option<&Liker>, limit: usize) -> Result<Vec<Liker>> {
        let item = item.as_ref();
        check_key(item)?;
        let position = |after: &Liker| (Stamp::new(after.time_ms.min(MAX_TIME_MS), true), after.viewer.as_u128());
        let (mut next, mut found) = (after.map(position), Vec::new());
        while found.len() < limit {
            let left = limit - found.len();
            next = self
                .shards()
                .newest_likers(self.namespace().id, item, next, left, &mut found)
                .map_err(|refusal| self.refused(refusal, item))?;
            if next.is_none() {
                break;
            }
        }
        let liker = |(viewer, stamp): (u128, Stamp)| Liker { viewer: viewer.into(), time_ms: stamp.time_ms() };
        Ok(found.into_iter().map(liker).collect())
    }

    /// The items that the viewer likes, newest first, those of one time by ascending key: at most `limit` after
    /// `after`, which is the last one of the page before. Fewer than `limit` are the last page.
    ///
    /// A like of the open epoch is not shown yet; an unlike is. `after` stays good when the store is opened anew.
    /// Costs a lookup for each item, and for each that has the same time.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn liked_by(
        &self,
        viewer: impl Into<Viewer>,
        after: Option<&LikedItem>,
        limit: usize,
    ) -> Result<Vec<LikedItem>> {
        let viewer = self.check_viewer(viewer.into())?;
        let after = after.map(|after| (after.time_ms.min(MAX_TIME_MS), &after.item[..]));
        let liked = self.shards().newest_liked(self.namespace().id, viewer, after, limit);
        let liked = liked.map_err(|refusal| self.refused(refusal, b""))?;
        Ok(liked.into_iter().map(|(item, time_ms)| LikedItem { item, time_ms }).collect())
    }

    /// How many items there are, also those whose likes were all taken back. Adds up the shards, so its cost is their
    /// number.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn len(&self) -> Result<usize> {
        self.items.len()
    }

    /// Whether there is no item.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn is_empty(&self) -> Result<bool> {
        self.items.is_empty()
    }

    /// All items with their counts, also those whose likes were all taken back, in no particular order: as
    /// [`Counters::iter`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(Bytes, u64)>> + '_ {
        self.items.iter().map(|item| item.map(|(key, count)| (key, count.unsigned_abs())))
    }

    /// The `n` items with the most likes, most first, equal counts by ascending key; those without any are left out. As
    /// [`Counters::top`].
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn top(&self, n: usize) -> Result<Vec<(Bytes, u64)>> {
        let top = self.items.top(n)?.into_iter().map(|(key, count)| (key, count.unsigned_abs()));
        Ok(top.take_while(|&(_, count)| count > 0).collect())
    }

    /// All likes, those of an item one after another, in no particular order.
    ///
    /// Changes go on meanwhile: a lock is held for some tens of microseconds at a time. A like that is there during the
    /// whole iteration, unchanged, is listed; while others of its item change it may be listed twice. It ends, however
    /// many are new meanwhile. After an error the iteration is over.
    #[must_use]
    pub fn edges(&self) -> EdgeIter<'_> {
        EdgeIter { likes: self, next: Some(EdgePlace::default()), chunk: Vec::new().into_iter() }
    }

    /// Removes the item with all its likes. [`Receipt::previous`] is how many there were.
    ///
    /// Nothing of it is remembered: an event that is replayed later counts anew.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn remove_item(&self, item: impl AsRef<[u8]>) -> Result<Receipt<'_>> {
        let item = item.as_ref();
        check_key(item)?;
        self.answer(self.engine().remove_item(self.namespace().id, item), item)
    }

    /// Removes every like of the viewer, and what is remembered of unlikes, from all items: one durable change, also
    /// when it is large. [`Receipt::previous`] is how many likes there were.
    ///
    /// Nothing of the viewer is remembered: an event that is replayed later counts anew. But for an unlike from before
    /// the horizon, which may stay with its item, in memory only, until room is needed there, the store is compacted or
    /// opened again: a viewer of more than a hundred items may have lost sight of it. What was written before is gone
    /// from the disk when the snapshots and the log of then are: after as many compactions as generations are kept, and
    /// one.
    ///
    /// Costs about a third of a microsecond for each item. Others go on meanwhile, but no epoch becomes durable.
    ///
    /// # Errors
    ///
    /// Only those that every method has.
    pub fn forget_viewer(&self, viewer: impl Into<Viewer>) -> Result<Receipt<'_>> {
        let viewer = self.check_viewer(viewer.into())?;
        self.answer(self.engine().forget_viewer(self.namespace().id, viewer), b"")
    }

    fn shards(&self) -> &Shards {
        self.engine().shards()
    }

    fn check_viewer(&self, viewer: Viewer) -> Result<u128> {
        if self.rules.width == ViewerWidth::Bits64 && viewer.as_u64().is_none() {
            return Err(Error::ViewerTooWide { viewer: viewer.as_u128() });
        }
        Ok(viewer.as_u128())
    }

    /// A like or an unlike of this moment.
    #[inline]
    pub(crate) fn now(&self, viewer: Viewer, liked: bool) -> Result<LikeEvent> {
        let viewer = self.check_viewer(viewer)?;
        let now_ms = self.engine().wall_ms().min(MAX_TIME_MS);
        Ok(LikeEvent { viewer, liked, when: When::Now(now_ms), seen_ms: now_ms })
    }

    /// A like or an unlike of a time of its own.
    #[inline]
    pub(crate) fn at(&self, viewer: Viewer, liked: bool, time_ms: u64) -> Result<LikeEvent> {
        let viewer = self.check_viewer(viewer)?;
        if time_ms > MAX_TIME_MS {
            return Err(Error::TimeTooLate { time_ms });
        }
        // One event from the future must not make every other one too old.
        let is_newest = time_ms > self.rules.newest_ms();
        let seen_ms = if is_newest { time_ms.min(self.engine().wall_ms()) } else { time_ms };
        Ok(LikeEvent { viewer, liked, when: When::At(time_ms), seen_ms })
    }

    #[inline]
    fn apply(&self, item: &[u8], event: LikeEvent) -> Result<Receipt<'_>> {
        check_key(item)?;
        self.answer(self.engine().like(self.namespace().id, item, &event), item)
    }

    fn answer(&self, applied: Result<Applied, Refusal>, item: &[u8]) -> Result<Receipt<'_>> {
        let applied = applied.map_err(|refusal| self.refused(refusal, item))?;
        self.engine().acknowledge(applied.epoch)?;
        Ok(Receipt::new(applied, self.engine().group()))
    }

    #[cold]
    fn refused(&self, refusal: Refusal, item: &[u8]) -> Error {
        self.engine().refused(refusal, self.namespace(), item)
    }
}

/// An iteration over all likes of a namespace, from [`Likes::edges`].
#[derive(Debug)]
pub struct EdgeIter<'a> {
    likes: &'a Likes,
    next: Option<EdgePlace>,
    chunk: std::vec::IntoIter<(Bytes, Liker)>,
}

impl Iterator for EdgeIter<'_> {
    type Item = Result<(Bytes, Liker)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(edge) = self.chunk.next() {
                return Some(Ok(edge));
            }
            let mut chunk: Vec<(Bytes, Liker)> = Vec::new();
            let mut collect = |Edge { item, viewer, stamp, .. }: Edge<'_>| {
                if stamp.is_like() {
                    let item = match chunk.last() {
                        Some((last, _)) if last == item => last.clone(),
                        _ => Bytes::copy_from_slice(item),
                    };
                    chunk.push((item, Liker { viewer: viewer.into(), time_ms: stamp.time_ms() }));
                }
            };
            let at = self.next.take()?;
            match self.likes.engine().visit_edges(self.likes.namespace().id, at, &mut collect) {
                Ok(next) => self.next = next,
                Err(refusal) => return Some(Err(self.likes.refused(refusal, b""))),
            }
            self.chunk = chunk.into_iter();
        }
    }
}
