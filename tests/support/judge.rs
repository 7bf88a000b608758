//! Judges stores that were damaged: what the sweeps of files on the simulated disk and of sled's on the real one share.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use plaudit::{
    AtBound, Batch, Contents as Kind, CounterOptions, Counters, Error, LikeOptions, Likes, NamespaceInfo, Result,
    Store, ViewerIds,
};

use crate::support::{all_likes, check_viewers};

/// How a damaged store was found. What is not one of these is a failure of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Right,
    OlderSnapshot,
    LastFrame,
    Corrupt,
    NotAStore,
    Wrong,
}

pub type Table = BTreeMap<&'static str, BTreeMap<Outcome, usize>>;

#[derive(Debug, Clone, Default)]
pub struct Expected {
    pub right: Contents,
    /// The counts before the last whole frame. `None` where no frame may be missing.
    pub before_last: Option<Contents>,
    /// Whether an incomplete frame is at the end of the log, which must be reported.
    pub torn: bool,
}

/// Judges every damage, on all cores; prints how many had which outcome, and fails when one is wrong. `None` when the
/// environment asks for a single one.
pub fn sweep<D: fmt::Debug + Sync>(
    name: &str,
    damages: &[D],
    kind: impl Fn(&D) -> &'static str + Sync,
    judge: impl Fn(&D) -> Result<Outcome, String> + Sync,
) -> Option<Table> {
    let only = std::env::var("PLAUDIT_DAMAGE").ok();
    let selected = |index: usize| only.as_ref().is_none_or(|only| *only == format!("{name}:{index}"));
    let next = AtomicUsize::new(0);
    let table = Mutex::new((Table::new(), None));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(damage) = damages.get(index) else { return };
            if !selected(index) {
                continue;
            }
            let judged = catch_unwind(AssertUnwindSafe(|| judge(damage)));
            let judged = judged.unwrap_or_else(|_| Err("a panic".to_owned()));
            let mut table = table.lock();
            *table
                .0
                .entry(kind(damage))
                .or_default()
                .entry(*judged.as_ref().unwrap_or(&Outcome::Wrong))
                .or_default() += 1;
            if let Err(what) = judged {
                table.1.get_or_insert(format!(
                    "{damage:?}: {what}\nPLAUDIT_DAMAGE={name}:{index} cargo test --test 'corruption*'"
                ));
            }
        }
    };
    std::thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    let (table, wrong) = table.into_inner();
    print(name, &table);
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    only.is_none().then_some(table)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn print(name: &str, table: &Table) {
    println!(
        "| {name} | damaged | right | right, by the older snapshot | last frame left out, reported | error | wrong |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (kind, row) in table {
        let count = |outcomes: &[Outcome]| outcomes.iter().filter_map(|outcome| row.get(outcome)).sum::<usize>();
        let (right, older) = (count(&[Outcome::Right]), count(&[Outcome::OlderSnapshot]));
        let (last, errors) = (count(&[Outcome::LastFrame]), count(&[Outcome::Corrupt, Outcome::NotAStore]));
        let (wrong, all) = (count(&[Outcome::Wrong]), row.values().sum::<usize>());
        println!("| {kind} | {all} | {right} | {older} | {last} | {errors} | {wrong} |");
    }
}

/// Judges a store that opened although it is damaged, closes it, and looks again.
pub fn judge_found(
    store: Store,
    expected: &Expected,
    damaged: &[&Path],
    reopen: impl Fn() -> Result<Store>,
) -> Result<Outcome, String> {
    let text = |error: Error| format!("{error:?}");
    let report = store.recovery();
    if expected.torn && report.dropped_at.is_none() {
        return Err("the torn frame is not reported".to_owned());
    }
    let lost = report.dropped_at.is_some() && !holds(&store, &expected.right).map_err(text)?;
    let found = if lost { expected.before_last.as_ref() } else { Some(&expected.right) };
    let found = found.ok_or("a frame is missing")?;
    if !holds(&store, found).map_err(text)? {
        return Err(format!("other counts: {:?}\n{report:#?}", contents(&store)));
    }
    let outcome = match &report.damaged_generations[..] {
        _ if lost => Outcome::LastFrame,
        [] => Outcome::Right,
        [(_, error)] if damaged.iter().any(|file| names(error, file)) => Outcome::OlderSnapshot,
        other => return Err(format!("other snapshots are called damaged: {other:?}")),
    };
    store.close().map_err(text)?;
    let store = reopen().map_err(|error| format!("not opened after a clean close: {error:?}"))?;
    let same = store.recovery().closed_cleanly && holds(&store, found).map_err(text)?;
    if same { Ok(outcome) } else { Err(format!("other counts after a clean close: {:?}", contents(&store))) }
}

pub fn names(error: &Error, path: &Path) -> bool {
    matches!(error, Error::Corrupt { file, what, .. } if file.starts_with(path) && !what.is_empty())
}

/// Every namespace with its kind and options, and its counters, or its items and likes.
pub type Contents = BTreeMap<String, (Kind, BTreeMap<Vec<u8>, i64>)>;

pub fn contents(store: &Store) -> Contents {
    let inside = |info: &NamespaceInfo| {
        let inside = match info.contents {
            Kind::Likes(_) => likes(&store.existing_likes(&info.name).unwrap()),
            _ => {
                let counters = store.existing_counters(&info.name).unwrap();
                counters.iter().map(|entry| entry.unwrap()).map(|(key, n)| (key.to_vec(), n)).collect()
            }
        };
        (info.contents, inside)
    };
    store.namespaces().iter().map(|info| (info.name.clone(), inside(info))).collect()
}

fn likes(likes: &Likes) -> BTreeMap<Vec<u8>, i64> {
    all_likes(likes).into_iter().map(|(name, value)| (name.into_bytes(), value)).collect()
}

/// Whether a store holds exactly this. Every counter is looked up, and the lengths leave no room for another; likes
/// are compared from both sides.
pub fn holds(store: &Store, expected: &Contents) -> Result<bool> {
    let infos = store.namespaces();
    if infos.len() != expected.len() {
        return Ok(false);
    }
    for info in infos {
        let Some((kind, all)) = expected.get(&info.name) else { return Ok(false) };
        let same = *kind == info.contents
            && match kind {
                Kind::Likes(_) => {
                    let found = store.existing_likes(&info.name)?;
                    check_viewers(&found);
                    likes(&found) == *all
                }
                _ => holds_counters(&store.existing_counters(&info.name)?, all)?,
            };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds_counters(counters: &Counters, all: &BTreeMap<Vec<u8>, i64>) -> Result<bool> {
    let mut same = counters.len()? == all.len();
    for (key, value) in all {
        same = same && counters.get(key)? == *value && counters.contains(key)?;
    }
    Ok(same)
}

/// Fills a store with two snapshots and several segments.
pub fn fill(store: &Store) {
    fill_but_last(store);
    store.existing_counters("likes").unwrap().set("m".repeat(500), 1).unwrap();
    store.sync().unwrap();
}

/// Leaves out the last frame.
pub fn fill_but_last(store: &Store) {
    let options = CounterOptions { min: -1_000, max: 1_000, at_bound: AtBound::Clamp };
    let likes = store.counters("likes").unwrap();
    let bounded = store.counters_with("bounded", options).unwrap();
    let wide = LikeOptions { viewers: ViewerIds::U128, ..LikeOptions::default() };
    let (liked, by_uuid) = (store.likes("liked").unwrap(), store.likes_with("by uuid", wide).unwrap());
    for round in 0..12_i64 {
        let dropped = store.counters("dropped").unwrap();
        for n in 0..8_i64 {
            likes.add(format!("{n:->100}"), round * n - 9).unwrap();
            let mut batch = store.batch();
            batch.add(&bounded, format!("b-{n}"), 300 * (n - 4)).set(&likes, [0xff, n as u8], i64::MIN + round + n);
            batch.add(&dropped, format!("d-{n}"), 1).remove(&likes, format!("gone-{}", n - 1));
            batch.set(&likes, format!("gone-{n}"), i64::MAX);
            if round % 2 == 1 {
                like(&mut batch, &liked, &by_uuid, round as u64, n as u64);
            }
            batch.commit().unwrap();
            if n % 3 == 0 {
                store.sync().unwrap();
            }
        }
        liked.forget_viewer(3_u64).unwrap();
        by_uuid.remove_item("v-1").unwrap();
        likes.add("k".repeat(1_024), round).unwrap();
        store.sync().unwrap();
        if round % 2 == 0 {
            store.drop_namespace("dropped").unwrap();
        }
        if round == 2 || round == 5 {
            store.compact().unwrap();
        }
    }
}

/// Some of the likes are repeated, some come late, and some are taken back.
fn like(batch: &mut Batch, liked: &Likes, by_uuid: &Likes, round: u64, n: u64) {
    let (item, viewer) = (format!("v-{}", n % 3), (round + n) % 5);
    match n % 4 {
        0 => batch.unlike_at(liked, &item, viewer, round),
        1 => batch.like_at(by_uuid, &item, u128::MAX - u128::from(viewer), 20 - round),
        _ => batch.like_at(liked, &item, viewer, round),
    };
}

/// Changes of one more frame, of several sectors.
pub fn change(store: &Store) {
    let likes = store.existing_counters("likes").unwrap();
    (0..9).for_each(|n| drop(likes.add(format!("{n:+>140}"), 1).unwrap()));
    drop(likes.set("a new one".repeat(20), -7).unwrap());
    let liked = store.existing_likes("liked").unwrap();
    drop(liked.like_at("v-1", 77_u64, 100).unwrap());
    drop(liked.unlike_at("v-2", 4_u64, 100).unwrap());
}
