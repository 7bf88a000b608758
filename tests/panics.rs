//! A panic inside the committer, which code of the caller's (a clock, a disk) may cause at any of its calls, stops the
//! store: nothing is written twice, nothing is acknowledged that is not durable, and everyone is answered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{Clock, Driver, Environment, Error, Result, Stepped, Store};
use support::{ROOT, World, options};

/// A clock on which each look takes a minute, and one look panics.
#[derive(Debug)]
struct PanickingClock {
    looks: AtomicU64,
    panics_at: AtomicU64,
}

impl PanickingClock {
    fn look(&self) -> u64 {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        if look == self.panics_at.load(Ordering::Relaxed) {
            // A panic without a message on standard error.
            resume_unwind(Box::new("the clock stopped"));
        }
        look
    }
}

impl Clock for PanickingClock {
    fn wall_ms(&self) -> u64 {
        self.look()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(60 * self.look())
    }
}

/// What is tried with a store whose committer panicked.
const LATER: [fn(&Store) -> Result<()>; 3] = [
    Store::compact,
    |store| {
        store.step();
        store.sync()
    },
    |store| store.clone().close(),
];

#[test]
fn a_panic_in_the_committer_stops_the_store_and_writes_nothing_twice() {
    let mut panics = 0;
    for later in LATER {
        for look in 0.. {
            let (world, clock) =
                (World::new(), Arc::new(PanickingClock { looks: 0.into(), panics_at: u64::MAX.into() }));
            let environment = Environment { clock: Arc::clone(&clock) as _, ..world.environment(Driver::Caller) };
            let store = Store::open_in(environment, ROOT, options()).unwrap();
            let receipt = store.counters("likes").unwrap().add("a", 1).unwrap().detach();
            clock.panics_at.store(clock.looks.load(Ordering::Relaxed) + look, Ordering::Relaxed);
            let stepped = catch_unwind(AssertUnwindSafe(|| while store.step() != Stepped::Idle {}));
            clock.panics_at.store(u64::MAX, Ordering::Relaxed);
            if stepped.is_ok() {
                break;
            }
            panics += 1;
            let tried = later(&store);
            let (durable, waited) = (receipt.is_durable(), receipt.wait());
            assert_eq!(durable, waited.is_ok(), "look {look}: {waited:?}");
            assert!(matches!(tried, Ok(()) | Err(Error::Poisoned { .. })), "look {look}: {tried:?}");
            drop(store);
            let store = World::on(world.disk.power_cut(Survival::Everything, 0)).open().unwrap();
            let found = store.counters("likes").unwrap().get("a").unwrap();
            assert!(found == 1 || found == 0 && !durable, "look {look}: {found}, durable {durable}");
        }
    }
    assert!(panics >= 3 * 4, "{panics}");
}
