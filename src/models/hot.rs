//! Models of the cells of hot counters.

use std::sync::Arc;

use loom::thread;

use super::{FREE, check, open_with_shards, shards, sum, take};
use crate::error::Error;
use crate::shard::{Change, Hot, Refusal, Shards};
use crate::storage::sim::{SimDisk, Survival};

const KEY: &[u8] = b"a";

fn cells(shards: &Shards) -> Arc<Hot> {
    shards.hot(0, KEY, &FREE, false).unwrap().0
}

/// Adds once, as a handle does.
fn add(shards: &Shards, hot: &Hot, cell: usize) -> Result<(), Refusal> {
    match shards.add_hot(hot, cell, 1)? {
        Some(_) => Ok(()),
        None => shards.apply(0, KEY, Change::Add(1), &FREE).map(drop),
    }
}

fn adder(shards: &Arc<Shards>, hot: &Arc<Hot>, cell: usize) -> thread::JoinHandle<Result<(), Refusal>> {
    let (shards, hot) = (Arc::clone(shards), Arc::clone(hot));
    thread::spawn(move || add(&shards, &hot, cell))
}

/// Two threads, an add each; the committer takes an epoch. Each add is in it, or the next epoch is marked; the two
/// epochs have each add once. Fails when `collect` does not take the cells, when whoever takes them does not mark the
/// epoch, or when a cell is not emptied.
#[test]
fn model_every_hot_add_is_taken_once_and_announced() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        let mut taken = sum(&take(&shards).1);
        let adders = [0, 1].map(|cell| adder(&shards, &hot, cell));
        taken += sum(&take(&shards).1);
        adders.into_iter().for_each(|adder| adder.join().unwrap().unwrap());
        if shards.is_dirty() {
            taken += sum(&take(&shards).1);
        }
        assert_eq!(taken, 2);
    });
}

/// A receipt for what a handle added before, beside the committer, which takes an epoch. By the epoch that it names
/// everything is taken. Fails when `look_at_hot` answers with the epoch before the one that the cells went into.
#[test]
fn model_a_hot_receipt_names_an_epoch_that_has_the_add() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        let (_, created) = take(&shards);
        assert_eq!(sum(&created), 0);
        let adder = {
            let (shards, hot) = (Arc::clone(&shards), Arc::clone(&hot));
            thread::spawn(move || {
                add(&shards, &hot, 0).unwrap();
                shards.look_at_hot(&hot).unwrap()
            })
        };
        let (epoch, changes) = take(&shards);
        let seen = adder.join().unwrap();
        assert_eq!(seen.value, 1);
        if seen.epoch <= epoch {
            assert_eq!(sum(&changes), 1, "it is told epoch {}", seen.epoch);
        } else {
            assert_eq!(sum(&changes) + sum(&take(&shards).1), 1);
        }
    });
}

/// What a sync does: all that was added to cells before is in the epoch that it then waits for, or in one before. Fails
/// when the newest epoch is read before the cells are settled.
#[test]
fn model_a_sync_has_what_was_added_to_cells() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        take(&shards);
        let syncer = {
            let (shards, hot) = (Arc::clone(&shards), Arc::clone(&hot));
            thread::spawn(move || {
                add(&shards, &hot, 0).unwrap();
                shards.settle();
                shards.newest_epoch()
            })
        };
        let (epoch, changes) = take(&shards);
        if syncer.join().unwrap() <= epoch {
            assert_eq!(sum(&changes), 1);
        }
    });
}

/// An add of a handle beside a change of the counter, and a read after it. The change sees all or nothing of the add,
/// the read sees both. Fails when `lock` does not take the cells.
#[test]
fn model_a_hot_add_is_seen_by_whoever_looks_after_it() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        let adder = {
            let (shards, hot) = (Arc::clone(&shards), Arc::clone(&hot));
            thread::spawn(move || {
                add(&shards, &hot, 0).unwrap();
                assert!(shards.get(0, KEY).unwrap().unwrap() >= 1);
            })
        };
        let applied = shards.apply(0, KEY, Change::Add(1), &FREE).unwrap();
        assert!(applied.value == applied.previous + 1);
        adder.join().unwrap();
        assert_eq!(shards.get(0, KEY).unwrap(), Some(2));
    });
}

/// An add of a handle beside a change that leaves no room for it. The add comes first, or is refused. Fails when
/// `add_hot` looks whether its cell is open before it locks it, and when `lock` does not close the cells.
#[test]
fn model_a_hot_add_passes_no_end() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        let adder = adder(&shards, &hot, 0);
        shards.apply(0, KEY, Change::Set(i64::MAX), &FREE).unwrap();
        let added = adder.join().unwrap();
        assert!(matches!(added, Ok(()) | Err(Refusal::Overflow { value: i64::MAX, delta: 1 })), "{added:?}");
        assert_eq!(shards.get(0, KEY).unwrap(), Some(i64::MAX));
    });
}

/// The last of two handles goes beside an add of the other, whose thread lets go of it then. Nothing is lost, and the
/// cells are gone. Fails when `drop_hot` does not take the cells, and when it counts references instead of handles.
#[test]
fn model_the_last_handle_takes_all_with_it() {
    check(|| {
        let shards = shards(1);
        let hot = cells(&shards);
        let weak = Arc::downgrade(&hot);
        let other = {
            let (shards, hot) = (Arc::clone(&shards), Arc::clone(&hot));
            hot.share();
            thread::spawn(move || {
                add(&shards, &hot, 1).unwrap();
                shards.drop_hot(&hot);
                // The handle is gone, its reference not yet: the other one may go here.
                shards.get(0, KEY).unwrap();
            })
        };
        add(&shards, &hot, 0).unwrap();
        shards.drop_hot(&hot);
        drop(hot);
        other.join().unwrap();
        assert_eq!(shards.get(0, KEY).unwrap(), Some(2));
        assert!(weak.upgrade().is_none(), "the shard still has the cells");
    });
}

/// A whole store on the simulated disk is closed beside an add of a handle. The add is refused, or it is on the disk
/// when the close has answered. Fails when `add_hot` looks for the halt before it locks its cell, and when `lock` does
/// not take the cells.
#[test]
fn model_a_hot_add_beside_a_close_is_refused_or_durable() {
    check(|| {
        let disk = SimDisk::new();
        let store = open_with_shards(&disk, 1);
        let hot = store.counters("likes").unwrap().hot("a").unwrap();
        // The handle lives on, or its end would be one more thing that competes.
        let adder = thread::spawn(move || (hot.add(1), hot));
        store.close().unwrap();
        let closed = open_with_shards(&disk.power_cut(Survival::Nothing, 0), 1);
        let found = closed.counters("likes").unwrap().get("a").unwrap();
        match adder.join().unwrap().0 {
            Ok(()) => assert_eq!(found, 1),
            Err(error) => assert!(matches!(error, Error::Closed) && found == 0, "{error:?}, found {found}"),
        }
    });
}
