//! What must hold of any directory that is opened as a store: it opens to counts that last, or is refused with a clear
//! error and left as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arbitrary::Unstructured;

use crate::engine::{Driver, Environment};
use crate::error::{Error, Result};
use crate::options::{Options, SnapshotHome};
use crate::storage::Storage;
use crate::storage::sim::{SimClock, SimDisk, Survival};
use crate::store::Store;
use crate::{log, manifest, snapshot};

/// A file of a store, for [`pack`].
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its path in the store's directory.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Makes the checksums of the manifest right.
const REPAIRS_MANIFEST: u8 = 1;
/// Makes the segments that the manifest names what it and the segments before them say, and the seal of a manifest that
/// has one that of the last segment.
const REPAIRS_SEGMENTS: u8 = 1 << 1;
/// Makes the generations that the manifest names sound, and the manifest name them so.
const REPAIRS_GENERATIONS: u8 = 1 << 2;
/// Leaves out the directories that every store has.
const LEAVES_OUT_DIRECTORIES: u8 = 1 << 3;

const ROOT: &str = "/store";

/// Makes the directory that the bytes describe, opens it, and goes on with it.
pub fn directory(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(flags) = input.arbitrary::<u8>() else { return };
    let mut files = unpack(&mut input);
    repair(&mut files, flags);
    // A name that is a file's in a store and a directory's here, or the other way round, is nobody's format.
    let is_store = flags & LEAVES_OUT_DIRECTORIES == 0 && files.keys().all(|path| !ODD_NAMES.contains(&path.as_str()));
    let disk = disk_with(&files, flags);
    check_verify(&disk, is_store);
    let Some(counts) = check_open(&disk, 4, is_store) else { return };
    assert_eq!(check_open(&disk, 1, is_store), Some(counts.clone()), "the counts do not depend on the shards");
    if is_far_from_the_last_number(&files, &disk) {
        check_life(&disk, counts);
    }
}

/// Whether a store with these numbers has as many left as it takes to go on. None gets near the end by itself.
fn is_far_from_the_last_number(files: &Files, disk: &SimDisk) -> bool {
    const FAR: u64 = u64::MAX / 16;
    let manifest = files.get("MANIFEST").and_then(|bytes| manifest::fuzzing::decode(bytes));
    let epoch = open(&copy(disk), 1).map_or(0, |store| store.recovery().last_epoch);
    epoch < FAR && manifest.is_none_or(|manifest| manifest.last_segment < FAR && manifest.next_generation < FAR)
}

/// The bytes that [`directory`] makes a store of, given its files.
#[must_use]
pub fn pack(files: &[Stored]) -> Vec<u8> {
    let mut packed = vec![REPAIRS_MANIFEST | REPAIRS_SEGMENTS | REPAIRS_GENERATIONS];
    for Stored { path, bytes } in files {
        let path = path.to_string_lossy();
        let Some(name) = (0..NAMES).find(|&name| name_of(name) == path) else { continue };
        let len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        packed.push(name);
        packed.extend((len as u16).to_le_bytes());
        packed.extend(((bytes.len() - len) as u16).to_le_bytes());
        packed.extend_from_slice(&bytes[..len]);
    }
    packed
}

/// Files by their paths in the store's directory.
type Files = BTreeMap<String, Vec<u8>>;

fn unpack(input: &mut Unstructured<'_>) -> Files {
    let mut files = Files::new();
    while !input.is_empty() {
        let header = input.arbitrary::<[u8; 5]>().unwrap_or_default();
        let [name, len_low, len_high, zeros_low, zeros_high] = header;
        let len = usize::from(u16::from_le_bytes([len_low, len_high])).min(input.len());
        let mut bytes = input.bytes(len).unwrap_or_default().to_vec();
        bytes.resize(len + usize::from(u16::from_le_bytes([zeros_low, zeros_high])), 0);
        files.insert(name_of(name % NAMES), bytes);
    }
    files
}

const NAMES: u8 = 40;

const ODD_NAMES: [&str; 4] =
    ["log", "MANIFEST/inside", "log/00000000000000000001.log/inside", "snapshot/00000000000000000001.snap/inside"];

/// The name that a number stands for: those that a store gives, some that it ignores, and some that are wrong.
fn name_of(number: u8) -> String {
    let segment = |number: u64| log::segment_path(Path::new("log"), number).to_string_lossy().into_owned();
    match number {
        0 => "MANIFEST".to_owned(),
        1 => "MANIFEST.tmp".to_owned(),
        2 => "LOCK".to_owned(),
        3 => "notes".to_owned(),
        4..8 => ODD_NAMES[usize::from(number) - 4].to_owned(),
        8..24 => segment(u64::from(number) - 7),
        24..28 => format!("{}.tmp", segment(u64::from(number) - 23)),
        28 => segment(u64::MAX),
        29 => segment(u64::MAX - 1),
        30..36 => format!("snapshot/{:020}.snap", number - 29),
        36 => format!("snapshot/{:020}.tmp", 1),
        37 => format!("snapshot/{:020}/db", 1),
        38 => format!("snapshot/{:020}/SUMS", 1),
        _ => "log/notes".to_owned(),
    }
}

/// Makes right what the flags ask for, so that the bytes get behind the checksums.
fn repair(files: &mut Files, flags: u8) {
    let Some(bytes) = files.get_mut("MANIFEST") else { return };
    if flags & REPAIRS_MANIFEST != 0 {
        manifest::fuzzing::repair(bytes);
    }
    let Some(mut manifest) = manifest::fuzzing::decode(bytes) else { return };
    if flags & REPAIRS_SEGMENTS != 0 {
        let (mut chain, mut seal) = (None, None);
        for number in (manifest.first_segment..=manifest.last_segment).take(usize::from(NAMES)) {
            let path = log::segment_path(Path::new("log"), number).to_string_lossy().into_owned();
            let Some(segment) = files.get_mut(&path) else { break };
            (chain, seal) = log::fuzzing::repair(segment, manifest.store_id, number, chain);
        }
        manifest.seal = manifest.seal.and(seal);
    }
    if flags & REPAIRS_GENERATIONS != 0 {
        for generation in &mut manifest.generations {
            let file = files.get_mut(&format!("snapshot/{:020}.snap", generation.meta.number));
            let repaired = file.and_then(|file| snapshot::fuzzing::repair_generation(file, &generation.meta));
            generation.meta = repaired.unwrap_or(generation.meta);
        }
    }
    files.insert("MANIFEST".to_owned(), manifest::fuzzing::encode(&manifest));
}

fn disk_with(files: &Files, flags: u8) -> SimDisk {
    let disk = SimDisk::new();
    let root = Path::new(ROOT);
    let write = |path: &Path, bytes: &[u8]| {
        path.parent().map_or(Ok(()), |parent| disk.create_dir_all(parent))?;
        disk.create(path)?.write_all_at(bytes, 0)
    };
    if flags & LEAVES_OUT_DIRECTORIES == 0 {
        for name in ["log", "snapshot"] {
            disk.create_dir_all(&root.join(name)).expect("the disk takes a directory");
        }
    }
    // The lock stands for no data, so that it may be created by an open that is refused.
    write(&root.join("LOCK"), b"").expect("the disk takes a file");
    for (path, bytes) in files {
        // Of two names that exclude each other the first is there.
        let _ = write(&root.join(path), bytes);
    }
    copy(&disk)
}

/// The disk after everything on it became durable.
fn copy(disk: &SimDisk) -> SimDisk {
    disk.power_cut(Survival::Everything, 0)
}

fn environment(disk: &SimDisk) -> Environment {
    let (storage, clock) = (Arc::new(disk.clone()), Arc::new(SimClock::new()));
    Environment { storage, clock, driver: Driver::Caller, seed: Some(1) }
}

fn open(disk: &SimDisk, shards: usize) -> Result<Store> {
    let options = Options { shards, segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() };
    Store::open_in(environment(disk), ROOT, options)
}

fn files_of(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let bytes = |path: &PathBuf| disk.read_file(path).expect("a listed file is there");
    disk.files().into_iter().map(|path| (path.clone(), bytes(&path))).collect()
}

/// Verifying ends, says something clear, and changes nothing.
fn check_verify(disk: &SimDisk, is_store: bool) {
    let before = files_of(disk);
    match Store::verify_in(environment(disk), ROOT) {
        Ok(report) => report.problems.iter().for_each(|problem| assert_clear(problem, is_store)),
        Err(error) => assert_clear(&error, is_store),
    }
    assert!(files_of(disk) == before, "verifying changed the disk");
}

/// An error that tells what is wrong with the directory.
fn assert_clear(error: &Error, is_store: bool) {
    match error {
        Error::Corrupt { .. } | Error::UnsupportedVersion { .. } | Error::NotAStore { .. } => {}
        Error::FeatureMissing { .. } if cfg!(not(feature = "sled")) => {}
        Error::Io { .. } => assert!(!is_store, "{error:?}"),
        other => panic!("{other:?}"),
    }
}

/// All counters by namespace. One of likes stands for itself.
type Counts = BTreeMap<String, BTreeMap<Vec<u8>, i64>>;

fn counts(store: &Store) -> Counts {
    let of = |name: &str| {
        let counters = match store.existing_counters(name) {
            Err(Error::NamespaceKind { .. }) => return BTreeMap::new(),
            listed => listed.expect("a listed namespace is there"),
        };
        let counts: BTreeMap<_, _> = counters
            .iter()
            .map(|counter| counter.map(|(key, value)| (key.to_vec(), value)).expect("a counter is read"))
            .collect();
        assert_eq!(counters.len().ok(), Some(counts.len()), "each counter is listed once");
        counts
    };
    store.namespaces().into_iter().map(|info| (info.name.clone(), of(&info.name))).collect()
}

/// Opens a copy; what is refused is left as it is.
fn check_open(disk: &SimDisk, shards: usize, is_store: bool) -> Option<Counts> {
    let disk = copy(disk);
    let before = files_of(&disk);
    match open(&disk, shards) {
        Ok(store) => {
            let found = counts(&store);
            let total: u64 = store.namespaces().iter().map(|info| info.counters).sum();
            assert_eq!(store.recovery().counters, total, "the report counts the counters");
            Some(found)
        }
        Err(error) => {
            assert_clear(&error, is_store);
            assert!(files_of(&disk) == before, "a refused open changed the disk: {error:?}");
            None
        }
    }
}

/// What was opened once can be changed, compacted, closed and opened again, and has the same counts.
fn check_life(disk: &SimDisk, mut expected: Counts) {
    const NAME: &str = "of the fuzzer";
    for life in 0..3 {
        let store = open(disk, 4).expect("what was opened once is opened again");
        assert_eq!(counts(&store), expected, "life {life}");
        match store.existing_counters(NAME).or_else(|_| store.counters(NAME)) {
            Ok(counters) => {
                if let Ok(receipt) = counters.add(NAME, 1) {
                    expected.entry(NAME.to_owned()).or_default().insert(NAME.as_bytes().to_vec(), receipt.value());
                }
                expected.entry(NAME.to_owned()).or_default();
            }
            Err(Error::TooManyNamespaces { .. } | Error::NamespaceKind { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        match life {
            0 => store.sync().expect("what was opened takes changes"),
            1 => store.compact().expect("what was opened can be compacted"),
            _ => {}
        }
        store.close().expect("what was opened can be closed");
    }
    assert_eq!(counts(&open(disk, 1).expect("what was closed is opened")), expected);
}
