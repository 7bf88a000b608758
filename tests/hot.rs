//! What is added through a handle to a hot counter is counted as any other change is: exactly once, seen by whoever
//! looks, durable in time, and refused as it would be without the handle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::thread;

use plaudit::storage::sim::Survival;
use plaudit::{AtBound, CounterOptions, Delivery, Durability, Error, HotCounter, Options, Result, Store};
use support::{LONG, World, options, seal, step_until_quiet};

const ROUNDS: i64 = 20_000;

/// A world with a store that has a namespace of counters.
fn opened(options: Options) -> (World, Store) {
    let world = World::new();
    let store = world.open_with(options).unwrap();
    store.counters("views").unwrap();
    (world, store)
}

/// What a power cut leaves of a counter when nothing survives that was not synced.
fn after_power_cut(world: &World, key: &str) -> i64 {
    let world = World::on(world.disk.power_cut(Survival::Nothing, 1));
    world.open().unwrap().existing_counters("views").unwrap().get(key).unwrap()
}

#[test]
fn many_threads_add_at_once_and_others_change_and_read_meanwhile() {
    let world = World::new();
    let store = world.open_threaded(Options { generations_kept: 1, ..options() }).unwrap();
    let views = store.counters("views").unwrap();
    let live = views.hot("live").unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            let live = live.clone();
            scope.spawn(move || (0..ROUNDS).for_each(|_| live.add(3).unwrap()));
        }
        // On the counter itself, alone and in batches, and by handles that come and go.
        scope.spawn(|| (0..ROUNDS).for_each(|_| drop(views.add("live", -1).unwrap())));
        scope.spawn(|| {
            for _ in 0..ROUNDS / 10 {
                let mut batch = store.batch();
                batch.add(&views, "live", 5).add(&views, "other", 1);
                batch.commit().unwrap();
                views.hot("live").unwrap().add(5).unwrap();
            }
        });
        scope.spawn(|| (0..20).for_each(|_| store.compact().unwrap()));
    });
    let expected = 4 * 3 * ROUNDS - ROUNDS + ROUNDS / 10 * 10;
    assert_eq!(live.get().unwrap(), expected);
    live.receipt().unwrap().wait().unwrap();
    assert_eq!(after_power_cut(&world, "live"), expected);
}

#[test]
fn whoever_looks_sees_what_was_added_before() {
    let (_, store) = opened(options());
    let views = store.counters("views").unwrap();
    let live = views.hot("live").unwrap();
    assert_eq!((views.len().unwrap(), live.get().unwrap()), (1, 0));
    type Look<'a> = &'a dyn Fn() -> i64;
    let looks: [Look<'_>; 8] = [
        &|| live.get().unwrap(),
        &|| live.receipt().unwrap().value(),
        &|| views.get("live").unwrap(),
        &|| views.get_many(&["live"]).unwrap()[0],
        &|| views.iter().next().unwrap().unwrap().1,
        &|| views.top(1).unwrap()[0].1,
        &|| views.add("live", 0).unwrap().previous(),
        &|| {
            let mut batch = store.batch();
            batch.add(&views, "live", 0);
            batch.commit().unwrap().changes().next().unwrap().value
        },
    ];
    for (look, expected) in looks.iter().zip(1..) {
        live.add(1).unwrap();
        assert_eq!(look(), expected);
    }
    live.add(2).unwrap();
    assert!(matches!(views.compare_and_set("live", 10, 100).unwrap(), plaudit::CompareAndSet::Set(_)));
    live.add(1).unwrap();
    assert_eq!(views.set("live", 7).unwrap().previous(), 101);
    assert_eq!(live.get().unwrap(), 7);
}

#[test]
fn adds_are_durable_when_anything_says_so_and_soon_in_any_case() {
    type End = fn(&World, &Store, HotCounter) -> Result<()>;
    let ends: [End; 4] = [
        |_, store, live| live.add(0).and_then(|()| store.sync()),
        |_, store, live| {
            drop(live);
            store.clone().close()
        },
        |_, store, _live| store.clone().close(),
        |world, store, _live| {
            // One window, and what was added before it ended is in the epoch that it ends.
            seal(world, store);
            step_until_quiet(store);
            Ok(())
        },
    ];
    for end in ends {
        let (world, store) = opened(options());
        let live = store.counters("views").unwrap().hot("live").unwrap();
        store.sync().unwrap();
        for _ in 0..5 {
            live.add(2).unwrap();
        }
        assert_eq!(after_power_cut(&world, "live"), 0);
        end(&world, &store, live).unwrap();
        assert_eq!(after_power_cut(&world, "live"), 10);
    }
}

#[test]
fn under_immediate_durability_an_add_is_durable_when_it_returns() {
    let (world, store) = opened(Options { durability: Durability::Immediate, ..options() });
    let live = store.counters("views").unwrap().hot("live").unwrap();
    for expected in 1..4 {
        live.add(1).unwrap();
        assert_eq!(after_power_cut(&world, "live"), expected);
    }
}

#[test]
fn what_the_counter_refuses_is_refused_and_leaves_the_rest() {
    let (_, store) = opened(options());
    let bounds = CounterOptions { min: -5, max: 5, at_bound: AtBound::Reject };
    let few = store.counters_with("few", bounds).unwrap();
    let hot = few.hot("a").unwrap();
    (0..5).for_each(|_| hot.add(1).unwrap());
    assert!(matches!(hot.add(1), Err(Error::OutOfBounds { value: 6, .. })));
    assert_eq!(few.get("a").unwrap(), 5);
    let clamped = store.counters_with("clamped", CounterOptions { at_bound: AtBound::Clamp, ..bounds }).unwrap();
    let hot = clamped.hot("a").unwrap();
    hot.add(100).unwrap();
    assert_eq!(hot.get().unwrap(), 5);

    let views = store.counters("views").unwrap();
    let hot = views.hot("a").unwrap();
    hot.add(7).unwrap();
    for (end, delta) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX), (i64::MIN, i64::MIN)] {
        hot.add(delta.signum()).unwrap();
        views.set("a", end).unwrap();
        assert!(matches!(hot.add(delta), Err(Error::Overflow { value, .. }) if value == end));
        assert_eq!(hot.get().unwrap(), end);
        views.set("a", 0).unwrap();
        hot.add(end).unwrap();
        assert!(matches!(hot.add(delta), Err(Error::Overflow { .. })));
        assert_eq!(hot.get().unwrap(), end);
        views.set("a", 0).unwrap();
    }
    // As much as goes into a cell, again and again, until there is no room for it.
    let step = 1_i64 << 40;
    let mut sum = i64::MAX - (1 << 50);
    views.set("a", sum).unwrap();
    while let Some(next) = sum.checked_add(step) {
        hot.add(step).unwrap();
        sum = next;
    }
    assert!(matches!(hot.add(step), Err(Error::Overflow { .. })));
    assert_eq!(views.get("a").unwrap(), sum);
    assert!(matches!(views.hot(""), Err(Error::KeyEmpty)));
    assert!(matches!(views.hot([0; 1_025]), Err(Error::KeyTooLong { len: 1_025 })));
}

#[test]
fn a_removed_counter_comes_back_with_the_next_add() {
    let (world, store) = opened(options());
    let views = store.counters("views").unwrap();
    let live = views.hot("live").unwrap();
    for round in 0..3 {
        live.add(9).unwrap();
        assert_eq!(views.remove("live").unwrap().previous(), 9);
        assert_eq!((views.len().unwrap(), live.get().unwrap()), (0, 0));
        // Its slot is not another's, whether the log names the removal yet or not.
        if round > 0 {
            store.sync().unwrap();
        }
        let others: Vec<_> = (0..50).map(|other| format!("{round}-{other}")).collect();
        others.iter().for_each(|other| drop(views.add(other, 1).unwrap()));
        live.add(4).unwrap();
        assert_eq!(live.receipt().unwrap().value(), 4);
        store.sync().unwrap();
        assert_eq!(after_power_cut(&world, "live"), 4);
        others.iter().for_each(|other| drop(views.remove(other).unwrap()));
        views.remove("live").unwrap();
    }
    assert!(views.is_empty().unwrap());
}

#[test]
fn a_handle_of_a_dropped_namespace_or_a_closed_store_says_so() {
    let (_, store) = opened(options());
    let live = store.counters("views").unwrap().hot("live").unwrap();
    live.add(1).unwrap();
    store.drop_namespace("views").unwrap();
    let again = store.counters("views").unwrap();
    assert!(matches!(live.add(1), Err(Error::NoSuchNamespace { .. })));
    assert!(matches!(live.receipt(), Err(Error::NoSuchNamespace { .. })));
    assert_eq!(again.get("live").unwrap(), 0);
    let other = again.hot("live").unwrap();
    drop(live);
    other.add(3).unwrap();
    assert_eq!(other.get().unwrap(), 3);
    store.close().unwrap();
    assert!(matches!(other.add(1), Err(Error::Closed)));
    assert!(matches!(other.receipt(), Err(Error::Closed)));
    assert!(matches!(other.get(), Err(Error::Closed)));
}

#[test]
fn subscribers_are_told_the_sum_of_an_epoch() {
    let (world, store) = opened(options());
    let live = store.counters("views").unwrap().hot("live").unwrap();
    store.sync().unwrap();
    let subscription = store.subscribe(10);
    (1..=4).for_each(|delta| live.clone().add(delta).unwrap());
    world.clock.advance(LONG);
    store.sync().unwrap();
    let Some(Delivery::Epoch(sealed)) = subscription.try_next() else { panic!("an epoch was sealed") };
    let change = &sealed.changes[0];
    assert_eq!((&change.key[..], change.delta, change.value), (&b"live"[..], 10, Some(10)));
    assert_eq!(sealed.changes.len(), 1);
}
