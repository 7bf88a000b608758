//! Namespaces are durable with their options, checked whenever they are opened, and gone with their counters when
//! they are dropped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use plaudit::storage::sim::Survival;
use plaudit::{AtBound, CounterOptions, Error, LikeOptions, MAX_NAMESPACES, Store, Viewer, ViewerIds};
use support::{World, edge_key, state};

const BOUNDED: CounterOptions = CounterOptions { min: -5, max: 5, at_bound: AtBound::Clamp };

#[test]
fn options_are_stored_and_checked() {
    let world = World::new();
    let store = world.open().unwrap();
    let check = |store: &Store| {
        assert_eq!(store.counters_with("bounded", BOUNDED).unwrap().options(), BOUNDED);
        assert_eq!(store.existing_counters("bounded").unwrap().options(), BOUNDED);
        for other in [
            CounterOptions::default(),
            CounterOptions { min: -6, ..BOUNDED },
            CounterOptions { max: 6, ..BOUNDED },
            CounterOptions { at_bound: AtBound::Reject, ..BOUNDED },
        ] {
            match store.counters_with("bounded", other).unwrap_err() {
                Error::NamespaceOptions { namespace, stored, requested } => {
                    assert_eq!((namespace.as_str(), stored.as_str()), ("bounded", "min -5, max 5, at bound clamp"));
                    assert_ne!(stored, requested);
                }
                error => panic!("{error:?}"),
            }
        }
    };
    store.counters_with("bounded", BOUNDED).unwrap();
    check(&store);
    std::mem::forget(store);
    check(&World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap());
}

#[test]
fn bad_options_and_names_are_refused_and_create_nothing() {
    let world = World::new();
    let store = world.open().unwrap();
    let field = |options| match store.counters_with("x", options).unwrap_err() {
        Error::InvalidOption { field, .. } => field,
        error => panic!("{error:?}"),
    };
    assert_eq!(field(CounterOptions { min: 1, ..BOUNDED }), "min");
    assert_eq!(field(CounterOptions { max: -1, ..BOUNDED }), "max");
    for name in ["", "a\0b", "new\nline", "\u{7f}", &"x".repeat(256), &"é".repeat(128)] {
        assert!(matches!(store.counters(name), Err(Error::NamespaceName { name: refused, .. }) if refused == name));
    }
    assert!(store.namespaces().is_empty());
    for name in [" ", "/", "..", "MANIFEST", "пример", "👍", &"x".repeat(255)] {
        store.counters(name).unwrap().add("key", 1).unwrap();
    }
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!(store.namespaces().len(), 7);
    assert!(state(&store).values().all(|counters| counters["key"] == 1));
}

#[test]
fn they_are_listed_by_name_with_their_sizes() {
    let world = World::new();
    let store = world.open().unwrap();
    for (name, counters) in [("b", 2), ("a", 0), ("c", 5)] {
        let handle = store.counters(name).unwrap();
        for n in 0..counters {
            handle.add(format!("{n}"), 1).unwrap();
        }
    }
    let listed: Vec<_> = store.namespaces().into_iter().map(|info| (info.name, info.counters)).collect();
    assert_eq!(listed, [("a".into(), 0), ("b".into(), 2), ("c".into(), 5)]);
    assert!(matches!(store.existing_counters("d"), Err(Error::NoSuchNamespace { name }) if name == "d"));
    assert!(matches!(store.drop_namespace("d"), Err(Error::NoSuchNamespace { .. })));
}

#[test]
fn the_same_key_in_two_namespaces_is_two_counters() {
    let world = World::new();
    let store = world.open().unwrap();
    let (a, b) = (store.counters("a").unwrap(), store.counters("b").unwrap());
    a.add("key", 1).unwrap();
    b.add("key", 10).unwrap();
    store.compact().unwrap();
    a.add("key", 1).unwrap();
    b.remove("key").unwrap();
    store.close().unwrap();
    let found = state(&world.open().unwrap());
    assert_eq!((found["a"]["key"], found["b"].len()), (2, 0));
}

#[test]
fn a_dropped_namespace_is_gone_and_its_handles_say_so() {
    let world = World::new();
    let store = world.open().unwrap();
    let handle = store.counters("likes").unwrap();
    handle.add("durable", 1).unwrap();
    store.sync().unwrap();
    let pending = handle.add("pending", 1).unwrap();
    store.drop_namespace("likes").unwrap();
    let is_gone = |error: Error| matches!(error, Error::NoSuchNamespace { name } if name == "likes");
    assert!(is_gone(handle.add("a", 1).unwrap_err()));
    assert!(is_gone(handle.get("a").unwrap_err()));
    assert!(is_gone(handle.contains("a").unwrap_err()));
    assert!(is_gone(handle.remove("a").unwrap_err()));
    assert!(is_gone(handle.len().unwrap_err()));
    assert!(is_gone(handle.top(1).unwrap_err()));
    assert!(is_gone(handle.iter().next().unwrap().unwrap_err()));
    store.sync().unwrap();
    pending.wait().unwrap();

    let again = store.counters_with("likes", BOUNDED).unwrap();
    assert!(again.is_empty().unwrap(), "a new one of the name has nothing of the old one");
    assert!(is_gone(handle.add("a", 1).unwrap_err()), "and the old handle is not its handle");
    again.add("new", 3).unwrap();
    store.sync().unwrap();
    for after in [world.disk.power_cut(Survival::Nothing, 0), world.disk.power_cut(Survival::Everything, 0)] {
        let store = World::on(after).open().unwrap();
        assert_eq!(state(&store)["likes"], [("new".to_owned(), 3)].into());
        store.counters_with("likes", BOUNDED).unwrap();
    }
}

#[test]
fn dropping_is_durable_whatever_snapshots_and_logs_still_hold() {
    for compact_before in [false, true] {
        for compact_after in [false, true] {
            let world = World::new();
            let store = world.open().unwrap();
            for name in ["kept", "dropped"] {
                let handle = store.counters(name).unwrap();
                for n in 0..300 {
                    handle.add(format!("{n:->30}"), n).unwrap();
                }
            }
            store.sync().unwrap();
            if compact_before {
                store.compact().unwrap();
            }
            store.drop_namespace("dropped").unwrap();
            if compact_after {
                store.compact().unwrap();
            }
            store.counters("kept").unwrap().add("last", 1).unwrap();
            store.close().unwrap();
            let store = world.open().unwrap();
            let found = state(&store);
            assert_eq!((found.len(), found["kept"].len()), (1, 301));
            assert_eq!(store.stats().counters, 301);
            assert!(store.counters("dropped").unwrap().is_empty().unwrap());
        }
    }
}

#[test]
fn many_come_and_go() {
    let world = World::new();
    let mut store = world.open().unwrap();
    for n in 0..200 {
        let handle = store.counters(&format!("ns-{}", n % 7)).unwrap();
        handle.add("key", 1).unwrap();
        if n % 3 == 0 {
            store.drop_namespace(&format!("ns-{}", n % 7)).unwrap();
        }
        if n % 50 == 49 {
            store.close().unwrap();
            store = world.open().unwrap();
        }
    }
    let expected = state(&store);
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap()), expected);
    assert!(!expected.is_empty());
}

#[test]
fn one_that_could_not_be_created_leaves_nothing_to_the_next() {
    let wide = LikeOptions { viewers: ViewerIds::U128, ..LikeOptions::default() };
    type Create = fn(&Store, LikeOptions) -> plaudit::Result<()>;
    let create: [(&str, Create); 3] = [
        ("counters", |store, _| store.counters("counters").map(drop)),
        ("narrow", |store, _| store.likes("narrow").map(drop)),
        ("wide", |store, wide| store.likes_with("wide", wide).map(drop)),
    ];
    for (failing, create_failing) in create {
        for ((name, create), likes) in create.into_iter().zip([0_u64, 100, 100]) {
            let world = World::new();
            let store = world.open().unwrap();
            world.disk.set_capacity(Some(0));
            assert!(create_failing(&store, wide).unwrap_err().is_storage_full());
            world.disk.set_capacity(None);
            // It gets the number that the other one would have had.
            create(&store, wide).unwrap_or_else(|error| panic!("{name} after {failing}: {error:?}"));
            let mut expected = BTreeMap::from([("key".to_owned(), 1)]);
            if name == "counters" {
                store.counters(name).unwrap().add("key", 1).unwrap();
            }
            let widest = if name == "wide" { u128::MAX } else { u64::MAX.into() };
            for time_ms in 1..=likes {
                let viewer = Viewer::from(widest - u128::from(time_ms));
                store.existing_likes(name).unwrap().like_at("key", viewer, time_ms).unwrap();
                expected.insert("key".to_owned(), time_ms as i64);
                expected.insert(edge_key("key", viewer), time_ms as i64);
            }
            store.sync().unwrap();
            assert_eq!(state(&store)[name], expected, "{name} after {failing}");
            store.close().unwrap();
            assert_eq!(state(&world.open().unwrap())[name], expected, "{name} after {failing}");
        }
    }
}

#[test]
fn two_threads_that_create_the_same_one_share_it() {
    let world = World::new();
    let store = world.open_threaded(support::options()).unwrap();
    for round in 0..20 {
        let name = format!("ns-{round}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| drop(store.counters(&name).unwrap().add("key", 1).unwrap()));
            }
        });
        assert_eq!(store.counters(&name).unwrap().get("key").unwrap(), 4);
    }
    assert_eq!(store.namespaces().len(), 20);
}

#[test]
fn a_store_creates_so_many_namespaces_over_its_life_and_no_more() {
    let world = World::new();
    let store = world.open().unwrap();
    let kept = store.counters("kept").unwrap();
    for _ in 1..MAX_NAMESPACES {
        store.counters("dropped").unwrap();
        store.drop_namespace("dropped").unwrap();
    }
    for _ in 0..2 {
        let refused = store.counters("another").unwrap_err();
        assert!(matches!(refused, Error::TooManyNamespaces { limit: MAX_NAMESPACES }), "{refused:?}");
    }
    kept.add("key", 1).unwrap();
    assert_eq!(store.counters("kept").unwrap().get("key").unwrap(), 1);
    store.close().unwrap();
    let store = world.open().unwrap();
    assert!(store.counters("another").is_err() && store.counters("kept").unwrap().get("key").unwrap() == 1);
}
