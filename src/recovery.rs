//! From a store's directory to its counters in memory: the newest sound snapshot, and the log after it.
//!
//! Nothing on disk is changed before everything needed was read and verified. Then only what a run that ended early
//! left behind is removed: unfinished files, segments and generations that the manifest does not name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foldhash::fast::FixedState;
use rustix::io::Errno;

use crate::clock::Clock;
use crate::directory::Layout;
use crate::edge::{Content, ViewerWidth};
use crate::error::{Error, Result};
use crate::log::{self, Expected, FrameView, Group, LastSegment, LogEnd, Position, Record};
use crate::manifest::{Generation, Manifest, ManifestFile};
use crate::shard::{self, NamespaceId, Place, Shards};
use crate::snapshot::block::MIN_ENTRY_BYTES;
use crate::snapshot::{Homes, Malformed};
use crate::storage::Storage;
use crate::sync::{scope, spawn_scoped};

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
    /// Counters that exist.
    pub counters: u64,
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
    let mut report = RecoveryReport::default();
    let shards = Shards::new(shard_count, manifest.hash_seed);
    let generation = load_newest(&manifest, homes, &shards, &mut report)?;
    let log_end = replay_log(storage, layout, &manifest, generation, &shards, &mut report)?;
    check_reach(layout, &manifest, report.last_epoch, log_end.last.map_or(0, |last| last.end))?;
    remove_leftovers(storage, layout, &manifest, homes)?;
    shards.start_at(report.last_epoch + 1);
    report.counters = shards.counters_and_memory().0;
    report.duration = clock.monotonic().saturating_sub(started);
    Ok(Recovered { shards, log_end, report })
}

/// Loads the newest generation that is sound. Without one, the log from the very beginning serves as well.
fn load_newest<'a>(
    manifest: &'a Manifest,
    homes: &Homes,
    shards: &Shards,
    report: &mut RecoveryReport,
) -> Result<Option<&'a Generation>> {
    add_namespaces(manifest, shards);
    for generation in manifest.generations.iter().rev() {
        let number = generation.meta.number;
        match load_generation(manifest, homes, generation, shards) {
            Ok(()) => {
                report.generation = Some(number);
                return Ok(Some(generation));
            }
            // It may well be sound, so it must not be replaced.
            Err(error) if !is_damage(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(number, %error, "snapshot generation is damaged; falling back to the one before");
                report.damaged_generations.push((number, error));
                manifest.namespaces.iter().for_each(|namespace| shards.drop_namespace(namespace.id));
                add_namespaces(manifest, shards);
            }
        }
    }
    // One that could not be read may be sound, so that is what to look into before anything is called lost.
    let unread = report.damaged_generations.iter().find(|(_, error)| !error.is_corrupt());
    match unread.or(report.damaged_generations.first()) {
        Some((_, error)) if manifest.first_segment > 1 => Err(error.clone()),
        _ => Ok(None),
    }
}

/// Whether a failure to load a generation is the generation's: not this build's, and not a want of this process's.
pub(crate) fn is_damage(error: &Error) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => {
            let is_unreadable = source.raw_os_error() == Some(Errno::IO.raw_os_error());
            is_unreadable
                || matches!(source.kind(), InvalidData | IsADirectory | NotADirectory | NotFound | UnexpectedEof)
        }
        _ => false,
    }
}

fn add_namespaces(manifest: &Manifest, shards: &Shards) {
    manifest.namespaces.iter().for_each(|namespace| shards.add_namespace(namespace.id));
}

/// Loads a generation with as many threads as there are cores. Blocks are in the order of shards, so that each thread
/// fills shards of its own.
fn load_generation(manifest: &Manifest, homes: &Homes, generation: &Generation, shards: &Shards) -> Result<()> {
    let meta = &generation.meta;
    let reader = homes.open(meta)?;
    if let [only] = &manifest.namespaces[..] {
        // No more than the files, whose length was verified, have room for.
        let counters = meta.counters.min(meta.disk_bytes / MIN_ENTRY_BYTES);
        shards.reserve(only.id, usize::try_from(counters).unwrap_or(0));
    }
    let known = KnownNamespaces::new(manifest);
    // The system is asked for its cores by reading files, which takes longer than loading one block.
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let threads = if meta.blocks > 1 { cores() } else { 1 };
    let per_thread = meta.blocks.div_ceil(threads).max(1);
    let load = |from: u64| {
        reader.read_blocks(from..meta.blocks.min(from.saturating_add(per_thread)), &mut |index, block| {
            let namespace = block.namespace();
            let refused = |what| reader.corrupt_block(index, Malformed { offset: 0, what });
            if !known.check(namespace, block.kind()).map_err(refused)? {
                return Ok(());
            }
            block
                .for_each(|key, value| match shards.load(namespace, key, Some(value)) {
                    Some(_) => Ok(()),
                    None => Err(Malformed { offset: 0, what: SHARD_IS_FULL }),
                })
                .map_err(|malformed| reader.corrupt_block(index, malformed))
        })
    };
    scope(|scope| {
        // The first part is this thread's own, so that a small generation starts no thread; and so is a part for
        // which the system gives none.
        let starts = (0..meta.blocks).step_by(usize::try_from(per_thread).unwrap_or(usize::MAX)).skip(1);
        let start = |from| spawn_scoped(scope, move || load(from)).map_err(|_| from);
        let loaders: Vec<_> = starts.map(start).collect();
        let first = load(0);
        loaders.into_iter().fold(first, |loaded, loader| {
            loaded.and(match loader {
                Ok(loader) => loader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(from) => load(from),
            })
        })
    })
}

/// Which namespace numbers may be met on disk, and with what.
pub(crate) struct KnownNamespaces {
    namespaces: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Dropped,
    Counters,
    Likes(ViewerWidth),
}

impl KnownNamespaces {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut namespaces = vec![Known::Dropped; manifest.next_namespace as usize];
        for namespace in &manifest.namespaces {
            namespaces[usize::from(namespace.id)] = namespace.viewers().map_or(Known::Counters, Known::Likes);
        }
        Self { namespaces }
    }

    /// Whether the namespace exists; if not, it was dropped after the bytes were written. One of likes has counters
    /// too, which are the counts of its items.
    pub(crate) fn check(&self, namespace: NamespaceId, content: Content) -> Result<bool, &'static str> {
        let known = self.namespaces.get(usize::from(namespace)).ok_or("names a namespace that was never created")?;
        match (known, content) {
            (Known::Dropped, _) => Ok(false),
            (_, Content::Counters) => Ok(true),
            (Known::Counters, Content::Edges(_)) => Err("has likes of a namespace of counters"),
            (Known::Likes(width), Content::Edges(found)) if *width == found => Ok(true),
            (Known::Likes(_), Content::Edges(_)) => Err("has likes by viewers of another width than the namespace's"),
        }
    }
}

/// Replays the log after the snapshot, or all of it, and finds its end.
fn replay_log(
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

/// Where a segment stands, with the chain value that the segment after it names.
pub(crate) fn position(storage: &dyn Storage, layout: &Layout, manifest: &Manifest, number: u64) -> Result<Position> {
    if number == manifest.last_segment {
        return Ok(Position::Last);
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
        let expected =
            Expected { store_id: manifest.store_id, number, chain: None, last_epoch: 0, position: Position::Last };
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

/// Applies frames to the shards.
struct Replay<'a> {
    shards: &'a Shards,
    known: KnownNamespaces,
    /// What the segment's slots stand for: namespace, shard and slot in one word, to the place in memory.
    places: HashMap<u64, Place, FixedState>,
    /// Counters that were removed; their slots stay until the end, because a place may name them.
    removed: Vec<(NamespaceId, Place)>,
    changes: u64,
    last_time_ms: Option<u64>,
}

/// Namespace and slot leave this many bits of a word for the shard.
const SHARD_BITS: u32 = 16;

/// No store creates a namespace of likes.
const NOT_RESTORED: &str = "has likes, which no counter can take";

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
        let known = KnownNamespaces::new(manifest);
        Self { shards, known, places: HashMap::default(), removed: Vec::new(), changes: 0, last_time_ms: None }
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
        let (slot, key, value) = match record {
            Record::Set { slot, value } => (slot, None, Some(value)),
            Record::NamedSet { slot, key, value } => (slot, Some(key), Some(value)),
            Record::Removed { slot } => (slot, None, None),
            Record::NamedRemoved { slot, key } => (slot, Some(key), None),
            Record::Cleared { slot } | Record::Edge { slot, .. } => {
                slot_name(namespace, shard, slot)?;
                return if self.known.check(namespace, kind)? { Err(NOT_RESTORED) } else { Ok(()) };
            }
        };
        let name = slot_name(namespace, shard, slot)?;
        if !self.known.check(namespace, kind)? {
            return Ok(());
        }
        let place = match key {
            Some(key) => {
                let place = self.shards.load(namespace, key, value).ok_or(SHARD_IS_FULL)?;
                self.places.insert(name, place);
                place
            }
            None => {
                let place = *self.places.get(&name).ok_or(UNNAMED)?;
                self.shards.load_at(namespace, place, value);
                place
            }
        };
        if value.is_none() {
            self.removed.push((namespace, place));
        }
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
    use crate::manifest::{Namespace, NamespaceKind};
    use crate::options::{CounterOptions, LikeOptions};
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

    #[test]
    fn what_is_met_of_a_namespace_must_be_what_it_is_of() {
        let [narrow, wide] = [ViewerWidth::Bits64, ViewerWidth::Bits128];
        let mut manifest = Manifest::new(1, 1);
        manifest.next_namespace = 3;
        let kinds = [
            NamespaceKind::Counters(CounterOptions::default()),
            NamespaceKind::Likes { options: LikeOptions::default(), newest_ms: 0 },
        ];
        for (id, kind) in (0..).zip(kinds) {
            manifest.namespaces.push(Namespace { id, name: "name".into(), kind });
        }
        let known = KnownNamespaces::new(&manifest);
        let found = |content| [0, 1, 2, 3].map(|namespace| known.check(namespace, content));
        let unknown = Err("names a namespace that was never created");
        assert_eq!(found(Content::Counters), [Ok(true), Ok(true), Ok(false), unknown]);
        let of_counters = Err("has likes of a namespace of counters");
        assert_eq!(found(Content::Edges(narrow)), [of_counters, Ok(true), Ok(false), unknown]);
        let of_another_width = Err("has likes by viewers of another width than the namespace's");
        assert_eq!(found(Content::Edges(wide)), [of_counters, of_another_width, Ok(false), unknown]);
    }
}
