//! A subscription gets every epoch once it is durable, with deltas and values that add up to the counters; a slow one
//! is told which epochs it missed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use plaudit::storage::sim::{Operation, Survival};
use plaudit::{Delivery, SealedEpoch, Subscription};
use support::{Random, State, World, fault, options, seal, state, step_until_quiet};

fn epoch(delivery: Option<Delivery>) -> SealedEpoch {
    match delivery {
        Some(Delivery::Epoch(epoch)) => epoch,
        other => panic!("{other:?}"),
    }
}

/// Applies an epoch to a state that is built from the stream alone.
fn apply(state: &mut State, epoch: &SealedEpoch) {
    for change in &epoch.changes {
        let counters = state.entry(change.namespace.to_string()).or_default();
        let key = change.key.escape_ascii().to_string();
        let before = counters.get(&key).copied().unwrap_or(0);
        assert_eq!(i128::from(change.value.unwrap_or(0)) - i128::from(before), change.delta, "{key}");
        match change.value {
            Some(value) => counters.insert(key, value),
            None => counters.remove(&key),
        };
    }
}

#[test]
fn deltas_and_values_add_up_to_the_counters() {
    for seed in 0..20 {
        let (world, mut random) = (World::new(), Random(seed));
        let store = world.open().unwrap();
        let counters = [store.counters("a").unwrap(), store.counters("b").unwrap()];
        let subscription = store.subscribe(1 << 20);
        let (mut built, mut last) = (State::new(), 0);
        for _ in 0..2_000 {
            let counters = &counters[random.below(2) as usize];
            let key = format!("{}", random.below(40));
            match random.below(8) {
                0 => drop(counters.remove(key).unwrap()),
                1 => drop(counters.set(key, random.word() as i64 >> 2).unwrap()),
                2 => drop(
                    store.batch().add(counters, &key, 1).remove(counters, "x").add(counters, "y", -1).commit().unwrap(),
                ),
                3 => drop(counters.compare_and_set(key, 0, 5).unwrap()),
                _ => drop(counters.add(key, random.below(9) as i64 - 4).unwrap()),
            }
            match random.below(60) {
                0 => store.compact().unwrap(),
                1..4 => store.sync().unwrap(),
                4 => drop(seal(&world, &store)),
                _ => {}
            }
            for epoch in drain(&subscription) {
                assert!(epoch.epoch > last && epoch.epoch <= store.durable_epoch(), "seed {seed}");
                last = epoch.epoch;
                apply(&mut built, &epoch);
            }
        }
        store.sync().unwrap();
        drain(&subscription).iter().for_each(|epoch| apply(&mut built, epoch));
        assert_eq!(built, state(&store), "seed {seed}");
    }
}

/// The epochs that are there now.
fn drain(subscription: &Subscription) -> Vec<SealedEpoch> {
    std::iter::from_fn(|| subscription.try_next()).map(|delivery| epoch(Some(delivery))).collect()
}

#[test]
fn each_counter_is_there_once_with_the_time_of_the_seal() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(10);
    world.clock.set_wall_ms(1_000);
    for _ in 0..100 {
        likes.add("a", 2).unwrap();
    }
    likes.add("unchanged", 0).unwrap();
    likes.add("b", 1).unwrap();
    likes.remove("b").unwrap();
    world.clock.set_wall_ms(2_000);
    store.sync().unwrap();
    world.clock.set_wall_ms(3_000);
    let sealed = epoch(subscription.try_next());
    assert_eq!((sealed.epoch, sealed.time_ms), (1, 2_000));
    let changes: BTreeMap<_, _> = sealed.changes.iter().map(|it| (it.key.to_vec(), (it.delta, it.value))).collect();
    let expected = [("a", (200, Some(200))), ("unchanged", (0, Some(0))), ("b", (0, None))];
    assert_eq!(changes, expected.map(|(key, change)| (key.as_bytes().to_vec(), change)).into());
    assert_eq!(sealed.changes.len(), 3);
    // An epoch that only saw values is none.
    likes.add("a", 0).unwrap();
    store.sync().unwrap();
    assert_eq!(subscription.try_next(), None);
}

#[test]
fn nothing_is_delivered_before_it_is_durable() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(100);
    likes.add("a", 1).unwrap();
    seal(&world, &store);
    assert_eq!(subscription.try_next(), None, "sealed is not durable");
    world.disk.set_capacity(Some(0));
    step_until_quiet(&store);
    assert_eq!(subscription.try_next(), None, "waiting for room is not durable");
    world.disk.set_capacity(None);
    world.clock.advance(support::LONG);
    store.step();
    let sealed = epoch(subscription.try_next());
    let after = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
    assert_eq!(after.recovery().last_epoch, sealed.epoch);

    likes.add("a", 1).unwrap();
    world.disk.fail(fault(Operation::Sync, "/log/", std::io::ErrorKind::Other));
    store.sync().unwrap_err();
    assert_eq!(subscription.try_next(), None);
    assert_eq!(Subscription::next(&subscription), None, "a stopped store ends it");
}

#[test]
fn a_slow_subscriber_is_told_what_it_missed() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let (slow, quick) = (store.subscribe(5), store.subscribe(1_000));
    for epoch in 1..=6 {
        for n in 0..epoch {
            likes.add(format!("{n}"), 1).unwrap();
        }
        store.sync().unwrap();
    }
    // 1 and 2 changes fit, 3 do not any more.
    assert_eq!((epoch(slow.try_next()).epoch, epoch(slow.try_next()).epoch), (1, 2));
    assert_eq!(slow.try_next(), Some(Delivery::Missed { first: 3, last: 6 }));
    assert_eq!(slow.try_next(), None);
    likes.add("0", 1).unwrap();
    store.sync().unwrap();
    assert_eq!(epoch(slow.try_next()).epoch, 7);
    let all: Vec<u64> = drain(&quick).iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7], "the slow one keeps nothing from the quick one");
}

#[test]
fn one_without_capacity_is_told_of_every_epoch_and_of_no_change() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let subscription = store.subscribe(0);
    assert_eq!(subscription.try_next(), None);
    for epochs in [1, 3] {
        let sealed: Vec<u64> = (0..epochs)
            .map(|_| {
                let epoch = likes.add("key", 1).unwrap().epoch();
                store.sync().unwrap();
                epoch
            })
            .collect();
        let missed = Delivery::Missed { first: sealed[0], last: sealed[epochs - 1] };
        assert_eq!((subscription.try_next(), subscription.try_next()), (Some(missed), None));
    }
}

#[test]
fn it_begins_with_the_next_epoch_and_ends_with_the_store() {
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("before", 1).unwrap().wait().unwrap();
    let subscription = store.subscribe(1_000);
    assert_eq!(subscription.next_timeout(Duration::from_millis(10)), None);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut built = State::new();
            while let Some(delivery) = Subscription::next(&subscription) {
                apply(&mut built, &epoch(Some(delivery)));
            }
            built
        });
        for n in 0..500 {
            likes.add(format!("{}", n % 10), 1).unwrap();
        }
        store.clone().close().unwrap();
        let expected = (0..10).map(|n| (n.to_string(), 50)).collect();
        assert_eq!(reader.join().unwrap(), [("likes".to_owned(), expected)].into());
    });
    assert_eq!(Subscription::next(&store.subscribe(1)), None, "a closed store has no more");
}

#[test]
fn a_dropped_namespace_leaves_the_stream_at_once() {
    let world = World::new();
    let store = world.open().unwrap();
    let (a, b) = (store.counters("a").unwrap(), store.counters("b").unwrap());
    let subscription = store.subscribe(100);
    a.add("key", 1).unwrap();
    b.add("key", 1).unwrap();
    store.drop_namespace("a").unwrap();
    store.sync().unwrap();
    let sealed = epoch(subscription.try_next());
    assert!(sealed.changes.iter().all(|change| &*change.namespace == "b"), "{sealed:?}");
}
