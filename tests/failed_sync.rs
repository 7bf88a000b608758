//! After a failed sync or write nothing more is acknowledged, every call says why, nothing is tried again, and
//! opening the store recovers exactly what is on the disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use plaudit::storage::sim::{Fault, Operation, Survival};
use plaudit::{Delivery, Durability, Error, Options, Result, Store};
use support::{LONG, World, fault, options, state};

fn is_poisoned(error: &Error) -> bool {
    matches!(error, Error::Poisoned { cause } if matches!(**cause, Error::Io { .. }))
}

/// A store with "a" at 1, durable.
fn sound(world: &World) -> Store {
    let store = world.open().unwrap();
    store.counters("likes").unwrap().add("a", 1).unwrap();
    store.sync().unwrap();
    store
}

fn once(operation: Operation, path: &str) -> Fault {
    Fault { times: Some(1), ..fault(operation, path, io::ErrorKind::Other) }
}

/// Checks that every call answers the reason, and that none touches the disk.
fn check_dead(world: &World, store: &Store) {
    let operations = world.disk.operations();
    let answers = [
        store.sync(),
        store.compact(),
        store.drop_namespace("likes"),
        store.counters("new").map(drop),
        store.existing_counters("likes").map(drop),
        store.batch().commit().map(drop),
    ];
    for (answer, n) in answers.into_iter().zip(0..) {
        assert!(is_poisoned(&answer.unwrap_err()), "call {n}");
    }
    world.clock.advance(LONG);
    assert_eq!(store.step(), plaudit::Stepped::Stopped);
    assert!(is_poisoned(&store.clone().close().unwrap_err()));
    assert_eq!(world.disk.operations(), operations, "nothing is tried again");
}

#[test]
fn a_log_that_cannot_be_written_or_synced_poisons() {
    for (operation, kind) in [
        (Operation::Sync, io::ErrorKind::Other),
        (Operation::Write, io::ErrorKind::Other),
        // A full disk is no reason to try a sync again.
        (Operation::Sync, io::ErrorKind::StorageFull),
    ] {
        let world = World::new();
        let store = sound(&world);
        let likes = store.counters("likes").unwrap();
        let subscription = store.subscribe(100);
        world.disk.fail(Fault { kind, ..once(operation, "/log/") });
        let receipt = likes.add("a", 10).unwrap();
        assert!(is_poisoned(&store.sync().unwrap_err()), "{operation:?}");
        assert!(is_poisoned(&receipt.wait().unwrap_err()));
        assert!(is_poisoned(&likes.add("a", 1).unwrap_err()));
        assert!(is_poisoned(&likes.get("a").unwrap_err()));
        assert!(is_poisoned(&likes.top(1).unwrap_err()));
        assert!(is_poisoned(&likes.len().unwrap_err()));
        assert_eq!(subscription.try_next(), None);
        check_dead(&world, &store);

        let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
        assert_eq!(state(&after.open().unwrap())["likes"]["a"], 1);
    }
}

#[test]
fn what_is_found_after_a_failed_sync_is_durable_before_it_is_shown() {
    // Linux takes what it could not write for written, so a later sync says nothing about it.
    let world = World::new();
    let store = sound(&world);
    world.disk.fail(once(Operation::Sync, "/log/"));
    store.counters("likes").unwrap().add("a", 10).unwrap();
    store.sync().unwrap_err();
    drop(store);
    for _ in 0..2 {
        let store = world.open().unwrap();
        let shown = state(&store);
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
        assert_eq!(state(&after.open().unwrap()), shown);
        std::mem::drop(store);
    }
}

#[test]
fn a_new_segment_that_fails_poisons_and_loses_nothing() {
    for operation in [Operation::Create, Operation::Allocate, Operation::Write, Operation::Sync, Operation::Rename] {
        let world = World::new();
        sound(&world).close().unwrap();
        let store = world.open().unwrap();
        world.disk.fail(once(operation, ".log.tmp"));
        store.counters("likes").unwrap().add("a", 10).unwrap();
        assert!(is_poisoned(&store.sync().unwrap_err()), "{operation:?}");
        check_dead(&world, &store);
        drop(store);
        assert_eq!(state(&world.open().unwrap())["likes"]["a"], 1);
    }
}

#[test]
fn a_manifest_that_cannot_be_made_durable_poisons() {
    for (operation, path) in
        [(Operation::Sync, "MANIFEST"), (Operation::Rename, "MANIFEST"), (Operation::SyncDir, support::ROOT)]
    {
        let world = World::new();
        let store = sound(&world);
        world.disk.fail(once(operation, path));
        let error = store.counters("other").unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{operation:?}: {error:?}");
        check_dead(&world, &store);
        for survival in [Survival::Nothing, Survival::Everything] {
            let after = World::on(world.disk.power_cut(survival, 0));
            let store = after.open().unwrap();
            assert_eq!(store.existing_counters("likes").unwrap().get("a").unwrap(), 1);
            assert!(store.counters("other").unwrap().is_empty().unwrap());
        }
    }
}

#[test]
fn a_manifest_that_cannot_be_written_is_an_error_and_the_store_goes_on() {
    for operation in [Operation::Create, Operation::Write] {
        let world = World::new();
        let store = sound(&world);
        world.disk.fail(once(operation, "MANIFEST"));
        let error = store.counters("other").unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{operation:?}: {error:?}");
        assert!(matches!(store.existing_counters("other"), Err(Error::NoSuchNamespace { .. })));
        store.counters("other").unwrap().add("b", 2).unwrap();
        store.close().unwrap();
        let store = world.open().unwrap();
        assert_eq!((state(&store)["likes"]["a"], state(&store)["other"]["b"]), (1, 2));
    }
}

#[test]
fn an_epoch_that_waits_for_room_is_not_written_once_the_store_has_stopped() {
    let world = World::new();
    let store = sound(&world);
    let likes = store.counters("likes").unwrap();
    world.disk.set_capacity(Some(0));
    for n in 0..9 {
        likes.add(format!("{n:->1000}"), 1).unwrap();
    }
    assert!(store.sync().unwrap_err().is_storage_full());
    world.disk.set_capacity(None);
    let durable = store.durable_epoch();
    world.disk.fail(once(Operation::Rename, "MANIFEST"));
    store.counters("other").unwrap_err();
    check_dead(&world, &store);
    assert_eq!(store.durable_epoch(), durable);
}

#[test]
fn a_snapshot_that_fails_poisons_nothing() {
    for operation in [Operation::Create, Operation::Write, Operation::Read, Operation::Sync, Operation::Rename] {
        let world = World::new();
        let store = sound(&world);
        world.disk.fail(once(operation, "/snapshot/"));
        let error = store.compact().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{operation:?}: {error:?}");
        store.counters("likes").unwrap().add("a", 1).unwrap();
        store.sync().unwrap();
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
        assert_eq!(state(&after.open().unwrap())["likes"]["a"], 2);
        store.compact().unwrap();
        assert_eq!(store.stats().generations.len(), 1);
        store.close().unwrap();
        assert_eq!(state(&world.open().unwrap())["likes"]["a"], 2);
    }
}

#[test]
fn files_that_cannot_be_removed_after_a_snapshot_are_removed_later() {
    let world = World::new();
    let store = sound(&world);
    for _ in 0..3 {
        store.counters("likes").unwrap().add("a", 1).unwrap();
        world.disk.fail(once(Operation::Remove, ".log"));
        store.compact().unwrap();
        world.disk.clear_faults();
    }
    store.counters("likes").unwrap().add("a", 1).unwrap();
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!(state(&store)["likes"]["a"], 5);
    assert_eq!(world.snapshots().len(), 2);
}

#[test]
fn opening_again_after_any_failed_call_recovers() {
    // Every kind of call fails once, at every place.
    let kinds = [Operation::Sync, Operation::SyncDir, Operation::Write, Operation::Rename, Operation::Remove];
    for operation in kinds {
        for skip in 0.. {
            let world = World::new();
            world.disk.fail(Fault { skip, path_contains: None, ..once(operation, "") });
            let mut acknowledged = 0;
            let done = workload(&world, &mut acknowledged);
            world.disk.clear_faults();
            for survival in [Survival::Nothing, Survival::Everything, Survival::Random] {
                let after = World::on(world.disk.power_cut(survival, skip));
                let store = after.open().unwrap_or_else(|error| panic!("{operation:?} {skip}: {error:?}"));
                let found = store.counters("likes").unwrap().get("a").unwrap();
                assert!((acknowledged..=acknowledged + 1).contains(&found), "{operation:?} {skip}: {found}");
            }
            if done.is_ok() && skip > 60 {
                break;
            }
        }
    }
}

fn workload(world: &World, acknowledged: &mut i64) -> Result<()> {
    for _ in 0..2 {
        let store = world.open()?;
        let likes = store.counters("likes")?;
        for _ in 0..6 {
            likes.add("a", 1)?;
            store.sync()?;
            *acknowledged += 1;
            // May fail without harm, or with it.
            let _ = store.compact();
        }
        store.close()?;
    }
    Ok(())
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the test");
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(100);
    let flags: Vec<_> = (0..20).map(|_| Arc::new(Flag(AtomicBool::new(false)))).collect();
    for round in 1..=2 {
        let mut receipts: Vec<_> = (0..21).map(|_| likes.add("a", 1).unwrap()).collect();
        for (receipt, n) in receipts.iter_mut().zip(0..) {
            let waker: Waker = match n {
                10 => Arc::new(Panics).into(),
                n if n < 10 => flags[n].clone().into(),
                n => flags[n - 1].clone().into(),
            };
            let polled = std::pin::Pin::new(receipt).poll(&mut Context::from_waker(&waker));
            assert!(matches!(polled, Poll::Pending), "the window is not over yet");
        }
        if round == 1 {
            store.sync().unwrap();
            assert!(receipts.iter().all(plaudit::Receipt::is_durable));
            assert!(matches!(subscription.try_next(), Some(Delivery::Epoch(_))));
        } else {
            // Also where the store ends because of something else.
            world.disk.fail(once(Operation::Sync, "/log/"));
            assert!(is_poisoned(&store.sync().unwrap_err()));
        }
        for flag in &flags {
            assert!(flag.0.swap(false, Ordering::AcqRel), "every other waker was called, round {round}");
        }
    }
    drop((store, likes));
    assert!(world.open().unwrap().counters("likes").unwrap().get("a").unwrap() >= 21);
}

struct Closes(parking_lot::Mutex<Option<Store>>);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().take());
    }
}

#[test]
fn a_waker_may_drop_the_last_handle() {
    for _ in 0..20 {
        let world = World::new();
        let store = world.open_threaded(options()).unwrap();
        let mut receipt = store.counters("likes").unwrap().add("a", 1).unwrap().detach();
        let waker: Waker = Arc::new(Closes(parking_lot::Mutex::new(Some(store)))).into();
        if std::pin::Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker)).is_ready() {
            continue;
        }
        drop(waker);
        let started = std::time::Instant::now();
        let store = loop {
            match world.open() {
                Ok(store) => break store,
                Err(error) => assert!(matches!(error, Error::Locked { .. }), "{error:?}"),
            }
            assert!(started.elapsed() < Duration::from_secs(20), "the store is never closed");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(store.recovery().closed_cleanly);
    }
}

#[test]
fn an_immediate_call_answers_the_failure() {
    let world = World::new();
    let store = world.open_threaded(Options { durability: Durability::Immediate, ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("a", 1).unwrap();
    world.disk.fail(once(Operation::Sync, "/log/"));
    assert!(is_poisoned(&likes.add("a", 1).unwrap_err()));
    assert!(is_poisoned(&likes.add("a", 1).unwrap_err()));
}
