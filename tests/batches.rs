//! A batch is in one epoch, whole, over any keys and namespaces; or nothing of it is applied.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use plaudit::storage::sim::Survival;
use plaudit::{AtBound, CounterOptions, Error, MAX_BATCH_CHANGES, Store};
use support::{LONG, Random, World, options, state};

const LOW: CounterOptions = CounterOptions { min: 0, max: 10, at_bound: AtBound::Reject };

#[test]
fn changes_apply_in_order_and_are_told_one_by_one() {
    let world = World::new();
    let store = world.open().unwrap();
    let (a, b) = (store.counters("a").unwrap(), store.counters("b").unwrap());
    a.set("gone", 7).unwrap();
    let mut batch = store.batch();
    batch.add(&a, "x", 2).add(&b, "x", 3).set(&a, "x", 10).add(&a, "x", 1).remove(&a, "gone").set(&b, "x", 3);
    assert_eq!((batch.len(), batch.is_empty()), (6, false));
    let receipt = batch.commit().unwrap();
    let told: Vec<_> = receipt.changes().map(|change| (change.value, change.delta, change.changed)).collect();
    assert_eq!(told, [(2, 2, true), (3, 3, true), (10, 8, true), (11, 1, true), (0, -7, true), (3, 0, false)]);
    assert!(batch.is_empty(), "the batch is ready for the next changes");
    assert_eq!((a.get("x").unwrap(), b.get("x").unwrap(), a.contains("gone").unwrap()), (11, 3, false));
    assert_eq!(batch.commit().unwrap().changes().len(), 0);
}

type Refused<'a> = &'a dyn Fn(&mut plaudit::Batch);

#[test]
fn a_refused_change_leaves_nothing_applied_and_nothing_logged() {
    let world = World::new();
    let store = world.open().unwrap();
    let (free, low) = (store.counters("free").unwrap(), store.counters_with("low", LOW).unwrap());
    free.set("max", i64::MAX).unwrap();
    low.set("kept", 4).unwrap();
    low.set("removed", 1).unwrap();
    store.sync().unwrap();
    let (expected, written, memory) = (state(&store), store.stats().log_bytes_written, store.stats().counters);
    let gone = store.counters("gone").unwrap();
    store.drop_namespace("gone").unwrap();
    let other = World::new().open().unwrap();
    let foreign = other.counters("free").unwrap();
    let cases: [(&str, Refused<'_>); 7] = [
        ("overflow", &|batch| _ = batch.add(&free, "max", 1)),
        ("bounds", &|batch| _ = batch.add(&low, "kept", 7)),
        ("a bound that only the sum breaks", &|batch| _ = batch.add(&low, "sum", 6).add(&low, "sum", 6)),
        ("an empty key", &|batch| _ = batch.add(&free, "", 1)),
        ("a long key", &|batch| _ = batch.add(&free, [0; 1_025], 1)),
        ("a dropped namespace", &|batch| _ = batch.add(&gone, "x", 1)),
        ("another store's namespace", &|batch| _ = batch.add(&foreign, "x", 1)),
    ];
    for (what, refused) in cases {
        for n in 0..40 {
            let mut batch = store.batch();
            for m in 0..40 {
                if m == n {
                    refused(&mut batch);
                }
                batch.add(&free, format!("new-{m}"), 1).add(&low, "kept", 0).remove(&low, "removed");
                batch.set(&low, "removed", 2).add(&free, "max", -1).add(&free, "max", 1);
            }
            let before = batch.len();
            let error = batch.commit().unwrap_err();
            let fits = match what {
                "overflow" => matches!(&error, Error::Overflow { key, delta: 1, .. } if key == "max"),
                "bounds" => matches!(&error, Error::OutOfBounds { key, value: 11, .. } if key == "kept"),
                "an empty key" => matches!(error, Error::KeyEmpty),
                "a long key" => matches!(error, Error::KeyTooLong { len: 1_025 }),
                "a dropped namespace" => matches!(&error, Error::NoSuchNamespace { name } if name == "gone"),
                "another store's namespace" => matches!(error, Error::ForeignNamespace { .. }),
                _ => matches!(&error, Error::OutOfBounds { key, value: 12, .. } if key == "sum"),
            };
            assert!(fits, "{what}: {error:?}");
            assert_eq!(batch.len(), before, "the batch keeps its changes");
            assert_eq!(batch.commit().unwrap_err().to_string(), error.to_string(), "and is refused again");
            batch.clear();
            batch.commit().unwrap();
        }
    }
    assert_eq!(state(&store), expected);
    world.clock.advance(LONG);
    assert_eq!(store.step(), plaudit::Stepped::Idle, "no epoch was begun");
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!((state(&store), store.stats().counters), (expected, memory));
    assert!(written > 0);
}

#[test]
fn a_batch_of_the_most_changes_is_one_frame_and_one_more_is_refused() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let mut batch = store.batch();
    for n in 0..MAX_BATCH_CHANGES {
        batch.add(&likes, (n as u32 % 50_000).to_le_bytes(), 1);
    }
    batch.add(&likes, "one too many", 1);
    assert!(matches!(batch.commit(), Err(Error::BatchTooLarge { changes }) if changes == MAX_BATCH_CHANGES + 1));
    assert!(likes.is_empty().unwrap());
    batch.clear();
    for n in 0..MAX_BATCH_CHANGES {
        batch.add(&likes, (n as u32 % 50_000).to_le_bytes(), 1);
    }
    let receipt = batch.commit().unwrap();
    store.sync().unwrap();
    assert!(receipt.is_durable());
    let expected = state(&store);
    let after = World::on(world.disk.power_cut(Survival::Nothing, 0));
    let store = after.open().unwrap();
    assert_eq!(store.recovery().frames, 1);
    assert_eq!(state(&store), expected);
}

#[test]
fn a_power_cut_leaves_batches_whole_or_absent() {
    for seed in 0..150 {
        let (world, mut random) = (World::new(), Random(seed));
        let store = world.open_with(plaudit::Options { shards: 16, ..options() }).unwrap();
        let namespaces: Vec<_> = (0..3).map(|n| store.counters(&format!("ns-{n}")).unwrap()).collect();
        let survival =
            [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random][random.below(4) as usize];
        let from = world.disk.operations();
        world.disk.cut_power_at(from + random.below(12), survival, seed);
        let mut receipts = Vec::new();
        while !world.disk.is_powered_off() {
            // Every batch moves every counter by one, so that no two of them may differ.
            let mut batch = store.batch();
            for counters in &namespaces {
                for key in 0..20 {
                    batch.add(counters, format!("{key:->40}"), 1);
                }
            }
            receipts.extend(batch.commit());
            match random.below(3) {
                0 => _ = store.sync(),
                1 => _ = support::seal(&world, &store),
                _ => _ = store.step(),
            }
        }
        let acknowledged = receipts.iter().filter(|receipt| receipt.is_durable()).count() as i64;
        std::mem::forget(store);
        let store = World::on(world.disk.power_cut(survival, seed)).open().unwrap();
        let values = values(&store);
        assert!(values.len() == 60 || values.is_empty() && acknowledged == 0, "seed {seed}: {values:?}");
        assert!(values.iter().all(|value| *value == values[0]), "seed {seed}: {values:?}");
        let found = values.first().copied().unwrap_or(0);
        assert!((acknowledged..=receipts.len() as i64).contains(&found), "seed {seed}: {found} of {acknowledged}");
    }
}

fn values(store: &Store) -> Vec<i64> {
    state(store).into_values().flat_map(|counters| counters.into_values()).collect()
}
