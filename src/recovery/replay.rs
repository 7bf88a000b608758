//! From the log's frames to the shards.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{KnownNamespaces, RecoveryReport, SHARD_IS_FULL, check_later_segments, missing_is_damage, position};
use crate::directory::Layout;
use crate::error::{Error, Result};
use crate::log::{self, Expected, FrameView, Group, LastSegment, LogEnd, Record};
use crate::manifest::{Generation, Manifest};
use crate::shard::{At, LikeRules, Load, NamespaceId, Place, Shards};
use crate::storage::Storage;

/// Replays the log after the snapshot, or all of it, and finds its end.
pub(super) fn replay_log(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &Manifest,
    generation: Option<&Generation>,
    shards: &Shards,
    report: &mut RecoveryReport,
) -> Result<LogEnd> {
    let from = generation.map_or(manifest.first_segment, |generation| generation.log_from);
    // A snapshot may cover all of the log; its last segment still has the chain that the next one goes on from.
    let start = from.min(manifest.last_segment).max(manifest.first_segment);
    let mut end = LogEnd { next_segment: manifest.last_segment + 1, chain: 0, last_epoch: 0, last: None };
    let mut replay = Replay::new(manifest, shards);
    report.closed_cleanly = manifest.last_segment < start;
    for number in start..=manifest.last_segment {
        let path = log::segment_path(&layout.log, number);
        let header = log::read_segment_header(storage, &path, manifest.store_id, number)
            .map_err(|error| missing_is_damage(error, &path))?;
        let (chain, last_epoch) = if number == start {
            (None, header.first_epoch.saturating_sub(1))
        } else {
            (Some(end.chain), end.last_epoch)
        };
        let position = position(storage, layout, manifest, number)?;
        let expected = Expected { store_id: manifest.store_id, number, chain, last_epoch, position };
        let found = log::read_segment(storage, &path, &expected, &mut |frame| {
            if number < from { Ok(()) } else { replay.frame(&path, &frame) }
        })?;
        replay.end_segment();
        if number >= from {
            report.segments += 1;
            report.frames += found.frames;
            report.log_bytes += found.end;
        }
        report.closed_cleanly = found.sealed;
        report.dropped_bytes = found.dropped_bytes;
        report.dropped_at = (found.dropped_bytes > 0).then(|| (path.clone(), found.end));
        end.chain = found.chain;
        end.last_epoch = found.last_epoch;
        end.last = Some(LastSegment { number, last_frame: found.last_frame, end: found.end, sealed: found.sealed });
    }
    report.changes = replay.changes;
    report.last_time_ms = replay.last_time_ms;
    report.last_epoch = end.last_epoch;
    replay.finish();
    check_later_segments(storage, layout, manifest)?;
    Ok(end)
}

/// Where the counters are in memory that a segment's slots stand for, by their [`slot_name`].
///
/// In pages, because slots ascend in each list of a group, and those of new counters follow each other: the next one's
/// place is most often beside the last one's.
#[derive(Default)]
struct Places {
    pages: HashMap<u64, [Option<Place>; PAGE_SLOTS], FixedState>,
}

/// Few, because a segment may name one slot here and there: then each takes a page, of 40 bytes.
const PAGE_SLOTS: usize = 4;

impl Places {
    fn get(&self, name: u64) -> Option<Place> {
        self.pages.get(&(name / PAGE_SLOTS as u64))?[name as usize % PAGE_SLOTS]
    }

    fn insert(&mut self, name: u64, place: Place) {
        let page = self.pages.entry(name / PAGE_SLOTS as u64).or_default();
        page[name as usize % PAGE_SLOTS] = Some(place);
    }

    fn clear(&mut self) {
        self.pages.clear();
    }
}

/// Counters of a frame that are still to be set: together, because one after the other would wait for memory each time.
/// An item's likes need not wait for its count, which is apart from them.
#[derive(Default)]
struct Gathered<'a> {
    /// The slot names of `loads`.
    names: Vec<u64>,
    loads: Vec<Load<'a>>,
    places: Vec<Option<Place>>,
    /// Whether some are by their keys, so that what a slot stands for may change.
    has_names: bool,
}

/// How many are set together: more than a core can wait for.
const GATHERED: usize = 64;

impl<'a> Gathered<'a> {
    fn push(&mut self, name: u64, load: Load<'a>) {
        self.has_names |= matches!(load.at, At::Key(_));
        self.names.push(name);
        self.loads.push(load);
    }
}

/// Applies frames to the shards.
struct Replay<'a> {
    shards: &'a Shards,
    known: KnownNamespaces,
    places: Places,
    /// Counters that were removed; their slots stay until the end, because a place may name them.
    removed: Vec<(NamespaceId, Place)>,
    /// By namespace, of those of likes.
    rules: HashMap<NamespaceId, Arc<LikeRules>, FixedState>,
    changes: u64,
    /// When the newest frame was sealed.
    last_time_ms: Option<u64>,
}

/// Namespace and slot leave this many bits of a word for the shard.
const SHARD_BITS: u32 = 16;

pub(crate) const UNNAMED: &str = "changes a slot that the segment has not named";

/// A slot of the log as one word, for a map of those that a segment has named.
pub(crate) fn slot_name(namespace: NamespaceId, shard: u32, slot: u32) -> Result<u64, &'static str> {
    if shard >> SHARD_BITS != 0 {
        return Err("names a shard that no store has");
    }
    Ok(u64::from(namespace) << (32 + SHARD_BITS) | u64::from(shard) << 32 | u64::from(slot))
}

impl<'a> Replay<'a> {
    fn new(manifest: &Manifest, shards: &'a Shards) -> Self {
        let rules = manifest.namespaces.iter().filter_map(|namespace| {
            let rules = shards.like_rules(namespace.id)?;
            Some((namespace.id, rules))
        });
        Self {
            shards,
            known: KnownNamespaces::new(manifest),
            places: Places::default(),
            removed: Vec::new(),
            rules: rules.collect(),
            changes: 0,
            last_time_ms: None,
        }
    }

    fn frame(&mut self, path: &Path, frame: &FrameView<'_>) -> Result<()> {
        self.last_time_ms = Some(frame.time_ms);
        let corrupt = |offset, what| {
            let offset = frame.body_offset() + offset as u64;
            Error::corrupt(path, offset, format!("epoch {} {what}", frame.epoch))
        };
        let mut gathered = Gathered::default();
        log::decode_body(frame.body, |group, record| self.record(group, record, &mut gathered))
            .map_err(|malformed| corrupt(malformed.offset, malformed.what))?;
        self.load(&mut gathered).map_err(|what| corrupt(frame.body.len(), what))
    }

    fn record<'b>(
        &mut self,
        group: Group,
        record: Record<'b>,
        gathered: &mut Gathered<'b>,
    ) -> Result<(), &'static str> {
        let Group { namespace, shard, kind } = group;
        self.changes += 1;
        let name = slot_name(namespace, shard, record.slot())?;
        if !self.known.check(namespace, kind)? {
            return Ok(());
        }
        let (at, value) = match record {
            Record::NamedSet { key, value, .. } => (At::Key(key), Some(value)),
            Record::NamedRemoved { key, .. } => (At::Key(key), None),
            Record::Set { value, .. } => (At::Place(self.place(name, gathered)?), Some(value)),
            Record::Removed { .. } => (At::Place(self.place(name, gathered)?), None),
            Record::Cleared { .. } => {
                self.shards.load_cleared_at(namespace, self.place(name, gathered)?);
                return Ok(());
            }
            Record::Edge { viewer, stamp, .. } => {
                self.shards.load_edge_at(namespace, self.place(name, gathered)?, viewer, stamp);
                if let (Some(stamp), Some(rules)) = (stamp, self.rules.get(&namespace)) {
                    // A time that was later than the clock did not count towards the horizon.
                    rules.see(stamp.time_ms().min(self.last_time_ms.unwrap_or(0)));
                }
                return Ok(());
            }
        };
        gathered.push(name, Load { namespace, at, value });
        if gathered.loads.len() == GATHERED { self.load(gathered) } else { Ok(()) }
    }

    /// Where the counter of a slot is. What was gathered may name it.
    fn place(&mut self, name: u64, gathered: &mut Gathered<'_>) -> Result<Place, &'static str> {
        if gathered.has_names {
            self.load(gathered)?;
        }
        self.places.get(name).ok_or(UNNAMED)
    }

    /// Sets what was gathered. That a table is full, of its two billion slots, is told at a record that comes later.
    fn load(&mut self, gathered: &mut Gathered<'_>) -> Result<(), &'static str> {
        if gathered.loads.is_empty() {
            return Ok(());
        }
        let Gathered { names, loads, places, has_names } = gathered;
        if !self.shards.load_all(loads, places) {
            *gathered = Gathered::default();
            return Err(SHARD_IS_FULL);
        }
        // In the order of the records: the last that names a slot says what it stands for.
        for ((name, load), place) in names.drain(..).zip(loads.drain(..)).zip(places.drain(..)) {
            let Some(place) = place else { continue };
            if let At::Key(_) = load.at {
                self.places.insert(name, place);
            }
            if load.value.is_none() {
                self.removed.push((load.namespace, place));
            }
        }
        *has_names = false;
        Ok(())
    }

    /// The next segment names its slots anew.
    fn end_segment(&mut self) {
        self.places.clear();
    }

    fn finish(self) {
        for (namespace, place) in self.removed {
            self.shards.release_loaded(namespace, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::edge::{Content, Stamp, ViewerWidth};
    use crate::manifest::{Namespace, NamespaceKind};
    use crate::options::{CounterOptions, LikeOptions};
    use crate::shard::{Chunk, EdgePlace};

    /// Two of counters and one of likes; there was one more.
    const NAMESPACES: [NamespaceId; 3] = [0, 1, 2];
    const LIKES: NamespaceId = 2;
    const DROPPED: NamespaceId = 3;

    const COUNTERS: Content = Content::Counters;
    const EDGES: Content = Content::Edges(ViewerWidth::Bits64);

    /// What there is after a replay, and what it answered.
    #[derive(Debug, Default, PartialEq)]
    struct Replayed {
        values: BTreeMap<(NamespaceId, Vec<u8>), i64>,
        edges: BTreeMap<(Vec<u8>, u128), Stamp>,
        answers: Vec<Result<(), &'static str>>,
        changes: u64,
        memory: (u64, u64),
    }

    fn empty(count: usize) -> (Manifest, Shards) {
        let mut manifest = Manifest::new(1, 1);
        manifest.next_namespace = u32::from(DROPPED) + 1;
        let shards = Shards::new(count, 42);
        for id in NAMESPACES {
            let kind = if id == LIKES {
                NamespaceKind::Likes { options: LikeOptions::default(), newest_ms: 0 }
            } else {
                NamespaceKind::Counters(CounterOptions::default())
            };
            manifest.namespaces.push(Namespace { id, name: format!("{id}").into(), kind });
            shards.add_namespace(id, manifest.namespaces[usize::from(id)].like_rules());
        }
        (manifest, shards)
    }

    /// Replays the records of a frame, in their order, into so many shards.
    fn replayed(count: usize, records: &[(Group, Record<'_>)], together: bool) -> Replayed {
        let (manifest, shards) = empty(count);
        let (mut replay, mut gathered) = (Replay::new(&manifest, &shards), Gathered::default());
        let mut found = Replayed::default();
        for &(group, record) in records {
            found.answers.push(replay.record(group, record, &mut gathered));
            if !together {
                replay.load(&mut gathered).unwrap();
            }
        }
        replay.load(&mut gathered).unwrap();
        found.changes = replay.changes;
        replay.finish();
        found.memory = shards.counters_and_memory();
        for id in NAMESPACES {
            let mut next = Some(Chunk::default());
            while let Some(chunk) = next {
                let visit = &mut |key: &[u8], value| _ = found.values.insert((id, key.to_vec()), value);
                next = shards.visit(id, chunk, visit).unwrap();
            }
        }
        let mut next = Some(EdgePlace::default());
        while let Some(place) = next {
            let edges = &mut found.edges;
            let visit =
                &mut |edge: crate::shard::Edge<'_>| _ = edges.insert((edge.item.to_vec(), edge.viewer), edge.stamp);
            next = shards.visit_edges(LIKES, place, visit).unwrap();
        }
        found
    }

    #[test]
    fn a_slot_stands_for_what_the_record_before_it_named_also_in_one_frame() {
        let of = |shard| Group { namespace: 0, shard, kind: COUNTERS };
        let named = |slot, key, value| (of(3), Record::NamedSet { slot, key, value });
        let set = |slot, value| (of(3), Record::Set { slot, value });
        let records = [
            named(7, b"a", 1),
            named(8, b"b", 2),
            set(7, 10),
            named(7, b"c", 3),
            set(7, 30),
            (of(2), Record::Set { slot: 7, value: 99 }),
            named(9, b"d", 4),
            (of(3), Record::Removed { slot: 9 }),
            (of(3), Record::NamedRemoved { slot: 8, key: b"b" }),
        ];
        let Replayed { values, answers, .. } = replayed(4, &records, true);
        assert_eq!(values, BTreeMap::from([((0, b"a".to_vec()), 10), ((0, b"c".to_vec()), 30)]));
        let refused: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.is_err()).collect();
        assert_eq!(refused, [(5, &Err(UNNAMED))], "no slot of another shard was named");
    }

    #[test]
    fn records_together_do_what_they_do_one_by_one() {
        let keys: Vec<[u8; 1]> = (0..30).map(|key| [key]).collect();
        let (mut named, mut refused, mut liked) = (0, 0, 0);
        for seed in 0..400_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let slots = [4, 40, 200][seed as usize % 3];
            let mut record = || {
                let kind = if random(4) == 0 { EDGES } else { COUNTERS };
                let namespace = if kind == EDGES { LIKES } else { random(4) as NamespaceId };
                let group = Group { namespace, shard: random(3) as u32, kind };
                let (slot, value) = (random(slots) as u32, random(1_000) as i64);
                let key = &keys[random(30) as usize];
                let record = match (kind, random(8)) {
                    (COUNTERS, 0..=2) => Record::NamedSet { slot, key, value },
                    (COUNTERS, 3) => Record::NamedRemoved { slot, key },
                    (COUNTERS, 4) => Record::Removed { slot },
                    (COUNTERS, _) => Record::Set { slot, value },
                    (_, 0) => Record::Cleared { slot },
                    (_, 1) => Record::Edge { slot, viewer: 5, stamp: None },
                    _ => Record::Edge { slot, viewer: random(9).into(), stamp: Some(Stamp::new(random(50), true)) },
                };
                (group, record)
            };
            // As many as are set together, one less, one more, and other numbers.
            let records: Vec<_> =
                (0..[GATHERED, GATHERED - 1, GATHERED + 1, 500][seed as usize % 4]).map(|_| record()).collect();
            for shards in [1, 4, 16] {
                let together = replayed(shards, &records, true);
                assert_eq!(together, replayed(shards, &records, false), "seed {seed}, {shards} shards");
                named += together.values.len();
                refused += together.answers.iter().filter(|answer| answer.is_err()).count();
                liked += together.edges.len();
            }
        }
        assert!(named > 10_000 && refused > 10_000 && liked > 1_000, "{named} {refused} {liked}");
    }

    #[test]
    fn slots_of_what_was_removed_are_used_again() {
        const MANY: u32 = 5_000;
        let (manifest, shards) = empty(4);
        let group = Group { namespace: 0, shard: 0, kind: COUNTERS };
        let mut memory = Vec::new();
        for round in 0..4_u32 {
            let (mut replay, mut gathered) = (Replay::new(&manifest, &shards), Gathered::default());
            let keys: Vec<[u8; 8]> =
                (0..MANY).map(|key| (u64::from(round) << 32 | u64::from(key)).to_be_bytes()).collect();
            for (slot, key) in (0..).zip(&keys) {
                replay.record(group, Record::NamedSet { slot, key, value: 1 }, &mut gathered).unwrap();
            }
            for slot in 0..MANY {
                replay.record(group, Record::Removed { slot }, &mut gathered).unwrap();
            }
            replay.load(&mut gathered).unwrap();
            replay.finish();
            memory.push(shards.counters_and_memory());
        }
        assert_eq!(memory[1..], [memory[0]; 3], "counters and bytes after each round");
    }
}
