//! Reads everything that a store has on disk, and reports.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::directory::{Layout, absolute, inspect, take_lock};
use crate::edge::Content;
use crate::engine::Environment;
use crate::error::{Error, Result};
use crate::log::{self, Expected, Group, Record, SegmentEnd};
use crate::manifest::{Manifest, ManifestFile};
use crate::options::{Options, SnapshotHome};
use crate::recovery::{
    KnownNamespaces, UNNAMED, check_later_segments, check_reach, drifted, is_damage, missing, position, restore,
    segment_numbers, slot_name,
};
use crate::snapshot::{GenerationMeta, Homes, Malformed};
use crate::storage::Storage;

/// What [`Store::verify`](crate::Store::verify) read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The names of the namespaces.
    pub namespaces: Vec<String>,
    /// The generations, oldest first; the sound ones.
    pub generations: Vec<GenerationReport>,
    /// The log's segments, oldest first; the sound ones.
    pub segments: Vec<SegmentReport>,
    /// The namespaces of likes, by name, once everything else was found sound: each item's count is that of its likes,
    /// and each viewer's list has what the items say.
    pub likes: Vec<LikesReport>,
    /// Bytes at the end of the log that a crash left incomplete, and that the next open will leave out.
    pub dropped_bytes: u64,
    /// Every damage found. Empty for a sound store, which opens.
    pub problems: Vec<Error>,
}

/// A namespace of likes that was recounted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LikesReport {
    /// Its name.
    pub name: String,
    /// Items in it.
    pub items: u64,
    /// Likes in it.
    pub likes: u64,
}

/// A sound snapshot generation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenerationReport {
    /// Its number.
    pub number: u64,
    /// Counters in it, among them the counts of items.
    pub counters: u64,
    /// Likes in it, and unlikes that are remembered.
    pub edges: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// A sound log segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// Frames that were read; each is an epoch.
    pub frames: u64,
    /// Their length in bytes, with the header's.
    pub bytes: u64,
    /// Whether it ends with the seal of a clean close.
    pub sealed: bool,
}

pub(crate) fn verify(environment: Environment, path: &Path) -> Result<VerifyReport> {
    let Environment { storage, .. } = environment;
    let layout = Layout::new(&absolute(&*storage, path)?);
    if !inspect(&*storage, &layout)? {
        return Err(Error::NotAStore { path: layout.root, what: "there is no store".to_owned() });
    }
    let _lock = take_lock(&*storage, &layout, true)?;
    let manifest = ManifestFile::open(Arc::clone(&storage), &layout.root)?.read(Manifest::clone);
    let homes = Homes::new(&storage, &layout.snapshot, SnapshotHome::default());
    let mut report = VerifyReport {
        namespaces: manifest.namespaces.iter().map(|namespace| namespace.name.to_string()).collect(),
        ..VerifyReport::default()
    };
    let known = KnownNamespaces::new(&manifest);
    for generation in &manifest.generations {
        match verify_generation(&homes, &known, &generation.meta) {
            Ok(sound) => report.generations.push(sound),
            Err(error) => report.problem(error)?,
        }
    }
    verify_log(&*storage, &layout, &manifest, &known, &mut report)?;
    if report.problems.is_empty() {
        verify_likes(&*storage, &layout, &manifest, &homes, &mut report)?;
    }
    Ok(report)
}

/// Restores the store in memory, which recounts every item, and compares both sides of every like.
fn verify_likes(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &Manifest,
    homes: &Homes,
    report: &mut VerifyReport,
) -> Result<()> {
    let namespaces = || manifest.namespaces.iter().filter(|namespace| namespace.viewers().is_some());
    if namespaces().next().is_none() {
        return Ok(());
    }
    let restored = match restore(storage, layout, manifest, homes, Options::default().shards) {
        Ok(restored) => restored,
        Err(error) => return report.problem(error),
    };
    let end = restored.log_end.last.map_or(0, |last| last.end);
    for namespace in namespaces() {
        let likes = restored.shards.likes(namespace.id);
        if let Err(drift) = restored.shards.compare_sides(namespace.id, likes) {
            report.problem(drifted(layout, manifest, end, namespace, &drift))?;
        }
        let items = restored.shards.len(namespace.id).unwrap_or(0) as u64;
        report.likes.push(LikesReport { name: namespace.name.to_string(), items, likes });
    }
    report.likes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

impl VerifyReport {
    /// Takes note of damage. What says nothing of the data ends the run.
    fn problem(&mut self, error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        self.problems.push(error);
        Ok(())
    }
}

fn verify_generation(homes: &Homes, known: &KnownNamespaces, meta: &GenerationMeta) -> Result<GenerationReport> {
    let reader = homes.open(meta)?;
    let (mut counters, mut edges) = (0, 0);
    reader.read_blocks(0..meta.blocks, &mut |index, block| {
        let mut count = || {
            known.check(block.namespace(), block.kind()).map_err(|what| Malformed { offset: 0, what })?;
            match block.kind() {
                Content::Counters => block.for_each(|_, _| {
                    counters += 1;
                    Ok(())
                }),
                Content::Edges(_) => block.for_each_item(|_, of_item| {
                    edges += of_item.len() as u64;
                    Ok(())
                }),
            }
        };
        count().map_err(|malformed| reader.corrupt_block(index, malformed))
    })?;
    Ok(GenerationReport { number: meta.number, counters, edges, blocks: meta.blocks, bytes: meta.bytes })
}

/// Goes on after a damaged segment, so that one run finds all damage there is.
fn verify_log(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &Manifest,
    known: &KnownNamespaces,
    report: &mut VerifyReport,
) -> Result<()> {
    let there: BTreeSet<u64> = segment_numbers(storage, layout)?.into_iter().collect();
    let mut before = None;
    // How far the log reaches, unless its end is damaged. A log without a segment reaches nowhere.
    let mut reach = (manifest.last_segment < manifest.first_segment).then_some((0, 0));
    let mut number = manifest.first_segment;
    while number <= manifest.last_segment {
        if !there.contains(&number) {
            report.problem(missing(&log::segment_path(&layout.log, number)))?;
            before = None;
            number = there.range(number..).next().map_or(u64::MAX, |&next| next);
            continue;
        }
        match verify_segment(storage, layout, manifest, known, number, before) {
            Ok(end) => {
                before = Some((end.chain, end.last_epoch));
                report.dropped_bytes += end.dropped_bytes;
                if number == manifest.last_segment {
                    reach = Some((end.last_epoch, end.end));
                }
                let (frames, bytes, sealed) = (end.frames, end.end, end.sealed);
                report.segments.push(SegmentReport { number, frames, bytes, sealed });
            }
            // That the next one is missing keeps this one from being judged, and is reported there.
            Err(_) if number < manifest.last_segment && !there.contains(&(number + 1)) => before = None,
            Err(error) => {
                before = None;
                report.problem(error)?;
            }
        }
        number += 1;
    }
    let reaches = reach.map_or(Ok(()), |(last_epoch, end)| check_reach(layout, manifest, last_epoch, end));
    reaches.or_else(|error| report.problem(error))?;
    check_later_segments(storage, layout, manifest).or_else(|error| report.problem(error))
}

/// Reads a segment, whose predecessor ended with this chain value and epoch if it was sound.
fn verify_segment(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &Manifest,
    known: &KnownNamespaces,
    number: u64,
    before: Option<(u32, u64)>,
) -> Result<SegmentEnd> {
    let path = log::segment_path(&layout.log, number);
    let position = position(storage, layout, manifest, number)?;
    let (chain, last_epoch) = match before {
        Some((chain, last_epoch)) => (Some(chain), last_epoch),
        None => {
            let header = log::read_segment_header(storage, &path, manifest.store_id, number)?;
            (None, header.first_epoch.saturating_sub(1))
        }
    };
    let expected = Expected { store_id: manifest.store_id, number, chain, last_epoch, position };
    let mut named = HashSet::<u64, FixedState>::default();
    let mut check = |Group { namespace, shard, kind }, record: Record<'_>| {
        known.check(namespace, kind)?;
        match record {
            Record::NamedSet { slot, .. } | Record::NamedRemoved { slot, .. } => {
                named.insert(slot_name(namespace, shard, slot)?);
                Ok(())
            }
            Record::Set { slot, .. }
            | Record::Removed { slot }
            | Record::Cleared { slot }
            | Record::Edge { slot, .. } => {
                if named.contains(&slot_name(namespace, shard, slot)?) {
                    Ok(())
                } else {
                    Err(UNNAMED)
                }
            }
        }
    };
    log::read_segment(storage, &path, &expected, &mut |frame| {
        log::decode_body(frame.body, &mut check)
            .map_err(|malformed| Error::corrupt(&path, frame.body_offset() + malformed.offset as u64, malformed.what))
    })
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::storage::sim::{SimClock, SimDisk};
    use crate::store::Store;

    #[test]
    fn a_manifest_that_names_more_segments_than_any_disk_has_is_a_few_problems() {
        let disk = SimDisk::new();
        let environment = || Environment::simulated(&disk, &SimClock::new());
        let path = Path::new("/store");
        let options = Options { snapshot_home: SnapshotHome::File, ..Options::default() };
        let store = Store::open_in(environment(), path, options).unwrap();
        store.counters("likes").unwrap().add("key", 1).unwrap();
        store.close().unwrap();
        assert_eq!(verify(environment(), path).unwrap().problems.len(), 0);

        let manifest = ManifestFile::open(Arc::new(disk.clone()), path).unwrap();
        manifest.update(|manifest| manifest.last_segment = 1 << 60).unwrap();
        let problems = verify(environment(), path).unwrap().problems;
        assert!((1..=3).contains(&problems.len()), "{problems:?}");
        assert!(problems.iter().all(Error::is_corrupt), "{problems:?}");
    }
}
