//! From a store's directory to its counters in memory: the newest sound snapshot, and the log after it.
//!
//! Nothing on disk is changed before everything needed was read and verified. Then only what a run that ended early
//! left behind is removed: unfinished files, segments and generations that the manifest does not name.

mod known;
mod load;
mod parts;
mod replay;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::directory::Layout;
use crate::error::{Error, Result};
use crate::log::{self, Expected, LogEnd, Position};
use crate::manifest::{Manifest, ManifestFile, Namespace};
use crate::shard::{self, Drift, NamespaceId, Shards};
use crate::snapshot::Homes;
use crate::storage::Storage;

pub(crate) use known::KnownNamespaces;
pub(crate) use load::is_damage;
pub(crate) use replay::{UNNAMED, slot_name};

use load::load_newest;
use parts::in_parts;
use replay::replay_log;

const SHARD_IS_FULL: &str = "a shard cannot hold so many counters; open the store with more shards";

/// What [`Store::open`](crate::Store::open) found, restored and dropped.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the store was created by this open.
    pub created: bool,
    /// Whether the log ends with the seal of a clean close, or no change was ever logged.
    pub closed_cleanly: bool,
    /// The snapshot generation that was loaded.
    pub generation: Option<u64>,
    /// Generations that are damaged, newest first, and the damage. Those before them and the log restored the same
    /// counts; a new snapshot replaces them.
    pub damaged_generations: Vec<(u64, Error)>,
    /// Log segments that were replayed.
    pub segments: u64,
    /// Epochs that were replayed.
    pub frames: u64,
    /// Counter changes that were replayed.
    pub changes: u64,
    /// Bytes of log that were replayed.
    pub log_bytes: u64,
    /// Bytes at the very end of the log that were left out, because they are an epoch that a crash left incomplete. It
    /// was acknowledged to nobody, unless damage hit just that place.
    pub dropped_bytes: u64,
    /// Where those bytes are: the file, and the offset in it.
    pub dropped_at: Option<(PathBuf, u64)>,
    /// Counters that exist, and items of likes.
    pub counters: u64,
    /// Likes that exist. The count of each item was found to be that of its likes.
    pub likes: u64,
    /// The newest epoch that was restored.
    pub last_epoch: u64,
    /// When the newest replayed epoch was sealed, on the wall clock in milliseconds since 1970-01-01 UTC. `None` when
    /// the log had none after the snapshot.
    pub last_time_ms: Option<u64>,
    /// How long it took.
    pub duration: Duration,
}

/// A store's state, ready to go on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) shards: Shards,
    pub(crate) log_end: LogEnd,
    pub(crate) report: RecoveryReport,
}

/// Restores the state that the manifest, the generations and the log describe.
pub(crate) fn recover(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &ManifestFile,
    homes: &Homes,
    clock: &dyn Clock,
    shard_count: usize,
) -> Result<Recovered> {
    let started = clock.monotonic();
    // A manifest that a killed process left in the page cache looks durable and is not. It must be, before anything
    // builds on it. What it names is: the manifest names a segment or a generation only after its directory's sync.
    storage.sync_dir(&layout.root).map_err(|error| Error::io("sync", &layout.root, error))?;
    let manifest = manifest.read(Manifest::clone);
    let mut recovered = restore(storage, layout, &manifest, homes, shard_count)?;
    remove_leftovers(storage, layout, &manifest, homes)?;
    recovered.report.duration = clock.monotonic().saturating_sub(started);
    Ok(recovered)
}

/// The same without a change to the disk.
pub(crate) fn restore(
    storage: &dyn Storage,
    layout: &Layout,
    manifest: &Manifest,
    homes: &Homes,
    shard_count: usize,
) -> Result<Recovered> {
    let mut report = RecoveryReport::default();
    let shards = Shards::new(shard_count, manifest.hash_seed);
    let generation = load_newest(manifest, homes, &shards, &mut report)?;
    let log_end = replay_log(storage, layout, manifest, generation, &shards, &mut report)?;
    let end = log_end.last.map_or(0, |last| last.end);
    check_reach(layout, manifest, report.last_epoch, end)?;
    for namespace in manifest.namespaces.iter().filter(|namespace| namespace.viewers().is_some()) {
        let counted = recount(&shards, namespace.id);
        report.likes += counted.map_err(|drift| drifted(layout, manifest, end, namespace, &drift))?;
    }
    shards.start_at(report.last_epoch + 1);
    report.counters = shards.counters_and_memory().0;
    Ok(Recovered { shards, log_end, report })
}

/// The damage that a drift is. Every checksum was right, so it is not the disk's.
pub(crate) fn drifted(layout: &Layout, manifest: &Manifest, end: u64, namespace: &Namespace, drift: &Drift) -> Error {
    let (name, Drift { item, what }) = (&namespace.name, drift);
    let what = format!("at the log's end the item \"{}\" of {name:?} {what}", item.escape_ascii());
    Error::corrupt(&log::segment_path(&layout.log, manifest.last_segment), end, what)
}

/// So many items or likes are counted sooner than threads are started.
const FEW_LIKES: u64 = 4_096;

/// Counts the likes of a namespace and builds the viewers' side.
fn recount(shards: &Shards, namespace: NamespaceId) -> Result<u64, Drift> {
    let is_small = shards.len(namespace).is_ok_and(|items| items as u64 <= FEW_LIKES);
    let is_small = is_small && shards.likes(namespace) <= FEW_LIKES;
    let of_shards = |part: Range<u64>| part.start as usize..part.end as usize;
    let count = shards.count() as u64;
    let counted = in_parts(count, is_small, |part| shards.recount(namespace, of_shards(part)));
    let likes = counted.into_iter().sum::<Result<u64, Drift>>()?;
    in_parts(count, is_small, |part| shards.list_viewers(namespace, of_shards(part)));
    Ok(likes)
}

/// Whether the log reaches as far as the generations say. What a damaged one says counts too: everything that a
/// generation may have seen was durable before the manifest named it.
pub(crate) fn check_reach(layout: &Layout, manifest: &Manifest, last_epoch: u64, end: u64) -> Result<()> {
    let through_epoch = manifest.generations.iter().map(|generation| generation.through_epoch).max().unwrap_or(0);
    let what = if last_epoch < through_epoch {
        format!("the log ends with epoch {last_epoch}, and a snapshot needs {through_epoch}")
    } else if last_epoch > shard::LAST_EPOCH {
        format!("the log ends with epoch {last_epoch}, which no store reaches")
    } else {
        return Ok(());
    };
    Err(Error::corrupt(&log::segment_path(&layout.log, manifest.last_segment), end, what))
}

/// Where a segment stands, with the chain value that the segment after it names, or the seal that it must end with.
pub(crate) fn position(storage: &dyn Storage, layout: &Layout, manifest: &Manifest, number: u64) -> Result<Position> {
    if number == manifest.last_segment {
        return Ok(Position::Last { seal: manifest.seal });
    }
    let next = log::segment_path(&layout.log, number + 1);
    let header = log::read_segment_header(storage, &next, manifest.store_id, number + 1)
        .map_err(|error| missing_is_damage(error, &next))?;
    Ok(Position::Before { next_chain: header.prev_chain })
}

/// A file that the manifest names and that is not there is damage.
fn missing_is_damage(error: Error, path: &Path) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => missing(path),
        error => error,
    }
}

pub(crate) fn missing(path: &Path) -> Error {
    Error::corrupt(path, 0, "the file is missing, and the manifest names it")
}

/// A segment that the manifest does not name yet was created by a run that ended before its first frame. Anything in
/// it means that the manifest is not the newest one.
pub(crate) fn check_later_segments(storage: &dyn Storage, layout: &Layout, manifest: &Manifest) -> Result<()> {
    for number in segment_numbers(storage, layout)?.into_iter().filter(|&number| number > manifest.last_segment) {
        let path = log::segment_path(&layout.log, number);
        let position = Position::Last { seal: None };
        let expected = Expected { store_id: manifest.store_id, number, chain: None, last_epoch: 0, position };
        let found = log::read_segment(storage, &path, &expected, &mut |_| Ok(()))?;
        if found.frames > 0 || found.dropped_bytes > 0 {
            return Err(Error::corrupt(&path, found.end, "the segment has frames, and the manifest does not name it"));
        }
    }
    Ok(())
}

/// The numbers of the segments that are there, in no order.
pub(crate) fn segment_numbers(storage: &dyn Storage, layout: &Layout) -> Result<Vec<u64>> {
    let entries = storage.list(&layout.log).map_err(|error| Error::io("list", &layout.log, error))?;
    Ok(entries.iter().filter_map(|entry| log::parse_segment_name(&entry.name)).collect())
}

/// Removes what runs that ended early have left.
fn remove_leftovers(storage: &dyn Storage, layout: &Layout, manifest: &Manifest, homes: &Homes) -> Result<()> {
    let entries = storage.list(&layout.log).map_err(|error| Error::io("list", &layout.log, error))?;
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let needed = manifest.first_segment..=manifest.last_segment;
        let unneeded = log::parse_segment_name(&entry.name).is_some_and(|number| !needed.contains(&number));
        if unneeded || log::is_temporary(&entry.name) {
            let path = layout.log.join(&entry.name);
            storage.remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    let named = |number: &u64| manifest.generations.iter().any(|generation| generation.meta.number == *number);
    homes.list()?.into_iter().filter(|number| !named(number)).try_for_each(|number| homes.remove(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Generation;
    use crate::snapshot::{GenerationMeta, HomeKind};

    #[test]
    fn the_log_must_reach_as_far_as_any_generation_says_also_a_damaged_one() {
        let mut manifest = Manifest::new(1, 1);
        for (number, through_epoch) in [(1, 5), (2, 22)] {
            let meta = GenerationMeta {
                number,
                home: HomeKind::File,
                blocks: 0,
                counters: 0,
                edges: 0,
                bytes: 0,
                disk_bytes: 0,
                digest: 0,
                files_digest: 0,
            };
            manifest.generations.push(Generation { meta, log_from: 1, through_epoch });
        }
        let layout = Layout::new(Path::new("store"));
        check_reach(&layout, &manifest, 22, 64).unwrap();
        assert!(check_reach(&layout, &manifest, 21, 64).unwrap_err().is_corrupt());
    }
}
