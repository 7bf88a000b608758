//! Reads everything that a store has on disk, and reports.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::directory::{Layout, inspect, take_lock};
use crate::engine::Environment;
use crate::error::{Error, Result};
use crate::log::{self, Expected};
use crate::manifest::{Manifest, ManifestFile};
use crate::options::SnapshotHome;
use crate::recovery::{missing_is_damage, position, segment_numbers};
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
    /// Bytes at the end of the log that a crash left incomplete, and that the next open will leave out.
    pub dropped_bytes: u64,
    /// Every damage found. Empty for a sound store.
    pub problems: Vec<Error>,
}

/// A sound snapshot generation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenerationReport {
    /// Its number.
    pub number: u64,
    /// Counters in it.
    pub counters: u64,
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
    let layout = Layout::new(path);
    if !inspect(&*storage, &layout)? {
        return Err(Error::NotAStore { path: path.to_owned(), what: "there is no store".to_owned() });
    }
    let _lock = take_lock(&*storage, &layout, true)?;
    let manifest = ManifestFile::open(Arc::clone(&storage), path)?.read(Manifest::clone);
    let homes = Homes::new(&storage, &layout.snapshot, SnapshotHome::default());
    let mut report = VerifyReport {
        namespaces: manifest.namespaces.iter().map(|namespace| namespace.name.to_string()).collect(),
        ..VerifyReport::default()
    };
    for generation in &manifest.generations {
        match verify_generation(&homes, &generation.meta) {
            Ok(sound) => report.generations.push(sound),
            Err(error) => report.problems.push(error),
        }
    }
    verify_log(&*storage, &layout, &manifest, &mut report);
    Ok(report)
}

fn verify_generation(homes: &Homes, meta: &GenerationMeta) -> Result<GenerationReport> {
    let reader = homes.open(meta)?;
    let mut counters = 0;
    reader.read_blocks(0..meta.blocks, &mut |index, block| {
        block
            .for_each(|_, _| {
                counters += 1;
                Ok::<(), Malformed>(())
            })
            .map_err(|malformed| reader.corrupt_block(index, malformed))
    })?;
    Ok(GenerationReport { number: meta.number, counters, blocks: meta.blocks, bytes: meta.bytes })
}

/// Goes on after a damaged segment, so that one run finds all damage there is.
fn verify_log(storage: &dyn Storage, layout: &Layout, manifest: &Manifest, report: &mut VerifyReport) {
    let numbers = match numbers_to_read(storage, layout, manifest) {
        Ok(numbers) => numbers,
        Err(error) => return report.problems.push(error),
    };
    let mut before = None;
    for number in numbers {
        let path = log::segment_path(&layout.log, number);
        let (chain, last_epoch) = before.map_or((None, 0), |(chain, last_epoch)| (Some(chain), last_epoch));
        let read = position(storage, layout, manifest, number).and_then(|position| {
            let expected = Expected { store_id: manifest.store_id, number, chain, last_epoch, position };
            log::read_segment(storage, &path, &expected, &mut |frame| {
                log::decode_body(frame.body, |_, _, _| Ok(())).map_err(|malformed| {
                    Error::corrupt(&path, frame.body_offset() + malformed.offset as u64, malformed.what)
                })
            })
        });
        match read.map_err(|error| missing_is_damage(error, &path)) {
            Ok(end) => {
                before = Some((end.chain, end.last_epoch));
                report.dropped_bytes += end.dropped_bytes;
                let (frames, bytes, sealed) = (end.frames, end.end, end.sealed);
                report.segments.push(SegmentReport { number, frames, bytes, sealed });
            }
            Err(error) => {
                before = None;
                report.problems.push(error);
            }
        }
    }
}

/// The segments that are there and should be, and of each gap the first that is missing: a damaged manifest can name
/// more of them than any report can hold.
fn numbers_to_read(storage: &dyn Storage, layout: &Layout, manifest: &Manifest) -> Result<BTreeSet<u64>> {
    let named = manifest.first_segment..=manifest.last_segment;
    let found = segment_numbers(storage, layout)?.into_iter().filter(|number| named.contains(number));
    let with_next = found.flat_map(|number| [number, number.saturating_add(1)]);
    let ends = [manifest.first_segment, manifest.last_segment];
    Ok(with_next.chain(ends).filter(|number| named.contains(number)).collect())
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Driver;
    use crate::options::Options;
    use crate::storage::sim::{SimClock, SimDisk};
    use crate::store::Store;

    #[test]
    fn a_manifest_that_names_more_segments_than_any_disk_has_is_a_few_problems() {
        let storage: Arc<dyn Storage> = Arc::new(SimDisk::new());
        let environment = || Environment {
            storage: Arc::clone(&storage),
            clock: Arc::new(SimClock::new()),
            driver: Driver::Caller,
            seed: Some(1),
        };
        let path = Path::new("/store");
        let options = Options { snapshot_home: SnapshotHome::File, ..Options::default() };
        let store = Store::open_in(environment(), path, options).unwrap();
        store.counters("likes").unwrap().add("key", 1).unwrap();
        store.close().unwrap();
        assert_eq!(verify(environment(), path).unwrap().problems.len(), 0);

        let manifest = ManifestFile::open(Arc::clone(&storage), path).unwrap();
        manifest.update(|manifest| manifest.last_segment = 1 << 60).unwrap();
        let problems = verify(environment(), path).unwrap().problems;
        assert!((1..=3).contains(&problems.len()), "{problems:?}");
        assert!(problems.iter().all(Error::is_corrupt), "{problems:?}");
    }
}
