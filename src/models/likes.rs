//! Models of likes: an edge and its count, the forgetting of a viewer, and the viewers' lists beside the committer.

use std::sync::Arc;

use loom::thread;

use super::{check, sum};
use crate::edge::{Stamp, ViewerWidth};
use crate::shard::{
    Applied, Changes, Chunk, Edge, EdgeChange, EdgePlace, EdgeState, LikeEvent, LikeRules, Refusal, Shards, When,
};
use crate::sync::{AtomicBool, Mutex, Ordering};

const HORIZON_MS: u64 = 5;

/// Shards with a namespace of likes. With seed 0 each of two has some of the items "0" to "3".
fn shards(count: usize) -> Arc<Shards> {
    let shards = Shards::new(count, 0);
    shards.add_namespace(0, Some(LikeRules::new(ViewerWidth::Bits64, HORIZON_MS, 0)));
    Arc::new(shards)
}

/// It moves no horizon.
fn event(viewer: u128, liked: bool, time_ms: u64) -> LikeEvent {
    LikeEvent { viewer, liked, when: When::At(time_ms), seen_ms: 0 }
}

fn like(shards: &Shards, item: &str, viewer: u128, time_ms: u64) -> Result<Applied, Refusal> {
    shards.like(0, item.as_bytes(), &event(viewer, true, time_ms))
}

fn unlike(shards: &Shards, item: &str, viewer: u128, time_ms: u64) -> Result<Applied, Refusal> {
    shards.like(0, item.as_bytes(), &event(viewer, false, time_ms))
}

/// Runs it on a thread of its own.
fn spawn<T: 'static>(shards: &Arc<Shards>, body: impl FnOnce(&Shards) -> T + 'static) -> thread::JoinHandle<T> {
    let shards = Arc::clone(shards);
    thread::spawn(move || body(&shards))
}

/// An epoch that the committer took, with its changes by shard.
struct Taken {
    epoch: u64,
    stripes: Vec<Changes>,
}

impl Taken {
    /// Takes an epoch as the committer does, in a store without hot counters.
    fn take(shards: &Shards) -> Self {
        let epoch = shards.advance();
        let mut stripes: Vec<Changes> = (0..shards.count()).map(|_| Changes::default()).collect();
        shards.collect(epoch, &mut stripes);
        Self { epoch, stripes }
    }

    /// Takes an epoch, tells its viewers, and lets the slots of removed items be used again. Those whose items were
    /// removed are told by [`Taken::tell_removed`].
    fn seal(shards: &Shards) -> Self {
        let taken = Self::take(shards);
        shards.tell_viewers(&taken.stripes);
        for (stripe, changes) in taken.stripes.iter().enumerate() {
            let removed = changes.counters.iter().filter(|item| item.value().is_none());
            shards.release_removed(stripe, 0, removed.map(|item| item.slot));
        }
        taken
    }

    fn tell_removed(&self, shards: &Shards) {
        for (stripe, changes) in self.stripes.iter().enumerate() {
            for removed in &changes.removed {
                assert_eq!(shards.tell_removed(stripe, removed, None).1, None, "they are few");
            }
        }
    }

    /// By how much the items' counts changed.
    fn delta(&self) -> i128 {
        self.stripes.iter().map(|changes| sum(&changes.counters)).sum()
    }

    fn edges(&self) -> impl Iterator<Item = EdgeState> {
        self.stripes.iter().flat_map(|changes| &changes.edges).map(EdgeChange::state)
    }
}

/// The edges of a namespace, each with its item.
fn edges(shards: &Shards) -> Vec<(Vec<u8>, u128, Stamp)> {
    let (mut found, mut next) = (Vec::new(), Some(EdgePlace::default()));
    while let Some(at) = next {
        let visit = &mut |Edge { item, viewer, stamp, .. }: Edge<'_>| found.push((item.to_vec(), viewer, stamp));
        next = shards.visit_edges(0, at, visit).unwrap();
    }
    found
}

/// Checks at rest, when the committer has told everything, that each count is that of the item's likes and that each
/// viewer's list has them; and returns how many likes there are.
fn audit(shards: &Shards) -> u64 {
    let (edges, mut likes, mut next) = (edges(shards), 0, Some(Chunk::default()));
    while let Some(at) = next {
        let visit = &mut |key: &[u8], count: i64| {
            let liked = edges.iter().filter(|(item, _, stamp)| item == key && stamp.is_like()).count();
            assert_eq!(count, liked as i64, "of {}", key.escape_ascii());
            likes += count as u64;
        };
        next = shards.visit(0, at, visit).unwrap();
    }
    shards.compare_sides(0, likes).unwrap();
    likes
}

fn liked_by(shards: &Shards, viewer: u128) -> Vec<Vec<u8>> {
    shards.newest_liked(0, viewer, None, 10).unwrap().into_iter().map(|(item, _)| item.to_vec()).collect()
}

/// Two viewers like one item while the committer takes two epochs, and then the rest. Every like is in exactly the
/// epoch that it was told, and the count's change with it. Fails when `Shards::like` notes the edge and the count
/// under two holds of the lock, or reads the epoch before it takes the lock.
#[test]
fn model_a_like_and_its_count_are_in_one_epoch() {
    check(|| {
        let shards = shards(1);
        let likers = [1, 2].map(|viewer| spawn(&shards, move |shards| like(shards, "a", viewer, 10).unwrap().epoch));
        let mut taken = vec![Taken::take(&shards), Taken::take(&shards)];
        let told = likers.map(|liker| liker.join().unwrap());
        taken.push(Taken::take(&shards));
        for taken in taken {
            let liked = taken.edges().filter(|state| matches!(state, EdgeState::Is { .. })).count();
            let expected = told.iter().filter(|&&told| told == taken.epoch).count();
            assert_eq!((taken.delta(), liked), (expected as i128, expected), "epoch {}, told {told:?}", taken.epoch);
        }
    });
}

/// A like and an unlike of one viewer and item, at two times, beside the committer. The newer one holds, at equal times
/// the unlike, whichever comes first; the count agrees, and so does what the committer took. Fails when `Shard::like`
/// takes whatever comes last, or when `Shards::like` decides under another hold of the lock than it changes.
#[test]
fn model_the_newest_event_of_an_edge_holds_in_any_order() {
    for (liked_ms, unliked_ms) in [(10, 11), (11, 10), (10, 10)] {
        check(move || {
            let shards = shards(1);
            let liker = spawn(&shards, move |shards| like(shards, "a", 1, liked_ms).map(drop));
            let unliker = spawn(&shards, move |shards| unlike(shards, "a", 1, unliked_ms).map(drop));
            let first = Taken::seal(&shards);
            liker.join().unwrap().unwrap();
            unliker.join().unwrap().unwrap();
            let second = Taken::seal(&shards);
            let is_liked = liked_ms > unliked_ms;
            let stamp = Stamp::new(liked_ms.max(unliked_ms), is_liked);
            assert_eq!(edges(&shards), [(b"a".to_vec(), 1, stamp)]);
            assert_eq!(audit(&shards), u64::from(is_liked));
            assert_eq!(first.delta() + second.delta(), i128::from(is_liked));
            let logged = first.edges().chain(second.edges()).last();
            assert_eq!(logged, Some(EdgeState::Is { viewer: 1, stamp }));
        });
    }
}

/// A viewer is forgotten under the committer's lock, as `Engine::forget_viewer` does it, beside likes of the viewer's
/// and of another, and a committer that takes epochs. What was forgotten is all in the epoch that it was told; what was
/// liked before is gone, also what the viewers' side does not know yet; and counts and lists are those of the edges.
/// Fails when the lock is not held, when `Shards::forget_viewer` passes over what is in the open epoch, or when
/// `forget_edge` leaves the count alone.
#[test]
fn model_a_viewer_is_forgotten_in_one_epoch() {
    check(|| {
        let shards = shards(2);
        for item in ["0", "1", "2", "3"] {
            like(&shards, item, 1, 10).unwrap();
        }
        let before = Taken::seal(&shards);
        assert!(before.stripes.iter().all(|changes| !changes.edges.is_empty()), "both shards have items of the viewer");
        like(&shards, "5", 1, 10).unwrap();
        let committer = Arc::new(Mutex::new(Vec::new()));
        let forgetter = {
            let committer = Arc::clone(&committer);
            spawn(&shards, move |shards| {
                let _held = committer.lock();
                shards.forget_viewer(0, 1).unwrap()
            })
        };
        let liker = spawn(&shards, |shards| {
            like(shards, "0", 2, 11).unwrap();
            like(shards, "4", 1, 11).unwrap();
        });
        {
            let mut taken = committer.lock();
            taken.push(Taken::seal(&shards));
        }
        let forgotten = forgetter.join().unwrap();
        liker.join().unwrap();
        let mut taken = committer.lock();
        taken.push(Taken::seal(&shards));
        let is_gone = |state: &EdgeState| *state == EdgeState::Gone { viewer: 1 };
        for taken in &*taken {
            let gone = taken.edges().filter(is_gone).count() as i64;
            let expected = if taken.epoch == forgotten.epoch { forgotten.previous } else { 0 };
            assert_eq!(gone, expected, "epoch {}, {forgotten:?}", taken.epoch);
        }
        assert!(forgotten.previous == 5 || forgotten.previous == 6, "{forgotten:?}");
        let left = liked_by(&shards, 1);
        assert_eq!(left.len() as i64, 6 - forgotten.previous, "{left:?}");
        assert_eq!(audit(&shards), 1 + left.len() as u64);
    });
}

/// A viewer's list is read while the viewer unlikes and the committer tells it. What was unliked before the read is
/// not in it, whatever the committer has told. Fails when `newest_liked` trusts the viewers' side.
#[test]
fn model_a_list_never_shows_what_was_unliked_before() {
    check(|| {
        let shards = shards(1);
        like(&shards, "a", 1, 10).unwrap();
        Taken::seal(&shards);
        let is_unliked = Arc::new(AtomicBool::new(false));
        let unliker = {
            let is_unliked = Arc::clone(&is_unliked);
            spawn(&shards, move |shards| {
                unlike(shards, "a", 1, 11).unwrap();
                is_unliked.store(true, Ordering::Release);
            })
        };
        let committer = spawn(&shards, |shards| drop(Taken::seal(shards)));
        let is_unliked = is_unliked.load(Ordering::Acquire);
        let listed = liked_by(&shards, 1);
        assert!(listed.is_empty() || !is_unliked, "{listed:?}");
        unliker.join().unwrap();
        committer.join().unwrap();
        Taken::seal(&shards);
        assert_eq!(audit(&shards), 0);
    });
}

/// An item is removed, and another takes its slot, while a list is read that has the slot. It shows the removed item
/// while that is there, and never the other. Fails when `liked_at` does not look the edge up.
#[test]
fn model_a_list_never_shows_the_next_item_of_a_slot() {
    check(|| {
        let shards = shards(1);
        like(&shards, "a", 1, 10).unwrap();
        Taken::seal(&shards);
        let reader = spawn(&shards, |shards| {
            let listed = liked_by(shards, 1);
            assert!(listed.is_empty() || listed == [b"a"], "{listed:?}");
        });
        shards.remove_item(0, b"a").unwrap();
        let removal = Taken::seal(&shards);
        like(&shards, "b", 2, 10).unwrap();
        let next = Taken::seal(&shards);
        assert_eq!(
            next.stripes[0].counters.iter().map(|item| item.slot).collect::<Vec<_>>(),
            [0],
            "its slot is reused"
        );
        removal.tell_removed(&shards);
        reader.join().unwrap();
        assert_eq!((audit(&shards), liked_by(&shards, 2)), (1, vec![b"b".to_vec()]));
    });
}

/// A viewer likes an item anew while the committer, one epoch later, tells that the item was removed. The new like is
/// in the viewer's list. Fails when `tell_removed` does not look for a new edge.
#[test]
fn model_a_late_word_of_a_removal_takes_no_newer_like() {
    check(|| {
        let shards = shards(1);
        like(&shards, "a", 1, 10).unwrap();
        Taken::seal(&shards);
        shards.remove_item(0, b"a").unwrap();
        let liker = spawn(&shards, |shards| like(shards, "a", 1, 10).unwrap().value);
        let removal = Taken::seal(&shards);
        Taken::seal(&shards);
        removal.tell_removed(&shards);
        assert_eq!(liker.join().unwrap(), 1);
        Taken::seal(&shards);
        assert_eq!((audit(&shards), liked_by(&shards, 1)), (1, vec![b"a".to_vec()]));
    });
}

/// The horizon moves, and the room of an unlike from before it is given to a new liker, while an event comes that is
/// older than the unlike. It is too old, or it meets the unlike; it never counts. Fails when `Shard::like` is given a
/// horizon that was read before the lock was taken.
#[test]
fn model_an_unlike_is_forgotten_only_when_older_events_are_refused() {
    // As many as an item keeps without an index: the next edge needs the room of one that may be forgotten.
    const FULL: u128 = 128;
    check(|| {
        let shards = shards(1);
        let rules = shards.like_rules(0).unwrap();
        let likes = (2..=FULL).map(|viewer| (viewer, Stamp::new(12, true)));
        let unlike = (1, Stamp::new(10, false));
        shards.load(0, b"a", Some(FULL as i64 - 1)).unwrap();
        shards.load_edges(0, b"a", likes.chain([unlike])).unwrap();
        rules.see(12);
        let liker = spawn(&shards, move |shards| {
            rules.see(20);
            like(shards, "a", FULL + 1, 20).map(drop)
        });
        let late = like(&shards, "a", 1, 9);
        assert!(late.is_ok_and(|late| !late.changed) || late == Err(Refusal::TooOld { time_ms: 9, oldest_ms: 15 }));
        liker.join().unwrap().unwrap();
        assert_eq!(edges(&shards).len(), FULL as usize, "the unlike is forgotten");
    });
}

/// Drops what is too old, as a compaction does.
fn sweep(shards: &Shards) {
    let mut next = shards.begin_sweep(0);
    while let Some(sweep) = next {
        next = shards.sweep(0, sweep).unwrap();
    }
}

/// The horizon moves, and a sweep drops an unlike from before it, while an event comes that is older than the unlike.
/// It is too old, or it meets the unlike; it never counts. Fails when a sweep drops what is not too old yet.
#[test]
fn model_a_sweep_forgets_an_unlike_only_when_older_events_are_refused() {
    check(|| {
        let shards = shards(1);
        let rules = shards.like_rules(0).unwrap();
        unlike(&shards, "a", 1, 10).unwrap();
        Taken::seal(&shards);
        // The horizon ends before the unlike and the event.
        rules.see(12);
        let sweeper = spawn(&shards, sweep);
        let mover = spawn(&shards, move |_| rules.see(20));
        let late = like(&shards, "a", 1, 9);
        assert!(late.is_ok_and(|late| !late.changed) || late == Err(Refusal::TooOld { time_ms: 9, oldest_ms: 15 }));
        sweeper.join().unwrap();
        mover.join().unwrap();
        sweep(&shards);
        assert_eq!((edges(&shards), audit(&shards)), (Vec::new(), 0));
    });
}

/// A sweep drops the unlikes of two viewers, and their rows, while one of them likes anew, and the committer tells it;
/// the other one's unlike is told by it too. The new like is on both sides. Fails when a row that was found empty
/// goes under another hold of the lock.
#[test]
fn model_a_sweep_takes_no_like_that_the_committer_tells_meanwhile() {
    check(|| {
        let shards = shards(1);
        unlike(&shards, "a", 1, 10).unwrap();
        Taken::seal(&shards);
        unlike(&shards, "a", 2, 10).unwrap();
        shards.like_rules(0).unwrap().see(20);
        let sweeper = spawn(&shards, sweep);
        like(&shards, "a", 1, 20).unwrap();
        Taken::seal(&shards);
        assert_eq!(liked_by(&shards, 1), [b"a"]);
        sweeper.join().unwrap();
        assert_eq!((audit(&shards), liked_by(&shards, 1)), (1, vec![b"a".to_vec()]));
        assert_eq!(edges(&shards), [(b"a".to_vec(), 1, Stamp::new(20, true))]);
    });
}
