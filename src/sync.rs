//! The locks, atomics and threads of the crate: parking_lot's and std's, or those of a tool that chooses the schedule:
//! loom's when a model is checked, shuttle's when the whole engine runs under random schedules (ARCHITECTURE.md,
//! "Schedules"). Everything that one thread tells another goes through here, or such a tool would not see it.

#[cfg(loom)]
use loom as explorer;
#[cfg(shuttle)]
use shuttle as explorer;

#[cfg(not(any(loom, shuttle)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread;

// No model reads snapshots that are in sled.
#[cfg(feature = "sled")]
pub(crate) use parking_lot::RwLock;

#[cfg(any(loom, shuttle))]
pub(crate) use self::explored::{Condvar, Mutex, MutexGuard};
#[cfg(any(loom, shuttle))]
pub(crate) use explorer::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
#[cfg(any(loom, shuttle))]
pub(crate) use explorer::thread;

// loom has no scoped threads. What runs in them, loading a snapshot, is in no model.
#[cfg(shuttle)]
pub(crate) use shuttle::thread::{Scope, ScopedJoinHandle, scope};
#[cfg(not(shuttle))]
pub(crate) use std::thread::{Scope, ScopedJoinHandle, scope};

/// Starts a thread in a scope, unless the system gives none.
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
    #[cfg(shuttle)]
    return Ok(scope.spawn(body));
    #[cfg(not(shuttle))]
    std::thread::Builder::new().spawn_scoped(scope, body)
}

/// The explorer's lock and condition variable behind the part of parking_lot's interface that the crate uses.
#[cfg(any(loom, shuttle))]
mod explored {
    use std::ops::{Deref, DerefMut};
    use std::sync::{PoisonError, TryLockError};
    use std::time::Instant;

    use super::explorer;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(explorer::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        /// `None` only within a wait.
        held: Option<explorer::sync::MutexGuard<'a, T>>,
        #[cfg(shuttle)]
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(explorer::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // A lock of parking_lot knows no poison.
            self.guard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(held) => Some(self.guard(held)),
                Err(TryLockError::Poisoned(poisoned)) => Some(self.guard(poisoned.into_inner())),
                Err(TryLockError::WouldBlock) => None,
            }
        }

        fn guard<'a>(&'a self, held: explorer::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            MutexGuard {
                held: Some(held),
                #[cfg(shuttle)]
                mutex: self,
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("the guard is here outside of a wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("the guard is here outside of a wait")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(explorer::sync::Condvar);

    /// What parking_lot answers to a wait with a deadline.
    pub(crate) struct TimedOut;

    impl TimedOut {
        /// loom has no time, so a wait never ends by its deadline: whoever relies on that to be woken is a deadlock of
        /// the model. Under shuttle it always does, since how long that took is a matter of the schedule.
        pub(crate) fn timed_out(&self) -> bool {
            cfg!(shuttle)
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(explorer::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let woken = |held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner);
            guard.held = guard.held.take().map(woken);
        }

        #[cfg(loom)]
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> TimedOut {
            self.wait(guard);
            TimedOut
        }

        #[cfg(shuttle)]
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> TimedOut {
            drop(guard.held.take());
            explorer::thread::yield_now();
            *guard = guard.mutex.lock();
            TimedOut
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
