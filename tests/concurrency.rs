//! Threads change the same and other counters while the store commits, compacts and closes, and every total is exact
//! afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{Durability, Error, Options, SnapshotHome, Store};
use support::{Random, World, options, state};

const THREADS: i64 = 4;

fn small(durability: Durability) -> Options {
    Options { durability, compaction_threshold_bytes: 4_096, group_window: Duration::from_micros(200), ..options() }
}

/// Every thread adds to a counter that all share, to one of its own, and to random ones, also in batches.
fn hammer(store: &Store, rounds: i64) {
    let (likes, sums) = (store.counters("likes").unwrap(), store.counters("sums").unwrap());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (likes, sums) = (&likes, &sums);
            scope.spawn(move || {
                let mut random = Random(thread as u64);
                for n in 0..rounds {
                    likes.add("shared", 1).unwrap();
                    likes.add(format!("own-{thread}"), 1).unwrap();
                    let mut batch = store.batch();
                    let other = format!("random-{}", random.below(200));
                    batch.add(likes, &other, 1).add(sums, "random", 1).add(sums, format!("{thread}"), -1);
                    batch.commit().unwrap();
                    let removed = format!("removed-{}", random.below(20));
                    likes.add(&removed, 1).unwrap();
                    likes.remove(&removed).unwrap();
                    if n % 97 == 0 {
                        store.sync().unwrap();
                    }
                }
            });
        }
    });
}

fn check(store: &Store, rounds: i64) {
    let found = state(store);
    let (likes, sums) = (&found["likes"], &found["sums"]);
    assert_eq!(likes["shared"], THREADS * rounds);
    let random: i64 = likes.iter().filter(|(key, _)| key.starts_with("random")).map(|(_, value)| value).sum();
    assert_eq!((random, sums["random"]), (THREADS * rounds, THREADS * rounds));
    for thread in 0..THREADS {
        assert_eq!((likes[&format!("own-{thread}")], sums[&format!("{thread}")]), (rounds, -rounds));
    }
    assert!(!likes.keys().any(|key| key.starts_with("removed")));
}

#[test]
fn totals_are_exact_with_compactions_under_way() {
    let world = World::new();
    for life in 1..4 {
        let store = world.open_threaded(small(Durability::Group)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    store.compact().unwrap();
                }
            });
            hammer(&store, 1_000);
            done.store(true, Ordering::Release);
        });
        assert!(store.stats().compactions > 1, "{:?}", store.stats());
        check(&store, life * 1_000);
        if life == 2 {
            drop(store);
        } else {
            store.close().unwrap();
        }
        let store = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
        check(&store, life * 1_000);
    }
}

#[test]
fn totals_are_exact_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (home, life) in [SnapshotHome::File, SnapshotHome::default()].into_iter().zip(1..) {
        let options = Options { snapshot_home: home, ..small(Durability::Group) };
        let store = Store::open_with(dir.path(), options).unwrap();
        hammer(&store, 1_000);
        store.sync().unwrap();
        check(&store, life * 1_000);
        store.close().unwrap();
        assert!(Store::verify(dir.path()).unwrap().problems.is_empty());
        check(&Store::open(dir.path()).unwrap(), life * 1_000);
    }
}

#[test]
fn what_was_waited_for_before_a_close_is_there() {
    for durability in [Durability::Group, Durability::Manual, Durability::Immediate] {
        for seed in 0..15 {
            let world = World::new();
            let store = world.open_threaded(small(durability)).unwrap();
            let likes = store.counters("likes").unwrap();
            let (applied, acknowledged) = (AtomicI64::new(0), AtomicI64::new(0));
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (likes, applied, acknowledged) = (&likes, &applied, &acknowledged);
                    scope.spawn(move || {
                        for n in 0.. {
                            let receipt = match likes.add("a", 1) {
                                Ok(receipt) => receipt,
                                Err(Error::Closed) => break,
                                Err(error) => panic!("{error:?}"),
                            };
                            applied.fetch_add(1, Ordering::AcqRel);
                            if (n + thread) % 7 == 0 {
                                match receipt.wait() {
                                    Ok(()) => drop(acknowledged.fetch_max(receipt.value(), Ordering::AcqRel)),
                                    Err(error) => panic!("a change that was taken is committed: {error:?}"),
                                }
                            }
                        }
                    });
                }
                std::thread::sleep(Duration::from_micros(Random(seed).below(4_000)));
                store.close().unwrap();
            });
            let store = world.open().unwrap();
            let found = store.counters("likes").unwrap().get("a").unwrap();
            let applied = applied.into_inner();
            assert!(store.recovery().closed_cleanly, "seed {seed}");
            assert!(found >= acknowledged.into_inner(), "seed {seed}");
            assert_eq!(found, applied, "seed {seed}");
        }
    }
}

#[test]
fn a_compaction_and_a_close_do_not_wait_for_each_other() {
    for seed in 0..20 {
        let world = World::new();
        let store = world.open_threaded(small(Durability::Group)).unwrap();
        let likes = store.counters("likes").unwrap();
        for n in 0..2_000 {
            likes.add(format!("{n}"), 1).unwrap();
        }
        std::thread::scope(|scope| {
            let compacting = scope.spawn(|| store.compact());
            std::thread::sleep(Duration::from_micros(Random(seed).below(3_000)));
            store.clone().close().unwrap();
            assert!(matches!(compacting.join().unwrap(), Ok(()) | Err(Error::Closed)), "seed {seed}");
        });
        assert_eq!(world.open().unwrap().counters("likes").unwrap().len().unwrap(), 2_000);
    }
}

#[test]
fn namespaces_come_and_go_beside_changes() {
    let world = World::new();
    let store = world.open_threaded(small(Durability::Group)).unwrap();
    let likes = store.counters("likes").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5_000 {
                likes.add("a", 1).unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..60 {
                let other = store.counters("other").unwrap();
                other.add("a", n).unwrap();
                store.drop_namespace("other").unwrap();
                assert!(matches!(other.add("a", 1), Err(Error::NoSuchNamespace { .. })));
            }
        });
        for _ in 0..10 {
            store.compact().unwrap();
        }
    });
    store.close().unwrap();
    let found = state(&world.open().unwrap());
    assert_eq!(found, [("likes".to_owned(), [("a".to_owned(), 5_000)].into())].into());
}

#[test]
fn a_snapshot_of_changes_that_are_not_durable_yet_is_not_believed() {
    // Batches keep many counters equal, and only the compaction commits: what it saw of half a batch must be durable
    // whole before it is published.
    for seed in 0..40 {
        let (world, mut random) = (World::new(), Random(seed));
        let store = world.open_threaded(Options { durability: Durability::Manual, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        let keys: Vec<String> = (0..1_500).map(|n| format!("{n}")).collect();
        let survival = [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random][seed as usize % 4];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !world.disk.is_powered_off() {
                    let mut batch = store.batch();
                    for key in &keys {
                        batch.add(&likes, key, 1);
                    }
                    let _ = batch.commit();
                }
            });
            while likes.get("0").unwrap() < 3 {
                std::thread::yield_now();
            }
            world.disk.cut_power_at(world.disk.operations() + random.below(60), survival, seed);
            while !world.disk.is_powered_off() {
                let _ = store.compact();
            }
        });
        std::mem::forget(store);
        let after = World::on(world.disk.power_cut(survival, seed)).open().unwrap();
        let found = state(&after)["likes"].values().copied().collect::<Vec<_>>();
        assert!(found.is_empty() || found.len() == keys.len(), "seed {seed}: {} counters", found.len());
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: a batch in part");
    }
}
