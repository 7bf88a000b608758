//! A receipt tells what a change did at once and when it is durable later: to threads that block, to futures on any
//! runtime, and to nobody when it is dropped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{Durability, Error, Options, Receipt, Stepped, Store};
use support::{LONG, World, options, seal, state, step_until_quiet};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (count.clone(), count.into())
}

fn poll(receipt: &mut Receipt<'_>, waker: &Waker) -> Poll<plaudit::Result<()>> {
    Pin::new(receipt).poll(&mut Context::from_waker(waker))
}

fn manual() -> Options {
    Options { durability: Durability::Manual, ..options() }
}

fn immediate() -> Options {
    Options { durability: Durability::Immediate, ..options() }
}

#[test]
fn a_receipt_tells_what_was_done() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let told = |receipt: Receipt<'_>| (receipt.previous(), receipt.value(), receipt.delta(), receipt.changed());
    assert_eq!(told(likes.add("a", 5).unwrap()), (0, 5, 5, true));
    assert_eq!(told(likes.add("a", -7).unwrap()), (5, -2, -7, true));
    assert_eq!(told(likes.add("a", 0).unwrap()), (-2, -2, 0, false));
    assert_eq!(told(likes.set("a", i64::MIN).unwrap()), (-2, i64::MIN, i128::from(i64::MIN) + 2, true));
    let widest = i128::from(i64::MAX) - i128::from(i64::MIN);
    assert_eq!(told(likes.set("a", i64::MAX).unwrap()), (i64::MIN, i64::MAX, widest, true));
    assert_eq!(told(likes.remove("a").unwrap()), (i64::MAX, 0, -i128::from(i64::MAX), true));
    assert_eq!(told(likes.remove("a").unwrap()), (0, 0, 0, false));
    assert_eq!(told(likes.add("b", 0).unwrap()), (0, 0, 0, true), "creating a counter is a change");
    assert!(likes.contains("b").unwrap() && !likes.contains("a").unwrap());
    assert!(likes.compare_and_set("b", 0, 9).unwrap().is_set());
    match likes.compare_and_set("b", 0, 10).unwrap() {
        plaudit::CompareAndSet::Mismatch(receipt) => assert_eq!(told(receipt), (9, 9, 0, false)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_group_window_is_kept_exactly() {
    let world = World::new();
    let window = Duration::from_millis(5);
    let store = world.open_with(Options { group_window: window, ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    assert_eq!(store.step(), Stepped::Idle);
    let receipt = likes.add("a", 1).unwrap();
    assert_eq!(store.step(), Stepped::Pause(window));
    world.clock.advance(Duration::from_millis(3));
    assert_eq!(store.step(), Stepped::Pause(Duration::from_millis(2)));
    world.clock.advance(Duration::from_nanos(1_999_999));
    assert_eq!(store.step(), Stepped::Pause(Duration::from_nanos(1)));
    assert!(!receipt.is_durable());
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(store.step(), Stepped::Worked);
    let next = likes.add("a", 1).unwrap();
    assert_eq!((receipt.epoch() + 1, store.durable_epoch()), (next.epoch(), receipt.epoch() - 1));
    assert_eq!(store.step(), Stepped::Worked);
    assert!(receipt.is_durable() && !next.is_durable());
    assert_eq!(store.durable_epoch(), receipt.epoch());
    assert_eq!(store.step(), Stepped::Pause(window), "a change made while an epoch was written waits a window too");
    world.clock.set_wall_ms(0);
    assert_eq!(store.step(), Stepped::Pause(window), "the wall clock has no part in it");
    store.sync().unwrap();
    assert!(next.is_durable(), "a sync does not wait for the window");
    assert_eq!(step_until_quiet(&store), Stepped::Idle);
}

#[test]
fn manual_durability_waits_until_it_is_asked() {
    let world = World::new();
    let store = world.open_with(manual()).unwrap();
    let likes = store.counters("likes").unwrap();
    let mut receipt = likes.add("a", 1).unwrap();
    for _ in 0..3 {
        world.clock.advance(LONG);
        assert_eq!(store.step(), Stepped::Idle);
    }
    assert!(!receipt.is_durable());
    let (count, waker) = counting();
    assert!(poll(&mut receipt, &waker).is_pending());
    step_until_quiet(&store);
    assert!(receipt.is_durable(), "an awaited receipt asks");
    assert_eq!(count.0.load(Ordering::Acquire), 1);
    assert!(matches!(poll(&mut receipt, &waker), Poll::Ready(Ok(()))));
    let receipt = likes.add("a", 1).unwrap();
    store.sync().unwrap();
    assert!(receipt.is_durable());

    likes.add("a", 1).unwrap();
    let store = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&store.open().unwrap())["likes"]["a"], 2);
}

#[test]
fn an_immediate_call_returns_when_it_is_durable() {
    let world = World::new();
    let store = world.open_threaded(immediate()).unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 1..=20 {
        assert!(likes.add("a", 1).unwrap().is_durable());
        let after = World::on(world.disk.power_cut(Survival::Nothing, n));
        assert_eq!(state(&after.open().unwrap())["likes"]["a"], n as i64);
    }
    let mut batch = store.batch();
    batch.add(&likes, "a", 1).add(&likes, "b", 1);
    assert!(batch.commit().unwrap().is_durable());
}

#[test]
fn a_wait_that_nobody_would_end_is_refused() {
    let world = World::new();
    for options in [options(), manual()] {
        let store = world.open_with(options).unwrap();
        let likes = store.counters("likes").unwrap();
        let receipt = likes.add("a", 1).unwrap();
        assert!(matches!(receipt.wait(), Err(Error::NotDriven { epoch }) if epoch == receipt.epoch()));
        seal(&world, &store);
        step_until_quiet(&store);
        receipt.wait().unwrap();
    }
}

#[test]
fn what_was_only_seen_is_waited_for_too() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let noop = |delta| likes.add("a", delta).unwrap();
    assert!(likes.remove("absent").unwrap().is_durable(), "nothing was ever there");
    let first = noop(1);
    assert_eq!((noop(0).epoch(), noop(0).is_durable()), (first.epoch(), false), "its value is not durable");
    assert_eq!(seal(&world, &store), Stepped::Worked);
    assert_eq!((noop(0).epoch(), noop(0).is_durable()), (first.epoch(), false));
    let removed = likes.remove("a").unwrap();
    assert_eq!(likes.remove("a").unwrap().epoch(), removed.epoch(), "its absence is not durable");
    store.sync().unwrap();
    assert!(likes.remove("a").unwrap().is_durable());
    assert!(store.batch().commit().unwrap().is_durable(), "an empty batch waits for nothing");
    let mut batch = store.batch();
    likes.set("b", 1).unwrap();
    batch.set(&likes, "b", 1);
    assert!(!batch.commit().unwrap().is_durable());
}

#[test]
fn many_threads_wait_at_once() {
    for options in [options(), manual(), immediate()] {
        let world = World::new();
        let store = world.open_threaded(options).unwrap();
        let likes = store.counters("likes").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (likes, store) = (&likes, &store);
                scope.spawn(move || {
                    for n in 0..25 {
                        let receipt = likes.add(format!("{thread}"), 1).unwrap();
                        if n % 2 == 0 {
                            receipt.wait().unwrap()
                        } else {
                            block_on(receipt).unwrap()
                        }
                        assert!(likes.get(format!("{thread}")).unwrap() == n + 1);
                        if thread == 0 {
                            store.sync().unwrap();
                        }
                    }
                });
            }
        });
        std::mem::forget(store);
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
        let expected = (0..8).map(|thread| (thread.to_string(), 25)).collect();
        assert_eq!(state(&after.open().unwrap())["likes"], expected);
    }
}

#[test]
fn futures_are_woken_once_each_and_dropped_ones_never() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let (count, waker) = counting();
    let (moved, moved_waker) = counting();
    let mut receipts: Vec<_> = (0..10).map(|_| likes.add("a", 1).unwrap()).collect();
    for receipt in &mut receipts {
        assert!(poll(receipt, &waker).is_pending());
        assert!(poll(receipt, &waker).is_pending(), "polling twice is one wait");
    }
    assert!(poll(&mut receipts[3], &moved_waker).is_pending());
    let mut detached: Vec<Receipt<'static>> = receipts.drain(..5).map(Receipt::detach).collect();
    drop(receipts);
    store.sync().unwrap();
    assert_eq!(moved.0.load(Ordering::Acquire), 1, "the newest waker is the one that counts");
    assert!(count.0.load(Ordering::Acquire) <= 9);
    assert!(count.0.load(Ordering::Acquire) >= 4, "all but the moved one were woken");
    drop(likes);
    for receipt in &mut detached {
        assert!(matches!(poll(receipt, &waker), Poll::Ready(Ok(()))));
    }
}

#[test]
fn several_futures_are_awaited_together() {
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    block_on(async {
        let receipts: Vec<_> = (0..50).map(|n| likes.add(format!("{n}"), n).unwrap()).collect();
        let mut batch = store.batch();
        batch.add(&likes, "batch", 1);
        let batch = batch.commit().unwrap();
        // In reverse, so that the first to be polled is the last to be made.
        for receipt in receipts.into_iter().rev() {
            receipt.await.unwrap();
        }
        batch.await.unwrap();
    });
    assert_eq!(likes.len().unwrap(), 51);
}

#[test]
fn a_dropped_receipt_changes_nothing() {
    let world = World::new();
    let store = world.open().unwrap();
    drop(store.counters("likes").unwrap().add("a", 1).unwrap());
    store.sync().unwrap();
    let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&after.open().unwrap())["likes"]["a"], 1);
}

#[test]
fn a_close_answers_everyone() {
    let world = World::new();
    let store = world.open_threaded(Options { group_window: Duration::from_secs(10), ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    let (count, waker) = counting();
    let mut receipt = likes.add("a", 1).unwrap();
    assert!(poll(&mut receipt, &waker).is_pending());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| likes.add("a", 1).unwrap().wait());
        while likes.get("a").unwrap() < 2 {
            std::thread::yield_now();
        }
        store.clone().close().unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(count.0.load(Ordering::Acquire), 1);
    assert!(matches!(poll(&mut receipt, &waker), Poll::Ready(Ok(()))), "the close made it durable");
    assert!(matches!(likes.add("a", 1), Err(Error::Closed)));
    assert!(matches!(likes.get("a"), Err(Error::Closed)));
    assert!(matches!(likes.len(), Err(Error::Closed)));
    assert!(matches!(likes.iter().next(), Some(Err(Error::Closed))));
    assert!(matches!(store.sync(), Err(Error::Closed)));
    assert!(matches!(store.compact(), Err(Error::Closed)));
    store.close().unwrap();
}

/// A task that holds the last handle of its store.
struct Holder(Mutex<Option<Store>>);

impl Wake for Holder {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

#[test]
fn a_waker_that_is_replaced_may_close_the_store() {
    let world = World::new();
    let store = world.open_threaded(Options { group_window: Duration::from_secs(10), ..options() }).unwrap();
    let mut receipt = store.counters("likes").unwrap().add("a", 1).unwrap().detach();
    let holder = Waker::from(Arc::new(Holder(Mutex::new(Some(store)))));
    assert!(poll(&mut receipt, &holder).is_pending());
    drop(holder);
    let _ = poll(&mut receipt, Waker::noop());
    assert!(matches!(poll(&mut receipt, Waker::noop()), Poll::Ready(Ok(()))));
    assert_eq!(state(&world.open().unwrap())["likes"]["a"], 1);
}

#[test]
fn a_waker_may_close_the_store_while_it_compacts() {
    for round in 0..40 {
        let world = World::new();
        let store = world.open_threaded(options()).unwrap();
        let likes = store.counters("likes").unwrap();
        for n in 0..500 {
            likes.add(format!("key-{n}"), 1).unwrap();
        }
        let compacting = {
            let store = store.clone();
            std::thread::spawn(move || store.compact())
        };
        let mut receipt = likes.add("a", 1).unwrap().detach();
        drop(likes);
        let holder = Waker::from(Arc::new(Holder(Mutex::new(Some(store)))));
        if poll(&mut receipt, &holder).is_ready() {
            holder.wake_by_ref();
        }
        match compacting.join().unwrap() {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => panic!("round {round}: {error:?}"),
        }
        block_on(receipt).unwrap();
        drop(holder);
        let store = loop {
            match world.open() {
                Err(Error::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!(state(&store)["likes"].len(), 501);
    }
}

/// Closes the store, and says how that went.
struct Closes(Mutex<Option<Store>>);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().take().unwrap().close().unwrap();
    }
}

#[test]
fn a_waker_may_close_the_store_in_a_compaction_of_the_callers() {
    let world = World::new();
    let store = world.open().unwrap();
    let mut receipt = store.counters("likes").unwrap().add("a", 1).unwrap().detach();
    let waker = Waker::from(Arc::new(Closes(Mutex::new(Some(store.clone())))));
    assert!(poll(&mut receipt, &waker).is_pending());
    store.compact().unwrap();
    assert!(matches!(store.sync(), Err(Error::Closed)));
    assert!(matches!(poll(&mut receipt, &waker), Poll::Ready(Ok(()))));
}

/// Waits for the committer, on the committer's own thread.
struct Waits {
    store: Mutex<Option<Store>>,
    answer: SyncSender<plaudit::Result<()>>,
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        let Some(store) = self.store.lock().unwrap().take() else { return };
        store.counters("likes").unwrap().add("from the waker", 1).unwrap();
        self.answer.send(store.sync()).unwrap();
    }
}

#[test]
fn a_waker_that_waits_is_told_that_it_would_wait_for_ever() {
    let world = World::new();
    let store = world.open_threaded(Options { group_window: Duration::from_secs(10), ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    let (answer, answered) = sync_channel(1);
    let mut receipt = likes.add("a", 1).unwrap();
    let waker = Waker::from(Arc::new(Waits { store: Mutex::new(Some(store.clone())), answer }));
    assert!(poll(&mut receipt, &waker).is_pending());
    store.sync().unwrap();
    let answer = answered.recv_timeout(Duration::from_secs(60)).expect("the committer does not wait for itself");
    // The compactor's thread wakes too, and may wait.
    assert!(matches!(answer, Ok(()) | Err(Error::NotDriven { .. })), "{answer:?}");
    assert_eq!(likes.get("from the waker").unwrap(), 1);
    store.sync().unwrap();
}
