//! A full disk loses nothing: changes stay in memory, whoever waits is told, and the store goes on by itself when
//! there is room again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plaudit::storage::sim::{Fault, Operation, SimDisk, Survival};
use plaudit::{Driver, Durability, Error, Options, Stepped, Store};
use support::{LONG, Random, World, fault, options, state, step_until_quiet};

/// A store whose disk takes no further byte and whose open segment is full. "likes" has 1 in "before", durable.
fn full(world: &World) -> Store {
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("before", 1).unwrap();
    store.sync().unwrap();
    world.disk.set_capacity(Some(0));
    for n in 0..100 {
        likes.add(format!("{n:->1000}"), 1).unwrap();
        match store.sync() {
            Ok(()) => {}
            Err(error) if error.is_storage_full() => return store,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the disk never fills up");
}

#[test]
fn whoever_waits_is_told_and_the_store_goes_on_when_there_is_room() {
    let world = World::new();
    let store = full(&world);
    let likes = store.counters("likes").unwrap();
    assert!(store.stats().storage_full);
    let during = likes.add("during", 3).unwrap();
    assert!(during.wait().unwrap_err().is_storage_full());
    assert!(!during.is_durable());
    assert_eq!(likes.get("during").unwrap(), 3);

    assert_eq!(step_until_quiet(&store), Stepped::Pause(Duration::from_millis(100)));
    world.clock.advance(Duration::from_millis(99));
    world.disk.set_capacity(None);
    assert_eq!(store.step(), Stepped::Pause(Duration::from_millis(1)), "the disk is left alone for a while");
    world.clock.advance(Duration::from_millis(1));
    step_until_quiet(&store);
    assert!(!store.stats().storage_full);
    world.clock.advance(LONG);
    step_until_quiet(&store);
    during.wait().unwrap();

    let expected = state(&store);
    let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&after.open().unwrap()), expected);
}

#[test]
fn a_power_cut_while_the_disk_is_full_leaves_what_was_acknowledged() {
    for seed in 0..8 {
        for survival in [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random] {
            let world = World::new();
            let store = full(&world);
            let (durable, known) = (store.durable_epoch(), state(&store));
            let after = World::on(world.disk.power_cut(survival, seed));
            let store = after.open().unwrap();
            assert!(store.recovery().last_epoch == durable, "{survival:?}, seed {seed}: {:?}", store.recovery());
            assert_eq!(known["likes"].len(), state(&store)["likes"].len() + 1, "all but the epoch that did not fit");
        }
    }
}

#[test]
fn an_existing_store_opens_and_reads_on_a_full_disk() {
    for close in [true, false] {
        for compact in [true, false] {
            let world = World::new();
            let store = world.open().unwrap();
            store.counters("likes").unwrap().add("a", 5).unwrap();
            store.sync().unwrap();
            if compact {
                store.compact().unwrap();
            }
            let expected = state(&store);
            if close {
                store.close().unwrap();
            } else {
                std::mem::forget(store);
            }
            let world = World::on(world.disk.power_cut(Survival::Nothing, 0));
            world.disk.set_capacity(Some(0));
            let store = world.open().unwrap();
            assert_eq!(state(&store), expected);
            let likes = store.counters("likes").unwrap();
            assert_eq!(likes.get("a").unwrap(), 5);
            likes.add("a", 1).unwrap();
            assert!(store.sync().unwrap_err().is_storage_full());
            world.disk.set_capacity(None);
            world.clock.advance(LONG);
            store.sync().unwrap();
            store.close().unwrap();
            assert_eq!(state(&world.open().unwrap())["likes"]["a"], 6);
        }
    }
}

#[test]
fn a_store_that_could_not_be_created_can_be_created_later() {
    for capacity in 0..60 {
        let world = World::on(SimDisk::with_capacity(capacity));
        if let Err(error) = world.open() {
            assert!(error.is_storage_full(), "{capacity}: {error:?}");
        }
        world.disk.set_capacity(None);
        world.open().unwrap().close().unwrap();
    }
}

#[test]
fn namespaces_are_made_and_dropped_whole_or_not_at_all() {
    let world = World::new();
    let store = full(&world);
    assert!(store.counters("other").unwrap_err().is_storage_full());
    assert!(store.drop_namespace("likes").unwrap_err().is_storage_full());
    assert_eq!(store.namespaces().len(), 1);
    assert_eq!(store.counters("likes").unwrap().get("before").unwrap(), 1);
    world.disk.set_capacity(None);
    world.clock.advance(LONG);
    let other = store.counters("other").unwrap();
    other.add("key", 2).unwrap();
    store.sync().unwrap();
    store.drop_namespace("likes").unwrap();
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!(store.namespaces().len(), 1);
    assert_eq!(store.existing_counters("other").unwrap().get("key").unwrap(), 2);
}

#[test]
fn a_rename_that_happened_is_never_taken_for_one_without_room() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("key", 1).unwrap();
    store.sync().unwrap();
    let full = fault(Operation::Rename, "MANIFEST", ErrorKind::StorageFull);
    world.disk.fail(Fault { times: Some(1), done: true, ..full });
    // The disk has a manifest without the namespace now, so nothing in it may be acknowledged any more.
    let refused = store.drop_namespace("likes").unwrap_err();
    assert!(!refused.is_temporary(), "{refused:?}");
    assert!(matches!(likes.add("key", 1), Err(Error::Poisoned { .. })));
    drop((likes, store));
    assert!(world.open().unwrap().namespaces().is_empty());
}

#[test]
fn a_compaction_without_room_changes_nothing() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 0..50 {
        likes.add(format!("key-{n}"), n).unwrap();
    }
    store.sync().unwrap();
    let (expected, files) = (state(&store), world.files());
    world.disk.set_capacity(Some(0));
    assert!(store.compact().unwrap_err().is_storage_full());
    assert_eq!(world.files(), files);
    assert!(store.stats().last_compaction_error.is_some_and(|error| error.is_storage_full()));
    // The open segment has room left, and goes on.
    likes.add("key-1", 7).unwrap();
    store.sync().unwrap();
    likes.add("key-1", -7).unwrap();
    world.disk.set_capacity(None);
    world.clock.advance(LONG);
    likes.add("key-1", 0).unwrap();
    store.sync().unwrap();
    store.compact().unwrap();
    assert!(store.stats().last_compaction_error.is_none());
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap()), expected);
}

#[test]
fn close_on_a_full_disk_says_so_and_the_store_stays_open() {
    let world = World::new();
    let store = full(&world);
    let expected = state(&store);
    assert!(store.clone().close().unwrap_err().is_storage_full());
    assert!(matches!(world.open(), Err(Error::Locked { .. })));
    store.counters("likes").unwrap().add("before", 1).unwrap();
    world.disk.set_capacity(None);
    world.clock.advance(LONG);
    store.close().unwrap();
    let store = world.open().unwrap();
    assert!(store.recovery().closed_cleanly);
    assert_eq!(state(&store)["likes"].len(), expected["likes"].len());
    assert_eq!(state(&store)["likes"]["before"], 2);
}

#[test]
fn a_compaction_does_not_give_up_room_that_is_reserved() {
    let world = World::new();
    let options = || Options { segment_bytes: 1 << 20, ..options() };
    let store = world.open_with(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("a", 1).unwrap();
    store.sync().unwrap();
    // Room for a small segment and the snapshot, and not for another one that reserves as much.
    world.disk.set_capacity(Some((1 << 20) + 16_000));
    assert!(store.compact().unwrap_err().is_storage_full());
    for n in 0..60 {
        likes.add(format!("{n:->1000}"), 1).unwrap();
    }
    store.sync().unwrap();
    store.close().unwrap();
    world.disk.set_capacity(None);
    assert_eq!(state(&world.open_with(options()).unwrap())["likes"].len(), 61);
}

#[test]
fn the_room_that_a_segment_reserves_does_not_keep_a_change_out() {
    let world = World::new();
    let options = || Options { segment_bytes: 1 << 20, ..options() };
    let store = world.open_with(options()).unwrap();
    store.counters("likes").unwrap().add("a", 1).unwrap();
    store.sync().unwrap();
    std::mem::forget(store);
    let world = World::on(world.disk.power_cut(Survival::Nothing, 0));
    // The old segment has its megabyte, and another one does not fit.
    world.disk.set_capacity(Some((1 << 20) + 100_000));
    let store = world.open_with(options()).unwrap();
    for n in 0..10 {
        store.counters("likes").unwrap().add(format!("{n:->1000}"), 1).unwrap();
        store.sync().unwrap();
    }
    std::mem::forget(store);
    let world = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&world.open_with(options()).unwrap())["likes"].len(), 11);
}

#[test]
fn a_log_that_cannot_be_sealed_for_want_of_room_stays_open() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("a", 1).unwrap();
    store.sync().unwrap();
    let used: usize = world.files().values().map(Vec::len).sum();
    // Room for the segment of a compaction, and none for the manifest that names it.
    world.disk.set_capacity(Some(used as u64 + 4_096));
    assert!(store.compact().unwrap_err().is_storage_full());
    assert!(store.clone().close().unwrap_err().is_storage_full());
    likes.add("a", 1).unwrap();
    world.disk.set_capacity(None);
    store.close().unwrap();
    let store = world.open().unwrap();
    assert!(store.recovery().closed_cleanly);
    assert_eq!(state(&store)["likes"]["a"], 2);
}

#[test]
fn a_seal_that_found_no_room_does_not_end_the_log() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("a", 1).unwrap();
    store.sync().unwrap();
    // The worst case: all of it arrives, and the store hears of a failure.
    let full = fault(Operation::Write, "/log/", ErrorKind::StorageFull);
    world.disk.fail(Fault { times: Some(1), done: true, ..full });
    assert!(store.clone().close().unwrap_err().is_storage_full());
    // An epoch that the open segment has no room for goes to another one.
    (0..8).for_each(|n| drop(likes.add(format!("{n:->900}"), 1).unwrap()));
    store.sync().unwrap();
    assert_eq!(world.segments().len(), 2);
    let expected = state(&store);
    for seed in 0..32 {
        // The segment is cut where the seal began, and the power may go before that is on the disk.
        let after = World::on(world.disk.power_cut(Survival::Random, seed));
        assert_eq!(state(&after.open().unwrap()), expected, "seed {seed}");
    }
}

#[test]
fn a_seal_that_the_manifest_has_no_room_for_does_not_end_the_store() {
    for more in [false, true] {
        let world = World::new();
        let store = world.open().unwrap();
        let likes = store.counters("likes").unwrap();
        likes.add("a", 1).unwrap();
        store.sync().unwrap();
        world.disk.fail(fault(Operation::Create, "MANIFEST", ErrorKind::StorageFull));
        assert!(store.clone().close().unwrap_err().is_storage_full());
        // The log is sealed, and goes on behind that in another segment.
        likes.add("a", i64::from(more)).unwrap();
        world.disk.clear_faults();
        if more {
            store.sync().unwrap();
        }
        let open = World::on(world.disk.power_cut(Survival::Nothing, 0));
        assert_eq!(open.segments().len(), 1 + usize::from(more));
        assert_eq!(state(&open.open().unwrap())["likes"]["a"], 1 + i64::from(more));
        store.close().unwrap();
        let store = world.open().unwrap();
        assert!(store.recovery().closed_cleanly);
        assert_eq!(state(&store)["likes"]["a"], 1 + i64::from(more));
    }
}

#[test]
fn closing_while_the_disk_fills_and_others_count_loses_nothing() {
    let mut refused = 0;
    for moment in 0.. {
        let world = World::new();
        let clock = Arc::new(Interrupted::default());
        let environment = plaudit::Environment { clock: clock.clone(), ..world.environment(Driver::Caller) };
        let store = Store::open_in(environment, support::ROOT, options()).unwrap();
        let likes = store.counters("likes").unwrap();
        likes.add("a", 1).unwrap();
        let (disk, others) = (world.disk.clone(), likes.clone());
        clock.interrupt_after(moment, move || {
            disk.set_capacity(Some(0));
            (0..9).filter(|n| others.add(format!("{n:->1000}"), 1).is_ok()).count() as u64
        });
        if let Err(error) = store.clone().close() {
            assert!(error.is_storage_full(), "{error:?}");
            refused += 1;
            world.disk.set_capacity(None);
            store.close().unwrap();
        }
        let Some(counted) = clock.answer() else { break };
        world.disk.set_capacity(None);
        let store = world.open().unwrap();
        assert!(store.recovery().closed_cleanly);
        let found = store.existing_counters("likes").unwrap().len().unwrap();
        assert_eq!(found as u64, 1 + counted, "moment {moment}");
    }
    assert!(refused >= 3, "{refused}");
}

/// A clock that does something else, once, when it is asked for the time.
#[derive(Default)]
struct Interrupted {
    state: Mutex<Interruption>,
}

#[derive(Default)]
struct Interruption {
    calls_left: u64,
    action: Option<Box<dyn FnOnce() -> u64 + Send>>,
    answer: Option<u64>,
}

impl Interrupted {
    fn interrupt_after(&self, calls: u64, action: impl FnOnce() -> u64 + Send + 'static) {
        *self.state.lock().unwrap() = Interruption { calls_left: calls, action: Some(Box::new(action)), answer: None };
    }

    /// What the action answered, if its moment has come.
    fn answer(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap();
        // It holds a handle, which would keep the store open.
        state.action = None;
        state.answer
    }
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupted").finish_non_exhaustive()
    }
}

impl plaudit::Clock for Interrupted {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        let mut state = self.state.lock().unwrap();
        match state.calls_left.checked_sub(1) {
            Some(left) => state.calls_left = left,
            None => {
                if let Some(action) = state.action.take() {
                    drop(state);
                    let answer = action();
                    self.state.lock().unwrap().answer = Some(answer);
                }
            }
        }
        Duration::ZERO
    }
}

#[test]
fn whatever_the_capacity_nothing_is_lost() {
    let mut refused = 0;
    for capacity in (200..24_000).step_by(311) {
        let (world, mut random) = (World::new(), Random(capacity));
        let store = world.open().unwrap();
        let likes = store.counters("likes").unwrap();
        world.disk.set_capacity(Some(capacity));
        for n in 0..60 {
            let answer = match random.below(6) {
                0 => store.sync(),
                1 => store.compact(),
                2 => store.counters(&format!("ns-{n}")).map(drop),
                _ => likes.add(format!("{:->600}", random.below(30)), 1).map(drop),
            };
            if let Err(error) = answer {
                assert!(error.is_storage_full(), "capacity {capacity}: {error:?}");
                refused += 1;
            }
            world.clock.advance(Duration::from_millis(random.below(200)));
            store.step();
        }
        let expected = state(&store);
        world.disk.set_capacity(None);
        world.clock.advance(LONG);
        store.sync().unwrap();
        let after = World::on(world.disk.power_cut(Survival::Nothing, capacity));
        assert_eq!(state(&after.open().unwrap()), expected, "capacity {capacity}");
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn threads_go_on_by_themselves() {
    for durability in [Durability::Group, Durability::Immediate] {
        let world = World::new();
        let store = world.open_threaded(Options { durability, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        likes.add("a", 1).unwrap().wait().unwrap();
        world.disk.set_capacity(Some(0));
        let mut added = 1;
        loop {
            added += 1;
            let answer = likes.add(format!("{added:->1000}"), 1).and_then(|receipt| receipt.wait());
            match answer {
                Ok(()) => {}
                Err(error) if error.is_storage_full() => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(likes.len().unwrap(), added, "a change that waits for room is there");
        world.disk.set_capacity(None);
        while let Err(error) = store.sync() {
            assert!(error.is_storage_full(), "{error:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::mem::forget(store);
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
        let store = Store::open_in(after.environment(Driver::Caller), support::ROOT, options()).unwrap();
        assert_eq!(store.existing_counters("likes").unwrap().len().unwrap(), added);
    }
}

#[cfg(feature = "sim")]
#[test]
fn sled_is_refused_on_a_simulated_disk_because_it_would_write_to_the_real_one() {
    let storage = std::sync::Arc::new(plaudit::storage::sim::SimDisk::new());
    let environment = plaudit::Environment { storage, ..plaudit::Environment::default() };
    let opened = plaudit::Store::open_in(environment, "/simulated", plaudit::Options::default());
    let is_sled = plaudit::SnapshotHome::default() != plaudit::SnapshotHome::File;
    let refused = matches!(opened, Err(plaudit::Error::InvalidOption { field: "snapshot_home", .. }));
    assert_eq!(refused, is_sled);
}
