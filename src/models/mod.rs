//! Models of the epoch protocol, of the waits, of death and of closing, checked by loom.
//!
//! Each is explored to the end: every schedule of its threads and every value that an atomic may read under the memory
//! model, with no bound on preemptions. What bounds a model is what it states: its threads, and what each does once.
//! Equal schedules (that differ only in the order of independent steps) are run once.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release model -- --nocapture`

mod hot;
mod likes;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::thread;

use crate::commit::{Group, Shared};
use crate::drive;
use crate::engine::{Driver, Environment};
use crate::error::Error;
use crate::manifest::{Manifest, ManifestFile};
use crate::options::{AtBound, CounterOptions, Options, SnapshotHome};
use crate::shard::{Applied, BatchChange, Change, Changes, Operation, Pending, Refusal, Shards};
use crate::stats::Meter;
use crate::storage::sim::{SimClock, SimDisk, Survival};
use crate::store::Store;
use crate::subscription::Subscribers;
use crate::sync::{AtomicBool, Ordering};

const FREE: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };

fn shards(count: usize) -> Arc<Shards> {
    let shards = Shards::new(count, 0);
    shards.add_namespace(0, None);
    Arc::new(shards)
}

/// Prints how many schedules there were.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Opening and closing a store takes many locks that nobody competes for.
    builder.max_branches = 100_000;
    let schedules = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&schedules);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!("{:?}: {schedules:?} schedules, all there are", std::thread::current().name());
}

/// A thread that adds once.
fn adder(shards: &Arc<Shards>) -> thread::JoinHandle<Result<Applied, Refusal>> {
    let shards = Arc::clone(shards);
    thread::spawn(move || shards.apply(0, b"a", Change::Add(1), &FREE))
}

/// One of a batch of adds.
fn add_in_batch(key: &[u8]) -> BatchChange<'_> {
    let operation = Operation::Count { change: Change::Add(1), bounds: &FREE };
    BatchChange { namespace: 0, key, operation }
}

/// Takes an epoch as the committer does.
fn take(shards: &Shards) -> (u64, Vec<Pending>) {
    shards.settle();
    let epoch = shards.advance();
    let mut collected: Vec<Changes> = (0..shards.count()).map(|_| Changes::default()).collect();
    shards.collect(epoch, &mut collected);
    (epoch, collected.into_iter().flat_map(|changes| changes.counters).collect())
}

fn sum(changes: &[Pending]) -> i128 {
    changes.iter().map(Pending::delta).sum()
}

/// Two threads, one add each; the committer takes two epochs and then the rest. Every add is in exactly the epoch
/// that it was told. Fails when `apply` reads the epoch before it takes the lock, or when `collect` takes the open
/// buffer of the next epoch.
#[test]
fn model_every_add_is_in_the_epoch_that_it_was_told() {
    check(|| {
        let shards = shards(1);
        let adders = [adder(&shards), adder(&shards)];
        let mut taken = vec![take(&shards), take(&shards)];
        let told: Vec<u64> = adders.into_iter().map(|adder| adder.join().unwrap().unwrap().epoch).collect();
        taken.push(take(&shards));
        for (epoch, changes) in taken {
            let expected = told.iter().filter(|&&told| told == epoch).count();
            assert_eq!(sum(&changes), expected as i128, "epoch {epoch}, told {told:?}");
        }
    });
}

/// A batch over two shards, and the committer. The batch is in one epoch, whole. Fails when the epoch is read for each
/// shard, or before all locks are held.
#[test]
fn model_a_batch_over_two_shards_is_in_one_epoch() {
    check(|| {
        let shards = shards(2);
        let batch = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || {
                // With seed 0 the keys 0 to 3 are in both shards.
                let keys: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];
                shards.apply_batch(&keys.map(add_in_batch), &mut Vec::new()).unwrap().0
            })
        };
        let mut taken = vec![take(&shards)];
        let told = batch.join().unwrap();
        taken.push(take(&shards));
        for (epoch, changes) in taken {
            assert_eq!(changes.len(), if epoch == told { 4 } else { 0 });
        }
    });
}

/// Two batches over the same two shards in opposite order: neither waits for the other for ever. Fails when the locks
/// are taken in the order of the batch.
#[test]
fn model_batches_do_not_deadlock() {
    check(|| {
        let shards = shards(2);
        let run = |shards: Arc<Shards>, keys: [&'static [u8]; 4]| {
            thread::spawn(move || shards.apply_batch(&keys.map(add_in_batch), &mut Vec::new()).map(drop))
        };
        let forward = run(Arc::clone(&shards), [b"0", b"1", b"2", b"3"]);
        let backward = run(Arc::clone(&shards), [b"3", b"2", b"1", b"0"]);
        forward.join().unwrap().unwrap();
        backward.join().unwrap().unwrap();
        assert_eq!(sum(&take(&shards).1), 8);
    });
}

/// The mark that an epoch has changes is never lost: when an add has returned, the open epoch is marked or the add's
/// epoch was taken. Fails when the mark is cleared in a step of its own after the advance.
#[test]
fn model_no_change_is_left_unannounced() {
    check(|| {
        let shards = shards(1);
        let adder = adder(&shards);
        let (taken, changes) = take(&shards);
        let told = adder.join().unwrap().unwrap().epoch;
        if told == taken {
            assert_eq!(changes.len(), 1);
        } else {
            assert!(shards.is_dirty() && shards.newest_epoch() == told);
        }
    });
}

/// The store is halted beside an add. The add is refused, or its epoch is marked, so that a snapshot that sees it waits
/// for it. Fails when `mark_dirty` gives up because the halt changed the word.
#[test]
fn model_a_halt_keeps_no_mark_away() {
    check(|| {
        let shards = shards(1);
        let adder = adder(&shards);
        shards.halt();
        if let Ok(applied) = adder.join().unwrap() {
            assert_eq!(shards.newest_epoch(), applied.epoch);
        }
    });
}

/// Two waiters, for an epoch and the one after; the committer publishes both. Everyone is woken. Fails when the
/// condition is checked without the lock, or when `publish` wakes only the other parity's waiters.
#[test]
fn model_every_waiter_is_woken_by_its_epoch() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let wait = |group: Arc<Group>, epoch| thread::spawn(move || group.wait(epoch));
        let waiters = [wait(Arc::clone(&group), 1), wait(Arc::clone(&group), 2)];
        group.publish(1);
        group.publish(2);
        for waiter in waiters {
            assert!(waiter.join().unwrap().is_ok());
        }
    });
}

/// Two waiters of one epoch, while the committer publishes it. Both are woken. Fails when `publish` wakes one only.
#[test]
fn model_all_waiters_of_an_epoch_are_woken() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let wait = |group: Arc<Group>| thread::spawn(move || group.wait(1));
        let waiters = [wait(Arc::clone(&group)), wait(Arc::clone(&group))];
        group.publish(1);
        for waiter in waiters {
            assert!(waiter.join().unwrap().is_ok());
        }
    });
}

/// A future is polled once while the committer publishes its epoch. It is ready, or it is woken. Fails when `poll`
/// looks for the answer before it takes the lock, or when `publish` keeps the wakers that it answers.
#[test]
fn model_a_future_is_ready_or_woken() {
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let woken = Arc::new(Flag(AtomicBool::new(false)));
        let poller = {
            let (group, waker) = (Arc::clone(&group), Waker::from(Arc::clone(&woken)));
            thread::spawn(move || group.poll(1, &mut None, &Context::from_waker(&waker)))
        };
        group.publish(1);
        group.wake();
        match poller.join().unwrap() {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => assert!(woken.0.load(Ordering::Acquire)),
        }
    });
}

/// The committer dies; all who wait, for whichever epoch, are answered with the reason. Fails when `stop` wakes before
/// it stores the reason, and when it wakes those of one parity only.
#[test]
fn model_a_dead_committer_leaves_nobody_asleep() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let wait = |group: Arc<Group>, epoch| thread::spawn(move || group.wait(epoch));
        let waiters = [wait(Arc::clone(&group), 1), wait(Arc::clone(&group), 2)];
        group.stop(Error::Closed);
        for waiter in waiters {
            assert!(waiter.join().unwrap().is_err());
        }
    });
}

/// The committer's thread sleeps while an add announces itself. It wakes. Fails when `announce` does not notify, or
/// sets its flag without the lock.
#[test]
fn model_an_add_wakes_the_committer() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let committer = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.sleep(1, None))
        };
        group.announce();
        committer.join().unwrap();
    });
}

/// The committer's thread sleeps through a group window while a sync asks for its epoch. It wakes. Fails when `request`
/// does not notify.
#[test]
fn model_a_sync_ends_the_committers_window() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let committer = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.sleep(1, Some(Duration::from_secs(1))))
        };
        group.announce();
        group.request(1);
        committer.join().unwrap();
    });
}

/// A thread of the store panics beside a change that is waited for and a subscriber. Both are answered, with the
/// reason. Fails when `drive::spawn` does not catch the panic, when `poison` halts before it stores the reason, or
/// when it does not end the subscriptions.
#[test]
fn model_a_thread_that_dies_leaves_nobody_asleep() {
    check(|| {
        let manifest = ManifestFile::create(Arc::new(SimDisk::new()), "/".as_ref(), Manifest::new(1, 1)).unwrap();
        let shared = Shared {
            shards: shards(1),
            group: Arc::new(Group::new(0, false, true)),
            manifest: Arc::new(manifest),
            subscribers: Arc::new(Subscribers::default()),
            meter: Arc::new(Meter::default()),
            clock: Arc::new(SimClock::new()),
        };
        let subscription = shared.subscribers.subscribe(1);
        let subscriber = thread::spawn(move || subscription.next());
        let dying = drive::spawn("committer", shared.clone(), || resume_unwind(Box::new("dead"))).unwrap();
        let answer = match shared.shards.apply(0, b"a", Change::Add(1), &FREE) {
            Ok(applied) => shared.group.wait(applied.epoch),
            Err(_) => Err(shared.group.stopped().expect("who is refused is told the reason")),
        };
        let Err(Error::Poisoned { cause }) = answer else { panic!("{answer:?}") };
        assert!(matches!(*cause, Error::Panicked { .. }));
        assert_eq!(subscriber.join().unwrap(), None);
        drive::join(dying);
    });
}

/// Close against an add: the add is refused, or the last collection has it. Fails when `halt` comes after it.
#[test]
fn model_close_takes_every_add_that_was_not_refused() {
    check(|| {
        let shards = shards(1);
        let adder = adder(&shards);
        shards.halt();
        let (_, changes) = take(&shards);
        match adder.join().unwrap() {
            Ok(_) => assert_eq!(changes.len(), 1),
            Err(refusal) => assert!(refusal == Refusal::Halted && changes.is_empty()),
        }
    });
}

fn open(disk: &SimDisk) -> Store {
    open_with_shards(disk, 2)
}

fn open_with_shards(disk: &SimDisk, shards: usize) -> Store {
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(SimClock::new()),
        driver: Driver::Caller,
        seed: Some(1),
    };
    let small = Options { shards, segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() };
    Store::open_in(environment, "/store", small).unwrap()
}

/// A whole store on the simulated disk is closed beside an add. The add is refused, or it is on the disk when the close
/// has answered; a later one is refused. Fails when `Committer::halt` halts after its last commit.
#[test]
fn model_an_add_beside_a_close_is_refused_or_durable() {
    check(|| {
        let disk = SimDisk::new();
        let store = open(&disk);
        let likes = store.counters("likes").unwrap();
        let adder = {
            let likes = likes.clone();
            thread::spawn(move || likes.add("a", 1).map(|_| ()))
        };
        store.close().unwrap();
        let closed = disk.power_cut(Survival::Nothing, 0);
        assert!(matches!(likes.add("b", 1), Err(Error::Closed)));
        let found = open(&closed).counters("likes").unwrap().get("a").unwrap();
        match adder.join().unwrap() {
            Ok(()) => assert_eq!(found, 1),
            Err(error) => assert!(matches!(error, Error::Closed) && found == 0, "{error:?}, found {found}"),
        }
    });
}

/// A batch over both shards of a whole store, beside a sync and a power cut. It is on the disk whole or not at all.
/// Fails as `model_a_batch_over_two_shards_is_in_one_epoch` does, and when `Committer::seal` collects before it
/// advances.
#[test]
fn model_a_batch_beside_the_committer_is_durable_whole() {
    check(|| {
        let disk = SimDisk::new();
        let store = open(&disk);
        let likes = store.counters("likes").unwrap();
        // So that the sync has something to seal, whatever the batch does.
        likes.add("0", 1).unwrap();
        let batch = {
            let (store, likes) = (store.clone(), likes.clone());
            thread::spawn(move || {
                let mut batch = store.batch();
                for key in ["0", "1", "2", "3", "4", "5", "6", "7"] {
                    batch.add(&likes, key, 1);
                }
                batch.commit().map(|_| ())
            })
        };
        store.sync().unwrap();
        let found = |disk: SimDisk| {
            let likes = open(&disk).counters("likes").unwrap();
            (likes.get("0").unwrap(), likes.len().unwrap())
        };
        let during = found(disk.power_cut(Survival::Nothing, 0));
        assert!(during == (1, 1) || during == (2, 8), "{during:?}");
        batch.join().unwrap().unwrap();
        store.sync().unwrap();
        assert_eq!(found(disk.power_cut(Survival::Nothing, 0)), (2, 8));
    });
}
