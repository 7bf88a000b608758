//! What the threads of a schedule do with the store: workers that count and like, and one that takes care of it.

use plaudit::storage::sim::SimDisk;
use plaudit::{Counters, Durability, Likes, Receipt, Result, Store};
use shuttle::future;

use crate::journal::{Counts, Journal};
use crate::likes::{self, Own};
use crate::support::Random;

/// What a worker changes: counters, and likes.
pub(crate) struct Handles<'a> {
    pub(crate) store: &'a Store,
    pub(crate) totals: Counters,
    pub(crate) videos: Likes,
    /// The worker's number, and its viewer.
    pub(crate) worker: u64,
    /// A key that no other worker uses.
    pub(crate) own: String,
    /// Whether a change returns once it is durable, so that a refused one may have been made.
    pub(crate) immediate: bool,
}

/// Counts and likes until the store refuses, or for a few rounds.
pub(crate) fn work(store: &Store, worker: u64, durability: Durability, mut random: Random) -> Journal {
    let mut journal = Journal::default();
    // Some keys are so long that a few of them fill a segment.
    let own = if worker == 0 { format!("{worker:->700}") } else { format!("own-{worker}") };
    let opened = store.existing_counters("totals").and_then(|totals| Ok((totals, store.existing_likes("videos")?)));
    let (totals, videos) = match opened {
        Ok(opened) => opened,
        Err(error) => return Journal { failures: vec![error], ..journal },
    };
    let handles = Handles { store, totals, videos, worker, own, immediate: durability == Durability::Immediate };
    let mut edges = Own::default();
    for _ in 0..1 + random.below(4) {
        let done = match random.below(6) {
            0 => batch(&handles, &mut random, &mut journal),
            5 => add_hot(&handles, &mut random, &mut journal),
            1 => count(&handles, &mut random, &mut journal),
            _ => likes::change(&handles, &mut edges, &mut random, &mut journal),
        };
        if !journal.goes_on(done) {
            break;
        }
    }
    journal
}

fn count(handles: &Handles<'_>, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let Handles { totals, own, immediate, .. } = handles;
    let key = if random.below(2) == 0 { "shared" } else { own };
    let changed = match random.below(4) {
        2 if !immediate => totals.set(key, random.below(5) as i64),
        3 if !immediate => totals.remove(key),
        _ => totals.add(key, 1),
    };
    // What was refused was not done, but for a change whose wait is part of the call.
    let receipt = changed.inspect_err(|_| {
        if *immediate {
            journal.unknown.push(Counts::from([(key.to_owned(), 1)]));
        }
    })?;
    if receipt.changed() {
        journal.note(receipt.epoch(), &Counts::from([(key.to_owned(), receipt.delta())]));
    }
    settle(handles, receipt, random, journal).map(drop)
}

/// Waits for a change in one of the ways there are, or does not; whether it is durable.
pub(crate) fn settle(
    handles: &Handles<'_>,
    receipt: Receipt<'_>,
    random: &mut Random,
    journal: &mut Journal,
) -> Result<bool> {
    let epoch = receipt.epoch();
    match random.below(5) {
        0 => receipt.wait()?,
        1 => receipt.detach().wait()?,
        2 => future::block_on(receipt)?,
        3 => {
            handles.store.sync()?;
            journal.acknowledge(journal.epochs.keys().copied().max().unwrap_or(0));
        }
        _ if handles.immediate => {}
        _ => return Ok(false),
    }
    journal.acknowledge(epoch);
    Ok(true)
}

/// Some adds by a handle to the counter that all workers have in common, which is seen by whoever reads it then.
fn add_hot(handles: &Handles<'_>, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let Handles { store, immediate, .. } = handles;
    let live = store.existing_counters("live")?;
    let hot = live.hot("stream")?;
    for _ in 0..1 + random.below(3) {
        let added = hot.add(1);
        if added.is_err() {
            journal.hot.unknown += i64::from(*immediate);
            return added;
        }
        journal.hot.added += 1;
        journal.hot.acknowledged += i64::from(*immediate);
    }
    match random.below(5) {
        0 => hot.receipt()?.wait()?,
        1 => hot.receipt().and_then(future::block_on)?,
        2 => {
            store.sync()?;
            journal.acknowledge(journal.epochs.keys().copied().max().unwrap_or(0));
        }
        3 => {
            let seen = live.get("stream")?;
            assert!(seen >= journal.hot.added, "{seen} of {} own", journal.hot.added);
            return Ok(());
        }
        _ => return Ok(()),
    }
    journal.hot.acknowledged = journal.hot.added;
    Ok(())
}

/// A batch over both shards.
fn batch(handles: &Handles<'_>, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let Handles { store, totals, own, immediate, .. } = handles;
    let changes = [("shared", 1), (own, 2), ("sum", -3), ("total", 4)];
    let mut batch = store.batch();
    for (key, delta) in changes {
        batch.add(totals, key, delta);
    }
    let counts = changes.iter().map(|(key, delta)| ((*key).to_owned(), i128::from(*delta))).collect();
    let receipt = batch.commit().inspect_err(|_| {
        if *immediate {
            journal.unknown.push(Counts::clone(&counts));
        }
    })?;
    let epoch = receipt.epoch();
    journal.note(epoch, &counts);
    match random.below(3) {
        0 => receipt.wait()?,
        1 => future::block_on(receipt)?,
        _ if *immediate => {}
        _ => return Ok(()),
    }
    journal.acknowledge(epoch);
    Ok(())
}

/// Compacts, syncs, lets a namespace come and go, and in the end makes room on a full disk.
pub(crate) fn take_care(store: &Store, disk: &SimDisk, mut random: Random) -> Journal {
    let mut journal = Journal { other: vec![false], ..Journal::default() };
    for _ in 0..1 + random.below(3) {
        let done = match random.below(4) {
            0 | 1 => store.compact(),
            2 => store.sync(),
            _ => come_and_go(store, random.below(2) == 0, &mut journal),
        };
        if !journal.goes_on(done) {
            break;
        }
    }
    disk.set_capacity(None);
    journal
}

fn come_and_go(store: &Store, stays: bool, journal: &mut Journal) -> Result<()> {
    journal.other.push(true);
    let other = store.counters("other")?;
    journal.other = vec![true];
    other.add("a", 1)?;
    if !stays {
        journal.other.push(false);
        store.drop_namespace("other")?;
        journal.other = vec![false];
    }
    Ok(())
}
