//! From a snapshot's blocks to the shards.

use rustix::io::Errno;

use super::parts::in_parts;
use super::{KnownNamespaces, RecoveryReport, SHARD_IS_FULL};
use crate::edge::Content;
use crate::error::{Error, Result};
use crate::manifest::{Generation, Manifest};
use crate::shard::{Place, Shards};
use crate::snapshot::block::MIN_ENTRY_BYTES;
use crate::snapshot::{Homes, Malformed};

/// A smaller generation is loaded sooner than a thread is started.
const MIN_BYTES_FOR_THREADS: u64 = 256 << 10;

/// Loads the newest generation that is sound. Without one, the log from the very beginning serves as well.
pub(super) fn load_newest<'a>(
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
    manifest.namespaces.iter().for_each(|namespace| shards.add_namespace(namespace.id, namespace.like_rules()));
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
    let load = |part| {
        reader.read_blocks(part, &mut |index, block| {
            let namespace = block.namespace();
            let refused = |what| reader.corrupt_block(index, Malformed { offset: 0, what });
            if !known.check(namespace, block.kind()).map_err(refused)? {
                return Ok(());
            }
            let loaded = |place: Option<Place>| match place {
                Some(_) => Ok(()),
                None => Err(Malformed { offset: 0, what: SHARD_IS_FULL }),
            };
            match block.kind() {
                Content::Counters => block.for_each(|key, value| loaded(shards.load(namespace, key, Some(value)))),
                Content::Edges(_) => {
                    block.for_each_item(|item, edges| loaded(shards.load_edges(namespace, item, edges)))
                }
            }
            .map_err(|malformed| reader.corrupt_block(index, malformed))
        })
    };
    in_parts(meta.blocks, meta.bytes <= MIN_BYTES_FOR_THREADS, load).into_iter().collect()
}
