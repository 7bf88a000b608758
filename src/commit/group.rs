//! Where callers and the committer meet: who waits for which epoch, and how far durability has come.
//!
//! # Locks
//!
//! - `progress` protects the durable epoch, the failure that stopped the store, what the next epoch waits for, and
//!   the wakers of futures. `published` belongs to it.
//! - `work` protects what the committer's thread is asked for. `work_ready` belongs to it.
//!
//! Neither is held while the other, or any lock of the shards, is taken.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering};

/// The shared state of group commit.
#[derive(Debug)]
pub(crate) struct Group {
    /// A copy of `progress.durable` that is read without the lock. Written under it.
    durable: AtomicU64,
    progress: Mutex<Progress>,
    /// Waiters of even and of odd epochs. At most two epochs have waiters (the one being written and the open one),
    /// so a publication wakes only those that it answers.
    published: [Condvar; 2],
    /// A copy of `work.urgent` that is read without the lock. Written under it.
    requested: AtomicU64,
    work: Mutex<Work>,
    work_ready: Condvar,
    /// Whether a waiting receipt asks for its epoch to be committed without delay.
    eager: bool,
    /// Whether a thread commits. Without one, blocking would last for ever.
    driven: bool,
    /// The thread that commits, which wakers run on: one that blocks there would wait for itself.
    committer: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct Progress {
    durable: u64,
    /// Why no further epoch becomes durable.
    stopped: Option<Error>,
    /// What the epoch after the durable one waits for, while it is being retried: mostly room on the disk.
    blocked: Option<Error>,
    /// Of futures, by epoch and ticket.
    wakers: BTreeMap<(u64, u64), Waker>,
    next_ticket: u64,
    /// Wakers whose futures have an answer; [`Group::wake`] calls them.
    ready: Vec<Waker>,
}

/// What the committer's thread is asked for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Work {
    /// Epochs up to this one are wanted at once.
    pub(crate) urgent: u64,
    /// A change came in while the committer may have been asleep.
    pub(crate) pending: bool,
    /// The thread is to end.
    pub(crate) stop: bool,
}

impl Group {
    /// `durable` is the last epoch that is on disk.
    pub(crate) fn new(durable: u64, eager: bool, driven: bool) -> Self {
        Self {
            durable: AtomicU64::new(durable),
            progress: Mutex::new(Progress { durable, ..Progress::default() }),
            published: [Condvar::new(), Condvar::new()],
            requested: AtomicU64::new(0),
            work: Mutex::new(Work::default()),
            work_ready: Condvar::new(),
            eager,
            driven,
            committer: OnceLock::new(),
        }
    }

    /// Notes that the calling thread commits.
    pub(crate) fn set_committer(&self) {
        let _ = self.committer.set(thread::current().id());
    }

    /// Whether the calling thread is the one that commits, in a waker.
    pub(crate) fn is_committer(&self) -> bool {
        self.committer.get().is_some_and(|committer| *committer == thread::current().id())
    }

    /// Whether an epoch that the calling thread waits for can become durable meanwhile.
    fn may_block(&self) -> bool {
        self.driven && !self.is_committer()
    }

    pub(crate) fn durable_epoch(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Blocks until `epoch` is durable.
    pub(crate) fn wait(&self, epoch: u64) -> Result<()> {
        self.wait_unless(&|| false, epoch)
    }

    /// Blocks until `epoch` is durable, or `cancelled` holds, which is asked again at [`Group::recheck`].
    pub(crate) fn wait_unless(&self, cancelled: &dyn Fn() -> bool, epoch: u64) -> Result<()> {
        if self.durable_epoch() >= epoch {
            return Ok(());
        }
        if self.eager {
            self.request(epoch);
        }
        let mut progress = self.progress.lock();
        loop {
            if let Some(answer) = progress.answer(epoch) {
                return answer;
            }
            if cancelled() {
                return Err(Error::Closed);
            }
            if !self.may_block() {
                return Err(Error::NotDriven { epoch });
            }
            self.published[(epoch % 2) as usize].wait(&mut progress);
        }
    }

    /// Whether `epoch` is durable; if it is not known yet, `context` is woken when it is. `ticket` identifies the
    /// future over its polls.
    pub(crate) fn poll(&self, epoch: u64, ticket: &mut Option<u64>, context: &Context<'_>) -> Poll<Result<()>> {
        if self.durable_epoch() >= epoch {
            return Poll::Ready(Ok(()));
        }
        if self.eager {
            self.request(epoch);
        }
        // Cloning and dropping a waker runs code of the caller's, so neither is done under the lock.
        let waker = context.waker().clone();
        let mut progress = self.progress.lock();
        if let Some(answer) = progress.answer(epoch) {
            drop(progress);
            return Poll::Ready(answer);
        }
        let ticket = *ticket.get_or_insert_with(|| {
            progress.next_ticket += 1;
            progress.next_ticket
        });
        let replaced = progress.wakers.insert((epoch, ticket), waker);
        drop(progress);
        drop(replaced);
        Poll::Pending
    }

    /// Makes an epoch known as durable and wakes every thread that waits for it; [`Group::wake`] is for the futures.
    pub(crate) fn publish(&self, epoch: u64) {
        let mut progress = self.progress.lock();
        progress.durable = epoch;
        progress.blocked = None;
        self.durable.store(epoch, Ordering::Release);
        let later = progress.wakers.split_off(&(epoch + 1, 0));
        let answered = std::mem::replace(&mut progress.wakers, later);
        progress.ready.extend(answered.into_values());
        drop(progress);
        self.published[(epoch % 2) as usize].notify_all();
    }

    /// Wakes the futures that were answered. A waker is code of the caller's, which may panic, or drop the last
    /// handle of the store and so close it: no lock may be held.
    pub(crate) fn wake(&self) {
        loop {
            let Some(waker) = self.progress.lock().ready.pop() else { return };
            if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                tracing::error!("a waker panicked");
            }
        }
    }

    /// Answers everyone who waits with what the next epoch waits for. They may wait again.
    pub(crate) fn report_blocked(&self, error: Error) {
        self.end_waits(|progress| progress.blocked = Some(error));
    }

    /// Answers everyone who waits, now and later, with why the store stopped. The first reason stays.
    pub(crate) fn stop(&self, reason: Error) {
        self.end_waits(|progress| {
            progress.stopped.get_or_insert(reason);
        });
    }

    fn end_waits(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        change(&mut progress);
        let answered = std::mem::take(&mut progress.wakers);
        progress.ready.extend(answered.into_values());
        drop(progress);
        self.notify();
    }

    /// Lets waits ask again whether they are cancelled.
    pub(crate) fn recheck(&self) {
        // Whoever has just found no answer is asleep once the lock is free.
        drop(self.progress.lock());
        self.notify();
    }

    fn notify(&self) {
        for published in &self.published {
            published.notify_all();
        }
    }

    /// Why the store stopped, if it did.
    pub(crate) fn stopped(&self) -> Option<Error> {
        self.progress.lock().stopped.clone()
    }

    /// What changes wait for, if they do.
    pub(crate) fn blocked(&self) -> Option<Error> {
        self.progress.lock().blocked.clone()
    }

    /// Asks for `epoch` to be committed without waiting for the window.
    pub(crate) fn request(&self, epoch: u64) {
        // Mostly another thread has asked for it already.
        if self.requested.load(Ordering::Acquire) >= epoch {
            return;
        }
        let mut work = self.work.lock();
        if work.urgent < epoch {
            work.urgent = epoch;
            self.requested.store(epoch, Ordering::Release);
            self.work_ready.notify_all();
        }
    }

    /// Tells the committer that the open epoch has changes.
    pub(crate) fn announce(&self) {
        let mut work = self.work.lock();
        work.pending = true;
        self.work_ready.notify_all();
    }

    /// Asks the committer's thread to end.
    pub(crate) fn request_stop(&self) {
        self.work.lock().stop = true;
        self.work_ready.notify_all();
    }

    /// What is asked for now.
    pub(crate) fn work(&self) -> Work {
        *self.work.lock()
    }

    /// Sleeps until there is something to do; at most `at_most`, and without limit only while nothing is pending.
    /// A sleep with a limit is one through a group window: only an urgent request for `epoch` ends it early.
    pub(crate) fn sleep(&self, epoch: u64, at_most: Option<Duration>) {
        let mut work = self.work.lock();
        let deadline = at_most.map(|at_most| std::time::Instant::now() + at_most);
        while work.urgent < epoch && !work.stop {
            match deadline {
                Some(deadline) => {
                    if self.work_ready.wait_until(&mut work, deadline).timed_out() {
                        break;
                    }
                }
                None if work.pending => break,
                None => self.work_ready.wait(&mut work),
            }
        }
        work.pending = false;
    }
}

impl Progress {
    /// What someone who waits for `epoch` is told, if there is something to tell.
    fn answer(&self, epoch: u64) -> Option<Result<()>> {
        if self.durable >= epoch {
            return Some(Ok(()));
        }
        self.stopped.as_ref().or(self.blocked.as_ref()).map(|error| Err(error.clone()))
    }
}
