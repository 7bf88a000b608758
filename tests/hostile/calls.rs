//! Calls in an order that nobody meant, handles that outlive what they came from, and code of the caller's that panics
//! or calls back: each is answered, and the store goes on or says why not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use plaudit::storage::sim::{SimDisk, Survival};
use plaudit::{
    CompareAndSet, CounterOptions, Counters, Delivery, Driver, Durability, Environment, Error, Options, Receipt,
    Result, Stepped, Store, Subscription,
};

use crate::hooked::Hooked;
use crate::support::{self, LONG, World, options, state};

fn is_closed<T>(answer: Result<T>) -> bool {
    matches!(answer, Err(Error::Closed))
}

#[test]
fn every_call_on_a_closed_store_says_that_it_is_closed() {
    for threaded in [false, true] {
        let world = World::new();
        let store = if threaded { world.open_threaded(options()) } else { world.open() }.unwrap();
        let (likes, clone, subscription) = (store.counters("likes").unwrap(), store.clone(), store.subscribe(10));
        let durable = likes.add("a", 1).unwrap();
        let mut gathered = store.batch();
        gathered.add(&likes, "a", 1);
        let mut listed = likes.iter();
        store.close().unwrap();
        let files = world.files();

        assert!(is_closed(likes.add("a", 1)) && is_closed(likes.set("a", 1)) && is_closed(likes.remove("a")));
        assert!(is_closed(likes.compare_and_set("a", 1, 2)));
        assert!(is_closed(likes.get("a")) && is_closed(likes.contains("a")) && is_closed(likes.get_many(&["a"])));
        assert!(is_closed(likes.len()) && is_closed(likes.is_empty()) && is_closed(likes.top(1)));
        assert!(listed.next().is_some_and(is_closed) && listed.next().is_none());
        assert!(is_closed(gathered.commit()) && gathered.len() == 1);
        assert!(is_closed(clone.counters("likes")) && is_closed(clone.counters("new")));
        assert!(is_closed(clone.counters_with("likes", CounterOptions::default())));
        assert!(is_closed(clone.existing_counters("likes")) && is_closed(clone.drop_namespace("likes")));
        assert!(is_closed(clone.sync()) && is_closed(clone.compact()));
        assert_eq!(clone.step(), Stepped::Stopped);
        assert!(matches!(Subscription::next(&subscription), Some(Delivery::Epoch(_))), "what was durable is delivered");
        assert!(Subscription::next(&subscription).is_none() && Subscription::next(&clone.subscribe(1)).is_none());

        // What cannot fail answers still.
        assert!(durable.is_durable() && durable.wait().is_ok());
        assert_eq!((likes.name(), clone.namespaces().len(), clone.recovery().created), ("likes", 1, true));
        assert!(clone.durable_epoch() >= durable.epoch() && clone.stats().durable_epoch == clone.durable_epoch());
        assert!(!clone.is_compaction_due());
        drop(durable);
        drop((likes.clone(), clone.clone(), likes, clone));
        assert_eq!(world.files(), files, "nothing that came after the close reached the disk");
    }
}

#[test]
fn receipts_outlive_the_store_and_tell_how_it_went() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let receipt = likes.add("a", 1).unwrap().detach();
    let batch = store.batch().add(&likes, "a", 1).commit().unwrap();
    let mut polled = likes.add("a", 1).unwrap().detach();
    assert!(poll(&mut polled, Waker::noop()).is_pending());
    drop((store, likes));
    assert!(receipt.is_durable() && receipt.wait().is_ok() && batch.wait().is_ok(), "dropping it closed it");
    assert!(matches!(poll(&mut polled, Waker::noop()), Poll::Ready(Ok(()))));

    let store = world.open().unwrap();
    let receipt = store.counters("likes").unwrap().add(vec![b'x'; 1_000], 1).unwrap().detach();
    world.disk.set_capacity(Some(0));
    drop(store);
    assert!(!receipt.is_durable() && receipt.wait().is_err(), "it was dropped on a full disk");
}

#[test]
fn a_handle_of_a_dropped_namespace_stays_dead_when_the_name_is_used_again() {
    let world = World::new();
    let store = world.open().unwrap();
    let old = store.counters("likes").unwrap();
    let receipt = old.add("a", 7).unwrap();
    let mut listed = old.iter();
    let mut batch = store.batch();
    batch.add(&old, "a", 1);
    store.drop_namespace("likes").unwrap();
    let new = store.counters("likes").unwrap();
    new.add("a", 1).unwrap();
    let gone = |answer: Result<()>| matches!(answer, Err(Error::NoSuchNamespace { name }) if name == "likes");
    assert!(gone(old.add("a", 1).map(drop)) && gone(old.get("a").map(drop)) && gone(old.top(1).map(drop)));
    assert!(gone(listed.next().unwrap().map(drop)) && gone(batch.commit().map(drop)));
    store.sync().unwrap();
    receipt.wait().unwrap();
    assert_eq!(new.get("a").unwrap(), 1);
    drop(store);
    let store = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
    assert_eq!(state(&store)["likes"], [("a".to_owned(), 1)].into());
}

#[test]
fn the_ends_of_64_bits_survive_every_way_to_them() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(100);
    likes.add("add", i64::MIN).unwrap();
    likes.set("set", i64::MAX).unwrap();
    likes.set("cas", i64::MIN).unwrap();
    store.sync().unwrap();
    drop(subscription.try_next());
    assert!(likes.compare_and_set("cas", i64::MIN, i64::MAX).unwrap().is_set());
    let CompareAndSet::Mismatch(other) = likes.compare_and_set("cas", i64::MIN, 0).unwrap() else { panic!() };
    assert_eq!(other.value(), i64::MAX);
    store
        .batch()
        .add(&likes, "batch", i64::MIN)
        .add(&likes, "batch", i64::MAX)
        .add(&likes, "batch", 1)
        .commit()
        .unwrap();
    assert!(matches!(likes.add("add", -1), Err(Error::Overflow { .. })));
    store.sync().unwrap();
    let Some(Delivery::Epoch(epoch)) = subscription.try_next() else { panic!() };
    let widest = epoch.changes.iter().map(|change| change.delta).max().unwrap();
    assert_eq!(widest, i128::from(i64::MAX) - i128::from(i64::MIN));
    let expected = [("add", i64::MIN), ("batch", 0), ("cas", i64::MAX), ("set", i64::MAX)];
    let expected: Vec<_> = expected.map(|(key, value)| (key.to_owned(), value)).into();
    for compact in [false, true] {
        if compact {
            world.open().unwrap_err();
            store.compact().unwrap();
        }
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
        assert_eq!(after.recovery().generation.is_some(), compact);
        assert_eq!(state(&after)["likes"].clone().into_iter().collect::<Vec<_>>(), expected);
        let top = after.counters("likes").unwrap().top(4).unwrap();
        assert_eq!((top[0].1, top[3].1), (i64::MAX, i64::MIN));
    }
}

/// A key whose bytes cannot be had.
struct NoKey;

impl AsRef<[u8]> for NoKey {
    fn as_ref(&self) -> &[u8] {
        panic!("a key of the test")
    }
}

#[test]
fn a_panic_in_a_caller_leaves_the_store_as_it_was() {
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(1_000);
    (0..1_000).for_each(|n| drop(likes.add(format!("{n}"), 1).unwrap()));
    let panics = |call: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    panics(&mut || drop(likes.add(NoKey, 1)));
    panics(&mut || drop(likes.get_many(&[NoKey])));
    let mut batch = store.batch();
    batch.add(&likes, "batch", 1);
    panics(&mut || _ = batch.add(&likes, NoKey, 1));
    batch.commit().unwrap();
    panics(&mut || likes.iter().enumerate().for_each(|(n, _)| assert!(n < 500, "in the middle of an iteration")));
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            Subscription::next(&subscription).unwrap();
            panic!("a consumer of the test");
        });
        assert!(consumer.join().is_err());
        let holder = scope.spawn(|| {
            let _held = (store.clone(), likes.add("held", 1).unwrap(), store.batch());
            panic!("with handles of every kind");
        });
        assert!(holder.join().is_err());
    });
    likes.add("after", 1).unwrap().wait().unwrap();
    assert_eq!(likes.len().unwrap(), 1_003);
    store.compact().unwrap();
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap())["likes"].len(), 1_003);
}

fn poll(receipt: &mut Receipt<'_>, waker: &Waker) -> Poll<Result<()>> {
    Pin::new(receipt).poll(&mut Context::from_waker(waker))
}

/// A task that holds a handle, and goes with the last waker for it, wherever that is dropped.
struct Task(Counters);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        // Needs what a poll needs.
        let mut receipt = self.0.add("dropped", 1).unwrap();
        let _ = poll(&mut receipt, Waker::noop());
        let _ = receipt.wait();
    }
}

#[test]
fn a_task_may_end_when_its_waker_is_replaced() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let mut receipt = likes.add("a", 1).unwrap();
    let waker = Waker::from(Arc::new(Task(likes.clone())));
    assert!(poll(&mut receipt, &waker).is_pending());
    drop(waker);
    ends(|| assert!(poll(&mut receipt, Waker::noop()).is_pending()));
    assert_eq!(likes.get("dropped").unwrap(), 1);
    store.sync().unwrap();
    receipt.wait().unwrap();
}

/// Closes the store on the thread that wakes.
struct Closes(parking_lot::Mutex<Option<Store>>);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        let store = self.0.lock().take();
        if let Some(store) = store {
            store.counters("likes").unwrap().add("from the waker", 1).unwrap();
            store.close().unwrap();
        }
    }
}

#[test]
fn a_waker_may_close_the_store() {
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    let mut receipt = likes.add("a", 1).unwrap();
    let waker = Waker::from(Arc::new(Closes(parking_lot::Mutex::new(Some(store.clone())))));
    if poll(&mut receipt, &waker).is_ready() {
        // It was durable before it could be asked for, so nobody is woken.
        waker.wake();
    }
    // A call that the close has overtaken waits for it, and answers the same.
    ends(|| while !is_closed(likes.get("a")) {});
    ends(|| store.clone().close().unwrap());
    let likes = world.open().unwrap().counters("likes").unwrap();
    assert_eq!(likes.get_many(&["a", "from the waker"]).unwrap(), [1, 1]);
}

/// Fails when the call never comes back, rather than to hang with it.
fn ends(call: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            call();
            done.store(true, Ordering::Release);
        });
        let started = std::time::Instant::now();
        while !done.load(Ordering::Acquire) {
            if started.elapsed() > LONG {
                eprintln!("a call never comes back");
                std::process::abort();
            }
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_disk_that_panics_stops_the_store_and_everyone_is_told() {
    for durability in [Durability::Group, Durability::Immediate] {
        let (disk, armed) = (SimDisk::new(), Arc::new(AtomicBool::new(false)));
        let is_armed = Arc::clone(&armed);
        let storage = Hooked::new(&disk, move || assert!(!is_armed.load(Ordering::Acquire), "a disk of the test"));
        let environment = Environment { storage, driver: Driver::Threads, ..Environment::default() };
        let store = Store::open_in(environment, support::ROOT, Options { durability, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        let subscription = store.subscribe(100);
        likes.add("a", 1).unwrap().wait().unwrap();
        armed.store(true, Ordering::Release);
        let failed = likes.add("a", 1).and_then(|receipt| receipt.wait()).unwrap_err();
        let Error::Poisoned { cause } = failed else { panic!("{failed:?}") };
        assert!(matches!(&*cause, Error::Panicked { what, .. } if what.contains("a disk of the test")), "{cause:?}");
        assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
        assert!(Subscription::next(&subscription).is_some() && Subscription::next(&subscription).is_none());
        assert!(store.close().is_err());
        let after = World::on(disk.power_cut(Survival::Nothing, 0));
        assert_eq!(state(&after.open().unwrap())["likes"]["a"], 1);
        assert!(World::on(disk).open().is_ok(), "{durability:?}: the lock is free");
    }
}

#[test]
fn namespaces_that_come_and_go_while_the_store_closes_harm_no_later_opener() {
    for round in 0..200 {
        let world = World::new();
        let first = world.open().unwrap();
        let creators = std::thread::scope(|scope| {
            let create = |creator: i32| {
                let first = first.clone();
                move || {
                    for n in 0.. {
                        let name = format!("{creator}-{n}");
                        match first.counters(&name).and_then(|_| first.drop_namespace(&name)) {
                            Ok(()) => {}
                            Err(Error::Closed) => return,
                            Err(error) => panic!("round {round}: {error:?}"),
                        }
                    }
                }
            };
            let creators = [1, 2, 3].map(|creator| scope.spawn(create(creator)));
            for _ in 0..round % 7 {
                std::thread::yield_now();
            }
            first.clone().close().unwrap();
            let second = world.open().unwrap();
            second.counters("seconds").unwrap().add("a", 7).unwrap();
            second.close().unwrap();
            creators.map(|creator| creator.join().is_ok())
        });
        assert_eq!(creators, [true; 3]);
        assert_eq!(state(&world.open().unwrap())["seconds"]["a"], 7, "round {round}");
    }
}
