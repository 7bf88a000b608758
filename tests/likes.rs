//! Likes: one viewer likes an item once, whatever is sent again, late or out of order, and the count is that of the
//! likes, also after a crash, a snapshot and a compaction.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{
    Clock, Contents, Delivery, Error, LikeOptions, LikedItem, Liker, Likes, MAX_TIME_MS, Store, Viewer, ViewerIds,
};
use support::{World, all_likers, step_until_quiet};

/// The store after a power cut that kept what was synced, and nothing else.
fn crash(world: &World) -> Store {
    World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap()
}

fn names(liked: &[LikedItem]) -> Vec<&str> {
    liked.iter().map(|liked| std::str::from_utf8(&liked.item).unwrap()).collect()
}

fn viewers(likers: &[Liker]) -> Vec<u64> {
    likers.iter().map(|liker| liker.viewer.as_u64().unwrap()).collect()
}

#[test]
fn a_viewer_counts_once_and_an_unlike_takes_it_back() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    let receipt = videos.like("cats", 1_u64).unwrap();
    assert_eq!((receipt.value(), receipt.changed()), (1, true));
    let again = videos.like("cats", 1_u64).unwrap();
    assert_eq!((again.value(), again.changed()), (1, false));
    assert_eq!(videos.like("cats", 2_u64).unwrap().value(), 2);
    assert_eq!(videos.unlike("cats", 3_u64).unwrap().value(), 2);
    let unliked = videos.unlike("cats", 1_u64).unwrap();
    assert_eq!((unliked.value(), unliked.changed(), unliked.delta()), (1, true, -1));
    assert_eq!(videos.counts(&["cats", "dogs"]).unwrap(), [1, 0]);
    assert!(!videos.has_liked("cats", 1_u64).unwrap() && videos.has_liked("cats", 2_u64).unwrap());
    videos.like("dogs", 2_u64).unwrap();
    assert_eq!(videos.liked_among(2_u64, &["dogs", "birds", "cats"]).unwrap(), [true, false, true]);
}

#[test]
fn lists_are_newest_first_and_their_pages_survive_what_comes_in_between() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    for viewer in 0..200_u64 {
        videos.like_at("cats", viewer, 1_000 + viewer / 3).unwrap();
        videos.like_at(format!("video {viewer:03}"), 7_u64, 1_000 + viewer / 3).unwrap();
    }
    let first = videos.likers("cats", None, 5).unwrap();
    assert_eq!(viewers(&first), [199, 198, 197, 196, 195]);
    videos.like_at("cats", 500_u64, 9_000).unwrap();
    videos.unlike_at("cats", 195_u64, 9_000).unwrap();
    let second = videos.likers("cats", first.last(), 5).unwrap();
    assert_eq!(viewers(&second), [194, 193, 192, 191, 190]);
    assert_eq!(all_likers(&videos, "cats", 7).len(), 200);

    store.sync().unwrap();
    let first = videos.liked_by(7_u64, None, 4).unwrap();
    assert_eq!(names(&first), ["video 198", "video 199", "video 195", "video 196"]);
    videos.unlike_at("video 197", 7_u64, 9_000).unwrap();
    let second = videos.liked_by(7_u64, first.last(), 4).unwrap();
    assert_eq!(names(&second), ["video 192", "video 193", "video 194", "video 189"], "an unlike shows at once");
    assert_eq!(videos.liked_by(8_u64, None, 9).unwrap().len(), 1);
}

#[test]
fn all_items_and_all_likes_can_be_listed() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    assert!(videos.is_empty().unwrap());
    for viewer in 0..5_000_u64 {
        videos.like_at(format!("video {}", viewer % 3), viewer, viewer).unwrap();
    }
    videos.like("video 1", 9_000_u64).unwrap();
    videos.like("video 9", 1_u64).unwrap();
    videos.unlike("video 9", 1_u64).unwrap();
    assert_eq!(videos.len().unwrap(), 4);
    let items: BTreeMap<_, _> = videos.iter().map(Result::unwrap).collect();
    let expected = [("video 0", 1_667), ("video 1", 1_668), ("video 2", 1_666), ("video 9", 0)];
    assert_eq!(items, expected.map(|(item, count)| (item.into(), count)).into());
    let top: Vec<_> = videos.top(9).unwrap();
    let expected = [("video 1", 1_668), ("video 0", 1_667), ("video 2", 1_666)];
    assert_eq!(top, expected.map(|(item, count)| (item.into(), count)));
    let edges: Vec<_> = videos.edges().map(Result::unwrap).collect();
    assert_eq!(edges.len(), 5_001);
    for (item, _) in expected {
        let mut of_item: Vec<Liker> =
            edges.iter().filter(|(found, _)| found == item).map(|&(_, liker)| liker).collect();
        of_item.sort_by_key(|liker| std::cmp::Reverse((liker.time_ms, liker.viewer)));
        assert_eq!(of_item, all_likers(&videos, item, 1_000));
    }
    store.close().unwrap();
    assert!(matches!(videos.edges().next(), Some(Err(Error::Closed))));
    assert!(matches!(videos.iter().next(), Some(Err(Error::Closed))));
}

#[test]
fn what_a_viewer_likes_is_listed_once_its_epoch_is_sealed() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    videos.like("cats", 1_u64).unwrap();
    assert!(videos.liked_by(1_u64, None, 9).unwrap().is_empty());
    store.sync().unwrap();
    assert_eq!(names(&videos.liked_by(1_u64, None, 9).unwrap()), ["cats"]);
}

#[test]
fn everything_is_there_again_after_a_crash_a_snapshot_and_both() {
    for (snapshot, more) in [(false, false), (true, false), (true, true)] {
        let world = World::new();
        let store = world.open().unwrap();
        let videos = store.likes("videos").unwrap();
        for n in 0..3_000_u64 {
            videos.like_at(format!("video {}", n % 100), n / 7, n).unwrap();
        }
        videos.unlike_at("video 1", 0_u64, 5_000).unwrap();
        videos.remove_item("video 2").unwrap();
        videos.forget_viewer(3_u64).unwrap();
        if snapshot {
            store.compact().unwrap();
        }
        if more {
            videos.like_at("video 2", 1_u64, 6_000).unwrap();
            videos.unlike_at("video 3", 1_u64, 6_000).unwrap();
            videos.forget_viewer(4_u64).unwrap();
            videos.remove_item("video 5").unwrap();
        }
        store.sync().unwrap();
        let read = |videos: &Likes| {
            let item = |n: u64| {
                let item = format!("video {n}");
                let read = (videos.count(&item).unwrap(), all_likers(videos, &item, 10));
                (item, read)
            };
            let viewer = |viewer: u64| videos.liked_by(viewer, None, 1_000).unwrap();
            ((0..100).map(item).collect::<BTreeMap<_, _>>(), (0..500).map(viewer).collect::<Vec<_>>())
        };
        let before = read(&videos);
        assert!(before.0.values().all(|(count, likers)| *count == likers.len() as u64));
        drop((videos, store));

        let store = crash(&world);
        let videos = store.existing_likes("videos").unwrap();
        assert!(read(&videos) == before, "snapshot {snapshot}, more {more}");
        // Late events are judged as before: the unlike is remembered.
        assert!(!videos.like_at("video 1", 0_u64, 4_000).unwrap().changed());
    }
}

#[test]
fn a_snapshot_forgets_unlikes_that_are_too_old_and_never_takes_an_older_event() {
    let world = World::new();
    let store = world.open().unwrap();
    let options = LikeOptions { horizon: Duration::from_secs(1), ..LikeOptions::default() };
    let videos = store.likes_with("videos", options).unwrap();
    videos.like_at("cats", 1_u64, 10).unwrap();
    videos.unlike_at("cats", 1_u64, 20).unwrap();
    world.clock.advance(Duration::from_secs(60));
    videos.like("cats", 2_u64).unwrap();
    videos.remove_item("cats").unwrap();
    videos.like("dogs", 2_u64).unwrap();
    videos.remove_item("dogs").unwrap();
    store.sync().unwrap();
    store.compact().unwrap();
    store.compact().unwrap();
    drop((videos, store));
    let store = crash(&world);
    let videos = store.existing_likes("videos").unwrap();
    assert!(matches!(videos.like_at("cats", 1_u64, 15), Err(Error::TooOld { time_ms: 15, .. })));
}

/// Bytes of memory of the items' side, with everything else, and of the viewers'.
fn memory(store: &Store) -> [u64; 2] {
    let stats = store.stats();
    [stats.memory_bytes - stats.viewers_memory_bytes, stats.viewers_memory_bytes]
}

/// Each item with its count and likers, and what each viewer likes.
type Told = (BTreeMap<String, (u64, Vec<Liker>)>, Vec<Vec<LikedItem>>);

/// What all items of a namespace and these viewers are told.
fn contents(videos: &Likes, viewers: u64) -> Told {
    let item = |item: plaudit::Result<(bytes::Bytes, u64)>| {
        let (item, count) = item.unwrap();
        (item.escape_ascii().to_string(), (count, all_likers(videos, &item, 100)))
    };
    let viewer = |viewer: u64| videos.liked_by(viewer, None, 1_000).unwrap();
    (videos.iter().map(item).collect(), (0..viewers).map(viewer).collect())
}

#[test]
fn a_compaction_gives_back_the_memory_of_unlikes_that_are_too_old_and_no_like() {
    let world = World::new();
    let store = world.open().unwrap();
    let options = LikeOptions { horizon: Duration::from_millis(500), ..LikeOptions::default() };
    let videos = store.likes_with("videos", options).unwrap();
    for viewer in 0..300_u64 {
        videos.like("cats", viewer).unwrap();
        videos.like(format!("video {}", viewer % 50), viewer).unwrap();
    }
    store.sync().unwrap();
    let before = memory(&store);
    for viewer in 1_000..21_000_u64 {
        // One item has many unlikes, and others a few each; some viewers have nothing else, and some a like.
        for item in ["cats".to_owned(), format!("video {}", viewer % 50)] {
            videos.like(&item, viewer).unwrap();
            videos.unlike(&item, viewer).unwrap();
        }
        videos.like("dogs", viewer % 300).unwrap();
        videos.unlike("dogs", viewer % 300).unwrap();
        if viewer.is_multiple_of(100) {
            world.clock.advance(Duration::from_millis(5));
            store.sync().unwrap();
        }
    }
    let grown = memory(&store);
    world.clock.advance(Duration::from_millis(501));
    for viewer in 300..310_u64 {
        videos.like("cats", viewer).unwrap();
        store.sync().unwrap();
    }
    let remembered = contents(&videos, 2_000);
    store.compact().unwrap();
    let after = memory(&store);
    for ((side, before), (grown, after)) in
        ["items", "viewers"].into_iter().zip(before).zip(grown.into_iter().zip(after))
    {
        println!("{side}: {before} bytes, {grown} with unlikes, {after} after a compaction");
        assert!(
            grown > before + 500_000 && after < before + (grown - before) / 10,
            "{side}: {before}, {grown}, {after}"
        );
    }
    assert!(contents(&videos, 2_000) == remembered);
    let now_ms = world.clock.wall_ms();
    assert!(matches!(videos.like_at("cats", 1_000_u64, now_ms - 501), Err(Error::TooOld { .. })));
    assert_eq!(videos.count("cats").unwrap(), 310);
    assert_eq!(videos.like("cats", 1_000_u64).unwrap().value(), 311);
    assert!(!videos.like("cats", 299_u64).unwrap().changed());
    store.sync().unwrap();
    let remembered = contents(&videos, 2_000);
    drop((videos, store));
    let store = crash(&world);
    assert!(contents(&store.existing_likes("videos").unwrap(), 2_000) == remembered);
}

#[test]
fn an_event_from_the_future_makes_no_other_one_too_old() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes_with("videos", LikeOptions { horizon: Duration::from_secs(1), ..LikeOptions::default() });
    let videos = videos.unwrap();
    videos.like_at("cats", 1_u64, MAX_TIME_MS).unwrap();
    let now_ms = world.clock.wall_ms();
    videos.like_at("cats", 2_u64, now_ms - 1_000).unwrap();
    assert!(matches!(videos.like_at("cats", 3_u64, now_ms - 1_001), Err(Error::TooOld { .. })));
    assert_eq!(videos.unlike("cats", 1_u64).unwrap().value(), 1);
}

#[test]
fn a_batch_of_a_long_history_is_judged_by_what_came_before_it_and_moves_the_horizon_once_it_is_applied() {
    let store = World::new().open().unwrap();
    let options = LikeOptions { horizon: Duration::from_millis(10), ..LikeOptions::default() };
    let videos = store.likes_with("videos", options).unwrap();
    let mut batch = store.batch();
    for time_ms in [100, 200, 300] {
        batch.like_at(&videos, "cats", time_ms, time_ms);
    }
    batch.commit().unwrap();
    assert_eq!(videos.count("cats").unwrap(), 3);

    batch.like_at(&videos, "cats", 4_u64, 400).unlike_at(&videos, "cats", 5_u64, 289);
    let refused = batch.commit();
    assert!(matches!(refused, Err(Error::TooOld { time_ms: 289, oldest_ms: 290, .. })), "{refused:?}");
    // What was refused was not seen.
    assert!(videos.like_at("cats", 6_u64, 290).unwrap().changed());
}

#[test]
fn likes_and_counters_are_one_batch_and_a_tally_counts_what_a_like_changed() {
    let world = World::new();
    let store = world.open().unwrap();
    let (videos, creators) = (store.likes("videos").unwrap(), store.counters("creators").unwrap());
    let mut batch = store.batch();
    for _ in 0..3 {
        batch.like(&videos, "cats", 1_u64).tally(&creators, "ada").tally(&creators, "all");
        batch.like(&videos, "dogs", 1_u64).tally(&creators, "bob").tally(&creators, "all");
        batch.commit().unwrap();
    }
    let totals = |keys: [&str; 3]| keys.map(|key| creators.get(key).unwrap());
    assert_eq!(totals(["ada", "bob", "all"]), [1, 1, 2]);
    batch.unlike(&videos, "cats", 1_u64).tally(&creators, "ada").tally(&creators, "all");
    let receipt = batch.commit().unwrap();
    assert_eq!(receipt.changes().map(|change| change.delta).collect::<Vec<_>>(), [-1, -1, -1]);
    assert_eq!(totals(["ada", "bob", "all"]), [0, 1, 1]);
    // The same request again changes nothing, says where the counters are, and makes none.
    batch.unlike(&videos, "cats", 1_u64).tally(&creators, "all").tally(&creators, "nobody");
    let receipt = batch.commit().unwrap();
    let changes: Vec<_> = receipt.changes().map(|change| (change.delta, change.value)).collect();
    assert_eq!((changes, creators.len().unwrap()), (vec![(0, 0), (0, 1), (0, 0)], 3));
    // Twice in one batch.
    batch.like(&videos, "owls", 5_u64).tally(&creators, "all").like(&videos, "owls", 5_u64).tally(&creators, "all");
    batch.commit().unwrap();
    assert_eq!((videos.count("owls").unwrap(), creators.get("all").unwrap()), (1, 2));
    store.sync().unwrap();
    drop((videos, creators, batch, store));
    let store = crash(&world);
    let (videos, creators) = (store.existing_likes("videos").unwrap(), store.existing_counters("creators").unwrap());
    assert_eq!((videos.count("dogs").unwrap(), creators.get("all").unwrap()), (1, 2));
}

#[test]
fn a_batch_that_is_refused_leaves_no_like_behind() {
    let world = World::new();
    let store = world.open().unwrap();
    let (videos, creators) = (store.likes("videos").unwrap(), store.counters("creators").unwrap());
    creators.set("ada", i64::MAX).unwrap();
    videos.like_at("cats", 1_u64, 5).unwrap();
    let mut batch = store.batch();
    batch.like_at(&videos, "cats", 2_u64, 6).unlike_at(&videos, "cats", 1_u64, 7).like(&videos, "dogs", 1_u64);
    batch.add(&creators, "ada", 1);
    assert!(matches!(batch.commit(), Err(Error::Overflow { .. })));
    assert_eq!(videos.counts(&["cats", "dogs"]).unwrap(), [1, 0]);
    assert_eq!(all_likers(&videos, "cats", 9), [Liker { viewer: Viewer::from(1_u64), time_ms: 5 }]);
    assert!(videos.likers("dogs", None, 9).unwrap().is_empty());
    batch.clear();
    batch.like(&videos, "", 1_u64);
    assert!(matches!(batch.commit(), Err(Error::KeyEmpty)));
}

#[test]
fn a_viewer_is_forgotten_on_both_sides_in_one_durable_change_however_large() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    for n in 0..20_000_u64 {
        videos.like(format!("video {n}"), 1_u64).unwrap();
        if n % 100 == 0 {
            videos.like(format!("video {n}"), 2_u64).unwrap();
        }
        if n == 10_000 {
            store.sync().unwrap();
        }
    }
    videos.unlike("video 5", 1_u64).unwrap();
    let forgotten = videos.forget_viewer(1_u64).unwrap();
    assert_eq!((forgotten.previous(), forgotten.value(), forgotten.changed()), (19_999, 0, true));
    assert_eq!(videos.count("video 100").unwrap(), 1);
    assert!(videos.liked_by(1_u64, None, 9).unwrap().is_empty());
    assert!(!videos.has_liked("video 7", 1_u64).unwrap());
    assert!(!videos.forget_viewer(1_u64).unwrap().changed());
    // Without a sync the epoch is whole or not there.
    store.sync().unwrap();
    drop((videos, store));
    let store = crash(&world);
    let videos = store.existing_likes("videos").unwrap();
    assert!(videos.liked_by(1_u64, None, 9).unwrap().is_empty());
    assert_eq!(videos.liked_by(2_u64, None, 1_000).unwrap().len(), 200);
    assert_eq!(videos.counts(&["video 7", "video 200"]).unwrap(), [0, 1]);
}

#[test]
fn a_removed_item_is_gone_from_every_viewer_and_counts_anew() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    for viewer in 0..5_000_u64 {
        videos.like("cats", viewer).unwrap();
    }
    store.sync().unwrap();
    let removed = videos.remove_item("cats").unwrap();
    assert_eq!((removed.previous(), removed.value()), (5_000, 0));
    videos.like("cats", 3_u64).unwrap();
    assert!(videos.liked_by(4_u64, None, 9).unwrap().is_empty(), "at once");
    store.sync().unwrap();
    step_until_quiet(&store);
    assert_eq!(viewers(&videos.likers("cats", None, 9).unwrap()), [3]);
    for viewer in 0..5_000_u64 {
        assert_eq!(videos.liked_by(viewer, None, 9).unwrap().len(), usize::from(viewer == 3));
    }
    assert!(!videos.remove_item("birds").unwrap().changed());
}

#[test]
fn viewers_of_128_bits_are_kept_exactly_and_refused_where_they_do_not_fit() {
    let world = World::new();
    let store = world.open().unwrap();
    let options = LikeOptions { viewers: ViewerIds::U128, ..LikeOptions::default() };
    let wide = store.likes_with("wide", options).unwrap();
    let ids = [0, u128::from(u64::MAX), 1 << 64, u128::MAX, 0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8];
    for id in ids {
        wide.like_at("cats", id, 5).unwrap();
    }
    store.compact().unwrap();
    store.sync().unwrap();
    let narrow = store.likes("narrow").unwrap();
    let too_wide = Err(1 << 64);
    let refused = |error| match error {
        Error::ViewerTooWide { viewer } => viewer,
        other => panic!("{other}"),
    };
    assert_eq!(narrow.like("cats", 1_u128 << 64).map(|_| ()).map_err(refused), too_wide);
    assert_eq!(narrow.has_liked("cats", 1_u128 << 64).map(|_| ()).map_err(refused), too_wide);
    assert_eq!(narrow.forget_viewer(1_u128 << 64).map(|_| ()).map_err(refused), too_wide);
    drop((wide, narrow, store));
    let store = crash(&world);
    let wide = store.existing_likes("wide").unwrap();
    let mut expected = ids;
    expected.sort_unstable_by(|a, b| b.cmp(a));
    let found: Vec<u128> = wide.likers("cats", None, 9).unwrap().iter().map(|liker| liker.viewer.as_u128()).collect();
    assert_eq!(found, expected);
    assert_eq!(wide.liked_by(u128::MAX, None, 9).unwrap().len(), 1);
}

#[test]
fn a_namespace_is_of_counters_or_of_likes_with_the_options_it_was_created_with() {
    let world = World::new();
    let store = world.open().unwrap();
    store.likes("likes").unwrap();
    store.counters("counters").unwrap();
    let is_kind = |error| matches!(error, Err(Error::NamespaceKind { .. }));
    assert!(is_kind(store.counters("likes").map(|_| ())));
    assert!(is_kind(store.existing_counters("likes").map(|_| ())));
    assert!(is_kind(store.likes("counters").map(|_| ())));
    assert!(is_kind(store.existing_likes("counters").map(|_| ())));
    let other = LikeOptions { horizon: Duration::from_secs(1), ..LikeOptions::default() };
    assert!(matches!(store.likes_with("likes", other), Err(Error::NamespaceOptions { .. })));
    assert!(matches!(store.existing_likes("none"), Err(Error::NoSuchNamespace { .. })));
    let contents: Vec<Contents> = store.namespaces().into_iter().map(|namespace| namespace.contents).collect();
    assert!(matches!(contents[..], [Contents::Counters(_), Contents::Likes(_)]));
    let likes = store.existing_likes("likes").unwrap();
    store.drop_namespace("likes").unwrap();
    assert!(matches!(likes.like("cats", 1_u64), Err(Error::NoSuchNamespace { .. })));
    assert!(matches!(likes.forget_viewer(1_u64), Err(Error::NoSuchNamespace { .. })));
    assert!(matches!(likes.likers("cats", None, 1), Err(Error::NoSuchNamespace { .. })));
    assert!(matches!(likes.liked_by(1_u64, None, 1), Err(Error::NoSuchNamespace { .. })));
    // Another of its name has none of its likes.
    let likes = store.likes("likes").unwrap();
    assert_eq!((likes.count("cats").unwrap(), likes.liked_by(1_u64, None, 1).unwrap()), (0, vec![]));
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.likes("likes").unwrap();
    assert!(matches!(likes.like("", 1_u64), Err(Error::KeyEmpty)));
    assert!(matches!(likes.like([0; 1_025], 1_u64), Err(Error::KeyTooLong { len: 1_025 })));
    let late = MAX_TIME_MS + 1;
    assert!(matches!(likes.like_at("cats", 1_u64, late), Err(Error::TimeTooLate { time_ms }) if time_ms == late));
    assert!(likes.likers("cats", None, 0).unwrap().is_empty());
    assert_eq!(likes.count("cats").unwrap(), 0);
    likes.like([7; 1_024], u64::MAX).unwrap();
    store.close().unwrap();
    assert!(matches!(likes.like("cats", 1_u64), Err(Error::Closed)));
    assert!(matches!(likes.has_liked("cats", 1_u64), Err(Error::Closed)));
    assert!(matches!(likes.liked_by(u64::MAX, None, 1), Err(Error::Closed)));
}

#[test]
fn subscribers_get_counts_and_likes_as_they_are_at_an_epochs_end() {
    let world = World::new();
    let store = world.open().unwrap();
    let (videos, views) = (store.likes("videos").unwrap(), store.counters("views").unwrap());
    let subscription = store.subscribe(1_000);
    let next = || match subscription.try_next() {
        Some(Delivery::Epoch(sealed)) => {
            let counts: BTreeMap<_, _> = sealed.changes.iter().map(|c| (c.key.clone(), (c.delta, c.value))).collect();
            let likes: BTreeMap<_, _> =
                sealed.likes.iter().map(|l| ((l.item.clone(), l.viewer.as_u64().unwrap()), l.liked_at_ms)).collect();
            assert!(sealed.likes.iter().all(|like| &*like.namespace == "videos"));
            (counts, likes)
        }
        other => panic!("{other:?}"),
    };
    videos.like_at("cats", 1_u64, 10).unwrap();
    videos.like_at("cats", 2_u64, 11).unwrap();
    videos.unlike_at("cats", 2_u64, 12).unwrap();
    views.add("cats seen", 0).unwrap();
    store.sync().unwrap();
    let (counts, likes) = next();
    assert_eq!(counts, [("cats".into(), (1, Some(1))), ("cats seen".into(), (0, Some(0)))].into());
    assert_eq!(likes, [(("cats".into(), 1), Some(10)), (("cats".into(), 2), None)].into());
    // A newer time of a like that is there: its count is the same.
    videos.like_at("cats", 1_u64, 20).unwrap();
    store.sync().unwrap();
    let (counts, likes) = next();
    assert_eq!((counts.len(), likes), (0, [(("cats".into(), 1), Some(20))].into()));
    videos.forget_viewer(1_u64).unwrap();
    store.sync().unwrap();
    assert_eq!(next(), ([("cats".into(), (-1, Some(0)))].into(), [(("cats".into(), 1), None)].into()));
    videos.remove_item("cats").unwrap();
    store.sync().unwrap();
    assert_eq!(next(), ([("cats".into(), (0, None))].into(), BTreeMap::new()));
}

#[test]
fn a_queue_that_is_replayed_shuffled_and_twice_ends_in_the_same() {
    let mut events = Vec::new();
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for _ in 0..3_000 {
        events.push((random() % 20, random() % 30, random() % 50, random() % 3 > 0));
    }
    let run = |events: &[(u64, u64, u64, bool)]| {
        let world = World::new();
        let store = world.open().unwrap();
        let videos = store.likes("videos").unwrap();
        for &(item, viewer, time_ms, liked) in events {
            let item = item.to_string();
            if liked { videos.like_at(item, viewer, time_ms) } else { videos.unlike_at(item, viewer, time_ms) }
                .unwrap();
        }
        (0..20).map(|item: u64| all_likers(&videos, item.to_string(), 100)).collect::<Vec<_>>()
    };
    let expected = run(&events);
    let mut shuffled = [&events[..], &events[..]].concat();
    for n in (1..shuffled.len()).rev() {
        shuffled.swap(n, random() as usize % (n + 1));
    }
    assert_eq!(run(&shuffled), expected);
}

#[test]
fn a_store_on_a_real_disk_with_sled_keeps_likes_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let videos = store.likes("videos").unwrap();
    for viewer in 0..50_000_u64 {
        videos.like(if viewer % 2 == 0 { "cats" } else { "dogs" }, viewer).unwrap();
    }
    store.compact().unwrap();
    videos.unlike("cats", 0_u64).unwrap();
    drop(videos);
    store.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let videos = store.existing_likes("videos").unwrap();
    assert_eq!(videos.counts(&["cats", "dogs"]).unwrap(), [24_999, 25_000]);
    assert_eq!(all_likers(&videos, "dogs", 1_000).len(), 25_000);
    drop(videos);
    store.close().unwrap();
    assert_eq!(Store::verify(dir.path()).unwrap().problems.len(), 0);
}

#[test]
fn a_listing_of_all_likes_ends_while_there_are_more() {
    let world = World::new();
    let store = world.open().unwrap();
    let videos = store.likes("videos").unwrap();
    for viewer in 0..5_000_u64 {
        videos.like("cats", viewer).unwrap();
    }
    let (mut old, mut new) = (BTreeSet::new(), 1_000_000_u64);
    for edge in videos.edges() {
        let viewer = edge.unwrap().1.viewer.as_u128();
        old.extend((viewer < 5_000).then_some(viewer));
        assert!(new < 1_100_000, "what is new has no end");
        // Also such as have their place among the old ones.
        videos.like("cats", new).unwrap();
        videos.like_at("cats", new + 500_000, world.clock.wall_ms() - 1).unwrap();
        new += 1;
    }
    assert_eq!(old.len(), 5_000);
}
