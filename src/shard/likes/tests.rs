use std::collections::BTreeMap;

use bytes::BytesMut;

use super::*;
use crate::edge::ViewerWidth;
use crate::shard::{Changes, NamespaceId, Place, Shards};

const LIKES: NamespaceId = 0;
const HORIZON_MS: u64 = 100;

fn shards(width: ViewerWidth) -> Shards {
    let shards = Shards::new(4, 7);
    shards.add_namespace(LIKES, Some(LikeRules::new(width, HORIZON_MS, 0)));
    shards
}

fn event(viewer: u128, liked: bool, when: When) -> LikeEvent {
    LikeEvent { viewer, liked, when, seen_ms: 0 }
}

/// What is there: each item's count and edges.
type State = BTreeMap<Vec<u8>, (i64, BTreeMap<u128, Stamp>)>;

fn state(shards: &Shards) -> State {
    let mut state = State::new();
    let mut next = Some(crate::shard::Chunk::default());
    while let Some(at) = next {
        let visit = &mut |key: &[u8], count| assert!(state.insert(key.to_vec(), (count, BTreeMap::new())).is_none());
        next = shards.visit(LIKES, at, visit).unwrap();
    }
    let mut next = Some(EdgePlace::default());
    while let Some(at) = next {
        let visit = &mut |Edge { item, viewer, stamp, .. }: Edge<'_>| {
            state.get_mut(item).unwrap().1.insert(viewer, stamp);
        };
        next = shards.visit_edges(LIKES, at, visit).unwrap();
    }
    state
}

/// What the committer does with an epoch, with what it would log applied to `replayed` as recovery does.
fn commit(shards: &Shards, replayed: &Shards) {
    let epoch = shards.advance();
    let mut collected: Vec<Changes> = (0..shards.count()).map(|_| Changes::default()).collect();
    shards.collect(epoch, &mut collected);
    shards.tell_viewers(&collected);
    for (stripe, changes) in collected.iter().enumerate() {
        let mut places: BTreeMap<u32, Place> = BTreeMap::new();
        for change in &changes.counters {
            let (mut key, mut ends) = (BytesMut::new(), Vec::new());
            assert!(shards.copy_keys(stripe, LIKES, &[change.slot], &mut key, &mut ends));
            places.insert(change.slot, replayed.load(LIKES, &key, change.value()).unwrap());
        }
        for change in &changes.edges {
            let place = places[&change.slot];
            match change.state() {
                EdgeState::Is { viewer, stamp } => replayed.load_edge_at(LIKES, place, viewer, Some(stamp)),
                EdgeState::Gone { viewer } => replayed.load_edge_at(LIKES, place, viewer, None),
                EdgeState::Cleared => replayed.load_cleared_at(LIKES, place),
            }
        }
        for removed in &changes.removed {
            let mut next = shards.tell_removed(stripe, removed, None).1;
            while next.is_some() {
                next = shards.tell_removed(stripe, removed, next).1;
            }
        }
        for change in changes.counters.iter().filter(|change| change.value().is_none()) {
            shards.release_removed(stripe, LIKES, std::iter::once(change.slot));
            replayed.release_loaded(LIKES, places[&change.slot]);
        }
    }
}

/// Drops what is too old.
fn sweep(shards: &Shards) {
    let mut next = shards.begin_sweep(LIKES);
    while let Some(sweep) = next {
        next = shards.sweep(LIKES, sweep).unwrap();
    }
}

/// Everything that is known of a viewer and an item is not too old, and both sides know the same.
fn check_swept(shards: &Shards) {
    let oldest_ms = shards.like_rules(LIKES).unwrap().oldest_ms();
    let mut known: BTreeMap<u128, usize> = BTreeMap::new();
    for (viewer, stamp) in state(shards).into_values().flat_map(|(_, edges)| edges) {
        assert!(stamp.is_like() || stamp.time_ms() >= oldest_ms);
        *known.entry(viewer).or_default() += 1;
    }
    for viewer in 0..8 {
        let places = shards.viewers.places(LIKES, viewer);
        assert_eq!(places.len(), known.get(&viewer).copied().unwrap_or(0), "viewer {viewer}");
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// The same as a store's likes, in the plainest way.
#[derive(Default)]
struct Model {
    edges: BTreeMap<Vec<u8>, BTreeMap<u128, Stamp>>,
    newest_ms: u64,
}

impl Model {
    fn apply(&mut self, item: &[u8], event: &LikeEvent) -> Result<(), Refusal> {
        let oldest_ms = self.newest_ms.saturating_sub(HORIZON_MS);
        let edges = self.edges.get(item);
        let before = edges.and_then(|edges| edges.get(&event.viewer)).copied();
        if let Some(stamp) = event.outcome(before, oldest_ms)? {
            self.edges.entry(item.to_vec()).or_default().insert(event.viewer, stamp);
        }
        Ok(())
    }

    fn count(&self, item: &[u8]) -> i64 {
        self.edges.get(item).map_or(0, |edges| edges.values().filter(|stamp| stamp.is_like()).count() as i64)
    }

    /// Newest first, those of one time by key.
    fn liked_by(&self, viewer: u128) -> Vec<(Vec<u8>, u64)> {
        let liked = |(item, edges): (&Vec<u8>, &BTreeMap<u128, Stamp>)| {
            let stamp = edges.get(&viewer).filter(|stamp| stamp.is_like())?;
            Some((item.clone(), stamp.time_ms()))
        };
        let mut liked: Vec<_> = self.edges.iter().filter_map(liked).collect();
        liked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        liked
    }
}

/// Everything that can be read agrees with the model. Unlikes that are too old may be forgotten.
fn check(shards: &Shards, model: &Model) {
    let oldest_ms = model.newest_ms.saturating_sub(HORIZON_MS);
    let known = |edges: &BTreeMap<u128, Stamp>| -> BTreeMap<u128, Stamp> {
        let known = |(_, stamp): &(&u128, &Stamp)| stamp.is_like() || stamp.time_ms() >= oldest_ms;
        edges.iter().filter(known).map(|(&viewer, &stamp)| (viewer, stamp)).collect()
    };
    let state = state(shards);
    for (item, edges) in &model.edges {
        let (count, found) = &state[item];
        assert_eq!(*count, model.count(item));
        assert_eq!(known(found), known(edges));
    }
    for viewer in 0..8 {
        let mut pages: Vec<(Vec<u8>, u64)> = Vec::new();
        loop {
            let after = pages.last().map(|(item, time_ms)| (*time_ms, &item[..]));
            let page = shards.newest_liked(LIKES, viewer, after, 3).unwrap();
            pages.extend(page.iter().map(|(item, time_ms)| (item.to_vec(), *time_ms)));
            if page.len() < 3 {
                break;
            }
        }
        assert_eq!(pages, model.liked_by(viewer));
    }
}

#[test]
fn likes_are_what_a_plain_map_says_and_their_epochs_replay_to_the_same() {
    for (width, seed) in [(ViewerWidth::Bits64, 1), (ViewerWidth::Bits128, 2)] {
        let (shards, replayed, mut model, mut seed) = (shards(width), shards(width), Model::default(), seed);
        let rules = shards.like_rules(LIKES).unwrap();
        let (mut sweeping, mut sweeps) = (None, 0);
        for step in 0..6_000u64 {
            let item = format!("item {}", random(&mut seed) % 12).into_bytes();
            let viewer = u128::from(random(&mut seed) % 8);
            let liked = !random(&mut seed).is_multiple_of(3);
            let time_ms = (step / 20 + random(&mut seed) % 150).saturating_sub(100);
            match random(&mut seed) % 200 {
                0 => {
                    let removed = shards.remove_item(LIKES, &item).unwrap();
                    assert_eq!(removed.previous, model.count(&item));
                    model.edges.remove(&item);
                }
                1 => {
                    let likes =
                        model.edges.keys().map(|item| u64::from(shards.has_liked(LIKES, item, viewer).unwrap()));
                    let likes: u64 = likes.sum();
                    let forgotten = shards.forget_viewer(LIKES, viewer).unwrap();
                    assert_eq!(forgotten.previous, likes as i64);
                    model.edges.values_mut().for_each(|edges| _ = edges.remove(&viewer));
                }
                2..10 => {
                    commit(&shards, &replayed);
                    check(&shards, &model);
                }
                // A step of a sweep, which goes on while everything else happens.
                10..20 => {
                    let next = sweeping.or_else(|| shards.begin_sweep(LIKES));
                    sweeping = shards.sweep(LIKES, next.unwrap()).unwrap();
                    sweeps += u64::from(sweeping.is_none());
                }
                kind => {
                    let when = if kind % 4 == 0 { When::Now(time_ms) } else { When::At(time_ms) };
                    let event = event(viewer, liked, when);
                    rules.see(time_ms);
                    model.newest_ms = rules.newest_ms();
                    let (before, expected) = (model.count(&item), model.apply(&item, &event));
                    let applied = shards.like(LIKES, &item, &event);
                    assert_eq!(
                        applied.map(|applied| (applied.previous, applied.value)),
                        expected.map(|()| (before, model.count(&item)))
                    );
                }
            }
        }
        commit(&shards, &replayed);
        check(&shards, &model);
        sweep(&shards);
        check(&shards, &model);
        check_swept(&shards);
        assert!(sweeps > 10, "{sweeps} sweeps");
        let rules = replayed.like_rules(LIKES).unwrap();
        rules.see(model.newest_ms);
        assert_eq!(
            replayed.recount(LIKES, 0..4).unwrap(),
            model.edges.keys().map(|item| model.count(item) as u64).sum::<u64>()
        );
        replayed.list_viewers(LIKES, 0..4);
        check(&replayed, &model);
        replayed.compare_sides(LIKES, replayed.likes(LIKES)).unwrap();
        shards.compare_sides(LIKES, shards.likes(LIKES)).unwrap();
    }
}

#[test]
fn the_newest_event_decides_in_whatever_order_and_however_often_events_come() {
    // Every order of three events, each twice, ends in the same.
    let events = [(5, true), (7, false), (7, true)];
    for order in 0..6usize {
        let shards = shards(ViewerWidth::Bits64);
        let mut left = events.to_vec();
        let order = [left.remove(order % 3), left.remove(order / 3), left.remove(0)];
        for (time_ms, liked) in order.into_iter().chain(order) {
            shards.like(LIKES, b"item", &event(1, liked, When::At(time_ms))).unwrap();
        }
        assert!(!shards.has_liked(LIKES, b"item", 1).unwrap(), "at equal times the unlike wins: {order:?}");
        assert_eq!(shards.get(LIKES, b"item"), Ok(Some(0)));
    }
}

#[test]
fn a_direct_call_takes_effect_also_when_the_clock_has_gone_back() {
    let shards = shards(ViewerWidth::Bits64);
    let rules = shards.like_rules(LIKES).unwrap();
    rules.see(1_000);
    for (liked, when, count) in [
        (true, When::At(1_000), 1),
        (false, When::Now(10), 0),
        (true, When::Now(10), 1),
        (true, When::Now(9), 1),
        (false, When::Now(0), 0),
        (true, When::Now(2_000), 1),
        (false, When::At(2_000), 0),
        (true, When::Now(2_000), 1),
    ] {
        let applied = shards.like(LIKES, b"item", &event(1, liked, when)).unwrap();
        assert_eq!(applied.value, count, "{liked} {when:?}");
    }
    // A time that there is no later one of.
    shards.like(LIKES, b"item", &event(2, false, When::At(MAX_TIME_MS))).unwrap();
    assert_eq!(shards.like(LIKES, b"item", &event(2, true, When::Now(1))).unwrap().value, 2);
}

#[test]
fn an_event_from_before_the_horizon_is_refused_and_a_direct_call_is_not() {
    let shards = shards(ViewerWidth::Bits64);
    shards.like_rules(LIKES).unwrap().see(1_000);
    let too_old = Err(Refusal::TooOld { time_ms: 899, oldest_ms: 900 });
    assert_eq!(shards.like(LIKES, b"item", &event(1, true, When::At(899))), too_old);
    assert_eq!(shards.get(LIKES, b"item"), Ok(None));
    assert_eq!(shards.like(LIKES, b"item", &event(1, true, When::At(900))).unwrap().value, 1);
    assert_eq!(shards.like(LIKES, b"item", &event(2, true, When::Now(5))).unwrap().value, 2);
    let mut likers = Vec::new();
    shards.newest_likers(LIKES, b"item", None, 9, &mut likers).unwrap();
    assert_eq!(likers, [(2, Stamp::new(900, true)), (1, Stamp::new(900, true))]);
}

#[test]
fn an_unlike_of_which_a_viewer_is_told_late_brings_nothing_back_and_goes_with_the_next_sweep() {
    let (shards, replayed) = (shards(ViewerWidth::Bits64), shards(ViewerWidth::Bits64));
    let rules = shards.like_rules(LIKES).unwrap();
    shards.like(LIKES, b"item", &event(1, true, When::At(10))).unwrap();
    commit(&shards, &replayed);
    shards.like(LIKES, b"item", &event(1, false, When::At(20))).unwrap();
    rules.see(1_000);
    sweep(&shards);
    // The viewer's list has the like still.
    assert_eq!(shards.newest_liked(LIKES, 1, None, 9), Ok(Vec::new()));
    commit(&shards, &replayed);
    shards.compare_sides(LIKES, 0).unwrap();
    assert_eq!(shards.viewers.places(LIKES, 1).len(), 1);
    sweep(&shards);
    check_swept(&shards);
    let too_old = Err(Refusal::TooOld { time_ms: 15, oldest_ms: 900 });
    assert_eq!(shards.like(LIKES, b"item", &event(1, true, When::At(15))), too_old);
    assert_eq!(shards.like(LIKES, b"item", &event(1, true, When::Now(0))).unwrap().value, 1);
    commit(&shards, &replayed);
    assert_eq!(shards.newest_liked(LIKES, 1, None, 9).unwrap(), [(b"item"[..].into(), 900)]);
    assert_eq!(state(&shards), state(&replayed));
}

#[test]
fn a_count_that_is_not_that_of_its_likes_is_found() {
    let shards = shards(ViewerWidth::Bits64);
    shards.like(LIKES, b"item", &event(1, true, When::Now(1))).unwrap();
    assert_eq!(shards.recount(LIKES, 0..4), Ok(1));
    shards.load(LIKES, b"item", Some(2)).unwrap();
    let drift = shards.recount(LIKES, 0..4).unwrap_err();
    assert_eq!((&drift.item[..], &drift.what[..]), (&b"item"[..], "counts 2 and has 1 likes"));
    for item in [b"item", b"ITEM", b"Item"] {
        shards.load(LIKES, item, Some(i64::MIN)).unwrap();
    }
    assert_eq!(shards.likes(LIKES), u64::MAX, "a sum of any counts");
    assert!(shards.recount(LIKES, 0..4).is_err());
}
