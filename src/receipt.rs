//! What a change returns: its result now, its durability when awaited.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::commit::Group;
use crate::error::Result;
use crate::shard::{Applied, BatchOutcome};

/// The answer to a change of one counter.
///
/// What the change did is known at once. Whether it is durable is known later, by [`wait`](Self::wait), which blocks,
/// or by `.await`, on any runtime (wakers are called by the committer's thread, and so must not block). Dropping a
/// receipt is fine: the change becomes durable all the same.
///
/// A receipt borrows the handle that it came from, so that a call needs no reference count;
/// [`detach`](Self::detach) makes one that stands alone.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = plaudit::Store::open(dir.path())?;
/// let likes = store.counters("likes")?;
/// let receipt = likes.add("video-1", 1)?;
/// assert_eq!((receipt.value(), receipt.delta()), (1, 1));
/// receipt.wait()?; // on disk now
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receipt<'a> {
    value: i64,
    previous: i64,
    changed: bool,
    durability: Durable<'a>,
}

impl<'a> Receipt<'a> {
    pub(crate) fn new(applied: Applied, group: &'a Arc<Group>) -> Self {
        let Applied { previous, value, changed, epoch, .. } = applied;
        Self { value, previous, changed, durability: Durable::new(epoch, Link::Borrowed(group)) }
    }

    /// The counter's value after the change, 0 when it is absent.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.value
    }

    /// The value before the change, 0 when the counter was absent.
    #[must_use]
    pub fn previous(&self) -> i64 {
        self.previous
    }

    /// By how much the counter changed: what was really applied, after clamping. Wider than a value, because a `set`
    /// can take a counter from one end of 64 bits to the other.
    #[must_use]
    pub fn delta(&self) -> i128 {
        i128::from(self.value) - i128::from(self.previous)
    }

    /// Whether anything is different. Creating a counter with value 0 is a change; setting it to what it is already is
    /// not.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The epoch that makes this durable.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.durability.epoch
    }

    /// Whether it is durable now.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durability.is_durable()
    }

    /// Blocks until the change, and everything that its result depends on, is durable.
    ///
    /// # Errors
    ///
    /// One that is [temporary](crate::Error::is_temporary), such as
    /// [`Error::StorageFull`](crate::Error::StorageFull): not durable yet, the store goes on trying, and waiting
    /// again, after a pause, is fine. [`Error::Poisoned`](crate::Error::Poisoned) and
    /// [`Error::Closed`](crate::Error::Closed): it is unknown whether the change will be found when the store is
    /// opened again.
    pub fn wait(&self) -> Result<()> {
        self.durability.wait()
    }

    /// A receipt that does not borrow the handle. Costs a reference count.
    #[must_use]
    pub fn detach(self) -> Receipt<'static> {
        let Self { value, previous, changed, durability } = self;
        Receipt { value, previous, changed, durability: durability.detach() }
    }
}

impl Future for Receipt<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.durability.poll(context)
    }
}

impl fmt::Debug for Receipt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut receipt = f.debug_struct("Receipt");
        receipt.field("value", &self.value).field("delta", &self.delta());
        receipt.field("epoch", &self.epoch()).field("durable", &self.is_durable()).finish()
    }
}

/// The answer to [`Counters::compare_and_set`](crate::Counters::compare_and_set).
#[derive(Debug)]
pub enum CompareAndSet<'a> {
    /// The value was the expected one and was set.
    Set(Receipt<'a>),
    /// The value is another one, which [`Receipt::value`] tells; nothing was changed. Waiting for the receipt waits
    /// until that value is durable.
    Mismatch(Receipt<'a>),
}

impl<'a> CompareAndSet<'a> {
    /// The receipt, whichever it is.
    #[must_use]
    pub fn into_receipt(self) -> Receipt<'a> {
        match self {
            Self::Set(receipt) | Self::Mismatch(receipt) => receipt,
        }
    }

    /// Whether the value was set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(self, Self::Set(_))
    }
}

/// What one change of a [`Batch`](crate::Batch) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchChanged {
    /// The counter's value after the change, 0 when it is absent.
    pub value: i64,
    /// By how much it changed, after clamping.
    pub delta: i128,
    /// Whether anything is different.
    pub changed: bool,
}

/// The answer to a [`Batch`](crate::Batch). Like a [`Receipt`], it can be waited for, awaited, and dropped.
pub struct BatchReceipt {
    outcomes: Vec<BatchOutcome>,
    durability: Durable<'static>,
}

impl BatchReceipt {
    pub(crate) fn new(outcomes: Vec<BatchOutcome>, epoch: u64, group: &Arc<Group>) -> Self {
        Self { outcomes, durability: Durable::new(epoch, Link::Owned(Arc::clone(group))) }
    }

    /// What each change did, in the order of the batch.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = BatchChanged> + '_ {
        self.outcomes.iter().map(|&BatchOutcome { previous, value, changed }| {
            let delta = i128::from(value) - i128::from(previous);
            BatchChanged { value, delta, changed }
        })
    }

    /// The epoch that makes the batch durable.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.durability.epoch
    }

    /// Whether it is durable now.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durability.is_durable()
    }

    /// Blocks until the batch is durable.
    ///
    /// # Errors
    ///
    /// As for [`Receipt::wait`].
    pub fn wait(&self) -> Result<()> {
        self.durability.wait()
    }
}

impl Future for BatchReceipt {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.durability.poll(context)
    }
}

impl fmt::Debug for BatchReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut receipt = f.debug_struct("BatchReceipt");
        receipt.field("changes", &self.outcomes.len());
        receipt.field("epoch", &self.epoch()).field("durable", &self.is_durable()).finish()
    }
}

/// An epoch that someone may wait for.
struct Durable<'a> {
    epoch: u64,
    link: Link<'a>,
    /// Identifies this future among those that wait for the epoch.
    ticket: Option<u64>,
}

enum Link<'a> {
    Borrowed(&'a Arc<Group>),
    Owned(Arc<Group>),
}

impl<'a> Durable<'a> {
    fn new(epoch: u64, link: Link<'a>) -> Self {
        Self { epoch, link, ticket: None }
    }

    fn group(&self) -> &Group {
        match &self.link {
            Link::Borrowed(group) => group,
            Link::Owned(group) => group,
        }
    }

    fn is_durable(&self) -> bool {
        self.group().durable_epoch() >= self.epoch
    }

    fn wait(&self) -> Result<()> {
        self.group().wait(self.epoch)
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<()>> {
        let mut ticket = self.ticket;
        let answer = self.group().poll(self.epoch, &mut ticket, context);
        self.ticket = ticket;
        answer
    }

    fn detach(self) -> Durable<'static> {
        let group = match self.link {
            Link::Borrowed(group) => Arc::clone(group),
            Link::Owned(group) => group,
        };
        Durable { epoch: self.epoch, link: Link::Owned(group), ticket: self.ticket }
    }
}
