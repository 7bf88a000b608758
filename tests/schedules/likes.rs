//! Likes under any schedule. Each item has a part in which its threads meet:
//!
//! - `hot`, and the worker's own: each worker likes and unlikes for its own viewer, with times of its own, so that it
//!   knows what every event does; and on `hot` all workers do for one viewer more.
//! - `direct`: the same without times.
//! - `t0`, `t1`: changed by batches alone, with a tally of both.
//! - `fleeting`: liked by each worker's viewer, and removed by any.
//! - `x0` to `x3`: liked by one viewer, whom any worker forgets. Only the sum of their counts is known.

use std::collections::BTreeMap;

use plaudit::{Likes, Receipt, Result, Store};

use crate::journal::{Counts, Journal, add_counts};
use crate::support::Random;
use crate::work::{Handles, settle};

/// The viewer for whom every worker likes and unlikes the same item.
const SHARED: u64 = 8;

/// The viewer whom any worker forgets.
const FORGOTTEN: u64 = 9;

/// Later than any look at a schedule's clock.
const LATE_MS: u64 = 1_000_000;

/// What a worker knows of its own viewer's edges: the time of the newest event, and whether it was a like.
#[derive(Debug, Default)]
pub(crate) struct Own {
    edges: BTreeMap<String, (u64, bool)>,
    events: u64,
}

impl Own {
    fn is_liked(&self, item: &str) -> bool {
        self.edges.get(item).is_some_and(|(_, liked)| *liked)
    }

    /// A time after all before, with room for direct likes in between.
    fn later(&mut self) -> u64 {
        self.events += 1;
        LATE_MS + 1_000 * self.events
    }

    /// What an event of the viewer changes. It happens, or the worker does not go on.
    fn change(&mut self, viewer: u64, item: &str, time_ms: u64, liked: bool) -> Counts {
        let before = self.edges.get(item).copied();
        if before.is_some_and(|(newest_ms, _)| newest_ms >= time_ms) {
            return Counts::new();
        }
        self.edges.insert(item.to_owned(), (time_ms, liked));
        let mut changes = Counts::new();
        for ((time_ms, liked), sign) in before.map(|edge| (edge, -1)).into_iter().chain([((time_ms, liked), 1)]) {
            if liked {
                add_counts(&mut changes, &like_of(item, viewer, time_ms, sign));
            }
        }
        changes
    }
}

/// What a like counts for: for its item, and for itself.
fn like_of(item: &str, viewer: u64, time_ms: u64, sign: i128) -> Counts {
    let mut counts = Counts::from([(count_name(item), sign)]);
    counts.extend(edge_name(item, viewer).map(|name| (name, sign * weight(item, viewer, time_ms))));
    counts
}

/// What the count of an item is called.
pub(crate) fn count_name(item: &str) -> String {
    if item.starts_with('x') { "count of x".to_owned() } else { format!("count of {item}") }
}

/// What the like of a viewer is called, where it is known whose it is.
fn edge_name(item: &str, viewer: u64) -> Option<String> {
    let is_known = item != "fleeting" && !item.starts_with('x');
    is_known.then(|| format!("{item} by {viewer}"))
}

/// Where its time is known, a like weighs by it.
fn weight(item: &str, viewer: u64, time_ms: u64) -> i128 {
    let is_timed = viewer != SHARED && item != "direct";
    if is_timed { i128::from(time_ms) } else { 1 }
}

/// What the likes that are known by their viewers count for, without their items.
pub(crate) fn edge_counts<'a>(edges: impl Iterator<Item = (&'a str, u64, u64)>) -> Counts {
    edges
        .filter_map(|(item, viewer, time_ms)| Some((edge_name(item, viewer)?, weight(item, viewer, time_ms))))
        .collect()
}

/// Likes or unlikes, removes an item, or forgets a viewer.
pub(crate) fn change(handles: &Handles<'_>, own: &mut Own, random: &mut Random, journal: &mut Journal) -> Result<()> {
    // What a refused change would have done is known of the own viewer alone.
    match random.below(if handles.immediate { 4 } else { 12 }) {
        0 => batch_with_tally(handles, own, random, journal),
        1 => direct(handles, own, random, journal),
        2 | 3 => event(handles, own, random, journal),
        _ => beside_others(handles, random, journal),
    }
}

/// An event of the own viewer with a time, which may be one that was sent before.
fn event(handles: &Handles<'_>, own: &mut Own, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let (item, liked) = (if random.below(2) == 0 { "hot" } else { &*handles.own }, random.below(3) > 0);
    let time_ms = if own.edges.contains_key(item) && random.below(3) == 0 { 1 } else { own.later() };
    let (was_liked, viewer) = (own.is_liked(item), handles.worker);
    let changes = own.change(viewer, item, time_ms, liked);
    let videos = &handles.videos;
    let called = if liked { videos.like_at(item, viewer, time_ms) } else { videos.unlike_at(item, viewer, time_ms) };
    finish(handles, own, item, was_liked, changes, called, random, journal)
}

/// A like or an unlike of the own viewer, now.
fn direct(handles: &Handles<'_>, own: &mut Own, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let (item, viewer, liked) = ("direct", handles.worker, random.below(2) == 0);
    let was_liked = own.is_liked(item);
    let time_ms = own.later();
    let changes = own.change(viewer, item, time_ms, liked);
    let called = if liked { handles.videos.like(item, viewer) } else { handles.videos.unlike(item, viewer) };
    finish(handles, own, item, was_liked, changes, called, random, journal)
}

#[allow(clippy::too_many_arguments, reason = "what a worker knows of one event")]
fn finish(
    handles: &Handles<'_>,
    own: &Own,
    item: &str,
    was_liked: bool,
    changes: Counts,
    called: Result<Receipt<'_>>,
    random: &mut Random,
    journal: &mut Journal,
) -> Result<()> {
    let receipt = called.inspect_err(|_| {
        if handles.immediate {
            journal.unknown.push(changes.clone());
        }
    })?;
    let is_liked = own.is_liked(item);
    assert_eq!(receipt.delta(), i128::from(is_liked) - i128::from(was_liked), "{item} of {own:?}");
    if !changes.is_empty() {
        journal.note(receipt.epoch(), &changes);
    }
    let is_durable = settle(handles, receipt, random, journal)?;
    let viewer = handles.worker;
    assert_eq!(handles.videos.has_liked(item, viewer)?, is_liked, "{item} of {own:?}");
    let listed = handles.videos.liked_by(viewer, None, 10)?.into_iter().find(|liked| liked.item == item.as_bytes());
    // An unlike shows at once, a like once it is durable.
    assert!(is_liked || listed.is_none(), "{item} of {own:?} is listed as {listed:?}");
    if is_durable && is_liked {
        let listed_ms = listed.map(|liked| liked.time_ms);
        let own_ms = own.edges.get(item).map(|(time_ms, _)| *time_ms);
        assert!(listed_ms.is_some() && (item == "direct" || listed_ms == own_ms), "{item} of {own:?}: {listed_ms:?}");
    }
    Ok(())
}

/// Two items in one batch, of the own viewer and sometimes of the shared one, with what hangs on each.
fn batch_with_tally(handles: &Handles<'_>, own: &mut Own, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let Handles { store, totals, videos, worker, immediate, .. } = handles;
    let (mut batch, mut changes, mut deltas) = (store.batch(), Counts::from([("shared".to_owned(), 1)]), Vec::new());
    for item in ["t0", "t1"] {
        let (time_ms, liked, was_liked) = (own.later(), random.below(3) > 0, own.is_liked(item));
        add_counts(&mut changes, &own.change(*worker, item, time_ms, liked));
        if liked {
            batch.like_at(videos, item, *worker, time_ms)
        } else {
            batch.unlike_at(videos, item, *worker, time_ms)
        }
        .tally(totals, "tally");
        deltas.extend([i128::from(liked) - i128::from(was_liked); 2]);
    }
    add_counts(&mut changes, &Counts::from([("tally".to_owned(), deltas.iter().sum::<i128>() / 2)]));
    batch.add(totals, "shared", 1);
    let with_shared = !immediate;
    if with_shared {
        if random.below(2) == 0 { batch.like(videos, "t0", SHARED) } else { batch.unlike(videos, "t0", SHARED) }
            .tally(totals, "tally");
    }
    let receipt = batch.commit().inspect_err(|_| {
        if *immediate {
            journal.unknown.push(changes.clone());
        }
    })?;
    let did: Vec<i128> = receipt.changes().map(|change| change.delta).collect();
    assert_eq!(did[..4], deltas, "what {own:?} was told");
    if let [shared, tally] = did[5..] {
        assert_eq!(shared, tally);
        add_counts(&mut changes, &like_of("t0", SHARED, 0, shared));
        add_counts(&mut changes, &Counts::from([("tally".to_owned(), tally)]));
    }
    let epoch = receipt.epoch();
    journal.note(epoch, &changes);
    if *immediate || random.below(2) == 0 {
        receipt.wait()?;
        journal.acknowledge(epoch);
    }
    Ok(())
}

/// What several workers do to the same edges: only the receipts say what each did.
fn beside_others(handles: &Handles<'_>, random: &mut Random, journal: &mut Journal) -> Result<()> {
    let Handles { videos, worker, .. } = handles;
    let (receipt, name) = match random.below(8) {
        0 => (videos.like("hot", SHARED)?, "hot"),
        1 => (videos.unlike("hot", SHARED)?, "hot"),
        2 => (videos.like_at("hot", SHARED, LATE_MS + random.below(3))?, "hot"),
        3 => (videos.like("fleeting", *worker)?, "fleeting"),
        4 => (videos.remove_item("fleeting")?, "removed"),
        5 | 6 => (videos.like(format!("x{}", random.below(4)), FORGOTTEN)?, "x"),
        _ => (videos.forget_viewer(FORGOTTEN)?, "forgotten"),
    };
    let delta = receipt.delta();
    let changes = match name {
        "hot" => like_of("hot", SHARED, 0, delta),
        "fleeting" | "removed" => Counts::from([(count_name("fleeting"), delta)]),
        _ => Counts::from([(count_name("x"), delta)]),
    };
    if name == "removed" || name == "forgotten" {
        journal.taken_back += delta.unsigned_abs() as u64;
    }
    if delta != 0 {
        journal.note(receipt.epoch(), &changes);
    }
    settle(handles, receipt, random, journal).map(drop)
}

/// The likes of a store, and that they are the same from all sides: each item's count is that of its likers, and each
/// viewer's list has what the items say. Nothing changes meanwhile.
pub(crate) fn audited(store: &Store) -> Counts {
    let videos = store.existing_likes("videos").unwrap();
    let edges: Vec<_> = videos.edges().collect::<Result<_>>().unwrap();
    let mut counts = edge_counts(
        edges
            .iter()
            .map(|(item, liker)| (std::str::from_utf8(item).unwrap(), liker.viewer.as_u64().unwrap(), liker.time_ms)),
    );
    for item in videos.iter() {
        let (item, count) = item.unwrap();
        let mut likers: Vec<_> = edges.iter().filter(|(of, _)| *of == item).map(|(_, liker)| *liker).collect();
        likers.sort_by_key(|liker| std::cmp::Reverse((liker.time_ms, liker.viewer)));
        assert_eq!(count, likers.len() as u64, "the count of {item:?}, and its likes {likers:?}");
        assert_eq!(pages(|after| videos.likers(&item, after, 2)), likers, "of {item:?}");
        let name = count_name(std::str::from_utf8(&item).unwrap());
        add_counts(&mut counts, &Counts::from([(name, i128::from(count))]));
    }
    for viewer in 0..=FORGOTTEN {
        check_list(&videos, viewer, &edges);
    }
    counts
}

fn check_list(videos: &Likes, viewer: u64, edges: &[(bytes::Bytes, plaudit::Liker)]) {
    let mine = edges.iter().filter(|(_, liker)| liker.viewer == viewer.into());
    let mut mine: Vec<_> = mine.map(|(item, liker)| (item.clone(), liker.time_ms)).collect();
    mine.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let listed = pages(|after| videos.liked_by(viewer, after, 2));
    let listed: Vec<_> = listed.into_iter().map(|liked| (liked.item, liked.time_ms)).collect();
    assert_eq!(listed, mine, "the list of {viewer}");
}

/// All pages of two.
fn pages<T>(page: impl Fn(Option<&T>) -> Result<Vec<T>>) -> Vec<T> {
    let mut all = Vec::new();
    loop {
        let found = page(all.last()).unwrap();
        let len = found.len();
        all.extend(found);
        if len < 2 {
            return all;
        }
    }
}
