//! Sets are compared with a map, through every form that they take, and walked while they change.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<u128, Stamp>;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Ids from both ends of what `N` bytes hold.
fn spread<const N: usize>(who: u128) -> u128 {
    if who.is_multiple_of(2) { who } else { (u128::MAX >> (128 - 8 * N)) - who / 2 }
}

fn check<const N: usize>(set: &EdgeSet<N>, hasher: &KeyState) {
    if let Edges::Many(many) = &set.0 {
        many.check(hasher);
    }
}

/// All likes, in pages.
fn pages<const N: usize>(set: &EdgeSet<N>, limit: usize) -> Vec<(u128, Stamp)> {
    let (mut out, mut before) = (Vec::new(), None);
    loop {
        let len = out.len();
        let next = set.newest(before, limit, &mut out);
        assert!(out.len() <= len + limit);
        match next {
            Some(next) => assert!(before.replace(next).is_none_or(|before| next < before)),
            None => return out,
        }
    }
}

fn walked<const N: usize>(set: &EdgeSet<N>, budget: usize) -> Model {
    let (mut found, mut from) = (Model::new(), None);
    loop {
        from = set.walk(from, budget, &mut |id, stamp| {
            assert_eq!(found.insert(id, stamp), None, "nothing changes, so that nothing is visited twice");
        });
        if from.is_none() {
            return found;
        }
    }
}

/// Drops what is expired, and returns in how many steps.
fn sweep<const N: usize>(set: &mut EdgeSet<N>, budget: usize, expired_ms: u64, hasher: &KeyState) -> usize {
    let (mut from, mut steps) = (None, 1);
    loop {
        let next = set.sweep(from, budget, expired_ms, hasher);
        if next.is_none() {
            return steps;
        }
        assert!(next >= from, "a sweep comes to its end");
        (from, steps) = (next, steps + 1);
    }
}

fn likes(model: &Model) -> Vec<(u128, Stamp)> {
    let mut likes: Vec<_> =
        model.iter().filter(|(_, stamp)| stamp.is_like()).map(|(&id, &stamp)| (id, stamp)).collect();
    likes.sort_unstable_by_key(|&(id, stamp)| std::cmp::Reverse((stamp, id)));
    likes
}

/// Whether the set has what the model has. Unlikes of before `expired_ms` may be missing; the model then forgets them.
fn compare<const N: usize>(set: &EdgeSet<N>, model: &mut Model, expired_ms: u64, hasher: &KeyState) {
    check(set, hasher);
    model.retain(|&id, &mut stamp| {
        let found = set.get(id, hasher);
        let may_be_missing = !stamp.is_like() && stamp.time_ms() < expired_ms;
        assert!(found == Some(stamp) || found.is_none() && may_be_missing, "{id}: {found:?} is not {stamp:?}");
        found.is_some()
    });
    assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(walked(set, 100), *model);
    assert_eq!(pages(set, 40), likes(model));
}

#[derive(Debug, Clone)]
enum Op {
    Set {
        who: u128,
        stamp: Stamp,
        expired_ms: u64,
    },
    Remove {
        who: u128,
    },
    Sweep {
        budget: usize,
        expired_ms: u64,
    },
    /// Takes a set through its forms faster than one edge after the other.
    RemoveMany {
        from: u128,
        to: u128,
    },
}

fn op() -> impl Strategy<Value = Op> {
    // Few times, so that many edges stand in the order of their ids, and few ids, so that most of them change.
    let set = (0u128..500, 0u64..6, any::<bool>(), prop_oneof![3 => Just(0), 1 => 0u64..6]);
    prop_oneof![
        20 => set.prop_map(|(who, time_ms, liked, expired_ms)| Op::Set { who, stamp: Stamp::new(time_ms, liked), expired_ms }),
        4 => (0u128..500).prop_map(|who| Op::Remove { who }),
        1 => (1usize..600, 0u64..6).prop_map(|(budget, expired_ms)| Op::Sweep { budget, expired_ms }),
        1 => (0u128..500, 0u128..500).prop_map(|(from, to)| Op::RemoveMany { from, to }),
    ]
}

fn answers_as_a_map<const N: usize>(ops: &[Op], seed: u64) {
    let hasher = KeyState::with_seed(seed);
    let (mut set, mut model) = (EdgeSet::<N>::default(), Model::new());
    for op in ops {
        let mut dropped_before_ms = 0;
        match *op {
            Op::Set { who, stamp, expired_ms } => {
                let id = spread::<N>(who);
                assert_eq!(set.set(id, stamp, expired_ms, &hasher), model.insert(id, stamp));
                assert_eq!(set.get(id, &hasher), Some(stamp), "what was just set is not dropped");
                dropped_before_ms = expired_ms;
            }
            Op::Remove { who } => {
                let id = spread::<N>(who);
                assert_eq!(set.remove(id, &hasher), model.remove(&id));
            }
            Op::Sweep { budget, expired_ms } => {
                sweep(&mut set, budget, expired_ms, &hasher);
                model.retain(|_, stamp| stamp.is_like() || stamp.time_ms() >= expired_ms);
            }
            Op::RemoveMany { from, to } => {
                for id in (from..to).map(spread::<N>) {
                    assert_eq!(set.remove(id, &hasher), model.remove(&id));
                }
            }
        }
        compare(&set, &mut model, dropped_before_ms, &hasher);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_set_answers_as_a_map_does(ops in prop::collection::vec(op(), 0..900), seed: u64) {
        answers_as_a_map::<8>(&ops, seed);
        answers_as_a_map::<16>(&ops, seed);
        answers_as_a_map::<6>(&ops, seed);
    }
}

#[test]
fn an_index_that_is_moved_while_a_chunk_is_split_keeps_an_end_on_every_way() {
    // Few viewers who like and unlike one item over and over, as the newest but in no order within an epoch: a split
    // moves many ids for the size of the tables, and the one that is being left has to take them.
    for seed in 0..1_500 {
        let (hasher, mut state, mut set, mut model) =
            (KeyState::with_seed(seed), seed, EdgeSet::<8>::default(), Model::new());
        let (viewers, of_an_epoch) = (300 + seed % 300, [100, 200, 400, 800][seed as usize % 4]);
        for event in 0..3_000 {
            let time_ms = event / of_an_epoch * of_an_epoch + random(&mut state) % of_an_epoch;
            let stamp = Stamp::new(time_ms, !random(&mut state).is_multiple_of(4));
            let id = u128::from(random(&mut state) % viewers);
            assert_eq!(set.set(id, stamp, 0, &hasher), model.insert(id, stamp));
        }
        compare(&set, &mut model, 0, &hasher);
    }
}

/// What a run came through.
#[derive(Debug, Default)]
struct Reached {
    splits: u64,
    appends: u64,
    joins: u64,
    became_many: u64,
    became_few: u64,
    rebuilds: u64,
    /// Checks while the index was moved to another table.
    moving: u64,
}

impl Reached {
    fn note(&mut self, before: Option<(usize, usize)>, after: Option<(usize, usize)>, is_newest: bool) {
        match (before, after) {
            (None, Some(_)) => self.became_many += 1,
            (Some(_), None) => self.became_few += 1,
            (Some((chunks, words)), Some((chunks_now, words_now))) => {
                self.rebuilds += u64::from(words != words_now);
                match (chunks_now > chunks, chunks_now < chunks) {
                    (true, _) if is_newest => self.appends += 1,
                    (true, _) => self.splits += 1,
                    (_, true) => self.joins += 1,
                    _ => {}
                }
            }
            (None, None) => {}
        }
    }
}

fn shape(set: &EdgeSet<8>) -> Option<(usize, usize)> {
    match &set.0 {
        Edges::Few(_) => None,
        Edges::Many(many) => Some(many.shape()),
    }
}

#[test]
fn a_large_set_answers_as_a_map_does_while_it_grows_changes_and_shrinks() {
    let (hasher, mut state, mut reached) = (KeyState::with_seed(11), 5, Reached::default());
    let (mut set, mut model, mut clock) = (EdgeSet::<8>::default(), Model::new(), 1_000_000u64);
    // How many of a hundred changes are removals, of how many ids: up and down, to nothing at the end.
    let phases =
        [(5, 20_000), (40, 20_000), (95, 20_000), (5, 180), (10, 20_000), (60, 3_000), (98, 20_000), (100, 20_000)];
    for (removals, ids) in phases {
        for step in 0..30_000 {
            let mut id = u128::from(random(&mut state) % ids);
            if random(&mut state) % 100 < removals {
                // An id that is there, or nothing would ever become empty.
                id = model.range(id..).next().or(model.first_key_value()).map_or(id, |(&id, _)| id);
                let before = shape(&set);
                assert_eq!(set.remove(id, &hasher), model.remove(&id));
                reached.note(before, shape(&set), false);
            } else {
                clock += random(&mut state) % 2;
                let old = random(&mut state).is_multiple_of(2);
                let time_ms = if old { random(&mut state) % 1_000_000 } else { clock };
                let stamp = Stamp::new(time_ms, !random(&mut state).is_multiple_of(4));
                let before = shape(&set);
                assert_eq!(set.set(id, stamp, 0, &hasher), model.insert(id, stamp));
                reached.note(before, shape(&set), !old);
            }
            assert_eq!(set.len(), model.len());
            let is_moving = matches!(&set.0, Edges::Many(many) if many.is_moving());
            if step % 3_000 == 0 || is_moving && step % 20 == 0 {
                reached.moving += u64::from(is_moving);
                compare(&set, &mut model, 0, &hasher);
            }
        }
        compare(&set, &mut model, 0, &hasher);
    }
    assert!(set.is_empty() && set.memory_bytes() == 0);
    println!("{reached:?}");
    let Reached { splits, appends, joins, became_many, became_few, rebuilds, moving } = reached;
    assert!(splits.min(appends).min(joins).min(rebuilds).min(moving) > 10 && became_many.min(became_few) > 1);
}

#[test]
fn a_walk_visits_every_edge_that_is_not_changed_meanwhile() {
    let hasher = KeyState::with_seed(1);
    let (mut edges, mut calls, mut became_few) = (0, 0, 0);
    for seed in 0..90 {
        let (mut state, mut set) = (seed, EdgeSet::<8>::default());
        // Every second set loses so much that some become few before the walk ends. What changes has odd ids.
        let (changes, removals) = [(400, 3), (3_000, 4)][seed as usize % 2];
        let mut kept: BTreeSet<u128> = (0..[20, 400, 4_000][seed as usize % 3]).map(|id| id * 2).collect();
        let stamp = |state: &mut u64| Stamp::new(random(state) % 50, !random(state).is_multiple_of(3));
        kept.iter().for_each(|&id| assert_eq!(set.set(id, stamp(&mut state), 0, &hasher), None));
        for id in 0..2_000 {
            set.set(id * 2 + 1, stamp(&mut state), 0, &hasher);
        }
        let (mut seen, mut from) = (BTreeSet::new(), None);
        loop {
            let next = set.walk(from, 60, &mut |id, _| {
                seen.insert(id);
            });
            calls += 1;
            let Some(next) = next else { break };
            assert!(from.replace(next).is_none_or(|from| next > from), "a walk comes to its end");
            for _ in 0..random(&mut state) % changes {
                let id = u128::from(random(&mut state) % 2_000) * 2 + 1;
                if random(&mut state) % 4 < removals {
                    set.remove(id, &hasher);
                } else {
                    set.set(id, stamp(&mut state), 0, &hasher);
                }
            }
            // In every third set, a step of a sweep that is as far as the walk or begins.
            if seed >= 60 {
                let expired_ms = random(&mut state) % 10;
                let swept_from = if random(&mut state).is_multiple_of(2) { from } else { None };
                set.sweep(swept_from, 100, expired_ms, &hasher);
            }
            check(&set, &hasher);
            became_few += u64::from(matches!(set.0, Edges::Few(_)));
        }
        kept.retain(|&id| set.get(id, &hasher).is_some());
        assert!(kept.is_subset(&seen), "seed {seed}: {:?}", kept.difference(&seen).collect::<Vec<_>>());
        edges += kept.len();
    }
    assert!(became_few > 1);
    println!("{edges} edges that did not change, in {calls} steps of walks, of which {became_few} sets became few");
}

fn keeps_the_largest_ids<const N: usize>() {
    let hasher = KeyState::with_seed(1);
    let (max, stamp) = (u128::MAX >> (128 - 8 * N), Stamp::new(crate::limits::MAX_TIME_MS, true));
    let mut set = EdgeSet::<N>::default();
    for below in 0..200 {
        assert_eq!(set.set(max - below, stamp, 0, &hasher), None);
        assert_eq!(set.get(max - below, &hasher), Some(stamp));
    }
    check(&set, &hasher);
    assert_eq!(pages(&set, 7), (0..200).map(|below| (max - below, stamp)).collect::<Vec<_>>());
    // A position need not be of an id that the set can hold.
    let beyond = 1u128.checked_shl(8 * N as u32).unwrap_or(u128::MAX);
    let mut out = Vec::new();
    set.newest(Some((stamp, beyond)), 1, &mut out);
    assert_eq!(out, [(max - u128::from(N == 16), stamp)]);
    assert_eq!(set.walk(Some((stamp, beyond)), 1, &mut |_, _| {}), None);
    assert_eq!(set.remove(max, &hasher), Some(stamp));
    assert_eq!(set.get(max, &hasher), None);
}

#[test]
fn ids_of_the_full_width_are_kept() {
    keeps_the_largest_ids::<6>();
    keeps_the_largest_ids::<8>();
    keeps_the_largest_ids::<16>();
}

#[test]
fn whoever_chooses_ids_cannot_choose_equal_hashes() {
    // What foldhash combines the upper half of a `u128` with, before it multiplies by it, unless it is given a secret.
    const CANCELLED: u64 = 0xc0ac_29b7_c97c_50dd;
    let hasher = KeyState::with_seed(77);
    let ids: Vec<_> = (0..100).map(|low| u128::from(CANCELLED) << 64 | low).collect();
    let hashes: BTreeSet<_> = ids.iter().map(|&id| Edge::<16>::with_id(id).hash(&hasher)).collect();
    assert_eq!(hashes.len(), 100);
}

#[test]
fn few_edges_take_their_own_bytes() {
    let (hasher, mut set) = (KeyState::with_seed(1), EdgeSet::<8>::default());
    for id in 0..10 {
        set.set(id, Stamp::new(5, true), 0, &hasher);
    }
    assert_eq!(set.memory_bytes(), 10 * 14);
}

/// Their ids are all in the old table still, where there is little room.
#[test]
fn splits_that_follow_each_other_while_the_index_is_moved_find_room() {
    for ascending in 1..=200 {
        let (hasher, mut set, mut ids) = (KeyState::with_seed(3), EdgeSet::<8>::default(), 0..);
        let mut like = |time_ms| set.set(ids.next().unwrap(), Stamp::new(time_ms, true), 0, &hasher);
        // Descending times split the first chunk over and over, ascending ones fill the last.
        (0..512).for_each(|n| _ = like(1_000_000 - 1_000 * n));
        (1..=ascending).for_each(|n| _ = like(1_000_000 + 1_000 * n));
        [600_500, 1_050_500, 500_500, 1_050_501].into_iter().for_each(|time_ms| _ = like(time_ms));
        check(&set, &hasher);
    }
}

#[test]
fn a_set_that_gets_edges_at_once_has_the_last_of_each_id_as_if_they_came_one_by_one() {
    let hasher = KeyState::with_seed(7);
    let mut state = 11;
    for len in (0..=2 * MAX_FEW).chain([600]) {
        for ids in [u64::MAX, 1_000, 40] {
            let (mut set, mut model) = (EdgeSet::<8>::default(), Model::new());
            // The second time it has some already.
            for _ in 0..2 {
                let mut edge = |_| {
                    let id = u128::from(random(&mut state) % ids);
                    (id, Stamp::new(random(&mut state) % 500, random(&mut state).is_multiple_of(2)))
                };
                let edges: Vec<_> = (0..len).map(&mut edge).collect();
                set.extend(edges.iter().copied(), &hasher);
                model.extend(edges);
                check(&set, &hasher);
                assert_eq!((set.len(), walked(&set, 50)), (model.len(), model.clone()));
            }
        }
    }
}

#[test]
fn a_sweep_leaves_no_room_for_what_it_drops_in_steps_that_are_short() {
    let hasher = KeyState::with_seed(5);
    for kept in [0_u128, 1, 60, 65, 100, 1_000, 30_000] {
        let (mut set, mut model) = (EdgeSet::<8>::default(), Model::new());
        for id in 0..100_000_u128 {
            // What stays is spread among what goes, and comes after it.
            let is_kept = id % 100_000 * kept % 100_000 < kept;
            let (time_ms, liked) = if id.is_multiple_of(2) { (id as u64, true) } else { (100_001, false) };
            let stamp = if is_kept { Stamp::new(time_ms, liked) } else { Stamp::new(id as u64, false) };
            set.set(id, stamp, 0, &hasher);
            model.insert(id, stamp);
        }
        let before = set.memory_bytes();
        let steps = sweep(&mut set, 512, 100_000, &hasher);
        model.retain(|_, stamp| stamp.is_like() || stamp.time_ms() >= 100_000);
        assert_eq!(model.len(), kept as usize);
        compare(&set, &mut model, 0, &hasher);
        // Beside the edges and their index there are the places of empty chunks, which at most were half full: 20 bytes
        // for each, and some that the lists have to spare.
        let bytes = set.memory_bytes();
        assert!(bytes < 24 * kept as usize + 40_000, "{kept} edges take {bytes} bytes");
        println!("{kept} kept: {before} to {bytes} bytes in {steps} steps");
    }
}
