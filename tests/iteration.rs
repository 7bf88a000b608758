//! Iteration goes on beside changes: what exists throughout is listed exactly once, with a value that it had; and the
//! top is exact, with ties by key.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use plaudit::{Counters, Options, Result};
use support::{Random, World, options};

fn listed(likes: &Counters) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for counter in likes {
        let (key, value) = counter.unwrap();
        let key = String::from_utf8(key.to_vec()).unwrap();
        let before = all.insert(key.clone(), value);
        assert!(before.is_none() || key.starts_with("comes"), "{key} is listed twice");
    }
    all
}

#[test]
fn an_iteration_lists_everything_once() {
    let world = World::new();
    for shards in [1, 2, 64] {
        let store = world.open_with(Options { shards, ..options() }).unwrap();
        let likes = store.counters(&format!("shards-{shards}")).unwrap();
        assert_eq!(listed(&likes).len(), 0);
        // One more and one less than a lock hold visits, too.
        for n in 0..1_025 {
            likes.add(format!("{n}"), n).unwrap();
            if [0, 254, 255, 256, 257, 511, 512, 1_024].contains(&n) {
                assert_eq!(listed(&likes), (0..=n).map(|n| (n.to_string(), n)).collect());
            }
        }
        for n in 0..1_000 {
            likes.remove(format!("{n}")).unwrap();
        }
        assert_eq!(listed(&likes).len(), 25, "removed counters are not listed, collected or not");
        store.sync().unwrap();
        assert_eq!(listed(&likes).len(), 25);
    }
}

#[test]
fn changes_between_the_steps_of_an_iteration_disturb_nothing() {
    for seed in 0..20 {
        let (world, mut random) = (World::new(), Random(seed));
        let store = world.open_with(Options { shards: 2, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        for n in 0..2_000 {
            likes.add(format!("stays-{n}"), n).unwrap();
        }
        let mut seen = BTreeMap::new();
        for counter in likes.iter() {
            let (key, value) = counter.unwrap();
            let is_volatile = key.starts_with(b"comes");
            assert!(seen.insert(key, value).is_none() || is_volatile, "seed {seed}");
            let n = random.below(2_000);
            likes.add(format!("stays-{n}"), 1_000_000).unwrap();
            likes.add(format!("comes-{n}"), 1).unwrap();
            likes.remove(format!("comes-{}", random.below(2_000))).unwrap();
            if n % 50 == 0 {
                store.sync().unwrap();
            }
        }
        for n in 0..2_000 {
            let value =
                seen.get(format!("stays-{n}").as_bytes()).unwrap_or_else(|| panic!("seed {seed}: {n} is missing"));
            assert_eq!(value % 1_000_000, n, "seed {seed}");
        }
    }
}

#[test]
fn an_iteration_ends_while_counters_are_created() {
    let world = World::new();
    let store = world.open_with(Options { shards: 1, ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 0..1_000 {
        likes.add(format!("stays-{n}"), 1).unwrap();
    }
    let mut stay = 0;
    for (counter, n) in likes.iter().zip(0..) {
        stay += usize::from(counter.unwrap().0.starts_with(b"stays"));
        assert!(n < 2_000, "what is new has no end");
        likes.add(format!("comes-{n}"), 1).unwrap();
    }
    assert_eq!(stay, 1_000);
}

#[test]
fn threads_may_change_what_another_lists() {
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 0..3_000 {
        likes.add(format!("stays-{n}"), 1).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (likes, done) = (&likes, &done);
            scope.spawn(move || {
                for n in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    likes.add(format!("comes-{thread}-{}", n % 1_000), 1).unwrap();
                    likes.remove(format!("comes-{thread}-{}", (n + 500) % 1_000)).unwrap();
                    likes.add(format!("stays-{}", n % 3_000), 1).unwrap();
                }
            });
        }
        for _ in 0..30 {
            let stays = listed(&likes).into_iter().filter(|(key, _)| key.starts_with("stays"));
            assert_eq!(stays.filter(|(_, value)| *value >= 1).count(), 3_000);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_top_is_exact_and_ties_go_by_key() {
    for seed in 0..10 {
        let (world, mut random) = (World::new(), Random(seed));
        let store = world.open().unwrap();
        let likes = store.counters("likes").unwrap();
        let mut model = Vec::new();
        for n in 0..500 {
            let key = format!("{}", n * 7_919 % 1_000);
            let value = random.below(20) as i64 - 10;
            likes.set(&key, value).unwrap();
            model.push((key, value));
        }
        model.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        for n in [0, 1, 2, 3, 19, 20, 21, 499, 500, 501, usize::MAX] {
            let top = likes.top(n).unwrap();
            let expected = model.iter().take(n).map(|(key, value)| (key.clone().into(), *value));
            assert_eq!(top, expected.collect::<Vec<_>>(), "seed {seed}, top {n}");
        }
    }
}

#[test]
fn extreme_values_and_keys_have_their_places_in_the_top() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let counters: [(&[u8], i64); 6] =
        [(b"\xff", i64::MAX), (b"\xff\xff", i64::MAX), (b"zero", 0), (b"\0", -1), (b"\0\0", -1), (b"min", i64::MIN)];
    for (key, value) in counters.iter().rev() {
        likes.set(key, *value).unwrap();
    }
    let top: Vec<_> = likes.top(10).unwrap();
    assert!(top.iter().map(|(key, value)| (&key[..], *value)).eq(counters));
}

#[test]
fn an_iteration_ends_with_the_error_that_stopped_it() {
    let world = World::new();
    let store = world.open_with(Options { shards: 1, ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 0..1_000 {
        likes.add(format!("{n}"), 1).unwrap();
    }
    let mut iter = likes.iter();
    assert!(iter.next().unwrap().is_ok());
    store.drop_namespace("likes").unwrap();
    let rest: Vec<Result<_>> = iter.collect();
    assert_eq!(rest.iter().filter(|counter| counter.is_err()).count(), 1);
    assert!(rest.last().unwrap().is_err());
}
