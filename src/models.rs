//! Models of the epoch protocol and of the waits, checked exhaustively by loom within the bounds that each states.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release model`

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::commit::Group;
use crate::error::Error;
use crate::options::{AtBound, CounterOptions};
use crate::shard::{BatchChange, Change, Pending, Refusal, Shards};

const FREE: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };

fn shards(count: usize) -> Arc<Shards> {
    let shards = Shards::new(count, 0);
    shards.add_namespace(0);
    Arc::new(shards)
}

/// Preemptions are bounded at three, which finds nearly all faults (Musuvathi and Qadeer 2007) and keeps each model
/// under a minute.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Takes an epoch as the committer does.
fn take(shards: &Shards) -> (u64, Vec<Pending>) {
    let epoch = shards.advance();
    let mut collected = vec![Vec::new(); shards.count()];
    shards.collect(epoch, &mut collected);
    (epoch, collected.concat())
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
        let add = |shards: Arc<Shards>, key: &'static [u8]| {
            thread::spawn(move || shards.apply(0, key, Change::Add(1), &FREE).map(|applied| applied.epoch))
        };
        let adders = [add(Arc::clone(&shards), b"a"), add(Arc::clone(&shards), b"a")];
        let mut taken = vec![take(&shards), take(&shards)];
        let told: Vec<u64> = adders.into_iter().map(|adder| adder.join().unwrap().unwrap()).collect();
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
                let change = |key| BatchChange { namespace: 0, key, change: Change::Add(1), bounds: &FREE };
                shards.apply_batch(&keys.map(change), &mut Vec::new()).unwrap().0
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
            thread::spawn(move || {
                let change = |key| BatchChange { namespace: 0, key, change: Change::Add(1), bounds: &FREE };
                shards.apply_batch(&keys.map(change), &mut Vec::new()).map(drop)
            })
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
        let adder = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || shards.apply(0, b"a", Change::Add(1), &FREE).unwrap().epoch)
        };
        let (taken, changes) = take(&shards);
        let told = adder.join().unwrap();
        if told == taken {
            assert_eq!(changes.len(), 1);
        } else {
            assert!(shards.is_dirty() && shards.newest_epoch() == told);
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

/// The committer dies; whoever waits is answered with the reason. Fails when `stop` wakes before it stores the reason.
#[test]
fn model_a_dead_committer_leaves_nobody_asleep() {
    check(|| {
        let group = Arc::new(Group::new(0, false, true));
        let waiter = {
            let group = Arc::clone(&group);
            thread::spawn(move || group.wait(1))
        };
        group.stop(Error::Closed);
        assert!(waiter.join().unwrap().is_err());
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

/// A halt against an add: the epoch of a change that was taken is marked, so that whoever waits for everything done
/// so far waits for it too. Fails when `mark_dirty` gives up after its first try.
#[test]
fn model_a_halt_does_not_hide_a_change() {
    check(|| {
        let shards = shards(1);
        let adder = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || shards.apply(0, b"a", Change::Add(1), &FREE).map(|applied| applied.epoch))
        };
        shards.halt();
        if let Ok(epoch) = adder.join().unwrap() {
            assert!(shards.newest_epoch() >= epoch);
        }
    });
}

/// Close against an add: the add is refused, or the last collection has it. Fails when `halt` comes after it.
#[test]
fn model_close_takes_every_add_that_was_not_refused() {
    check(|| {
        let shards = shards(1);
        let adder = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || shards.apply(0, b"a", Change::Add(1), &FREE))
        };
        shards.halt();
        let (_, changes) = take(&shards);
        match adder.join().unwrap() {
            Ok(_) => assert_eq!(changes.len(), 1),
            Err(refusal) => assert!(refusal == Refusal::Halted && changes.is_empty()),
        }
    });
}
