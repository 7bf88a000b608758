//! What must hold in every home.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::edge::{Stamp, ViewerWidth};
use crate::storage::{Entry, RealStorage, StorageFile, StorageLock};

pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Every file below a directory.
pub(super) fn files_of(dir: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Makes a directory that held `files` hold them again; files beside them are removed.
#[cfg(feature = "sled")]
pub(super) fn restore(dir: &Path, files: &Files) {
    for path in files_of(dir).keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

fn key(i: u64) -> Vec<u8> {
    format!("item-{i:011}").into_bytes()
}

fn fill(writer: &mut dyn GenerationWriter, number: u64, counters: u64) {
    let mut builder = BlockBuilder::new(number);
    for i in 0..counters {
        if let Some(block) = builder.push((i / 10_000) as u16, &key(i), i as i64 - 500) {
            writer.write_block(block).unwrap();
        }
    }
    if let Some(block) = builder.finish() {
        writer.write_block(block).unwrap();
    }
}

pub(super) fn write(home: &dyn SnapshotHome, number: u64, counters: u64) -> GenerationMeta {
    let mut writer = home.create(number).unwrap();
    fill(&mut *writer, number, counters);
    writer.finish().unwrap()
}

/// Opens a generation and compares all of it with what [`write`] writes.
fn check(home: &dyn SnapshotHome, meta: &GenerationMeta) -> Result<()> {
    check_blocks(&*home.open(meta)?, meta)
}

pub(super) fn check_blocks(reader: &dyn GenerationReader, meta: &GenerationMeta) -> Result<()> {
    let mut next = 0;
    reader.read_blocks(0..meta.blocks, &mut |index, block| {
        block
            .for_each(|found, value| {
                assert_eq!((block.namespace(), found, value), ((next / 10_000) as u16, &*key(next), next as i64 - 500));
                next += 1;
                Ok(())
            })
            .map_err(|malformed| reader.corrupt_block(index, malformed))
    })?;
    assert_eq!(next, meta.counters, "counters are missing, and nobody said so");
    Ok(())
}

fn homes(dir: &Path) -> Vec<Box<dyn SnapshotHome>> {
    let storage: Arc<dyn Storage> = Arc::new(RealStorage::new());
    vec![
        Box::new(FileHome::new(Arc::clone(&storage), dir.join("file"))),
        #[cfg(feature = "sled")]
        Box::new(SledHome::new(storage, dir.join("sled"))),
    ]
}

#[test]
fn counters_come_back_in_every_home_and_from_every_part() {
    let dir = TempDir::new().unwrap();
    for home in homes(dir.path()) {
        for (number, counters) in [(1, 0), (2, 1), (3, 25_000)] {
            let meta = write(&*home, number, counters);
            assert_eq!(meta.counters, counters);
            check(&*home, &meta).unwrap();
            let reader = home.open(&meta).unwrap();
            let half = meta.blocks / 2;
            let count = |range: Range<u64>| {
                let mut found = 0;
                reader
                    .read_blocks(range, &mut |_, block| {
                        found += u64::from(block.count());
                        Ok(())
                    })
                    .map(|()| found)
            };
            std::thread::scope(|scope| {
                let first = scope.spawn(|| count(0..half).unwrap());
                assert_eq!(count(half..meta.blocks).unwrap() + first.join().unwrap(), counters);
            });
            assert!(count(0..meta.blocks + 1).unwrap_err().is_corrupt());
        }
        assert_eq!(home.list().unwrap(), [1, 2, 3]);
        home.remove(2).unwrap();
        home.remove(2).unwrap();
        assert_eq!(home.list().unwrap(), [1, 3]);
    }
}

#[test]
fn edges_come_back_beside_counters_in_every_home() {
    const ITEMS: u64 = 50;
    let dir = TempDir::new().unwrap();
    let width = ViewerWidth::Bits64;
    let edge = |i: u64, n: u64| (u128::from(n << 20 | i), Stamp::new(i << 10 | n, n.is_multiple_of(2)));
    for home in homes(dir.path()) {
        let mut writer = home.create(1).unwrap();
        let mut builder = BlockBuilder::new(1);
        let mut edges = 0;
        for i in 0..ITEMS {
            builder.push(7, &key(i), i as i64).map_or(Ok(()), |block| writer.write_block(block)).unwrap();
        }
        for i in 0..ITEMS {
            for n in 0..i * i {
                let (viewer, stamp) = edge(i, n);
                let block = builder.push_edge(7, width, &key(i), viewer, stamp);
                block.map_or(Ok(()), |block| writer.write_block(block)).unwrap();
                edges += 1;
            }
        }
        writer.write_block(builder.finish().unwrap()).unwrap();
        let meta = writer.finish().unwrap();
        assert_eq!((meta.counters, meta.edges), (ITEMS, edges));

        let mut expected = (0..ITEMS).flat_map(|i| (0..i * i).map(move |n| (key(i), edge(i, n))));
        let mut counters = 0;
        let read = home.open(&meta).unwrap().read_blocks(0..meta.blocks, &mut |_, block| {
            let visited = match block.kind() {
                Content::Counters => block.for_each(|found, value| {
                    assert_eq!((block.namespace(), found, value), (7, &*key(counters), counters as i64));
                    counters += 1;
                    Ok::<_, Malformed>(())
                }),
                Content::Edges(_) => block.for_each_item(|found, edges| {
                    edges.for_each(|edge| assert_eq!(Some((found.to_vec(), edge)), expected.next()));
                    Ok(())
                }),
            };
            visited.unwrap();
            Ok(())
        });
        read.unwrap();
        assert_eq!((counters, expected.next()), (ITEMS, None));
    }
}

#[test]
fn a_generation_is_never_modified_by_reading_it() {
    let dir = TempDir::new().unwrap();
    for home in homes(dir.path()) {
        for counters in [0, 1, 100, 25_000, 40_000] {
            let meta = write(&*home, 1, counters);
            let files = files_of(dir.path());
            for _ in 0..3 {
                check(&*home, &meta).unwrap();
                let reader = home.open(&meta).unwrap();
                let quarter = meta.blocks.div_ceil(4).max(1);
                std::thread::scope(|scope| {
                    for start in (0..meta.blocks).step_by(quarter as usize) {
                        let range = start..(start + quarter).min(meta.blocks);
                        scope.spawn(|| reader.read_blocks(range, &mut |_, _| Ok(())).unwrap());
                    }
                });
            }
            assert!(files == files_of(dir.path()), "{counters} counters");
        }
        home.remove(1).unwrap();
    }
}

#[test]
fn a_writer_that_is_dropped_half_way_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    for home in homes(dir.path()) {
        let mut writer = home.create(5).unwrap();
        fill(&mut *writer, 5, 10_000);
        assert_eq!(home.list().unwrap(), [5]);
        drop(writer);
        assert_eq!(home.list().unwrap(), Vec::<u64>::new());
    }
}

#[test]
fn what_a_run_left_under_the_same_number_is_replaced() {
    let dir = TempDir::new().unwrap();
    for home in homes(dir.path()) {
        std::mem::forget(home.create(4).unwrap());
        write(&*home, 4, 20_000);
        let meta = write(&*home, 4, 1_000);
        check(&*home, &meta).unwrap();
    }
}

#[test]
fn a_block_of_another_generation_or_place_is_refused_by_the_writer() {
    let dir = TempDir::new().unwrap();
    for home in homes(dir.path()) {
        let mut builder = BlockBuilder::new(8);
        assert!(builder.push(0, b"key", 1).is_none());
        let block = builder.finish().unwrap();
        assert!(home.create(9).unwrap().write_block(block).unwrap_err().is_corrupt());
        let mut writer = home.create(8).unwrap();
        writer.write_block(block).unwrap();
        assert!(writer.write_block(block).unwrap_err().is_corrupt());
    }
}

#[test]
fn generations_that_changed_places_are_corrupt() {
    let dir = TempDir::new().unwrap();
    for (home, suffix) in homes(dir.path()).into_iter().zip(["file/|.snap", "sled/|"]) {
        let metas = [write(&*home, 1, 900), write(&*home, 2, 900)];
        let (folder, extension) = suffix.split_once('|').unwrap();
        let path = |number: u64| dir.path().join(format!("{folder}{number:020}{extension}"));
        fs::rename(path(1), path(3)).unwrap();
        fs::rename(path(2), path(1)).unwrap();
        fs::rename(path(3), path(2)).unwrap();
        for meta in &metas {
            assert!(check(&*home, meta).unwrap_err().is_corrupt());
        }
        let same_number_other_content = metas[1];
        let meta = write(&*home, 2, 901);
        check(&*home, &meta).unwrap();
        assert!(check(&*home, &same_number_other_content).unwrap_err().is_corrupt());
    }
}

#[test]
fn a_block_of_a_run_that_was_given_up_is_corrupt() {
    let dir = TempDir::new().unwrap();
    let home = FileHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
    let path = dir.path().join("00000000000000000001.snap");
    let mut given_up = home.create(1).unwrap();
    let mut builder = BlockBuilder::new(1);
    (0..30).for_each(|i| assert!(builder.push(0, &key(i), i as i64 - 400).is_none()));
    given_up.write_block(builder.finish().unwrap()).unwrap();
    given_up.finish().unwrap();
    let stale = fs::read(&path).unwrap();

    let meta = write(&home, 1, 30);
    check(&home, &meta).unwrap();
    let mut file = fs::read(&path).unwrap();
    let blocks = file.len() - meta.bytes as usize - 8..file.len() - 8;
    assert_eq!(stale.len(), file.len());
    file[blocks.clone()].copy_from_slice(&stale[blocks]);
    for damaged in [&file, &stale] {
        fs::write(&path, damaged).unwrap();
        assert!(check(&home, &meta).unwrap_err().is_corrupt());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_file_is_corrupt() {
    let dir = TempDir::new().unwrap();
    let home = FileHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
    let meta = write(&home, 1, 30);
    let path = dir.path().join("00000000000000000001.snap");
    let bytes = fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        assert!(check(&home, &meta).unwrap_err().is_corrupt(), "bit {bit}");
        assert!(fs::read(&path).unwrap() == damaged, "bit {bit}: the damaged file was changed");
    }
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(check(&home, &meta).unwrap_err().is_corrupt(), "length {len}");
    }
    fs::remove_file(&path).unwrap();
    assert!(check(&home, &meta).unwrap_err().is_corrupt());
}

#[cfg(feature = "sled")]
#[test]
fn every_damage_to_a_file_of_sled_is_corrupt_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
    let meta = write(&home, 1, 5_000);
    let files = files_of(dir.path());
    assert!(files.len() >= 4, "sled has conf, db and snap.*, and there is our list");
    for (path, bytes) in &files {
        let mut damaged: Vec<Option<Vec<u8>>> = vec![None];
        for i in 0..40 {
            let at = i * bytes.len() / 40;
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (i % 8);
            damaged.extend([Some(flipped), Some(bytes[..at].to_vec())]);
        }
        for (i, bytes) in damaged.into_iter().enumerate() {
            match &bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let before = files_of(dir.path());
            assert!(check(&home, &meta).unwrap_err().is_corrupt(), "{} damage {i}", path.display());
            assert!(before == files_of(dir.path()), "{} damage {i}: something was changed", path.display());
            restore(dir.path(), &files);
        }
    }
    for name in ["snap.0000000000FFFFFF", "notes", "blobs/1"] {
        let stranger = dir.path().join("00000000000000000001").join(name);
        fs::write(&stranger, b"not sled's").unwrap();
        assert!(check(&home, &meta).unwrap_err().is_corrupt(), "{name}");
        fs::remove_file(stranger).unwrap();
    }
    check(&home, &meta).unwrap();
}

#[cfg(feature = "sled")]
#[test]
fn a_file_that_sled_did_not_finish_is_no_hindrance() {
    let dir = TempDir::new().unwrap();
    let home = SledHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
    let meta = write(&home, 1, 1_000);
    let torn = dir.path().join("00000000000000000001/snap.0000000000000042.generating");
    fs::write(&torn, b"torn").unwrap();
    check(&home, &meta).unwrap();
    assert!(!torn.exists());
}

/// The real disk, until `room` bytes were written to files. Notes of each synced file how long it was when opened.
#[derive(Debug, Clone)]
struct SmallDisk {
    room: Arc<crate::sync::Mutex<usize>>,
    synced: Arc<crate::sync::Mutex<Vec<(PathBuf, u64)>>>,
}

#[derive(Debug)]
struct SmallDiskFile {
    file: Box<dyn StorageFile>,
    disk: SmallDisk,
    opened: (PathBuf, u64),
}

impl SmallDisk {
    fn new(room: usize) -> Self {
        Self { room: Arc::new(crate::sync::Mutex::new(room)), synced: Arc::default() }
    }

    fn wrap(&self, file: Box<dyn StorageFile>, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let opened = (path.to_owned(), file.len()?);
        Ok(Box::new(SmallDiskFile { file, disk: self.clone(), opened }))
    }
}

impl Storage for SmallDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealStorage::new().create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealStorage::new().list(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.wrap(RealStorage::new().create(path)?, path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.wrap(RealStorage::new().open(path)?, path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealStorage::new().rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealStorage::new().remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealStorage::new().remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealStorage::new().sync_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        RealStorage::new().try_lock(path)
    }
}

impl StorageFile for SmallDiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut room = self.disk.room.lock();
        *room = room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        self.file.write_all_at(bytes, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.synced.lock().push(self.opened.clone());
        self.file.sync()
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_written_is_removed() {
    let dir = TempDir::new().unwrap();
    let home = FileHome::new(Arc::new(SmallDisk::new(3 << 20)), dir.path().to_owned());
    write(&home, 1, 50_000);
    let mut writer = home.create(2).unwrap();
    fill(&mut *writer, 2, 20_000);
    assert!(home.create(3).is_ok());
    let mut builder = BlockBuilder::new(2);
    let mut full = None;
    let mut fresh = home.create(2).unwrap();
    for i in 0.. {
        let Some(block) = builder.push(0, &key(i), 1) else { continue };
        if let Err(error) = fresh.write_block(block) {
            full = Some(error);
            break;
        }
    }
    assert!(full.unwrap().is_storage_full());
    drop((fresh, writer));
    assert_eq!(home.list().unwrap(), [1]);
}

#[cfg(feature = "sled")]
#[test]
fn every_file_of_sled_is_synced_and_its_data_through_a_handle_older_than_the_data() {
    let dir = TempDir::new().unwrap();
    let disk = SmallDisk::new(usize::MAX);
    let home = SledHome::new(Arc::new(disk.clone()), dir.path().to_owned());
    let meta = write(&home, 1, 20_000);
    let synced = disk.synced.lock();
    for path in files_of(dir.path()).keys() {
        let name = path.file_name();
        let (_, len) = synced.iter().find(|(synced, _)| synced.file_name() == name).unwrap();
        assert!(path.file_name() != Some("db".as_ref()) || *len < meta.bytes / 10, "opened at {len} bytes");
    }
}

#[test]
fn a_meta_comes_back_and_its_bytes_never_change() {
    let meta = GenerationMeta {
        number: 1,
        home: HomeKind::Sled,
        blocks: 2,
        counters: 3,
        edges: 4,
        bytes: 5,
        disk_bytes: 6,
        digest: 7,
        files_digest: 8,
    };
    let bytes = meta.encode();
    let mut golden = [0; GenerationMeta::ENCODED_BYTES];
    (0..8).for_each(|i| golden[i * 8] = i as u8 + 1);
    golden[64] = 1;
    assert_eq!(bytes, golden);
    assert_eq!(GenerationMeta::decode(&bytes), Some(meta));
    golden[64] = 2;
    assert_eq!(GenerationMeta::decode(&golden), None);
}

#[test]
fn only_our_names_are_generations() {
    assert_eq!(number_of("00000000000000000017"), Some(17));
    assert_eq!(number_of("00000000000000000017.snap"), Some(17));
    assert_eq!(number_of("18446744073709551615.tmp"), Some(u64::MAX));
    for other in ["", "17", "99999999999999999999", "+0000000000000000017", "00000000000000000017.bak", "ééééééééééé"]
    {
        assert_eq!(number_of(other), None, "{other}");
    }
}
