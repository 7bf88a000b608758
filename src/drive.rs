//! The threads of a store: one drives the committer, one the compactor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::commit::{Committer, Shared, Step};
use crate::compaction::Compactor;
use crate::error::{Error, Result, panic_message};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};

/// Wakes the compactor's thread.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// Whether a snapshot may be due.
    rung: Mutex<bool>,
    ringing: Condvar,
    /// Set before the last ring: the thread is to end, and a running compaction to stop.
    ended: AtomicBool,
}

/// Starts a thread that stops the store when it panics: a thread that dies must not leave its waiters asleep.
pub(crate) fn spawn(
    name: &'static str,
    shared: Shared,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>> {
    let guarded = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            shared.poison(Error::Panicked { thread: name, what: panic_message(&*panic) });
            shared.group.wake();
        }
    };
    thread::Builder::new()
        .name(format!("plaudit-{name}"))
        .spawn(guarded)
        .map_err(|error| Error::Thread { thread: name, source: Arc::new(error) })
}

/// Waits for a thread, unless it is the calling one: a waker that the committer calls may drop the last handle. A
/// panic was reported as poison by the thread itself.
pub(crate) fn join(handle: JoinHandle<()>) {
    if handle.thread().id() != thread::current().id() {
        let _ = handle.join();
    }
}

pub(crate) fn drive_committer(
    shared: &Shared,
    committer: &Mutex<Committer>,
    compactor: &Mutex<Compactor>,
    alarm: &Alarm,
) {
    shared.group.set_committer();
    loop {
        let step = committer.lock().step();
        shared.group.wake();
        if shared.group.work().stop {
            return;
        }
        let open = shared.shards.open_epoch();
        match step {
            // To wake the compactor for each epoch would take a good part of a processor. Whoever has its lock may have
            // looked before this epoch.
            Step::Again if compactor.try_lock().is_none_or(|compactor| compactor.is_due()) => alarm.ring(),
            Step::Again => {}
            Step::Idle => shared.group.sleep(open, None),
            Step::Gather(rest) => shared.group.sleep(open, Some(rest)),
            Step::Retry(rest) => shared.group.sleep(u64::MAX, Some(rest)),
            Step::Stopped => return,
        }
    }
}

pub(crate) fn drive_compactor(shared: &Shared, compactor: &Mutex<Compactor>, alarm: &Alarm) {
    while alarm.wait() {
        let mut compactor = compactor.lock();
        if compactor.is_due() {
            // A failure is kept in the statistics, and the next commit rings again.
            let _ = compactor.run(&|| alarm.ended.load(Ordering::Acquire), &|_| Ok(()));
        }
        drop(compactor);
        shared.group.wake();
    }
}

impl Alarm {
    /// Wakes the thread.
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            *rung = true;
            self.ringing.notify_one();
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Sleeps until it rings; `false` when it is for the end.
    fn wait(&self) -> bool {
        let mut rung = self.rung.lock();
        while !*rung && !self.ended.load(Ordering::Acquire) {
            self.ringing.wait(&mut rung);
        }
        *rung = false;
        !self.ended.load(Ordering::Acquire)
    }

    /// Ends the thread, and the compaction that runs.
    pub(crate) fn end(&self) {
        let _rung = self.rung.lock();
        self.ended.store(true, Ordering::Release);
        self.ringing.notify_all();
    }
}
