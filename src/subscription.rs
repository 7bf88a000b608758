//! Sealed epochs as a stream, for what is derived from counts: rankings, histories, feeds.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::edge::Viewer;
use crate::shard::NamespaceId;
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering};

/// What a [`Subscription`] delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// An epoch that is durable.
    Epoch(SealedEpoch),
    /// Epochs that did not fit into the subscription's queue, because the subscriber was slow or the epoch has more
    /// changes than the queue's capacity. Whoever derives something from the stream reads the counters again.
    Missed {
        /// The first epoch that was missed.
        first: u64,
        /// The last epoch that was missed.
        last: u64,
    },
}

/// An epoch with everything that changed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedEpoch {
    /// The epoch's number. Numbers grow; those of epochs without changes are left out.
    pub epoch: u64,
    /// When it was sealed: wall-clock time in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Each changed counter once, in no particular order; an item of likes with its count, when that changed.
    pub changes: Vec<CounterChange>,
    /// Items of likes that were removed: none of the likes from before the epoch is left. The item may be back, with
    /// those in `likes`.
    pub removed_items: Vec<RemovedItem>,
    /// Each changed like once, in no particular order, but those that a removed item took with it.
    pub likes: Vec<LikeChange>,
}

impl SealedEpoch {
    /// What it takes of a queue's capacity.
    fn len(&self) -> usize {
        self.changes.len() + self.removed_items.len() + self.likes.len()
    }
}

/// A counter's change over one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterChange {
    /// The counter's namespace.
    pub namespace: Arc<str>,
    /// The counter's key.
    pub key: Bytes,
    /// By how much it is different from the epoch before; an absent counter reads 0. Wider than a value, because a
    /// counter can go from one end of 64 bits to the other.
    pub delta: i128,
    /// Its value at the epoch's end, `None` when it was removed.
    pub value: Option<i64>,
}

/// An item of likes that was removed with all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedItem {
    /// The namespace of likes.
    pub namespace: Arc<str>,
    /// The item's key.
    pub item: Bytes,
}

/// What a viewer's like of an item became over one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LikeChange {
    /// The namespace of likes.
    pub namespace: Arc<str>,
    /// The item's key.
    pub item: Bytes,
    /// The viewer.
    pub viewer: Viewer,
    /// Since when the viewer likes the item at the epoch's end, in milliseconds since 1970-01-01 UTC; `None` when they
    /// do not, also when they were forgotten.
    pub liked_at_ms: Option<u64>,
}

/// A bounded queue of the epochs that were sealed after [`Store::subscribe`](crate::Store::subscribe).
///
/// The queue holds changes up to its capacity. When an epoch does not fit, it is left out and the subscriber is told
/// which ones it missed: the committer never waits, and memory stays bounded. Dropping the subscription ends it.
pub struct Subscription {
    queue: Arc<Queue>,
}

struct Queue {
    capacity: usize,
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    epochs: VecDeque<Delivery>,
    /// Changes in `epochs`.
    queued: usize,
    /// Missed since the newest entry of `epochs`.
    missed: Option<(u64, u64)>,
    ended: bool,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.queue.state.lock();
        f.debug_struct("Subscription").field("capacity", &self.queue.capacity).field("queued", &state.queued).finish()
    }
}

impl Subscription {
    /// The next delivery, blocking until there is one. `None` once the store is closed, or has stopped, and everything
    /// was delivered.
    pub fn next(&self) -> Option<Delivery> {
        let mut state = self.queue.state.lock();
        loop {
            if let Some(delivery) = state.take() {
                return Some(delivery);
            }
            if state.ended {
                return None;
            }
            self.queue.arrived.wait(&mut state);
        }
    }

    /// The next delivery, blocking for at most `timeout`.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Delivery> {
        // A time-out that ends after the end of time is none.
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Self::next(self) };
        let mut state = self.queue.state.lock();
        loop {
            let delivery = state.take();
            if delivery.is_some() || state.ended {
                return delivery;
            }
            if self.queue.arrived.wait_until(&mut state, deadline).timed_out() {
                return state.take();
            }
        }
    }

    /// The next delivery, if there is one now.
    pub fn try_next(&self) -> Option<Delivery> {
        self.queue.state.lock().take()
    }
}

/// Deliveries until the store is closed, blocking for each.
impl Iterator for Subscription {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        Self::next(self)
    }
}

impl QueueState {
    fn take(&mut self) -> Option<Delivery> {
        if let Some(delivery) = self.epochs.pop_front() {
            if let Delivery::Epoch(epoch) = &delivery {
                self.queued -= epoch.len();
            }
            return Some(delivery);
        }
        self.missed.take().map(|(first, last)| Delivery::Missed { first, last })
    }

    fn put(&mut self, epoch: &SealedEpoch, capacity: usize) {
        if epoch.len() > capacity - self.queued {
            let first = self.missed.map_or(epoch.epoch, |(first, _)| first);
            self.missed = Some((first, epoch.epoch));
            return;
        }
        if let Some((first, last)) = self.missed.take() {
            self.epochs.push_back(Delivery::Missed { first, last });
        }
        self.queued += epoch.len();
        self.epochs.push_back(Delivery::Epoch(epoch.clone()));
    }
}

/// The committer's side of all subscriptions.
#[derive(Default)]
pub(crate) struct Subscribers {
    list: Mutex<List>,
    /// The length of `list.queues`, read without the lock to know whether events are wanted at all.
    count: AtomicUsize,
}

#[derive(Default)]
struct List {
    queues: Vec<Arc<Queue>>,
    names: HashMap<NamespaceId, Arc<str>>,
    ended: bool,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").field("count", &self.count.load(Ordering::Relaxed)).finish()
    }
}

impl Subscribers {
    /// Tells the name that a namespace's changes are delivered under.
    pub(crate) fn name(&self, namespace: NamespaceId, name: Arc<str>) {
        self.list.lock().names.insert(namespace, name);
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription {
        let mut list = self.list.lock();
        let state = Mutex::new(QueueState { ended: list.ended, ..QueueState::default() });
        let queue = Arc::new(Queue { capacity, state, arrived: Condvar::new() });
        list.queues.push(Arc::clone(&queue));
        self.count.store(list.queues.len(), Ordering::Release);
        Subscription { queue }
    }

    /// Whether anyone wants events.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Gives a durable epoch to every subscriber that has room for it. Never blocks on one.
    pub(crate) fn deliver(&self, epoch: u64, time_ms: u64, events: RawEvents) {
        if events.is_empty() {
            return;
        }
        let mut list = self.list.lock();
        list.queues.retain(|queue| Arc::strong_count(queue) > 1);
        self.count.store(list.queues.len(), Ordering::Release);
        let named = |event: RawEvent| {
            let RawEvent { namespace, key, delta, value } = event;
            let namespace = Arc::clone(list.names.get(&namespace)?);
            Some(CounterChange { namespace, key, delta, value })
        };
        let named_like = |like: RawLike| {
            let RawLike { namespace, item, viewer, liked_at_ms } = like;
            let namespace = Arc::clone(list.names.get(&namespace)?);
            Some(LikeChange { namespace, item, viewer: Viewer::from(viewer), liked_at_ms })
        };
        let changes = events.counters.into_iter().filter_map(named).collect();
        let likes = events.likes.into_iter().filter_map(named_like).collect();
        let removed_items = events.cleared.into_iter().filter_map(|(namespace, item)| {
            let namespace = Arc::clone(list.names.get(&namespace)?);
            Some(RemovedItem { namespace, item })
        });
        let sealed = SealedEpoch { epoch, time_ms, changes, removed_items: removed_items.collect(), likes };
        for queue in &list.queues {
            queue.state.lock().put(&sealed, queue.capacity);
            queue.arrived.notify_one();
        }
    }

    /// Nothing more will be delivered.
    pub(crate) fn end(&self) {
        let mut list = self.list.lock();
        list.ended = true;
        for queue in &list.queues {
            queue.state.lock().ended = true;
            queue.arrived.notify_all();
        }
    }
}

/// What subscribers get of an epoch, before namespaces are named.
#[derive(Debug, Default)]
pub(crate) struct RawEvents {
    pub(crate) counters: Vec<RawEvent>,
    pub(crate) likes: Vec<RawLike>,
    /// Items that were removed.
    pub(crate) cleared: Vec<(NamespaceId, Bytes)>,
}

impl RawEvents {
    pub(crate) fn clear(&mut self) {
        self.counters.clear();
        self.likes.clear();
        self.cleared.clear();
    }

    fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.likes.is_empty() && self.cleared.is_empty()
    }
}

/// What became of a like, before its namespace is named.
#[derive(Debug)]
pub(crate) struct RawLike {
    pub(crate) namespace: NamespaceId,
    pub(crate) item: Bytes,
    pub(crate) viewer: u128,
    pub(crate) liked_at_ms: Option<u64>,
}

/// A counter's change as subscribers get it, before its namespace is named.
#[derive(Debug)]
pub(crate) struct RawEvent {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: Bytes,
    pub(crate) delta: i128,
    pub(crate) value: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: usize) -> RawEvents {
        let event = |n: usize| RawEvent { namespace: 1, key: Bytes::from(n.to_string()), delta: 1, value: Some(1) };
        RawEvents { counters: (0..count).map(event).collect(), ..RawEvents::default() }
    }

    fn subscribers() -> Subscribers {
        let subscribers = Subscribers::default();
        subscribers.name(1, "likes".into());
        subscribers
    }

    fn epoch_of(delivery: Option<Delivery>) -> u64 {
        match delivery {
            Some(Delivery::Epoch(sealed)) => sealed.epoch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
        let subscribers = subscribers();
        let subscription = subscribers.subscribe(10);
        for epoch in 1..=5 {
            subscribers.deliver(epoch, 0, events(4));
        }
        assert_eq!(epoch_of(subscription.try_next()), 1);
        assert_eq!(epoch_of(subscription.try_next()), 2);
        subscribers.deliver(6, 0, events(11));
        subscribers.deliver(7, 0, events(4));
        assert_eq!(subscription.try_next(), Some(Delivery::Missed { first: 3, last: 6 }));
        assert_eq!(epoch_of(subscription.try_next()), 7);
        subscribers.deliver(8, 0, events(11));
        assert_eq!(subscription.try_next(), Some(Delivery::Missed { first: 8, last: 8 }));
        assert_eq!(subscription.try_next(), None);
    }

    #[test]
    fn a_dropped_subscription_is_forgotten_and_an_ended_one_drains() {
        let subscribers = subscribers();
        drop(subscribers.subscribe(10));
        let subscription = subscribers.subscribe(10);
        subscribers.deliver(1, 0, events(1));
        assert_eq!(subscribers.list.lock().queues.len(), 1);
        subscribers.end();
        assert_eq!(epoch_of(Subscription::next(&subscription)), 1);
        assert_eq!(Subscription::next(&subscription), None);
        assert_eq!(Subscription::next(&subscribers.subscribe(1)), None);
    }
}
