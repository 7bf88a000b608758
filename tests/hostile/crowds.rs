//! Many threads, many waiters, and changes in great number: everyone is answered, everyone gets a turn, and the sums
//! are right.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use plaudit::{Durability, Error, MAX_BATCH_CHANGES, Options, Store};

use crate::support::{World, options};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn thousands_who_wait_for_one_epoch_are_all_answered_once() {
    const FUTURES: usize = 5_000;
    const THREADS: usize = 500;
    let world = World::new();
    // Nobody commits before it is asked for, so all wait for the same epoch.
    let store = world.open_threaded(Options { group_window: Duration::from_secs(10), ..options() }).unwrap();
    let likes = store.counters("likes").unwrap();
    let wakers: Vec<Arc<Count>> = (0..FUTURES).map(|_| Arc::default()).collect();
    let mut receipts: Vec<_> = wakers.iter().map(|_| likes.add("futures", 1).unwrap()).collect();
    let epoch = receipts[0].epoch();
    let poll = |receipt: &mut plaudit::Receipt<'_>, count: &Arc<Count>| {
        Pin::new(receipt).poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
    };
    assert!(receipts.iter_mut().zip(&wakers).all(|(receipt, count)| poll(receipt, count).is_pending()));
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let wait = || {
                let receipt = likes.add("threads", 1).unwrap();
                waiting.fetch_add(1, Ordering::AcqRel);
                assert_eq!(receipt.epoch(), epoch);
                receipt.wait().unwrap();
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, wait).unwrap();
        }
        while waiting.load(Ordering::Acquire) < THREADS {
            thread::yield_now();
        }
        assert_eq!(store.durable_epoch(), epoch - 1, "nobody was answered before");
        store.sync().unwrap();
    });
    // The committer calls the wakers after it has told the threads.
    store.clone().close().unwrap();
    assert!(
        receipts.iter_mut().zip(&wakers).all(|(receipt, count)| matches!(poll(receipt, count), Poll::Ready(Ok(()))))
    );
    assert!(wakers.iter().all(|count| count.0.load(Ordering::Acquire) == 1), "each once");
    let likes = world.open().unwrap().counters("likes").unwrap();
    assert_eq!(likes.get_many(&["futures", "threads"]).unwrap(), [FUTURES as i64, THREADS as i64]);
}

#[test]
fn each_of_64_threads_gets_its_turn_however_the_others_press() {
    const PRESSING: usize = 58;
    let world = World::new();
    for durability in [Durability::Group, Durability::Manual, Durability::Immediate] {
        let small = Options { durability, group_window: Duration::from_micros(100), ..options() };
        let store = world.open_threaded(Options { compaction_threshold_bytes: 4_096, ..small }).unwrap();
        let (likes, done) = (store.counters("likes").unwrap(), AtomicBool::new(false));
        let before = likes.get("pressed").unwrap();
        let patient: [&(dyn Fn(i64) + Sync); 6] = [
            &|n| likes.add("waited", n % 2).unwrap().wait().unwrap(),
            &|_| store.batch().add(&likes, "pressed", 1).add(&likes, "pressed", -1).commit().unwrap().wait().unwrap(),
            &|_| store.sync().unwrap(),
            &|_| assert!(!likes.top(3).unwrap().is_empty()),
            &|_| assert!(likes.iter().all(|counter| counter.is_ok())),
            &|n| {
                if n % 5 == 0 {
                    store.compact().unwrap()
                }
            },
        ];
        let pressed: i64 = thread::scope(|scope| {
            // These never pause. That the test ends shows that those who wait, read, compact and subscribe get a turn.
            let pressing: Vec<_> = (0..PRESSING)
                .map(|n| {
                    let (likes, done) = (&likes, &done);
                    scope.spawn(move || {
                        let mut added = 0;
                        // Each of them gets some turns too, also where the others have done their part already.
                        while !done.load(Ordering::Acquire) || added < 10 {
                            likes.add("pressed", 1).unwrap();
                            likes.add(format!("own-{n}"), 1).unwrap();
                            added += 1;
                        }
                        added
                    })
                })
                .collect();
            let patient = patient.map(|call| scope.spawn(move || (0..10).for_each(call)));
            patient.into_iter().for_each(|patient| patient.join().unwrap());
            done.store(true, Ordering::Release);
            pressing.into_iter().map(|pressing| pressing.join().unwrap()).sum()
        });
        store.close().unwrap();
        let likes = world.open().unwrap().counters("likes").unwrap();
        assert_eq!(likes.get("pressed").unwrap() - before, pressed, "{durability:?}");
    }
}

#[test]
fn the_largest_batch_of_new_counters_survives_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let likes = store.counters("likes").unwrap();
    let mut batch = store.batch();
    for n in 0..=MAX_BATCH_CHANGES as u64 {
        batch.add(&likes, n.to_le_bytes(), 1);
    }
    assert!(matches!(batch.commit(), Err(Error::BatchTooLarge { changes }) if changes == MAX_BATCH_CHANGES + 1));
    assert!(likes.is_empty().unwrap());
    batch.clear();
    for n in 0..MAX_BATCH_CHANGES as u64 {
        batch.add(&likes, n.to_le_bytes(), n as i64);
    }
    batch.commit().unwrap().wait().unwrap();
    store.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.recovery().frames, store.recovery().counters), (1, MAX_BATCH_CHANGES as u64));
    let likes = store.counters("likes").unwrap();
    let (most, sum) = (MAX_BATCH_CHANGES as i64, likes.iter().map(|counter| counter.unwrap().1).sum::<i64>());
    assert_eq!(sum, most * (most - 1) / 2);
    assert_eq!(likes.top(1).unwrap()[0].1, most - 1);
}

#[test]
fn a_batch_of_the_longest_keys_may_be_larger_than_a_segment() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    let mut batch = store.batch();
    for n in 0..4_096u32 {
        let mut key = vec![0xff; plaudit::MAX_KEY_BYTES];
        key[..4].copy_from_slice(&n.to_le_bytes());
        batch.add(&likes, key, i64::from(n));
    }
    batch.commit().unwrap();
    store.sync().unwrap();
    likes.add("after", 1).unwrap();
    store.close().unwrap();
    let store = world.open().unwrap();
    assert_eq!((store.recovery().frames, store.recovery().counters), (2, 4_097));
}
