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
use crate::shard::{LikeRules, NamespaceId, Place, Shards};
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

/// Applies frames to the shards.
struct Replay<'a> {
    shards: &'a Shards,
    known: KnownNamespaces,
    /// What the segment's slots stand for: namespace, shard and slot in one word, to the place in memory.
    places: HashMap<u64, Place, FixedState>,
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
            places: HashMap::default(),
            removed: Vec::new(),
            rules: rules.collect(),
            changes: 0,
            last_time_ms: None,
        }
    }

    fn frame(&mut self, path: &Path, frame: &FrameView<'_>) -> Result<()> {
        self.last_time_ms = Some(frame.time_ms);
        log::decode_body(frame.body, |group, record| self.record(group, record)).map_err(|malformed| {
            let offset = frame.body_offset() + malformed.offset as u64;
            Error::corrupt(path, offset, format!("epoch {} {}", frame.epoch, malformed.what))
        })
    }

    fn record(&mut self, group: Group, record: Record<'_>) -> Result<(), &'static str> {
        let Group { namespace, shard, kind } = group;
        self.changes += 1;
        let name = slot_name(namespace, shard, record.slot())?;
        if !self.known.check(namespace, kind)? {
            return Ok(());
        }
        match record {
            Record::NamedSet { key, value, .. } => self.name(namespace, name, key, Some(value))?,
            Record::NamedRemoved { key, .. } => self.name(namespace, name, key, None)?,
            Record::Set { value, .. } => self.set(namespace, self.place(name)?, Some(value)),
            Record::Removed { .. } => self.set(namespace, self.place(name)?, None),
            Record::Cleared { .. } => self.shards.load_cleared_at(namespace, self.place(name)?),
            Record::Edge { viewer, stamp, .. } => {
                self.shards.load_edge_at(namespace, self.place(name)?, viewer, stamp);
                if let (Some(stamp), Some(rules)) = (stamp, self.rules.get(&namespace)) {
                    // A time that was later than the clock did not count towards the horizon.
                    rules.see(stamp.time_ms().min(self.last_time_ms.unwrap_or(0)));
                }
            }
        }
        Ok(())
    }

    fn place(&self, name: u64) -> Result<Place, &'static str> {
        self.places.get(&name).copied().ok_or(UNNAMED)
    }

    fn name(&mut self, namespace: NamespaceId, name: u64, key: &[u8], value: Option<i64>) -> Result<(), &'static str> {
        let place = self.shards.load(namespace, key, value).ok_or(SHARD_IS_FULL)?;
        self.places.insert(name, place);
        self.note_removed(namespace, place, value);
        Ok(())
    }

    fn set(&mut self, namespace: NamespaceId, place: Place, value: Option<i64>) {
        self.shards.load_at(namespace, place, value);
        self.note_removed(namespace, place, value);
    }

    fn note_removed(&mut self, namespace: NamespaceId, place: Place, value: Option<i64>) {
        if value.is_none() {
            self.removed.push((namespace, place));
        }
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
