//! Likes in great number, at impossible times, and from pages that nobody was given: each viewer counts once, what
//! removes many is done whole or not at all, and nobody waits for ever.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{
    Delivery, Driver, Error, LikedItem, Liker, Likes, MAX_BATCH_CHANGES, MAX_TIME_MS, Options, Receipt, Result, Store,
    Viewer, ViewerIds,
};

use crate::support::{ROOT, World, all_likers, options};

/// Likes that come in a batch.
const AT_ONCE: u64 = 10_000;

/// Epochs follow each other without a pause, so that many would fit into what must be in one.
fn large() -> Options {
    Options { segment_bytes: 1 << 20, group_window: Duration::ZERO, ..options() }
}

/// Likes it for many, in batches, and makes that durable.
fn fill(store: &Store, likes: &Likes, number: u64, edge: impl Fn(u64) -> (String, u64)) {
    let mut batch = store.batch();
    for n in 0..number {
        let (item, viewer) = edge(n);
        batch.like_at(likes, item, viewer, n);
        if (n + 1) % AT_ONCE == 0 {
            batch.commit().unwrap();
        }
    }
    batch.commit().unwrap();
    store.sync().unwrap();
}

/// Ends the others, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does it all at once, others again and again until `remove` has returned, with an image of the disk from about then,
/// before or after, and one from then. What was removed need not be durable yet.
fn beside(world: &World, others: &[&(dyn Fn(u64) + Sync)], remove: impl FnOnce()) -> Vec<World> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for other in others {
            let done = &done;
            scope.spawn(move || {
                for n in 0.. {
                    other(n);
                    // Each gets some turns, also where the rest is done already.
                    if n > 10 && done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        let image = || World::on(world.disk.power_cut(Survival::Everything, 0));
        let about_then = scope.spawn(move || {
            thread::yield_now();
            image()
        });
        let ends = Ends(&done);
        remove();
        let after = image();
        drop(ends);
        vec![about_then.join().unwrap(), after]
    })
}

/// How many likes there are of those that are to go: all or none. Opening counts every item anew.
fn left(world: &World, all: u64, is_to_go: impl Fn(&Liker) -> bool) -> u64 {
    let store = world.open_with(large()).unwrap();
    let likes = store.existing_likes("videos").unwrap();
    let left = likes.edges().filter(|edge| is_to_go(&edge.as_ref().unwrap().1)).count() as u64;
    assert!(left == 0 || left == all, "{left} of {all} are left");
    drop(likes);
    store.close().unwrap();
    let report = Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    left
}

#[test]
fn a_viewer_of_100_000_items_is_forgotten_at_once_while_others_like_and_list() {
    const ITEMS: u64 = 100_000;
    let world = World::new();
    let store = world.open_threaded(large()).unwrap();
    let videos = store.likes("videos").unwrap();
    fill(&store, &videos, ITEMS, |n| (n.to_string(), 1));
    let others: [&(dyn Fn(u64) + Sync); 3] = [
        &|n| drop(videos.like((n % ITEMS).to_string(), 2 + n / ITEMS).unwrap()),
        &|n| drop(videos.likers((n % ITEMS).to_string(), None, 10).unwrap()),
        &|_| {
            // A page is of one moment before, one after, or what was there in between.
            let page = videos.liked_by(1_u64, None, 50).unwrap();
            assert!(page.is_sorted_by(|a, b| a.time_ms > b.time_ms));
        },
    ];
    let (subscription, mut epoch) = (store.subscribe(usize::MAX), 0);
    let images = beside(&world, &others, || {
        let forgotten = videos.forget_viewer(1_u64).unwrap();
        assert_eq!((forgotten.previous(), forgotten.value()), (ITEMS as i64, 0));
        epoch = forgotten.epoch();
        assert!(videos.liked_by(1_u64, None, 50).unwrap().is_empty());
    });
    drop(videos);
    store.close().unwrap();
    let told = subscription.flat_map(|delivery| match delivery {
        Delivery::Epoch(sealed) => sealed.likes.into_iter().map(move |like| (sealed.epoch, like.viewer)),
        missed => panic!("{missed:?}"),
    });
    let told: Vec<u64> = told.filter(|(_, viewer)| *viewer == 1_u64.into()).map(|(epoch, _)| epoch).collect();
    assert_eq!(told.len() as u64, ITEMS);
    assert!(
        told.iter().all(|told| *told == epoch),
        "in {epoch}, and told from {} to {}",
        told[0],
        told[told.len() - 1]
    );
    let left = images.iter().chain([&world]).map(|image| left(image, ITEMS, |liker| liker.viewer == 1_u64.into()));
    let left: Vec<u64> = left.collect();
    assert_eq!(left[2], 0);
    println!("{ITEMS} items: left in images about when it was forgotten, just after, and after a close: {left:?}");
}

#[test]
fn an_item_of_300_000_likers_is_removed_at_once_while_others_like_and_list() {
    const LIKERS: u64 = 300_000;
    let world = World::new();
    let store = world.open_threaded(large()).unwrap();
    let videos = store.likes("videos").unwrap();
    fill(&store, &videos, LIKERS, |viewer| ("cats".to_owned(), viewer));
    let others: [&(dyn Fn(u64) + Sync); 3] = [
        &|n| drop(videos.like("cats", LIKERS + n % 1_000).unwrap()),
        &|_| drop(videos.likers("cats", Some(&Liker { viewer: 9_u64.into(), time_ms: LIKERS / 2 }), 100).unwrap()),
        &|n| assert!(videos.liked_by(n % LIKERS, None, 5).unwrap().len() <= 1),
    ];
    let images = beside(&world, &others, || {
        let removed = videos.remove_item("cats").unwrap();
        assert!(removed.previous() >= LIKERS as i64 && removed.value() == 0);
        assert!(videos.liked_by(7_u64, None, 5).unwrap().is_empty());
        assert!(!videos.has_liked("cats", 7_u64).unwrap());
    });
    store.sync().unwrap();
    let count = videos.count("cats").unwrap();
    assert_eq!(all_likers(&videos, "cats", 300).len() as u64, count, "those who liked it since");
    drop(videos);
    store.close().unwrap();
    let is_old = |liker: &Liker| liker.viewer < LIKERS.into();
    let left: Vec<u64> = images.iter().chain([&world]).map(|image| left(image, LIKERS, is_old)).collect();
    assert_eq!(left[2], 0);
    println!("{LIKERS} likers: left in images about when it was removed, just after, and after a close: {left:?}");
}

#[test]
fn a_direct_like_takes_effect_whatever_the_clock_says() {
    let world = World::new();
    let clocks = [5_000_000_000, 0, u64::MAX, MAX_TIME_MS, 7, 5_000_000_000, u64::MAX, 1];
    let (mut toggles, mut newest_ms) = (Vec::new(), 0);
    for life in 0..3 {
        let store = world.open().unwrap();
        let videos = store.likes("videos").unwrap();
        for (wall_ms, n) in clocks.into_iter().zip(0..) {
            world.clock.set_wall_ms(wall_ms);
            let changed = |receipt: Result<Receipt<'_>>| receipt.unwrap().changed();
            assert!(changed(videos.like("cats", 1_u64)), "life {life}, at {wall_ms}");
            assert!(videos.has_liked("cats", 1_u64).unwrap() && !changed(videos.like("cats", 1_u64)));
            let time_ms = videos.likers("cats", None, 1).unwrap()[0].time_ms;
            assert!(time_ms >= newest_ms && time_ms <= MAX_TIME_MS, "life {life}, at {wall_ms}");
            newest_ms = time_ms;
            if n % 3 == life {
                store.sync().unwrap();
            }
            assert!(changed(videos.unlike("cats", 1_u64)), "life {life}, at {wall_ms}");
            assert!(!videos.has_liked("cats", 1_u64).unwrap() && !changed(videos.unlike("cats", 1_u64)));
        }
        world.clock.set_wall_ms(life);
        toggles.push(videos.like("dogs", life).unwrap().value());
        assert!(videos.like("birds", 1_u64).unwrap().changed());
        store.compact().unwrap();
        store.close().unwrap();
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
        assert_eq!(after.likes("videos").unwrap().counts(&["cats", "birds"]).unwrap(), [0, 1]);
        let store = world.open().unwrap();
        let videos = store.likes("videos").unwrap();
        assert!(videos.unlike("birds", 1_u64).unwrap().changed());
        drop(videos);
        store.close().unwrap();
    }
    assert_eq!(toggles, [1, 2, 3]);
}

#[test]
fn the_largest_batch_of_likes_survives_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (videos, totals) = (store.likes("videos").unwrap(), store.counters("totals").unwrap());
    let (most, mut batch) = (MAX_BATCH_CHANGES as u64, store.batch());
    // Each like comes twice, with what hangs on it.
    for n in 0..most / 4 {
        for _ in 0..2 {
            batch.like_at(&videos, format!("{}", n % 1_000), n, n).tally(&totals, "all");
        }
    }
    assert_eq!(batch.len(), MAX_BATCH_CHANGES);
    batch.like_at(&videos, "one too many", 1_u64, 1);
    assert!(matches!(batch.commit(), Err(Error::BatchTooLarge { changes }) if changes == MAX_BATCH_CHANGES + 1));
    assert!(videos.is_empty().unwrap());
    batch.clear();
    for n in 0..most / 2 {
        batch.like_at(&videos, format!("{}", n % 1_000), n, n).tally(&totals, "all");
    }
    batch.commit().unwrap().wait().unwrap();
    drop(videos);
    store.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.recovery().frames, store.recovery().likes), (1, most / 2));
    let (videos, totals) = (store.existing_likes("videos").unwrap(), store.existing_counters("totals").unwrap());
    assert_eq!(totals.get("all").unwrap(), (most / 2) as i64);
    assert_eq!(videos.iter().map(|item| item.unwrap().1).sum::<u64>(), most / 2);
    assert_eq!(videos.liked_by(most / 2 - 1, None, 5).unwrap()[0].time_ms, most / 2 - 1);
}

#[test]
fn each_of_500_viewers_counts_once_however_many_threads_like_for_it() {
    const THREADS: u64 = 64;
    const VIEWERS: u64 = 500;
    let world = World::new();
    let store = world.open_threaded(options()).unwrap();
    let videos = store.likes("videos").unwrap();
    // Every thread sends the events of every viewer, each in an order of its own.
    let all = |event: &(dyn Fn(u64) -> i128 + Sync)| -> i128 {
        thread::scope(|scope| {
            let run = move |at: u64| (0..VIEWERS).map(|n| event((n * (2 * at + 3) + at) % VIEWERS)).sum::<i128>();
            let threads: Vec<_> = (0..THREADS).map(|at| scope.spawn(move || run(at))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    };
    let covered: BTreeSet<u64> = (0..VIEWERS).map(|n| (n * 3) % VIEWERS).collect();
    assert_eq!(covered.len() as u64, VIEWERS);
    let liked = all(&|viewer| videos.like("cats", viewer).unwrap().delta());
    assert_eq!((liked, videos.count("cats").unwrap()), (i128::from(VIEWERS), VIEWERS));
    let unliked = all(&|viewer| if viewer % 2 == 0 { videos.unlike("cats", viewer).unwrap().delta() } else { 0 });
    assert_eq!((unliked, videos.count("cats").unwrap()), (-250, 250));
    // Now each is liked and unliked at once, so that only the receipts can tell what is left.
    let mixed = all(&|viewer| {
        let (like, unlike) = (videos.like("cats", viewer).unwrap().delta(), videos.unlike("cats", viewer));
        like + unlike.unwrap().delta()
    });
    assert_eq!(i128::from(videos.count("cats").unwrap()), 250 + mixed);
    let likers = all_likers(&videos, "cats", 7);
    assert_eq!(likers.len() as i128, 250 + mixed);
    drop(videos);
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!(all_likers(&store.existing_likes("videos").unwrap(), "cats", 500), likers);
}

#[test]
fn a_page_may_begin_anywhere() {
    let world = World::new();
    // So that no event is too old.
    world.clock.set_wall_ms(0);
    let store = world.open().unwrap();
    let wide = plaudit::LikeOptions { viewers: ViewerIds::U128, ..plaudit::LikeOptions::default() };
    for likes in [store.likes("narrow").unwrap(), store.likes_with("wide", wide).unwrap()] {
        let times = [0, 1, 5, MAX_TIME_MS];
        // As few as an item keeps without an index, and more.
        for (item, viewers) in [("few", 20_u64), ("many", 1_000)] {
            for viewer in 0..viewers {
                likes.like_at(item, viewer * 3, times[viewer as usize % 4]).unwrap();
                likes.like_at(format!("{item} {viewer:03}"), u64::MAX, times[viewer as usize % 4]).unwrap();
            }
            store.sync().unwrap();
            check_likers(&likes, item);
        }
        check_liked(&likes);
    }
}

fn check_likers(likes: &Likes, item: &str) {
    let all = likes.likers(item, None, usize::MAX).unwrap();
    assert_eq!(all_likers(likes, item, 7), all);
    for time_ms in [0, 1, 4, 5, MAX_TIME_MS, MAX_TIME_MS + 1, u64::MAX] {
        for viewer in [0, 1, 3, 29, 900, u128::from(u64::MAX), 1 << 64, u128::MAX].map(Viewer::from) {
            let cursor = Liker { viewer, time_ms };
            let is_after = |liker: &&Liker| (liker.time_ms, liker.viewer) < (time_ms.min(MAX_TIME_MS), viewer);
            let expected: Vec<Liker> = all.iter().filter(is_after).copied().collect();
            assert_eq!(likes.likers(item, Some(&cursor), usize::MAX).unwrap(), expected, "after {cursor:?}");
            let page = likes.likers(item, Some(&cursor), 3).unwrap();
            assert_eq!(page, expected[..expected.len().min(3)], "after {cursor:?}");
            assert!(likes.likers("nothing", Some(&cursor), 3).unwrap().is_empty());
        }
    }
}

fn check_liked(likes: &Likes) {
    let all = likes.liked_by(u64::MAX, None, usize::MAX).unwrap();
    assert_eq!(all.len(), 1_020);
    for time_ms in [0, 1, 4, 5, MAX_TIME_MS, MAX_TIME_MS + 1, u64::MAX] {
        for item in [&b""[..], b"few 010", b"many 5", &[0xff; 4_000], b"\0"] {
            let cursor = LikedItem { item: item.to_vec().into(), time_ms };
            let newest = time_ms.min(MAX_TIME_MS);
            let is_after =
                |liked: &&LikedItem| liked.time_ms < newest || liked.time_ms == newest && &liked.item[..] > item;
            let expected: Vec<LikedItem> = all.iter().filter(is_after).cloned().collect();
            assert_eq!(likes.liked_by(u64::MAX, Some(&cursor), usize::MAX).unwrap(), expected, "after {cursor:?}");
            let page = likes.liked_by(u64::MAX, Some(&cursor), 3).unwrap();
            assert_eq!(page, expected[..expected.len().min(3)], "after {cursor:?}");
            assert!(likes.liked_by(1_u64, Some(&cursor), 3).unwrap().is_empty());
        }
    }
}
