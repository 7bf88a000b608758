//! Power cut at any operation, also inside recovery: every acknowledged change is there exactly once, every batch is
//! whole or absent, and what was not acknowledged is there once or not at all. So are likes and unlikes, removed items
//! and forgotten viewers: each item's count is that of its likers, each viewer's list says the same, and a remembered
//! unlike still beats an older like. And every rule that this rests on is needed: when one is broken, some disk that a
//! cut leaves is wrong.
//!
//! A workload runs once, and the disk of every moment is kept. Each moment is cut in eight ways; an image is a disk
//! that differs from all others of its workload. Each is verified, recovered and compared; the power is cut inside that
//! recovery and it is recovered again; it goes on with changes and a compaction, and is opened twice more.
//!
//! ```console
//! cargo test --test crash                                                   # 100,000 images
//! PLAUDIT_IMAGES=10000000 cargo test --release --test crash -- --nocapture  # ten million
//! PLAUDIT_SEED=17 cargo test --test crash -- power_cut                      # one workload, as a failure names it
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "the parts of a test binary have no other user")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod disk;
mod images;
mod likes;
mod model;
mod mutations;
mod workload;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use disk::Moment;
use images::{Counts, examine};
use mutations::{MUTATIONS, Mutation, NOT_NEEDED};
use support::World;
use workload::record;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Runs the workload of a seed, and checks every image of it.
fn run(seed: u64, mutation: Option<&'static Mutation>, most: u64) -> (Counts, Result<(), String>) {
    match record(seed, mutation) {
        Ok(recording) => examine(&recording, mutation, most),
        Err(what) => (Counts::default(), Err(what)),
    }
}

/// Runs workloads on all cores until there were so many images.
fn campaign(target: u64) -> (Counts, u64) {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Mutex::new(Counts::default());
    let work = || {
        while done.load(Ordering::Relaxed) < target {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let (counts, result) = run(seed, None, u64::MAX);
            result.unwrap_or_else(|what| fail(seed, &what));
            done.fetch_add(counts.images, Ordering::Relaxed);
            total.lock().unwrap().add(counts);
        }
    };
    on_all_cores(&work);
    (total.into_inner().unwrap(), next.into_inner())
}

fn on_all_cores(work: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

fn fail(seed: u64, what: &str) -> ! {
    panic!("seed {seed}: {what}\nonce more: PLAUDIT_SEED={seed} cargo test --test crash -- power_cut");
}

#[test]
fn a_power_cut_at_any_moment_loses_and_doubles_nothing() {
    let started = Instant::now();
    let (counts, workloads) = match from_environment("PLAUDIT_SEED") {
        Some(seed) => {
            let (counts, result) = run(seed, None, u64::MAX);
            result.unwrap_or_else(|what| fail(seed, &what));
            (counts, 1)
        }
        None => campaign(from_environment("PLAUDIT_IMAGES").unwrap_or(100_000)),
    };
    let Counts { images, inside_recovery, fallbacks, incomplete, recoveries } = counts;
    println!(
        "{images} images of {workloads} workloads, {inside_recovery} of them cut inside recovery; {recoveries} recoveries, \
         {fallbacks} past a damaged generation, {incomplete} left out an incomplete epoch; none wrong; {:.0} s",
        started.elapsed().as_secs_f64(),
    );
}

/// How many images a broken rule may take to be noticed.
const MOST_IMAGES_UNNOTICED: u64 = 20_000;

/// The images that it took to notice that a rule is broken, and what was wrong; `None` when nothing was in `most`.
fn notice(mutation: &'static Mutation, most: u64) -> Option<(u64, u64, String)> {
    let mut images = 0;
    for seed in 0.. {
        let (counts, result) = run(seed, Some(mutation), most - images);
        images += counts.images;
        if let Err(what) = result {
            let (_, sound) = run(seed, None, u64::MAX);
            sound.unwrap_or_else(|what| fail(seed, &what));
            return Some((images, seed, what));
        }
        if images >= most {
            break;
        }
    }
    None
}

#[test]
fn every_rule_of_durability_is_needed() {
    let next = AtomicUsize::new(0);
    let caught = Mutex::new(vec![false; MUTATIONS.len()]);
    on_all_cores(&|| {
        while let Some((mutation, index)) = take(&next) {
            let noticed = notice(mutation, MOST_IMAGES_UNNOTICED);
            caught.lock().unwrap()[index] = noticed.is_some();
            match noticed {
                Some((images, seed, what)) => println!("{}: {images} images, seed {seed}, {what}", mutation.name),
                None => println!("{}: not noticed", mutation.name),
            }
        }
    });
    let caught = caught.into_inner().unwrap();
    let missed = MUTATIONS.iter().zip(&caught).filter(|(_, caught)| !**caught);
    let missed: Vec<_> = missed.map(|(mutation, _)| mutation.name).collect();
    println!("{} of {} caught", MUTATIONS.len() - missed.len(), MUTATIONS.len());
    assert!(missed.is_empty(), "no image is wrong without: {missed:?}");
}

#[test]
fn what_only_gives_room_back_is_not_needed() {
    for mutation in NOT_NEEDED {
        let noticed = notice(mutation, 2_500);
        assert!(noticed.is_none(), "without \"{}\": {noticed:?}", mutation.name);
    }
}

fn take(next: &AtomicUsize) -> Option<(&'static Mutation, usize)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    MUTATIONS.get(index).map(|mutation| (mutation, index))
}

/// What the first workloads must have done, so that power is cut in it.
const MET: [&str; 35] = [
    "1 shards",
    "2 shards",
    "4 shards",
    "Group durability",
    "Immediate durability",
    "Manual durability",
    "an event that is too old",
    "close",
    "close on a full disk",
    "close without its seal on a full disk",
    "compaction",
    "compaction on a full disk",
    "compaction that failed",
    "creation of a namespace",
    "creation of a namespace of likes",
    "creation of a namespace on a full disk",
    "drop of a namespace",
    "end by Close",
    "end by Drop",
    "end by FailedSync",
    "end by Kill",
    "end by PowerCut",
    "end by Rot",
    "forgetting of a viewer",
    "forgetting of a viewer of many items",
    "many likes of a viewer",
    "many likes of an item",
    "open from a snapshot",
    "open from an older snapshot",
    "open of a log with a seal",
    "open with an incomplete epoch",
    "removal of an item",
    "several segments",
    "segments removed",
    "sync on a full disk",
];

#[test]
fn the_workloads_do_everything_that_power_is_to_be_cut_in() {
    let mut met = BTreeMap::new();
    for seed in 0..400 {
        let recording = record(seed, None).unwrap_or_else(|what| fail(seed, &what));
        recording.met.into_iter().for_each(|(what, times)| *met.entry(what).or_insert(0) += times);
    }
    println!("{met:?}");
    let missing: Vec<_> = MET.into_iter().filter(|what| met.get(*what).is_none_or(|times| *times < 5)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let disks = |seed| {
        let contents = |moment: &Moment| World::on(moment.disk.clone()).files();
        record(seed, None).unwrap().moments.iter().map(contents).collect::<Vec<_>>()
    };
    for seed in 0..10 {
        assert!(disks(seed) == disks(seed), "seed {seed}");
    }
}
