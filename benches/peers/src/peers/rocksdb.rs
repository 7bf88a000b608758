//! RocksDB with a merge operator, set up as its wiki page "Setup Options and Basic Tuning" advises.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionPri, DB, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME,
    IteratorMode, MergeOperands, Options, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use super::counter_of;
use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync, last_events};

const CACHE_BYTES: usize = 512 << 20;

/// As often as plaudit writes its log.
const WAL_WRITTEN_EVERY: Duration = Duration::from_millis(5);

/// More than there are threads, so that two hardly meet.
const EDGE_LOCKS: usize = 256;

pub(crate) struct RocksDb;

impl Peer for RocksDb {
    fn name(&self) -> &'static str {
        "RocksDB"
    }

    fn version(&self) -> String {
        let of_binding = super::locked("librocksdb-sys"); // such as 0.19.0+11.8.1
        of_binding.split('+').next_back().unwrap_or_default().to_owned()
    }

    fn settings(&self, sync: Sync) -> String {
        let wal = match sync {
            Sync::Relaxed => "`manual_wal_flush`, the WAL written every 5 ms, not synced",
            Sync::EachCall => "`sync` on each write (it gathers writers of several threads)",
        };
        format!(
            "associative merge, `WriteBatch`, LZ4, bloom filter, 512 MiB cache, dynamic levels, 6 background jobs; {wal}"
        )
    }

    fn home(&self) -> Home {
        Home::Disk
    }

    fn batches(&self) -> bool {
        true
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        Box::new(Counted { opened: Opened::new(dir, sync), options: write_options(sync) })
    }

    fn liking(&self, dir: &Path, sync: Sync) -> Option<Box<dyn Liking>> {
        let locks = (0..EDGE_LOCKS).map(|_| Mutex::default()).collect();
        let (opened, options) = (Opened::new(dir, sync), write_options(sync));
        Some(Box::new(Liked { opened, options, locks, hasher: RandomState::new() }))
    }
}

struct Opened {
    db: Arc<DB>,
    /// Dropped to end the thread that writes the WAL.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Opened {
    fn new(dir: &Path, sync: Sync) -> Self {
        let db = Arc::new(open(dir, sync));
        if sync == Sync::EachCall {
            return Self { db, end: None, thread: None };
        }
        let (end, ended) = channel();
        let written = Arc::clone(&db);
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(WAL_WRITTEN_EVERY) == Err(RecvTimeoutError::Timeout) {
                written.flush_wal(false).expect("RocksDB can write its log");
            }
        });
        Self { db, end: Some(end), thread: Some(thread) }
    }

    fn sync(&self) {
        self.db.flush_wal(true).expect("RocksDB can sync");
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread that writes the WAL did not panic");
        }
    }
}

fn open(dir: &Path, sync: Sync) -> DB {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_manual_wal_flush(sync == Sync::Relaxed);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(6);
    options.set_bytes_per_sync(1 << 20);
    options.set_compaction_pri(CompactionPri::MinOverlappingRatio);
    options.set_merge_operator_associative("sum", sum_of);
    // By name, so that the family has a handle, which reading in batches needs.
    let family = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
    DB::open_cf_descriptors(&options, dir, [family]).expect("RocksDB opens")
}

fn write_options(sync: Sync) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync == Sync::EachCall);
    options
}

/// Wraps round, so that a decrement is an addition too.
fn sum_of(_: &[u8], old: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let sum = added.iter().fold(old.map_or(0, counter_of), |sum, added| sum.wrapping_add(counter_of(added)));
    Some(sum.to_le_bytes().to_vec())
}

struct Counted {
    opened: Opened,
    options: WriteOptions,
}

impl Counting for Counted {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        let one = 1u64.to_le_bytes();
        if batch == 1 {
            return Box::new(move |numbers: &[u32]| {
                for &number in numbers {
                    self.opened.db.merge_opt(key(number), one, &self.options).expect("RocksDB takes changes");
                }
            });
        }
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let mut changes = WriteBatch::default();
                for &number in call {
                    changes.merge(key(number), one);
                }
                self.opened.db.write_opt(changes, &self.options).expect("RocksDB takes changes");
            }
        })
    }

    fn sync(&self) {
        self.opened.sync();
    }

    fn settle(&self) {
        self.opened.sync();
        self.opened.db.wait_for_compact(&WaitForCompactOptions::default()).expect("RocksDB can compact");
    }

    fn sum(&self, _: u64) -> u64 {
        self.opened.db.iterator(IteratorMode::Start).map(|pair| counter_of(&pair.expect("RocksDB can be read").1)).sum()
    }

    fn compact(&self) -> bool {
        self.opened.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        true
    }
}

/// Whether a like is new must be read first, so one writer of an edge at a time, for which striped mutexes are cheaper
/// than RocksDB's own transactions. An edge and its count are in one atomic batch.
struct Liked {
    opened: Opened,
    options: WriteOptions,
    /// By the edge's hash; several are taken in their order.
    locks: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Liked {
    fn lock(&self, edges: &[[u8; 24]]) -> Vec<MutexGuard<'_, ()>> {
        let lock_of = |edge: &[u8; 24]| self.hasher.hash_one(edge) as usize % EDGE_LOCKS;
        let mut locks: Vec<usize> = edges.iter().map(lock_of).collect();
        locks.sort_unstable();
        locks.dedup();
        locks.into_iter().map(|lock| self.locks[lock].lock().expect("no writer panicked")).collect()
    }
}

impl Liking for Liked {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        let family = self.opened.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).expect("every database has a default family");
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let mut call = last_events(call);
                call.sort_unstable_by_key(Event::edge);
                let edges: Vec<_> = call.iter().map(Event::edge).collect();
                let _locks = self.lock(&edges);
                let mut changes = WriteBatch::default();
                let before = self.opened.db.batched_multi_get_cf(&family, &edges, true);
                for (event, before) in call.iter().zip(before) {
                    let was_there = before.expect("RocksDB can be read").is_some();
                    if was_there == event.liked {
                        continue;
                    }
                    if event.liked {
                        changes.put(event.edge(), b"");
                        changes.merge(key(event.item), 1u64.to_le_bytes());
                    } else {
                        changes.delete(event.edge());
                        changes.merge(key(event.item), u64::MAX.to_le_bytes());
                    }
                }
                if !changes.is_empty() {
                    self.opened.db.write_opt(changes, &self.options).expect("RocksDB takes changes");
                }
            }
        })
    }

    fn sync(&self) {
        self.opened.sync();
    }

    fn count(&self, item: u32) -> u64 {
        self.opened.db.get(key(item)).expect("RocksDB can be read").map_or(0, |value| counter_of(&value))
    }
}
